import DeviceBus
import MachineState

/// Motorola MC146818 real-time clock with 128 bytes of CMOS RAM (datasheet ADI1026), as a PC has it at ports 0x70 and
/// 0x71. The date follows from the devices' clock; interrupts have deadlines only while they are enabled.
package final class RTC146818: Device {
    package static let size = 128

    package struct State {
        /// The index register; bit 7 masks NMI.
        package var index: UInt8 = 0
        package var memory = [UInt8](repeating: 0, count: RTC146818.size)
        /// The date at `setAt` ns, in seconds since 1970.
        package var date: UInt64 = 0
        package var setAt: UInt64 = 0
        /// While SET is on, the time stands still in `memory`.
        package var isHalted = false
        /// When the present period of the periodic interrupt began, ns.
        package var periodStart: UInt64 = 0

        package init() {}

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("index", &index)
            visitor.field("memory", &memory)
            if visitor.mode == .load, memory.count != RTC146818.size {
                visitor.fail("CMOS has \(RTC146818.size) bytes")
                memory = State().memory
            }
            visitor.field("date", &date)
            visitor.field("setAt", &setAt)
            visitor.field("isHalted", &isHalted)
            visitor.field("periodStart", &periodStart)
        }
    }

    private enum Register {
        static let seconds = 0x00, secondsAlarm = 0x01, minutes = 0x02, minutesAlarm = 0x03, hours = 0x04
        static let hoursAlarm = 0x05, weekday = 0x06, day = 0x07, month = 0x08, year = 0x09
        static let a = 0x0A, b = 0x0B, c = 0x0C, d = 0x0D, century = 0x32
    }
    /// The name of a cell of the CMOS memory.
    package static func cellName(_ index: Int) -> String {
        let names = [
            "SECONDS", "SECONDS-ALARM", "MINUTES", "MINUTES-ALARM", "HOURS", "HOURS-ALARM", "WEEKDAY", "DAY", "MONTH", "YEAR",
            "A", "B", "C", "D",
        ]
        return names.indices.contains(index) ? names[index] : index == Register.century ? "CENTURY" : "\(index)"
    }
    /// Bits of register B and of register C.
    private enum Bit {
        static let set: UInt8 = 0x80, periodic: UInt8 = 0x40, alarm: UInt8 = 0x20, update: UInt8 = 0x10
        static let binary: UInt8 = 0x04, hours24: UInt8 = 0x02
        static let request: UInt8 = 0x80
    }
    private enum Deadline { static let periodic = 0, second = 1 }
    private static let second: UInt64 = 1_000_000_000
    /// Update in progress is on for so long before the second changes, ns.
    private static let updateLead: UInt64 = 244_000

    package let name = "rtc"
    package let regions = [
        Region(.port, base: 0x70, size: 2, registers: [RegisterName(0, "CMOS-INDEX", fields: "INDEX:7 NMIOFF"), RegisterName(1, "CMOS-DATA", contents: .time)])
    ]
    package private(set) var state = State()
    private let irq: IRQLine
    private let scheduler: Scheduler

    /// - Parameter unixTime: the date at power-on, seconds since 1970. Where it comes from is decided outside.
    package init(irq: IRQLine, scheduler: Scheduler, unixTime: UInt64) {
        self.irq = irq
        self.scheduler = scheduler
        state.date = unixTime
        state.memory[Register.a] = 0x26
        state.memory[Register.b] = Bit.hours24
        state.memory[Register.d] = 0x80
    }

    /// The battery keeps date and memory; interrupts are switched off.
    package func reset() {
        state.index = 0
        state.memory[Register.b] &= ~(Bit.periodic | Bit.alarm | Bit.update)
        state.memory[Register.c] = 0
        irq.set(false)
        schedule()
    }
    package func visitState(_ visitor: inout StateVisitor) { state.visit(&visitor) }

    /// Sets a byte of CMOS RAM: for the board, before power-on.
    package func setCMOS(_ index: Int, _ value: UInt8) { state.memory[index & (Self.size - 1)] = value }

    // MARK: Time

    /// A date of the proleptic Gregorian calendar.
    private struct Calendar {
        var year: Int
        var month: Int
        var day: Int

        /// From days since 1970-01-01: counts in eras of 400 years that begin on 1 March.
        init(days: Int) {
            let shifted = days + 719_468
            let era = shifted / 146_097
            let ofEra = shifted % 146_097
            let yearOfEra = (ofEra - ofEra / 1460 + ofEra / 36_524 - ofEra / 146_096) / 365
            let ofYear = ofEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
            let fromMarch = (5 * ofYear + 2) / 153
            day = ofYear - (153 * fromMarch + 2) / 5 + 1
            month = fromMarch < 10 ? fromMarch + 3 : fromMarch - 9
            year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        }

        /// Days since 1970-01-01; month and day may be out of range.
        static func days(year: Int, month: Int, day: Int) -> Int {
            let year = month <= 2 ? year - 1 : year
            let era = year / 400
            let yearOfEra = year - era * 400
            let ofYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
            return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + ofYear - 719_468
        }
    }

    /// Nanoseconds since the date was set.
    private var elapsed: UInt64 { scheduler.now >= state.setAt ? scheduler.now - state.setAt : 0 }
    private var isBinary: Bool { state.memory[Register.b] & Bit.binary != 0 }

    private func encode(_ value: Int) -> UInt8 {
        UInt8(truncatingIfNeeded: isBinary ? value : ((value / 10 % 10) << 4) | value % 10)
    }
    private func decode(_ value: UInt8) -> Int { isBinary ? Int(value) : Int(value >> 4) * 10 + Int(value & 15) }

    private func encode(hour: Int) -> UInt8 {
        if state.memory[Register.b] & Bit.hours24 != 0 { return encode(hour) }
        let twelve = hour % 12 == 0 ? 12 : hour % 12
        return encode(twelve) | (hour >= 12 ? 0x80 : 0)
    }
    private func decode(hour: UInt8) -> Int {
        if state.memory[Register.b] & Bit.hours24 != 0 { return decode(hour) }
        return decode(hour & 0x7F) % 12 + (hour & 0x80 != 0 ? 12 : 0)
    }

    /// Writes the present time into the time registers.
    private func freshen() {
        if state.isHalted { return }
        let now = Int(truncatingIfNeeded: min(state.date &+ elapsed / Self.second, 1 << 40))
        let date = Calendar(days: now / 86_400)
        let ofDay = now % 86_400
        state.memory[Register.seconds] = encode(ofDay % 60)
        state.memory[Register.minutes] = encode(ofDay / 60 % 60)
        state.memory[Register.hours] = encode(hour: ofDay / 3600)
        // 1970-01-01 was a Thursday; Sunday is 1.
        state.memory[Register.weekday] = encode((now / 86_400 + 4) % 7 + 1)
        state.memory[Register.day] = encode(date.day)
        state.memory[Register.month] = encode(date.month)
        state.memory[Register.year] = encode(date.year % 100)
        state.memory[Register.century] = encode(date.year / 100)
    }

    /// Takes the time from the time registers.
    private func takeTime() {
        let memory = state.memory
        let year = decode(memory[Register.century]) * 100 + decode(memory[Register.year])
        let days = Calendar.days(
            year: year, month: min(max(decode(memory[Register.month]), 1), 12), day: max(decode(memory[Register.day]), 1))
        let seconds = decode(hour: memory[Register.hours]) * 3600 + decode(memory[Register.minutes]) * 60 + decode(memory[Register.seconds])
        state.date = UInt64(max(days * 86_400 + seconds, 0))
        state.setAt = scheduler.now
    }

    // MARK: Interrupts

    /// The periodic interrupt's period, ns; nil when it is off (datasheet, table 5, 32.768 kHz).
    private var period: UInt64? {
        let rate = state.memory[Register.a] & 15
        guard rate > 0, state.memory[Register.b] & Bit.periodic != 0 else { return nil }
        // Rates 1 and 2 are those of 8 and 9.
        let shift = UInt64(rate < 3 ? rate + 7 : rate) - 1
        return Ticks.nanoseconds(count: 1 << shift, frequency: 32_768)
    }

    private func schedule() {
        if let period {
            scheduler.schedule(self, timer: Deadline.periodic, at: state.periodStart &+ period)
        } else {
            scheduler.cancel(self, timer: Deadline.periodic)
        }
        let wantsSecond = state.memory[Register.b] & (Bit.alarm | Bit.update) != 0 && !state.isHalted
        if wantsSecond {
            scheduler.schedule(self, timer: Deadline.second, at: state.setAt &+ (elapsed / Self.second + 1) &* Self.second)
        } else {
            scheduler.cancel(self, timer: Deadline.second)
        }
    }

    package func timerFired(_ timer: Int) {
        if timer == Deadline.periodic {
            if let period {
                // Periods that passed unseen are one interrupt.
                let passed = (scheduler.now - min(state.periodStart, scheduler.now)) / period
                state.periodStart &+= max(passed, 1) &* period
            }
            raise(Bit.periodic)
        } else {
            freshen()
            var causes = Bit.update
            if isAlarmDue { causes |= Bit.alarm }
            raise(causes)
        }
        schedule()
    }

    /// The alarm bytes match; the two top bits set match anything.
    private var isAlarmDue: Bool {
        let memory = state.memory
        let pairs = [
            (Register.seconds, Register.secondsAlarm), (Register.minutes, Register.minutesAlarm),
            (Register.hours, Register.hoursAlarm),
        ]
        return pairs.allSatisfy { memory[$0.1] & 0xC0 == 0xC0 || memory[$0.0] == memory[$0.1] }
    }

    private func raise(_ causes: UInt8) {
        state.memory[Register.c] |= causes
        if state.memory[Register.c] & state.memory[Register.b] & (Bit.periodic | Bit.alarm | Bit.update) != 0 {
            state.memory[Register.c] |= Bit.request
            irq.set(true)
        }
    }

    // MARK: Registers

    package func read(region: Int, offset: UInt64, width: Int) -> UInt64 {
        ByteLanes.read(offset, width) { $0 == 0 ? 0xFF : readData() }
    }

    private func readData() -> UInt8 {
        let index = Int(state.index & 0x7F)
        switch index {
        case 0...9, Register.century:
            freshen()
            return state.memory[index]
        case Register.a:
            let isUpdating = !state.isHalted && elapsed % Self.second >= Self.second - Self.updateLead
            return state.memory[index] & 0x7F | (isUpdating ? 0x80 : 0)
        case Register.c:
            // Reading acknowledges.
            let value = state.memory[index]
            state.memory[index] = 0
            irq.set(false)
            return value
        default: return state.memory[index]
        }
    }

    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {
        ByteLanes.write(offset, width, value) { offset, value in
            if offset == 0 { state.index = value } else { writeData(value) }
        }
    }

    private func writeData(_ value: UInt8) {
        let index = Int(state.index & 0x7F)
        switch index {
        case Register.seconds, Register.minutes, Register.hours, Register.weekday...Register.year, Register.century:
            freshen()
            state.memory[index] = value
            if !state.isHalted { takeTime() }
        case Register.a:
            state.memory[index] = value & 0x7F
            state.periodStart = scheduler.now
        case Register.b:
            freshen()
            let wasPeriodic = state.memory[index] & Bit.periodic != 0
            state.memory[index] = value
            let halts = value & Bit.set != 0
            if state.isHalted, !halts { takeTime() }
            state.isHalted = halts
            if !wasPeriodic { state.periodStart = scheduler.now }
        case Register.c, Register.d: break
        default: state.memory[index] = value
        }
        schedule()
    }
}
