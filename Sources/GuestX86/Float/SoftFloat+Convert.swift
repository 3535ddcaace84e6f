/// Conversions between the formats, to and from integers, and to integral values.
extension SoftFloat {
    // MARK: To integers

    /// CVTSS2SI, CVTTSS2SI with `truncate`: the integer indefinite, the least integer, when out of range or NaN.
    @inline(__always)
    package static func toInt32from32(_ a: UInt32, truncate: Bool, _ c: inout FloatContext) -> Int32 {
        if let r = smallInteger(Double(Float(bitPattern: a)), isPlain(a), truncate, &c) { return r }
        let r = integer(UInt64(a), 31, truncate ? 3 : c.rounding, .binary32, &c)
        return Int32(truncatingIfNeeded: r)
    }
    /// CVTSS2SI or CVTTSS2SI with REX.W.
    @inline(__always)
    package static func toInt64from32(_ a: UInt32, truncate: Bool, _ c: inout FloatContext) -> Int64 {
        if let r = smallInteger(Double(Float(bitPattern: a)), isPlain(a), truncate, &c) { return Int64(r) }
        return integer(UInt64(a), 63, truncate ? 3 : c.rounding, .binary32, &c)
    }
    /// CVTSD2SI, CVTTSD2SI with `truncate`.
    @inline(__always)
    package static func toInt32from64(_ a: UInt64, truncate: Bool, _ c: inout FloatContext) -> Int32 {
        if let r = smallInteger(Double(bitPattern: a), isPlain(a), truncate, &c) { return r }
        return Int32(truncatingIfNeeded: integer(a, 31, truncate ? 3 : c.rounding, .binary64, &c))
    }
    /// CVTSD2SI or CVTTSD2SI with REX.W.
    @inline(__always)
    package static func toInt64from64(_ a: UInt64, truncate: Bool, _ c: inout FloatContext) -> Int64 {
        if let r = smallInteger(Double(bitPattern: a), isPlain(a), truncate, &c) { return Int64(r) }
        return integer(a, 63, truncate ? 3 : c.rounding, .binary64, &c)
    }

    /// `x` as an integer by the host's arithmetic, if it is well within 32 bits.
    @inline(__always)
    private static func smallInteger(
        _ x: Double, _ isPlain: Bool, _ truncate: Bool, _ c: inout FloatContext
    ) -> Int32? {
        guard isPlain, x.magnitude < 2147483647, truncate || c.rounding == 0 else { return nil }
        // Adding 1.5 * 2^52 leaves no bits for a fraction: the sum is rounded to an integer, to nearest even.
        let magic = 6755399441055744.0
        let r = truncate ? Int32(x) : Int32((x + magic) - magic)
        if Double(r) != x { c.flags |= FloatFlags.precision }
        return r
    }

    /// `bits` rounded to a signed integer of `width` + 1 bits. Denormals raise nothing but precision here.
    @inline(never)
    private static func integer(
        _ bits: UInt64, _ width: Int, _ rounding: UInt8, _ format: FloatFormat, _ c: inout FloatContext
    ) -> Int64 {
        let x = UnpackedFloat(bits, format, c)
        if x.kind == .zero { return 0 }
        let limit: UInt64 = 1 &<< UInt64(width)
        if x.kind == .finite, x.exponent <= width {
            var magnitude = x.significand
            var isInexact = false
            if x.exponent < 62 {
                // Two bits more than the integer: a half, and all that is below.
                let scaled = FloatFormat.shiftRightJamming(x.significand, 61 &- x.exponent)
                (magnitude, isInexact) = FloatFormat.round(scaled, drop: 2, sign: x.sign, rounding: rounding)
            } else {
                // Neither format has bits this low.
                magnitude &>>= UInt64(63 &- x.exponent)
            }
            if magnitude < limit || magnitude == limit && x.sign {
                if isInexact { c.flags |= FloatFlags.precision }
                return Int64(bitPattern: x.sign ? 0 &- magnitude : magnitude)
            }
        }
        c.flags |= FloatFlags.invalid
        return Int64(bitPattern: 0 &- limit)
    }

    // MARK: From integers

    /// CVTSI2SS.
    @inline(__always)
    package static func fromInt32to32(_ a: Int32, _ c: inout FloatContext) -> UInt32 {
        fromInt64to32(Int64(a), &c)
    }
    /// CVTSI2SS with REX.W.
    @inline(__always)
    package static func fromInt64to32(_ a: Int64, _ c: inout FloatContext) -> UInt32 {
        if a.magnitude <= 1 << 24 { return Float(a).bitPattern }
        return UInt32(truncatingIfNeeded: fromAny(a, .binary32, &c))
    }
    /// CVTSI2SD: always exact.
    @inline(__always)
    package static func fromInt32to64(_ a: Int32, _ c: inout FloatContext) -> UInt64 { Double(a).bitPattern }
    /// CVTSI2SD with REX.W.
    @inline(__always)
    package static func fromInt64to64(_ a: Int64, _ c: inout FloatContext) -> UInt64 {
        if a.magnitude <= 1 << 53 { return Double(a).bitPattern }
        return fromAny(a, .binary64, &c)
    }

    /// `a` is not zero.
    @inline(never)
    private static func fromAny(_ a: Int64, _ format: FloatFormat, _ c: inout FloatContext) -> UInt64 {
        let shift = a.magnitude.leadingZeroBitCount
        return format.roundAndPack(
            sign: a < 0, exponent: 63 &- shift, significand: a.magnitude &<< UInt64(shift), &c)
    }

    // MARK: Between the formats

    /// CVTSS2SD: always exact.
    @inline(__always)
    package static func convert32to64(_ a: UInt32, _ c: inout FloatContext) -> UInt64 {
        if isPlain(a) { return Double(Float(bitPattern: a)).bitPattern }
        return convertAny(UInt64(a), from: .binary32, to: .binary64, &c)
    }
    /// CVTSD2SS.
    @inline(__always)
    package static func convert64to32(_ a: UInt64, _ c: inout FloatContext) -> UInt32 {
        let x = Double(bitPattern: a)
        if c.rounding == 0, isPlain(a) {
            let r = Float(x)
            if isClearlyNormal(r.bitPattern) || x == 0 {
                if Double(r) != x { c.flags |= FloatFlags.precision }
                return r.bitPattern
            }
        }
        return UInt32(truncatingIfNeeded: convertAny(a, from: .binary64, to: .binary32, &c))
    }

    @inline(never)
    private static func convertAny(
        _ a: UInt64, from source: FloatFormat, to target: FloatFormat, _ c: inout FloatContext
    ) -> UInt64 {
        let x = UnpackedFloat(a, source, c)
        let signBit = x.sign ? target.signBit : 0
        switch x.kind {
        case .zero: return signBit
        case .infinity: return signBit | target.infinity
        case .nan:
            if source.isSignalingNaN(a) { c.flags |= FloatFlags.invalid }
            // The payload's high bits stay.
            let payload = (a & source.fractionMask) &<< UInt64(63 &- source.fractionBits)
            return signBit | target.infinity | target.quietBit | payload &>> UInt64(63 &- target.fractionBits)
        case .finite:
            checkDenormal(a, source, &c)
            return target.roundAndPack(sign: x.sign, exponent: x.exponent, significand: x.significand, &c)
        }
    }

    // MARK: To integral values

    /// ROUNDSS: `a` rounded to an integral value by `rounding` (RC), without precision if `suppressPrecision`.
    package static func roundToInt32(
        _ a: UInt32, _ rounding: UInt8, _ suppressPrecision: Bool, _ c: inout FloatContext
    ) -> UInt32 {
        UInt32(truncatingIfNeeded: integral(UInt64(a), rounding, suppressPrecision, .binary32, &c))
    }
    /// ROUNDSD: `a` rounded to an integral value by `rounding` (RC), without precision if `suppressPrecision`.
    package static func roundToInt64(
        _ a: UInt64, _ rounding: UInt8, _ suppressPrecision: Bool, _ c: inout FloatContext
    ) -> UInt64 {
        integral(a, rounding, suppressPrecision, .binary64, &c)
    }

    @inline(__always)
    private static func integral(
        _ a: UInt64, _ rounding: UInt8, _ suppressPrecision: Bool, _ format: FloatFormat, _ c: inout FloatContext
    ) -> UInt64 {
        let magnitude = format.magnitude(a)
        let signBit = a & format.signBit
        let exponent = Int(truncatingIfNeeded: magnitude &>> UInt64(format.fractionBits)) &- format.bias
        if exponent >= format.fractionBits {
            return format.isNaN(a) ? propagateNaN(a, a, format, &c) : a
        }
        if magnitude == 0 || c.denormalsAreZero && format.isDenormal(a) { return signBit }
        if exponent < -1 {
            // Less than a half: 0 or 1, and never exact.
            if !suppressPrecision { c.flags |= FloatFlags.precision }
            let isOne = rounding & 3 == (signBit == 0 ? 2 : 1)
            return signBit | (isOne ? format.pack(exponent: format.bias, fraction: 0) : 0)
        }
        let significand = magnitude & format.fractionMask | (format.fractionMask &+ 1)
        let drop = format.fractionBits &- exponent
        let (value, isInexact) = FloatFormat.round(
            significand, drop: drop, sign: signBit != 0, rounding: rounding)
        if isInexact, !suppressPrecision { c.flags |= FloatFlags.precision }
        if value == 0 { return signBit }
        // As integer 1 ... 2^53: its leading bit and the exponent's carry add up.
        if exponent < 0 { return signBit | format.pack(exponent: format.bias, fraction: 0) }
        return signBit | (format.pack(exponent: exponent &+ format.bias &- 1, fraction: 0) &+ (value &<< UInt64(drop)))
    }
}
