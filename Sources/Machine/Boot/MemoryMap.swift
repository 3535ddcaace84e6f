/// Where RAM is in a PC's physical address space, as firmware tells it (ACPI 6.4, table 15.4; "E820").
package struct MemoryMap: Sendable, Equatable {
    package enum Kind: UInt32, Sendable {
        case usable = 1
        case reserved = 2
        /// Usable once the tables in it have been read.
        case acpiReclaimable = 3
        case acpiStorage = 4
    }
    package struct Entry: Sendable, Equatable {
        package var start: UInt64
        package var size: UInt64
        package var kind: Kind
        package var end: UInt64 { start + size }
    }

    /// RAM from 0 goes up to here at most; the rest lies above 4 GiB, and PCI has what is between.
    package static let lowLimit: UInt64 = 0xC000_0000
    /// The extended BIOS data area at the end of conventional memory.
    package static let extendedBIOSData: UInt64 = 0x9_FC00
    /// Where ACPI and SMBIOS tables are.
    package static let tables: UInt64 = 0xE_0000

    /// RAM in bytes.
    package let size: UInt64
    /// In order of their addresses.
    package let entries: [Entry]

    /// - Parameter size: RAM in bytes, 16 MiB to 8 GiB, a multiple of 4096.
    package init(size: UInt64) throws(BootError) {
        guard size >= 16 << 20, size <= 8 << 30, size % 4096 == 0 else {
            throw BootError("the machine can have 16 MiB to 8 GiB of RAM in whole pages, not \(size) bytes")
        }
        self.init(of: size)
    }

    /// The least RAM that a machine can have.
    static let least = MemoryMap(of: 16 << 20)

    private init(of size: UInt64) {
        self.size = size
        let low = min(size, Self.lowLimit)
        var entries = [
            Entry(start: 0, size: Self.extendedBIOSData, kind: .usable),
            Entry(start: Self.extendedBIOSData, size: 0xA_0000 - Self.extendedBIOSData, kind: .reserved),
            Entry(start: Self.tables, size: 0x10_0000 - Self.tables, kind: .reserved),
            Entry(start: 0x10_0000, size: low - 0x10_0000, kind: .usable),
        ]
        if size > low { entries.append(Entry(start: 1 << 32, size: size - low, kind: .usable)) }
        self.entries = entries
    }

    /// The first address behind the RAM below 4 GiB.
    package var lowEnd: UInt64 { min(size, Self.lowLimit) }

    /// RAM above 4 GiB, in bytes.
    package var highSize: UInt64 { size - lowEnd }
    /// The physical addresses of RAM, for bus masters.
    package var ranges: [Range<UInt64>] {
        let low = 0..<lowEnd
        return highSize > 0 ? [low, 1 << 32..<(1 << 32) + highSize] : [low]
    }

    /// Whether all of `count` bytes at `start` are usable RAM.
    package func isUsable(_ start: UInt64, _ count: UInt64) -> Bool {
        let (end, overflow) = start.addingReportingOverflow(count)
        return !overflow && entries.contains { $0.kind == .usable && $0.start <= start && end <= $0.end }
    }

    /// RAM alone, as SeaBIOS wants it in "etc/e820": it adds what it takes for itself.
    package var ramE820: [UInt8] {
        var writer = ByteWriter()
        writer.put64(0)
        writer.put64(lowEnd)
        writer.put32(Kind.usable.rawValue)
        if highSize > 0 {
            writer.put64(1 << 32)
            writer.put64(highSize)
            writer.put32(Kind.usable.rawValue)
        }
        return writer.bytes
    }

    /// The table as Linux's `boot_params` and SeaBIOS's "etc/e820" hold it: start, size, kind; 20 bytes an entry.
    package var e820: [UInt8] {
        var writer = ByteWriter()
        for entry in entries {
            writer.put64(entry.start)
            writer.put64(entry.size)
            writer.put32(entry.kind.rawValue)
        }
        return writer.bytes
    }
}
