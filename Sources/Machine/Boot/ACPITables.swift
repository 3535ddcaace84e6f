/// The machine's ACPI tables (ACPI 6.4, chapter 5), at fixed addresses in the reserved RAM below 1 MiB.
package struct ACPITables {
    /// Places of the PC's hardware that the tables tell. The board and the tables must agree.
    package enum Hardware {
        /// Where the power management block is without firmware: PM1 event registers, then PM1 control at 4, the PM
        /// timer at 8.
        package static let pmBase: UInt32 = 0xB000
        /// Where SeaBIOS moves it.
        package static let firmwarePMBase: UInt32 = 0x600
        package static let gpe0: UInt32 = 0xAFE0
        package static let smiCommand: UInt32 = 0xB2
        package static let acpiEnable: UInt8 = 0xF1
        package static let acpiDisable: UInt8 = 0xF0
        package static let sciInterrupt: UInt16 = 9
        package static let resetPort: UInt64 = 0xCF9
        package static let resetValue: UInt8 = 6
        package static let localAPIC: UInt32 = 0xFEE0_0000
        package static let hpet: UInt64 = 0xFED0_0000
        package static let ioAPIC: UInt32 = 0xFEC0_0000
        /// The last byte of the PCI hole.
        package static let pciEnd: UInt32 = 0xFEBF_FFFF
        /// RTC register of the century.
        package static let century: UInt8 = 0x32
    }

    /// Physical address of the root pointer (RSDP).
    package let root: UInt64
    /// What to place in RAM.
    package let blobs: [MemoryBlob]
    /// The tables by signature, for tests and tools.
    package let tables: [(signature: String, bytes: [UInt8])]
    /// Where each table is in the first blob.
    let places: [(signature: String, offset: Int, count: Int)]

    /// - Parameters:
    ///   - base: where the tables are.
    ///   - pmBase: the first port of the power management block.
    package init(memory: MemoryMap, base: UInt64 = MemoryMap.tables, pmBase: UInt32 = Hardware.pmBase) {
        let hole = UInt32(max(memory.lowEnd, 0x1000_0000))...Hardware.pciEnd
        var layout = Layout(base: base)
        let facs = layout.add("FACS", Self.facs(), alignment: 64)
        let dsdt = layout.add("DSDT", Self.table("DSDT", revision: 1, DSDT.code(pciHole: hole)))
        let fadt = layout.add("FACP", Self.fadt(facs: facs, dsdt: dsdt, pmBase: pmBase))
        let madt = layout.add("APIC", Self.madt())
        let hpet = layout.add("HPET", Self.hpet())
        let children = [fadt, madt, hpet]

        var narrow = ByteWriter()
        var wide = ByteWriter()
        for child in children {
            narrow.put32(UInt32(child))
            wide.put64(child)
        }
        let rsdt = layout.add("RSDT", Self.table("RSDT", revision: 1, narrow.bytes))
        let xsdt = layout.add("XSDT", Self.table("XSDT", revision: 1, wide.bytes))
        tables = layout.tables
        places = layout.places
        // Searched for on 16-byte boundaries from 0xE0000 to 0xFFFFF.
        root = 0xF_0000
        blobs = [
            MemoryBlob(address: base, bytes: layout.bytes),
            MemoryBlob(address: root, bytes: Self.rootPointer(rsdt: rsdt, xsdt: xsdt)),
        ]
    }

    /// Tables one behind the other.
    private struct Layout {
        let base: UInt64
        var bytes: [UInt8] = []
        var tables: [(signature: String, bytes: [UInt8])] = []
        var places: [(signature: String, offset: Int, count: Int)] = []
        init(base: UInt64) { self.base = base }

        /// The table's address.
        mutating func add(_ signature: String, _ table: [UInt8], alignment: Int = 16) -> UInt64 {
            bytes += [UInt8](repeating: 0, count: (alignment - bytes.count % alignment) % alignment)
            let address = base + UInt64(bytes.count)
            bytes += table
            tables.append((signature, table))
            places.append((signature, Int(address - base), table.count))
            return address
        }
    }

    // MARK: The tables

    /// The header of a system description table, and `body`.
    private static func table(_ signature: String, revision: UInt8, _ body: [UInt8]) -> [UInt8] {
        var writer = ByteWriter()
        writer.put(signature, count: 4)
        writer.put32(UInt32(36 + body.count))
        writer.put8(revision)
        writer.put8(0)
        writer.put("EMU", count: 6)
        writer.put("EMUPC", count: 8)
        writer.put32(1)
        writer.put("EMU", count: 4)
        writer.put32(1)
        writer.put(body)
        writer.setChecksum(at: 9, over: 0..<writer.bytes.count)
        return writer.bytes
    }

    private static func rootPointer(rsdt: UInt64, xsdt: UInt64) -> [UInt8] {
        var writer = ByteWriter()
        writer.put("RSD PTR ", count: 8)
        writer.put8(0)
        writer.put("EMU", count: 6)
        writer.put8(2)
        writer.put32(UInt32(rsdt))
        writer.put32(36)
        writer.put64(xsdt)
        writer.put32(0)
        writer.setChecksum(at: 8, over: 0..<20)
        writer.setChecksum(at: 32, over: 0..<36)
        return writer.bytes
    }

    private static func facs() -> [UInt8] {
        var writer = ByteWriter(zeros: 64)
        writer.set(0, Array("FACS".utf8))
        writer.set32(4, 64)
        writer.set8(32, 1)
        return writer.bytes
    }

    /// Revision 3: the first with a reset register. Offsets are the table's, from its header on.
    private static func fadt(facs: UInt64, dsdt: UInt64, pmBase: UInt32) -> [UInt8] {
        var body = ByteWriter(zeros: 244 - 36)
        func at(_ offset: Int) -> Int { offset - 36 }
        /// A port as a generic address: space, bits, bit offset, access size, address.
        func port(_ offset: Int, _ bits: UInt8, _ access: UInt8, _ address: UInt64) {
            body.set(at(offset), [1, bits, 0, access])
            body.set64(at(offset) + 4, address)
        }
        body.set32(at(36), UInt32(facs))
        body.set32(at(40), UInt32(dsdt))
        body.set16(at(46), Hardware.sciInterrupt)
        body.set32(at(48), Hardware.smiCommand)
        body.set8(at(52), Hardware.acpiEnable)
        body.set8(at(53), Hardware.acpiDisable)
        body.set32(at(56), pmBase)
        body.set32(at(64), pmBase + 4)
        body.set32(at(76), pmBase + 8)
        body.set32(at(80), Hardware.gpe0)
        body.set8(at(88), 4)
        body.set8(at(89), 2)
        body.set8(at(91), 4)
        body.set8(at(92), 4)
        // C2 and C3 latencies: above the limits, which says that there are none.
        body.set16(at(96), 0x0FFF)
        body.set16(at(98), 0x0FFF)
        body.set8(at(108), Hardware.century)
        // Boot architecture: ISA devices, 8042.
        body.set16(at(109), 3)
        // WBINVD, C1, no sleep button, no RTC wake-up status, reset register.
        body.set32(at(112), 1 << 0 | 1 << 2 | 1 << 5 | 1 << 6 | 1 << 10)
        port(116, 8, 1, Hardware.resetPort)
        body.set8(at(128), Hardware.resetValue)
        body.set64(at(132), facs)
        body.set64(at(140), dsdt)
        port(148, 32, 2, UInt64(pmBase))
        port(172, 16, 2, UInt64(pmBase + 4))
        port(208, 32, 3, UInt64(pmBase + 8))
        port(220, 32, 1, UInt64(Hardware.gpe0))
        return table("FACP", revision: 3, body.bytes)
    }

    /// The event timers (IA-PC HPET specification, 3.2.4).
    private static func hpet() -> [UInt8] {
        var writer = ByteWriter()
        // Revision 1, three timers, 64 bits, legacy replacement, vendor.
        writer.put32(0x8086_A201)
        // A memory address of 64 bits.
        writer.put([0, 64, 0, 0])
        writer.put64(Hardware.hpet)
        writer.put8(0)
        // The shortest period of a periodic timer, in ticks; no page protection.
        writer.put16(100)
        writer.put8(0)
        return table("HPET", revision: 1, writer.bytes)
    }

    private static func madt() -> [UInt8] {
        var body = ByteWriter()
        body.put32(Hardware.localAPIC)
        // There is a pair of 8259s too.
        body.put32(1)
        // Local APIC: processor 0, identifier 0, enabled.
        body.put([0, 8, 0, 0])
        body.put32(1)
        // I/O APIC 0, from global interrupt 0.
        body.put([1, 12, 0, 0])
        body.put32(Hardware.ioAPIC)
        body.put32(0)
        // ISA interrupt 0 is global interrupt 2, as the bus says (edge, active high).
        body.put([2, 10, 0, 0])
        body.put32(2)
        body.put16(0)
        // The SCI: level, active high.
        body.put([2, 10, 0, UInt8(Hardware.sciInterrupt)])
        body.put32(UInt32(Hardware.sciInterrupt))
        body.put16(0x000D)
        // LINT1 of all processors is NMI, edge, active high.
        body.put([4, 6, 0xFF, 5, 0, 1])
        return table("APIC", revision: 3, body.bytes)
    }
}
