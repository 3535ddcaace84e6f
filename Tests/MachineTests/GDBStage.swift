import Foundation
import MachineState
import Testing

@testable import Boundary
@testable import CPUCore
@testable import GDBStub
@testable import Machine
@testable import Replay

/// A window of a recording as a single pass forwards has seen it, and gdb's way through it.
final class GDBStage {
    static let program = ["/usr/bin/gdb", "/usr/local/bin/gdb"].first { FileManager.default.isExecutableFile(atPath: $0) }
    private let subject: GDBSubject
    let trace: [GDBStep]
    private let watched: UInt64
    /// Says what is where gdb was interrupted.
    private let checker: (timeline: Timeline, machine: PCMachine)

    /// The window ends beyond some interrupts.
    init(_ subject: GDBSubject, _ timeline: Timeline, _ machine: PCMachine, checker: (Timeline, PCMachine)) throws {
        self.subject = subject
        self.checker = checker
        var conditions = StopConditions()
        conditions.vectors = Set(32...255)
        _ = try timeline.seek(to: Place(subject.bits == 64 ? 110_000_000 : 400_000_000))
        _ = try timeline.runForward(conditions: conditions)
        _ = try timeline.seek(to: Place(timeline.place.position - 3000))
        watched = (machine.cpu.state.pointee.core.registers[4] &- 64) & ~7
        var trace: [GDBStep] = []
        while trace.count < 6000 {
            let bytes = machine.readMemory(watched, count: subject.bits / 8, isPhysical: false) ?? []
            trace.append(
                GDBStep(
                    place: machine.place, pc: machine.programCounter, registers: subject.registers(machine),
                    watched: bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }))
            _ = try timeline.stepForward()
        }
        self.trace = trace
        #expect(trace.contains { $0.place.phase > 0 })
    }

    /// gdb makes `count` random moves; at every stop all registers are the trace's.
    func play(_ timeline: Timeline, _ machine: PCMachine, count: Int, seed: UInt64) throws {
        let moves = GDBMoves(trace, subject, watched: watched, count: count, seed: seed &+ UInt64(subject.bits))
        let server = try GDBServer(host: "", port: 0)
        let text = try Self.output(of: moves.script, server) {
            let session = GDBSession(
                .recording(timeline), target: machine, monitor: Monitor(describeEvent: { "\($0) \($1.kind.name)" }),
                architecture: subject.bits == 64 ? "i386:x86-64" : "i386")
            var generator = TestGenerator(seed: seed)
            // As if Ctrl-C had come, when gdb has nothing else to wait for.
            session.wantsInterrupt = { [unowned session] in
                !session.isCommandRunning && session.conditions.isEmpty && generator.next() % 3 != 0
            }
            return session
        }
        try compare(text, moves)
    }

    private func compare(_ text: String, _ moves: GDBMoves) throws {
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
                _ = try checker.timeline.seek(to: place)
                registers = subject.registers(checker.machine)
            }
            if seen != registers {
                Issue.record("\(subject.testDescription), operation \(number): expected place \(place) \(registers), saw \(seen)")
                break
            }
            number += 1
        }
        #expect(number == moves.expected.count, "\(subject.testDescription): \(text.suffix(2000))")
    }

    /// What gdb prints when it carries a script out; `:PORT` in it is the server's.
    private static func output(of script: [String], _ server: GDBServer, _ makeSession: () -> GDBSession) throws -> String {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("emu-\(UUID().uuidString).gdb").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        try script.joined(separator: "\n").replacingOccurrences(of: ":PORT", with: ":\(server.port)")
            .write(toFile: path, atomically: true, encoding: .utf8)
        let process = Process()
        process.executableURL = URL(fileURLWithPath: try #require(program))
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
