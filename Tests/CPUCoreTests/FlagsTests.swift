import Testing

@testable import CPUCore

@Suite struct FlagsTests {
    /// Every combination of the six flags survives.
    @Test func packUndoesUnpack() {
        let bits = [Flags.cf, Flags.pf, Flags.af, Flags.zf, Flags.sf, Flags.of]
        for mask in 0..<64 {
            let flags = bits.enumerated().reduce(UInt32(0)) { $0 | (mask >> $1.offset & 1 != 0 ? $1.element : 0) }
            let pair = Flags.unpack(flags)
            #expect(Flags.pack(pair.result, pair.carry) == flags)
        }
    }

    /// Conditions and their opposites, for every combination (SDM volume 2, appendix B).
    @Test func conditionsFollowTheManual() {
        for mask in 0..<32 {
            let (cf, pf, zf, sf, of) = (mask & 1 != 0, mask & 2 != 0, mask & 4 != 0, mask & 8 != 0, mask & 16 != 0)
            let flags: UInt32 =
                (cf ? Flags.cf : 0) | (pf ? Flags.pf : 0) | (zf ? Flags.zf : 0) | (sf ? Flags.sf : 0) | (of ? Flags.of : 0)
            let pair = Flags.unpack(flags)
            let expected = [of, cf, zf, cf || zf, sf, pf, sf != of, zf || sf != of]
            for (index, value) in expected.enumerated() {
                #expect(Flags.holds(UInt16(index * 2), pair.result, pair.carry) == value)
                #expect(Flags.holds(UInt16(index * 2 + 1), pair.result, pair.carry) != value)
            }
        }
    }

    @Test func sizedOperationsComeInFours() {
        for opcode in Opcode.allCases where opcode <= Opcode.lastSized {
            #expect(opcode.width == Int(opcode.rawValue % 4))
        }
        #expect(Opcode.addF32.withoutFlags == .add32)
        #expect(Opcode.xorFI64.withoutFlags == .xorI64)
        #expect(Opcode.sarFI8.withoutFlags == .sarI8)
        #expect(Opcode.cmp8.withoutFlags == nil)
    }
}
