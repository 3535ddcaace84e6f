import CPUCore
import MachineState

/// What a debugger outside the machine has asked the processor to stop at. The guest cannot see any of it: nothing
/// here changes what instructions do, how they are counted, or when interrupts are taken.
///
/// All stops are at the same kind of place: interrupts have been taken, and the next thing would be to execute the
/// instruction at the PC.
package final class CPUDebugger {
    package enum AccessKind: UInt8, Sendable { case write, read, access }

    /// A range of linear addresses whose accesses are reported.
    package struct Watch: Sendable, Equatable {
        package var start: UInt64
        /// Bytes, 1 or more.
        package var length: UInt64
        package var kind: AccessKind
        package init(start: UInt64, length: UInt64, kind: AccessKind) {
            self.start = start
            self.length = length
            self.kind = kind
        }
    }

    /// An access that a watch has seen.
    package struct WatchHit: Sendable, Equatable {
        package var watch: Watch
        /// The first watched address that was accessed.
        package var address: UInt64
        package var isWrite: Bool
        /// The instruction that did it: retired instructions before it, deliveries at that position. `isDMA`: none.
        package var position: Position
        package var phase: UInt32
        package var pc: UInt64
        package var isDMA: Bool
    }

    package enum Stop: Sendable, Equatable {
        /// The place asked for is reached.
        case reached
        case breakpoint(UInt64)
        case watch(WatchHit)
        /// An interrupt or exception with this vector has been delivered.
        case delivered(UInt8)
        /// `requestStop` was called during the instruction before.
        case requested
    }

    /// Whether the run loop has to look here at all.
    package private(set) var isArmed = false
    /// Stop at the first place at or after this one. `.max`: none.
    package var stopPosition: Position = .max { didSet { arm() } }
    package var stopPhase: UInt32 = 0
    /// Linear addresses, sorted.
    package private(set) var breakpoints: [UInt64] = []
    package private(set) var watches: [Watch] = []
    /// Vectors whose delivery stops, one bit each.
    package var stopVectors = InlineArray<4, UInt64>(repeating: 0) { didSet { arm() } }
    /// No breakpoint stops here: the place that execution goes on from.
    package var skipPosition: Position = .max
    package var skipPhase: UInt32 = 0
    /// The position that the run loop has looked at last.
    var checkedPosition: Position = .max
    /// Why the CPU stopped last.
    package var stop: Stop?
    /// A hit that waits for the end of its instruction.
    package internal(set) var pendingHit: WatchHit?
    var pendingVector: Int = -1
    private var isStopRequested = false { didSet { arm() } }
    /// The position at which an interrupt or exception was delivered last, and how many were there.
    package var deliveryPosition: Position = .max
    package var deliveries: UInt32 = 0

    package init() {}

    private func arm() {
        isArmed =
            isStopRequested || stopPosition != .max || !breakpoints.isEmpty || !watches.isEmpty
            || (0..<4).contains { stopVectors[$0] != 0 }
    }

    func set(breakpoints: [UInt64], watches: [Watch]) {
        self.breakpoints = breakpoints.sorted()
        self.watches = watches
        pendingHit = nil
        arm()
    }

    /// Forgets what a run that was cut short has noted.
    package func clearPending() {
        pendingHit = nil
        pendingVector = -1
        isStopRequested = false
        stop = nil
    }

    /// Stops after the present instruction, which accesses a device.
    package func requestStop() { isStopRequested = true }
    /// True once after `requestStop`.
    func takeStopRequest() -> Bool {
        defer { if isStopRequested { isStopRequested = false } }
        return isStopRequested
    }

    func isBreakpoint(_ linear: UInt64) -> Bool {
        var low = 0
        var high = breakpoints.count
        while low < high {
            let middle = (low + high) / 2
            if breakpoints[middle] < linear { low = middle + 1 } else { high = middle }
        }
        return low < breakpoints.count && breakpoints[low] == linear
    }

    /// The first breakpoint in a range of linear addresses.
    func firstBreakpoint(after start: UInt64, before end: UInt64) -> UInt64? {
        breakpoints.first { $0 > start && $0 < end }
    }

    /// A watched byte lies in the page at `page`: it must not be in a TLB.
    @inline(never)
    func watches(page: UInt64) -> Bool {
        watches.contains { $0.start &+ $0.length > page && $0.start < page &+ 4096 }
    }

    /// The deliveries at `position` so far.
    @inline(__always)
    package func phase(at position: Position) -> UInt32 { deliveryPosition == position ? deliveries : 0 }

    /// An interrupt or exception has been delivered.
    @inline(__always)
    func delivered(_ vector: UInt8, at position: Position) {
        if deliveryPosition != position {
            deliveryPosition = position
            deliveries = 0
        }
        deliveries &+= 1
        if stopVectors[Int(vector >> 6)] >> UInt64(vector & 63) & 1 != 0 { pendingVector = Int(vector) }
    }
}

extension X86CPU {
    /// Sets all breakpoints and watches, linear addresses.
    package func setDebug(breakpoints: [UInt64], watches: [CPUDebugger.Watch]) {
        if breakpoints.sorted() != debugger.breakpoints {
            debugger.set(breakpoints: breakpoints, watches: debugger.watches)
            // Blocks must end before breakpoints, and must begin at none that is found without the run loop.
            forgetTranslations()
        }
        if watches != debugger.watches {
            debugger.set(breakpoints: debugger.breakpoints, watches: watches)
            flushTLB()
        }
    }

    /// The place between two instructions, as a debugger counts.
    package var phase: UInt32 { debugger.phase(at: state.pointee.core.position) }

    /// An interrupt or exception has been delivered.
    @inline(__always)
    func noteDelivery(_ vector: UInt8) {
        debugger.delivered(vector, at: state.pointee.core.position)
        if activity.isOn { activity.delivered(vector) }
    }

    /// The instruction at the PC is about to be executed: true when the debugger wants to stop before it.
    func stopsForDebugger(_ position: Position) -> Bool {
        let phase = debugger.phase(at: position)
        debugger.checkedPosition = position
        if let hit = debugger.pendingHit {
            debugger.pendingHit = nil
            debugger.stop = .watch(hit)
            return true
        }
        if debugger.takeStopRequest() {
            debugger.stop = .requested
            return true
        }
        if debugger.pendingVector >= 0 {
            debugger.stop = .delivered(UInt8(truncatingIfNeeded: debugger.pendingVector))
            debugger.pendingVector = -1
            return true
        }
        if position > debugger.stopPosition || position == debugger.stopPosition && phase >= debugger.stopPhase {
            debugger.stop = .reached
            return true
        }
        if debugger.breakpoints.isEmpty { return false }
        if position == debugger.skipPosition, phase == debugger.skipPhase { return false }
        guard debugger.isBreakpoint(linearPC) else { return false }
        debugger.stop = .breakpoint(linearPC)
        return true
    }

    /// A data access that has not gone through the TLB.
    @inline(never)
    func checkWatches(_ linear: UInt64, _ size: Int, isWrite: Bool) {
        for watch in debugger.watches {
            switch watch.kind {
            case .write: if !isWrite { continue }
            case .read: if isWrite { continue }
            case .access: break
            }
            guard linear < watch.start &+ watch.length, watch.start < linear &+ UInt64(size) else { continue }
            note(watch, max(linear, watch.start), isWrite, isDMA: false)
            return
        }
    }

    /// A bus master is about to write RAM.
    func checkWatchesOfDMA(_ physical: UInt64, _ size: Int) {
        for watch in debugger.watches where watch.kind != .read {
            var linear = watch.start
            while linear < watch.start &+ watch.length {
                let next = min((linear & ~0xFFF) &+ 4096, watch.start &+ watch.length)
                if let at = physicalAddress(ofLinear: linear), at < physical &+ UInt64(size),
                    physical < at &+ (next &- linear)
                {
                    return note(watch, linear &+ (max(at, physical) &- at), true, isDMA: true)
                }
                linear = next
            }
        }
    }

    private func note(_ watch: CPUDebugger.Watch, _ address: UInt64, _ isWrite: Bool, isDMA: Bool) {
        state.pointee.core.exitRequest |= ExitRequest.debugger
        if debugger.pendingHit != nil { return }
        let position = exactPosition
        debugger.pendingHit = CPUDebugger.WatchHit(
            watch: watch, address: address, isWrite: isWrite, position: position,
            phase: debugger.phase(at: position), pc: exactPC, isDMA: isDMA)
    }
}
