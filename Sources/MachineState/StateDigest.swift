/// A fast 64-bit digest for comparing machine states. Not cryptographic: it finds accidents, not forgeries.
///
/// The function is fixed for ever (recordings hold its results): 8 bytes at a time, little endian, each mixed by
/// multiplication with an odd constant and a rotation.
package struct StateDigest: Sendable {
    @usableFromInline package var value: UInt64 = 0x9E37_79B9_7F4A_7C15

    @inlinable package init() {}

    @inlinable package mutating func mix(_ word: UInt64) {
        var x = value ^ word
        x = x &* 0xFF51_AFD7_ED55_8CCD
        x ^= x >> 32
        value = ((x << 27) | (x >> 37)) &* 0x9FB2_1C65_1E98_DF25
    }

    /// Mixes in `bytes`, then their count, so that adjacent byte strings cannot trade places.
    @inlinable package mutating func mix(bytes: UnsafeRawBufferPointer) {
        var index = 0
        while index + 8 <= bytes.count {
            mix(UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: index, as: UInt64.self)))
            index += 8
        }
        var tail: UInt64 = 0
        var shift: UInt64 = 0
        while index < bytes.count {
            tail |= UInt64(bytes[index]) << shift
            shift += 8
            index += 1
        }
        mix(tail)
        mix(UInt64(bytes.count))
    }
}
