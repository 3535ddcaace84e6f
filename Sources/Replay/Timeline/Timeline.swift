import Boundary
import MachineState

/// Why a journey along the timeline ended.
package enum TimelineStop: Sendable, Equatable {
    case reached
    case breakpoint(UInt64)
    /// Forwards the access has just been made; backwards it is about to be made.
    case watch(WatchRange, address: UInt64, by: Place, pc: UInt64, dma: String?)
    case delivered(UInt8)
    /// As for `watch`.
    case device(DeviceAccess)
    /// There is nothing before.
    case start
    /// The recording's end.
    case end(EndReason)
    /// Whoever asked wanted to stop.
    case interrupted
}

/// A recording as a line to travel on: anywhere, forwards and backwards.
///
/// A replay can only go forwards; backwards is a checkpoint before, and forwards from there. Checkpoints are taken on
/// the way: regularly, and on the approach to wherever one goes, at half of the distance that is left each time. So
/// what is near the cursor is near a checkpoint.
package final class Timeline {
    /// Instructions between the regular checkpoints.
    package static let interval: Position = 16_000_000
    /// Distance to the goal at which the approach takes no more checkpoints.
    private static let nearest: Position = 64

    package let machine: any LiveMachine
    package let door: ReplayBoundary
    private let camera: CheckpointCamera
    private(set) var checkpoints: CheckpointList
    /// Why the run ended, while the cursor is at the end.
    package private(set) var endReason: EndReason?
    /// The end, once it has been seen.
    package private(set) var endPlace: Place?

    /// What happened between the regular places, by number: from `number * interval` to the next.
    private(set) var activities: [Int: ActivitySummary] = [:]
    /// The regular place from which on activity is being noted without a gap.
    private var notedFrom: Int?

    /// - Parameters:
    ///   - machine: just built, with `door` in its door.
    ///   - memoryLimit: bytes that checkpoints may take.
    package init(machine: any LiveMachine, door: ReplayBoundary, memoryLimit: Int = 2 << 30) throws {
        self.machine = machine
        self.door = door
        camera = CheckpointCamera(machine: machine, door: door)
        checkpoints = CheckpointList(memoryLimit: memoryLimit)
        camera.counter.keptLimit = memoryLimit / 4 * 3
        try note(machine.travel(to: .start, conditions: StopConditions(), stopsAtStart: false))
        capture()
        beginNoting(at: 0)
    }

    // MARK: The index file

    /// The checkpoints' file, if one is in use.
    private var index: IndexPages?
    /// Regular checkpoints that go into the index: one out of so many at most.
    private static let indexedShare = 3

    /// What the index must agree with: the recording, and the way this program saves state.
    private var indexKey: UInt64 {
        var digest = door.reader.contentsDigest
        for section in checkpoints.all[0].sections { section.bytes.withUnsafeBytes { digest.mix(bytes: $0) } }
        digest.mix(UInt64(checkpoints.all[0].groups.count))
        digest.mix(Self.interval)
        digest.mix(UInt64(door.transcript?.source ?? .max))
        return digest.value
    }

    /// Uses the checkpoints in the file at `path`. False: there is none, or it belongs to something else.
    package func useIndex(_ path: String) throws(LogError) -> Bool {
        guard let file = try IndexFile.open(path, key: indexKey, camera.counter) else { return false }
        if let transcript = door.transcript, !transcript.load(bytes: file.console, positions: file.consolePositions) {
            throw LogError("\(path): is damaged")
        }
        index = file.pages
        checkpoints.add(filed: file.checkpoints)
        activities.merge(file.activities) { old, _ in old }
        endPlace = file.endPlace
        return true
    }

    /// Replays to the end, and writes the checkpoints on the way to a file. Gives its size in bytes.
    package func writeIndex(_ path: String, poll: () -> Bool = { false }) throws -> UInt64 {
        guard case .end = try seek(to: .never, poll: poll), let endPlace else { throw LogError("\(path): interrupted") }
        var kept: [Checkpoint] = []
        for checkpoint in checkpoints.all where !checkpoint.isFiled {
            let distance = checkpoint.place.position - (kept.last?.place.position ?? 0)
            let least = max(Self.interval * Position(Self.indexedShare), checkpoint.place.position / 128)
            if kept.isEmpty || distance >= least { kept.append(checkpoint) }
        }
        return try IndexFile.write(path, key: indexKey, checkpoints: kept, activities: activities, endPlace: endPlace,
            transcript: door.transcript)
    }

    /// Where the cursor is.
    package var place: Place { machine.place }
    package var checkpointCount: Int { checkpoints.all.count }
    package var checkpointBytes: Int { camera.counter.bytes }
    package var isAtEnd: Bool { endReason != nil }
    /// The first place of the run.
    package var startPlace: Place { checkpoints.all[0].place }

    // MARK: Forwards

    /// Runs to the first place at or after `target`, or to where a condition stops it. `poll` is asked now and then
    /// whether to stop. A stop that `accept` does not want does not count; it is asked where the run stops then, which is
    /// after an access.
    package func runForward(
        to target: Place = .never, conditions: StopConditions, stopsAtStart: Bool = false,
        accept: (TravelStop) -> Bool = { _ in true }, poll: () -> Bool = { false }
    ) throws -> TimelineStop {
        try discardEdits()
        var stopsAtStart = stopsAtStart
        var refused = 0
        while true {
            if let endReason { return .end(endReason) }
            if place >= target { return .reached }
            if try skipForward(to: target, conditions) { stopsAtStart = true }
            let grid = Place((place.position / Self.interval + 1) * Self.interval)
            let stop = try machine.travel(to: min(target, grid), conditions: conditions, stopsAtStart: stopsAtStart)
            stopsAtStart = true
            try note(stop)
            switch stop {
            case .reached: if place >= grid { captureRegularly() }
            case .ended: continue
            default:
                if accept(stop) { return TimelineStop(stop) }
                if case .breakpoint = stop { stopsAtStart = false }
                refused += 1
                if refused & 1023 != 0 { continue }
            }
            if poll() { return .interrupted }
        }
    }

    /// Executes one instruction, or delivers what comes before it.
    package func stepForward() throws -> TimelineStop {
        try discardEdits()
        if let endReason { return .end(endReason) }
        let here = place
        try note(machine.travel(
            to: Place(here.position, phase: here.phase + 1), conditions: StopConditions(), stopsAtStart: false))
        if let endReason { return .end(endReason) }
        return .reached
    }

    // MARK: Anywhere

    /// Goes to the first place at or after `target`, or to the end.
    package func seek(to target: Place, poll: () -> Bool = { false }) throws -> TimelineStop {
        try discardEdits()
        if let endPlace, target >= endPlace, let endReason { return .end(endReason) }
        let nearest = checkpoints.last(atOrBefore: target) ?? checkpoints.all[0]
        if isAtEnd || place > target || place < nearest.place { try restore(nearest) }
        return try approach(target, poll: poll)
    }

    /// Goes to the first place whose virtual time is not before `time`.
    package func seek(toTime time: VirtualTime, poll: () -> Bool = { false }) throws -> TimelineStop {
        try seekFirst(poll, isBefore: { $0.time < time }, isHereBefore: { machine.virtualTime < time })
    }

    /// Goes to the place before event number `event` of the log.
    package func seek(toEvent event: UInt64, poll: () -> Bool = { false }) throws -> TimelineStop {
        guard let position = try door.reader.position(ofEvent: event) else { return try seek(to: .never, poll: poll) }
        return try seek(to: Place(position), poll: poll)
    }

    /// Goes on to where the console has shown `text` after the present place. The door must keep a transcript.
    package func runForward(toText text: [UInt8], poll: () -> Bool = { false }) throws -> TimelineStop {
        guard let transcript = door.transcript, !text.isEmpty else { return .reached }
        let start = transcript.count
        var searched = start
        while true {
            if let (position, count) = transcript.first(text, after: max(searched, start)) {
                return try seek(toByte: count, of: transcript, writtenAt: position, poll: poll)
            }
            searched = max(start, transcript.bytes.count - text.count)
            if let endReason { return .end(endReason) }
            // What the index has of the console reaches to the end.
            if let endPlace, transcript.bytes.count > transcript.count { return try seek(to: endPlace, poll: poll) }
            let stop = try runForward(
                to: Place(place.position + Self.interval / 4), conditions: StopConditions(), poll: poll)
            if case .interrupted = stop { return stop }
        }
    }

    /// Goes back to where the console had shown `text` last, before the present place.
    package func runBackward(toText text: [UInt8], poll: () -> Bool = { false }) throws -> TimelineStop {
        guard let transcript = door.transcript, !text.isEmpty else { return .reached }
        guard let (position, count) = transcript.last(text, before: transcript.count - 1) else {
            try restore(checkpoints.all[0])
            return .start
        }
        return try seek(toByte: count, of: transcript, writtenAt: position, poll: poll)
    }

    /// The first place at which `count` bytes have been written.
    private func seek(
        toByte count: Int, of transcript: Transcript, writtenAt position: Position, poll: () -> Bool
    ) throws -> TimelineStop {
        let stop = try seek(to: Place(position), poll: poll)
        if case .interrupted = stop { return stop }
        while transcript.count < count, !isAtEnd { _ = try stepForward() }
        return endReason.map { .end($0) } ?? .reached
    }

    /// The first place for which `isHereBefore` no longer holds: from the last checkpoint before it by bisection.
    private func seekFirst(
        _ poll: () -> Bool, isBefore: (Checkpoint) -> Bool, isHereBefore: () -> Bool
    ) throws -> TimelineStop {
        try restore(checkpoints.last(where: isBefore) ?? checkpoints.all[0])
        if !isHereBefore() { return .reached }
        // Steps that grow until it is passed, then halves.
        var low = place
        while isHereBefore() {
            if isAtEnd { return .end(endReason ?? .quit) }
            low = place
            if case .interrupted = try runForward(to: Place(low.position + Self.interval), conditions: StopConditions(), poll: poll) {
                return .interrupted
            }
        }
        var high = place.position
        while high - low.position > 1 {
            let middle = low.position + (high - low.position) / 2
            _ = try seek(to: Place(middle))
            if isHereBefore(), !isAtEnd { low = place } else { high = middle }
        }
        _ = try seek(to: low)
        while isHereBefore(), !isAtEnd { _ = try stepForward() }
        return endReason.map { .end($0) } ?? .reached
    }

    private func approach(_ target: Place, poll: () -> Bool) throws -> TimelineStop {
        while place < target {
            if let endReason { return .end(endReason) }
            var next = target
            if let distance = target.position == .max ? nil : target.position - place.position, distance > Self.nearest {
                next = Place(place.position + distance / 2)
            }
            let stop = try runForward(to: next, conditions: StopConditions(), poll: poll)
            if case .reached = stop, place < target { capture() }
            if case .interrupted = stop { return .interrupted }
        }
        return endReason.map { .end($0) } ?? .reached
    }

    // MARK: Backwards

    /// The cursor as a bound: the end is after all places.
    private var bound: Place { isAtEnd ? Place(place.position, phase: .max) : place }

    /// Goes to the place before this one.
    package func stepBackward() throws -> TimelineStop {
        let here = bound
        if here <= startPlace { return .start }
        var candidates: [Place] = []
        if here.phase > 0 { candidates.append(Place(here.position)) }
        if here.position > 0 { candidates.append(Place(here.position - 1)) }
        for candidate in candidates {
            _ = try seek(to: candidate)
            if isAtEnd || place >= here { continue }
            // One place after the other: the last one before `here` is it.
            while true {
                let checkpoint = capture()
                let stop = try stepForward()
                if case .end = stop {} else if place < here { continue }
                try restore(checkpoint)
                return .reached
            }
        }
        try restore(checkpoints.all[0])
        return .start
    }

    /// Goes back to the last place before this one that a condition names, and that `accept` wants: it is asked after an
    /// access, as when going forwards.
    package func runBackward(
        conditions: StopConditions, accept: (TravelStop) -> Bool = { _ in true }, poll: () -> Bool = { false }
    ) throws -> TimelineStop {
        var upper = bound
        while upper > startPlace {
            upper = lowerBound(ofNothing: conditions, before: upper)
            guard let checkpoint = checkpoints.last(before: upper) else { break }
            if !conditions.isEmpty {
                try restore(checkpoint)
                if let (found, stop) = try lastHit(before: upper, conditions, accept) {
                    _ = try seek(to: found)
                    return stop
                }
            }
            if poll() {
                try restore(checkpoint)
                return .interrupted
            }
            upper = checkpoint.place
        }
        try restore(checkpoints.all[0])
        return .start
    }

    /// The last hit from here on, at a place before `upper`.
    private func lastHit(
        before upper: Place, _ conditions: StopConditions, _ accept: (TravelStop) -> Bool
    ) throws -> (Place, TimelineStop)? {
        var last: (Place, TimelineStop)?
        var stopsAtStart = true
        while place < upper {
            let stop = try machine.travel(to: upper, conditions: conditions, stopsAtStart: stopsAtStart)
            try note(stop)
            stopsAtStart = true
            switch stop {
            case .reached, .ended: return last
            case .breakpoint: stopsAtStart = false
            default: break
            }
            if !accept(stop) { continue }
            switch stop {
            case .reached, .ended: return last
            case .breakpoint(let address):
                if place < upper { last = (place, .breakpoint(address)) }
            case .watch(let range, let address, let by, let pc, let dma):
                if by < upper { last = (by, .watch(range, address: address, by: by, pc: pc, dma: dma)) }
            case .delivered(let vector): if place < upper { last = (place, .delivered(vector)) }
            case .device(let access): if access.by < upper { last = (access.by, .device(access)) }
            }
        }
        return last
    }

    // MARK: Changes

    /// Changes at the present place, which last until the cursor moves.
    package private(set) var edits: [Edit] = []

    /// Changes the machine, as long as the cursor stays: a recording itself cannot be changed. A reason why it cannot be
    /// done, or nil.
    package func edit(_ edit: Edit) throws -> String? {
        if isAtEnd { return "the recording ends here" }
        if let reason = LiveRun.refusal(at: machine) { return reason }
        capture()
        edits.append(edit)
        machine.edit(edit)
        return nil
    }

    /// Takes changes back. Every move does.
    package func discardEdits() throws {
        if edits.isEmpty { return }
        let here = place
        try restore(checkpoints.last(atOrBefore: here) ?? checkpoints.all[0])
        if place < here { _ = try approach(here, poll: { false }) }
    }

    // MARK: Checkpoints

    private func note(_ stop: TravelStop) throws {
        if let damage = door.damage { throw damage }
        guard case .ended(let reason) = stop else { return }
        endReason = reason
        endPlace = machine.place
    }

    @discardableResult
    private func capture() -> Checkpoint {
        if let there = checkpoints.last(atOrBefore: place), there.place == place { return there }
        let checkpoint = camera.capture()
        checkpoints.add(checkpoint, cursor: place.position, bytes: { camera.counter.bytes })
        return checkpoint
    }

    /// At a regular place: ends a stretch of noted activity, begins another, and takes a checkpoint unless there is one
    /// near.
    private func captureRegularly() {
        let number = Int(clamping: place.position / Self.interval)
        if place.position % Self.interval == 0 {
            if let from = notedFrom, from + 1 == number {
                activities[from] = machine.takeActivity()
                notedFrom = number
            } else {
                beginNoting(at: number)
            }
        } else {
            notedFrom = nil
        }
        guard let before = checkpoints.last(atOrBefore: place) else { return }
        // The longer the run, the wider: a search or seek over a distance may take time in proportion to it.
        if place.position - before.place.position >= max(Self.interval, place.position / 256) { capture() }
    }

    private func beginNoting(at number: Int) {
        notedFrom = nil
        if activities[number] != nil { return }
        _ = machine.takeActivity()
        notedFrom = number
    }

    /// False: no condition can be met in stretch `number`.
    private func mayHit(_ number: Int, _ conditions: StopConditions) -> Bool {
        guard let activity = activities[number], conditions.devices.isEmpty else { return true }
        if conditions.breakpoints.contains(where: { activity.mayExecute($0) }) { return true }
        if conditions.watches.contains(where: { $0.kind != .write || activity.mayWrite($0.start, $0.length) }) {
            return true
        }
        if conditions.vectors.isEmpty { return false }
        // What is delivered at the end of a stretch is first seen in the next.
        guard number > 0, let before = activities[number - 1] else { return true }
        return conditions.vectors.contains { activity.mayDeliver($0) || before.mayDeliver($0) }
    }

    /// The earliest place such that no condition can be met from there to `upper`.
    private func lowerBound(ofNothing conditions: StopConditions, before upper: Place) -> Place {
        var upper = upper
        while upper.position > 0 || upper.phase > 0 {
            let number = Int(clamping: (upper.phase > 0 ? upper.position : upper.position - 1) / Self.interval)
            if mayHit(number, conditions) { return upper }
            upper = Place(Position(number) * Self.interval)
        }
        return upper
    }

    /// Leaves out what lies ahead as far as no condition can be met there and checkpoints reach. True: it has gone on.
    private func skipForward(to target: Place, _ conditions: StopConditions) throws -> Bool {
        let first = Int(clamping: place.position / Self.interval)
        var number = first
        while activities[number] != nil, !mayHit(number, conditions) { number += 1 }
        if number == first { return false }
        let goal = min(target, Place(Position(number) * Self.interval))
        guard let checkpoint = checkpoints.last(atOrBefore: goal), checkpoint.place > place else { return false }
        try restore(checkpoint)
        return true
    }

    private func restore(_ checkpoint: Checkpoint) throws {
        edits = []
        endReason = nil
        notedFrom = nil
        let isRestored = camera.restore(checkpoint)
        if let failure = index?.failure { return try dropIndex(failure, goal: checkpoint.place) }
        guard isRestored else { throw LogError("a checkpoint at \(checkpoint.place) does not fit the machine") }
    }

    /// Told when a part of the index turns out to be damaged, and the index is not used any more.
    package var onIndexFailure: (LogError) -> Void = { _ in }

    /// The index is damaged: what came from it goes, and the first checkpoint, which is in memory, is where to start again.
    private func dropIndex(_ failure: LogError, goal: Place) throws {
        onIndexFailure(failure)
        index = nil
        checkpoints.keepFirst()
        guard camera.restoreAll(checkpoints.all[0]) else { throw failure }
        endPlace = nil
        if place < goal { _ = try approach(goal, poll: { false }) }
    }
}
