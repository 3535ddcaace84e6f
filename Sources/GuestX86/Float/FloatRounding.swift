/// Rounding and packing of results, common to both binary formats.
extension FloatFormat {
    /// `value` shifted right by `count` >= 0, with the lost bits ORed into bit 0.
    @inline(__always)
    static func shiftRightJamming(_ value: UInt64, _ count: Int) -> UInt64 {
        if count <= 0 { return value }
        if count >= 64 { return value == 0 ? 0 : 1 }
        return value &>> UInt64(count) | (value &<< UInt64(64 &- count) == 0 ? 0 : 1)
    }

    /// `significand` without its low `drop` bits (1...63), rounded by x86's RC. May be one bit longer than before.
    @inline(__always)
    static func round(
        _ significand: UInt64, drop: Int, sign: Bool, rounding: UInt8
    ) -> (value: UInt64, isInexact: Bool) {
        let kept = significand &>> UInt64(drop)
        let lost = significand &<< UInt64(64 &- drop)
        let half: UInt64 = 1 << 63
        let up =
            switch rounding & 3 {
            case 0: lost > half || lost == half && kept & 1 != 0
            case 1: sign && lost != 0
            case 2: !sign && lost != 0
            default: false
            }
        return (up ? kept &+ 1 : kept, lost != 0)
    }

    /// Rounds (-1)^sign * significand * 2^(exponent - 63) to this format and raises overflow, underflow and precision
    /// (SDM volume 1, 4.9.1.4 to 4.9.1.6). Bit 63 of the significand is set; bit 0 stands for all lower bits, too.
    func roundAndPack(sign: Bool, exponent: Int, significand: UInt64, _ context: inout FloatContext) -> UInt64 {
        let signBits = sign ? signBit : 0
        let drop = 63 &- fractionBits
        var biased = exponent &+ bias
        var (value, isInexact) = Self.round(significand, drop: drop, sign: sign, rounding: context.rounding)
        if value > 2 &* fractionMask &+ 1 {
            value &>>= 1
            biased &+= 1
        }
        if biased >= maxExponent {
            context.flags |= FloatFlags.overflow
            if isInexact || context.overflowMasked { context.flags |= FloatFlags.precision }
            let isInfinite =
                switch context.rounding & 3 {
                case 0: true
                case 1: sign
                case 2: !sign
                default: false
                }
            return signBits | (isInfinite ? infinity : infinity &- 1)
        }
        if biased > 0 && exponent &+ bias > 0 {
            if isInexact { context.flags |= FloatFlags.precision }
            return signBits | pack(exponent: biased, fraction: value & fractionMask)
        }
        // Below the normal range. Tiny means so after rounding with an unbounded exponent.
        let isTiny = biased <= 0
        if isTiny, context.flushToZero, context.underflowMasked {
            context.flags |= FloatFlags.underflow | FloatFlags.precision
            return signBits
        }
        let denormalised = Self.shiftRightJamming(significand, 1 &- exponent &- bias)
        let denormal = Self.round(denormalised, drop: drop, sign: sign, rounding: context.rounding)
        if isTiny, !context.underflowMasked {
            // The trap handler would get the result with a scaled exponent: its rounding decides about precision.
            context.flags |= FloatFlags.underflow
            if isInexact { context.flags |= FloatFlags.precision }
        } else if denormal.isInexact {
            context.flags |= isTiny ? FloatFlags.underflow | FloatFlags.precision : FloatFlags.precision
        }
        // Rounding up to the least normal number carries into the exponent field by itself.
        return signBits | denormal.value
    }
}
