/// The arithmetic flags, kept as the last result and its carries, and computed only when asked for.
///
/// `result` is the last result, sign-extended to 64 bits. `carry` holds what the result cannot tell:
/// bit 63 carry out (CF), bit 62 carry into the sign bit (OF = bit 63 ≠ bit 62), bit 16 flips SF, bits 15...8 are
/// XORed to the byte whose parity PF is, bit 3 carry out of bit 3 (AF). No operation code is needed to read them, and
/// any combination of flags can be expressed, which POPF needs.
package enum Flags {
    package static let cf: UInt32 = 1 << 0
    package static let pf: UInt32 = 1 << 2
    package static let af: UInt32 = 1 << 4
    package static let zf: UInt32 = 1 << 6
    package static let sf: UInt32 = 1 << 7
    package static let of: UInt32 = 1 << 11
    /// All six.
    package static let all: UInt32 = cf | pf | af | zf | sf | of

    /// The bits of `carry` that an arithmetic result fills.
    @usableFromInline static let carryMask: UInt64 = 0xC000_0000_0000_0008

    @inlinable @inline(__always)
    package static func isCarry(_ carry: UInt64) -> Bool { Int64(bitPattern: carry) < 0 }
    @inlinable @inline(__always)
    package static func isOverflow(_ carry: UInt64) -> Bool { Int64(bitPattern: carry ^ (carry << 1)) < 0 }
    @inlinable @inline(__always)
    package static func isSign(_ result: UInt64, _ carry: UInt64) -> Bool {
        Int64(bitPattern: result ^ (carry << 47)) < 0
    }
    @inlinable @inline(__always)
    package static func isParity(_ result: UInt64, _ carry: UInt64) -> Bool {
        UInt8(truncatingIfNeeded: result ^ (carry >> 8)).nonzeroBitCount & 1 == 0
    }

    /// EFLAGS bits of the pair.
    @inlinable
    package static func pack(_ result: UInt64, _ carry: UInt64) -> UInt32 {
        var flags: UInt32 = 0
        if isCarry(carry) { flags |= cf }
        if isParity(result, carry) { flags |= pf }
        if carry & 8 != 0 { flags |= af }
        if result == 0 { flags |= zf }
        if isSign(result, carry) { flags |= sf }
        if isOverflow(carry) { flags |= of }
        return flags
    }

    /// A pair that stands for the given EFLAGS bits.
    @inlinable
    package static func unpack(_ flags: UInt32) -> (result: UInt64, carry: UInt64) {
        let result: UInt64 = flags & zf != 0 ? 0 : 0x100
        var carry: UInt64 = 0
        if flags & cf != 0 { carry |= 0xC000_0000_0000_0000 }
        if flags & of != 0 { carry ^= 0x4000_0000_0000_0000 }
        if flags & af != 0 { carry |= 8 }
        if flags & sf != 0 { carry |= 1 << 16 }
        if flags & pf == 0 { carry |= 1 << 8 }
        return (result, carry)
    }

    @inlinable @inline(__always)
    package static func holds(_ condition: UInt16, _ result: UInt64, _ carry: UInt64) -> Bool {
        let positive: Bool
        switch condition >> 1 {
        case 0: positive = isOverflow(carry)
        case 1: positive = isCarry(carry)
        case 2: positive = result == 0
        case 3: positive = isCarry(carry) || result == 0
        case 4: positive = isSign(result, carry)
        case 5: positive = isParity(result, carry)
        case 6: positive = isSign(result, carry) != isOverflow(carry)
        default: positive = result == 0 || isSign(result, carry) != isOverflow(carry)
        }
        return positive != (condition & 1 != 0)
    }
}
