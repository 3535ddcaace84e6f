import MachineState

/// Where the line between the deterministic inside and the recorded outside runs.
package enum BoundaryKind: UInt8, Sendable, CaseIterable {
    /// Between the devices and the host: only the outside world's input is logged.
    case inputs = 1
    /// Between CPU, RAM and video adapter, and all other devices: every transaction is logged.
    case devices = 2
}

/// The instant something crosses the boundary.
package struct Moment: Sendable, Equatable {
    /// Retired instructions. For an access, the instruction that makes it is not yet retired.
    package var position: Position
    /// Virtual time in nanoseconds.
    package var time: VirtualTime
    /// The linear instruction pointer (RIP; CS is in the log's state dumps), 0 where no instruction is involved.
    package var pc: UInt64
    package init(position: Position, time: VirtualTime, pc: UInt64 = 0) {
        self.position = position
        self.time = time
        self.pc = pc
    }
}

/// What the inside asks the outside. The raw values are the log's.
package enum Question: Sendable, Equatable {
    /// Inputs cut: a device's question to its backend, through channel `source`.
    case host(source: UInt16, question: UInt32)
    /// Devices cut: `IN`, `width` 1, 2 or 4 bytes.
    case portRead(port: UInt16, width: UInt8)
    /// Devices cut: a read of a physical address that is not RAM, `width` 1, 2, 4 or 8 bytes.
    case memoryRead(address: UInt64, width: UInt8)
    /// Devices cut: the CPU takes an interrupt; the answer is the vector.
    case interruptAcknowledge
}

/// What the inside sends out.
package enum Effect: Sendable, Equatable {
    /// Inputs cut: bytes from a device to its backend.
    case host(source: UInt16, bytes: [UInt8])
    /// Devices cut: `OUT`.
    case portWrite(port: UInt16, width: UInt8, value: UInt64)
    /// Devices cut: a write to a physical address that is not RAM.
    case memoryWrite(address: UInt64, width: UInt8, value: UInt64)
}

/// What comes in without being asked for.
package enum Input: Sendable, Equatable {
    /// Inputs cut: bytes for the receiver at channel `source`.
    case host(source: UInt16, bytes: [UInt8])
    /// Devices cut: the CPU's INTR line changes.
    case interruptLine(Bool)
    /// Devices cut: a non-maskable interrupt.
    case nmi
    /// Devices cut: address line 20.
    case a20(Bool)
    /// Devices cut: the host bridge's PAM registers, PAM0 in the low byte.
    case shadow(UInt64)
    /// Devices cut: the address of the linear frame buffer, 0 for none.
    case videoBase(UInt64)
    /// Devices cut: the RESET pin.
    case reset
    /// Either cut: power goes off; `code` is nil, or what was written to isa-debug-exit.
    case powerOff(code: UInt64?)
    /// Devices cut: a device writes RAM.
    case dmaWrite(address: UInt64, bytes: [UInt8])
    /// Devices cut: a device has read RAM. Changes nothing inside: the bytes are the inside's own, and are checked.
    case dmaRead(address: UInt64, bytes: [UInt8])
    /// Either cut: a debugger's user changes memory or a register.
    case edit(Edit)
}

/// An input and when it comes in: between two instructions, before the instruction at `moment.position`.
///
/// While the CPU is halted the position stands still, and `moment.time` says how far the idle time had gone: the
/// clock jumps there before the input is delivered.
package struct TimedInput: Sendable, Equatable {
    package var input: Input
    package var moment: Moment
    package init(_ input: Input, at moment: Moment) {
        self.input = input
        self.moment = moment
    }
}

/// A replay that does not do what the recording says.
package struct Divergence: Error, Sendable, Equatable, CustomStringConvertible {
    /// The number of the event in the log, from 0.
    package var event: UInt64
    package var moment: Moment
    /// The device, register or part of the state.
    package var place: String
    package var expected: String
    package var actual: String
    package init(event: UInt64, moment: Moment, place: String, expected: String, actual: String) {
        self.event = event
        self.moment = moment
        self.place = place
        self.expected = expected
        self.actual = actual
    }
    package var description: String {
        """
        the replay departs from the recording at event \(event), position \(moment.position), \
        PC 0x\(String(moment.pc, radix: 16)): \(place): expected \(expected), got \(actual)
        """
    }
}

/// The inside, as the door may change it while it is being asked something: a device that does DMA in the middle of a
/// port write reaches RAM through this.
package protocol InsideMemory: AnyObject {
    func dmaRead(_ address: UInt64, into buffer: UnsafeMutableRawBufferPointer)
    func dmaWrite(_ address: UInt64, from buffer: UnsafeRawBufferPointer)
    /// The same; `origin` says which part of a disk image the bytes are, if they are one.
    func dmaWrite(_ address: UInt64, from buffer: UnsafeRawBufferPointer, origin: ImageOrigin?)
}

extension InsideMemory {
    package func dmaWrite(_ address: UInt64, from buffer: UnsafeRawBufferPointer, origin: ImageOrigin?) {
        dmaWrite(address, from: buffer)
    }
}

/// The one door between the deterministic inside and everything else, at either cut line.
///
/// Live, record and replay are which object stands here: `LiveBoundary` (inputs cut) or the device plane (devices
/// cut), `RecordingBoundary` around either, or `ReplayBoundary`. The inside cannot tell which.
///
/// The order of calls is the machine's: it runs the CPU to at most `horizon`, then takes `nextInput` until there is
/// none, and so on. `ask` and `send` come from within instructions.
package protocol HostBoundary: AnyObject {
    /// No input can take effect before this position: the CPU may run freely until then. More than `now.position`.
    func horizon(after now: Moment) -> Position

    /// Takes the next input that takes effect now, or nil when there are no more for the moment.
    func nextInput(at now: Moment) throws(Divergence) -> TimedInput?

    /// The CPU is halted, and nothing inside will happen before `deadline` (`.max`: nothing ever).
    ///
    /// Returns the virtual time, more than `now.time` and at most `deadline`, up to which idle time is skipped. If that
    /// is before `deadline`, an input is due then and `nextInput` will give it. A live boundary may wait here for the
    /// host's clock or for an input; a replay never waits.
    func idle(at now: Moment, until deadline: VirtualTime) throws(Divergence) -> VirtualTime

    /// The reason to end the run now, if there is one: the user wants to quit, or the recording ends here. Asked once
    /// per moment, after the inputs.
    func endRequested(at now: Moment) -> EndReason?

    /// The user wants the run loop to come back to its caller, which changes nothing in the machine. Never in a replay.
    var controlRequested: Bool { get }

    /// Answers a question whose result the guest will see.
    func ask(_ question: Question, at now: Moment) throws(Divergence) -> UInt64

    /// Devices cut: `INS` with a repeat prefix, as one transaction. Fills `buffer` with elements of `width` bytes from one
    /// port; returns which part of a disk image they are, if they are one.
    func askBlock(
        port: UInt16, width: UInt8, into buffer: UnsafeMutableRawBufferPointer, at now: Moment
    ) throws(Divergence) -> ImageOrigin?

    /// Inputs cut: the contents of an image that the recording does not name by its digest: fills `buffer` from `offset`
    /// on. Zeros are what a host that fails gives; it tells of the failure by an input.
    func askDisk(
        _ number: UInt8, offset: UInt64, into buffer: UnsafeMutableRawBufferPointer, at now: Moment) throws(Divergence)

    /// Carries a guest effect out. Never changes the inside's state but by DMA.
    func send(_ effect: Effect, at now: Moment) throws(Divergence)

    /// The position, after `position`, at which the machine must call `checkpoint`; `.max` for never. Fixed by the
    /// recording's header, so that it is the same in record and replay.
    func nextDigest(after position: Position) -> Position

    /// Hands over the digests of the machine's parts, in a fixed order, to be logged or compared.
    func checkpoint(_ digests: [PartDigest], at now: Moment) throws(Divergence)

    /// The device beyond the door that reaches RAM or has just done so, and, if it writes, what for; nil: not known, or
    /// none.
    func busMaster(isWriting: Bool) -> BusMasterName?
    /// A number for that, quicker to have than its words: equal numbers mean equal words, and their top bytes the device. Nil: there
    /// is none.
    func busMasterKey(isWriting: Bool) -> UInt64?

    /// What time it is for the devices beyond the door, when `time` is the last that the machine has told: while the CPU sleeps,
    /// they go on.
    func timeBeyond(_ time: VirtualTime) -> VirtualTime

    /// The run is over for `reason`; nothing follows. The recording's last event.
    func end(_ reason: EndReason, _ digests: [PartDigest], at now: Moment) throws(Divergence)
}

extension HostBoundary {
    /// Nobody has such an image.
    package func askDisk(
        _ number: UInt8, offset: UInt64, into buffer: UnsafeMutableRawBufferPointer, at now: Moment
    ) throws(Divergence) {
        buffer.initializeMemory(as: UInt8.self, repeating: 0)
    }
    package var controlRequested: Bool { false }
    package func busMaster(isWriting: Bool) -> BusMasterName? { nil }
    package func busMasterKey(isWriting: Bool) -> UInt64? { nil }
    package func timeBeyond(_ time: VirtualTime) -> VirtualTime { time }

    /// Element by element.
    package func askBlock(
        port: UInt16, width: UInt8, into buffer: UnsafeMutableRawBufferPointer, at now: Moment
    ) throws(Divergence) -> ImageOrigin? {
        for offset in stride(from: 0, through: buffer.count - Int(width), by: Int(width)) {
            let value = try ask(.portRead(port: port, width: width), at: now)
            for lane in 0..<Int(width) { buffer[offset + lane] = UInt8(truncatingIfNeeded: value >> UInt64(lane * 8)) }
        }
        return nil
    }
}

/// The digest of one part of the machine.
package struct PartDigest: Sendable, Equatable {
    /// "cpu", "ram", or a device's name.
    package var part: String
    package var digest: UInt64
    package init(part: String, digest: UInt64) {
        self.part = part
        self.digest = digest
    }
}

/// Why a run ended. The raw values are the log's.
package enum EndReason: UInt8, Sendable, CaseIterable {
    /// The guest switched the machine off (ACPI S5, isa-debug-exit).
    case poweredOff = 1
    /// The user ended the run.
    case quit = 2
    /// A triple fault with nothing to reset the machine.
    case shutdown = 3
    /// The position asked for was reached.
    case positionReached = 4
    /// CPU halted with interrupts off, and nothing that could wake it.
    case halted = 5
    /// The guest reset the machine, and the user asked to end there.
    case reset = 6
}
