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
            // CR2, ST(2), the tag word, and the limit that DS has.
            Edit.register(number: 22, bytes: Array(1...8)), Edit.register(number: 58, bytes: Array(0..<10) + [0, 0, 0, 0, 0, 0]),
            Edit.register(number: 66, bytes: [0x55, 0xAA, 0, 0, 0, 0, 0, 0]),
            Edit.register(number: 51, bytes: [0, 0, 0x93, 0, 0xFF, 0xFF] + Array(repeating: 0, count: 10)),
            // Numbers that there are not, and a CR0 that cannot be: nothing changes.
            Edit.register(number: 500, bytes: Array(repeating: 1, count: 8)),
            Edit.register(number: 21, bytes: Array(repeating: 0xFF, count: 8)),
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

    /// Registers of all kinds are written on a recording, read back, and are what they were after any move; what software
    /// could not have written is refused.
    @Test(.enabled(if: isGuestHere, comment))
    func registersOnARecording() throws {
        let run = try #require(RecordedRun.of(.inputs))
        let (timeline, machine) = try run.timeline()
        _ = try timeline.seek(to: Place(1_000_000_000))
        while timeline.place.phase > 0 || machine.cpu.state.pointee.cpl != 0 { _ = try timeline.stepForward() }
        let session = GDBSession(
            .recording(timeline), target: machine, monitor: Monitor(describeEvent: { _, _ in "" }),
            architecture: "i386:x86-64")
        func send(_ text: String) -> GDBSession.Reply { session.handle(Array(text.utf8)) }
        func packet(_ name: String, _ value: String) throws -> GDBSession.Reply {
            let number = try #require(session.registers.firstIndex { $0.name == name })
            return send("P\(String(number, radix: 16))=\(value)")
        }
        let before = machine.digests()
        let untouched = send("g")
        let cr0 = machine.cpu.state.pointee.cr0
        func hex(_ value: UInt64) -> String { Hex.text((0..<8).map { UInt8(truncatingIfNeeded: value >> UInt64($0 * 8)) }) }
        let values = [
            ("rax", "0102030405060708"), ("r15", "1112131415161718"), ("eflags", "d70e0000"), ("ds", "2b000000"),
            ("es", "18000000"), ("fs", "00000000"), ("cs", "10000000"), ("ss", "18000000"), ("st0", "00000000000000c0ff3f"),
            ("st7", "0000000000000080ffbf"), ("fctrl", "7f030000"), ("fstat", "00380000"), ("ftag", "ff3f0000"),
            ("fiseg", "10000000"), ("fioff", "78563412"), ("foseg", "18000000"), ("fooff", "21436587"), ("fop", "d9070000"),
            ("xmm3", "000102030405060708090a0b0c0d0e0f"), ("mxcsr", "801f0000"), ("fs_base", "00100000000000ff"),
            ("cr0", hex(cr0 ^ 1 << 3)), ("cr2", "f0debc9a78563412"), ("cr3", hex(machine.cpu.state.pointee.cr3 &+ 0)),
            ("cr4", hex(machine.cpu.state.pointee.cr4 ^ 1 << 2)), ("efer", hex(machine.cpu.state.pointee.efer)),
            ("gdt_limit", "7f000000"), ("idt_limit", "ff0f0000"), ("k_gs_base", "001000000080ffff"), ("tr", "40000000"),
            ("ldtr", "00000000"), ("gdt_base", hex(machine.cpu.state.pointee.gdtBase)),
        ]
        // The stack's registers before its top moves, and FS before its base.
        for (name, value) in values {
            #expect(try packet(name, value) == .text("OK"), "\(name)")
            let number = try #require(session.registers.firstIndex { $0.name == name })
            #expect(send("p\(String(number, radix: 16))") == .text(value), "\(name)")
        }
        #expect(machine.cpu.state.pointee.segments[3].dpl == 3)
        #expect(machine.cpu.state.pointee.fpu.tagValid == 0x80)
        let refused = [
            ("cs", "33000000"), ("cs", "00000000"), ("ss", "2b000000"), ("ds", "f8ff0000"), ("ds", "18000100"), ("tr", "10000000"),
            ("ldtr", "40000000"), ("cr0", "1000000000000000"), ("cr4", "ffffffffffffffff"), ("efer", "0000000000000000"),
            ("cr3", "ffffffffffffff7f"), ("gdt_base", "0000000000000080"), ("idt_limit", "00000100"), ("cpl", "03000000"),
            ("cr8", "0100000000000000"),
        ]
        for (name, value) in refused {
            guard case .text(let reply) = try packet(name, value) else { continue }
            #expect(reply.hasPrefix("E."), "\(name) = \(value): \(reply)")
        }
        // All at once: those that differ are written.
        guard case .text(let all) = untouched else { return #expect(Bool(false)) }
        guard case .text(let reply) = send("G" + all) else { return #expect(Bool(false)) }
        #expect(reply == "OK" || reply.hasPrefix("E."))
        #expect(send("bs") != .text(""))
        #expect(send("s") != .text(""))
        #expect(send("g") == untouched)
        #expect(machine.digests() == before)
        // And a recording that goes on from here is not disturbed by them.
        _ = try timeline.seek(to: Place(timeline.place.position + 5_000_000))
        let (other, otherMachine) = try run.timeline()
        _ = try other.seek(to: timeline.place)
        #expect(otherMachine.digests() == machine.digests())
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
