import Boundary
import DeviceBus
import Devices
import MachineState

/// The outside at the devices cut: all devices, alive, on their own clock. What the CPU sees of them crosses the
/// boundary as transactions, interrupt line changes and DMA.
package final class DevicePlane: HostBoundary {
    /// What the devices take for time.
    package enum Clock: Sendable {
        /// The CPU's virtual time.
        case virtual
        /// The host's monotonic clock: timers jitter, and no two runs are alike. The recording replays all the same.
        case host
    }

    private let host: LiveBoundary
    private let clock: Clock
    private let hostClock = ContinuousClock()
    private let started: ContinuousClock.Instant
    private let scheduler = Scheduler()
    private let bus = Bus()
    private let pins = QueuedPins()
    private let memory = ForwardingDMA()
    package let board: PCBoard
    /// The last moment that the machine has told.
    package private(set) var now = Moment(position: 0, time: 0)
    /// Instructions between looks at the host's clock.
    private static let slice: Position = 20_000
    /// There are devices that are carried out elsewhere.
    private let hasLinks: Bool
    /// Where they were last heard, and whether the CPU has accessed something since.
    private var polled: Position = 0
    private var isPollDue = true
    /// The moment at which nothing more comes in.
    private var drained = Moment(position: .max, time: .max)

    /// - Parameters:
    ///   - links: to the configuration's foreign devices.
    ///   - threading: PCI devices get threads of their own.
    ///   - substitutes: instead of PCI devices of these names.
    ///   - host: the door between the devices and the host.
    package init(
        configuration: PCConfiguration, memoryMap: MemoryMap, clock: Clock, media: [DiskImage] = [],
        links: [any ForeignDeviceLink] = [], threading: DeviceThreading? = nil,
        substitutes: [String: any ForeignDeviceLink] = [:], host: LiveBoundary
    ) {
        self.host = host
        self.clock = clock
        started = hostClock.now
        let channels = ChannelTable(host)
        board = PCBoard(
            bus: bus, scheduler: scheduler, pins: pins, memory: memory, memoryMap: memoryMap,
            configuration: configuration, media: media, links: links, threading: threading,
            substitutes: substitutes, channel: channels.channel)
        hasLinks = !board.links.isEmpty
        for link in board.links { link.start { host.nudge() } }
        channels.now = { [unowned self] in now }
        pins.reset = { [unowned self] in board.reset() }
        board.reset()
        pins.queue = []
    }

    /// The run has ended.
    package func finish() { board.finish() }

    /// Where bus masters reach RAM. Set before the run, with the recording in between if there is one.
    package var insideMemory: (any InsideMemory)? {
        get { memory.target }
        set { memory.target = newValue }
    }

    private func synchronise(_ moment: Moment) {
        now = moment
        scheduler.now = max(scheduler.now, deviceTime(moment))
    }

    private func deviceTime(_ moment: Moment) -> VirtualTime {
        switch clock {
        case .virtual: return moment.time
        case .host:
            let (seconds, attoseconds) = (hostClock.now - started).components
            return UInt64(seconds) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000)
        }
    }

    package func horizon(after now: Moment) -> Position {
        let next = !hasLinks ? host.horizon(after: now) : min(host.horizon(after: now), now.position + Self.slice)
        switch clock {
        case .host: return min(next, now.position + Self.slice)
        case .virtual:
            let deadline = nextDeadline(after: now)
            if deadline == .max { return next }
            let left = deadline > now.time ? deadline - now.time : 0
            let unit: UInt64 = 1 << UInt64(shift)
            return min(next, now.position + max(left / unit + (left % unit == 0 ? 0 : 1), 1))
        }
    }
    /// Accesses by device, counted where they arrive and by nothing that the trace uses, to compare it with; nil: not counted.
    package var accessCounts: [String: UInt64]?
    private func count(_ space: Region.Space, _ address: UInt64) {
        if accessCounts != nil { accessCounts?[bus.target(space, address)?.device.name ?? "-", default: 0] += 1 }
    }

    /// The machine's clock shift, for horizons.
    package var shift: UInt8 = 3

    package func nextInput(at now: Moment) throws(Divergence) -> TimedInput? {
        if let input = pins.take() { return TimedInput(input, at: now) }
        synchronise(now)
        scheduler.fireDue()
        if hasLinks { poll(now) }
        try drainHost(now)
        if let input = pins.take() { return TimedInput(input, at: now) }
        drained = now
        return nil
    }

    /// Hears devices that are carried out elsewhere. They come in before anything else happens at a moment, or later: so
    /// position and time alone say where it belongs.
    private func poll(_ now: Moment) {
        if now.position == drained.position, now.time == drained.time { return }
        if !isPollDue, now.position &- polled < Self.slice / 4, board.nextForeignDeadline > now.time { return }
        polled = now.position
        isPollDue = false
        board.pollForeignDevices()
    }

    private func drainHost(_ now: Moment) throws(Divergence) {
        while let input = try host.nextInput(at: now) {
            switch input.input {
            case .host(let source, let bytes):
                if let channel = Channel(rawValue: source) { board.receiver(channel)?.receive(bytes) }
            default: pins.queue.append(input.input)
            }
        }
    }

    package func idle(at now: Moment, until deadline: VirtualTime) throws(Divergence) -> VirtualTime {
        // Devices go on while the CPU sleeps, until one of them has something for it.
        var moment = now
        while pins.isEmpty, !host.quitRequested, !host.pause.isRequested, !host.isControlUrgent {
            synchronise(moment)
            scheduler.fireDue()
            board.pollForeignDevices()
            try drainHost(moment)
            if !pins.isEmpty { break }
            for link in board.links { link.arm() }
            switch clock {
            case .virtual: moment.time = try host.idle(at: moment, until: min(nextDeadline(after: moment), deadline))
            case .host:
                let wait = scheduler.nextDeadline == .max ? 10_000_000 : max(scheduler.nextDeadline &- scheduler.now, 1_000)
                let before = deviceTime(moment)
                host.wait(nanoseconds: min(wait, 10_000_000))
                moment.time += max(deviceTime(moment) - before, 1)
            }
            if moment.time >= deadline { return deadline }
        }
        return max(moment.time, now.time + 1)
    }

    /// When devices have something to do, but not before the next nanosecond.
    private func nextDeadline(after moment: Moment) -> VirtualTime {
        hasLinks ? min(scheduler.nextDeadline, max(board.nextForeignDeadline, moment.time + 1)) : scheduler.nextDeadline
    }

    package func endRequested(at now: Moment) -> EndReason? { host.endRequested(at: now) }

    package var controlRequested: Bool { host.controlRequested }

    package func ask(_ question: Question, at now: Moment) throws(Divergence) -> UInt64 {
        synchronise(now)
        isPollDue = true
        switch question {
        case .portRead(let port, let width):
            count(.port, UInt64(port))
            return bus.read(.port, UInt64(port), width: Int(width))
        case .memoryRead(let address, let width):
            count(.memory, address)
            return bus.read(.memory, address, width: Int(width))
        case .interruptAcknowledge: return UInt64(board.localAPIC.acknowledge())
        case .host: return 0
        }
    }

    package func askBlock(
        port: UInt16, width: UInt8, into buffer: UnsafeMutableRawBufferPointer, at now: Moment
    ) throws(Divergence) -> ImageOrigin? {
        synchronise(now)
        isPollDue = true
        count(.port, UInt64(port))
        return bus.readBlock(UInt64(port), width: Int(width), into: buffer)
    }

    package func send(_ effect: Effect, at now: Moment) throws(Divergence) {
        synchronise(now)
        isPollDue = true
        switch effect {
        case .portWrite(let port, let width, let value):
            count(.port, UInt64(port))
            bus.write(.port, UInt64(port), width: Int(width), value: value)
        case .memoryWrite(let address, let width, let value):
            count(.memory, address)
            bus.write(.memory, address, width: Int(width), value: value)
        case .host: break
        }
    }

    package func busMaster(isWriting: Bool) -> BusMasterName? { board.masters.active(isWriting: isWriting) }
    /// While the CPU sleeps the devices go on.
    package func timeBeyond(_ time: VirtualTime) -> VirtualTime { max(time, now.time) }
    package func busMasterKey(isWriting: Bool) -> UInt64? { board.masters.activeKey(isWriting: isWriting) }

    package func nextDigest(after position: Position) -> Position { host.nextDigest(after: position) }
    package func checkpoint(_ digests: [PartDigest], at now: Moment) throws(Divergence) {}
    package func end(_ reason: EndReason, _ digests: [PartDigest], at now: Moment) throws(Divergence) {
        try host.end(reason, digests, at: now)
    }
}

/// CPU pins whose changes wait to be let in.
final class QueuedPins: CPUPins {
    var queue: [Input] = []
    var reset: () -> Void = {}
    private var line = false

    var isEmpty: Bool { queue.isEmpty }
    func take() -> Input? { queue.isEmpty ? nil : queue.removeFirst() }

    func setInterruptLine(_ level: Bool) {
        if level == line { return }
        line = level
        // A pulse that nobody has seen did not happen.
        if case .interruptLine = queue.last { queue.removeLast() } else { queue.append(.interruptLine(level)) }
    }
    func raiseNMI() { queue.append(.nmi) }
    func requestReset() {
        queue.append(.reset)
        reset()
    }
    func powerOff(code: UInt64?) { queue.append(.powerOff(code: code)) }
    private var shadow: UInt64?
    func setShadow(_ control: UInt64) {
        if control == shadow { return }
        shadow = control
        queue.append(.shadow(control))
    }
    private var videoBase: UInt64 = 0
    func setVideoBase(_ base: UInt64) {
        if base == videoBase { return }
        videoBase = base
        queue.append(.videoBase(base))
    }
    private var isA20 = true
    func setA20(_ enabled: Bool) {
        if enabled == isA20 { return }
        isA20 = enabled
        queue.append(.a20(enabled))
    }
}

/// Bus masters' way to RAM, through whatever stands in the door.
private final class ForwardingDMA: DMAPort {
    unowned(unsafe) var target: (any InsideMemory)?
    func read(_ address: UInt64, into buffer: UnsafeMutableRawBufferPointer) { target?.dmaRead(address, into: buffer) }
    func write(_ address: UInt64, from buffer: UnsafeRawBufferPointer) { target?.dmaWrite(address, from: buffer) }
    func write(_ address: UInt64, from buffer: UnsafeRawBufferPointer, origin: ImageOrigin?) {
        target?.dmaWrite(address, from: buffer, origin: origin)
    }
}
