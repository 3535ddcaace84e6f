import DeviceBus
import MachineState

/// Intel's High Definition Audio controller as in the 82801FB (ICH6), four streams in, four out, with one codec (High Definition Audio
/// Specification 1.0a; Intel ICH6 datasheet, 18).
///
/// The channel's messages are those of `AC97`: out 1 and samples, 2 recording begins, 3 recording ends, each with the rate in 4 bytes;
/// frames for the recording come in. A command to the codec takes a frame of the link, 1/48000 s. Samples move when their time has come:
/// at the end of each buffer, when the driver looks, and every millisecond while positions are to be written to RAM. Not there: more
/// than one codec, other formats than two channels of 16 bits at 44.1 or 48 kHz, responses without a command.
package final class HDA: PCIFunction, HostReceiver {
    /// Everything the guest can observe.
    package struct State {
        package var configuration = HDA.makeConfiguration()
        package var codec = HDACodec()
        /// GCTL, WAKEEN, STATESTS.
        package var control: UInt32 = 0
        package var wake: UInt16 = 0
        package var changed: UInt16 = 0
        package var interruptControl: UInt32 = 0
        /// SSYNC: streams that are held.
        package var held: UInt32 = 0
        /// When the wall clock began.
        package var clockStart: VirtualTime = 0
        package var commands = Ring()
        package var responses = Ring()
        /// RINTCNT, and responses since the last interrupt.
        package var responsesWanted: UInt16 = 0
        package var responsesSeen: UInt16 = 0
        /// ICOI, ICII, ICIS.
        package var immediateCommand: UInt32 = 0
        package var immediateResponse: UInt32 = 0
        package var immediateStatus: UInt32 = 0
        /// DPLBASE and DPUBASE: where positions go, bit 0 whether.
        package var positions: UInt64 = 0
        /// In first, then out.
        package var streams = [HDAStream](repeating: HDAStream(), count: HDA.streamCount)
        /// The stream that is being recorded; `noStream` if none.
        package var recording: UInt8 = HDA.noStream
        /// Frames from outside that wait to be recorded.
        package var recorded: [UInt8] = []
        /// A message has been sent for what is pending.
        package var isSignalled = false

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.group("configuration") { configuration.visit(&$0) }
            visitor.group("codec") { codec.visit(&$0) }
            visitor.field("control", &control)
            visitor.field("wake", &wake)
            visitor.field("changed", &changed)
            visitor.field("interruptControl", &interruptControl)
            visitor.field("held", &held)
            visitor.field("clockStart", &clockStart)
            visitor.group("commands") { commands.visit(&$0) }
            visitor.group("responses") { responses.visit(&$0) }
            visitor.field("responsesWanted", &responsesWanted)
            visitor.field("responsesSeen", &responsesSeen)
            visitor.field("immediateCommand", &immediateCommand)
            visitor.field("immediateResponse", &immediateResponse)
            visitor.field("immediateStatus", &immediateStatus)
            visitor.field("positions", &positions)
            visitor.list("streams", &streams, make: { HDAStream() }) { $0.visit(&$1) }
            visitor.field("recording", &recording)
            visitor.field("recorded", &recorded)
            visitor.field("isSignalled", &isSignalled)
            if visitor.mode == .load,
                streams.count != HDA.streamCount || recording != HDA.noStream && recording >= HDA.inputCount
                    || recorded.count > HDA.mostRecorded
            {
                visitor.fail("registers of another size")
                self = State()
            }
        }
    }

    /// CORB or RIRB (3.3.18 to 3.3.31), 256 entries.
    package struct Ring {
        package var base: UInt64 = 0
        package var write: UInt8 = 0
        package var read: UInt8 = 0
        /// CORBRP's bit 15.
        package var isReset = false
        package var control: UInt8 = 0
        package var status: UInt8 = 0

        package init() {}
        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("base", &base)
            visitor.field("write", &write)
            visitor.field("read", &read)
            visitor.field("isReset", &isReset)
            visitor.field("control", &control)
            visitor.field("status", &status)
        }
    }

    static let inputCount = 4, streamCount = 8
    static let noStream: UInt8 = 0xFF
    /// The most bytes of a recording that wait: a second at the highest rate.
    static let mostRecorded = 48_000 * 4
    private enum Timer { static let command = 8, arrival = 9 }
    /// A frame of the link, ns.
    private static let linkFrame: VirtualTime = 20_834
    /// From the end of a reset until the codec has said that it is there, ns (5.5.3: 25 frames).
    private static let arrival: VirtualTime = 521_000
    private static let message = MSI(at: 0x60)

    package let name: String
    package var regions: [Region] { [configuration.region(0, registers: Self.registers)] }
    package internal(set) var state = State()
    package var configuration: PCIConfiguration {
        get { state.configuration }
        set { state.configuration = newValue }
    }
    private let irq: IRQLine
    private let messages: any MessageSink
    let memory: any DMAPort
    let scheduler: Scheduler
    let channel: any HostChannel

    /// - Parameter irq: the pin INTA of its slot.
    package init(
        name: String, irq: IRQLine, messages: any MessageSink, memory: any DMAPort, scheduler: Scheduler, channel: any HostChannel
    ) {
        self.name = name
        self.irq = irq
        self.messages = messages
        self.memory = memory
        self.scheduler = scheduler
        self.channel = channel
    }

    private static func makeConfiguration() -> PCIConfiguration {
        var configuration = PCIConfiguration(
            vendor: 0x8086, device: 0x2668, revision: 3, classCode: 0x040300, subsystemVendor: 0x8086, subsystem: 0x2668, interruptPin: 1)
        configuration.setBaseAddress(0, .memory, size: 0x4000, region: 0)
        // HDCTL says which link there is, TCSEL the class of its traffic.
        configuration.preset(0x40, width: 1, 1)
        configuration.allowWrites(0x44, width: 1, mask: 7)
        message.addCapability(to: &configuration)
        return configuration
    }

    // MARK: Device

    package func visitState(_ visitor: inout StateVisitor) { state.visit(&visitor) }

    package func reset() {
        resetLink()
        state = State()
        update()
    }

    package func configurationWritten(_ offset: Int, width: Int) { update() }

    package func timerFired(_ timer: Int) {
        switch timer {
        case Timer.command: nextCommand()
        case Timer.arrival:
            state.changed |= 1
            update(isNew: true)
        default: advance(timer)
        }
    }

    /// Frames to be recorded; what comes while nothing records is lost, as are frames beyond a second.
    package func receive(_ bytes: [UInt8]) {
        if state.recording != Self.noStream { advance(Int(state.recording)) }
        guard state.recording != Self.noStream else { return }
        let room = max(Self.mostRecorded - state.recorded.count, 0) & ~3
        state.recorded += bytes.prefix(min(room, bytes.count & ~3))
    }

    // MARK: Registers

    /// Calls `body` for each aligned register of 32 bits in a range: its offset, where its bits are in the value, which ones.
    private func eachRegister(_ offset: UInt64, _ width: Int, _ body: (_ offset: Int, _ shift: Int, _ lowest: Int, _ bytes: Int) -> Void) {
        var lane = 0
        while lane < width {
            let place = Int(truncatingIfNeeded: offset & 0x3FFF) + lane
            let count = min(4 - place & 3, width - lane)
            body(place & ~3, lane * 8, place & 3, count)
            lane += count
        }
    }

    package func read(region: Int, offset: UInt64, width: Int) -> UInt64 {
        var value: UInt64 = 0
        eachRegister(offset, width) { offset, shift, lowest, count in
            let part = UInt64(readRegister(offset)) >> UInt64(lowest * 8) & (1 << UInt64(count * 8) - 1)
            value |= part << UInt64(shift)
        }
        return value
    }

    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {
        eachRegister(offset, width) { offset, shift, lowest, count in
            let mask: UInt64 = (1 << UInt64(count * 8) - 1) << UInt64(lowest * 8)
            let shifted = (value >> UInt64(shift)) << UInt64(lowest * 8)
            writeRegister(offset, Bits(value: UInt32(truncatingIfNeeded: shifted), mask: UInt32(truncatingIfNeeded: mask)))
        }
        update()
    }

    private func readRegister(_ offset: Int) -> UInt32 {
        switch offset {
        // Four streams in, four out, none both ways; 64-bit addresses. Version 1.0.
        case 0x00: return 0x0100_4401
        case 0x04: return 0x001D_003C
        case 0x08: return state.control
        case 0x0C: return UInt32(state.wake) | UInt32(state.changed) << 16
        case 0x18: return 0x0018_0030
        case 0x20: return state.interruptControl
        case 0x24:
            for index in 0..<Self.streamCount { advance(index) }
            return interruptStatus
        case 0x30, 0x2030: return UInt32(truncatingIfNeeded: (scheduler.now &- state.clockStart) &* 24 / 1000)
        case 0x34, 0x38: return state.held
        case 0x40: return UInt32(truncatingIfNeeded: state.commands.base)
        case 0x44: return UInt32(truncatingIfNeeded: state.commands.base >> 32)
        case 0x48:
            return UInt32(state.commands.write) | UInt32(state.commands.read) << 16 | (state.commands.isReset ? 0x8000_0000 : 0)
        // 256 entries, and nothing else.
        case 0x4C: return UInt32(state.commands.control) | UInt32(state.commands.status) << 8 | 0x0042_0000
        case 0x50: return UInt32(truncatingIfNeeded: state.responses.base)
        case 0x54: return UInt32(truncatingIfNeeded: state.responses.base >> 32)
        case 0x58: return UInt32(state.responses.write) | UInt32(state.responsesWanted) << 16
        case 0x5C: return UInt32(state.responses.control) | UInt32(state.responses.status) << 8 | 0x0042_0000
        case 0x60: return state.immediateCommand
        case 0x64: return state.immediateResponse
        case 0x68: return state.immediateStatus
        case 0x70: return UInt32(truncatingIfNeeded: state.positions)
        case 0x74: return UInt32(truncatingIfNeeded: state.positions >> 32)
        case 0x80..<0x180, 0x2080..<0x2180:
            let index = (offset & 0x1FFF - 0x80) / 0x20
            if offset >= 0x2000, offset & 0x1F != 4 { return 0 }
            advance(index)
            return state.streams[index].read(offset & 0x1F)
        default: return 0
        }
    }

    /// A write to some of a register's bits.
    struct Bits {
        let value: UInt32
        let mask: UInt32
        /// Ones that are written, for registers that are cleared so.
        var ones: UInt32 { value & mask }

        /// The register `old`, of which `writable` can be written, after it.
        func into(_ old: UInt32, _ writable: UInt32 = .max) -> UInt32 { old & ~(mask & writable) | value & mask & writable }
        func intoLow(_ old: UInt64, _ writable: UInt32) -> UInt64 {
            old & ~0xFFFF_FFFF | UInt64(into(UInt32(truncatingIfNeeded: old), writable))
        }
        func intoHigh(_ old: UInt64) -> UInt64 { old & 0xFFFF_FFFF | UInt64(into(UInt32(truncatingIfNeeded: old >> 32))) << 32 }
    }

    private func writeRegister(_ offset: Int, _ bits: Bits) {
        switch offset {
        case 0x08: return writeControl(bits.into(state.control, 0x101))
        case 0x0C:
            state.wake = UInt16(truncatingIfNeeded: bits.into(UInt32(state.wake), 0x7))
            state.changed &= ~UInt16(truncatingIfNeeded: bits.ones >> 16)
            return
        default: break
        }
        // In reset nothing else can be written.
        guard state.control & 1 != 0 else { return }
        switch offset {
        case 0x20: state.interruptControl = bits.into(state.interruptControl, 0xC000_00FF)
        case 0x34, 0x38: changeStreams { state.held = bits.into(state.held, 0xFF) }
        case 0x40: state.commands.base = bits.intoLow(state.commands.base, ~127)
        case 0x44: state.commands.base = bits.intoHigh(state.commands.base)
        case 0x48:
            state.commands.write = UInt8(truncatingIfNeeded: bits.into(UInt32(state.commands.write)))
            if bits.mask & 0x8000_0000 != 0 {
                state.commands.isReset = bits.value & 0x8000_0000 != 0
                if state.commands.isReset { state.commands.read = 0 }
            }
            startCommands()
        case 0x4C:
            state.commands.control = UInt8(truncatingIfNeeded: bits.into(UInt32(state.commands.control), 3))
            state.commands.status &= ~UInt8(truncatingIfNeeded: bits.ones >> 8)
            startCommands()
        case 0x50: state.responses.base = bits.intoLow(state.responses.base, ~127)
        case 0x54: state.responses.base = bits.intoHigh(state.responses.base)
        case 0x58:
            if bits.ones & 0x8000 != 0 { state.responses.write = 0 }
            state.responsesWanted = UInt16(truncatingIfNeeded: bits.into(UInt32(state.responsesWanted) << 16, 0xFF_0000) >> 16)
        case 0x5C:
            state.responses.control = UInt8(truncatingIfNeeded: bits.into(UInt32(state.responses.control), 7))
            state.responses.status &= ~UInt8(truncatingIfNeeded: bits.ones >> 8)
        case 0x60: state.immediateCommand = bits.into(state.immediateCommand)
        case 0x68:
            // Valid is cleared by a 1; busy sends the command, which is answered at once.
            state.immediateStatus &= ~(bits.ones & 2)
            if bits.ones & 1 != 0, let answer = answer(state.immediateCommand) {
                state.immediateResponse = answer
                state.immediateStatus |= 2
            }
        case 0x70: state.positions = bits.intoLow(state.positions, ~126)
        case 0x74: state.positions = bits.intoHigh(state.positions)
        case 0x80..<0x180: writeStream((offset - 0x80) / 0x20, offset & 0x1F, bits)
        default: break
        }
    }

    private func writeControl(_ value: UInt32) {
        let was = state.control & 1
        state.control = value
        if was == 1, value & 1 == 0 { resetLink() }
        if was == 0, value & 1 == 1 {
            state.clockStart = scheduler.now
            scheduler.schedule(self, timer: Timer.arrival, at: scheduler.now &+ Self.arrival)
        }
    }

    /// Everything but the configuration space, and what only a cold reset changes: who has woken us, and whose waking is wanted.
    private func resetLink() {
        for timer in 0...Timer.arrival { scheduler.cancel(self, timer: timer) }
        var new = State()
        new.configuration = state.configuration
        (new.wake, new.changed, new.codec) = (state.wake, state.changed, state.codec)
        new.codec.reset()
        (new.recording, new.recorded) = (state.recording, state.recorded)
        let rate = recordingRate
        state = new
        connect(rate)
    }

    // MARK: Interrupts

    private var interruptStatus: UInt32 {
        var status: UInt32 = 0
        for index in 0..<Self.streamCount where state.streams[index].wantsInterrupt { status |= 1 << UInt32(index) }
        if state.responses.status & state.responses.control & 5 != 0 || state.changed & state.wake != 0 { status |= 1 << 30 }
        return status & state.interruptControl & 0x7FFF_FFFF != 0 ? status | 1 << 31 : status
    }

    /// Sets the pin, or sends the message: when something becomes pending, and for each further event.
    func update(isNew: Bool = false) {
        let isActive = interruptStatus & state.interruptControl & 1 << 31 != 0
        let isMessage = Self.message.isEnabled(configuration)
        irq.set(isActive && !isMessage && configuration.allowsInterruptPin)
        let isDue = isActive && (isNew || !state.isSignalled)
        state.isSignalled = isActive
        if isDue, isMessage { Self.message.send(configuration, to: messages) }
    }

    // MARK: Commands

    private var hasCommand: Bool {
        state.commands.control & 2 != 0 && !state.commands.isReset && state.commands.read != state.commands.write && configuration.isBusMaster
    }
    private func startCommands() {
        if hasCommand {
            scheduler.schedule(self, timer: Timer.command, at: scheduler.now &+ Self.linkFrame)
        } else {
            scheduler.cancel(self, timer: Timer.command)
        }
    }

    private func nextCommand() {
        guard hasCommand else { return }
        state.commands.read &+= 1
        var command: UInt32 = 0
        withUnsafeMutableBytes(of: &command) { memory.read(state.commands.base &+ UInt64(state.commands.read) * 4, into: $0) }
        let answer = answer(UInt32(littleEndian: command))
        if let answer, state.responses.control & 2 != 0 {
            state.responses.write &+= 1
            let response = UInt64(answer).littleEndian
            withUnsafeBytes(of: response) { memory.write(state.responses.base &+ UInt64(state.responses.write) * 8, from: $0) }
            state.responsesSeen &+= 1
        }
        startCommands()
        // So many, or a frame without a response.
        let wanted = state.responsesWanted == 0 ? 256 : state.responsesWanted
        if state.responsesSeen >= wanted || state.responsesSeen > 0 && (answer == nil || !hasCommand) {
            state.responsesSeen = 0
            state.responses.status |= 1
            update(isNew: true)
        }
    }

    /// The codec's answer; nil where there is no codec.
    private func answer(_ command: UInt32) -> UInt32? {
        guard command >> 28 == 0 else { return nil }
        // What has been due until now was due to the converters as they are.
        for index in 0..<Self.streamCount { advance(index) }
        let rate = recordingRate
        let answer = state.codec.carryOut(command)
        connect(rate)
        return answer
    }
}
