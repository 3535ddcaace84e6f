import CPUCore
import GuestX86
import TestSupport
import Testing

/// Accesses side by side, which generated code may look up together: at the edges of pages that are not neighbours in RAM, are
/// missing or read-only, and while their table changes. Both engines must end in the same state.
@Suite struct AccessGroupTests {
    /// Four pages, the last of which is not there, and the third not writable.
    private static let data: UInt64 = 0x50_0000
    private static let physical: [UInt64] = [0x32_0000, 0x30_0000, 0x35_0000, 0x31_0000]
    /// The supervisor's stack, near a page's edge.
    private static let stack: UInt64 = 0x7018
    private static func flags(_ page: Int) -> UInt64 {
        page == 3 ? 0 : CPUFixture.present | CPUFixture.user | (page == 2 ? 0 : CPUFixture.writable)
    }

    /// Random code without a branch backward; RBX, RSI (and R9) are addresses, RCX is a small index, RDI the place of a page-table
    /// entry, RBP a value for it.
    private struct Generator {
        var random: RandomSource
        let is64: Bool
        let isUser: Bool
        var bytes: [UInt8] = []

        private mutating func prefix(_ register: Int, index: Int = 0, base: Int, wide: Bool) {
            guard is64 else { return }
            let rex = (wide ? 8 : 0) | (register >> 3) << 2 | (index >> 3) << 1 | base >> 3
            if rex != 0 { bytes.append(UInt8(0x40 | rex)) }
        }
        private mutating func base() -> Int { [3, 6, is64 ? 9 : 3][random.below(3)] }
        private mutating func value() -> Int { [0, 2, is64 ? 12 : 2][random.below(3)] }

        /// An instruction with a memory operand near a base.
        private mutating func memory(_ code: [UInt8], _ register: Int, wide: Bool, before: [UInt8] = []) {
            let base = base()
            let isIndexed = random.below(5) == 0
            bytes += before
            prefix(register, base: base, wide: wide)
            bytes += code
            let displacement = Int8(truncatingIfNeeded: random.below(96) - 48)
            bytes.append(UInt8(0x40 | (register & 7) << 3 | (isIndexed ? 4 : base & 7)))
            if isIndexed { bytes.append(UInt8(random.below(4) << 6 | 1 << 3 | base & 7)) }
            bytes.append(UInt8(bitPattern: displacement))
        }

        mutating func program() -> [UInt8] {
            bytes = []
            for _ in 0..<6 + random.below(24) {
                let wide = random.below(2) == 0
                switch random.below(20) {
                case 0...2: memory([0x8B], value(), wide: wide)
                case 3...5: memory([0x89], value(), wide: wide)
                case 6: memory([0x8A], 0, wide: false)
                case 7: memory([0x88], 2, wide: false)
                case 8: memory([0x0F, random.below(2) == 0 ? 0xB6 : 0xBF], value(), wide: wide)
                case 9: memory([0x01], value(), wide: wide)
                case 10: memory([0x3B], value(), wide: wide)
                case 11: memory([0x0F, random.below(2) == 0 ? 0x10 : 0x11], random.below(4), wide: false)
                case 12: memory([0x0F, 0x28], 1, wide: false)
                case 13: bytes.append(UInt8((random.below(2) == 0 ? 0x50 : 0x58) + [0, 2, 5][random.below(3)] % 8))
                case 14:
                    // One address from another: LEA, MOV, ADD.
                    let (from, to) = (base(), base())
                    switch random.below(3) {
                    case 0:
                        prefix(to, base: from, wide: true)
                        bytes += [0x8D, UInt8(0x40 | (to & 7) << 3 | from & 7), UInt8(random.below(32))]
                    case 1:
                        prefix(from, base: to, wide: random.below(3) > 0)
                        bytes += [0x89, UInt8(0xC0 | (from & 7) << 3 | to & 7)]
                    default:
                        prefix(0, base: to, wide: random.below(3) > 0)
                        bytes += [0x83, UInt8(0xC0 | to & 7), UInt8(random.below(24))]
                    }
                case 15:
                    // JZ, JC or JS over the next push or so.
                    bytes += [[0x74, 0x72, 0x78][random.below(3)], 1, 0x50]
                case 16 where !isUser:
                    prefix(5, base: 7, wide: false)
                    bytes += [0x89, 0x2F]
                    // INVLPG [RBX].
                    if random.below(2) == 0 { bytes += [0x0F, 0x01, 0x3B] }
                case 17: bytes += [0x83, 0xE1, 0x1F]
                case 18: memory([0xFF], random.below(2), wide: wide)
                default: memory([0x0F, 0xB1], value(), wide: wide, before: random.below(2) == 0 ? [0xF0] : [])
                }
            }
            return bytes + [0x0F, 0x0B]
        }
    }

    private struct End: Equatable {
        var registers: [UInt64]
        var vectors: [UInt8]
        var address: UInt64
        var position: UInt64
        var vector: UInt8?
        var memory: [[UInt8]]
    }

    @Test(arguments: [CPUFixture.Mode.long64, .paged32], [false, true])
    func bothEnginesAgree(mode: CPUFixture.Mode, isUser: Bool) {
        let fixtures = EngineKind.allCases.map { CPUFixture(mode, engine: $0) }
        for fixture in fixtures {
            fixture.map(CPUFixture.code, CPUFixture.code, flags: CPUFixture.present | CPUFixture.writable | CPUFixture.user)
        }
        var generator = Generator(random: RandomSource(seed: isUser ? 5 : 6), is64: mode == .long64, isUser: isUser)
        var differences = 0
        var faults = 0
        for number in 0..<1500 where differences < 3 {
            let program = generator.program()
            // Three times the same, near an edge or not: what generated code has learnt counts.
            let near = generator.random.below(2) == 0
            let start = Self.data + UInt64(near ? generator.random.below(3) * 4096 + 4040 : 5000) + UInt64(generator.random.below(80))
            let page = generator.random.below(3)
            let entry = [Self.physical[(page + 1) & 3] | 7, Self.physical[page] | 5, 0, Self.physical[page] | 7][generator.random.below(4)]
            var ends: [[End]] = []
            for fixture in fixtures {
                for page in 0..<4 { fixture.map(Self.data + UInt64(page) << 12, Self.physical[page], flags: Self.flags(page)) }
                for page in Self.physical { fixture.write(page, (0..<4096).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ Int(page >> 12)) }) }
                fixture.cpu.forgetTranslations()
                fixture.load(program)
                let place = fixture.entryAddress(Self.data + UInt64(page) << 12)
                ends.append((0..<3).map { _ in run(fixture, isUser, start, place, entry) })
            }
            if ends[0].contains(where: { $0.vector == 14 }) { faults += 1 }
            for other in ends.dropFirst() where other != ends[0] {
                differences += 1
                Issue.record("program \(number), start \(start): \(program): \(ends[0].map(\.registers)) and \(other.map(\.registers))")
            }
        }
        #expect(faults > 50 && faults < 1200, "\(faults) programs with page faults")
    }

    private func run(_ fixture: CPUFixture, _ isUser: Bool, _ start: UInt64, _ place: UInt64, _ entry: UInt64) -> End {
        let state = fixture.state
        state.pointee.isHalted = false
        fixture.setSegments(
            code: isUser ? (fixture.mode == .long64 ? CPUFixture.userCode64 : CPUFixture.userCode32) : CPUFixture.kernelCode,
            data: isUser ? CPUFixture.userData : CPUFixture.kernelData)
        for index in 0..<16 { state.pointee.core.registers[index] = UInt64(index) &* 0x0101_0101 }
        fixture[.rbx] = start
        fixture[.rsi] = start + 16
        fixture[.r9] = start - 24
        fixture[.rcx] = 3
        fixture[.rdi] = place
        fixture[.rbp] = entry
        // The supervisor's stack stays where it is: exceptions need it.
        fixture[.rsp] = isUser ? Self.data + 0x1020 : Self.stack
        state.pointee.core.pc = CPUFixture.code
        let position = fixture.cpu.position
        fixture.run(1000)
        return End(
            registers: (0..<16).map { state.pointee.core.registers[$0] }, vectors: withUnsafeBytes(of: state.pointee.fpu.xmm) { Array($0) },
            address: state.pointee.cr2, position: fixture.cpu.position - position, vector: fixture.haltedVector,
            memory: Self.physical.map { fixture.read($0, count: 4096) } 
                + [fixture.read(CPUFixture.stackTop - 64, count: 64), fixture.read(Self.stack - 256, count: 512)])
    }
}
