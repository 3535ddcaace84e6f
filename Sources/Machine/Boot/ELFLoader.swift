/// Puts a Multiboot kernel into RAM (Multiboot Specification 0.6.96): an ELF file, or a file that tells its own
/// addresses in the Multiboot header.
package struct ELFLoader {
    /// A file handed to the kernel beside it.
    package struct Module: Sendable {
        package var bytes: [UInt8]
        package var commandLine: String
        package init(bytes: [UInt8], commandLine: String = "") {
            self.bytes = bytes
            self.commandLine = commandLine
        }
    }

    /// The Multiboot header's magic number, in the first 8192 bytes of the file.
    private static let magic: UInt32 = 0x1BAD_B002
    /// What the kernel finds in EAX.
    private static let loaderMagic: UInt32 = 0x2BAD_B002

    package var kernel: [UInt8]
    package var modules: [Module]
    package var commandLine: String
    package var memory: MemoryMap

    package init(kernel: [UInt8], modules: [Module] = [], commandLine: String = "", memory: MemoryMap) {
        self.kernel = kernel
        self.modules = modules
        self.commandLine = commandLine
        self.memory = memory
    }

    /// Where the Multiboot header is in `image`, or nil when there is none.
    package static func headerOffset(_ image: [UInt8]) -> Int? {
        let reader = ByteReader(image)
        return stride(from: 0, to: min(image.count, 8192), by: 4).first { offset in
            guard reader.u32(offset) == magic, let flags = reader.u32(offset + 4), let sum = reader.u32(offset + 8)
            else {
                return false
            }
            return magic &+ flags &+ sum == 0
        }
    }

    /// RAM and CPU as they are when the kernel's first instruction runs.
    package func load() throws(BootError) -> BootImage {
        guard let header = Self.headerOffset(kernel) else {
            throw BootError("not a Multiboot kernel: no Multiboot header in its first 8192 bytes")
        }
        let flags = ByteReader(kernel).u32(header + 4) ?? 0
        // Bits 0...2 ask for page-aligned modules, memory information and a video mode (text is what there is).
        let unknown = flags & 0xFFFF & ~7
        guard unknown == 0 else {
            throw BootError("the Multiboot kernel asks for unknown features 0x\(String(unknown, radix: 16))")
        }
        let (segments, entry) = flags & 0x1_0000 != 0 ? try loadByHeader(header) : try loadELF()
        for blob in segments {
            let size = UInt64(blob.bytes.count) + blob.zeros
            guard memory.isUsable(blob.address, size) else {
                let range = "\(Self.hex(blob.address)) to \(Self.hex(blob.address &+ size))"
                throw BootError("the kernel wants to be at \(range), where there is no usable RAM")
            }
        }
        guard segments.contains(where: { $0.address <= entry && entry < $0.end }), entry < 1 << 32 else {
            throw BootError("the kernel's entry \(Self.hex(entry)) is not within the kernel")
        }
        return try start(segments, entry)
    }

    // MARK: The kernel

    private func loadELF() throws(BootError) -> ([MemoryBlob], UInt64) {
        let file = try ELFFile(kernel)
        guard file.machine == 3 || file.machine == 62 else {
            throw BootError("the ELF file is for machine \(file.machine), not for x86")
        }
        guard !file.segments.isEmpty else { throw BootError("the ELF file has nothing to load") }
        let reader = ByteReader(kernel)
        let blobs = file.segments.map { segment in
            MemoryBlob(
                address: segment.physicalAddress, bytes: reader.slice(segment.offset, segment.fileSize) ?? [],
                zeros: segment.memorySize - segment.fileSize)
        }
        return (blobs, file.physical(file.entry))
    }

    /// The addresses in the header ("a.out kludge"), for files that are not ELF.
    private func loadByHeader(_ header: Int) throws(BootError) -> ([MemoryBlob], UInt64) {
        let reader = ByteReader(kernel)
        let fields = (0..<5).compactMap { reader.u32(header + 12 + $0 * 4) }
        guard fields.count == 5 else { throw BootError("the Multiboot header is cut short") }
        let (headerAddress, loadAddress, loadEnd, bssEnd, entry) = (
            fields[0], fields[1], fields[2], fields[3], fields[4]
        )
        guard headerAddress >= loadAddress, headerAddress - loadAddress <= UInt32(header) else {
            throw BootError("the Multiboot header's load address \(Self.hex(UInt64(loadAddress))) is impossible")
        }
        let offset = UInt64(header) - UInt64(headerAddress - loadAddress)
        guard loadEnd == 0 || loadEnd >= loadAddress else {
            throw BootError("the Multiboot header's load end is impossible")
        }
        let size = loadEnd == 0 ? UInt64(kernel.count) - offset : UInt64(loadEnd - loadAddress)
        guard let bytes = reader.slice(offset, size) else {
            throw BootError("the Multiboot kernel is truncated: its load end lies beyond the file")
        }
        let end = UInt64(loadAddress) + size
        let zeros = bssEnd == 0 ? 0 : UInt64(bssEnd) < end ? 0 : UInt64(bssEnd) - end
        return ([MemoryBlob(address: UInt64(loadAddress), bytes: bytes, zeros: zeros)], UInt64(entry))
    }

    // MARK: What comes with it

    private func start(_ segments: [MemoryBlob], _ entry: UInt64) throws(BootError) -> BootImage {
        var blobs = segments
        // Modules follow the kernel, on pages of their own.
        var next = (segments.filter { $0.address >= 0x10_0000 }.map(\.end).max() ?? 0x10_0000).roundedUpToPage
        var ranges: [(start: UInt64, end: UInt64)] = []
        for (index, module) in modules.enumerated() {
            let size = UInt64(module.bytes.count)
            guard memory.isUsable(next, size) else {
                throw BootError("module \(index) of the Multiboot kernel does not fit: it has \(size) bytes")
            }
            blobs.append(MemoryBlob(address: next, bytes: module.bytes))
            ranges.append((next, next + size))
            next = (next + size).roundedUpToPage
        }

        let size = information(at: 0, ranges).bytes.count
        // Below 640 KiB, where the kernel has left room; the first 4 KiB are the BIOS's.
        let candidates = stride(from: UInt64(0x1000), to: MemoryMap.extendedBIOSData, by: 0x1000)
        let place = candidates.first { start in
            memory.isUsable(start, UInt64(size))
                && !segments.contains { $0.address < start + UInt64(size) && start < $0.end }
        }
        guard let place else { throw BootError("the Multiboot kernel leaves no room for \(size) bytes below 640 KiB") }
        blobs.append(information(at: place, ranges))
        blobs += BIOSDataArea.blobs

        var state = BootState(mode: .protected32, entry: entry, stack: MemoryMap.extendedBIOSData)
        state.a = Self.loaderMagic
        state.b = UInt32(place)
        state.gdtBase = place + UInt64(size) - 32
        state.gdtLimit = 31
        return BootImage(blobs: blobs, state: state)
    }

    /// The Multiboot information structure with all it points to, and the GDT in its last 32 bytes.
    private func information(at base: UInt64, _ modules: [(start: UInt64, end: UInt64)]) -> MemoryBlob {
        func string(_ text: String) -> [UInt8] { text.utf8.filter { $0 != 0 } + [0] }
        let address = UInt32(base)
        let moduleList: UInt32 = 120
        let map = moduleList + UInt32(modules.count * 16)
        let mapSize = UInt32(memory.entries.count * 24)
        let strings = map + mapSize

        var text: [UInt8] = string("emu")
        let commandLineOffset = strings + UInt32(text.count)
        text += string(commandLine)

        var writer = ByteWriter(zeros: Int(strings))
        for (index, module) in modules.enumerated() {
            let row = Int(moduleList) + index * 16
            writer.set32(row, UInt32(module.start))
            writer.set32(row + 4, UInt32(module.end))
            writer.set32(row + 8, address + strings + UInt32(text.count))
            text += string(self.modules[index].commandLine)
        }
        for (index, entry) in memory.entries.enumerated() {
            let row = Int(map) + index * 24
            writer.set32(row, 20)
            writer.set64(row + 4, entry.start)
            writer.set64(row + 12, entry.size)
            writer.set32(row + 20, entry.kind.rawValue)
        }
        // Memory, command line, modules, memory map and loader name are valid.
        writer.set32(0, 0x1 | 0x4 | 0x8 | 0x40 | 0x200)
        writer.set32(4, UInt32(MemoryMap.extendedBIOSData / 1024))
        writer.set32(8, UInt32((memory.lowEnd - 0x10_0000) / 1024))
        writer.set32(16, address + commandLineOffset)
        writer.set32(20, UInt32(modules.count))
        writer.set32(24, address + moduleList)
        writer.set32(44, mapSize)
        writer.set32(48, address + map)
        writer.set32(64, address + strings)
        text += [UInt8](repeating: 0, count: (8 - (Int(strings) + text.count) % 8) % 8)
        writer.put(text)
        writer.put(StartTables.gdt(long: false))
        return MemoryBlob(address: base, bytes: writer.bytes)
    }

    private static func hex(_ value: UInt64) -> String { "0x" + String(value, radix: 16) }
}

extension UInt64 {
    fileprivate var roundedUpToPage: UInt64 { (self + 0xFFF) & ~0xFFF }
}
