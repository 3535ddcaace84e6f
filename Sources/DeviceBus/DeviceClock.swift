/// Virtual periods of the PC's clocks, in nanoseconds by exact integer arithmetic.
package enum Ticks {
    /// The number of whole ticks of a clock of `frequency` Hz in `nanoseconds`.
    @inlinable
    package static func count(nanoseconds: UInt64, frequency: UInt64) -> UInt64 {
        let (high, low) = nanoseconds.multipliedFullWidth(by: frequency)
        // A quotient of more than 64 bits would need 584 years at 1 GHz.
        return high < 1_000_000_000 ? UInt64(1_000_000_000).dividingFullWidth((high, low)).quotient : .max
    }

    /// The first nanosecond at which `count` ticks of a clock of `frequency` Hz have passed.
    @inlinable
    package static func nanoseconds(count: UInt64, frequency: UInt64) -> UInt64 {
        let (high, low) = count.multipliedFullWidth(by: 1_000_000_000)
        guard high < frequency else { return .max }
        let (quotient, remainder) = frequency.dividingFullWidth((high, low))
        return quotient + (remainder == 0 ? 0 : 1)
    }
}
