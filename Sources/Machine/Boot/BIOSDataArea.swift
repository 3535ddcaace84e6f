/// The BIOS data area, as firmware would leave it, for kernels that look there though no firmware has run.
enum BIOSDataArea {
    static let blobs: [MemoryBlob] = {
        var area = ByteWriter(zeros: 0x100)
        // The serial ports, and the segment of the extended data area.
        area.set16(0x00, 0x3F8)
        area.set16(0x02, 0x2F8)
        area.set16(0x0E, UInt16(MemoryMap.extendedBIOSData >> 4))
        // Equipment: FPU, mouse, 80 x 25 colour, two serial ports.
        area.set16(0x10, 0x0426)
        // Conventional memory in KiB.
        area.set16(0x13, UInt16(MemoryMap.extendedBIOSData / 1024))
        // Video: mode 3, 80 columns, 4000 bytes a page, cursor shape, CRT controller, 25 rows of 16 lines.
        area.set8(0x49, 3)
        area.set16(0x4A, 80)
        area.set16(0x4C, 4096)
        area.set16(0x60, 0x0D0E)
        area.set16(0x63, 0x3D4)
        area.set8(0x84, 24)
        area.set16(0x85, 16)
        return [
            MemoryBlob(address: 0x400, bytes: area.bytes),
            // The extended area's first byte is its size in KiB.
            MemoryBlob(address: MemoryMap.extendedBIOSData, bytes: [1]),
        ]
    }()
}
