/// A double-extended number taken apart: (-1)^sign * significand * 2^(exponent - 63) (SDM volume 1, 4.2.2, 8.2.2).
struct ExtendedFloat {
    enum Kind { case zero, denormal, normal, infinity, quietNaN, signalingNaN, unsupported }
    var kind: Kind
    var sign: Bool
    /// The number in the x87's format.
    var bits: Float80Bits
    /// Unbiased; of `.denormal` and `.normal` only.
    var exponent = 0
    /// Bit 63 is set, denormals are normalised; of `.denormal` and `.normal` only.
    var significand: UInt64 = 0

    static let bias = 16383
    static let maxExponent = 16383
    static let minExponent = -16382
    /// What an unmasked overflow or underflow takes off or adds to the exponent (SDM volume 1, 8.5.4).
    static let wrap = 24576

    init(_ bits: Float80Bits) {
        self.bits = bits
        sign = bits.signExponent & 0x8000 != 0
        let field = Int(bits.signExponent & 0x7FFF)
        let hasIntegerBit = bits.significand >> 63 != 0
        if field == 0 {
            if bits.significand == 0 {
                kind = .zero
            } else {
                kind = .denormal
                let shift = bits.significand.leadingZeroBitCount
                exponent = Self.minExponent - shift
                significand = bits.significand &<< UInt64(shift)
            }
        } else if !hasIntegerBit {
            kind = .unsupported
        } else if field == 0x7FFF {
            let fraction = bits.significand &<< 1
            kind = fraction == 0 ? .infinity : fraction >> 63 != 0 ? .quietNaN : .signalingNaN
        } else {
            kind = .normal
            exponent = field - Self.bias
            significand = bits.significand
        }
    }

    var isNaN: Bool { kind == .quietNaN || kind == .signalingNaN }
    var isFinite: Bool { kind == .normal || kind == .denormal }
    var isInvalid: Bool { kind == .signalingNaN || kind == .unsupported }
}

extension Float80Bits {
    /// The real indefinite: a negative quiet NaN without payload.
    static let indefinite = Float80Bits(significand: 3 << 62, signExponent: 0xFFFF)
    static let one = Float80Bits(significand: 1 << 63, signExponent: 0x3FFF)

    static func zero(_ sign: Bool) -> Float80Bits { Float80Bits(significand: 0, signExponent: sign ? 0x8000 : 0) }
    static func infinity(_ sign: Bool) -> Float80Bits {
        Float80Bits(significand: 1 << 63, signExponent: sign ? 0xFFFF : 0x7FFF)
    }
    /// The NaN, made quiet.
    var quieted: Float80Bits { Float80Bits(significand: significand | 1 << 62, signExponent: signExponent) }
    var sign: Bool { signExponent & 0x8000 != 0 }
    var negated: Float80Bits { Float80Bits(significand: significand, signExponent: signExponent ^ 0x8000) }
}

/// A rounded number: significand with the integer bit at 63, clear when it is denormal.
struct RoundedFloat {
    var exponent: Int
    var significand: UInt64
    var isInfinite = false
}

extension RoundedFloat {
    /// Rounds (-1)^sign * significand * 2^(exponent - 127) to `precision` bits within an exponent range, and raises
    /// overflow, underflow and precision. Bit 127 of the significand is set; bit 0 stands for all lower bits, too.
    /// - Parameter wrap: what an unmasked overflow or underflow changes the exponent by; 0 when such a result is dropped.
    init(
        sign: Bool, exponent: Int, significand: UInt128, precision: Int, range: ClosedRange<Int>, wrap: Int,
        _ c: inout X87Context
    ) {
        let drop = UInt128(128 - precision)
        let mask: UInt128 = (1 << drop) - 1
        let half: UInt128 = 1 << (drop - 1)
        let left = UInt64(64 - precision)

        var kept = significand >> drop
        let lost = significand & mask
        let up = c.roundsUp(kept: kept, lost: lost, half: half, sign: sign)
        if up { kept += 1 }
        var result = exponent
        if kept >> UInt128(precision) != 0 {
            kept >>= 1
            result += 1
        }
        self.exponent = result
        self.significand = UInt64(truncatingIfNeeded: kept) << left
        if result > range.upperBound {
            c.flags |= FloatFlags.overflow
            if !c.isMasked(FloatFlags.overflow) {
                self.exponent = result - wrap
                if lost != 0 { c.flags |= FloatFlags.precision }
                c.isRoundedUp = up
                return
            }
            c.flags |= FloatFlags.precision
            let isInfinite =
                switch c.rounding {
                case 0: true
                case 1: sign
                case 2: !sign
                default: false
                }
            c.isRoundedUp = isInfinite
            self.isInfinite = isInfinite
            self.exponent = isInfinite ? range.upperBound + 1 : range.upperBound
            self.significand = isInfinite ? 1 << 63 : UInt64.max << left
            return
        }
        if result >= range.lowerBound, exponent >= range.lowerBound {
            if lost != 0 { c.flags |= FloatFlags.precision }
            c.isRoundedUp = up
            return
        }
        // Tiny means so after rounding with an unbounded exponent.
        let isTiny = result < range.lowerBound
        if isTiny, !c.isMasked(FloatFlags.underflow) {
            c.flags |= FloatFlags.underflow
            self.exponent = result + wrap
            if lost != 0 { c.flags |= FloatFlags.precision }
            c.isRoundedUp = up
            return
        }
        let shift = range.lowerBound - exponent
        let shifted: UInt128 =
            shift >= 128 ? 1 : significand >> UInt128(shift) | (significand << UInt128(128 - shift) == 0 ? 0 : 1)
        var low = shifted >> drop
        let rest = shifted & mask
        let lowUp = c.roundsUp(kept: low, lost: rest, half: half, sign: sign)
        if lowUp { low += 1 }
        if rest != 0 { c.flags |= isTiny ? FloatFlags.underflow | FloatFlags.precision : FloatFlags.precision }
        c.isRoundedUp = lowUp
        self.exponent = range.lowerBound
        // Rounding up may reach the least normal number: its integer bit is set by itself.
        self.significand = UInt64(truncatingIfNeeded: low) << left
    }
}

extension Float80Bits {
    /// As `RoundedFloat.init`, to double-extended format.
    static func rounded(
        sign: Bool, exponent: Int, significand: UInt128, precision: Int = 64, _ c: inout X87Context
    ) -> Float80Bits {
        let r = RoundedFloat(
            sign: sign, exponent: exponent, significand: significand, precision: precision,
            range: ExtendedFloat.minExponent...ExtendedFloat.maxExponent, wrap: ExtendedFloat.wrap, &c)
        let field = r.significand >> 63 == 0 ? 0 : UInt16(truncatingIfNeeded: r.exponent + ExtendedFloat.bias) & 0x7FFF
        return Float80Bits(significand: r.significand, signExponent: field | (sign ? 0x8000 : 0))
    }

    /// An invalid operation: the real indefinite.
    static func invalid(_ c: inout X87Context) -> Float80Bits {
        c.flags |= FloatFlags.invalid
        return .indefinite
    }
}
