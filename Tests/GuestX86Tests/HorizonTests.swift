import CHostOracle
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

    /// The end of a run.
    private struct End: Equatable {
        var registers: [UInt8]
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
