/// Wide accesses to chips with an 8-bit data bus: as on the ISA bus, they become accesses to consecutive addresses.
package enum ByteLanes {
    /// Reads `width` bytes (1...8), lowest address first, as a little-endian value.
    @inline(__always)
    package static func read(_ offset: UInt64, _ width: Int, _ byte: (UInt64) -> UInt8) -> UInt64 {
        if width == 1 { return UInt64(byte(offset)) }
        var value: UInt64 = 0
        for lane in 0..<UInt64(truncatingIfNeeded: width & 15) {
            value |= UInt64(byte(offset &+ lane)) << (lane &* 8)
        }
        return value
    }

    /// Writes the low `width` bytes (1...8) of `value`, lowest address first.
    @inline(__always)
    package static func write(_ offset: UInt64, _ width: Int, _ value: UInt64, _ byte: (UInt64, UInt8) -> Void) {
        if width == 1 { return byte(offset, UInt8(truncatingIfNeeded: value)) }
        for lane in 0..<UInt64(truncatingIfNeeded: width & 15) {
            byte(offset &+ lane, UInt8(truncatingIfNeeded: value >> (lane &* 8)))
        }
    }
}
