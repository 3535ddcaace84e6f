import DeviceBus
import MachineState

/// The sound of Intel's 82801AA (ICH): an AC '97 2.1 codec behind a bus master (Intel 82801AA datasheet, 12 and 13; AC '97 2.1).
/// One stream out, one in, of 16 bits and two channels, at rates of 8 to 48 kHz.
///
/// Its channel's messages out begin with 1 (samples: the rate in 4 bytes, then frames of 4 bytes) or with 2 (recording begins:
/// the rate) or 3 (recording ends). Its inputs are frames for the recording. The mixer's levels are kept and not applied: what
/// comes out is what the driver gave. Not there: the modem, the microphone's own stream, more than two channels.
package final class AC97: PCIFunction, HostReceiver {
    /// Everything the guest can observe.
    package struct State {
        package var configuration = AC97.makeConfiguration()
        /// The codec's registers, by word.
        package var codec = AC97.codecAtReset
        package var control: UInt32 = 0
        package var isCodecTaken = false
        /// In, out, microphone.
        package var streams = [Stream(), Stream(), Stream()]
        /// Frames from outside that wait to be recorded.
        package var recorded: [UInt8] = []

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.group("configuration") { configuration.visit(&$0) }
            visitor.field("codec", &codec)
            visitor.field("control", &control)
            visitor.field("isCodecTaken", &isCodecTaken)
            visitor.list("streams", &streams, make: { Stream() }) { $0.visit(&$1) }
            visitor.field("recorded", &recorded)
            if visitor.mode == .load,
                codec.count != AC97.codecAtReset.count || streams.count != 3 || streams.contains(where: { $0.current > 31 || $0.next > 31 })
            {
                visitor.fail("registers of another size")
                self = State()
            }
        }
    }

    /// A channel of the bus master (13.2).
    package struct Stream {
        package var base: UInt32 = 0
        /// CIV, PIV, LVI: the buffer descriptors in use, after that, and the last one.
        package var current: UInt8 = 0
        package var next: UInt8 = 0
        package var last: UInt8 = 0
        package var status: UInt16 = StatusBit.halted
        /// PICB: samples left in the buffer.
        package var left: UInt16 = 0
        package var control: UInt8 = 0
        package var address: UInt32 = 0
        package var flags: UInt16 = 0
        /// When it began to run, and frames done since.
        package var start: VirtualTime = 0
        package var done: UInt64 = 0

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("base", &base)
            visitor.field("current", &current)
            visitor.field("next", &next)
            visitor.field("last", &last)
            visitor.field("status", &status)
            visitor.field("left", &left)
            visitor.field("control", &control)
            visitor.field("address", &address)
            visitor.field("flags", &flags)
            visitor.field("start", &start)
            visitor.field("done", &done)
        }
    }

    enum StatusBit {
        static let halted: UInt16 = 1
        static let isLast: UInt16 = 2
        static let lastDone: UInt16 = 4
        static let done: UInt16 = 8
        static let fifo: UInt16 = 16
    }
    private enum ControlBit {
        static let run: UInt8 = 1
        static let reset: UInt8 = 2
        static let lastInterrupt: UInt8 = 4
        static let interrupt: UInt8 = 16
    }
    private enum Codec {
        static let extended = 0x28 / 2
        static let extendedControl = 0x2A / 2
        static let outRate = 0x2C / 2
        static let inRate = 0x32 / 2
    }
    /// The most bytes of a recording that wait: a second at the highest rate.
    private static let mostRecorded = 48_000 * 4
    private static let input = 0, output = 1

    package let name: String
    package var regions: [Region] { [configuration.region(0, registers: Self.codecNames), configuration.region(1, registers: Self.masterNames)] }
    private static let codecNames: [RegisterName] = {
        let registers: [(UInt64, String)] = [
            (0, "RESET"), (2, "MASTER"), (0x18, "PCM_OUT"), (0x1A, "RECORD_SELECT"), (0x1C, "RECORD_GAIN"), (0x26, "POWERDOWN"),
            (0x2A, "EXT_AUDIO_CTRL"), (0x2C, "FRONT_DAC_RATE"), (0x32, "LR_ADC_RATE"),
        ]
        return registers.map { RegisterName($0.0, $0.1, length: 2) }
    }()
    private static let masterNames: [RegisterName] = {
        let registers: [(UInt64, String, UInt64)] = [
            (0, "BDBAR", 4), (4, "CIV", 1), (5, "LVI", 1), (6, "SR", 2), (8, "PICB", 2), (10, "PIV", 1), (11, "CR", 1),
        ]
        var names: [RegisterName] = []
        for (base, stream) in [(0, "PI"), (0x10, "PO"), (0x20, "MC")] as [(UInt64, String)] {
            for (offset, name, length) in registers { names.append(RegisterName(base + offset, "\(stream)_\(name)", length: length)) }
        }
        return names + [RegisterName(0x2C, "GLOB_CNT", length: 4), RegisterName(0x30, "GLOB_STA", length: 4), RegisterName(0x34, "CAS")]
    }()
    package private(set) var state = State()
    package var configuration: PCIConfiguration {
        get { state.configuration }
        set { state.configuration = newValue }
    }
    private let irq: IRQLine
    private let memory: any DMAPort
    private let scheduler: Scheduler
    private let channel: any HostChannel

    /// - Parameter irq: the pin INTA of its slot.
    package init(name: String, irq: IRQLine, memory: any DMAPort, scheduler: Scheduler, channel: any HostChannel) {
        self.name = name
        self.irq = irq
        self.memory = memory
        self.scheduler = scheduler
        self.channel = channel
    }

    private static func makeConfiguration() -> PCIConfiguration {
        var configuration = PCIConfiguration(
            vendor: 0x8086, device: 0x2415, revision: 1, classCode: 0x040100, subsystemVendor: 0x8086, subsystem: 0, interruptPin: 1)
        configuration.setBaseAddress(0, .port, size: 256, region: 0)
        configuration.setBaseAddress(1, .port, size: 64, region: 1)
        return configuration
    }

    /// Everything is silent; variable rates; a SigmaTel STAC9700, which needs nothing special.
    private static let codecAtReset: [UInt16] = {
        var words = [UInt16](repeating: 0, count: 64)
        let values: [(Int, UInt16)] = [
            (0x02, 0x8000), (0x06, 0x8000), (0x0A, 0x0000), (0x0C, 0x8008), (0x0E, 0x8008), (0x10, 0x8808), (0x12, 0x8808), (0x14, 0x8808),
            (0x16, 0x8808), (0x18, 0x8808), (0x1C, 0x8000), (0x26, 0x000F), (0x28, 0x0001), (0x2C, 48_000), (0x32, 48_000),
            (0x7C, 0x8384), (0x7E, 0x7600),
        ]
        for (offset, value) in values { words[offset / 2] = value }
        return words
    }()

    // MARK: Device

    package func visitState(_ visitor: inout StateVisitor) { state.visit(&visitor) }

    package func reset() {
        for index in 0..<3 { stop(index) }
        state = State()
        updatePin()
    }

    package func configurationWritten(_ offset: Int, width: Int) { updatePin() }
    package func timerFired(_ timer: Int) { advance(timer) }

    /// Frames to be recorded; what comes while nothing records is lost, as are frames beyond a second.
    package func receive(_ bytes: [UInt8]) {
        advance(Self.input)
        guard isRunning(Self.input) else { return }
        let room = max(Self.mostRecorded - state.recorded.count, 0) & ~3
        state.recorded += bytes.prefix(min(room, bytes.count & ~3))
    }

    // MARK: Registers

    package func read(region: Int, offset: UInt64, width: Int) -> UInt64 {
        if region == 0 {
            state.isCodecTaken = false
            return ByteLanes.read(offset, width) {
                UInt8(truncatingIfNeeded: ($0 < 128 ? state.codec[Int($0 / 2)] : 0) >> (($0 & 1) * 8))
            }
        }
        if offset == 0x34, width == 1 {
            // The semaphore: whoever reads 0 has it.
            defer { state.isCodecTaken = true }
            return state.isCodecTaken ? 1 : 0
        }
        if offset < 0x30 { advance(Int(offset / 16) % 3) }
        return ByteLanes.read(offset, width) { master($0) }
    }

    private func master(_ offset: UInt64) -> UInt8 {
        func lane(_ value: UInt32) -> UInt8 { UInt8(truncatingIfNeeded: value >> UInt32((offset & 3) * 8)) }
        if offset >= 0x2C {
            return offset < 0x30 ? lane(state.control) : offset < 0x34 ? lane(globalStatus) : 0
        }
        let stream = state.streams[Int(offset / 16)]
        switch offset & 15 {
        case 0...3: return lane(stream.base)
        case 4: return stream.current
        case 5: return stream.last
        case 6, 7: return lane(UInt32(stream.status) << 16)
        case 8, 9: return lane(UInt32(stream.left))
        case 10: return stream.next
        case 11: return stream.control
        default: return 0
        }
    }

    /// The primary codec is ready once the link is out of its reset.
    private var globalStatus: UInt32 {
        var status: UInt32 = state.control & 2 != 0 ? 0x100 : 0
        for (index, bit) in [5, 6, 7].enumerated() where interrupts(index) { status |= 1 << UInt32(bit) }
        return status
    }

    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {
        if region == 0 {
            state.isCodecTaken = false
            if width == 2, offset & 1 == 0, offset < 128 { writeCodec(Int(offset), UInt16(truncatingIfNeeded: value)) }
            return
        }
        if offset == 0x2C, width == 4 {
            // A cold reset while bit 1 is 0; a warm one is over at once.
            state.control = UInt32(truncatingIfNeeded: value) & 0x3B & ~4
            if state.control & 2 == 0 { state.codec = Self.codecAtReset }
        } else if offset < 0x30 {
            let index = Int(offset / 16)
            advance(index)
            if offset & 15 == 0, width == 4 { state.streams[index].base = UInt32(truncatingIfNeeded: value) & ~7 }
            if offset & 15 == 6, width == 2 {
                state.streams[index].status &= ~(UInt16(truncatingIfNeeded: value) & 0x1C)
            } else if offset & 15 == 4, width == 4 {
                // CIV, LVI and SR in one.
                writeByte(index, 5, UInt8(truncatingIfNeeded: value >> 8))
                state.streams[index].status &= ~(UInt16(truncatingIfNeeded: value >> 16) & 0x1C)
            } else if width == 1 {
                writeByte(index, Int(offset & 15), UInt8(truncatingIfNeeded: value))
            } else if width == 2, offset & 15 == 4 {
                writeByte(index, 5, UInt8(truncatingIfNeeded: value >> 8))
            }
        }
        updatePin()
    }

    private func writeCodec(_ offset: Int, _ value: UInt16) {
        switch offset {
        case 0: state.codec = Self.codecAtReset
        case 0x26: state.codec[0x13] = value & 0xFF00 | 0x000F
        case 0x28, 0x7C, 0x7E: break
        case 0x2A:
            state.codec[Codec.extendedControl] = value & 1
            if value & 1 == 0 { (state.codec[Codec.outRate], state.codec[Codec.inRate]) = (48_000, 48_000) }
        case 0x2C, 0x32:
            advance(offset == 0x2C ? Self.output : Self.input)
            if state.codec[Codec.extendedControl] & 1 != 0 {
                state.codec[offset / 2] = min(max(value, 8_000), 48_000)
                for index in 0..<2 { rebase(index) }
            }
        default: state.codec[offset / 2] = value
        }
    }

    private func writeByte(_ index: Int, _ place: Int, _ value: UInt8) {
        switch place {
        case 5:
            state.streams[index].last = value & 31
            // One that has come to its end goes on.
            if isRunning(index), state.streams[index].status & StatusBit.halted != 0, state.streams[index].current != value & 31 {
                state.streams[index].status &= ~(StatusBit.halted | StatusBit.isLast)
                load(index, state.streams[index].next)
                begin(index)
            }
        case 6: state.streams[index].status &= ~(UInt16(value) & 0x1C)
        case 11:
            if value & ControlBit.reset != 0 {
                stop(index)
                state.streams[index] = Stream()
                return
            }
            let ran = isRunning(index)
            if ran, value & ControlBit.run == 0 { stop(index) }
            state.streams[index].control = value & 0x1D
            if !ran, isRunning(index) {
                state.streams[index].status &= ~(StatusBit.halted | StatusBit.isLast)
                if state.streams[index].left == 0 { load(index, state.streams[index].current) }
                begin(index)
                if index == Self.input { tell(2) }
            }
        default: break
        }
    }

    // MARK: Interrupts

    private func interrupts(_ index: Int) -> Bool {
        let stream = state.streams[index]
        return stream.status & StatusBit.lastDone != 0 && stream.control & ControlBit.lastInterrupt != 0
            || stream.status & StatusBit.done != 0 && stream.control & ControlBit.interrupt != 0
    }
    private func updatePin() { irq.set((0..<3).contains(where: interrupts) && configuration.allowsInterruptPin) }

    // MARK: Streams

    private func isRunning(_ index: Int) -> Bool { state.streams[index].control & ControlBit.run != 0 }
    private func rate(_ index: Int) -> UInt64 { UInt64(max(state.codec[index == Self.output ? Codec.outRate : Codec.inRate], 8_000)) }

    private func begin(_ index: Int) {
        state.streams[index].start = scheduler.now
        state.streams[index].done = 0
        schedule(index)
    }
    /// From now on at another rate.
    private func rebase(_ index: Int) { if isRunning(index), state.streams[index].status & StatusBit.halted == 0 { begin(index) } }

    private func stop(_ index: Int) {
        scheduler.cancel(self, timer: index)
        if index == Self.input, isRunning(index) {
            tell(3)
            state.recorded = []
        }
        state.streams[index].control &= ~ControlBit.run
        state.streams[index].status |= StatusBit.halted
    }

    private func tell(_ message: UInt8) {
        let rate = rate(Self.input)
        channel.send([message] + (0..<4).map { UInt8(truncatingIfNeeded: rate >> UInt64($0 * 8)) })
    }

    /// Reads a buffer's descriptor.
    private func load(_ index: Int, _ number: UInt8) {
        var raw: UInt64 = 0
        withUnsafeMutableBytes(of: &raw) { memory.read(UInt64(state.streams[index].base) &+ UInt64(number) * 8, into: $0) }
        raw = UInt64(littleEndian: raw)
        state.streams[index].address = UInt32(truncatingIfNeeded: raw) & ~1
        state.streams[index].left = UInt16(truncatingIfNeeded: raw >> 32)
        state.streams[index].flags = UInt16(truncatingIfNeeded: raw >> 48)
        state.streams[index].current = number
        state.streams[index].next = (number + 1) & 31
    }

    /// The timer comes when the buffer is done.
    private func schedule(_ index: Int) {
        guard isRunning(index), state.streams[index].status & StatusBit.halted == 0 else { return }
        let frames = state.streams[index].done &+ UInt64(max(state.streams[index].left / 2, 1))
        // Rounded up: the frames are over then.
        let time = (frames &* 1_000_000_000 + rate(index) - 1) / rate(index)
        scheduler.schedule(self, timer: index, at: state.streams[index].start &+ time)
    }

    /// Moves the samples whose time has come.
    private func advance(_ index: Int) {
        guard isRunning(index), state.streams[index].status & StatusBit.halted == 0, configuration.isBusMaster else { return }
        let elapsed = scheduler.now &- state.streams[index].start
        let (product, isTooLong) = elapsed.multipliedReportingOverflow(by: rate(index))
        if isTooLong { return begin(index) }
        let frames = product / 1_000_000_000
        // A snapshot may be damaged, and no timer is ever so late.
        var due = frames > state.streams[index].done ? min(frames - state.streams[index].done, 65_536) : 0
        while due > 0, state.streams[index].status & StatusBit.halted == 0 {
            let count = min(due, UInt64(state.streams[index].left / 2))
            if count > 0 { move(index, Int(count) * 4) }
            due -= count
            state.streams[index].done &+= count
            state.streams[index].left -= UInt16(count * 2)
            if state.streams[index].left < 2 {
                finishBuffer(index)
                // A buffer of nothing takes no time: one a look.
                if count == 0 { due -= 1 }
            }
        }
        if state.streams[index].status & StatusBit.halted == 0 { schedule(index) }
        updatePin()
    }

    private func finishBuffer(_ index: Int) {
        if state.streams[index].flags & 0x8000 != 0 { state.streams[index].status |= StatusBit.done }
        if state.streams[index].current == state.streams[index].last {
            state.streams[index].status |= StatusBit.lastDone | StatusBit.isLast | StatusBit.halted
            state.streams[index].left = 0
        } else {
            load(index, state.streams[index].next)
        }
    }

    private func move(_ index: Int, _ count: Int) {
        var bytes = [UInt8](repeating: 0, count: count)
        let address = UInt64(state.streams[index].address)
        if index == Self.output {
            bytes.withUnsafeMutableBytes { memory.read(address, into: $0) }
            let rate = rate(index)
            channel.send([1] + (0..<4).map { UInt8(truncatingIfNeeded: rate >> UInt64($0 * 8)) } + bytes)
        } else {
            if index == Self.input {
                // Silence where nothing has come.
                let known = min(count, state.recorded.count)
                bytes.replaceSubrange(0..<known, with: state.recorded[..<known])
                state.recorded.removeFirst(known)
            }
            bytes.withUnsafeBytes { memory.write(address, from: $0) }
        }
        state.streams[index].address &+= UInt32(count)
    }
}
