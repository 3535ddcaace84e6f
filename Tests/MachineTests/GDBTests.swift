import Foundation
import MachineState
import Testing

@testable import Boundary
@testable import CPUCore
@testable import GDBStub
@testable import Machine
@testable import Replay

@Suite(.serialized) struct GDBTests {
    private static let isGuestHere = Guest.shared != nil
    private static let gdb = GDBStage.program
    private static let soakRounds = ProcessInfo.processInfo.environment["EMU_TEST_GDB_ROUNDS"].flatMap(Int.init) ?? 0
    private static let comment: Comment = "no guest: run scripts/test, which fetches it"
    private static let architecture = "i386:x86-64"

    private func session(
        _ timeline: Timeline, _ machine: PCMachine, architecture: String = GDBTests.architecture
    ) -> GDBSession {
        GDBSession(
            .recording(timeline), target: machine, monitor: Monitor(describeEvent: { "\($0) \($1.kind.name)" }),
            architecture: architecture)
    }

    // MARK: Packets

    @Test func packetsAreFramedAndTakenApart() {
        var generator = TestGenerator(seed: 1)
        for length in 0..<300 {
            let body = (0..<length).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
            var reader = PacketReader()
            let items = PacketReader.frame(body).compactMap { reader.feed($0) }
            #expect(items == [.packet(body)])
        }
        var reader = PacketReader()
        #expect("+-\u{3}$g#67$g#66$m0,#zz".utf8.compactMap { reader.feed($0) } == [
            .acknowledged, .refused, .interrupt, .packet(Array("g".utf8)), .damaged, .damaged,
        ])
    }

    /// Whatever a debugger sends, there is an answer, and the session goes on.
    @Test(.enabled(if: isGuestHere, comment))
    func anyPacketIsSurvived() throws {
        let run = try #require(RecordedRun.of(.inputs))
        let (timeline, machine) = try run.timeline()
        _ = try timeline.seek(to: Place(5_000_000))
        let session = session(timeline, machine)
        session.wantsInterrupt = { true }
        let seeds = [
            "qSupported:swbreak+;hwbreak+", "g", "p1f", "m1000,40", "mffffffffffffffff,ffffffffffffffff", "x0,10",
            "Z0,1000,1", "Z2,1000,8", "z2,1000,8", "Z4,ffffffffffffffff,8", "vCont;s:1", "vCont;c", "bs", "bc", "s", "c", "?",
            "qXfer:features:read:target.xml:0,ffff", "qXfer:memory-map:read::0,fff", "qRcmd,7768656e",
            "qRcmd,7365656b203530303030", "qRcmd,6576656e7473203939", "Qqemu.PhyMemMode:1", "Hg-1", "T1", "D", "k",
            "G00", "M0,1:00", "X0,0:", "P0=00", "vMustReplyEmpty", "Z9,0,0", "m,", "p", "Z0,,", "qXfer:::::", "",
        ]
        var generator = TestGenerator(seed: 99)
        for seed in seeds { _ = session.handle(Array(seed.utf8)) }
        for round in 0..<4000 {
            var bytes = Array(seeds[Int(generator.next() % UInt64(seeds.count))].utf8)
            for _ in 0...(generator.next() % 4) {
                let byte = UInt8(truncatingIfNeeded: generator.next())
                let index = bytes.isEmpty ? 0 : Int(generator.next() % UInt64(bytes.count))
                switch generator.next() % 4 {
                case 0 where !bytes.isEmpty: bytes[index] = byte
                case 1: bytes.insert(byte, at: index)
                case 2 where !bytes.isEmpty: bytes.remove(at: index)
                default: bytes.append(UInt8(ascii: "0") + byte % 10)
                }
            }
            // What sets a watch over everything makes each run slow: that is tested elsewhere.
            if bytes.first == UInt8(ascii: "Z"), round % 10 != 0 { continue }
            _ = session.handle(bytes)
        }
        // The session still answers, and the machine is still the recording's.
        #expect(session.handle(Array("qC".utf8)) == .text("QC01"))
        _ = try timeline.seek(to: Place(60_000_000))
        let digests = machine.digests()
        let (other, otherMachine) = try run.timeline()
        _ = try other.seek(to: Place(60_000_000))
        #expect(otherMachine.digests() == digests)
    }

    @Test(.enabled(if: isGuestHere, comment))
    func descriptionAndValuesAgree() throws {
        let run = try #require(RecordedRun.of(.inputs))
        let (_, machine) = try run.timeline()
        for architecture in machine.architectures {
            let bits = machine.registers(of: architecture).reduce(0) { $0 + $1.bits }
            #expect(bits == machine.registerValues(of: architecture).count * 8)
        }
    }

    // MARK: A real gdb

    /// gdb goes to and fro at random; at every stop all registers are those that a single pass forwards has seen.
    @Test(.enabled(if: isGuestHere, comment), .enabled(if: gdb != nil, "there is no gdb"), arguments: GDBSubject.all)
    func gdbSeesWhatHappened(subject: GDBSubject) throws {
        guard subject.bits == 64 || Guest.shared32 != nil else { return }
        let run = try #require(subject.run)
        let (timeline, machine) = try run.timeline(engine: subject.engine)
        let stage = try GDBStage(subject, timeline, machine, checker: run.timeline())
        try stage.play(timeline, machine, count: 250, seed: 11)
    }

    /// A line at once, also into a pipe.
    private static func say(_ line: String) { FileHandle.standardOutput.write(Data((line + "\n").utf8)) }

    /// The same again and again, with other moves each time, and with an index: `bench/gdb-soak`.
    @Test(.enabled(if: isGuestHere && soakRounds > 0, "EMU_TEST_GDB_ROUNDS is not set"), .enabled(if: gdb != nil, "there is no gdb"))
    func gdbSeesWhatHappenedInEveryRound() throws {
        try #require(Guest.shared32 != nil)
        let moves = ProcessInfo.processInfo.environment["EMU_TEST_GDB_OPERATIONS"].flatMap(Int.init) ?? 1000
        var stages: [String: (stage: GDBStage, index: String)] = [:]
        defer { for (_, index) in stages.values { try? FileManager.default.removeItem(atPath: index) } }
        func indexed(_ run: RecordedRun, _ index: String, _ engine: EngineKind) throws -> (Timeline, PCMachine) {
            let (timeline, machine) = try run.timeline(engine: engine)
            #expect(try timeline.useIndex(index))
            return (timeline, machine)
        }
        for subject in GDBSubject.all where stages[subject.recordingName] == nil {
            let run = try #require(subject.run)
            let index = FileManager.default.temporaryDirectory.appendingPathComponent("emu-\(UUID().uuidString).index").path
            // The trace is of a replay without the index.
            let (timeline, machine) = try run.timeline()
            let size = try timeline.writeIndex(index)
            _ = try timeline.seek(to: timeline.startPlace)
            stages[subject.recordingName] = (
                try GDBStage(subject, timeline, machine, checker: indexed(run, index, .best)), index)
            Self.say("\(subject.recordingName): \(timeline.endPlace ?? .start) instructions, index \(size >> 20) MiB")
        }
        let clock = ContinuousClock()
        for round in 1...Self.soakRounds {
            let start = clock.now
            for (number, subject) in GDBSubject.all.enumerated() {
                let (stage, index) = try #require(stages[subject.recordingName])
                let (timeline, machine) = try indexed(#require(subject.run), index, subject.engine)
                try stage.play(
                    timeline, machine, count: moves / GDBSubject.all.count, seed: UInt64(round * 7919 + number * 104_729))
            }
            Self.say("round \(round): \(moves) moves in \(clock.now - start)")
        }
    }
}
