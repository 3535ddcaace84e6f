@testable import Machine
import Testing

struct ACPITablesTests {
    static let tables = ACPITables(memory: try! MemoryMap(size: 1 << 30))

    func word(_ bytes: [UInt8], _ offset: Int, _ count: Int = 4) -> UInt64 {
        bytes[offset..<offset + count].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// From the root pointer to each table, as an operating system goes.
    @Test func everythingIsFoundAndAddsUp() throws {
        let ram = LoadedMemory(blobs: Self.tables.blobs)
        let root = ram.bytes(Self.tables.root, 36)
        #expect(String(decoding: root[0..<8], as: UTF8.self) == "RSD PTR ")
        #expect(root[0..<20].reduce(0, &+) == 0 && root.reduce(0, &+) == 0)
        let rsdt = word(root, 16)
        let xsdt = word(root, 24, 8)
        func table(_ address: UInt64) -> [UInt8] { ram.bytes(address, Int(ram.word(address + 4))) }
        func signature(_ table: [UInt8]) -> String { String(decoding: table[0..<4], as: UTF8.self) }
        for address in [rsdt, xsdt] { #expect(table(address).reduce(0, &+) == 0) }
        let narrow = table(rsdt)
        let wide = table(xsdt)
        #expect((narrow.count - 36) / 4 == (wide.count - 36) / 8)
        var seen: [String] = []
        for index in 0..<(narrow.count - 36) / 4 {
            let address = word(narrow, 36 + index * 4)
            #expect(address == word(wide, 36 + index * 8, 8))
            #expect(table(address).reduce(0, &+) == 0)
            seen.append(signature(table(address)))
        }
        #expect(seen == ["FACP", "APIC", "HPET"])
        let fadt = table(word(narrow, 36))
        #expect(fadt.count == 244)
        #expect(word(fadt, 36) == word(fadt, 132, 8) && word(fadt, 36) % 64 == 0)
        #expect(String(decoding: ram.bytes(word(fadt, 36), 4), as: UTF8.self) == "FACS")
        let dsdt = table(word(fadt, 40))
        #expect(signature(dsdt) == "DSDT" && dsdt.reduce(0, &+) == 0)
        #expect(word(fadt, 56) == 0xB000 && word(fadt, 64) == 0xB004 && word(fadt, 76) == 0xB008)
        #expect(word(fadt, 46, 2) == 9 && word(fadt, 48) == 0xB2)
        #expect(Array(fadt[116..<129]) == [1, 8, 0, 1, 0xF9, 0x0C, 0, 0, 0, 0, 0, 0, 6])
        for blob in Self.tables.blobs { #expect(blob.address >= 0xE_0000 && blob.end <= 0x10_0000) }
    }

    @Test func interruptModel() throws {
        let madt = try #require(Self.tables.tables.first { $0.signature == "APIC" }).bytes
        var kinds: [UInt8] = []
        var offset = 44
        while offset < madt.count {
            kinds.append(madt[offset])
            offset += Int(madt[offset + 1])
        }
        #expect(kinds == [0, 1, 2, 2, 4] && offset == madt.count)
    }

    /// Each PkgLength in the DSDT ends where it says: the outermost terms fill the table.
    @Test func lengthsInTheDSDT() throws {
        let dsdt = try #require(Self.tables.tables.first { $0.signature == "DSDT" }).bytes
        // The \_SB scope is last, and must end with the table.
        let name = Array("\\_SB_".utf8)
        let place = try #require((36..<dsdt.count - 5).first { Array(dsdt[$0..<$0 + 5]) == name })
        // Before the name: ScopeOp, and a length of two or three bytes.
        let scope = dsdt[place - 3] == 0x10 ? place - 3 : place - 4
        #expect(dsdt[scope] == 0x10)
        let extra = Int(dsdt[scope + 1] >> 6)
        var length = Int(dsdt[scope + 1] & 15)
        for index in 0..<extra { length += Int(dsdt[scope + 2 + index]) << (4 + 8 * index) }
        #expect(scope + 1 + length == dsdt.count)
    }

    /// The script of "etc/table-loader" makes the same tables at another place.
    @Test func firmwarePlacesTheTables() throws {
        let map = try MemoryMap(size: 1 << 30)
        let files = Dictionary(uniqueKeysWithValues: FirmwareTables.files(map).map { ($0.name, $0.bytes) })
        let script = try #require(files["etc/table-loader"])
        #expect(script.count % 128 == 0)
        var memory: [String: (base: UInt64, bytes: [UInt8])] = [:]
        func text(_ offset: Int) -> String { String(decoding: script[offset..<offset + 56].prefix { $0 != 0 }, as: UTF8.self) }
        var next: UInt64 = 0x3FF_0000
        for start in stride(from: 0, to: script.count, by: 128) {
            let name = text(start + 4)
            switch word(script, start) {
            case 1:
                memory[name] = (next, try #require(files[name]))
                next += 0x10000
            case 2:
                let source = try #require(memory[text(start + 60)])
                let offset = Int(word(script, start + 116))
                let size = Int(script[start + 120])
                let old = word(try #require(memory[name]).bytes, offset, size)
                #expect(old < UInt64(source.bytes.count))
                for lane in 0..<size {
                    memory[name]?.bytes[offset + lane] = UInt8(truncatingIfNeeded: (old + source.base) >> UInt64(lane * 8))
                }
            case 3:
                let (at, first, count) = (Int(word(script, start + 60)), Int(word(script, start + 64)), Int(word(script, start + 68)))
                let sum = try #require(memory[name]).bytes[first..<first + count].reduce(0, &+)
                memory[name]?.bytes[at] &-= sum
            default: Issue.record("an unknown command")
            }
        }
        let placed = try #require(memory["etc/acpi/tables"])
        let root = try #require(memory["etc/acpi/rsdp"]).bytes
        #expect(root[0..<20].reduce(0, &+) == 0 && root.reduce(0, &+) == 0)
        func table(_ address: UInt64) -> [UInt8] {
            let offset = Int(address - placed.base)
            return Array(placed.bytes[offset..<offset + Int(word(placed.bytes, offset + 4))])
        }
        let xsdt = table(word(root, 24, 8))
        #expect(xsdt.reduce(0, &+) == 0)
        let fadt = table(word(xsdt, 36, 8))
        #expect(String(decoding: fadt[0..<4], as: UTF8.self) == "FACP" && fadt.reduce(0, &+) == 0)
        #expect(word(fadt, 56) == 0x600 && word(fadt, 76) == 0x608)
        #expect(String(decoding: table(word(fadt, 40))[0..<4], as: UTF8.self) == "DSDT")
        #expect(word(table(word(xsdt, 44, 8)), 4) == UInt64(table(word(xsdt, 44, 8)).count))
    }

    @Test func systemManagementTables() throws {
        let (anchor, structures) = SMBIOSTables.files(try MemoryMap(size: 512 << 20))
        #expect(anchor.count == 31 && anchor.reduce(0, &+) == 0 && anchor[16...].reduce(0, &+) == 0)
        #expect(Int(word(anchor, 22, 2)) == structures.count)
        var offset = 0
        var types: [UInt8] = []
        while offset < structures.count {
            types.append(structures[offset])
            offset += Int(structures[offset + 1])
            while structures[offset] != 0 || structures[offset + 1] != 0 { offset += 1 }
            offset += 2
        }
        #expect(types == [1, 3, 4, 16, 17, 19, 32, 127] && types.count == Int(word(anchor, 28, 2)))
    }

    @Test func bootOrders() {
        #expect(FirmwareSettings.bootOrder("c") == 0x132)
        #expect(FirmwareSettings.bootOrder("d") == 0x123)
        #expect(FirmwareSettings.bootOrder("adc") == 0x231)
        #expect(FirmwareSettings.bootOrder("cc") == nil && FirmwareSettings.bootOrder("x") == nil)
    }
}
