import CHostOracle
import CPUCore
import Foundation
import Testing

/// Random user-mode programs, on the processor under test and on the host's.
///
/// The long run: `bench/instruction-diff`, which sets `EMU_DIFFERENTIAL_PROGRAMS` (programs per mode) and
/// `EMU_DIFFERENTIAL_SEED`.
@Suite(.serialized) struct DifferentialTests {
    static let programs = Int(ProcessInfo.processInfo.environment["EMU_DIFFERENTIAL_PROGRAMS"] ?? "") ?? 2000
    static let seed = UInt64(ProcessInfo.processInfo.environment["EMU_DIFFERENTIAL_SEED"] ?? "") ?? 1
    /// Differences reported before a run is given up.
    static let most = Int(ProcessInfo.processInfo.environment["EMU_DIFFERENTIAL_MOST"] ?? "") ?? 5

    @Test(arguments: [64, 32, 16], EngineKind.allCases)
    func integer(bits: Int, engine: EngineKind) { compare(bits, .integer, engine) }

    @Test(arguments: [64, 32], EngineKind.allCases)
    func vector(bits: Int, engine: EngineKind) { compare(bits, .vector, engine) }

    @Test(arguments: [64, 32], EngineKind.allCases)
    func x87(bits: Int, engine: EngineKind) { compare(bits, .x87, engine) }

    private func compare(_ bits: Int, _ kind: DifferentialGenerator.Kind, _ engine: EngineKind) {
        guard oracle_supports(Int32(bits)) == 1 else {
            // On another kind of host there is nothing to compare with.
            print("\(kind), \(bits)-bit: not compared: this host does not run such code")
            return
        }
        var generator = DifferentialGenerator(bits: bits, seed: Self.seed, kind: kind)
        let machine = DifferentialMachine(bits: bits, seed: Self.seed, engine: engine)
        var found = 0
        for number in 0..<Self.programs {
            let initial = generator.initialState()
            let program = generator.program()
            guard machine.difference(program, initial) != nil else { continue }
            let smallest = reduce(program, initial, machine)
            let linked = smallest.link(base: bits == 16 ? 0 : UInt64(ORACLE_CODE))
            let difference = machine.difference(smallest, initial) ?? "gone"
            Issue.record(
                """
                \(engine) \(kind) \(bits)-bit program \(number) of seed \(Self.seed): \(difference)
                \(smallest.pieces.compactMap { $0?.name }.joined(separator: ", "))
                \(linked.bytes.map { String(format: "%02x", $0) }.joined(separator: " "))
                \(describe(initial))
                """)
            found += 1
            if found >= Self.most { break }
        }
        let classes = machine.reached.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
        print(
            "\(kind), \(bits)-bit, \(engine): \(machine.retired) instructions agree,",
            "\(machine.setAside) of \(Self.programs) programs set aside. Per class:",
            classes.map { "\($0.key) \($0.value)" }.joined(separator: ", "))
    }

    /// Takes instructions out as long as the difference stays.
    private func reduce(
        _ program: DifferentialProgram, _ initial: OracleState, _ machine: DifferentialMachine
    ) -> DifferentialProgram {
        var smallest = program
        var isSmaller = true
        while isSmaller {
            isSmaller = false
            for index in smallest.pieces.indices where smallest.pieces[index] != nil {
                var candidate = smallest
                candidate.pieces[index] = nil
                if machine.difference(candidate, initial) != nil {
                    smallest = candidate
                    isSmaller = true
                }
            }
        }
        return smallest
    }

    private func describe(_ state: OracleState) -> String {
        let names = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"] + (8..<16).map { "r\($0)" }
        return withUnsafeBytes(of: state.gpr) { raw in
            (0..<16).map { "\(names[$0])=\(String(raw.load(fromByteOffset: $0 * 8, as: UInt64.self), radix: 16))" }
                .joined(separator: " ")
        } + " flags=\(String(state.flags, radix: 16))"
    }
}
