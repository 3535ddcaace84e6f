import Foundation
import MachineState
import Testing

@testable import Boundary
@testable import Machine
@testable import Replay

@Suite(.serialized) struct TimelineTests {
    private static let isGuestHere = Guest.shared != nil
    private static let comment: Comment = "no guest: run scripts/test, which fetches it"

    private func stamp(_ machine: PCMachine) -> [PartDigest] { machine.digests() }

    /// A replay that is put back goes on as the first time, to the end, and every recorded digest agrees.
    @Test(.enabled(if: isGuestHere, comment), arguments: BoundaryKind.allCases)
    func aMachinePutBackGoesOnTheSame(boundary: BoundaryKind) throws {
        let run = try #require(RecordedRun.of(boundary))
        let (timeline, machine) = try run.timeline()
        let first: Position = 150_000_000
        let second: Position = 190_000_000
        _ = try timeline.seek(to: Place(first))
        #expect(timeline.place.position == first)
        let atFirst = stamp(machine)
        _ = try timeline.seek(to: Place(second))
        let atSecond = stamp(machine)
        #expect(atFirst != atSecond)
        _ = try timeline.seek(to: Place(first))
        #expect(stamp(machine) == atFirst)
        _ = try timeline.seek(to: Place(second))
        #expect(stamp(machine) == atSecond)
        _ = try timeline.seek(to: Place(1000))
        _ = try timeline.seek(to: Place(first))
        #expect(stamp(machine) == atFirst)

        let end = try timeline.seek(to: .never)
        #expect(end == .end(.poweredOff))
        let atEnd = stamp(machine)
        _ = try timeline.seek(to: Place(second))
        #expect(stamp(machine) == atSecond)
        #expect(try timeline.seek(to: .never) == .end(.poweredOff))
        #expect(stamp(machine) == atEnd)

        // A replay that never stopped is in the same state.
        let (straight, door) = try run.replay()
        #expect(try straight.run(until: .max) == .ended(.poweredOff, code: nil))
        #expect(stamp(straight) == atEnd)
        #expect(door.digestsChecked > 2)
    }

    /// Steps backwards retrace the steps forwards, over exceptions and interrupts.
    @Test(.enabled(if: isGuestHere, comment), arguments: BoundaryKind.allCases)
    func stepsBackRetraceStepsForwards(boundary: BoundaryKind) throws {
        let run = try #require(RecordedRun.of(boundary))
        let (timeline, machine) = try run.timeline()
        var generator = TestGenerator(seed: 7)
        _ = try timeline.seek(to: .never)
        let end = timeline.place.position
        for _ in 0..<12 {
            _ = try timeline.seek(to: Place(generator.next() % end))
            // An interrupt or fault is likely near: go to one.
            var conditions = StopConditions()
            conditions.vectors = Set(0...255)
            _ = try timeline.runForward(to: Place(end - 100), conditions: conditions)
            for _ in 0..<10 { _ = try timeline.stepBackward() }
            var trail: [(Place, UInt64)] = []
            for _ in 0..<25 {
                trail.append((timeline.place, machine.programCounter))
                _ = try timeline.stepForward()
            }
            for (place, pc) in trail.reversed() {
                #expect(try timeline.stepBackward() == .reached)
                #expect(timeline.place == place)
                #expect(machine.programCounter == pc)
            }
        }
    }

    /// Running backwards finds the hits of running forwards, in reverse.
    @Test(.enabled(if: isGuestHere, comment), arguments: BoundaryKind.allCases)
    func hitsBackwardsAreHitsForwards(boundary: BoundaryKind) throws {
        let run = try #require(RecordedRun.of(boundary))
        let (timeline, machine) = try run.timeline()
        let first: Position = 100_000_000
        let last: Position = 120_000_000
        // The instruction that the run is at every so often is surely executed often.
        _ = try timeline.seek(to: Place(110_000_000))
        var conditions = StopConditions()
        conditions.breakpoints = [machine.programCounter]
        _ = try timeline.seek(to: Place(first))
        var forwards: [Place] = []
        while case .breakpoint = try timeline.runForward(to: Place(last), conditions: conditions), forwards.count < 500 {
            #expect(conditions.breakpoints.contains(machine.programCounter))
            forwards.append(timeline.place)
        }
        #expect(!forwards.isEmpty)
        let bound = forwards.count < 500 ? Place(last) : forwards.removeLast()
        _ = try timeline.seek(to: bound)
        for place in forwards.suffix(40).reversed() {
            #expect(try timeline.runBackward(conditions: conditions) == .breakpoint(machine.programCounter))
            #expect(timeline.place == place)
        }
        // Delivered interrupts, all vectors.
        conditions = StopConditions()
        conditions.vectors = Set(0...255)
        _ = try timeline.seek(to: Place(first))
        forwards = []
        while case .delivered = try timeline.runForward(to: Place(last), conditions: conditions), forwards.count < 30 {
            forwards.append(timeline.place)
        }
        #expect(forwards.count > 2)
        _ = try timeline.seek(to: Place(last))
        if forwards.count == 30 { _ = try timeline.seek(to: forwards.removeLast()) }
        for place in forwards.reversed() {
            _ = try timeline.runBackward(conditions: conditions)
            #expect(timeline.place == place)
        }
    }

    /// A watched word: forwards the stop is after the instruction, backwards before it, and nothing else writes it.
    @Test(.enabled(if: isGuestHere, comment), arguments: BoundaryKind.allCases)
    func watchesSeeEveryChange(boundary: BoundaryKind) throws {
        let run = try #require(RecordedRun.of(boundary))
        let (timeline, machine) = try run.timeline()
        _ = try timeline.seek(to: Place(110_000_000))
        let address = machine.cpu.state.pointee.core.registers[4] &- 64
        var conditions = StopConditions()
        conditions.watches = [WatchRange(start: address, length: 8, kind: .write)]
        var forwards: [(by: Place, after: Place)] = []
        for _ in 0..<20 {
            guard case .watch(_, _, let by, _, _) = try timeline.runForward(to: Place(130_000_000), conditions: conditions)
            else { break }
            #expect(by < timeline.place)
            forwards.append((by, timeline.place))
        }
        #expect(forwards.count > 3)
        for hit in forwards.reversed() {
            guard case .watch = try timeline.runBackward(conditions: conditions) else {
                Issue.record("no hit backwards")
                break
            }
            #expect(timeline.place == hit.by)
        }
    }

    /// With little memory checkpoints are dropped; travelling stays exact.
    @Test(.enabled(if: isGuestHere, comment))
    func littleMemoryIsEnough() throws {
        let run = try #require(RecordedRun.of(.inputs))
        let limit = 140 << 20
        let (roomy, _) = try run.timeline()
        _ = try roomy.seek(to: .never)
        #expect(roomy.checkpointBytes > limit)
        let (timeline, machine) = try run.timeline(memoryLimit: limit)
        _ = try timeline.seek(to: Place(120_000_000))
        let digests = stamp(machine)
        _ = try timeline.seek(to: .never)
        #expect(timeline.checkpointBytes < limit)
        #expect(timeline.checkpointCount < roomy.checkpointCount)
        #expect(timeline.checkpointCount > 2)
        _ = try timeline.seek(to: Place(120_000_000))
        #expect(stamp(machine) == digests)
        #expect(timeline.checkpointBytes < limit)
    }

    @Test(.enabled(if: isGuestHere, comment))
    func timesAndEventsAreFound() throws {
        let run = try #require(RecordedRun.of(.inputs))
        let (timeline, machine) = try run.timeline()
        _ = try timeline.seek(to: .never)
        let half = timeline.machine.virtualTime / 2
        _ = try timeline.seek(toTime: half)
        #expect(machine.virtualTime >= half)
        let place = timeline.place
        _ = try timeline.stepBackward()
        #expect(machine.virtualTime < half)
        _ = try timeline.stepForward()
        #expect(timeline.place == place)
        let position = try #require(try timeline.door.reader.position(ofEvent: 5))
        _ = try timeline.seek(toEvent: 5)
        #expect(timeline.place.position == position)
    }
}

/// Numbers that are the same in every run of the tests.
struct TestGenerator: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        var x = state
        x = (x ^ (x >> 33)) &* 0xFF51_AFD7_ED55_8CCD
        return x ^ (x >> 33)
    }
}
