/// Comparisons, for COMISS and CMPPS and their like.
extension SoftFloat {
    /// Compares `a` to `b`. A signalling NaN is invalid, and with `signaling` any NaN.
    @inline(__always)
    package static func compare32(
        _ a: UInt32, _ b: UInt32, signaling: Bool, _ c: inout FloatContext
    ) -> FloatOrder {
        if isPlain(a), isPlain(b) {
            let x = Float(bitPattern: a)
            let y = Float(bitPattern: b)
            return x < y ? .less : x == y ? .equal : .greater
        }
        return compareAny(UInt64(a), UInt64(b), signaling: signaling, .binary32, &c)
    }
    /// Compares `a` to `b`. A signalling NaN is invalid, and with `signaling` any NaN.
    @inline(__always)
    package static func compare64(
        _ a: UInt64, _ b: UInt64, signaling: Bool, _ c: inout FloatContext
    ) -> FloatOrder {
        if isPlain(a), isPlain(b) {
            let x = Double(bitPattern: a)
            let y = Double(bitPattern: b)
            return x < y ? .less : x == y ? .equal : .greater
        }
        return compareAny(a, b, signaling: signaling, .binary64, &c)
    }

    @inline(never)
    private static func compareAny(
        _ a: UInt64, _ b: UInt64, signaling: Bool, _ format: FloatFormat, _ c: inout FloatContext
    ) -> FloatOrder {
        if format.isNaN(a) || format.isNaN(b) {
            if signaling || format.isSignalingNaN(a) || format.isSignalingNaN(b) { c.flags |= FloatFlags.invalid }
            return .unordered
        }
        checkDenormal(a, format, &c)
        checkDenormal(b, format, &c)
        let x = ordinal(a, format, c)
        let y = ordinal(b, format, c)
        return x < y ? .less : x == y ? .equal : .greater
    }

    /// An integer that orders as the number does; the same for both zeros.
    private static func ordinal(_ bits: UInt64, _ format: FloatFormat, _ c: FloatContext) -> Int64 {
        if c.denormalsAreZero, format.isDenormal(bits) { return 0 }
        let magnitude = Int64(truncatingIfNeeded: format.magnitude(bits))
        return bits & format.signBit == 0 ? magnitude : 0 &- magnitude
    }
}
