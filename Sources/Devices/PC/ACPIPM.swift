import DeviceBus
import MachineState

/// Power management as in Intel's 82371AB (PIIX4, datasheet 290562): the ACPI fixed hardware at PMBASE, general purpose
/// events, the SMI command port that switches ACPI mode, and the reset control register.
package final class ACPIPM: Device, HostReceiver {
    /// SLP_TYP of the soft-off state S5, as the ACPI tables say it.
    package static let s5SleepType: UInt16 = 0

    package struct State {
        package var status: UInt16 = 0
        package var enable: UInt16 = 0
        package var control: UInt16 = 0
        package var eventStatus: UInt16 = 0
        package var eventEnable: UInt16 = 0
        package var smiStatus: UInt8 = 0
        /// Port 0xCF9.
        package var resetControl: UInt8 = 0
        /// The first port of the block; 0 while it is switched off.
        package var base: UInt16 = ACPIPM.defaultBase

        package init() {}

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("status", &status)
            visitor.field("enable", &enable)
            visitor.field("control", &control)
            visitor.field("eventStatus", &eventStatus)
            visitor.field("eventEnable", &eventEnable)
            visitor.field("smiStatus", &smiStatus)
            visitor.field("resetControl", &resetControl)
            visitor.field("base", &base)
            if visitor.mode == .load, base & 0x3F != 0 || base >= 0xFFC0 { base = 0 }
        }
    }

    /// Bits of PM1 status and enable, and of PM1 control (ACPI 4.8.3).
    private enum Bit {
        static let timer: UInt16 = 1 << 0
        static let powerButton: UInt16 = 1 << 8
        static let wake: UInt16 = 1 << 15
        static let sciEnable: UInt16 = 1 << 0
        static let sleepEnable: UInt16 = 1 << 13
    }
    /// The PM timer: 3.579545 MHz, 24 bits.
    private static let timerFrequency: UInt64 = 3_579_545
    private static let timerMask: UInt64 = 0xFF_FFFF

    package let name = "pm"
    /// Where the block is after a reset.
    package static let defaultBase: UInt16 = 0xB000
    private static let registers = [
        RegisterName(0, "PM1-STS", length: 2, fields: "TMR -:3 BM GBL -:2 PWRBTN SLPBTN RTC -:4 WAK"),
        RegisterName(2, "PM1-EN", length: 2, fields: "TMR -:4 GBL -:2 PWRBTN SLPBTN RTC"),
        RegisterName(4, "PM1-CNT", length: 2, fields: "SCI BMRLD GBLRLS -:7 SLPTYP:3 SLPEN"),
        RegisterName(8, "PM-TMR", length: 4, contents: .time),
    ]
    package var regions: [Region] {
        [Region(.port, base: UInt64(state.base), size: state.base == 0 ? 0 : 0x40, registers: Self.registers)] + Self.fixedRegions
    }
    private static let fixedRegions = [
        Region(
            .port, base: 0xAFE0, size: 4,
            registers: [RegisterName(0, "GPE0-STS", length: 2), RegisterName(2, "GPE0-EN", length: 2)]),
        Region(.port, base: 0xB2, size: 2, registers: [RegisterName(0, "SMI-CMD"), RegisterName(1, "SMI-STS")]),
    ]
    /// Where the block is mapped on the bus: follows from the state and the other chips.
    private var mapped: UInt16 = ACPIPM.defaultBase
    package private(set) var state = State()
    private let sci: IRQLine
    private let scheduler: Scheduler
    private let pins: any CPUPins

    package init(sci: IRQLine, scheduler: Scheduler, pins: any CPUPins) {
        self.sci = sci
        self.scheduler = scheduler
        self.pins = pins
    }

    package func reset() {
        state = State()
        scheduler.cancel(self, timer: 0)
        update()
    }
    package func visitState(_ visitor: inout StateVisitor) { state.visit(&visitor) }

    /// Any input is a press of the power button.
    package func receive(_ bytes: [UInt8]) { pressPowerButton() }

    package func pressPowerButton() {
        state.status |= Bit.powerButton
        update()
    }

    private func update() {
        let isActive = state.status & state.enable & (Bit.timer | Bit.powerButton) != 0 || state.eventStatus & state.eventEnable != 0
        sci.set(isActive && state.control & Bit.sciEnable != 0)
    }

    // MARK: Place

    /// PMBASE says where the block is; nil while it is switched off.
    package func move(to base: UInt16?, on bus: Bus) {
        state.base = base.map { $0 & 0xFFC0 } ?? 0
        updateMapping(on: bus)
    }

    /// Maps the block where the state says, unless another chip is there. The board calls it after it has loaded a
    /// snapshot.
    package func updateMapping(on bus: Bus) {
        if mapped == state.base { return }
        if mapped != 0 { bus.unmap(self, 0) }
        mapped = 0
        let region = regions[0]
        let isTaken = (0..<region.size).contains { bus.target(.port, region.base + $0) != nil }
        if region.size == 0 || isTaken { return }
        bus.map(self, 0, region)
        mapped = state.base
    }

    // MARK: Timer

    private var ticks: UInt64 { Ticks.count(nanoseconds: scheduler.now, frequency: Self.timerFrequency) }

    /// The timer's top bit changes every 2^23 ticks: a deadline only while somebody wants to know.
    private func scheduleTimer() {
        guard state.enable & Bit.timer != 0 else { return scheduler.cancel(self, timer: 0) }
        let next = (ticks >> 23 + 1) << 23
        scheduler.schedule(self, timer: 0, at: Ticks.nanoseconds(count: next, frequency: Self.timerFrequency))
    }

    package func timerFired(_ timer: Int) {
        state.status |= Bit.timer
        update()
        scheduleTimer()
    }

    // MARK: Registers

    package func read(region: Int, offset: UInt64, width: Int) -> UInt64 {
        ByteLanes.read(offset, width) { readByte(region, $0) }
    }

    private func readByte(_ region: Int, _ offset: UInt64) -> UInt8 {
        let shift = offset & 1 * 8
        switch (region, offset) {
        case (0, 0...1): return UInt8(truncatingIfNeeded: state.status >> shift)
        case (0, 2...3): return UInt8(truncatingIfNeeded: state.enable >> shift)
        case (0, 4...5): return UInt8(truncatingIfNeeded: state.control >> shift)
        case (0, 8...11): return UInt8(truncatingIfNeeded: (ticks & Self.timerMask) >> (offset & 3 * 8))
        case (1, 0...1): return UInt8(truncatingIfNeeded: state.eventStatus >> shift)
        case (1, 2...3): return UInt8(truncatingIfNeeded: state.eventEnable >> shift)
        case (2, 1): return state.smiStatus
        default: return 0
        }
    }

    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {
        ByteLanes.write(offset, width, value) { writeByte(region, $0, $1) }
        update()
    }

    private func writeByte(_ region: Int, _ offset: UInt64, _ value: UInt8) {
        let shift = offset & 1 * 8
        let wide = UInt16(value) << shift
        let lane = UInt16(0xFF) << shift
        switch (region, offset) {
        // Status bits are cleared by ones.
        case (0, 0...1): state.status &= ~wide
        case (0, 2...3):
            state.enable = state.enable & ~lane | wide
            scheduleTimer()
        case (0, 4...5):
            // SLP_EN is write only.
            state.control = (state.control & ~lane | wide) & ~Bit.sleepEnable
            if offset == 5, wide & Bit.sleepEnable != 0, (state.control >> 10) & 7 == Self.s5SleepType {
                pins.powerOff(code: nil)
            }
        case (1, 0...1): state.eventStatus &= ~wide
        case (1, 2...3): state.eventEnable = state.eventEnable & ~lane | wide
        case (2, 0):
            // What the FADT gives as ACPI_ENABLE and ACPI_DISABLE.
            if value == 0xF1 { state.control |= Bit.sciEnable } else if value == 0xF0 { state.control &= ~Bit.sciEnable }
        case (2, 1): state.smiStatus = value
        default: break
        }
    }

    // MARK: Reset control, port 0xCF9 (it lies within the PCI host's ports, which asks here)

    package var resetControl: UInt8 { state.resetControl }

    /// Bit 2 resets, bit 1 says whether all of the machine.
    package func writeResetControl(_ value: UInt8) {
        let rises = value & 4 != 0 && state.resetControl & 4 == 0
        state.resetControl = value & 6
        if rises { pins.requestReset() }
    }
}
