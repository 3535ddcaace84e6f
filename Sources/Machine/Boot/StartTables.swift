/// The tables a CPU needs to start in protected or long mode: a GDT with flat segments at the selectors that Linux's
/// boot protocol asks for, and page tables that map the first 4 GiB to themselves.
enum StartTables {
    /// Selector 0x10: code; 0x18: data; both from 0 to 4 GiB, ring 0. In long mode the code segment is a 64-bit one.
    static func gdt(long: Bool) -> [UInt8] {
        var writer = ByteWriter()
        writer.put64(0)
        writer.put64(0)
        writer.put64(long ? 0x00AF_9B00_0000_FFFF : 0x00CF_9B00_0000_FFFF)
        writer.put64(0x00CF_9300_0000_FFFF)
        return writer.bytes
    }

    /// Six pages from `address`, which is the top level: 2 MiB pages, present and writable.
    static func identityPages(at address: UInt64) -> [UInt8] {
        var writer = ByteWriter(zeros: 6 * 4096)
        writer.set64(0, address + 0x1000 | 3)
        for directory in 0..<4 {
            writer.set64(0x1000 + directory * 8, address + UInt64(directory + 2) << 12 | 3)
            for entry in 0..<512 {
                writer.set64((directory + 2) * 4096 + entry * 8, UInt64(directory * 512 + entry) << 21 | 0x83)
            }
        }
        return writer.bytes
    }
}
