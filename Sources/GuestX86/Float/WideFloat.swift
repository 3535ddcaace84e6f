/// A number with 128 significant bits, for the transcendental instructions: (-1)^sign * significand * 2^(exponent - 127).
///
/// Deterministic on every host, and precise enough that rounding to 64 bits errs by hardly more than half a unit.
struct WideFloat {
    var sign: Bool
    var exponent: Int
    /// Bit 127 is set, but for zero.
    var significand: UInt128

    static let zero = WideFloat(sign: false, exponent: 0, significand: 0)

    init(sign: Bool, exponent: Int, significand: UInt128) {
        self.sign = sign
        self.exponent = exponent
        self.significand = significand
    }
    /// A finite number.
    init(_ x: ExtendedFloat) {
        self.init(sign: x.sign, exponent: x.exponent, significand: x.kind == .zero ? 0 : UInt128(x.significand) << 64)
    }
    /// (-1)^sign * value * 2^(exponent - 127), with leading zeros.
    init(sign: Bool, exponent: Int, unnormalised value: UInt128) {
        let shift = value == 0 ? 0 : value.leadingZeroBitCount
        self.init(sign: sign, exponent: value == 0 ? 0 : exponent - shift, significand: value << UInt128(shift))
    }
    init(_ value: Int) {
        self.init(sign: value < 0, exponent: 127, unnormalised: UInt128(value.magnitude))
    }

    var negated: WideFloat { WideFloat(sign: !sign, exponent: exponent, significand: significand) }
    var magnitude: WideFloat { WideFloat(sign: false, exponent: exponent, significand: significand) }

    static func * (a: WideFloat, b: WideFloat) -> WideFloat {
        if a.significand == 0 || b.significand == 0 { return .zero }
        let product = a.significand.multipliedFullWidth(by: b.significand)
        let isLong = product.high >> 127 != 0
        return WideFloat(
            sign: a.sign != b.sign, exponent: a.exponent + b.exponent + (isLong ? 1 : 0),
            significand: isLong ? product.high : product.high << 1 | UInt128(truncatingIfNeeded: product.low >> 127))
    }

    static func / (a: WideFloat, b: WideFloat) -> WideFloat {
        if a.significand == 0 { return .zero }
        let quotient = b.significand.dividingFullWidth((a.significand >> 1, a.significand << 127)).quotient
        return WideFloat(sign: a.sign != b.sign, exponent: a.exponent - b.exponent, unnormalised: quotient)
    }

    static func + (a: WideFloat, b: WideFloat) -> WideFloat {
        if a.significand == 0 { return b }
        if b.significand == 0 { return a }
        let isOrdered = (a.exponent, a.significand) >= (b.exponent, b.significand)
        let (large, small) = isOrdered ? (a, b) : (b, a)
        let distance = large.exponent - small.exponent + 1
        let low = distance >= 128 ? 0 : small.significand >> UInt128(distance)
        let high = large.significand >> 1
        return WideFloat(
            sign: large.sign, exponent: large.exponent + 1,
            unnormalised: large.sign == small.sign ? high + low : high - low)
    }

    static func - (a: WideFloat, b: WideFloat) -> WideFloat { a + b.negated }

    /// As a fraction of 2^128, for magnitudes below 1.
    var fraction: UInt128 {
        let shift = -1 - exponent
        return significand == 0 || shift >= 128 ? 0 : significand >> UInt128(shift)
    }

    /// Rounded to double-extended. The result is never exact: something below the last bit is taken to be there.
    func rounded(_ c: inout X87Context) -> Float80Bits {
        if significand == 0 { return .zero(sign) }
        return .rounded(sign: sign, exponent: exponent, significand: significand | 1, &c)
    }
}
