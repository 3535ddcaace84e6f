import Machine
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
        #expect(seen == ["FACP", "APIC"])
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
}
