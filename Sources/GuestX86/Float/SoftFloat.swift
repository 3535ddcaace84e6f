/// binary32 and binary64 arithmetic on bit patterns with SSE's results and exceptions (SDM volume 1, 4.8, 4.9 and 11.5).
///
/// The usual case (round to nearest, operands zero or normal, a normal result) is left to the host: IEEE 754 leaves it
/// no choice there, and precision is the only exception to look for. All else goes to integer arithmetic.
package enum SoftFloat {
    /// Zero or normal.
    @inline(__always)
    static func isPlain(_ bits: UInt32) -> Bool {
        let doubled = bits &<< 1
        return doubled == 0 || doubled &- 0x0100_0000 < 0xFE00_0000
    }
    @inline(__always)
    static func isPlain(_ bits: UInt64) -> Bool {
        let doubled = bits &<< 1
        return doubled == 0 || doubled &- (1 << 53) < 0x7FE << 53
    }
    /// Normal and not the least normal magnitude, which may come from rounding up a tiny number.
    @inline(__always)
    static func isClearlyNormal(_ bits: UInt32) -> Bool { (bits &<< 1) &- 0x0100_0001 < 0xFDFF_FFFF }
    @inline(__always)
    static func isClearlyNormal(_ bits: UInt64) -> Bool { (bits &<< 1) &- (1 << 53 + 1) < (0x7FE << 53) - 1 }

    // MARK: Sums

    /// ADDSS: `a` + `b`.
    @inline(__always)
    package static func add32(_ a: UInt32, _ b: UInt32, _ c: inout FloatContext) -> UInt32 {
        if c.rounding == 0, isPlain(a), isPlain(b) {
            let x = Float(bitPattern: a)
            let y = Float(bitPattern: b)
            let r = x + y
            if isClearlyNormal(r.bitPattern) || r == 0 {
                if c.flags & FloatFlags.precision == 0, isInexactSum(x, y, r) { c.flags |= FloatFlags.precision }
                return r.bitPattern
            }
        }
        return UInt32(truncatingIfNeeded: addAny(UInt64(a), UInt64(b), subtract: false, .binary32, &c))
    }
    /// SUBSS: `a` - `b`.
    @inline(__always)
    package static func sub32(_ a: UInt32, _ b: UInt32, _ c: inout FloatContext) -> UInt32 {
        if c.rounding == 0, isPlain(a), isPlain(b) {
            let x = Float(bitPattern: a)
            let y = Float(bitPattern: b)
            let r = x - y
            if isClearlyNormal(r.bitPattern) || r == 0 {
                if c.flags & FloatFlags.precision == 0, isInexactSum(x, -y, r) { c.flags |= FloatFlags.precision }
                return r.bitPattern
            }
        }
        return UInt32(truncatingIfNeeded: addAny(UInt64(a), UInt64(b), subtract: true, .binary32, &c))
    }
    /// ADDSD: `a` + `b`.
    @inline(__always)
    package static func add64(_ a: UInt64, _ b: UInt64, _ c: inout FloatContext) -> UInt64 {
        if c.rounding == 0, isPlain(a), isPlain(b) {
            let x = Double(bitPattern: a)
            let y = Double(bitPattern: b)
            let r = x + y
            if isClearlyNormal(r.bitPattern) || r == 0 {
                if c.flags & FloatFlags.precision == 0, isInexactSum(x, y, r) { c.flags |= FloatFlags.precision }
                return r.bitPattern
            }
        }
        return addAny(a, b, subtract: false, .binary64, &c)
    }
    /// SUBSD: `a` - `b`.
    @inline(__always)
    package static func sub64(_ a: UInt64, _ b: UInt64, _ c: inout FloatContext) -> UInt64 {
        if c.rounding == 0, isPlain(a), isPlain(b) {
            let x = Double(bitPattern: a)
            let y = Double(bitPattern: b)
            let r = x - y
            if isClearlyNormal(r.bitPattern) || r == 0 {
                if c.flags & FloatFlags.precision == 0, isInexactSum(x, -y, r) { c.flags |= FloatFlags.precision }
                return r.bitPattern
            }
        }
        return addAny(a, b, subtract: true, .binary64, &c)
    }

    /// Whether `sum`, `x` + `y` rounded to nearest, is not exact. What is lost is representable, and found without
    /// error of its own when the larger operand comes first (T. J. Dekker's two-sum).
    @inline(__always)
    private static func isInexactSum<T: BinaryFloatingPoint>(_ x: T, _ y: T, _ sum: T) -> Bool {
        let large = x.magnitude >= y.magnitude ? x : y
        let small = x.magnitude >= y.magnitude ? y : x
        return sum - large != small
    }

    // MARK: Products

    /// MULSS: `a` * `b`.
    @inline(__always)
    package static func mul32(_ a: UInt32, _ b: UInt32, _ c: inout FloatContext) -> UInt32 {
        if c.rounding == 0, isPlain(a), isPlain(b) {
            let x = Float(bitPattern: a)
            let y = Float(bitPattern: b)
            let r = x * y
            if isClearlyNormal(r.bitPattern) {
                // 24 times 24 bits fit a double.
                if c.flags & FloatFlags.precision == 0, Double(x) * Double(y) != Double(r) {
                    c.flags |= FloatFlags.precision
                }
                return r.bitPattern
            }
            if x == 0 || y == 0 { return r.bitPattern }
        }
        return UInt32(truncatingIfNeeded: multiplyAny(UInt64(a), UInt64(b), .binary32, &c))
    }
    /// MULSD: `a` * `b`.
    @inline(__always)
    package static func mul64(_ a: UInt64, _ b: UInt64, _ c: inout FloatContext) -> UInt64 {
        if c.rounding == 0, isPlain(a), isPlain(b) {
            let x = Double(bitPattern: a)
            let y = Double(bitPattern: b)
            let r = x * y
            if isClearlyNormal(r.bitPattern) {
                if c.flags & FloatFlags.precision == 0, !isProduct(a, b, of: r.bitPattern) {
                    c.flags |= FloatFlags.precision
                }
                return r.bitPattern
            }
            if x == 0 || y == 0 { return r.bitPattern }
        }
        return multiplyAny(a, b, .binary64, &c)
    }

    /// Whether the product of normal `a` and `b` is exactly normal `r`, of which it is the rounded value or nearly so.
    @inline(__always)
    private static func isProduct(_ a: UInt64, _ b: UInt64, of r: UInt64) -> Bool {
        let mask: UInt64 = 1 << 52 - 1
        let product = (a & mask | 1 << 52).multipliedFullWidth(by: b & mask | 1 << 52)
        // 2^104 ... 2^106 - 1. A double has it exactly if the bits from 2^52 or 2^53 on hold it all.
        let significand = r & mask | 1 << 52
        return product.low == significand &<< 52 && product.high == significand &>> 12
            || product.low == significand &<< 53 && product.high == significand &>> 11
    }

    // MARK: Quotients and roots

    /// DIVSS: `a` / `b`.
    @inline(__always)
    package static func div32(_ a: UInt32, _ b: UInt32, _ c: inout FloatContext) -> UInt32 {
        if c.rounding == 0, isPlain(a), isPlain(b) {
            let x = Float(bitPattern: a)
            let y = Float(bitPattern: b)
            let r = x / y
            if isClearlyNormal(r.bitPattern) {
                if c.flags & FloatFlags.precision == 0, Double(r) * Double(y) != Double(x) {
                    c.flags |= FloatFlags.precision
                }
                return r.bitPattern
            }
            if x == 0, y != 0 { return r.bitPattern }
        }
        return UInt32(truncatingIfNeeded: divideAny(UInt64(a), UInt64(b), .binary32, &c))
    }
    /// DIVSD: `a` / `b`.
    @inline(__always)
    package static func div64(_ a: UInt64, _ b: UInt64, _ c: inout FloatContext) -> UInt64 {
        if c.rounding == 0, isPlain(a), isPlain(b) {
            let x = Double(bitPattern: a)
            let y = Double(bitPattern: b)
            let r = x / y
            if isClearlyNormal(r.bitPattern) {
                if c.flags & FloatFlags.precision == 0, !isProduct(r.bitPattern, b, of: a) {
                    c.flags |= FloatFlags.precision
                }
                return r.bitPattern
            }
            if x == 0, y != 0 { return r.bitPattern }
        }
        return divideAny(a, b, .binary64, &c)
    }
    /// SQRTSS. The root of a normal number is normal.
    @inline(__always)
    package static func sqrt32(_ a: UInt32, _ c: inout FloatContext) -> UInt32 {
        let x = Float(bitPattern: a)
        if c.rounding == 0, isPlain(a), x >= 0 {
            let r = x.squareRoot()
            if c.flags & FloatFlags.precision == 0, Double(r) * Double(r) != Double(x) {
                c.flags |= FloatFlags.precision
            }
            return r.bitPattern
        }
        return UInt32(truncatingIfNeeded: squareRootAny(UInt64(a), .binary32, &c))
    }
    /// SQRTSD.
    @inline(__always)
    package static func sqrt64(_ a: UInt64, _ c: inout FloatContext) -> UInt64 {
        let x = Double(bitPattern: a)
        if c.rounding == 0, isPlain(a), x >= 0 {
            let r = x.squareRoot()
            if c.flags & FloatFlags.precision == 0, x != 0, !isProduct(r.bitPattern, r.bitPattern, of: a) {
                c.flags |= FloatFlags.precision
            }
            return r.bitPattern
        }
        return squareRootAny(a, .binary64, &c)
    }
}
