/// The parts of an ELF file that a loader needs (System V ABI, chapters 4 and 5), checked.
package struct ELFFile {
    /// A PT_LOAD program header.
    package struct Segment {
        package let offset: UInt64
        package let virtualAddress: UInt64
        package let physicalAddress: UInt64
        package let fileSize: UInt64
        package let memorySize: UInt64
    }

    package let is64: Bool
    package let machine: UInt16
    /// Virtual.
    package let entry: UInt64
    package let segments: [Segment]

    /// Whether `image` begins like an ELF file.
    package static func isELF(_ image: [UInt8]) -> Bool { image.starts(with: [0x7F, 0x45, 0x4C, 0x46]) }

    package init(_ image: [UInt8]) throws(BootError) {
        let reader = ByteReader(image)
        guard Self.isELF(image) else { throw BootError("not an ELF file") }
        guard let kind = reader.u8(4), kind == 1 || kind == 2 else {
            throw BootError("the ELF file is of an unknown class")
        }
        guard reader.u8(5) == 1 else { throw BootError("the ELF file is not little-endian") }
        is64 = kind == 2
        let wide = is64
        func word(_ offset: Int) -> UInt64? { wide ? reader.u64(offset) : reader.u32(offset).map { UInt64($0) } }

        guard let machine = reader.u16(18), let entry = word(24), let table = word(is64 ? 32 : 28),
            let entrySize = reader.u16(is64 ? 54 : 42), let count = reader.u16(is64 ? 56 : 44)
        else { throw BootError("the ELF header is cut short") }
        guard count == 0 || Int(entrySize) >= (is64 ? 56 : 32) else {
            throw BootError("the ELF file has program headers of \(entrySize) bytes")
        }
        guard table <= UInt64(image.count) else { throw BootError("the ELF program headers lie beyond the file") }
        self.machine = machine
        self.entry = entry

        var segments: [Segment] = []
        for index in 0..<Int(count) {
            let base = Int(table) + index * Int(entrySize)
            guard let type = reader.u32(base) else {
                throw BootError("ELF program header \(index) lies beyond the file")
            }
            if type != 1 { continue }
            let fields = is64 ? [8, 16, 24, 32, 40] : [4, 8, 12, 16, 20]
            let values = fields.compactMap { word(base + $0) }
            guard values.count == 5 else { throw BootError("ELF program header \(index) lies beyond the file") }
            guard values[3] <= values[4] else {
                throw BootError("ELF segment \(index) has more bytes in the file than in memory")
            }
            guard reader.slice(values[0], values[3]) != nil else {
                throw BootError("ELF segment \(index) lies beyond the file: the file is truncated")
            }
            if values[4] == 0 { continue }
            segments.append(
                Segment(
                    offset: values[0], virtualAddress: values[1], physicalAddress: values[2], fileSize: values[3],
                    memorySize: values[4]))
        }
        self.segments = segments
    }

    /// Where virtual address `address` is loaded; the address itself when it is in no segment.
    package func physical(_ address: UInt64) -> UInt64 {
        for segment in segments
        where address >= segment.virtualAddress && address - segment.virtualAddress < segment.memorySize {
            return segment.physicalAddress &+ (address - segment.virtualAddress)
        }
        return address
    }
}
