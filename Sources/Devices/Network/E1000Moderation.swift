import MachineState

/// When the card's interrupts come: not before an interval is over (ITR), and not before some time after what they are about (RDTR and
/// RADV, TIDV and TADV).
struct E1000Moderation {
    /// Something that is told of later: when nothing more has happened for a while, or after a longer time anyway. Virtual time, ns; `.max`: not.
    struct Delay {
        private(set) var quiet = VirtualTime.max
        private(set) var limit = VirtualTime.max
        var deadline: VirtualTime { min(quiet, limit) }

        /// It has happened (again).
        /// - Parameters:
        ///   - units: of 1.024 µs, after the last time.
        ///   - most: of 1.024 µs, after the first time; 0: no such limit.
        mutating func happened(_ now: VirtualTime, units: UInt32, most: UInt32) {
            quiet = now &+ UInt64(units & 0xFFFF) * 1024
            if limit == .max, most & 0xFFFF != 0 { limit = now &+ UInt64(most & 0xFFFF) * 1024 }
        }
        /// What waits is due.
        mutating func flush(_ now: VirtualTime) { if deadline != .max { quiet = now } }
        mutating func clear() { (quiet, limit) = (.max, .max) }

        mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("quiet", &quiet)
            visitor.field("limit", &limit)
        }
    }

    var received = Delay()
    var transmitted = Delay()
    /// The pin.
    private(set) var isAsserted = false
    /// No new interrupt before this time, ns.
    private var earliest: VirtualTime = 0

    init() {}

    mutating func visit(_ visitor: inout StateVisitor) {
        visitor.group("received") { received.visit(&$0) }
        visitor.group("transmitted") { transmitted.visit(&$0) }
        visitor.field("isAsserted", &isAsserted)
        visitor.field("earliest", &earliest)
    }

    /// The causes have changed: `wants` says whether one of them is enabled. Returns when to ask again, if the interrupt has to wait.
    /// - Parameter interval: ITR, in units of 256 ns; 0: none.
    mutating func update(wants: Bool, now: VirtualTime, interval: UInt32) -> VirtualTime? {
        if !wants {
            isAsserted = false
            return nil
        }
        if isAsserted { return nil }
        // An interval that was shortened ends sooner.
        let length = UInt64(interval & 0xFFFF) * 256
        if earliest > now, earliest - now <= length { return earliest }
        isAsserted = true
        earliest = now &+ length
        return nil
    }
}
