/// Reads little-endian fields of an image that may be damaged: what lies outside is nil.
package struct ByteReader {
    package let bytes: [UInt8]
    package init(_ bytes: [UInt8]) { self.bytes = bytes }

    package func u8(_ offset: Int) -> UInt8? { bytes.indices.contains(offset) ? bytes[offset] : nil }
    package func u16(_ offset: Int) -> UInt16? { value(offset, 2).map { UInt16(truncatingIfNeeded: $0) } }
    package func u32(_ offset: Int) -> UInt32? { value(offset, 4).map { UInt32(truncatingIfNeeded: $0) } }
    package func u64(_ offset: Int) -> UInt64? { value(offset, 8) }

    /// The `count` bytes at `offset`.
    package func slice(_ offset: UInt64, _ count: UInt64) -> [UInt8]? {
        let total = UInt64(bytes.count)
        guard offset <= total, count <= total - offset else { return nil }
        return Array(bytes[Int(offset)..<Int(offset + count)])
    }

    private func value(_ offset: Int, _ count: Int) -> UInt64? {
        guard offset >= 0, count <= bytes.count, offset <= bytes.count - count else { return nil }
        return (0..<count).reduce(0) { $0 | UInt64(bytes[offset + $1]) << UInt64($1 * 8) }
    }
}
