/// The setup header of a bzImage (Linux, Documentation/arch/x86/boot.rst), checked.
package struct LinuxSetupHeader: Sendable, Equatable {
    /// Where the header begins, in the file and in `boot_params`.
    package static let offset = 0x1F1

    /// Protocol version: 0x020F is 2.15.
    package let version: UInt16
    /// The header's bytes, to be copied into `boot_params`.
    package let bytes: [UInt8]
    /// Where protected-mode code begins in the file.
    package let kernelOffset: Int
    /// Where the 32-bit entry is, if the code is loaded at the default address.
    package let code32Start: UInt32
    /// The highest address an initrd's last byte may have.
    package let initrdLimit: UInt64
    /// Characters of the command line, without the terminating zero.
    package let commandLineLimit: Int
    package let isRelocatable: Bool
    package let alignment: UInt32
    /// There is a 64-bit entry at 0x200.
    package let has64BitEntry: Bool
    /// Where the decompressed kernel wants to run; 0 when the version does not tell.
    package let preferredAddress: UInt64
    /// RAM needed from there on until the kernel knows its memory map; 0 when the version does not tell.
    package let initSize: UInt64

    package init(_ image: [UInt8]) throws(BootError) {
        let reader = ByteReader(image)
        guard image.count >= 0x260, reader.u16(0x1FE) == 0xAA55 else {
            throw BootError("not a Linux kernel: no boot sector signature")
        }
        guard reader.u32(0x202) == 0x5372_6448, let version = reader.u16(0x206), let jump = reader.u8(0x201) else {
            throw BootError("not a Linux kernel, or one older than 1.3.73: no setup header")
        }
        guard version >= 0x0202, version < 0x0300 else {
            let text = "\(version >> 8).\(version & 0xFF)"
            throw BootError("the kernel speaks boot protocol \(text); 2.02 and later 2.x are understood")
        }
        func u8(_ offset: Int) -> UInt8 { reader.u8(offset) ?? 0 }
        func u16(_ offset: Int) -> UInt16 { reader.u16(offset) ?? 0 }
        func u32(_ offset: Int) -> UInt32 { reader.u32(offset) ?? 0 }
        self.version = version

        // The header ends where the jump at 0x200 goes; the next fields of boot_params begin at 0x290.
        let end = min(0x202 + Int(jump), 0x290, image.count)
        guard end > 0x22C else { throw BootError("the kernel's setup header is cut short (it ends at \(end))") }
        bytes = Array(image[Self.offset..<end])

        // Loaded high: a bzImage. A zImage would be placed at 0x10000.
        guard u8(0x211) & 1 != 0 else { throw BootError("the kernel is a zImage; only bzImage kernels can be booted") }
        let setupSectors = u8(0x1F1) == 0 ? 4 : Int(u8(0x1F1))
        kernelOffset = (setupSectors + 1) * 512
        guard kernelOffset < image.count else {
            throw BootError("the kernel is truncated: \(image.count) bytes, its setup code alone has \(kernelOffset)")
        }
        if version >= 0x0204 {
            // Paragraphs; signatures may follow.
            let size = UInt64(u32(0x1F4)) * 16
            guard size <= UInt64(image.count - kernelOffset) + 15 else {
                let rest = image.count - kernelOffset
                throw BootError("the kernel is truncated: \(rest) bytes of code instead of \(size)")
            }
        }
        if version >= 0x0208 {
            let payloadEnd = UInt64(u32(0x248)) + UInt64(u32(0x24C))
            guard payloadEnd <= UInt64(image.count - kernelOffset) else {
                throw BootError("the kernel is truncated or damaged: its payload ends beyond the file")
            }
        }
        code32Start = u32(0x214)
        initrdLimit = version >= 0x0203 ? UInt64(u32(0x22C)) : 0x37FF_FFFF
        commandLineLimit = version >= 0x0206 ? Int(u32(0x238)) : 255
        isRelocatable = version >= 0x0205 && u8(0x234) != 0
        alignment = version >= 0x0205 ? u32(0x230) : 0
        has64BitEntry = version >= 0x020C && u16(0x236) & 1 != 0
        preferredAddress = version >= 0x020A ? reader.u64(0x258) ?? 0 : 0
        initSize = version >= 0x020A ? UInt64(u32(0x260)) : 0
        if alignment & (alignment &- 1) != 0 {
            let text = String(alignment, radix: 16)
            throw BootError("the kernel's setup header is damaged: its alignment 0x\(text) is no power of two")
        }
    }
}
