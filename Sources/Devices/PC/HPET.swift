import DeviceBus
import MachineState

/// High precision event timers (IA-PC HPET specification 1.0a): a counter of 100 MHz and three comparators.
///
/// With legacy replacement the timers 0 and 1 take the places of the 8254 and the RTC at the interrupt controllers: those
/// two are wired through here, as inputs 0 and 1.
package final class HPET: Device, InterruptSink {
    /// One comparator.
    package struct Comparator {
        /// Bit 1 level triggered, bit 2 interrupts, bit 3 periodic, bit 6 the next write sets the comparator of a
        /// periodic timer, bit 8 32 bits, bits 13...9 I/O APIC input.
        package var configuration: UInt64 = 0
        package var value: UInt64 = .max
        package var period: UInt64 = 0

        package init() {}

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("configuration", &configuration)
            visitor.field("value", &value)
            visitor.field("period", &period)
        }
    }

    /// Everything the guest can observe.
    package struct State {
        /// Bit 0 counts, bit 1 legacy replacement.
        package var configuration: UInt64 = 0
        /// Level-triggered timers that interrupt.
        package var status: UInt64 = 0
        /// The counter when it was started or stopped, and when it was started.
        package var counter: UInt64 = 0
        package var startedAt: VirtualTime = 0
        package var comparators = (0..<HPET.count).map { _ in Comparator() }
        /// Levels of the 8254's and the RTC's wires, in bits 0 and 1.
        package var inputs: UInt8 = 0

        package init() {}

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("configuration", &configuration)
            visitor.field("status", &status)
            visitor.field("counter", &counter)
            visitor.field("startedAt", &startedAt)
            visitor.list("comparators", &comparators, make: Comparator.init) { $0.visit(&$1) }
            visitor.field("inputs", &inputs)
            if visitor.mode == .load, comparators.count != HPET.count {
                visitor.fail("there are \(HPET.count) timers")
                self = State()
            }
        }
    }

    package static let base: UInt64 = 0xFED0_0000
    static let count = 3
    /// Nanoseconds of a tick.
    private static let tick: UInt64 = 10
    /// Femtoseconds of a tick, vendor 8086, legacy replacement, 64 bits, three timers, revision 1.
    private static let capabilities: UInt64 = tick * 1_000_000 << 32 | 0x8086 << 16 | 1 << 15 | 1 << 13 | UInt64(count - 1) << 8 | 1
    /// I/O APIC inputs 20...23 are the timers' to choose from.
    private static let routes: UInt64 = 0x00F0_0000
    /// Periodic and 64 bits.
    private static let fixed: UInt64 = routes << 32 | 1 << 4 | 1 << 5

    package let name = "hpet"
    package let regions = [
        Region(
            .memory, base: HPET.base, size: 0x400,
            registers: [
                RegisterName(0x00, "CAPABILITIES", length: 8, fields: "REV:8 LAST:5 WIDE - LEGACY VENDOR:16 PERIOD:32"),
                RegisterName(0x10, "CONFIG", length: 8, fields: "ENABLE LEGACY"),
                RegisterName(0x20, "STATUS", length: 8, fields: "T0 T1 T2"),
                RegisterName(0xF0, "COUNTER", length: 8, contents: .time),
            ] + (0..<UInt64(HPET.count)).flatMap {
                [
                    RegisterName(
                        0x100 + $0 * 0x20, "T\($0)-CONFIG", length: 8,
                        fields: "- LEVEL INT PERIODIC PERCAP WIDECAP SET - MODE32 ROUTE:5 FSB FSBCAP"),
                    RegisterName(0x108 + $0 * 0x20, "T\($0)-COMPARATOR", length: 8, contents: .time),
                ]
            })
    ]
    package private(set) var state = State()
    /// Where the 8254 and the RTC would go: ISA interrupts 0 and 8.
    private let legacy: [IRQLine]
    /// I/O APIC inputs by number, of `routes`.
    private let direct: [Int: IRQLine]
    private let scheduler: Scheduler

    package init(timer: IRQLine, clock: IRQLine, ioAPIC: any InterruptSink, scheduler: Scheduler) {
        legacy = [timer, clock]
        var lines: [Int: IRQLine] = [:]
        for input in 20...23 { lines[input] = IRQLine(ioAPIC, input) }
        direct = lines
        self.scheduler = scheduler
    }

    package func visitState(_ visitor: inout StateVisitor) { state.visit(&visitor) }

    package func reset() {
        for timer in 0..<Self.count { scheduler.cancel(self, timer: timer) }
        let inputs = state.inputs
        state = State()
        state.inputs = inputs
        for (index, line) in legacy.enumerated() { line.set(inputs >> UInt8(index) & 1 != 0) }
        for input in 20...23 { direct[input]?.set(false) }
    }

    // MARK: The wires that lead through here

    private var isLegacy: Bool { state.configuration & 2 != 0 }

    package func setInput(_ input: Int, _ level: Bool) {
        guard legacy.indices.contains(input) else { return }
        let bit: UInt8 = 1 << UInt8(input)
        state.inputs = level ? state.inputs | bit : state.inputs & ~bit
        if !isLegacy { legacy[input].set(level) }
    }

    private func line(_ timer: Int) -> IRQLine? {
        if isLegacy, timer < 2 { return legacy[timer] }
        return direct[Int(state.comparators[timer].configuration >> 9 & 31)]
    }

    // MARK: Counting

    private var isCounting: Bool { state.configuration & 1 != 0 }

    private var counter: UInt64 {
        guard isCounting, scheduler.now >= state.startedAt else { return state.counter }
        return state.counter &+ (scheduler.now - state.startedAt) / Self.tick
    }

    /// - Parameter after: the comparator has just matched: the next match is a whole round away.
    private func schedule(_ timer: Int, after: Bool = false) {
        let comparator = state.comparators[timer]
        guard isCounting, comparator.configuration & 4 != 0 else { return scheduler.cancel(self, timer: timer) }
        var left = comparator.value &- counter
        if comparator.configuration & 0x100 != 0 {
            left &= 0xFFFF_FFFF
            if left == 0, after { left = 1 << 32 }
        }
        // What is centuries away never comes.
        guard left < 1 << 58, left > 0 || !after else { return scheduler.cancel(self, timer: timer) }
        let ticks = (scheduler.now - min(scheduler.now, state.startedAt)) / Self.tick &+ left
        scheduler.schedule(self, timer: timer, at: state.startedAt &+ ticks &* Self.tick)
    }

    private func scheduleAll() { for timer in 0..<Self.count { schedule(timer) } }

    package func timerFired(_ timer: Int) {
        guard state.comparators.indices.contains(timer) else { return }
        let comparator = state.comparators[timer]
        if comparator.configuration & 8 != 0, comparator.period > 0 {
            // A period that is over before it is noticed is skipped. None is shorter than a microsecond.
            let period = max(comparator.period, 100)
            let late = counter &- comparator.value
            state.comparators[timer].value &+= (late / period &+ 1) &* period
            schedule(timer)
        } else {
            schedule(timer, after: true)
        }
        guard comparator.configuration & 4 != 0, let line = line(timer) else { return }
        if comparator.configuration & 2 != 0 {
            state.status |= 1 << UInt64(timer)
            line.set(true)
        } else {
            line.pulse()
        }
    }

    // MARK: Registers: of 64 bits; a narrower write changes its part

    package func read(region: Int, offset: UInt64, width: Int) -> UInt64 {
        ByteLanes.read(offset, width) { UInt8(truncatingIfNeeded: register($0 & ~7) >> (($0 & 7) * 8)) }
    }

    private func register(_ offset: UInt64) -> UInt64 {
        switch offset {
        case 0x00: return Self.capabilities
        case 0x10: return state.configuration
        case 0x20: return state.status
        case 0xF0: return counter
        default:
            guard let timer = timer(offset) else { return 0 }
            let comparator = state.comparators[timer]
            switch offset & 0x1F {
            case 0: return comparator.configuration | Self.fixed
            case 8: return comparator.configuration & 0x100 != 0 ? comparator.value & 0xFFFF_FFFF : comparator.value
            default: return 0
            }
        }
    }

    private func timer(_ offset: UInt64) -> Int? {
        guard offset >= 0x100 else { return nil }
        let timer = Int((offset - 0x100) / 0x20)
        return timer < Self.count ? timer : nil
    }

    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {
        var place = offset
        var rest = value
        var left = width
        while left > 0 {
            let lane = Int(place & 7)
            let count = min(8 - lane, left)
            let mask: UInt64 = count == 8 ? .max : (1 << UInt64(count * 8) - 1) << UInt64(lane * 8)
            writeRegister(place & ~7, (rest << UInt64(lane * 8)) & mask, mask)
            place += UInt64(count)
            rest = count == 8 ? 0 : rest >> UInt64(count * 8)
            left -= count
        }
    }

    private func writeRegister(_ offset: UInt64, _ value: UInt64, _ mask: UInt64) {
        switch offset {
        case 0x10: writeConfiguration((state.configuration & ~mask | value) & 3)
        case 0x20:
            let cleared = state.status & value
            state.status &= ~value
            for timer in 0..<Self.count where cleared >> UInt64(timer) & 1 != 0 { line(timer)?.set(false) }
        case 0xF0:
            if isCounting { return }
            state.counter = state.counter & ~mask | value
        default:
            guard let timer = timer(offset) else { return }
            switch offset & 0x1F {
            case 0: writeTimer(timer, state.comparators[timer].configuration & ~mask | value)
            case 8: writeComparator(timer, value, mask)
            default: break
            }
        }
    }

    private func writeConfiguration(_ value: UInt64) {
        let wasCounting = isCounting
        let wasLegacy = isLegacy
        if wasCounting, value & 1 == 0 { state.counter = counter }
        state.configuration = value
        if isCounting, !wasCounting { state.startedAt = scheduler.now }
        if isLegacy != wasLegacy {
            // The lines go over to their new drivers.
            for (index, line) in legacy.enumerated() { line.set(!isLegacy && state.inputs >> UInt8(index) & 1 != 0) }
        }
        scheduleAll()
    }

    private func writeTimer(_ timer: Int, _ value: UInt64) {
        // A line is given up at the level it rests at.
        if state.status >> UInt64(timer) & 1 != 0 {
            line(timer)?.set(false)
            state.status &= ~(1 << UInt64(timer))
        }
        var value = value & 0x3F4E
        // An input that is no choice is not taken.
        if Self.routes >> (value >> 9 & 31) & 1 == 0 { value &= ~0x3E00 }
        state.comparators[timer].configuration = value
        schedule(timer)
    }

    private func writeComparator(_ timer: Int, _ value: UInt64, _ mask: UInt64) {
        let configuration = state.comparators[timer].configuration
        let isPeriodic = configuration & 8 != 0
        if !isPeriodic || configuration & 0x40 != 0 {
            state.comparators[timer].value = state.comparators[timer].value & ~mask | value
        }
        if isPeriodic {
            // Without VAL_SET the write is of the period; both come by one write each.
            if configuration & 0x40 == 0 {
                state.comparators[timer].period = state.comparators[timer].period & ~mask | value
            } else {
                state.comparators[timer].configuration &= ~0x40
                if state.comparators[timer].period == 0 { state.comparators[timer].period = value }
            }
        }
        schedule(timer)
    }
}
