/// System management tables (SMBIOS 2.8, DSP0134): what machine this is.
enum SMBIOSTables {
    /// The entry point (its address and checksums are firmware's to set) and the structures.
    static func files(_ memory: MemoryMap) -> (anchor: [UInt8], structures: [UInt8]) {
        let megabytes = UInt32(clamping: memory.size >> 20)
        let all: [[UInt8]] = [
            // System: manufacturer, product, version, serial number, UUID, wake-up by the power switch.
            structure(
                1, 0x100, [1, 2, 3, 0] + uuid + [6, 0, 0], ["emu", "EMU PC (i440FX + PIIX, 1996)", "1"]),
            // Enclosure: other.
            structure(3, 0x300, [1, 1, 2, 0, 0, 3, 3, 3, 2, 0, 0, 0, 0, 0, 0, 0, 0], ["emu", "1"]),
            // Processor: central, other, enabled, populated.
            structure(
                4, 0x400,
                [1, 3, 1, 2] + [UInt8](repeating: 0, count: 8) + [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x41, 1]
                    + [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 1, 1, 1, 2, 0, 1, 0], ["CPU 0", "emu"]),
            // Memory array: on the board, of the system, no error correction, one device.
            structure(16, 0x1000, [1, 3, 3] + little(megabytes << 10) + [0xFE, 0xFF, 1, 0], []),
            // The memory device.
            structure(
                17, 0x1100,
                [0, 0x10, 0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF] + little(min(megabytes, 0x7FFE)).prefix(2)
                    + [9, 0, 1, 0, 7, 2, 0, 0, 0, 2, 0, 0, 0, 0], ["DIMM 0", "emu"]),
            // Its addresses, in KiB.
            structure(19, 0x1300, little(0) + little((megabytes << 10) &- 1) + [0, 0x10, 1], []),
            structure(32, 0x2000, [UInt8](repeating: 0, count: 7), []),
            structure(127, 0x7F00, [], []),
        ]
        let structures = all.flatMap { $0 }
        var anchor = ByteWriter()
        anchor.put("_SM_", count: 4)
        anchor.put([0, 31, 2, 8])
        anchor.put16(UInt16(all.map(\.count).max() ?? 0))
        anchor.put([0, 0, 0, 0, 0, 0])
        anchor.put("_DMI_", count: 5)
        anchor.put8(0)
        anchor.put16(UInt16(structures.count))
        anchor.put32(0)
        anchor.put16(UInt16(all.count))
        anchor.put8(0x28)
        anchor.setChecksum(at: 21, over: 16..<31)
        anchor.setChecksum(at: 4, over: 0..<31)
        return (anchor.bytes, structures)
    }

    /// One and the same for all machines: it must not depend on the host.
    private static let uuid: [UInt8] = [
        0x45, 0x4D, 0x55, 0x00, 0x50, 0x43, 0x40, 0x00, 0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01,
    ]

    private static func little(_ value: UInt32) -> [UInt8] {
        (0..<4).map { UInt8(truncatingIfNeeded: value >> UInt32($0 * 8)) }
    }

    private static func structure(_ type: UInt8, _ handle: UInt16, _ body: [UInt8], _ strings: [String]) -> [UInt8] {
        var bytes = [type, UInt8(body.count + 4), UInt8(handle & 0xFF), UInt8(handle >> 8)] + body
        for string in strings { bytes += Array(string.utf8) + [0] }
        return bytes + (strings.isEmpty ? [0, 0] : [0])
    }
}
