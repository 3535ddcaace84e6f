/// Builds little-endian structures.
package struct ByteWriter {
    package private(set) var bytes: [UInt8] = []
    package init() {}
    /// A structure of `count` zero bytes, to be filled by `set` functions.
    package init(zeros count: Int) { bytes = [UInt8](repeating: 0, count: count) }

    package mutating func put8(_ value: UInt8) { bytes.append(value) }
    package mutating func put16(_ value: UInt16) { append(UInt64(value), 2) }
    package mutating func put32(_ value: UInt32) { append(UInt64(value), 4) }
    package mutating func put64(_ value: UInt64) { append(value, 8) }
    package mutating func put(_ more: [UInt8]) { bytes += more }
    /// Characters, filled up with spaces or cut to `count` bytes.
    package mutating func put(_ text: String, count: Int) {
        let utf8 = Array(text.utf8.prefix(count))
        bytes += utf8 + [UInt8](repeating: 0x20, count: count - utf8.count)
    }

    package mutating func set8(_ offset: Int, _ value: UInt8) { bytes[offset] = value }
    package mutating func set16(_ offset: Int, _ value: UInt16) { set(offset, UInt64(value), 2) }
    package mutating func set32(_ offset: Int, _ value: UInt32) { set(offset, UInt64(value), 4) }
    package mutating func set64(_ offset: Int, _ value: UInt64) { set(offset, value, 8) }
    package mutating func set(_ offset: Int, _ more: some Collection<UInt8>) {
        bytes.replaceSubrange(offset..<offset + more.count, with: more)
    }

    /// Sets the byte at `offset` so that the bytes of `range` add up to 0.
    package mutating func setChecksum(at offset: Int, over range: Range<Int>) {
        bytes[offset] = 0
        bytes[offset] = 0 &- bytes[range].reduce(0, &+)
    }

    private mutating func append(_ value: UInt64, _ count: Int) {
        for lane in 0..<count { bytes.append(UInt8(truncatingIfNeeded: value >> UInt64(lane * 8))) }
    }
    private mutating func set(_ offset: Int, _ value: UInt64, _ count: Int) {
        for lane in 0..<count { bytes[offset + lane] = UInt8(truncatingIfNeeded: value >> UInt64(lane * 8)) }
    }
}
