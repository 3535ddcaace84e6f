import Glibc
import Synchronization

/// A capture in the classic pcap format (draft-ietf-opsawg-pcap), either byte order, of micro- or nanoseconds; or in the pcapng format.
package final class PcapFile: Sendable {
    package struct Frame: Sendable, Equatable {
        /// Nanoseconds since 1970.
        package var time: UInt64
        /// What was captured of it.
        package var bytes: [UInt8]
        package init(time: UInt64, bytes: [UInt8]) {
            self.time = time
            self.bytes = bytes
        }
    }

    private static let ethernet: UInt32 = 1
    private static let headerSize = 24
    private static let recordSize = 16
    private let bytes: [UInt8]
    private let isSwapped: Bool
    private let nanosecondsPerUnit: UInt64
    private let offset = Mutex(headerSize)
    /// The reader of a file in the other format, and as it was at the start.
    private let other: Mutex<PcapngReader?>
    private let otherStart: PcapngReader?

    package convenience init(path: String) throws {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        if descriptor < 0 { throw BackendError.system("--net pcapfile:\(path)") }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        while let piece = readSome(descriptor) { bytes += piece }
        try self.init(bytes: bytes, name: "--net pcapfile:\(path)")
    }

    /// - Parameter name: what messages begin with.
    package init(bytes: [UInt8], name: String) throws {
        guard bytes.count >= Self.headerSize else { throw BackendError("\(name): this is no capture: it is too short") }
        let magic = Self.word(bytes, 0, isSwapped: false)
        if magic == PcapngReader.magic {
            guard let reader = PcapngReader(bytes: bytes) else { throw BackendError("\(name): this is no capture in the pcapng format") }
            var first = reader
            // One of something else is a mistake; an empty one is empty.
            if first.next() == nil, let link = first.otherLinks.min() {
                throw BackendError("\(name): its link type is \(link), not Ethernet (1)")
            }
            (isSwapped, nanosecondsPerUnit, self.bytes) = (false, 1, [])
            otherStart = reader
            other = Mutex(reader)
            return
        }
        otherStart = nil
        other = Mutex(nil)
        switch magic {
        case 0xA1B2_C3D4, 0xD4C3_B2A1: nanosecondsPerUnit = 1000
        case 0xA1B2_3C4D, 0x4D3C_B2A1: nanosecondsPerUnit = 1
        default: throw BackendError("\(name): this is no capture in the pcap or pcapng format")
        }
        isSwapped = magic == 0xD4C3_B2A1 || magic == 0x4D3C_B2A1
        let link = Self.word(bytes, 20, isSwapped: isSwapped) & 0xFFFF
        guard link == Self.ethernet else { throw BackendError("\(name): its link type is \(link), not Ethernet (1)") }
        self.bytes = bytes
    }

    private static func word(_ bytes: [UInt8], _ offset: Int, isSwapped: Bool) -> UInt32 {
        let value = (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[offset + $1]) << UInt32($1 * 8) }
        return isSwapped ? value.byteSwapped : value
    }

    /// The next frame; nil at the end, and where the file is cut off or damaged.
    package func next() -> Frame? {
        if otherStart != nil { return other.withLock { $0?.next() } }
        return offset.withLock { offset in
            guard let (frame, end) = frame(at: offset) else { return nil }
            offset = end
            return frame
        }
    }

    /// The time of the first frame, 0 when there is none.
    package var firstTime: UInt64 {
        if var reader = otherStart { return reader.next()?.time ?? 0 }
        return frame(at: Self.headerSize)?.0.time ?? 0
    }

    private func frame(at offset: Int) -> (Frame, Int)? {
        guard offset <= bytes.count - Self.recordSize else { return nil }
        func word(_ place: Int) -> UInt32 { Self.word(bytes, offset + place, isSwapped: isSwapped) }
        let length = Int(word(8))
        let start = offset + Self.recordSize
        guard length <= bytes.count - start else { return nil }
        let time = UInt64(word(0)) * 1_000_000_000 + UInt64(word(4)) * nanosecondsPerUnit
        return (Frame(time: time, bytes: Array(bytes[start..<start + length])), start + length)
    }
}
