/// Virtual time as a function of the position: `position << shift` nanoseconds, plus the idle time that was skipped
/// while the CPU was halted.
package struct VirtualClock: Sendable {
    /// One retired instruction takes `1 << shift` nanoseconds (0...10). QEMU's users know it as `-icount shift=`.
    package var shift: UInt8
    /// Idle time skipped so far, in nanoseconds.
    package var skipped: VirtualTime = 0

    package init(shift: UInt8 = 3) {
        precondition(shift <= 10, "a clock shift is 0...10")
        self.shift = shift
    }

    /// The virtual time at `position`, in nanoseconds.
    @inlinable
    package func time(at position: Position) -> VirtualTime { (position << UInt64(shift)) &+ skipped }

    /// The first position at which the virtual time is at least `time`, if the CPU does not idle until then.
    @inlinable
    package func position(atOrAfter time: VirtualTime) -> Position {
        if time == .max { return .max }
        if time <= skipped { return 0 }
        let ticks = time - skipped
        let unit: UInt64 = 1 << UInt64(shift)
        return ticks / unit + (ticks % unit == 0 ? 0 : 1)
    }

    package mutating func visit(_ visitor: inout StateVisitor) {
        visitor.field("shift", &shift)
        visitor.field("skipped", &skipped)
    }
}
