/// A small encoder for ACPI Machine Language (ACPI 6.4, chapter 20). Each function gives the bytes of one term.
enum AML {
    // MARK: Names and data

    /// A path such as "_SB.PCI0" or "\\_S5": segments of up to four characters.
    static func name(_ path: String) -> [UInt8] {
        var rest = Substring(path)
        var bytes: [UInt8] = []
        if rest.first == "\\" {
            bytes.append(0x5C)
            rest = rest.dropFirst()
        }
        let segments = rest.split(separator: ".")
        switch segments.count {
        case 0: bytes.append(0)
        case 1: break
        case 2: bytes.append(0x2E)
        default: bytes += [0x2F, UInt8(segments.count)]
        }
        for segment in segments {
            bytes += Array(segment.utf8) + [UInt8](repeating: 0x5F, count: 4 - segment.utf8.count)
        }
        return bytes
    }

    /// ZeroOp, OneOp, or the shortest prefix.
    static func integer(_ value: UInt32) -> [UInt8] {
        var writer = ByteWriter()
        switch value {
        case 0...1: writer.put8(UInt8(value))
        case 2...0xFF:
            writer.put8(0x0A)
            writer.put8(UInt8(value))
        case 0x100...0xFFFF:
            writer.put8(0x0B)
            writer.put16(UInt16(value))
        default:
            writer.put8(0x0C)
            writer.put32(value)
        }
        return writer.bytes
    }

    static func string(_ text: String) -> [UInt8] { [0x0D] + Array(text.utf8) + [0] }

    /// A compressed EISA identifier such as "PNP0A03".
    static func eisaID(_ text: String) -> [UInt8] {
        let characters = Array(text.utf8)
        let letters = characters.prefix(3).reduce(UInt32(0)) { $0 << 5 | UInt32($1 & 0x1F) }
        let number = UInt32(text.dropFirst(3), radix: 16) ?? 0
        return [0x0C] + withUnsafeBytes(of: (letters << 16 | number).bigEndian) { Array($0) }
    }

    static func package(_ elements: [[UInt8]]) -> [UInt8] {
        [0x12] + sized([UInt8(elements.count)] + elements.flatMap { $0 })
    }

    static func buffer(_ bytes: [UInt8]) -> [UInt8] { [0x11] + sized(integer(UInt32(bytes.count)) + bytes) }

    // MARK: Objects

    static func define(_ path: String, _ value: [UInt8]) -> [UInt8] { [0x08] + name(path) + value }
    static func scope(_ path: String, _ terms: [[UInt8]]) -> [UInt8] {
        [0x10] + sized(name(path) + terms.flatMap { $0 })
    }
    static func device(_ path: String, _ terms: [[UInt8]]) -> [UInt8] {
        [0x5B, 0x82] + sized(name(path) + terms.flatMap { $0 })
    }
    /// - Parameter isSerialized: one thread at a time, as methods need that define names.
    static func method(
        _ path: String, arguments: UInt8 = 0, isSerialized: Bool = false, _ terms: [[UInt8]]
    ) -> [UInt8] {
        [0x14] + sized(name(path) + [arguments | (isSerialized ? 8 : 0)] + terms.flatMap { $0 })
    }
    /// PCI configuration space bytes as an operation region.
    static func configurationRegion(_ path: String, offset: UInt32, length: UInt32) -> [UInt8] {
        [0x5B, 0x80] + name(path) + [0x02] + integer(offset) + integer(length)
    }
    /// Byte fields, one after the other from the region's start.
    static func byteFields(of region: String, _ fields: [String]) -> [UInt8] {
        [0x5B, 0x81] + sized(name(region) + [0x01] + fields.flatMap { name($0) + [8] })
    }
    static func createWordField(_ buffer: [UInt8], at offset: UInt32, _ field: String) -> [UInt8] {
        [0x8B] + buffer + integer(offset) + name(field)
    }

    // MARK: Statements and expressions

    static let argument0: [UInt8] = [0x68]
    static let local0: [UInt8] = [0x60]
    static func store(_ value: [UInt8], to target: [UInt8]) -> [UInt8] { [0x70] + value + target }
    static func returning(_ value: [UInt8]) -> [UInt8] { [0xA4] + value }
    static func and(_ a: [UInt8], _ b: [UInt8]) -> [UInt8] { [0x7B] + a + b + [0] }
    static func or(_ a: [UInt8], _ b: [UInt8], to target: [UInt8]) -> [UInt8] { [0x7D] + a + b + target }
    static func shiftLeft(_ a: [UInt8], _ count: [UInt8]) -> [UInt8] { [0x79] + a + count + [0] }
    /// The bit number of the lowest set bit, from 1.
    static func findRightBit(_ a: [UInt8], to target: [UInt8]) -> [UInt8] { [0x82] + a + target }
    static func decrement(_ target: [UInt8]) -> [UInt8] { [0x76] + target }
    static func when(_ condition: [UInt8], _ terms: [[UInt8]]) -> [UInt8] {
        [0xA0] + sized(condition + terms.flatMap { $0 })
    }

    // MARK: Resources (chapter 6.4)

    /// A resource template: descriptors and the end tag, whose checksum is not used.
    static func resources(_ descriptors: [[UInt8]]) -> [UInt8] { buffer(descriptors.flatMap { $0 } + [0x79, 0x00]) }

    static func ports(_ first: UInt16, count: UInt8) -> [UInt8] {
        let bytes = [UInt8(first & 0xFF), UInt8(first >> 8)]
        return [0x47, 0x01] + bytes + bytes + [0x01, count]
    }

    /// An edge-triggered ISA interrupt, active high.
    static func isaInterrupt(_ number: Int) -> [UInt8] {
        let mask: UInt16 = 1 << UInt16(number)
        return [0x22, UInt8(mask & 0xFF), UInt8(mask >> 8)]
    }

    /// Level-triggered ISA interrupts, active low, shared: PCI's.
    static func pciInterrupts(_ numbers: [Int]) -> [UInt8] {
        let mask = numbers.reduce(UInt16(0)) { $0 | 1 << UInt16($1) }
        return [0x23, UInt8(mask & 0xFF), UInt8(mask >> 8), 0x18]
    }

    static func busNumbers(_ range: ClosedRange<UInt16>) -> [UInt8] {
        wordSpace(kind: 2, flags: 0x0C, specific: 0, range)
    }
    static func portWindow(_ range: ClosedRange<UInt16>) -> [UInt8] {
        wordSpace(kind: 1, flags: 0x0C, specific: 3, range)
    }

    /// A window that a bridge passes on: cacheable for the frame buffer, else not.
    static func memoryWindow(_ range: ClosedRange<UInt32>, isCacheable: Bool = false) -> [UInt8] {
        var writer = ByteWriter()
        writer.put8(0x87)
        writer.put16(23)
        // Memory; fixed at both ends, positive decode, produced.
        writer.put([0, 0x0C, isCacheable ? 3 : 1])
        for value in [0, range.lowerBound, range.upperBound, 0, range.upperBound - range.lowerBound + 1] {
            writer.put32(value)
        }
        return writer.bytes
    }

    private static func wordSpace(kind: UInt8, flags: UInt8, specific: UInt8, _ range: ClosedRange<UInt16>) -> [UInt8] {
        var writer = ByteWriter()
        writer.put8(0x88)
        writer.put16(13)
        writer.put([kind, flags, specific])
        for value in [0, range.lowerBound, range.upperBound, 0, range.upperBound - range.lowerBound + 1] {
            writer.put16(value)
        }
        return writer.bytes
    }

    // MARK: Lengths

    /// PkgLength, which counts itself, and the contents.
    private static func sized(_ contents: [UInt8]) -> [UInt8] {
        if contents.count + 1 < 0x40 { return [UInt8(contents.count + 1)] + contents }
        let more = contents.count + 2 < 0x1000 ? 1 : contents.count + 3 < 0x10_0000 ? 2 : 3
        let length = contents.count + 1 + more
        let head = UInt8(more) << 6 | UInt8(length & 15)
        return [head] + (0..<more).map { UInt8(truncatingIfNeeded: length >> (4 + 8 * $0)) } + contents
    }
}
