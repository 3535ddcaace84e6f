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
    private static let gdb = ["/usr/bin/gdb", "/usr/local/bin/gdb"].first { FileManager.default.isExecutableFile(atPath: $0) }
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

    /// What is debugged, and how it is executed.
    struct Subject: Sendable, CustomTestStringConvertible {
        var boundary: BoundaryKind
        var bits: Int
        var engine: EngineKind
        var testDescription: String { "\(boundary) \(bits) \(engine)" }
        var run: RecordedRun? {
            switch (boundary, bits) {
            case (.inputs, 64): .inputs
            case (.devices, 64): .devices
            case (.inputs, _): .inputs32
            case (.devices, _): .devices32
            }
        }
        static let all: [Subject] = BoundaryKind.allCases.flatMap { boundary in
            [64, 32].flatMap { bits in
                EngineKind.allCases.map { Subject(boundary: boundary, bits: bits, engine: $0) }
            }
        }
        /// gdb's names: the PC, the general registers, the flags.
        var names: [String] {
            bits == 64
                ? [
                    "rip", "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13",
                    "r14", "r15", "eflags",
                ] : ["eip", "eax", "ebx", "ecx", "edx", "esi", "edi", "ebp", "esp", "eflags"]
        }
        /// Their values.
        func registers(_ machine: PCMachine) -> [UInt64] {
            let state = machine.cpu.state.pointee
            let order = [0, 3, 1, 2, 6, 7, 5, 4] + (bits == 64 ? Array(8..<16) : [])
            return [state.core.pc] + order.map { state.core.registers[$0] } + [UInt64(state.eflags)]
        }
    }

    /// One place of a run, as it is first seen going forwards.
    private struct Step {
        var place: Place
        var pc: UInt64
        var registers: [UInt64]
        /// The watched memory.
        var watched: UInt64
    }

    private func step(_ machine: PCMachine, _ subject: Subject, _ watched: UInt64) -> Step {
        let bytes = machine.readMemory(watched, count: subject.bits / 8, isPhysical: false) ?? []
        return Step(
            place: machine.place, pc: machine.programCounter, registers: subject.registers(machine),
            watched: bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) })
    }

    /// A script of random moves for gdb, and where each leads: into the trace, or (nil) wherever an interrupt falls.
    private struct Moves {
        var script = ["set confirm off", "set pagination off", "set height 0", "set width 0", "target remote :PORT"]
        var expected: [Int?] = []

        init(_ trace: [Step], _ subject: Subject, watched: UInt64, count: Int, seed: UInt64) {
            var generator = TestGenerator(seed: seed)
            var cursor = trace.count / 2
            let names = subject.names
            let show = "printf \"R" + String(repeating: " %lx", count: names.count) + "\\n\", "
                + names.map { "$\($0)" }.joined(separator: ", ")
            func position(_ index: Int) -> [String] {
                ["monitor seek \(trace[index].place)", "maintenance flush register-cache"]
            }
            script += position(cursor)
            while expected.count < count {
                switch generator.next() % 40 {
                case 0..<12:
                    if cursor + 1 >= trace.count { continue }
                    script.append("stepi")
                    cursor += 1
                case 12..<24:
                    if cursor == 0 { continue }
                    script.append("reverse-stepi")
                    cursor -= 1
                case 24..<32:
                    // To an instruction that is executed in the window, forwards or backwards.
                    let goal = Int(generator.next() % UInt64(trace.count))
                    let pc = trace[goal].pc
                    if goal == cursor { continue }
                    script.append("break *0x\(String(pc, radix: 16))")
                    if goal > cursor {
                        script.append("continue")
                        cursor = trace[(cursor + 1)...].firstIndex { $0.pc == pc } ?? goal
                    } else {
                        script.append("reverse-continue")
                        cursor = trace[..<cursor].lastIndex { $0.pc == pc } ?? goal
                    }
                    script.append("delete")
                case 32..<35:
                    // A change of the watched word: gdb itself compares old and new.
                    let isForward = generator.next() & 1 == 0
                    let value = trace[cursor].watched
                    if isForward {
                        guard let next = trace[(cursor + 1)...].firstIndex(where: { $0.watched != value }) else { continue }
                        cursor = next
                    } else {
                        guard let previous = trace[..<cursor].lastIndex(where: { $0.watched != value }) else { continue }
                        cursor = previous
                    }
                    script.append("watch *(long *)0x\(String(watched, radix: 16))")
                    script.append(isForward ? "continue" : "reverse-continue")
                    script.append("delete")
                case 35:
                    // Nothing to stop at: to the end or the start, or to where the server's side interrupts.
                    script += [generator.next() & 1 == 0 ? "continue" : "reverse-continue", "monitor when", show]
                    expected.append(nil)
                    cursor = Int(generator.next() % UInt64(trace.count))
                    script += position(cursor)
                default:
                    cursor = Int(generator.next() % UInt64(trace.count))
                    script += position(cursor)
                }
                expected.append(cursor)
                script.append(show)
            }
            script.append("kill")
        }
    }

    /// gdb goes to and fro at random; at every stop all registers are those that a single pass forwards has seen.
    @Test(.enabled(if: isGuestHere, comment), .enabled(if: gdb != nil, "there is no gdb"), arguments: Subject.all)
    func gdbSeesWhatHappened(subject: Subject) throws {
        guard subject.bits == 64 || Guest.shared32 != nil else { return }
        let run = try #require(subject.run)
        let environment = ProcessInfo.processInfo.environment
        let count = environment["EMU_TEST_GDB_OPERATIONS"].flatMap(Int.init) ?? 250
        let seed = environment["EMU_TEST_GDB_SEED"].flatMap(UInt64.init) ?? 11
        let (timeline, machine) = try run.timeline(engine: subject.engine)

        // The window ends beyond some interrupts.
        var conditions = StopConditions()
        conditions.vectors = Set(32...255)
        _ = try timeline.seek(to: Place(subject.bits == 64 ? 110_000_000 : 400_000_000))
        _ = try timeline.runForward(conditions: conditions)
        _ = try timeline.seek(to: Place(timeline.place.position - 3000))
        let watched = (machine.cpu.state.pointee.core.registers[4] &- 64) & ~7
        var trace: [Step] = []
        while trace.count < 6000 {
            trace.append(step(machine, subject, watched))
            _ = try timeline.stepForward()
        }
        #expect(trace.contains { $0.place.phase > 0 })
        let moves = Moves(trace, subject, watched: watched, count: count, seed: seed &+ UInt64(subject.bits))

        let server = try GDBServer(host: "", port: 0)
        let text = try output(of: moves.script, server) {
            let session = session(
                timeline, machine, architecture: subject.bits == 64 ? Self.architecture : "i386")
            var generator = TestGenerator(seed: seed)
            // As if Ctrl-C had come, when gdb has nothing else to wait for.
            session.wantsInterrupt = { [unowned session] in
                !session.isCommandRunning && session.conditions.isEmpty && generator.next() % 3 != 0
            }
            return session
        }

        // Another machine, with the other engine perhaps, says what is where gdb was interrupted.
        let (checker, checked) = try run.timeline()
        var number = 0
        var place = Place.start
        for line in text.split(separator: "\n") {
            if line.hasPrefix("position ") {
                let word = line.dropFirst(9).prefix { $0 != "," }
                place = Monitor.place(String(word)) ?? Place(UInt64(word) ?? 0)
                continue
            }
            guard line.hasPrefix("R ") else { continue }
            // gdb extends what has 32 bits by its sign.
            let mask: UInt64 = subject.bits == 64 ? .max : 0xFFFF_FFFF
            let seen = line.split(separator: " ").dropFirst().map { (UInt64($0, radix: 16) ?? 0) & mask }
            guard number < moves.expected.count else { break }
            var registers: [UInt64]
            if let index = moves.expected[number] {
                place = trace[index].place
                registers = trace[index].registers
            } else {
                _ = try checker.seek(to: place)
                registers = subject.registers(checked)
            }
            if seen != registers {
                Issue.record("operation \(number): expected place \(place) \(registers), saw \(seen)")
                break
            }
            number += 1
        }
        #expect(number == moves.expected.count, "\(text.suffix(2000))")
    }

    /// What gdb prints when it carries a script out; `:PORT` in it is the server's.
    private func output(of script: [String], _ server: GDBServer, _ makeSession: () -> GDBSession) throws -> String {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("emu-\(UUID().uuidString).gdb").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        try script.joined(separator: "\n").replacingOccurrences(of: ":PORT", with: ":\(server.port)")
            .write(toFile: path, atomically: true, encoding: .utf8)
        let process = Process()
        process.executableURL = URL(fileURLWithPath: try #require(Self.gdb))
        process.arguments = ["-nx", "-batch", "-x", path]
        let outputPath = path + ".out"
        _ = FileManager.default.createFile(atPath: outputPath, contents: nil)
        defer { try? FileManager.default.removeItem(atPath: outputPath) }
        let output = try #require(FileHandle(forWritingAtPath: outputPath))
        process.standardOutput = output
        process.standardError = output
        process.standardInput = FileHandle.nullDevice
        try process.run()
        #expect(try server.serve(makeSession) == .killed)
        process.waitUntilExit()
        return try String(contentsOfFile: outputPath, encoding: .utf8)
    }
}
