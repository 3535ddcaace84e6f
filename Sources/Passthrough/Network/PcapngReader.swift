/// Reads a capture in the pcapng format (draft-ietf-opsawg-pcapng), either byte order, any resolution of times, more than one interface and
/// section. Only Ethernet's packets count. Where the file is cut off or damaged, it ends.
struct PcapngReader {
    private enum Block {
        static let section: UInt32 = 0x0A0D_0D0A
        static let interface: UInt32 = 1
        static let oldPacket: UInt32 = 2
        static let simplePacket: UInt32 = 3
        static let packet: UInt32 = 6
    }
    private struct Interface {
        var link: UInt32
        /// Units in a second: 10 or 2 to this power.
        var power: UInt64 = 6
        var isBinary = false
        /// Seconds, to be added to all times.
        var offset: UInt64 = 0

        /// Nanoseconds since 1970. What is out of all bounds wraps round: the file's times are nobody's but its own.
        func time(_ units: UInt64) -> UInt64 {
            let time: UInt64
            if isBinary {
                let (high, low) = units.multipliedFullWidth(by: 1_000_000_000)
                time = power == 0 ? low : power < 64 ? high << (64 - power) | low >> power : power < 128 ? high >> (power - 64) : 0
            } else if power <= 9 {
                time = units &* Self.tenTo(9 - power)
            } else {
                time = power <= 28 ? units / Self.tenTo(power - 9) : 0
            }
            return time &+ offset &* 1_000_000_000
        }
        /// - Parameter power: 19 or less.
        private static func tenTo(_ power: UInt64) -> UInt64 { (0..<power).reduce(1) { value, _ in value * 10 } }
    }

    static let magic = Block.section
    private static let ethernet: UInt32 = 1
    private let bytes: [UInt8]
    private var offset = 0
    private var isSwapped = false
    private var interfaces: [Interface] = []
    private var lastTime: UInt64 = 0
    /// Link types that have been seen and passed over.
    private(set) var otherLinks: Set<UInt32> = []

    /// Nil: this is no such file.
    init?(bytes: [UInt8]) {
        self.bytes = bytes
        guard bytes.count >= 28, word(0) == Self.magic, word(8) == 0x1A2B_3C4D || word(8) == 0x4D3C_2B1A else { return nil }
    }

    private func word(_ place: Int) -> UInt32 {
        let value = (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[place + $1]) << UInt32($1 * 8) }
        return isSwapped ? value.byteSwapped : value
    }
    private func half(_ place: Int) -> UInt32 {
        let value = UInt16(bytes[place]) | UInt16(bytes[place + 1]) << 8
        return UInt32(isSwapped ? value.byteSwapped : value)
    }

    /// The next packet of an Ethernet; nil at the end.
    mutating func next() -> PcapFile.Frame? {
        while offset <= bytes.count - 12 {
            // A section's type reads alike in both byte orders; its order comes after the length.
            if word(offset) == Block.section {
                isSwapped = false
                switch word(offset + 8) {
                case 0x1A2B_3C4D: break
                case 0x4D3C_2B1A: isSwapped = true
                default: return nil
                }
                interfaces = []
            }
            let length = Int(word(offset + 4))
            guard length >= 12, length & 3 == 0, length <= bytes.count - offset, word(offset + length - 4) == UInt32(length) else { return nil }
            let body = offset + 8..<offset + length - 4
            let kind = word(offset)
            offset += length
            switch kind {
            case Block.interface: if body.count >= 8 { addInterface(body) }
            case Block.packet where body.count >= 20:
                if let frame = frame(word(body.lowerBound), body.lowerBound + 4, Int(word(body.lowerBound + 12)), body.lowerBound + 20, body) {
                    return frame
                }
            case Block.oldPacket where body.count >= 20:
                if let frame = frame(half(body.lowerBound), body.lowerBound + 4, Int(word(body.lowerBound + 12)), body.lowerBound + 20, body) {
                    return frame
                }
            case Block.simplePacket where body.count >= 4:
                // It has no time, and no length but the original one.
                let count = min(Int(word(body.lowerBound)), body.count - 4)
                if let frame = frame(0, nil, count, body.lowerBound + 4, body) { return frame }
            default: break
            }
        }
        return nil
    }

    private mutating func addInterface(_ body: Range<Int>) {
        var interface = Interface(link: half(body.lowerBound))
        var place = body.lowerBound + 8
        while place + 4 <= body.upperBound {
            let (code, count) = (half(place), Int(half(place + 2)))
            if code == 0 || place + 4 + count > body.upperBound { break }
            if code == 9, count == 1 {
                interface.power = UInt64(bytes[place + 4] & 0x7F)
                interface.isBinary = bytes[place + 4] & 0x80 != 0
            } else if code == 14, count == 8 {
                let (first, second) = (UInt64(word(place + 4)), UInt64(word(place + 8)))
                interface.offset = isSwapped ? first << 32 | second : second << 32 | first
            }
            place += 4 + (count + 3) & ~3
        }
        interfaces.append(interface)
    }

    /// - Parameters:
    ///   - timePlace: where its time is, in two words, the high one first.
    ///   - count: bytes of it in the file.
    private mutating func frame(_ number: UInt32, _ timePlace: Int?, _ count: Int, _ place: Int, _ body: Range<Int>) -> PcapFile.Frame? {
        guard Int(number) < interfaces.count, count <= body.upperBound - place else { return nil }
        let interface = interfaces[Int(number)]
        guard interface.link == Self.ethernet else {
            otherLinks.insert(interface.link)
            return nil
        }
        if let timePlace { lastTime = interface.time(UInt64(word(timePlace)) << 32 | UInt64(word(timePlace + 4))) }
        return PcapFile.Frame(time: lastTime, bytes: Array(bytes[place..<place + count]))
    }
}
