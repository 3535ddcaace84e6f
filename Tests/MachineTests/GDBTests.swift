import Foundation
import MachineState
import Testing

@testable import Boundary
@testable import GDBStub
@testable import Machine
@testable import Replay

@Suite(.serialized) struct GDBTests {
    private static let isGuestHere = Guest.shared != nil
    private static let gdb = ["/usr/bin/gdb", "/usr/local/bin/gdb"].first { FileManager.default.isExecutableFile(atPath: $0) }
    private static let comment: Comment = "no guest: run scripts/test, which fetches it"
    private static let architecture = "i386:x86-64"

    private func session(_ timeline: Timeline, _ machine: PCMachine) -> GDBSession {
        GDBSession(
            .recording(timeline), target: machine, monitor: Monitor(describeEvent: { "\($0) \($1.kind.name)" }),
            architecture: Self.architecture)
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

    /// One place of a run, as it is first seen going forwards.
    private struct Step {
        var place: Place
        var pc: UInt64
        /// RIP, the 16 general registers in gdb's order, EFLAGS.
        var registers: [UInt64]
        /// The watched memory.
        var watched: UInt64
    }

    private static let names = [
        "rip", "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
        "r15", "eflags",
    ]

    private func step(_ machine: PCMachine, _ watched: UInt64) -> Step {
        let state = machine.cpu.state.pointee
        let order = [0, 3, 1, 2, 6, 7, 5, 4, 8, 9, 10, 11, 12, 13, 14, 15]
        let bytes = machine.readMemory(watched, count: 8, isPhysical: false) ?? Array(repeating: 0, count: 8)
        return Step(
            place: machine.place, pc: machine.programCounter,
            registers: [state.core.pc] + order.map { state.core.registers[$0] } + [UInt64(state.eflags)],
            watched: bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) })
    }

    /// gdb goes to and fro at random; at every stop all registers are those that a single pass forwards has seen.
    @Test(.enabled(if: isGuestHere, comment), .enabled(if: gdb != nil, "there is no gdb"), arguments: BoundaryKind.allCases)
    func gdbSeesWhatHappened(boundary: BoundaryKind) throws {
        let run = try #require(RecordedRun.of(boundary))
        let count = ProcessInfo.processInfo.environment["EMU_TEST_GDB_OPERATIONS"].flatMap(Int.init) ?? 1000
        let (timeline, machine) = try run.timeline()

        // The window ends beyond some interrupts.
        var conditions = StopConditions()
        conditions.vectors = Set(32...255)
        _ = try timeline.seek(to: Place(110_000_000))
        _ = try timeline.runForward(conditions: conditions)
        _ = try timeline.seek(to: Place(timeline.place.position - 3000))
        let watched = (machine.cpu.state.pointee.core.registers[4] &- 64) & ~7
        var trace: [Step] = []
        while trace.count < 6000 {
            trace.append(step(machine, watched))
            _ = try timeline.stepForward()
        }
        #expect(trace.contains { $0.place.phase > 0 })

        // A script of random moves, and what must be seen after each.
        var generator = TestGenerator(seed: boundary == .inputs ? 11 : 12)
        var script = ["set confirm off", "set pagination off", "set height 0", "set width 0"]
        var expected: [Int] = []
        var cursor = 3000
        func show() { script.append("printf \"R" + String(repeating: " %lx", count: Self.names.count) + "\\n\", " + Self.names.map { "$\($0)" }.joined(separator: ", ")) }
        script.append("target remote :PORT")
        func seek(_ index: Int) {
            cursor = index
            script.append("monitor seek \(trace[index].place)")
            script.append("maintenance flush register-cache")
        }
        seek(cursor)
        for _ in 0..<count {
            switch generator.next() % 10 {
            case 0, 1, 2:
                if cursor + 1 >= trace.count { continue }
                script.append("stepi")
                cursor += 1
            case 3, 4, 5:
                if cursor == 0 { continue }
                script.append("reverse-stepi")
                cursor -= 1
            case 6, 7:
                // To an instruction that is executed in the window, forwards or backwards.
                let goal = Int(generator.next() % UInt64(trace.count))
                let pc = trace[goal].pc
                script.append("break *0x\(String(pc, radix: 16))")
                if goal > cursor {
                    script.append("continue")
                    cursor = trace[(cursor + 1)...].firstIndex { $0.pc == pc } ?? goal
                } else if goal < cursor {
                    script.append("reverse-continue")
                    cursor = trace[..<cursor].lastIndex { $0.pc == pc } ?? goal
                }
                script.append("delete")
            case 8:
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
            default: seek(Int(generator.next() % UInt64(trace.count)))
            }
            expected.append(cursor)
            show()
        }
        script.append("kill")

        let server = try GDBServer(host: "", port: 0)
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
        #expect(try server.serve { session(timeline, machine) } == .killed)
        process.waitUntilExit()
        let text = try String(contentsOfFile: outputPath, encoding: .utf8)
        let seen = text.split(separator: "\n").filter { $0.hasPrefix("R ") }.map {
            $0.split(separator: " ").dropFirst().map { UInt64($0, radix: 16) ?? 0 }
        }
        #expect(seen.count == expected.count, "\(text.suffix(2000))")
        for (number, (registers, index)) in zip(seen, expected).enumerated() where registers != trace[index].registers {
            Issue.record("operation \(number): expected place \(trace[index].place) \(trace[index].registers), saw \(registers)")
            break
        }
    }
}
