/// FSIN and its kin, computed alike on every host (SDM volume 1, 8.3.6 to 8.3.8).
///
/// Series in 128-bit fixed point, on arguments reduced so far that few terms do. Processors differ among themselves by a
/// unit in the last place; here the error is little more than half a unit.
enum X87Transcendental {
    typealias Context = X87Context

    // MARK: Constants, 128 significant bits

    private static let ln2 = WideFloat(
        sign: false, exponent: -1, significand: 0xB172_17F7_D1CF_79AB_C9E3_B398_03F2_F6AF)
    private static let log2e = WideFloat(
        sign: false, exponent: 0, significand: 0xB8AA_3B29_5C17_F0BB_BE87_FED0_691D_3E88)
    private static let pi = WideFloat(
        sign: false, exponent: 1, significand: 0xC90F_DAA2_2168_C234_C4C6_628B_80DC_1CD1)
    /// π/2 in units of 2^-65: the 66 bits with which processors reduce arguments (SDM volume 1, 8.3.8).
    private static let halfPi66: UInt128 = 0x3_243F_6A88_85A3_08D3

    // MARK: Series

    /// High half of the product of two fractions of 2^128.
    @inline(__always)
    private static func product(_ a: UInt128, _ b: UInt128) -> UInt128 { a.multipliedFullWidth(by: b).high }

    /// 1 / `n` as a fraction of 2^128.
    @inline(__always) private static func reciprocal(_ n: Int) -> UInt128 { UInt128.max / UInt128(n) }

    /// 1 + t/3 + t^2/5 + … (alternating: 1 - t/3 + …) as a number; `t` is a fraction of 2^128 below 0.18.
    private static func oddReciprocals(_ t: UInt128, isAlternating: Bool) -> WideFloat {
        // Terms fall by t each: as many as 2^-128 needs.
        var count = 1
        var size = t
        while size >> 40 != 0, count < 60 {
            size = product(size, t)
            count += 1
        }
        var sum: UInt128 = 0
        for k in stride(from: count + 1, through: 1, by: -1) {
            let next = reciprocal(2 * k + 1)
            sum = product(isAlternating ? next - sum : next + sum, t)
        }
        return isAlternating ? WideFloat(1) - fixed(sum) : WideFloat(1) + fixed(sum)
    }

    private static func fixed(_ fraction: UInt128) -> WideFloat {
        WideFloat(sign: false, exponent: -1, unnormalised: fraction)
    }

    /// Sum of (-t)^k / ((first + 2) (first + 3) … ) for FSIN (`first` = 1: 1 - t/6 + …) and FCOS (0: 1 - t/2 + …).
    private static func trigonometric(_ t: UInt128, first: Int) -> WideFloat {
        var sum: UInt128 = 0
        for k in stride(from: 16, through: 1, by: -1) {
            let n = 2 * k + first
            // 1/(n (n-1)) * t * (1 - sum)
            let term = product(t, reciprocal(n * (n - 1)))
            sum = term - product(term, sum)
        }
        return WideFloat(1) - fixed(sum)
    }

    // MARK: Exponential

    /// F2XM1: 2^a - 1 for |a| <= 1. Beyond, where the manual leaves the result undefined, `a` itself.
    static func exponential(_ a: Float80Bits, _ c: inout Context) -> Float80Bits {
        if let result = X87Arithmetic.special(ExtendedFloat(a), &c) { return result }
        let x = ExtendedFloat(a)
        if x.kind == .infinity { return x.sign ? Float80Bits.one.negated : a }
        if x.kind == .zero { return a }
        X87Arithmetic.noteDenormal(x, &c)
        if x.exponent >= 0 {
            if x.exponent > 0 || x.significand != 1 << 63 { return a }
            // 2^1 - 1, 2^-1 - 1.
            return x.sign ? Float80Bits(significand: 1 << 63, signExponent: 0xBFFE) : a
        }
        return exponentialMinus1(WideFloat(x) * ln2).rounded(&c)
    }

    /// e^y - 1 for |y| < 0.7.
    private static func exponentialMinus1(_ y: WideFloat) -> WideFloat {
        // y (1 + y/2 (1 + y/3 (1 + …)))
        let magnitude = y.magnitude.fraction
        var sum: UInt128 = 0
        for n in stride(from: y.exponent < -20 ? 8 : 34, through: 2, by: -1) {
            let term = product(magnitude, reciprocal(n))
            sum = y.sign ? term - product(term, sum) : term + product(term, sum)
        }
        return y * (y.sign ? WideFloat(1) - fixed(sum) : WideFloat(1) + fixed(sum))
    }

    // MARK: Logarithms

    /// log2 of a positive finite number.
    private static func logarithm(_ x: ExtendedFloat) -> WideFloat {
        // x = m * 2^e with m in [0.70, 1.41).
        let isUpper = x.significand > 0xB504_F333_F9DE_6484
        let exponent = x.exponent + (isUpper ? 1 : 0)
        let m = WideFloat(sign: false, exponent: isUpper ? -1 : 0, significand: UInt128(x.significand) << 64)
        return WideFloat(exponent) + logarithm(of1Plus: m - WideFloat(1))
    }

    /// log2(1 + z).
    private static func logarithm(of1Plus z: WideFloat) -> WideFloat {
        if z.significand == 0 { return .zero }
        // ln(1 + z) = 2 artanh(z / (2 + z))
        let s = z / (WideFloat(2) + z)
        let series = oddReciprocals((s * s).fraction, isAlternating: false)
        var result = s * series * log2e
        result.exponent += 1
        return result
    }

    /// FYL2X: y * log2(x).
    static func yLog2(_ xBits: Float80Bits, _ yBits: Float80Bits, _ c: inout Context) -> Float80Bits {
        if let result = X87Arithmetic.special(ExtendedFloat(yBits), ExtendedFloat(xBits), &c) { return result }
        let x = ExtendedFloat(xBits)
        let y = ExtendedFloat(yBits)
        if x.kind != .zero, x.sign { return .invalid(&c) }
        switch x.kind {
        case .infinity:
            if y.kind == .zero { return .invalid(&c) }
            X87Arithmetic.noteDenormal(y, &c)
            return .infinity(y.sign)
        case .zero:
            if y.kind == .zero { return .invalid(&c) }
            if y.kind == .infinity { return .infinity(!y.sign) }
            c.flags |= FloatFlags.zeroDivide
            return .infinity(!y.sign)
        default: break
        }
        let isOne = x.exponent == 0 && x.significand == 1 << 63
        if y.kind == .infinity {
            if isOne { return .invalid(&c) }
            X87Arithmetic.noteDenormal(x, &c)
            return .infinity((x.exponent < 0) != y.sign)
        }
        X87Arithmetic.noteDenormals(x, y, &c)
        if isOne { return .zero(y.sign) }
        if y.kind == .zero { return .zero((x.exponent < 0) != y.sign) }
        if x.significand == 1 << 63 {
            // A power of two: exact but for the rounding of the product.
            let product = WideFloat(x.exponent) * WideFloat(y)
            return .rounded(sign: product.sign, exponent: product.exponent, significand: product.significand, &c)
        }
        return (logarithm(x) * WideFloat(y)).rounded(&c)
    }

    /// FYL2XP1: y * log2(1 + x).
    static func yLog2Plus1(_ xBits: Float80Bits, _ yBits: Float80Bits, _ c: inout Context) -> Float80Bits {
        if let result = X87Arithmetic.special(ExtendedFloat(yBits), ExtendedFloat(xBits), &c) { return result }
        let x = ExtendedFloat(xBits)
        let y = ExtendedFloat(yBits)
        if x.kind == .infinity {
            if x.sign || y.kind == .zero { return .invalid(&c) }
            X87Arithmetic.noteDenormal(y, &c)
            return .infinity(y.sign)
        }
        if y.kind == .infinity {
            if x.kind == .zero { return .invalid(&c) }
            X87Arithmetic.noteDenormal(x, &c)
            return .infinity(x.sign != y.sign)
        }
        // At and below -1 there is no logarithm.
        if x.sign, x.isFinite, x.exponent >= 0 { return .invalid(&c) }
        X87Arithmetic.noteDenormals(x, y, &c)
        if x.kind == .zero || y.kind == .zero { return .zero(x.sign != y.sign) }
        return (logarithm(of1Plus: WideFloat(x)) * WideFloat(y)).rounded(&c)
    }

    // MARK: Arctangent

    /// FPATAN: the angle of the point (x, y) (SDM volume 2, table 3-30).
    static func arctangent(_ xBits: Float80Bits, _ yBits: Float80Bits, _ c: inout Context) -> Float80Bits {
        if let result = X87Arithmetic.special(ExtendedFloat(yBits), ExtendedFloat(xBits), &c) { return result }
        let x = ExtendedFloat(xBits)
        let y = ExtendedFloat(yBits)
        X87Arithmetic.noteDenormals(x, y, &c)
        func angle(_ numerator: Int, _ shift: Int) -> Float80Bits {
            // numerator * π / 2^shift
            var result = WideFloat(numerator) * pi
            result.exponent -= shift
            result.sign = y.sign
            return result.rounded(&c)
        }
        if y.kind == .infinity { return x.kind == .infinity ? angle(x.sign ? 3 : 1, 2) : angle(1, 1) }
        if x.kind == .infinity || y.kind == .zero { return x.sign ? angle(1, 0) : .zero(y.sign) }
        if x.kind == .zero { return angle(1, 1) }
        let a = WideFloat(x).magnitude
        let b = WideFloat(y).magnitude
        var result = b.exponent > a.exponent + 70 ? half(pi) - a / b : arctangent(b, a)
        if x.sign { result = pi - result }
        result.sign = y.sign
        return result.rounded(&c)
    }

    private static func half(_ x: WideFloat) -> WideFloat {
        WideFloat(sign: x.sign, exponent: x.exponent - 1, significand: x.significand)
    }

    /// arctan(b / a) for positive a and b.
    private static func arctangent(_ b: WideFloat, _ a: WideFloat) -> WideFloat {
        if (b.exponent, b.significand) > (a.exponent, a.significand) { return half(pi) - arctangent(a, b) }
        var quotient = b / a
        var offset = WideFloat.zero
        // Above tan(π/8) by way of π/4: arctan(q) = π/4 + arctan((q - 1) / (q + 1)).
        if quotient.exponent >= -1 || (quotient.exponent == -2 && quotient.significand >> 120 > 0xD4) {
            offset = half(half(pi))
            quotient = (b - a) / (b + a)
        }
        let series = oddReciprocals((quotient * quotient).fraction, isAlternating: true)
        return offset + quotient * series
    }

    // MARK: Sine, cosine, tangent

    /// An angle reduced to [0, π/4] and what that takes.
    private struct Reduced {
        var angle: WideFloat
        /// Sine and cosine change places.
        var isSwapped = false
        var sineSign = false
        var cosineSign = false
    }

    private static func reduce(_ x: ExtendedFloat) -> Reduced {
        var result = Reduced(angle: WideFloat(x).magnitude)
        var quadrant: UInt128 = 0
        if x.exponent >= -2 {
            // In units of 2^-65, exactly.
            let value = UInt128(x.significand) << UInt128(x.exponent + 2)
            let division = value.quotientAndRemainder(dividingBy: halfPi66)
            quadrant = division.quotient & 3
            var rest = division.remainder
            if rest << 1 > halfPi66 {
                rest = halfPi66 - rest
                result.isSwapped = true
            }
            result.angle = WideFloat(sign: false, exponent: 62, unnormalised: rest)
        }
        // Within the quadrant the angle counts from its other end when swapped.
        if quadrant & 1 != 0 { result.isSwapped.toggle() }
        result.sineSign = (quadrant >= 2) != x.sign
        result.cosineSign = quadrant == 1 || quadrant == 2
        return result
    }

    /// Sine and cosine of a finite number below 2^63 that is not zero.
    private static func sineAndCosine(_ x: ExtendedFloat) -> (sine: WideFloat, cosine: WideFloat) {
        let reduced = reduce(x)
        let t = (reduced.angle * reduced.angle).fraction
        let sine = reduced.angle * trigonometric(t, first: 1)
        let cosine = trigonometric(t, first: 0)
        var result = reduced.isSwapped ? (sine: cosine, cosine: sine) : (sine: sine, cosine: cosine)
        result.sine.sign = reduced.sineSign
        result.cosine.sign = reduced.cosineSign
        return result
    }

    /// Results of FSIN, FCOS and FPTAN; `isOutOfRange`: C2, the operand is too large and stays.
    struct Trigonometric {
        var sine = Float80Bits.indefinite
        var cosine = Float80Bits.indefinite
        var tangent = Float80Bits.indefinite
        var isOutOfRange = false
    }

    /// What of `Trigonometric` is asked for: each raises its own exceptions.
    enum Wanted { case sine, cosine, both, tangent }

    static func trigonometric(_ a: Float80Bits, _ wanted: Wanted, _ c: inout Context) -> Trigonometric {
        if let result = X87Arithmetic.special(ExtendedFloat(a), &c) {
            return Trigonometric(sine: result, cosine: result, tangent: result)
        }
        let x = ExtendedFloat(a)
        switch x.kind {
        case .infinity:
            c.flags |= FloatFlags.invalid
            return Trigonometric()
        case .zero: return Trigonometric(sine: a, cosine: .one, tangent: a)
        default: break
        }
        if x.exponent >= 63 { return Trigonometric(isOutOfRange: true) }
        X87Arithmetic.noteDenormal(x, &c)
        let value = sineAndCosine(x)
        var result = Trigonometric()
        switch wanted {
        case .sine: result.sine = value.sine.rounded(&c)
        case .cosine: result.cosine = value.cosine.rounded(&c)
        case .both:
            result.cosine = value.cosine.rounded(&c)
            result.sine = value.sine.rounded(&c)
        case .tangent: result.tangent = (value.sine / value.cosine).rounded(&c)
        }
        return result
    }
}
