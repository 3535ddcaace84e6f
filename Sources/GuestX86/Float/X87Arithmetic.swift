/// Double-extended arithmetic in integers, with the x87's results and exceptions (SDM volume 1, 4.8, 4.9, 8.5).
enum X87Arithmetic {
    typealias Context = X87Context

    /// The result when an operand is a NaN or has an unsupported format, else nil (SDM volume 1, table 4-7, x87 column).
    static func special(_ x: ExtendedFloat, _ y: ExtendedFloat, _ c: inout Context) -> Float80Bits? {
        if x.kind == .unsupported || y.kind == .unsupported { return .invalid(&c) }
        if !x.isNaN, !y.isNaN { return nil }
        if x.isInvalid || y.isInvalid { c.flags |= FloatFlags.invalid }
        if !y.isNaN { return x.bits.quieted }
        if !x.isNaN { return y.bits.quieted }
        // Of a signalling and a quiet NaN the quiet one; else the larger significand, else the positive one.
        if x.kind == .signalingNaN, y.kind == .quietNaN { return y.bits }
        if y.kind == .signalingNaN, x.kind == .quietNaN { return x.bits }
        let a = x.bits
        let b = y.bits
        if a.significand != b.significand { return (a.significand > b.significand ? a : b).quieted }
        return (a.signExponent < b.signExponent ? a : b).quieted
    }

    /// The same for one operand.
    static func special(_ x: ExtendedFloat, _ c: inout Context) -> Float80Bits? {
        switch x.kind {
        case .unsupported: return .invalid(&c)
        case .signalingNaN:
            c.flags |= FloatFlags.invalid
            return x.bits.quieted
        case .quietNaN: return x.bits
        default: return nil
        }
    }

    @inline(__always)
    static func noteDenormals(_ x: ExtendedFloat, _ y: ExtendedFloat, _ c: inout Context) {
        if x.kind == .denormal || y.kind == .denormal { c.flags |= FloatFlags.denormal }
    }
    @inline(__always)
    static func noteDenormal(_ x: ExtendedFloat, _ c: inout Context) {
        if x.kind == .denormal { c.flags |= FloatFlags.denormal }
    }

    static func add(_ x: ExtendedFloat, _ y: ExtendedFloat, subtract: Bool, _ c: inout Context) -> Float80Bits {
        if let result = special(x, y, &c) { return result }
        var x = x
        var y = y
        if subtract { y.sign.toggle() }
        if x.kind == .infinity, y.kind == .infinity, x.sign != y.sign { return .invalid(&c) }
        noteDenormals(x, y, &c)
        if x.kind == .infinity || y.kind == .infinity { return .infinity(x.kind == .infinity ? x.sign : y.sign) }
        if x.kind == .zero, y.kind == .zero { return .zero(x.sign == y.sign ? x.sign : c.rounding == 1) }
        if x.kind == .zero { swap(&x, &y) }
        if y.kind == .zero {
            return .rounded(
                sign: x.sign, exponent: x.exponent, significand: UInt128(x.significand) << 64, precision: c.precision,
                &c)
        }
        if (x.exponent, x.significand) < (y.exponent, y.significand) { swap(&x, &y) }
        // One bit for the carry; 63 are left below the last one.
        let large = UInt128(x.significand) << 63
        let distance = x.exponent - y.exponent
        let full = UInt128(y.significand) << 63
        let small: UInt128 =
            distance == 0 ? full
            : distance >= 128 ? 1 : full >> UInt128(distance) | (full << UInt128(128 - distance) == 0 ? 0 : 1)
        let sum = x.sign == y.sign ? large + small : large - small
        if sum == 0 { return .zero(c.rounding == 1) }
        let shift = sum.leadingZeroBitCount
        return .rounded(
            sign: x.sign, exponent: x.exponent + 1 - shift, significand: sum << UInt128(shift), precision: c.precision,
            &c)
    }

    static func multiply(_ x: ExtendedFloat, _ y: ExtendedFloat, _ c: inout Context) -> Float80Bits {
        if let result = special(x, y, &c) { return result }
        let isInfinite = x.kind == .infinity || y.kind == .infinity
        let isZero = x.kind == .zero || y.kind == .zero
        if isInfinite, isZero { return .invalid(&c) }
        noteDenormals(x, y, &c)
        let sign = x.sign != y.sign
        if isInfinite { return .infinity(sign) }
        if isZero { return .zero(sign) }
        let product = UInt128(x.significand) * UInt128(y.significand)
        let shift = product.leadingZeroBitCount
        return .rounded(
            sign: sign, exponent: x.exponent + y.exponent + 1 - shift, significand: product << UInt128(shift),
            precision: c.precision, &c)
    }

    static func divide(_ x: ExtendedFloat, _ y: ExtendedFloat, _ c: inout Context) -> Float80Bits {
        if let result = special(x, y, &c) { return result }
        if x.kind == y.kind, x.kind == .infinity || x.kind == .zero { return .invalid(&c) }
        let sign = x.sign != y.sign
        if y.kind == .zero, x.isFinite {
            // Takes precedence over a denormal dividend.
            c.flags |= FloatFlags.zeroDivide
            return .infinity(sign)
        }
        noteDenormals(x, y, &c)
        if x.kind == .infinity { return .infinity(sign) }
        if x.kind == .zero || y.kind == .infinity { return .zero(sign) }
        // The dividend's half is less than the divisor.
        let (high, rest) = y.significand.dividingFullWidth((x.significand >> 1, x.significand << 63))
        let (low, last) = y.significand.dividingFullWidth((rest, 0))
        let quotient = UInt128(high) << 64 | UInt128(low) | (last == 0 ? 0 : 1)
        let shift = quotient.leadingZeroBitCount
        return .rounded(
            sign: sign, exponent: x.exponent - y.exponent - shift, significand: quotient << UInt128(shift),
            precision: c.precision, &c)
    }

    static func squareRoot(_ x: ExtendedFloat, _ c: inout Context) -> Float80Bits {
        if let result = special(x, &c) { return result }
        if x.kind == .zero { return x.bits }
        if x.sign { return .invalid(&c) }
        noteDenormal(x, &c)
        if x.kind == .infinity { return x.bits }
        // An even power of two is taken out: the radicand is 2^126 ... 2^128 - 1, its root has 64 bits.
        let isOdd = x.exponent & 1 != 0
        let radicand = UInt128(x.significand) << (isOdd ? 64 : 63)
        let root = integerRoot(radicand)
        let rest = radicand - UInt128(root) * UInt128(root)
        // (root + 1/2)^2 = root^2 + root + 1/4: what is left tells on which side of the half it is.
        let below: UInt128 = rest == 0 ? 0 : rest > UInt128(root) ? 3 << 62 : 1 << 62
        return .rounded(
            sign: false, exponent: (x.exponent - (isOdd ? 1 : 0)) >> 1, significand: UInt128(root) << 64 | below,
            precision: c.precision, &c)
    }

    /// The root of `value` >= 2^126, rounded down.
    private static func integerRoot(_ value: UInt128) -> UInt64 {
        let high = UInt64(truncatingIfNeeded: value >> 64)
        // 52 bits or so from the host; one step of Newton's doubles them.
        let guess = Double(high).squareRoot() * 4294967296
        var root = guess >= 18446744073709549568 ? UInt64.max : UInt64(guess)
        // A root below the true one would make the quotient overflow.
        root = root.addingReportingOverflow(1 << 12).overflow ? .max : root + 1 << 12
        if high < root {
            let quotient = root.dividingFullWidth((high, UInt64(truncatingIfNeeded: value))).quotient
            root = UInt64(truncatingIfNeeded: (UInt128(root) + UInt128(quotient)) >> 1)
        }
        while UInt128(root) * UInt128(root) > value { root -= 1 }
        while root < .max, UInt128(root + 1) * UInt128(root + 1) <= value { root += 1 }
        return root
    }

    // MARK: Comparison

    /// FCOM, or FUCOM when only signalling NaNs are invalid.
    static func compare(_ x: ExtendedFloat, _ y: ExtendedFloat, isQuiet: Bool, _ c: inout Context) -> FloatOrder {
        if x.kind == .unsupported || y.kind == .unsupported || x.isNaN || y.isNaN {
            if !isQuiet || x.isInvalid || y.isInvalid { c.flags |= FloatFlags.invalid }
            return .unordered
        }
        noteDenormals(x, y, &c)
        let order = magnitudeKey(x, y)
        return order < 0 ? .less : order > 0 ? .greater : .equal
    }

    /// Sign of x - y.
    private static func magnitudeKey(_ x: ExtendedFloat, _ y: ExtendedFloat) -> Int {
        func rank(_ v: ExtendedFloat) -> (Int, UInt64) {
            switch v.kind {
            case .zero: (-100_000, 0)
            case .infinity: (100_000, 0)
            default: (v.exponent, v.significand)
            }
        }
        if x.kind == .zero, y.kind == .zero { return 0 }
        let (a, b) = (rank(x), rank(y))
        if x.sign != y.sign { return x.sign ? -1 : 1 }
        if a == b { return 0 }
        return (a < b) != x.sign ? -1 : 1
    }

    // MARK: Integral values, scaling, remainder

    /// FRNDINT.
    static func roundToIntegral(_ x: ExtendedFloat, _ c: inout Context) -> Float80Bits {
        if let result = special(x, &c) { return result }
        if !x.isFinite { return x.bits }
        noteDenormal(x, &c)
        if x.exponent >= 63 { return x.bits }
        let magnitude = integral(x, &c)
        if magnitude == 0 { return .zero(x.sign) }
        let shift = magnitude.leadingZeroBitCount
        return Float80Bits(
            significand: UInt64(truncatingIfNeeded: (magnitude << UInt128(shift)) >> 64),
            signExponent: UInt16(truncatingIfNeeded: ExtendedFloat.bias + 127 - shift) | (x.sign ? 0x8000 : 0))
    }

    /// A finite number's magnitude as an integer, rounded by RC; raises precision. The exponent is at most 126.
    static func integral(_ x: ExtendedFloat, _ c: inout Context) -> UInt128 {
        let full = UInt128(x.significand) << 63
        var kept: UInt128 = 0
        var lost: UInt128
        var half: UInt128
        // `full` has its leading bit, of weight 2^exponent, at 126.
        if x.exponent >= 0 {
            let drop = UInt128(126 - x.exponent)
            kept = full >> drop
            lost = full & ((1 << drop) - 1)
            half = drop == 0 ? 0 : 1 << (drop - 1)
        } else {
            half = 1 << 126
            lost = x.exponent == -1 ? full : 1
        }
        if lost == 0 { return kept }
        c.flags |= FloatFlags.precision
        c.isRoundedUp = c.roundsUp(kept: kept, lost: lost, half: half, sign: x.sign)
        if c.isRoundedUp { kept += 1 }
        return kept
    }

    /// FSCALE: a * 2^trunc(b).
    static func scale(_ x: ExtendedFloat, by y: ExtendedFloat, _ c: inout Context) -> Float80Bits {
        if let result = special(x, y, &c) { return result }
        if y.kind == .infinity {
            if y.sign ? x.kind == .infinity : x.kind == .zero { return .invalid(&c) }
            noteDenormal(x, &c)
            return y.sign ? .zero(x.sign) : .infinity(x.sign)
        }
        noteDenormals(x, y, &c)
        if !x.isFinite || y.kind == .zero {
            guard x.kind == .denormal else { return x.bits }
            return .rounded(
                sign: x.sign, exponent: x.exponent, significand: UInt128(x.significand) << 64, &c)
        }
        var count = 0
        if y.exponent >= 0 {
            // More than 2^16 overflows or underflows as surely as 2^17 does, by more than the wrapped exponent holds.
            count = y.exponent > 16 ? 1 << 17 : Int(y.significand >> UInt64(63 - y.exponent))
        }
        let exponent = x.exponent + (y.sign ? -count : count)
        let isBeyond = abs(exponent) > ExtendedFloat.maxExponent + ExtendedFloat.wrap
        if isBeyond, exponent > 0, !c.isMasked(FloatFlags.overflow) {
            c.flags |= FloatFlags.overflow | FloatFlags.precision
            c.isRoundedUp = true
            return .infinity(x.sign)
        }
        if isBeyond, exponent < 0, !c.isMasked(FloatFlags.underflow) {
            c.flags |= FloatFlags.underflow | FloatFlags.precision
            return .zero(x.sign)
        }
        return .rounded(sign: x.sign, exponent: exponent, significand: UInt128(x.significand) << 64, &c)
    }

    /// FXTRACT: exponent and significand.
    static func extract(_ x: ExtendedFloat, _ c: inout Context) -> (exponent: Float80Bits, significand: Float80Bits) {
        if let result = special(x, &c) { return (result, result) }
        switch x.kind {
        case .zero:
            c.flags |= FloatFlags.zeroDivide
            return (.infinity(true), x.bits)
        case .infinity: return (.infinity(false), x.bits)
        default:
            noteDenormal(x, &c)
            let significand = Float80Bits(
                significand: x.significand, signExponent: UInt16(ExtendedFloat.bias) | (x.sign ? 0x8000 : 0))
            return (X87Conversion.fromInteger(Int64(x.exponent)), significand)
        }
    }

    /// What a remainder instruction leaves.
    struct Remainder {
        var value: Float80Bits
        /// The quotient's low bits; nil when there is none.
        var quotient: UInt64?
        /// C2: the reduction is not complete.
        var isPartial = false
    }

    /// FPREM (the quotient is truncated), FPREM1 (it is rounded to nearest).
    static func remainder(
        _ x: ExtendedFloat, _ y: ExtendedFloat, isNearest: Bool, _ c: inout Context
    ) -> Remainder {
        if let result = special(x, y, &c) { return Remainder(value: result) }
        if x.kind == .infinity || y.kind == .zero { return Remainder(value: .invalid(&c)) }
        noteDenormals(x, y, &c)
        if x.kind == .zero { return Remainder(value: x.bits, quotient: 0) }
        let distance = x.exponent - (y.kind == .infinity ? 100_000 : y.exponent)
        if distance < (isNearest ? -1 : 0) {
            let value =
                x.kind == .denormal
                ? Float80Bits.rounded(
                    sign: x.sign, exponent: x.exponent, significand: UInt128(x.significand) << 64, &c) : x.bits
            return Remainder(value: value, quotient: 0)
        }
        if distance == -1 {
            // Less than the divisor: the nearest multiple is 0 or 1.
            if x.significand <= y.significand {
                return Remainder(value: finish(x.sign, UInt128(x.significand), x.exponent, &c), quotient: 0)
            }
            let rest = (UInt128(y.significand) << 1) - UInt128(x.significand)
            return Remainder(value: finish(!x.sign, rest, x.exponent, &c), quotient: 1)
        }
        let isPartial = distance >= 64
        // 32 to 63 bits at once when there are more.
        let bits = isPartial ? (distance & 31) | 32 : distance
        var quotient: UInt64 = 0
        var rest = x.significand
        if rest >= y.significand {
            rest -= y.significand
            quotient = 1
        }
        if bits > 0 {
            quotient &<<= UInt64(bits)
            let division = y.significand.dividingFullWidth((rest >> UInt64(64 - bits), rest << UInt64(bits)))
            quotient |= division.quotient
            rest = division.remainder
        }
        if isPartial {
            return Remainder(
                value: finish(x.sign, UInt128(rest), x.exponent - bits, &c), quotient: quotient, isPartial: true)
        }
        var sign = x.sign
        if isNearest {
            let twice = UInt128(rest) << 1
            if twice > UInt128(y.significand) || (twice == UInt128(y.significand) && quotient & 1 != 0) {
                rest = y.significand - rest
                quotient &+= 1
                sign.toggle()
            }
        }
        if rest == 0 { return Remainder(value: .zero(x.sign), quotient: quotient) }
        return Remainder(value: finish(sign, UInt128(rest), y.exponent, &c), quotient: quotient)
    }

    /// `rest` * 2^(exponent - 63), which is exact.
    private static func finish(_ sign: Bool, _ rest: UInt128, _ exponent: Int, _ c: inout Context) -> Float80Bits {
        if rest == 0 { return .zero(sign) }
        let shift = rest.leadingZeroBitCount
        return .rounded(
            sign: sign, exponent: exponent + 64 - shift, significand: rest << UInt128(shift), &c)
    }
}
