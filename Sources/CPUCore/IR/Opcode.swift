/// The operations of the intermediate representation.
///
/// Sized operations come in groups of four (8, 16, 32, 64 bits), so that `rawValue & 3` is the width's logarithm; they
/// come first. Names: `I` takes its second operand from `imm`, `F` writes the flags. A write of 8 or 16 bits leaves the
/// rest of the destination alone, a write of 32 bits clears the upper half: x86-64's rule, which costs a RISC guest
/// nothing.
///
/// Operands: `dst`, `a`, `b` are byte offsets into the CPU's state. Offset 1 of a register is x86's AH and friends.
package enum Opcode: UInt16, CaseIterable, Sendable {
    // dst = a; dst = imm
    case mov8, mov16, mov32, mov64
    case movI8, movI16, movI32, movI64
    // dst = a op b, without flags
    case add8, add16, add32, add64
    case addI8, addI16, addI32, addI64
    case sub8, sub16, sub32, sub64
    case subI8, subI16, subI32, subI64
    case and8, and16, and32, and64
    case andI8, andI16, andI32, andI64
    case or8, or16, or32, or64
    case orI8, orI16, orI32, orI64
    case xor8, xor16, xor32, xor64
    case xorI8, xorI16, xorI32, xorI64
    case shlI8, shlI16, shlI32, shlI64
    case shrI8, shrI16, shrI32, shrI64
    case sarI8, sarI16, sarI32, sarI64
    case not8, not16, not32, not64
    // The same, with flags. Pairs with the operations above: see `withoutFlags`.
    case addF8, addF16, addF32, addF64
    case addFI8, addFI16, addFI32, addFI64
    case subF8, subF16, subF32, subF64
    case subFI8, subFI16, subFI32, subFI64
    case andF8, andF16, andF32, andF64
    case andFI8, andFI16, andFI32, andFI64
    case orF8, orF16, orF32, orF64
    case orFI8, orFI16, orFI32, orFI64
    case xorF8, xorF16, xorF32, xorF64
    case xorFI8, xorFI16, xorFI32, xorFI64
    // Shifts by a constant that is not 0 and less than the width (8 and 16 bits: less than 32).
    case shlFI8, shlFI16, shlFI32, shlFI64
    case shrFI8, shrFI16, shrFI32, shrFI64
    case sarFI8, sarFI16, sarFI32, sarFI64
    // dst = a + b + carry, a - b - carry
    case adcF8, adcF16, adcF32, adcF64
    case adcFI8, adcFI16, adcFI32, adcFI64
    case sbbF8, sbbF16, sbbF32, sbbF64
    case sbbFI8, sbbFI16, sbbFI32, sbbFI64
    // Flags of a - b, of a & b
    case cmp8, cmp16, cmp32, cmp64
    case cmpI8, cmpI16, cmpI32, cmpI64
    case test8, test16, test32, test64
    case testI8, testI16, testI32, testI64
    // dst = a ± 1 with all flags but carry; dst = -a
    case incF8, incF16, incF32, incF64
    case decF8, decF16, decF32, decF64
    case negF8, negF16, negF32, negF64
    // Shifts and rotates of a by b (masked by 31, or 63 for 64 bits); flags unchanged when the masked count is 0.
    case shlF8, shlF16, shlF32, shlF64
    case shrF8, shrF16, shrF32, shrF64
    case sarF8, sarF16, sarF32, sarF64
    case rolF8, rolF16, rolF32, rolF64
    case rorF8, rorF16, rorF32, rorF64
    case rclF8, rclF16, rclF32, rclF64
    case rcrF8, rcrF16, rcrF32, rcrF64
    // dst = dst shifted by the count at offset imm, bits from a come in (8 bits is unused)
    case shldF8, shldF16, shldF32, shldF64
    case shrdF8, shrdF16, shrdF32, shrdF64
    // dst = low half of a * b, state at offset imm = high half; carry = overflow = high half matters
    case mulUF8, mulUF16, mulUF32, mulUF64
    case mulSF8, mulSF16, mulSF32, mulSF64
    // dst = low half of a * b, signed
    case imulF8, imulF16, imulF32, imulF64
    // Bit b (modulo the width) of a → carry; dst = a with the bit set, cleared, flipped
    case btF8, btF16, btF32, btF64
    case btsF8, btsF16, btsF32, btsF64
    case btrF8, btrF16, btrF32, btrF64
    case btcF8, btcF16, btcF32, btcF64
    // Bit scans (a == 0: zero flag set, dst unchanged) and population count
    case bsfF8, bsfF16, bsfF32, bsfF64
    case bsrF8, bsrF16, bsrF32, bsrF64
    case popcntF8, popcntF16, popcntF32, popcntF64
    // dst = condition ? a : dst (the condition is in b)
    case cmov8, cmov16, cmov32, cmov64
    // Compare and exchange, register half: flags of accumulator (a) - old value (b); if equal nothing, else a = b.
    // dst = equal ? state at offset imm : b: the value to be stored.
    case cmpxchgF8, cmpxchgF16, cmpxchgF32, cmpxchgF64
    // dst = address (see `Address`); writes as the width says
    case lea8, lea16, lea32, lea64
    // dst = memory at address; memory at address = dst
    case ld8, ld16, ld32, ld64
    // The same for a place that will be stored to in this instruction: faults as the store would
    case ldw8, ldw16, ldw32, ldw64
    case st8, st16, st32, st64
    // Control: if a == 0, a != 0 go to imm
    case brZero8, brZero16, brZero32, brZero64
    case brNonzero8, brNonzero16, brNonzero32, brNonzero64

    // Not sized from here on. Widening moves, named from x to.
    case zx8x16, zx8x64, zx16x64
    case sx8x16, sx8x32, sx8x64, sx16x32, sx16x64, sx32x64
    // Widening loads; a load that zero-extends clears all 64 bits.
    case ldzx8, ldzx16, ldsx8x16, ldsx8x32, ldsx8x64, ldsx16x32, ldsx16x64, ldsx32x64
    // 16 bytes between memory and state
    case ld128, st128
    case bswap32, bswap64
    // dst = byte 0 or 1 by the condition in b
    case setcc
    // dst = the arithmetic flags, where EFLAGS has them; 64 bits
    case packFlags
    // Carry flag: = imm, flipped
    case setCarry, complementCarry
    // 32-bit sum of a and b, zero-extended; and with 64 bits: a segment base is added
    case segment32, segment64
    // Helper number b with operands dst, a, imm; `call` may fault, `callPure` neither faults nor leaves
    case call, callPure
    // Calls helper b, which faults, unless byte a has none of the bits of imm
    case guardClear8
    // Calls helper b, which faults, unless bits 63...47 of a are all equal: the target of a branch
    case guardCanonical

    // If the condition in b holds, the block ends after this instruction, and imm follows; else it goes on.
    case exitIf

    // Ends of blocks. To imm; by the condition in b to imm, else to the block's end; to the value of a.
    case jump, jumpIf, jumpTo
    // Like jump and jumpTo, but back to the run loop, because the mode or an interrupt flag may have changed.
    case leave
    // The pc has been set by a helper: back to the run loop.
    case leaveDynamic
    // Only made by the interpreter: like leave, in the middle of a block, after b instructions.
    case leavePartial
    // Only made by engines: stops after single micro-ops; nothing changes.
    case stop

    /// The operation for a width given as logarithm (0...3), from the group's first.
    @inlinable
    package func sized(_ width: Int) -> Opcode {
        Opcode(rawValue: rawValue + UInt16(width)).unsafelyUnwrapped
    }

    /// The width's logarithm. Only for sized operations.
    @inlinable package var width: Int { Int(rawValue & 3) }

    package static let lastSized = Opcode.brNonzero64

    /// The same operation that leaves the flags alone, or nil when there is none.
    package var withoutFlags: Opcode? {
        switch self {
        case .addF8 ... .xorFI64: Opcode(rawValue: rawValue - Opcode.addF8.rawValue + Opcode.add8.rawValue)
        case .shlFI8 ... .sarFI64: Opcode(rawValue: rawValue - Opcode.shlFI8.rawValue + Opcode.shlI8.rawValue)
        case .incF8 ... .incF64: nil
        default: nil
        }
    }

    /// What the operation does with the flags.
    package enum FlagUse: Sendable {
        case none, writesAll, reads, barrier
        /// Changes some flags and hands the others on: what is not needed afterwards is not needed before.
        case passes
    }

    /// How the dead-flags pass must treat the operation: a fault or an exit needs the flags as they stand.
    package var flagUse: FlagUse {
        switch self {
        case .addF8 ... .sarFI64, .cmp8 ... .testI64, .negF8 ... .negF64, .mulUF8 ... .imulF64,
            .popcntF8 ... .popcntF64, .cmpxchgF8 ... .cmpxchgF64:
            .writesAll
        case .adcF8 ... .sbbFI64, .rclF8 ... .rcrF64, .cmov8 ... .cmov64, .setcc, .packFlags: .reads
        case .incF8 ... .decF64, .shlF8 ... .rorF64, .shldF8 ... .shrdF64, .btF8 ... .bsrF64, .setCarry,
            .complementCarry:
            .passes
        case .guardClear8: .barrier
        case .ld8 ... .brNonzero64, .ldzx8 ... .st128, .call, .callPure, .guardCanonical, .exitIf, .jump ... .stop: .barrier
        default: .none
        }
    }
}

extension Opcode: Comparable {
    @inlinable package static func < (a: Opcode, b: Opcode) -> Bool { a.rawValue < b.rawValue }
}

/// x86's condition codes, as numbered in Jcc (SDM volume 2, appendix B.1.4.7).
package enum Condition: UInt16, Sendable {
    case o, no, b, nb, z, nz, be, nbe, s, ns, p, np, l, nl, le, nle
}
