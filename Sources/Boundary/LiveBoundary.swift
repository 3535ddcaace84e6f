import MachineState
import Synchronization

/// Where a channel's bytes go on the host. Called on the machine's thread.
package protocol HostSink: AnyObject, Sendable {
    /// Carries bytes out. Must not block for long.
    func send(_ bytes: [UInt8])
    /// Answers a device's question.
    func ask(_ question: UInt32) -> UInt64
}

/// How idle time passes while the CPU is halted.
package enum Pace: Sendable {
    /// Virtual time does not run ahead of the host's clock.
    case realTime
    /// Idle time is skipped at once.
    case free
}

/// The live door at the inputs cut: host threads hand input over through one queue, which the machine drains between
/// instructions.
package final class LiveBoundary: HostBoundary, Sendable {
    private struct Pending {
        var source: UInt16
        var bytes: [UInt8]
        /// Not before this virtual time.
        var due: VirtualTime
        var order: UInt64
        /// Gives what comes after it, once it has been taken.
        var feed: Feed?
    }
    /// Gives the next input of a source that knows its input beforehand, and its time; nil at the end.
    package typealias Feed = @Sendable () -> (bytes: [UInt8], due: VirtualTime)?
    /// Sees what crosses the door at one channel: true for what goes out.
    package typealias Tap = @Sendable (_ isOut: Bool, _ bytes: [UInt8], _ time: VirtualTime) -> Void
    private struct Shared {
        var pending: [Pending] = []
        var order: UInt64 = 0
        var sinks: [(source: UInt16, sink: any HostSink)] = []
        var taps: [(source: UInt16, tap: Tap)] = []
        var disks: [(number: UInt8, reader: @Sendable (UInt64, UnsafeMutableRawBufferPointer) -> Void)] = []

        mutating func append(_ source: UInt16, _ feed: @escaping Feed) {
            guard let (bytes, due) = feed() else { return }
            order += 1
            pending.append(Pending(source: source, bytes: bytes, due: due, order: order, feed: feed))
        }
    }
    private let hasTaps = Atomic<Bool>(false)
    private let shared = Mutex(Shared())
    private let hasNews = Atomic<Bool>(false)
    /// The virtual time at which the user wants to quit; `.max` for not yet.
    private let quitDue = Atomic<UInt64>(.max)
    private let control = Atomic<Bool>(false)
    /// A look at the screen is due: the run loop comes back when the CPU runs, but idle time is not cut for it.
    private let look = Atomic<Bool>(false)
    /// Called on the machine's thread while it waits for the host's clock, which it does in short steps then.
    private let whileWaiting = Mutex<(@Sendable () -> Void)?>(nil)
    /// Nanoseconds of the host's clock in which the machine was stopped by its user.
    private let paused = Atomic<UInt64>(0)
    /// The moment when the queue was last found empty. Inputs of one moment are let in together, before anything else
    /// happens then: so their position and time alone say where they belong.
    private let drainedPosition = Atomic<UInt64>(.max)
    private let drainedTime = Atomic<UInt64>(.max)
    private let present = Atomic<UInt64>(0)
    private let wake = WakeUp()
    /// A device that is carried out elsewhere has something to say.
    private let nudged = Atomic<Bool>(false)
    /// A debugger's wish to stop: ends an idle wait.
    package let pause = PauseSwitch()
    /// Host time, in nanoseconds, during which a debugger held the run; and since when it does now.
    private let heldTime = Atomic<UInt64>(0)
    private let heldSince = Atomic<UInt64>(.max)
    private let pace: Pace
    private let slice: Position
    private let digestInterval: Position
    /// The moment that a run is taken over at; nil for a run from power-on.
    private let origin: Moment?
    private let clock = ContinuousClock()
    private let started: ContinuousClock.Instant

    /// - Parameters:
    ///   - slice: instructions between looks at the queue.
    ///   - digestInterval: instructions between checkpoints, 0 for none.
    ///   - origin: the moment at which this door takes over from another. Nothing comes in then, only later: what an
    ///     instruction does to start the moment may be over already, and a moment cannot say so.
    package init(pace: Pace, slice: Position = 100_000, digestInterval: Position = 0, origin: Moment? = nil) {
        self.origin = origin
        self.pace = pace
        self.slice = slice
        self.digestInterval = digestInterval
        started = clock.now
        if let origin {
            drainedPosition.store(origin.position, ordering: .relaxed)
            drainedTime.store(origin.time, ordering: .relaxed)
            present.store(origin.time, ordering: .relaxed)
        }
    }

    /// Says where a channel's output goes. Once per source, before the run.
    package func register(source: UInt16, name: String, sink: any HostSink) {
        shared.withLock { $0.sinks.append((source, sink)) }
    }

    /// Hands bytes to a channel's device. From any thread. `due`: not before this virtual time.
    package func push(source: UInt16, bytes: [UInt8], due: VirtualTime = 0) {
        shared.withLock {
            $0.order += 1
            $0.pending.append(Pending(source: source, bytes: bytes, due: due, order: $0.order))
        }
        hasNews.store(true, ordering: .releasing)
        wake.signal()
    }

    /// Lets `feed` give a channel's device its input, one after the other, each at its time.
    package func push(source: UInt16, feed: @escaping Feed) {
        shared.withLock { $0.append(source, feed) }
        hasNews.store(true, ordering: .releasing)
        wake.signal()
    }

    /// Lets `tap` see a channel's traffic, on the machine's thread, when it crosses. Before the run.
    package func watch(source: UInt16, _ tap: @escaping Tap) {
        shared.withLock { $0.taps.append((source, tap)) }
        hasTaps.store(true, ordering: .releasing)
    }

    private func show(_ source: UInt16, isOut: Bool, _ bytes: [UInt8], _ time: VirtualTime) {
        if !hasTaps.load(ordering: .relaxed) { return }
        for entry in shared.withLock({ $0.taps }) where entry.source == source { entry.tap(isOut, bytes, time) }
    }

    /// Asks for the run's end, not before a virtual time. From any thread.
    package func requestQuit(due: VirtualTime = 0) {
        quitDue.store(due, ordering: .releasing)
        wake.signal()
    }
    /// Cuts idle time short, for a device that is carried out elsewhere. From any thread.
    package func nudge() {
        nudged.store(true, ordering: .releasing)
        wake.signal()
    }
    /// Asks the run loop to come back soon. From any thread.
    package func requestControl() {
        control.store(true, ordering: .releasing)
        wake.signal()
    }
    /// The run loop has come back.
    package func takeControl() {
        control.store(false, ordering: .releasing)
        look.store(false, ordering: .releasing)
    }
    /// Idle time is cut short for it.
    package var isControlUrgent: Bool { control.load(ordering: .relaxed) }
    package var controlRequested: Bool { isControlUrgent || look.load(ordering: .relaxed) }
    /// Asks the run loop to come back for a look at the screen, which a recording must not show. From any thread.
    package func requestLook() { look.store(true, ordering: .releasing) }
    /// Says what is done while the machine waits, on its thread. It changes nothing in the machine.
    package func onWait(_ action: @escaping @Sendable () -> Void) {
        whileWaiting.withLock { present in
            guard let before = present else { return present = action }
            present = {
                before()
                action()
            }
        }
    }
    /// The host's clock has gone on while the machine stood still: virtual time does not run after it.
    package func addPause(nanoseconds: UInt64) { paused.wrappingAdd(nanoseconds, ordering: .relaxed) }

    package var quitRequested: Bool { quitDue.load(ordering: .acquiring) <= virtualTime }
    package func endRequested(at now: Moment) -> EndReason? {
        if let origin, now.position == origin.position, now.time == origin.time { return nil }
        return quitDue.load(ordering: .acquiring) <= now.time ? .quit : nil
    }

    package func horizon(after now: Moment) -> Position { now.position + slice }

    /// The machine's virtual time as of its last look at the queue. From any thread.
    package var virtualTime: VirtualTime { present.load(ordering: .relaxed) }

    package func nextInput(at now: Moment) throws(Divergence) -> TimedInput? {
        present.store(now.time, ordering: .relaxed)
        if !hasNews.load(ordering: .acquiring) {
            drainedPosition.store(now.position, ordering: .relaxed)
            drainedTime.store(now.time, ordering: .relaxed)
            return nil
        }
        let input = shared.withLock { shared -> Pending? in
            if drainedPosition.load(ordering: .relaxed) == now.position, drainedTime.load(ordering: .relaxed) == now.time {
                return nil
            }
            guard let index = shared.pending.firstIndex(where: { $0.due <= now.time }) else {
                drainedPosition.store(now.position, ordering: .relaxed)
                drainedTime.store(now.time, ordering: .relaxed)
                if shared.pending.isEmpty { hasNews.store(false, ordering: .releasing) }
                return nil
            }
            let pending = shared.pending.remove(at: index)
            if let feed = pending.feed { shared.append(pending.source, feed) }
            return pending
        }
        guard let input else { return nil }
        show(input.source, isOut: false, input.bytes, now.time)
        return TimedInput(.host(source: input.source, bytes: input.bytes), at: now)
    }

    /// Asks the run to stop for a debugger. From any thread.
    package func requestPause() {
        pause.request()
        wake.signal()
    }

    /// The host's clock stands still for the guest, while a debugger holds the run. On the machine's thread.
    package func holdClock() {
        if heldSince.load(ordering: .relaxed) == .max { heldSince.store(hostTime, ordering: .relaxed) }
    }
    package func releaseClock() {
        let since = heldSince.exchange(.max, ordering: .relaxed)
        if since != .max { heldTime.add(hostTime - since, ordering: .relaxed) }
    }

    private var hostTime: UInt64 {
        let (seconds, attoseconds) = (clock.now - started).components
        return UInt64(seconds) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000)
    }
    private var elapsed: UInt64 {
        let stood = heldTime.load(ordering: .relaxed) + paused.load(ordering: .relaxed)
        let all = hostTime
        return (all > stood ? all - stood : 0) + (origin?.time ?? 0)
    }

    package func idle(at now: Moment, until deadline: VirtualTime) throws(Divergence) -> VirtualTime {
        while true {
            let due = shared.withLock { shared in shared.pending.reduce(VirtualTime.max) { min($0, $1.due) } }
            let quit = quitDue.load(ordering: .acquiring)
            if quit <= now.time || pause.isRequested { return min(deadline, now.time + 1) }
            let next = min(deadline, max(min(due, quit), now.time + 1))
            if pace == .free, next != .max { return next }
            let host = elapsed
            if next <= host { return next }
            if nudged.exchange(false, ordering: .acquiring) { return min(deadline, max(now.time + 1, host)) }
            // Wait for the host's clock to come to `next`, or for news.
            let action = whileWaiting.withLock { $0 }
            wake.wait(nanoseconds: min(next - host, action == nil ? 100_000_000 : 20_000_000))
            action?()
            let news = shared.withLock { shared in shared.pending.contains { $0.due <= max(now.time, elapsed) } }
            if isControlUrgent { return min(deadline, max(now.time + 1, min(elapsed, next))) }
            if news { return min(deadline, max(now.time + 1, min(elapsed, next))) }
        }
    }

    /// Waits for input, at most so long.
    package func wait(nanoseconds: UInt64) { wake.wait(nanoseconds: nanoseconds) }

    package func ask(_ question: Question, at now: Moment) throws(Divergence) -> UInt64 {
        guard case .host(let source, let number) = question else { return 0 }
        return sink(source)?.ask(number) ?? 0
    }

    /// Says who reads a disk whose contents are asked for. Called on the machine's thread.
    package func register(
        disk: UInt8, reader: @escaping @Sendable (_ offset: UInt64, _ buffer: UnsafeMutableRawBufferPointer) -> Void
    ) {
        shared.withLock { $0.disks.append((disk, reader)) }
    }

    package func askDisk(
        _ number: UInt8, offset: UInt64, into buffer: UnsafeMutableRawBufferPointer, at now: Moment
    ) throws(Divergence) {
        if let reader = shared.withLock({ shared in shared.disks.first { $0.number == number }?.reader }) {
            reader(offset, buffer)
        } else {
            buffer.initializeMemory(as: UInt8.self, repeating: 0)
        }
    }

    package func send(_ effect: Effect, at now: Moment) throws(Divergence) {
        guard case .host(let source, let bytes) = effect else { return }
        sink(source)?.send(bytes)
        show(source, isOut: true, bytes, now.time)
    }

    private func sink(_ source: UInt16) -> (any HostSink)? {
        shared.withLock { shared in shared.sinks.first { $0.source == source }?.sink }
    }

    package func nextDigest(after position: Position) -> Position {
        digestInterval == 0 ? .max : (position / digestInterval + 1) * digestInterval
    }
    package func checkpoint(_ digests: [PartDigest], at now: Moment) throws(Divergence) {}
    package func end(_ reason: EndReason, _ digests: [PartDigest], at now: Moment) throws(Divergence) {}
}
