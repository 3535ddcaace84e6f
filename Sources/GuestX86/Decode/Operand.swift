/// Operand forms, named as in the SDM's opcode maps (volume 2, appendix A.2).
package enum Operand: UInt8, Sendable {
    case none
    // From ModRM: register or memory; b byte, w word, v by operand size, y 32 or 64 bits.
    case Eb, Ew, Ev, Ey
    // ModRM's reg field: general, segment, control, debug register.
    case Gb, Gw, Gv, Gy, Sw, Cd, Dd
    // Memory only; a far pointer in memory.
    case M, Mp
    // The opcode's low three bits.
    case Zb, Zv
    // Immediates: byte, sign-extended byte, word, at most 32 bits sign-extended, full operand size.
    case Ib, Ibs, Iw, Iz, Iv
    // Relative branches, a far pointer, an absolute offset.
    case Jb, Jz, Ap, Ob, Ov
    // Fixed.
    case AL, rAX, CL, DX, one, ES, CS, SS, DS, FS, GS
}

/// What an opcode does, for the integer and system instructions; x87 and SIMD have their own tables.
package enum Operation: UInt16, Sendable, CaseIterable {
    case invalid, group, x87, simd
    case add, or, adc, sbb, and, sub, xor, cmp, test, mov, xchg, lea, inc, dec, neg, not
    case mul, imul1, imul2, imul3, div, idiv
    case rol, ror, rcl, rcr, shl, shr, sar, shld, shrd
    case push, pop, pusha, popa, pushf, popf, pushSegment, popSegment, enter, leave
    case movzxb, movzxw, movsxb, movsxw, movsxd, bswap, xadd, cmpxchg, cmpxchg8b, cmov, setcc
    case bt, bts, btr, btc, bsf, bsr, popcnt
    case jcc, jmp, jmpNear, jmpFar, jmpFarPointer, call, callNear, callFar, callFarPointer, ret, retImmediate
    case retFar, retFarImmediate, iret, int, int3, into, int1, loop, loope, loopne, jcxz, bound
    case cbw, cwd, daa, das, aaa, aas, aam, aad, xlat, salc, lahf, sahf
    case clc, stc, cmc, cld, std, cli, sti
    case movs, cmps, stos, lods, scas, ins, outs, inImmediate, inDX, outImmediate, outDX
    case nop, pause, hlt, wait, ud
    case movFromSegment, movToSegment, les, lds, lss, lfs, lgs
    case movFromControl, movToControl, movFromDebug, movToDebug, clts, lmsw, smsw
    case lgdt, lidt, sgdt, sidt, lldt, ltr, sldt, str, verr, verw, lar, lsl, arpl, invlpg
    case invd, wbinvd, rdtsc, rdtscp, rdmsr, wrmsr, rdpmc, cpuid, rsm
    case syscall, sysret, sysenter, sysexit, swapgs, monitor, mwait, clac, stac, xgetbv
    case fence, clflush, fxsave, fxrstor, ldmxcsr, stmxcsr, prefetch, movMoffsLoad, movMoffsStore
}

/// Attributes of an opcode.
package struct OpcodeAttributes: OptionSet, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }
    /// LOCK is allowed when the destination is memory.
    package static let lockable = OpcodeAttributes(rawValue: 1)
    /// #UD in 64-bit mode.
    package static let not64 = OpcodeAttributes(rawValue: 2)
    /// The operand size is 64 bits by default in 64-bit mode (16 with a 66 prefix).
    package static let default64 = OpcodeAttributes(rawValue: 4)
    /// The operand size is 64 bits in 64-bit mode, whatever the prefixes.
    package static let force64 = OpcodeAttributes(rawValue: 8)
    /// #UD in real and virtual-8086 mode.
    package static let protectedOnly = OpcodeAttributes(rawValue: 16)
    /// Has a ModRM byte although no operand says so.
    package static let modRM = OpcodeAttributes(rawValue: 32)
}

package struct OpcodeRow: Sendable {
    package var operation: Operation = .invalid
    package var first: Operand = .none
    package var second: Operand = .none
    package var third: Operand = .none
    package var attributes: OpcodeAttributes = []
    /// Row of `OpcodeMap.groups` when `operation` is `.group`.
    package var group: UInt8 = 0
}
