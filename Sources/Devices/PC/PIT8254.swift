import DeviceBus
import MachineState

/// Intel 8254 programmable interval timer (datasheet 231164) at 1.193182 MHz, and port 0x61 of the PC board: gate and
/// output of counter 2, the speaker's bit, the refresh toggle.
///
/// Nothing is counted: counters follow from the time they were loaded. Only counter 0, which interrupts, has deadlines.
package final class PIT8254: Device {
    /// One counter.
    package struct Counter {
        /// 0...5.
        package var mode: UInt8 = 3
        /// 1 low byte, 2 high byte, 3 low then high.
        package var access: UInt8 = 3
        package var isBCD = false
        /// The count register: 1...65536 (BCD: 1...10000).
        package var reload: UInt32 = 0x10000
        /// It has been loaded since the control word.
        package var isLoaded = false
        /// When counting began, ns; frozen counting (gate low) is in `frozen`.
        package var start: UInt64 = 0
        package var gate = true
        /// Ticks counted when the gate went low in modes 0 and 4.
        package var frozen: UInt64 = 0
        /// Latched count, status, and how many bytes of the count are still to be read.
        package var latch: UInt16 = 0
        package var latchBytes: UInt8 = 0
        package var statusLatch: UInt8 = 0
        package var hasStatus = false
        /// The next access in mode "low then high" is the high byte.
        package var readsHigh = false
        package var writesHigh = false
        package var lowByte: UInt8 = 0

        package init() {}

        mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("mode", &mode)
            visitor.field("access", &access)
            visitor.field("isBCD", &isBCD)
            visitor.field("reload", &reload)
            visitor.field("isLoaded", &isLoaded)
            visitor.field("start", &start)
            visitor.field("gate", &gate)
            visitor.field("frozen", &frozen)
            visitor.field("latch", &latch)
            visitor.field("latchBytes", &latchBytes)
            visitor.field("statusLatch", &statusLatch)
            visitor.field("hasStatus", &hasStatus)
            visitor.field("readsHigh", &readsHigh)
            visitor.field("writesHigh", &writesHigh)
            visitor.field("lowByte", &lowByte)
            if visitor.mode == .load, reload == 0 || reload > 0x10000 || mode > 5 {
                visitor.fail("a counter's mode or count is out of range")
                self = Counter()
            }
        }

        /// Ticks since the counter was loaded, at `now` ns.
        func ticks(_ now: UInt64) -> UInt64 {
            let isStopped = !gate && (mode == 0 || mode == 4)
            if isStopped { return frozen }
            return frozen &+ Ticks.count(nanoseconds: now >= start ? now - start : 0, frequency: PIT8254.frequency)
        }

        /// The counting element, as it reads.
        func count(_ now: UInt64) -> UInt16 {
            let period = UInt64(reload)
            let elapsed = ticks(now)
            let value: UInt64
            switch mode {
            case 2: value = period - elapsed % period
            // Counts down by two, once for each half.
            case 3:
                let even = period & ~1
                value = even == 0 ? period : even - (elapsed * 2) % even
            // After zero the one-shot modes count on from the top.
            default: value = (period &- elapsed) & (isBCD ? .max : 0xFFFF)
            }
            if !isBCD { return UInt16(truncatingIfNeeded: value) }
            let decimal = mode == 2 || mode == 3 ? value % 10_000 : (period &+ 10_000 &- elapsed % 10_000) % 10_000
            return UInt16(decimal % 10 | (decimal / 10 % 10) << 4 | (decimal / 100 % 10) << 8 | (decimal / 1000) << 12)
        }

        /// The OUT pin.
        func output(_ now: UInt64) -> Bool {
            guard isLoaded else { return mode != 0 }
            let period = UInt64(reload)
            let elapsed = ticks(now)
            switch mode {
            case 0, 1: return elapsed >= period
            case 2: return !gate || elapsed % period != period - 1
            case 3: return !gate || elapsed % period < (period + 1) / 2
            default: return elapsed != period
            }
        }
    }

    package struct State {
        package var counter0 = Counter()
        package var counter1 = Counter()
        package var counter2 = Counter()
        /// Port 0x61, bits 1...0: speaker data, gate 2.
        package var speaker: UInt8 = 0

        package init() { counter2.gate = false }

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.group("counter0") { counter0.visit(&$0) }
            visitor.group("counter1") { counter1.visit(&$0) }
            visitor.group("counter2") { counter2.visit(&$0) }
            visitor.field("speaker", &speaker)
        }

        subscript(_ index: Int) -> Counter {
            get { index == 0 ? counter0 : index == 1 ? counter1 : counter2 }
            set {
                switch index {
                case 0: counter0 = newValue
                case 1: counter1 = newValue
                default: counter2 = newValue
                }
            }
        }
    }

    /// Hz.
    package static let frequency: UInt64 = 1_193_182
    /// The refresh request's output changes this often, ns.
    private static let refreshToggle: UInt64 = 15_085

    package let name = "pit"
    package let regions = [
        Region(
            .port, base: 0x40, size: 4,
            registers: [
                RegisterName(0, "COUNTER0", contents: .time), RegisterName(1, "COUNTER1", contents: .time),
                RegisterName(2, "COUNTER2", contents: .time),
                RegisterName(3, "CONTROL", fields: "BCD MODE:3 RW:2=latch/low/high/both SC:2=0/1/2/back"),
            ]),
        Region(.port, base: 0x61, size: 1, registers: [RegisterName(0, "PORT-B", fields: "GATE2 SPKR -:2 REFRESH OUT2", contents: .time)]),
    ]
    package private(set) var state = State()
    private let irq: IRQLine
    private let scheduler: Scheduler

    package init(irq: IRQLine, scheduler: Scheduler) {
        self.irq = irq
        self.scheduler = scheduler
    }

    package func reset() {
        state = State()
        scheduler.cancel(self, timer: 0)
        irq.set(false)
    }
    package func visitState(_ visitor: inout StateVisitor) { state.visit(&visitor) }

    // MARK: Counter 0's interrupt

    /// Sets the line to the output, and a deadline for its next change.
    private func drive() {
        let counter = state.counter0
        irq.set(counter.output(scheduler.now))
        guard counter.isLoaded else { return scheduler.cancel(self, timer: 0) }
        let period = UInt64(counter.reload)
        let elapsed = counter.ticks(scheduler.now)
        let next: UInt64
        switch counter.mode {
        case 2: next = elapsed % period == period - 1 ? elapsed + 1 : elapsed - elapsed % period + period - 1
        case 3:
            let high = (period + 1) / 2
            let phase = elapsed % period
            next = elapsed - phase + (phase < high ? high : period)
        case 0, 1:
            if elapsed >= period { return scheduler.cancel(self, timer: 0) }
            next = period
        default:
            if elapsed > period { return scheduler.cancel(self, timer: 0) }
            next = elapsed < period ? period : period + 1
        }
        scheduler.schedule(
            self, timer: 0, at: counter.start &+ Ticks.nanoseconds(count: next, frequency: Self.frequency))
    }

    package func timerFired(_ timer: Int) {
        // A period shorter than the clock's resolution: both edges are due.
        if state.counter0.mode == 2 { irq.set(false) }
        drive()
    }

    // MARK: Registers

    package func read(region: Int, offset: UInt64, width: Int) -> UInt64 {
        ByteLanes.read(offset, width) { region == 1 ? portB : readCounter(Int($0)) }
    }

    private var portB: UInt8 {
        let refresh = UInt8(truncatingIfNeeded: scheduler.now / Self.refreshToggle & 1)
        return state.speaker & 3 | refresh << 4 | (state.counter2.output(scheduler.now) ? 0x20 : 0)
    }

    private func readCounter(_ index: Int) -> UInt8 {
        // The control register cannot be read.
        guard index < 3 else { return 0xFF }
        var counter = state[index]
        defer { state[index] = counter }
        if counter.hasStatus {
            counter.hasStatus = false
            return counter.statusLatch
        }
        let isLatched = counter.latchBytes > 0
        let value = isLatched ? counter.latch : counter.count(scheduler.now)
        if isLatched { counter.latchBytes -= 1 }
        switch counter.access {
        case 1: return UInt8(truncatingIfNeeded: value)
        case 2: return UInt8(truncatingIfNeeded: value >> 8)
        default:
            defer { counter.readsHigh.toggle() }
            return UInt8(truncatingIfNeeded: counter.readsHigh ? value >> 8 : value)
        }
    }

    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {
        ByteLanes.write(offset, width, value) { offset, value in
            if region == 1 {
                writePortB(value)
            } else if offset == 3 {
                writeControl(value)
            } else {
                writeCounter(Int(offset), value)
            }
        }
    }

    private func writePortB(_ value: UInt8) {
        state.speaker = value & 3
        setGate(&state.counter2, value & 1 != 0)
    }

    /// A gate's edge: stops and goes on in modes 0 and 4, starts anew in the others.
    private func setGate(_ counter: inout Counter, _ level: Bool) {
        if level == counter.gate { return }
        if counter.mode == 0 || counter.mode == 4 {
            if !level { counter.frozen = counter.ticks(scheduler.now) } else { counter.start = scheduler.now }
        } else if level {
            counter.start = scheduler.now
            counter.frozen = 0
        }
        counter.gate = level
    }

    private func writeControl(_ value: UInt8) {
        let index = Int(value >> 6)
        if index == 3 { return readBack(value) }
        if value & 0x30 == 0 {
            state[index] = latched(state[index])
            return
        }
        var counter = state[index]
        counter.access = value >> 4 & 3
        let mode = value >> 1 & 7
        counter.mode = mode > 5 ? mode - 4 : mode
        counter.isBCD = value & 1 != 0
        counter.isLoaded = false
        counter.latchBytes = 0
        counter.hasStatus = false
        counter.readsHigh = false
        counter.writesHigh = false
        counter.frozen = 0
        counter.start = scheduler.now
        state[index] = counter
        if index == 0 { drive() }
    }

    private func latched(_ counter: Counter) -> Counter {
        var counter = counter
        // A second latch before the first is read does nothing.
        if counter.latchBytes == 0 {
            counter.latch = counter.count(scheduler.now)
            counter.latchBytes = counter.access == 3 ? 2 : 1
            counter.readsHigh = false
        }
        return counter
    }

    /// The read-back command: latches counts (bit 5 clear) and status (bit 4 clear) of the counters in bits 3...1.
    private func readBack(_ value: UInt8) {
        for index in 0..<3 where value >> UInt8(index + 1) & 1 != 0 {
            var counter = state[index]
            if value & 0x20 == 0 { counter = latched(counter) }
            if value & 0x10 == 0, !counter.hasStatus {
                let output: UInt8 = counter.output(scheduler.now) ? 0x80 : 0
                let null: UInt8 = counter.isLoaded ? 0 : 0x40
                counter.statusLatch = output | null | counter.access << 4 | counter.mode << 1 | (counter.isBCD ? 1 : 0)
                counter.hasStatus = true
            }
            state[index] = counter
        }
    }

    private func writeCounter(_ index: Int, _ value: UInt8) {
        var counter = state[index]
        switch counter.access {
        case 1: load(&counter, UInt16(value))
        case 2: load(&counter, UInt16(value) << 8)
        default:
            if counter.writesHigh {
                load(&counter, UInt16(value) << 8 | UInt16(counter.lowByte))
            } else {
                counter.lowByte = value
            }
            counter.writesHigh.toggle()
        }
        state[index] = counter
        if index == 0 { drive() }
    }

    private func load(_ counter: inout Counter, _ value: UInt16) {
        if counter.isBCD {
            let decimal = [12, 8, 4, 0].reduce(UInt32(0)) { $0 * 10 + UInt32(value >> UInt16($1) & 15) }
            counter.reload = decimal == 0 || decimal > 10_000 ? 10_000 : decimal
        } else {
            counter.reload = value == 0 ? 0x10000 : UInt32(value)
        }
        counter.isLoaded = true
        counter.start = scheduler.now
        counter.frozen = 0
    }
}
