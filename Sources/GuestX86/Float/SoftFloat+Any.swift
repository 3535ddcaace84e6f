/// Arithmetic on any operands, in integers only. `SoftFloat`'s fast paths leave to these what the host's arithmetic
/// does not do alike.
extension SoftFloat {
    /// Of two operands with a NaN among them, the first NaN, quieted (SDM volume 1, table 4-7, SSE column).
    @inline(__always)
    static func propagateNaN(_ a: UInt64, _ b: UInt64, _ format: FloatFormat, _ c: inout FloatContext) -> UInt64 {
        if format.isSignalingNaN(a) || format.isSignalingNaN(b) { c.flags |= FloatFlags.invalid }
        return (format.isNaN(a) ? a : b) | format.quietBit
    }

    @inline(__always)
    private static func invalid(_ format: FloatFormat, _ c: inout FloatContext) -> UInt64 {
        c.flags |= FloatFlags.invalid
        return format.defaultNaN
    }

    /// Raises the denormal-operand exception. Invalid operands and NaNs take precedence: call it after these.
    @inline(__always)
    static func checkDenormal(_ bits: UInt64, _ format: FloatFormat, _ c: inout FloatContext) {
        if !c.denormalsAreZero, format.isDenormal(bits) { c.flags |= FloatFlags.denormal }
    }

    @inline(never)
    static func addAny(
        _ a: UInt64, _ b: UInt64, subtract: Bool, _ format: FloatFormat, _ c: inout FloatContext
    ) -> UInt64 {
        if format.isNaN(a) || format.isNaN(b) { return propagateNaN(a, b, format, &c) }
        var x = UnpackedFloat(a, format, c)
        var y = UnpackedFloat(subtract ? b ^ format.signBit : b, format, c)
        if x.kind == .infinity, y.kind == .infinity, x.sign != y.sign { return invalid(format, &c) }
        checkDenormal(a, format, &c)
        checkDenormal(b, format, &c)
        if x.kind == .infinity || y.kind == .infinity {
            return format.infinity | ((x.kind == .infinity ? x.sign : y.sign) ? format.signBit : 0)
        }
        // An exact zero sum of different signs is negative only when rounding down.
        let zero = c.rounding & 3 == 1 ? format.signBit : 0
        if x.kind == .zero || y.kind == .zero {
            if x.kind == y.kind { return x.sign == y.sign ? (x.sign ? format.signBit : 0) : zero }
            if x.kind == .zero { x = y }
            return format.roundAndPack(sign: x.sign, exponent: x.exponent, significand: x.significand, &c)
        }
        if (x.exponent, x.significand) < (y.exponent, y.significand) { swap(&x, &y) }
        // One bit for the carry. At least ten are left below a double's last: enough for guard, round and sticky bits.
        let large = x.significand &>> 1
        let small = FloatFormat.shiftRightJamming(y.significand &>> 1, x.exponent &- y.exponent)
        let sum = x.sign == y.sign ? large &+ small : large &- small
        if sum == 0 { return zero }
        let shift = sum.leadingZeroBitCount
        return format.roundAndPack(
            sign: x.sign, exponent: x.exponent &+ 1 &- shift, significand: sum &<< UInt64(shift), &c)
    }

    @inline(never)
    static func multiplyAny(
        _ a: UInt64, _ b: UInt64, _ format: FloatFormat, _ c: inout FloatContext
    ) -> UInt64 {
        if format.isNaN(a) || format.isNaN(b) { return propagateNaN(a, b, format, &c) }
        let x = UnpackedFloat(a, format, c)
        let y = UnpackedFloat(b, format, c)
        let isInfinite = x.kind == .infinity || y.kind == .infinity
        let isZero = x.kind == .zero || y.kind == .zero
        if isInfinite, isZero { return invalid(format, &c) }
        checkDenormal(a, format, &c)
        checkDenormal(b, format, &c)
        let signBit = (a ^ b) & format.signBit
        if isInfinite { return signBit | format.infinity }
        if isZero { return signBit }
        var (high, low) = x.significand.multipliedFullWidth(by: y.significand)
        var exponent = x.exponent &+ y.exponent &+ 1
        if high >> 63 == 0 {
            high = high &<< 1 | low &>> 63
            low &<<= 1
            exponent &-= 1
        }
        return format.roundAndPack(
            sign: signBit != 0, exponent: exponent, significand: high | (low == 0 ? 0 : 1), &c)
    }

    @inline(never)
    static func divideAny(
        _ a: UInt64, _ b: UInt64, _ format: FloatFormat, _ c: inout FloatContext
    ) -> UInt64 {
        if format.isNaN(a) || format.isNaN(b) { return propagateNaN(a, b, format, &c) }
        let x = UnpackedFloat(a, format, c)
        let y = UnpackedFloat(b, format, c)
        if x.kind == y.kind, x.kind != .finite { return invalid(format, &c) }
        let signBit = (a ^ b) & format.signBit
        if y.kind == .zero, x.kind == .finite {
            // Takes precedence over a denormal dividend.
            c.flags |= FloatFlags.zeroDivide
            return signBit | format.infinity
        }
        checkDenormal(a, format, &c)
        checkDenormal(b, format, &c)
        if x.kind == .infinity { return signBit | format.infinity }
        if x.kind == .zero || y.kind == .infinity { return signBit }
        // The dividend's half is less than the divisor: the quotient is 2^62 ... 2^64 - 1.
        var (quotient, rest) = y.significand.dividingFullWidth((x.significand &>> 1, x.significand &<< 63))
        var exponent = x.exponent &- y.exponent
        if quotient >> 63 == 0 {
            // Of the bit shifted in, only that it or something below is set matters; the rest tells.
            quotient &<<= 1
            exponent &-= 1
        }
        return format.roundAndPack(
            sign: signBit != 0, exponent: exponent, significand: quotient | (rest == 0 ? 0 : 1), &c)
    }

    @inline(never)
    static func squareRootAny(_ a: UInt64, _ format: FloatFormat, _ c: inout FloatContext) -> UInt64 {
        if format.isNaN(a) { return propagateNaN(a, a, format, &c) }
        let x = UnpackedFloat(a, format, c)
        if x.kind == .zero { return a & format.signBit }
        if x.sign { return invalid(format, &c) }
        checkDenormal(a, format, &c)
        if x.kind == .infinity { return a }
        // value = significand * 2^(exponent - 63); make it n * 2^(even), n in 2^124 ... 2^126, so that the root has
        // 62 or 63 bits, more than any format's and a guard bit.
        let isOdd = (x.exponent & 1) != 0
        let n = UInt128(x.significand) << (isOdd ? 62 : 61)
        let root = Self.root(n)
        let shift = root.leadingZeroBitCount
        let sticky: UInt64 = UInt128(root) * UInt128(root) == n ? 0 : 1
        return format.roundAndPack(
            sign: false, exponent: x.exponent &>> 1, significand: root &<< UInt64(shift) | sticky, &c)
    }

    /// The square root of `n` in 2^124 ..< 2^126, rounded down. IEEE square roots are the same on every host.
    private static func root(_ n: UInt128) -> UInt64 {
        let guess = UInt64(Double(UInt64(truncatingIfNeeded: n >> 64)).squareRoot() * 4294967296)
        // One Newton step takes the error from 2^10 or so to less than one.
        let (quotient, _) = guess.dividingFullWidth((UInt64(truncatingIfNeeded: n >> 64), UInt64(truncatingIfNeeded: n)))
        var root = (guess >> 1) &+ (quotient >> 1) &+ 1
        while UInt128(root) * UInt128(root) > n { root &-= 1 }
        while UInt128(root &+ 1) * UInt128(root &+ 1) <= n { root &+= 1 }
        return root
    }
}
