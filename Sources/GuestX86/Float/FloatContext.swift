/// What an IEEE operation depends on and the exceptions that it leaves, in MXCSR's terms (SDM volume 1, 10.2.3).
package struct FloatContext {
    /// RC: 0 to nearest even, 1 down, 2 up, 3 towards zero.
    package var rounding: UInt8
    /// Sticky exceptions, as bits 5...0 of MXCSR; see `FloatFlags`. An operation only sets bits. When
    /// `FloatFlags.precision` is set on entry, operations save themselves the work of finding it.
    package var flags: UInt8
    /// FTZ: a tiny result becomes zero (when underflow is masked).
    package var flushToZero: Bool
    /// DAZ: a denormal operand counts as zero.
    package var denormalsAreZero: Bool
    /// UM: underflow means tiny and inexact. When false, tiny alone raises it.
    package var underflowMasked: Bool
    /// OM: overflow is inexact by itself. When false, the rounding with an unbounded exponent decides about that.
    package var overflowMasked: Bool

    @inlinable package init(
        rounding: UInt8 = 0, flags: UInt8 = 0, flushToZero: Bool = false, denormalsAreZero: Bool = false,
        underflowMasked: Bool = true, overflowMasked: Bool = true
    ) {
        self.rounding = rounding
        self.flags = flags
        self.flushToZero = flushToZero
        self.denormalsAreZero = denormalsAreZero
        self.underflowMasked = underflowMasked
        self.overflowMasked = overflowMasked
    }
}

/// Exception bits of MXCSR and of the x87 status word.
package enum FloatFlags {
    package static let invalid: UInt8 = 1
    package static let denormal: UInt8 = 2
    package static let zeroDivide: UInt8 = 4
    package static let overflow: UInt8 = 8
    package static let underflow: UInt8 = 16
    package static let precision: UInt8 = 32
    /// Those that the operands alone decide; they take precedence over the others.
    package static let beforeComputation: UInt8 = 7
}

/// A comparison's outcome.
package enum FloatOrder: Sendable {
    case less, equal, greater, unordered
}
