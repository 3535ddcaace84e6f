/// Conversions between double-extended numbers and the other formats in memory (SDM volume 1, 8.2).
enum X87Conversion {
    typealias Context = X87Context

    // MARK: To double-extended

    /// A number in memory, 4 bytes. Nothing is raised yet: a signalling NaN stays one, a denormal is marked.
    static func from32(_ bits: UInt32) -> ExtendedFloat { from(UInt64(bits), .binary32) }
    /// The same, 8 bytes.
    static func from64(_ bits: UInt64) -> ExtendedFloat { from(bits, .binary64) }

    @inline(__always)
    private static func from(_ bits: UInt64, _ format: FloatFormat) -> ExtendedFloat {
        let sign: UInt16 = bits & format.signBit != 0 ? 0x8000 : 0
        let fraction = bits & format.fractionMask
        let field = Int(format.magnitude(bits) >> UInt64(format.fractionBits))
        let aligned = fraction << UInt64(63 - format.fractionBits)
        if field == format.maxExponent {
            return ExtendedFloat(Float80Bits(significand: aligned | 1 << 63, signExponent: sign | 0x7FFF))
        }
        if field == 0 {
            if fraction == 0 { return ExtendedFloat(.zero(sign != 0)) }
            let shift = aligned.leadingZeroBitCount
            let exponent = ExtendedFloat.bias + 1 - format.bias - shift
            var result = ExtendedFloat(
                Float80Bits(
                    significand: aligned << UInt64(shift), signExponent: sign | UInt16(truncatingIfNeeded: exponent)))
            result.kind = .denormal
            return result
        }
        let exponent = field - format.bias + ExtendedFloat.bias
        return ExtendedFloat(
            Float80Bits(significand: aligned | 1 << 63, signExponent: sign | UInt16(truncatingIfNeeded: exponent)))
    }

    /// FLD: the number with what it raises.
    static func load(_ x: ExtendedFloat, _ c: inout Context) -> Float80Bits {
        X87Arithmetic.noteDenormal(x, &c)
        if x.kind != .signalingNaN { return x.bits }
        c.flags |= FloatFlags.invalid
        return x.bits.quieted
    }

    /// FILD: exact.
    static func fromInteger(_ value: Int64) -> Float80Bits {
        if value == 0 { return .zero(false) }
        let shift = value.magnitude.leadingZeroBitCount
        let exponent = UInt16(ExtendedFloat.bias + 63 - shift)
        return Float80Bits(
            significand: value.magnitude << UInt64(shift), signExponent: exponent | (value < 0 ? 0x8000 : 0))
    }

    /// FBLD: 18 decimal digits, the sign in bit 15 of `high`. Digits above 9 have no meaning; they count as they stand.
    static func fromDecimal(_ low: UInt64, _ high: UInt16) -> Float80Bits {
        var value: UInt64 = 0
        for digit in [1, 0] { value = value &* 10 &+ UInt64(high >> UInt16(digit * 4) & 0xF) }
        for digit in stride(from: 15, through: 0, by: -1) { value = value &* 10 &+ (low >> UInt64(digit * 4) & 0xF) }
        let isNegative = high & 0x8000 != 0
        if value == 0 { return .zero(isNegative) }
        let result = fromInteger(Int64(bitPattern: value))
        return isNegative ? result.negated : result
    }

    // MARK: From double-extended

    /// FST m32. `isDropped`: an unmasked overflow or underflow keeps the result from being stored.
    static func to32(_ a: Float80Bits, _ c: inout Context) -> UInt32 {
        UInt32(truncatingIfNeeded: to(a, .binary32, &c))
    }
    /// FST m64.
    static func to64(_ a: Float80Bits, _ c: inout Context) -> UInt64 { to(a, .binary64, &c) }

    @inline(__always)
    private static func to(_ a: Float80Bits, _ format: FloatFormat, _ c: inout Context) -> UInt64 {
        let x = ExtendedFloat(a)
        let sign = x.sign ? format.signBit : 0
        switch x.kind {
        case .zero: return sign
        case .infinity: return sign | format.infinity
        case .unsupported:
            c.flags |= FloatFlags.invalid
            return format.defaultNaN
        case .quietNaN, .signalingNaN:
            if x.kind == .signalingNaN { c.flags |= FloatFlags.invalid }
            let payload = (a.significand & (1 << 63 - 1)) >> UInt64(63 - format.fractionBits)
            return sign | format.infinity | format.quietBit | payload
        default:
            let r = RoundedFloat(
                sign: x.sign, exponent: x.exponent, significand: UInt128(x.significand) << 64,
                precision: format.fractionBits + 1, range: (1 - format.bias)...format.bias, wrap: 0, &c)
            if r.isInfinite { return sign | format.infinity }
            let fraction = (r.significand & (1 << 63 - 1)) >> UInt64(63 - format.fractionBits)
            let field = r.significand >> 63 == 0 ? 0 : r.exponent + format.bias
            return sign | format.pack(exponent: field & format.maxExponent, fraction: fraction)
        }
    }

    /// FIST and FISTTP to `bits` (16, 32 or 64) bits, sign-extended. What does not fit is invalid and gives the integer
    /// indefinite, the most negative number.
    static func toInteger(_ a: Float80Bits, bits: Int, _ c: inout Context) -> Int64 {
        let x = ExtendedFloat(a)
        let limit: UInt128 = 1 << UInt128(bits - 1)
        if x.kind == .zero { return 0 }
        if x.isFinite, x.exponent <= bits {
            var trial = c
            let magnitude = X87Arithmetic.integral(x, &trial)
            if magnitude < limit || (magnitude == limit && x.sign) {
                c = trial
                let value = UInt64(truncatingIfNeeded: magnitude)
                return Int64(bitPattern: x.sign ? 0 &- value : value)
            }
        }
        c.flags |= FloatFlags.invalid
        return Int64(bitPattern: 0 &- UInt64(truncatingIfNeeded: limit))
    }

    /// FBSTP: 18 digits, or the packed decimal indefinite.
    static func toDecimal(_ a: Float80Bits, _ c: inout Context) -> (low: UInt64, high: UInt16) {
        let x = ExtendedFloat(a)
        let sign: UInt16 = x.sign ? 0x8000 : 0
        if x.kind == .zero { return (0, sign) }
        if x.isFinite, x.exponent <= 60 {
            var trial = c
            let magnitude = X87Arithmetic.integral(x, &trial)
            if magnitude < 1_000_000_000_000_000_000 {
                c = trial
                var rest = UInt64(truncatingIfNeeded: magnitude)
                var low: UInt64 = 0
                for digit in 0..<16 {
                    low |= (rest % 10) << UInt64(digit * 4)
                    rest /= 10
                }
                return (low, sign | UInt16(truncatingIfNeeded: (rest % 10) | (rest / 10) << 4))
            }
        }
        c.flags |= FloatFlags.invalid
        return (0xC000_0000_0000_0000, 0xFFFF)
    }
}
