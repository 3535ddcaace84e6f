/// Puts a Linux kernel (bzImage) into RAM by the x86 boot protocol, with no firmware involved.
package struct LinuxLoader {
    /// Which of the kernel's entries to use.
    package enum Entry: Sendable { case protected32, long64 }

    /// Where things go below 640 KiB. All of it is free for the kernel once it has read it.
    private enum Place {
        static let gdt: UInt64 = 0x1000
        static let stack: UInt64 = 0x8000
        static let pageTables: UInt64 = 0x9000
        static let bootParameters: UInt64 = 0x1_0000
        static let commandLine: UInt64 = 0x2_0000
        /// Room for the command line, with its zero.
        static let commandLineSize = 0x1_0000
        static let kernel: UInt64 = 0x10_0000
    }

    package var kernel: [UInt8]
    package var initrd: [UInt8]?
    package var commandLine: String
    package var memory: MemoryMap
    /// Physical address of the ACPI root pointer, or nil when the kernel shall search for it.
    package var acpiRoot: UInt64?
    package var entry: Entry

    package init(
        kernel: [UInt8], initrd: [UInt8]? = nil, commandLine: String = "", memory: MemoryMap, acpiRoot: UInt64? = nil,
        entry: Entry = .protected32
    ) {
        self.kernel = kernel
        self.initrd = initrd
        self.commandLine = commandLine
        self.memory = memory
        self.acpiRoot = acpiRoot
        self.entry = entry
    }

    /// RAM and CPU as they are when the kernel's first instruction runs.
    package func load() throws(BootError) -> BootImage {
        let header = try LinuxSetupHeader(kernel)
        let code = Array(kernel[header.kernelOffset...])
        if entry == .long64, !header.has64BitEntry { throw BootError("the kernel has no 64-bit entry") }

        // Without a hint, a compressed kernel is taken to need as much again, and some more, behind itself.
        let start = max(Place.kernel, header.preferredAddress)
        let room = max(header.initSize, UInt64(code.count) + (header.initSize == 0 ? 8 << 20 : 0))
        let kernelEnd = max(start.addingReportingOverflow(room).partialValue, Place.kernel + UInt64(code.count))
        guard start <= 1 << 32, memory.isUsable(Place.kernel, kernelEnd - Place.kernel) else {
            let needed = Self.megabytes(kernelEnd)
            let present = Self.megabytes(memory.lowEnd)
            throw BootError("the kernel needs RAM up to \(needed), the machine has \(present) below 4 GiB")
        }
        var arguments = Array(commandLine.utf8)
        let limit = min(header.commandLineLimit, Place.commandLineSize - 1)
        guard arguments.count <= limit else {
            throw BootError("the kernel command line has \(arguments.count) bytes, this kernel takes \(limit)")
        }
        guard !arguments.contains(0) else { throw BootError("the kernel command line has a zero byte in it") }
        arguments.append(0)

        var blobs = [
            MemoryBlob(address: Place.kernel, bytes: code),
            MemoryBlob(address: Place.commandLine, bytes: arguments),
            MemoryBlob(address: Place.gdt, bytes: StartTables.gdt(long: entry == .long64)),
        ]
        blobs += BIOSDataArea.blobs
        var initrdStart: UInt64 = 0
        if let initrd, !initrd.isEmpty {
            initrdStart = try placeInitrd(UInt64(initrd.count), header, above: kernelEnd)
            blobs.append(MemoryBlob(address: initrdStart, bytes: initrd))
        }
        blobs.append(MemoryBlob(address: Place.bootParameters, bytes: bootParameters(header, initrdStart)))

        var state: BootState
        switch entry {
        case .protected32:
            state = BootState(mode: .protected32, entry: Place.kernel, stack: Place.stack)
        case .long64:
            state = BootState(mode: .long64, entry: Place.kernel + 0x200, stack: Place.stack)
            state.pageTables = Place.pageTables
            blobs.append(MemoryBlob(address: Place.pageTables, bytes: StartTables.identityPages(at: Place.pageTables)))
        }
        state.source = Place.bootParameters
        state.gdtBase = Place.gdt
        state.gdtLimit = 31
        return BootImage(blobs: blobs, state: state)
    }

    /// As high as the kernel can reach, so that it is out of the way when the kernel decompresses itself.
    private func placeInitrd(_ size: UInt64, _ header: LinuxSetupHeader, above low: UInt64) throws(BootError) -> UInt64
    {
        let top = min(header.initrdLimit + 1, memory.lowEnd)
        guard size <= top else {
            throw BootError("the initrd has \(Self.megabytes(size)), the kernel reaches \(Self.megabytes(top)) of RAM")
        }
        let start = (top - size) & ~0xFFF
        guard start >= low else {
            let free = Self.megabytes(top > low ? top - low : 0)
            throw BootError("the initrd has \(Self.megabytes(size)), and only \(free) are free behind the kernel")
        }
        return start
    }

    /// `struct boot_params`: "The Linux/x86 boot protocol" and zero-page.rst.
    private func bootParameters(_ header: LinuxSetupHeader, _ initrdStart: UInt64) -> [UInt8] {
        var page = ByteWriter(zeros: 4096)
        // screen_info: VGA text mode 3, cursor in the top left corner.
        let extended = min((memory.lowEnd - 0x10_0000) / 1024, 0xFC00)
        page.set16(0x02, UInt16(extended))
        page.set8(0x06, 3)
        page.set8(0x07, 80)
        // ega_bx: colour, 256 KiB of video memory.
        page.set16(0x0A, 0x0003)
        page.set8(0x0E, 25)
        page.set8(0x0F, 1)
        page.set16(0x10, 16)
        if let acpiRoot { page.set64(0x70, acpiRoot) }
        // alt_mem_k: RAM above 1 MiB in KiB.
        page.set32(0x1E0, UInt32((memory.lowEnd - 0x10_0000) / 1024))
        page.set8(0x1E8, UInt8(memory.entries.count))
        page.set(0x2D0, memory.e820)

        page.set(LinuxSetupHeader.offset, header.bytes)
        // vid_mode: what is set now.
        page.set16(0x1FA, 0xFFFF)
        // type_of_loader: one without a number of its own.
        page.set8(0x210, 0xFF)
        // Quiet, keep-segments and heap flags are the setup code's: it does not run. 0x01: loaded high.
        page.set8(0x211, 0x01)
        page.set32(0x214, UInt32(Place.kernel))
        page.set32(0x218, UInt32(initrdStart))
        page.set32(0x21C, UInt32(initrd?.count ?? 0))
        page.set32(0x228, UInt32(Place.commandLine))
        return page.bytes
    }

    private static func megabytes(_ bytes: UInt64) -> String {
        bytes >= 1 << 20 ? "\(bytes >> 20) MiB" : "\(bytes >> 10) KiB"
    }
}
