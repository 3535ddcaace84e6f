import CHostOracle
import CPUCore
import Foundation
import GuestX86
import MachineState
import TestSupport
import Testing

/// Where a run is interrupted does not show: any sequence of `run(until:)` gives the state that one call gives.
@Suite struct HorizonTests {
    /// Random programs in one go, instruction by instruction, and with random horizons.
    @Test(arguments: [64, 32, 16])
    func randomPrograms(bits: Int) {
        var generator = DifferentialGenerator(bits: bits, seed: 77)
        let machine = DifferentialMachine(bits: bits, seed: 77)
        for number in 0..<600 {
            let initial = generator.initialState()
            let linked = generator.program().link(base: machine.codeBase)
            if linked.bytes.count > DifferentialMachine.codeSize { continue }
            guard let whole = run(machine, linked, initial, slice: { 100_000 }) else { continue }
            let single = run(machine, linked, initial, slice: { 1 })
            #expect(single == whole, "\(bits)-bit program \(number), single steps: \(linked.bytes)")
            let sliced = run(machine, linked, initial, slice: { UInt64(1 + generator.random.below(6)) })
            #expect(sliced == whole, "\(bits)-bit program \(number), random horizons: \(linked.bytes)")
        }
    }

    /// Random programs as endless loops, for a while: generated code keeps registers from one round to the next, and must
    /// end where the interpreter ends, also when it is stopped in between.
    @Test(arguments: [64, 32], [DifferentialGenerator.Kind.integer, .vector, .x87])
    func randomLoops(bits: Int, kind: DifferentialGenerator.Kind) {
        var generator = DifferentialGenerator(bits: bits, seed: 78, kind: kind)
        let machines = EngineKind.allCases.map { DifferentialMachine(bits: bits, seed: 78, engine: $0) }
        let rounds = ProcessInfo.processInfo.environment["EMU_DIFFERENTIAL_PROGRAMS"].flatMap { Int($0) } ?? 400
        var differences = 0
        for number in 0..<rounds where differences < 3 {
            let initial = generator.initialState()
            var linked = generator.program().link(base: machines[0].codeBase)
            // STC; JC to the beginning, in the place of the end.
            linked.bytes.removeLast(2)
            linked.bytes += [0xF9, 0x0F, 0x82]
            let distance = Int32(-(linked.bytes.count + 4))
            linked.bytes += withUnsafeBytes(of: distance.littleEndian) { Array($0) }
            if linked.bytes.count > DifferentialMachine.codeSize { continue }
            let ends = machines.map { go($0, linked, initial, 2500, slice: { 2500 }) }
            let sliced = machines.map { machine in
                var random = RandomSource(seed: UInt64(number))
                return go(machine, linked, initial, 2500) { UInt64(1 + random.below(200)) }
            }
            for end in ends + sliced where end != ends[0] {
                Issue.record("\(kind), \(bits)-bit program \(number): \(linked.bytes.map { String(format: "%02x", $0) })")
                differences += 1
                break
            }
        }
    }

    /// Executes `most` instructions, or until the processor halts.
    private func go(
        _ machine: DifferentialMachine, _ linked: DifferentialProgram.Linked, _ initial: OracleState, _ most: UInt64,
        slice: () -> UInt64
    ) -> End {
        let fixture = machine.fixture
        machine.template.withUnsafeBytes { machine.guestData.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
        fixture.write(DifferentialMachine.physicalCode, linked.bytes + [0xF4, 0xF4])
        machine.enterProgram(initial)
        let start = fixture.cpu.position
        var stop = X86CPU.Stop.horizon
        while case .horizon = stop, fixture.cpu.position &- start < most {
            stop = fixture.run(min(slice(), most - (fixture.cpu.position &- start)))
        }
        var visitor = StateVisitor(.describe)
        fixture.state.pointee.visit(&visitor)
        let data = UnsafeRawBufferPointer(start: machine.guestData, count: DifferentialMachine.dataSize)
        return End(
            registers: [], state: visitor.entries.filter { !$0.name.contains("osition") }, memory: Array(data),
            length: fixture.cpu.position &- start)
    }

    /// The end of a run.
    private struct End: Equatable {
        var registers: [UInt8]
        /// The processor's whole state but its position, as text.
        var state: [StateVisitor.Entry] = []
        var memory: [UInt8]
        var length: UInt64
    }

    /// Nil: the program does not end.
    private func run(
        _ machine: DifferentialMachine, _ linked: DifferentialProgram.Linked, _ initial: OracleState,
        slice: () -> UInt64
    ) -> End? {
        let fixture = machine.fixture
        machine.template.withUnsafeBytes { machine.guestData.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
        fixture.write(DifferentialMachine.physicalCode, linked.bytes + [0xF4, 0xF4])
        machine.enterProgram(initial)
        let start = fixture.cpu.position
        var stop = fixture.run(slice())
        while case .horizon = stop {
            // The horizon is exact, not about.
            if fixture.cpu.position &- start > DifferentialMachine.longest { return nil }
            stop = fixture.run(slice())
        }
        guard case .halted = stop, let result = machine.result(initial) else { return nil }
        let data = UnsafeRawBufferPointer(start: machine.guestData, count: DifferentialMachine.dataSize)
        return End(
            registers: withUnsafeBytes(of: result) { Array($0) }, memory: Array(data),
            length: fixture.cpu.position &- start)
    }

    /// What a look-up of the next code would show to the guest comes after what is due at the horizon: no accessed bit is set and
    /// no fault delivered before, whether the instructions up to there were a block of their own or the beginning of one.
    @Test(arguments: [false, true], [1, 2])
    func nextPageIsLeftAlone(isPresent: Bool, slice: UInt64) {
        let fixture = CPUFixture(.long64)
        let next: UInt64 = 0x40_1000
        let flags = CPUFixture.present | CPUFixture.writable
        fixture.map(next - 0x1000, 0x30_0000, flags: flags)
        fixture.map(next, 0x30_1000, flags: isPresent ? flags : 0)
        // nop; nop | nop; hlt
        fixture.write(0x30_0FFE, [0x90, 0x90, 0x90, 0xF4])
        fixture.state.pointee.core.pc = next - 2
        let entry = fixture.entryAddress(next)
        for _ in 0..<2 / slice { #expect(fixture.run(slice) == .horizon) }
        #expect(fixture.state.pointee.core.pc == next)
        #expect(fixture.read64(entry) & 0x20 == 0, "the next page has been accessed")
        #expect(fixture.run() == .halted)
        #expect(fixture.haltedVector == (isPresent ? nil : 14))
        if isPresent { #expect(fixture.read64(entry) & 0x20 != 0) }
    }

    /// A horizon is kept to the instruction.
    @Test func horizonIsExact() {
        let fixture = CPUFixture(.long64)
        // again: inc eax; jmp again
        fixture.load([0xFF, 0xC0, 0xEB, 0xFC])
        fixture[.rax] = 0
        for count in [UInt64(1), 2, 3, 7, 64, 65, 1000] {
            let start = fixture.cpu.position
            #expect(fixture.run(count) == .horizon)
            #expect(fixture.cpu.position == start + count)
        }
        #expect(fixture[.rax] == (1 + 2 + 3 + 7 + 64 + 65 + 1000 + 1) / 2)
    }

    /// A long repeated move, stopped at each of its positions.
    @Test func repeatedMove() {
        func fixture() -> CPUFixture {
            let fixture = CPUFixture(.long64)
            // mov esi, 0x80000; mov edi, 0x90003; mov ecx, 20000; rep movsb; hlt
            fixture.load([
                0xBE, 0x00, 0x00, 0x08, 0x00, 0xBF, 0x03, 0x00, 0x09, 0x00, 0xB9, 0x20, 0x4E, 0x00, 0x00, 0xF3, 0xA4,
                0xF4,
            ])
            fixture.write(0x8_0000, (0..<20000).map { UInt8(truncatingIfNeeded: $0 &* 31) })
            return fixture
        }
        let whole = fixture()
        #expect(whole.run() == .halted)
        let stepped = fixture()
        var steps: UInt64 = 0
        while stepped.step() == .horizon { steps += 1 }
        #expect(whole.read(0x9_0000, count: 20010) == stepped.read(0x9_0000, count: 20010))
        #expect(whole.read(0x9_0003, count: 20000) == whole.read(0x8_0000, count: 20000))
        #expect(whole[.rcx] == 0)
        #expect(whole[.rsi] == stepped[.rsi])
        #expect(whole[.rdi] == stepped[.rdi])
        #expect(whole.cpu.position == stepped.cpu.position)
        // Three moves and slices of at most 4096 elements.
        #expect(steps >= 3 + 5)
    }
}
