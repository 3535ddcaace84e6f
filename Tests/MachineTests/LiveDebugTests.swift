import Foundation
import MachineState
import Testing

@testable import Boundary
@testable import GDBStub
@testable import Machine
@testable import Replay

/// A debugger on a live run, while it is being recorded: the recording must not know it, but for the changes it made.
@Suite(.serialized) struct LiveDebugTests {
    private static let isGuestHere = Guest.shared != nil
    private static let comment: Comment = "no guest: run scripts/test, which fetches it"

    /// What a debugger has seen at a place.
    private struct Sight {
        var place: Place
        var registers: [UInt8]
        var digests: [PartDigest]
    }

    /// A live run of the guest to its power-off, recorded.
    private final class Live {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("emu-\(UUID().uuidString).emurec").path
        let configuration: PCConfiguration
        let image: BootImage
        let door: LiveBoundary
        let machine: PCMachine
        let run: LiveRun

        init(_ boundary: BoundaryKind, isRecorded: Bool = true) throws {
            let guest = try #require(Guest.shared)
            var configuration = PCConfiguration()
            configuration.boundary = boundary
            configuration.memory = 128 << 20
            configuration.date = 1_700_000_000
            configuration.commandLine = "console=ttyS0 panic=-1 quiet"
            self.configuration = configuration
            image = try guest.image(configuration)
            let door = LiveBoundary(pace: .free)
            self.door = door
            door.register(
                source: Channel.serial0.rawValue, name: "serial0",
                sink: Typist(["echo $((6*7))\n", "sleep 2\n", "poweroff -f\n"], door))
            var inner: any HostBoundary = door
            var plane: DevicePlane?
            if boundary == .devices {
                let devices = DevicePlane(
                    configuration: configuration, memoryMap: try MemoryMap(size: configuration.memory), clock: .virtual,
                    host: door)
                plane = devices
                inner = devices
            }
            var recorder: RecordingBoundary?
            if isRecorded {
                let header = LogHeader(
                    boundary: boundary, clockShift: 3, digestInterval: 50_000_000, date: configuration.date, settings: [],
                    images: [])
                recorder = RecordingBoundary(
                    wrapping: inner, writer: try LogWriter(path: path, header: header), header: header)
            }
            machine = try PCMachine(configuration: configuration, image: image, door: recorder ?? inner)
            recorder?.memory = machine
            plane?.insideMemory = recorder ?? machine as any InsideMemory
            run = LiveRun(machine: machine, door: door, recorder: recorder)
        }
        deinit { try? FileManager.default.removeItem(atPath: path) }

        func timeline() throws -> (timeline: Timeline, machine: PCMachine) {
            let door = ReplayBoundary(reader: try LogReader(path: path))
            let machine = try PCMachine(configuration: configuration, image: image, door: door)
            door.memory = machine
            return (try Timeline(machine: machine, door: door), machine)
        }
    }

    private func sight(_ machine: PCMachine) -> Sight {
        Sight(
            place: machine.place, registers: machine.registerValues(of: "i386:x86-64"),
            digests: machine.digests().filter { ["cpu", "ram", "clock"].contains($0.part) })
    }

    /// Random stops, steps, pauses and changes; then the recording is replayed, and shows the same at every place.
    @Test(.enabled(if: isGuestHere, comment), arguments: BoundaryKind.allCases)
    func aRecordingDoesNotNoticeTheDebugger(boundary: BoundaryKind) throws {
        let live = try Live(boundary)
        let machine = live.machine
        var generator = TestGenerator(seed: boundary == .inputs ? 5 : 6)
        var sights: [Sight] = []
        var changes = 0
        var refusals = 0
        var conditions = StopConditions()
        rounds: for round in 0..<400 {
            var stop: TimelineStop
            switch generator.next() % 8 {
            case 0, 1: stop = try live.run.step(watch: { _ in {} }, wantsPause: { true })
            case 2, 3:
                // A place that the guest comes by again: where it is now.
                conditions = StopConditions()
                conditions.breakpoints = [machine.programCounter]
                stop = try live.run.run(to: Place(machine.place.position + 3_000_000), conditions: conditions)
            case 4:
                conditions = StopConditions()
                conditions.vectors = Set(0...255)
                stop = try live.run.run(to: Place(machine.place.position + 3_000_000), conditions: conditions)
            case 5:
                conditions = StopConditions()
                let stack = machine.cpu.state.pointee.core.registers[4]
                conditions.watches = [WatchRange(start: stack &- 16, length: 8, kind: .access)]
                stop = try live.run.run(to: Place(machine.place.position + 100_000), conditions: conditions)
            case 6:
                // From another thread, at any time: also while the guest is idle.
                let delay = UInt32(generator.next() % 20_000)
                stop = try live.run.run(
                    to: Place(machine.place.position + 40_000_000), conditions: StopConditions(),
                    watch: { found in
                        let thread = Thread {
                            usleep(delay)
                            found()
                        }
                        thread.start()
                        return { while !thread.isFinished { usleep(100) } }
                    })
            default:
                stop = try live.run.run(
                    to: Place(machine.place.position + generator.next() % 5_000_000), conditions: StopConditions())
            }
            if case .end = stop { break rounds }
            if machine.isIdle { continue }
            if round % 4 == 0 {
                let stack = machine.cpu.state.pointee.core.registers[4]
                if machine.cpu.state.pointee.cpl == 0, let physical = machine.physicalAddress(of: stack &- 1800) {
                    let edits = [
                        Edit.memory(address: physical, bytes: [UInt8(truncatingIfNeeded: round), 2, 3]),
                        Edit.register(number: 47, bytes: Array(repeating: UInt8(truncatingIfNeeded: round), count: 16)),
                    ]
                    for edit in edits {
                        if live.run.edit(edit) == nil { changes += 1 } else { refusals += 1 }
                    }
                }
            }
            sights.append(sight(machine))
        }
        if live.run.endReason == nil { _ = try live.run.run(conditions: StopConditions(), wantsPause: { false }) }
        #expect(live.run.endReason == .poweredOff)
        #expect(changes > 10)
        #expect(refusals > 0)
        #expect(sights.count > 100)
        #expect(sights.contains { $0.place.phase > 0 })

        let (timeline, replayed) = try live.timeline()
        for (number, seen) in sights.enumerated() {
            // A change is let in before the place is reached: only the last sight of a place has all of them.
            if number + 1 < sights.count, sights[number + 1].place == seen.place { continue }
            _ = try timeline.seek(to: seen.place)
            let again = sight(replayed)
            #expect(again.place == seen.place)
            #expect(again.registers == seen.registers, "at \(seen.place)")
            #expect(again.digests == seen.digests, "at \(seen.place)")
            if again.digests != seen.digests { break }
        }
        #expect(try timeline.seek(to: .never) == .end(.poweredOff))
        #expect(timeline.door.digestsChecked > 5)
    }

    /// A branch that starts with changes holds them, and replays; the timeline itself forgets them when it moves.
    @Test(.enabled(if: isGuestHere, comment))
    func aBranchCarriesChanges() throws {
        let run = try #require(RecordedRun.of(.inputs))
        let (timeline, machine) = try run.timeline()
        _ = try timeline.seek(to: Place(120_000_000))
        while timeline.place.phase > 0 { _ = try timeline.stepForward() }
        let here = timeline.place
        let untouched = machine.digests()
        let stack = machine.cpu.state.pointee.core.registers[4]
        let physical = try #require(machine.physicalAddress(of: stack &- 1800))
        let edits = [
            Edit.memory(address: physical, bytes: [1, 2, 3, 4]), Edit.register(number: 46, bytes: Array(0..<16)),
        ]
        for edit in edits { #expect(try timeline.edit(edit) == nil) }
        #expect(machine.digests() != untouched)
        _ = try timeline.stepForward()
        _ = try timeline.stepBackward()
        #expect(timeline.place == here)
        #expect(machine.digests() == untouched)
        #expect(timeline.edits.isEmpty)

        for edit in edits { #expect(try timeline.edit(edit) == nil) }
        let changed = machine.digests()
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("emu-\(UUID().uuidString).emurec").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        let door = LiveBoundary(pace: .free, origin: machine.moment)
        door.register(source: Channel.serial0.rawValue, name: "serial0", sink: Typist(["echo other\n", "poweroff -f\n"], door))
        let header = timeline.door.reader.header
        let recorder = try RecordingBoundary(
            wrapping: door, continuing: timeline.door, writer: try LogWriter(path: path, header: header), header: header)
        recorder.memory = machine
        for edit in timeline.edits { recorder.note(edit, at: machine.moment) }
        machine.replaceDoor(recorder)
        let live = LiveRun(machine: machine, door: door, recorder: recorder)
        #expect(try live.run(conditions: StopConditions(), wantsPause: { false }) == .end(.poweredOff))
        let atEnd = machine.digests()

        let other = ReplayBoundary(reader: try LogReader(path: path))
        let replayed = try PCMachine(configuration: run.configuration, image: run.image, door: other)
        other.memory = replayed
        let branch = try Timeline(machine: replayed, door: other)
        _ = try branch.seek(to: here)
        #expect(replayed.digests() == changed)
        #expect(try branch.seek(to: .never) == .end(.poweredOff))
        #expect(replayed.digests() == atEnd)
    }

    /// gdb's packets on a live run: writes, and the refusals that a recording needs.
    @Test(.enabled(if: isGuestHere, comment))
    func packetsOnALiveRun() throws {
        let live = try Live(.inputs, isRecorded: false)
        let session = GDBSession(
            .live(live.run), target: live.machine, monitor: Monitor(describeEvent: { _, _ in "" }),
            architecture: "i386:x86-64")
        func send(_ text: String) -> GDBSession.Reply { session.handle(Array(text.utf8)) }
        guard case .text(let features) = send("qSupported:swbreak+;hwbreak+") else { return #expect(Bool(false)) }
        #expect(!features.contains("Reverse"))
        #expect(send("P0=8877665544332211") == .text("OK"))
        #expect(send("p0") == .text("8877665544332211"))
        #expect(send("M100000,4:01020304") == .text("OK"))
        #expect(send("m100000,4") == .text("01020304"))
        #expect(session.handle(Array("X100001,2:".utf8) + [0xFE, 0x23]) == .text("OK"))
        #expect(send("m100000,4") == .text("01fe2304"))
        #expect(send("Mfffff00000000000,1:00") == .text("E14"))
        #expect(send("M100000,5:01020304") == .text("E01"))
        if case .text(let refusal) = send("P2a=0000000000000000") { #expect(refusal.hasPrefix("E")) }
        #expect(send("bs") == .text("T05replaylog:begin;thread:01;"))
        #expect(send("k") == .last("", ends: true))
    }
}
