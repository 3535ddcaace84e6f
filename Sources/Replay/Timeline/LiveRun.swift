import Boundary
import MachineState

/// A machine that runs live, as a debugger moves it: forwards only.
package final class LiveRun {
    package let machine: any LiveMachine
    private let door: LiveBoundary
    /// The recording that is being made, if one is.
    package let recorder: RecordingBoundary?
    /// Called on the machine's thread now and then, and soon when the door's `requestControl` or `requestLook` asks for it.
    package var serve: () -> Void = {}
    /// Why the run has ended.
    package private(set) var endReason: EndReason?
    /// Instructions after which it is looked whether the recording can go on.
    private static let slice: Position = 100_000_000

    /// - Parameters:
    ///   - door: the live door, or what stands behind it.
    ///   - recorder: around `door`.
    package init(machine: any LiveMachine, door: LiveBoundary, recorder: RecordingBoundary?) {
        self.machine = machine
        self.door = door
        self.recorder = recorder
        machine.pauseSwitch = door.pause
    }

    package var place: Place { machine.place }

    /// Runs until a condition stops it, or `wantsPause` does.
    ///
    /// - Parameters:
    ///   - watch: begins to watch for a reason to pause, whose discovery calls what it is given, from any thread; gives
    ///     what ends the watch.
    ///   - wantsPause: asked after such a call.
    package func run(
        to target: Place = .never, conditions: StopConditions,
        watch: (@escaping @Sendable () -> Void) -> (() -> Void) = { _ in {} }, wantsPause: () -> Bool = { true }
    ) throws -> TimelineStop {
        if let endReason { return .end(endReason) }
        door.releaseClock()
        defer { door.holdClock() }
        let start = machine.place
        var isFirst = true
        while true {
            door.pause.clear()
            door.takeControl()
            serve()
            let endWatch = watch { [door] in door.requestPause() }
            let goal = min(target, Place(machine.place.position &+ Self.slice))
            let result = Result { try machine.travel(to: goal, conditions: conditions, stopsAtStart: !isFirst) }
            endWatch()
            let stop = try result.get()
            machine.holdInputs()
            if let failure = recorder?.failure { throw failure }
            isFirst = isFirst && machine.place == start
            switch stop {
            case .ended(let reason):
                endReason = reason
                return .end(reason)
            case .reached: if machine.place >= target { return .reached }
            default: return TimelineStop(stop)
            }
            if door.pause.isRequested, wantsPause() { return .interrupted }
        }
    }

    /// Executes one instruction, or delivers what comes before it.
    package func step(
        watch: (@escaping @Sendable () -> Void) -> (() -> Void), wantsPause: () -> Bool
    ) throws -> TimelineStop {
        let here = machine.place
        return try run(
            to: Place(here.position, phase: here.phase &+ 1), conditions: StopConditions(), watch: watch,
            wantsPause: wantsPause)
    }

    /// Changes the machine. A reason why it cannot be done, or nil.
    package func edit(_ edit: Edit) -> String? {
        if endReason != nil { return "the run is over" }
        if let recorder {
            if let reason = Self.refusal(at: machine) { return reason }
            recorder.note(edit, at: machine.moment)
        }
        machine.edit(edit)
        return nil
    }

    /// Why nothing can be changed here when it is to be recorded: a recording says by position and time where a change
    /// belongs, so that it must come before all deliveries of its moment.
    package static func refusal(at machine: any LiveMachine) -> String? {
        if machine.isIdle { return "the processor is halted: step to the next instruction first" }
        if machine.place.phase > 0 {
            return "an interrupt or exception has just been delivered: step over one instruction first"
        }
        return nil
    }

    /// Ends the run, as a user who quits does.
    package func quit() throws {
        door.requestQuit()
        _ = try run(conditions: StopConditions(), wantsPause: { false })
    }
}

extension TimelineStop {
    /// The same stop, on a timeline.
    init(_ stop: TravelStop) {
        switch stop {
        case .reached: self = .reached
        case .breakpoint(let address): self = .breakpoint(address)
        case .watch(let range, let address, let by, let pc, let dma):
            self = .watch(range, address: address, by: by, pc: pc, dma: dma)
        case .delivered(let vector): self = .delivered(vector)
        case .device(let access): self = .device(access)
        case .ended(let reason): self = .end(reason)
        }
    }
}
