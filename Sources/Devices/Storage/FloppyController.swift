import DeviceBus
import MachineState

/// Intel's 82078 floppy disk controller (datasheet 290468) with up to two drives, data by DMA channel 2. The registers;
/// `FloppyController+Commands` has what they start.
///
/// As a host receiver it is told of failures of the host's files: the present transfer fails.
package final class FloppyController: Device, HostReceiver {
    package enum Phase: UInt8, Sendable {
        /// The controller takes the bytes of a command.
        case command = 0
        case execution = 1
        /// Software reads the result's bytes.
        case result = 2
    }

    /// What happens when the timer fires.
    package enum Step: UInt8, Sendable {
        case none = 0
        /// A reset is over.
        case awake = 1
        /// Heads have arrived.
        case seek = 2
        /// The sector in the buffer goes to RAM.
        case store = 3
        /// The sector in the buffer goes to the disk.
        case commit = 4
        /// The sector under the head is known.
        case identify = 5
        /// The next sector of a track that is being formatted is under the head.
        case format = 6
    }

    /// Everything the guest can observe.
    package struct State {
        /// Bits 1...0 drive, bit 2 no reset, bit 3 interrupts and DMA, bits 7...4 motors.
        package var output: UInt8 = 0x0C
        package var dataRate: UInt8 = 2
        package var tape: UInt8 = 0
        package var phase = Phase.command
        package var step = Step.none
        /// The command's bytes so far.
        package var command: [UInt8] = []
        /// The result's bytes that are still to be read.
        package var result: [UInt8] = []
        /// Of drives 0...3: where the head is.
        package var cylinders = [UInt8](repeating: 0, count: 4)
        /// Status register 0 of each interrupt that SENSE INTERRUPT STATUS will tell of.
        package var causes: [UInt8] = []
        /// Drives whose disk may have been changed since the last step of the head, a bit each.
        package var changed: UInt8 = 0x0F
        package var specification: [UInt8] = [0xDF, 0x02]
        /// CONFIGURE's second and third byte.
        package var settings: [UInt8] = [0, 0]
        package var perpendicular: UInt8 = 0
        package var isLocked = false
        /// The sector on its way: cylinder, head, number; and its data.
        package var cylinder: UInt8 = 0
        package var head: UInt8 = 0
        package var sector: UInt8 = 0
        package var buffer: [UInt8] = []
        package var hasFailed = false
        /// Sectors of the present track that have been formatted.
        package var formatted: UInt8 = 0

        package init() {}

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("output", &output)
            visitor.field("dataRate", &dataRate)
            visitor.field("tape", &tape)
            visitor.field("phase", &phase)
            visitor.field("step", &step)
            visitor.field("command", &command)
            visitor.field("result", &result)
            visitor.field("cylinders", &cylinders)
            visitor.field("causes", &causes)
            visitor.field("changed", &changed)
            visitor.field("specification", &specification)
            visitor.field("settings", &settings)
            visitor.field("perpendicular", &perpendicular)
            visitor.field("isLocked", &isLocked)
            visitor.field("cylinder", &cylinder)
            visitor.field("head", &head)
            visitor.field("sector", &sector)
            visitor.field("buffer", &buffer)
            visitor.field("hasFailed", &hasFailed)
            visitor.field("formatted", &formatted)
            if visitor.mode == .load,
                cylinders.count != 4 || specification.count != 2 || settings.count != 2
                    || (phase == .execution && command.count < 2)
            {
                visitor.fail("a floppy controller's lists have the wrong length")
                self = State()
            }
        }
    }

    /// How a disk is divided.
    package struct Geometry: Sendable, Equatable {
        package var cylinders: UInt8
        package var heads: UInt8
        package var sectors: UInt8
        /// The drive's type as CMOS RAM knows it.
        package var type: UInt8

        /// Of an image of so many sectors of 512 bytes; nil when no drive takes such a disk.
        package init?(sectors count: UInt64) {
            let known: [(UInt64, UInt8, UInt8, UInt8, UInt8)] = [
                (320, 40, 1, 8, 1), (360, 40, 1, 9, 1), (640, 40, 2, 8, 1), (720, 40, 2, 9, 1), (1440, 80, 2, 9, 3),
                (2400, 80, 2, 15, 2), (2880, 80, 2, 18, 4), (3360, 80, 2, 21, 4), (3444, 82, 2, 21, 4),
                (5760, 80, 2, 36, 5),
            ]
            guard let row = known.first(where: { $0.0 == count }) else { return nil }
            (cylinders, heads, sectors, type) = (row.1, row.2, row.3, row.4)
        }
    }

    private static let registers = [
        RegisterName(0, "SRA"), RegisterName(1, "SRB"),
        RegisterName(2, "DOR", fields: "DRIVE:2 NRESET DMAEN MOT0 MOT1 MOT2 MOT3"), RegisterName(3, "TDR"),
        RegisterName(4, "MSR/DSR", fields: "ACT0 ACT1 ACT2 ACT3 CB NDMA DIO RQM", written: "RATE:2=500/300/250/1000 PRECOMP:3 - PD RESET"),
        RegisterName(5, "FIFO"),
    ]
    package let name = "floppy"
    package let regions: [Region] = [
        Region(.port, base: 0x3F0, size: 6, registers: FloppyController.registers),
        Region(.port, base: 0x3F7, size: 1, registers: [RegisterName(0, "DIR/CCR", fields: "-:7 DSKCHG", written: "RATE:2=500/300/250/1000")]),
    ]
    package internal(set) var state = State()
    /// Drives 0 and 1; nil for a drive without a disk.
    let media: [(any BlockMedium)?]
    private let irq: IRQLine
    let dma: DMA8237
    private let scheduler: Scheduler

    package init(media: [(any BlockMedium)?], irq: IRQLine, dma: DMA8237, scheduler: Scheduler) {
        self.media = (0..<2).map { media.indices.contains($0) ? media[$0] : nil }
        self.irq = irq
        self.dma = dma
        self.scheduler = scheduler
    }

    package func visitState(_ visitor: inout StateVisitor) { state.visit(&visitor) }

    package func reset() {
        scheduler.cancel(self, timer: 0)
        state = State()
        irq.set(false)
    }

    /// Any input is a failure.
    package func receive(_ bytes: [UInt8]) {
        guard state.phase == .execution else { return }
        state.hasFailed = true
        for index in state.buffer.indices { state.buffer[index] = 0 }
    }

    func schedule(_ step: Step, after nanoseconds: VirtualTime) {
        state.step = step
        scheduler.schedule(self, timer: 0, at: scheduler.now &+ nanoseconds)
    }

    private var isInReset: Bool { state.output & 4 == 0 }
    /// The drive that the output register selects.
    private var selectedDrive: Int { Int(state.output & 3) }

    func interrupt(_ level: Bool) { irq.set(level && state.output & 8 != 0) }

    // MARK: Registers

    package func read(region: Int, offset: UInt64, width: Int) -> UInt64 {
        ByteLanes.read(offset, width) { region == 1 ? readChange() : readRegister($0) }
    }

    private func readChange() -> UInt8 {
        let drive = selectedDrive
        let isOn = state.output >> UInt8(4 + drive) & 1 != 0
        return isOn && state.changed >> UInt8(drive) & 1 != 0 ? 0x80 : 0
    }

    private func readRegister(_ offset: UInt64) -> UInt8 {
        switch offset {
        // A second drive is there (bit 6 is low when it is).
        case 0: return 0
        case 1: return 0xC0
        case 2: return state.output
        case 3: return state.tape
        case 4:
            if isInReset || state.step == .awake { return 0 }
            switch state.phase {
            case .command: return 0x80 | (state.command.isEmpty ? 0 : 0x10)
            case .execution: return state.step == .seek ? 0x80 | 1 << (state.command.count > 1 ? state.command[1] & 3 : 0) : 0x10
            case .result: return 0xD0
            }
        case 5:
            guard state.phase == .result, !state.result.isEmpty else { return 0 }
            let byte = state.result.removeFirst()
            interrupt(false)
            if state.result.isEmpty {
                state.phase = .command
                state.command = []
            }
            return byte
        default: return 0
        }
    }

    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {
        ByteLanes.write(offset, width, value) { place, byte in
            if region == 1 { state.dataRate = byte & 3 } else { writeRegister(place, byte) }
        }
    }

    private func writeRegister(_ offset: UInt64, _ value: UInt8) {
        switch offset {
        case 2:
            let wasInReset = isInReset
            state.output = value
            if isInReset {
                if !wasInReset { beginReset() }
            } else if wasInReset {
                schedule(.awake, after: 50_000)
            }
        case 3: state.tape = value & 3
        case 4:
            state.dataRate = value & 3
            if value & 0x80 != 0 {
                beginReset()
                if !isInReset { schedule(.awake, after: 50_000) }
            }
        case 5:
            guard !isInReset, state.step != .awake else { return }
            // A command may come while heads move.
            if state.phase == .execution, state.step == .seek { finishSeek() }
            if state.phase == .command { takeCommandByte(value) }
        default: break
        }
    }

    private func beginReset() {
        scheduler.cancel(self, timer: 0)
        state.step = .none
        state.phase = .command
        state.command = []
        state.result = []
        state.causes = []
        state.buffer = []
        state.hasFailed = false
        if !state.isLocked { state.settings = [0, 0] }
        irq.set(false)
    }

    package func timerFired(_ timer: Int) {
        let step = state.step
        state.step = .none
        switch step {
        case .none: break
        case .awake:
            // The controller looks at its four drives, and says so.
            state.causes = (0..<4).map { 0xC0 | $0 }
            interrupt(true)
        case .seek: finishSeek()
        case .store: storeSector()
        case .commit: commitSector()
        case .identify: finishIdentify()
        case .format: formatSector()
        }
    }
}
