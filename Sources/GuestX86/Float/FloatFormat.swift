/// Parameters of an IEEE 754 interchange format whose bit patterns are held in the low bits of a `UInt64`.
struct FloatFormat {
    /// Stored fraction bits: 23 or 52.
    let fractionBits: Int
    /// 8 or 11.
    let exponentBits: Int

    @inline(__always) static var binary32: FloatFormat { FloatFormat(fractionBits: 23, exponentBits: 8) }
    @inline(__always) static var binary64: FloatFormat { FloatFormat(fractionBits: 52, exponentBits: 11) }

    @inline(__always) var bias: Int { (1 &<< (exponentBits &- 1)) &- 1 }
    /// The biased exponent of infinities and NaNs.
    @inline(__always) var maxExponent: Int { (1 &<< exponentBits) &- 1 }
    @inline(__always) var signBit: UInt64 { 1 &<< UInt64(truncatingIfNeeded: fractionBits &+ exponentBits) }
    @inline(__always) var fractionMask: UInt64 { (1 &<< UInt64(truncatingIfNeeded: fractionBits)) &- 1 }
    @inline(__always) var quietBit: UInt64 { 1 &<< UInt64(truncatingIfNeeded: fractionBits &- 1) }
    @inline(__always) var infinity: UInt64 { pack(exponent: maxExponent, fraction: 0) }
    /// The real indefinite: a negative quiet NaN without payload.
    @inline(__always) var defaultNaN: UInt64 { signBit | infinity | quietBit }

    @inline(__always) func pack(exponent: Int, fraction: UInt64) -> UInt64 {
        UInt64(truncatingIfNeeded: exponent) &<< UInt64(truncatingIfNeeded: fractionBits) | fraction
    }
    @inline(__always) func magnitude(_ bits: UInt64) -> UInt64 { bits & (signBit &- 1) }
    @inline(__always) func isNaN(_ bits: UInt64) -> Bool { magnitude(bits) > infinity }
    @inline(__always) func isSignalingNaN(_ bits: UInt64) -> Bool { isNaN(bits) && bits & quietBit == 0 }
    @inline(__always) func isDenormal(_ bits: UInt64) -> Bool {
        magnitude(bits) != 0 && magnitude(bits) <= fractionMask
    }
}

/// A number taken apart: (-1)^sign * significand * 2^(exponent - 63).
struct UnpackedFloat {
    enum Kind { case zero, finite, infinity, nan }
    var kind: Kind
    var sign: Bool
    /// Unbiased; of `.finite` only.
    var exponent = 0
    /// Bit 63 is set, denormals are normalised; of `.finite` only.
    var significand: UInt64 = 0

    /// `bits` in `format`; a denormal is a zero if the context says so.
    init(_ bits: UInt64, _ format: FloatFormat, _ context: FloatContext) {
        sign = bits & format.signBit != 0
        let fraction = bits & format.fractionMask
        let biased = Int(truncatingIfNeeded: format.magnitude(bits) &>> UInt64(format.fractionBits))
        if biased == format.maxExponent {
            kind = fraction == 0 ? .infinity : .nan
        } else if biased != 0 {
            kind = .finite
            exponent = biased &- format.bias
            significand = (fraction | (format.fractionMask &+ 1)) &<< UInt64(63 &- format.fractionBits)
        } else if fraction != 0, !context.denormalsAreZero {
            kind = .finite
            let shift = fraction.leadingZeroBitCount
            significand = fraction &<< UInt64(shift)
            exponent = 64 &- format.bias &- format.fractionBits &- shift
        } else {
            kind = .zero
        }
    }
}
