import Foundation
import MachineState
import Testing

@testable import Boundary
@testable import CPUCore
@testable import GDBStub
@testable import Machine
@testable import Replay

/// What is debugged, and how it is executed.
struct GDBSubject: Sendable, CustomTestStringConvertible {
    var boundary: BoundaryKind
    var bits: Int
    var engine: EngineKind
    /// The recording, which both engines replay.
    var recordingName: String { "\(boundary) \(bits)" }
    var testDescription: String { "\(boundary) \(bits) \(engine)" }
    var run: RecordedRun? {
        switch (boundary, bits) {
        case (.inputs, 64): .inputs
        case (.devices, 64): .devices
        case (.inputs, _): .inputs32
        case (.devices, _): .devices32
        }
    }
    static let all: [GDBSubject] = BoundaryKind.allCases.flatMap { boundary in
        [64, 32].flatMap { bits in
            EngineKind.allCases.map { GDBSubject(boundary: boundary, bits: bits, engine: $0) }
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
struct GDBStep {
    var place: Place
    var pc: UInt64
    var registers: [UInt64]
    /// The watched memory.
    var watched: UInt64
}

/// A script of random moves for gdb, and where each leads: into the trace, or (nil) wherever an interrupt falls.
struct GDBMoves {
    var script = ["set confirm off", "set pagination off", "set height 0", "set width 0", "target remote :PORT"]
    var expected: [Int?] = []

    init(_ trace: [GDBStep], _ subject: GDBSubject, watched: UInt64, count: Int, seed: UInt64) {
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
