import CPUCore
import GuestX86

extension FlagEffect {
    /// What the manual says of an operation (SDM volume 1, appendix A; volume 2).
    /// - Parameter count: a shift's or rotate's masked count when it is known, else nil.
    init(_ operation: GuestX86.Operation, count: Int? = nil) {
        let all = Flags.all
        switch operation {
        case .add, .sub, .cmp, .neg, .xadd, .cmpxchg: writes = all
        case .adc, .sbb: (reads, writes) = (Flags.cf, all)
        case .and, .or, .xor, .test: (writes, undefined) = (all, Flags.af)
        case .inc, .dec: writes = all & ~Flags.cf
        case .mul, .imul1, .imul2, .imul3: (writes, undefined) = (all, all & ~(Flags.cf | Flags.of))
        case .div, .idiv: (writes, undefined) = (all, all)
        case .shl, .shr, .sar, .shld, .shrd: shift(count)
        case .rol, .ror: rotate(count)
        case .rcl, .rcr:
            rotate(count)
            reads = Flags.cf
        case .bt, .bts, .btr, .btc:
            // ZF stays.
            (writes, undefined) = (all & ~Flags.zf, all & ~(Flags.cf | Flags.zf))
        case .bsf, .bsr: (writes, undefined) = (all, all & ~Flags.zf)
        case .popcnt: writes = all
        case .daa, .das: (reads, writes, undefined) = (Flags.af | Flags.cf, all, Flags.of)
        case .aaa, .aas:
            (reads, writes, undefined) = (Flags.af, all, all & ~(Flags.af | Flags.cf))
        case .aam, .aad: (writes, undefined) = (all, Flags.of | Flags.af | Flags.cf)
        case .salc, .cmc: reads = Flags.cf
        case .lahf: reads = all & ~Flags.of
        case .sahf: writes = all & ~Flags.of
        case .clc, .stc: writes = Flags.cf
        case .pushf, .jcc, .setcc, .cmov, .loope, .loopne, .into: reads = all
        case .popf: writes = all
        case .arpl, .cmpxchg8b: writes = Flags.zf
        default: break
        }
    }

    private mutating func shift(_ count: Int?) {
        let all = Flags.all
        // AMD and Intel agree on no more than this. A count that may be 0 leaves everything as it was.
        undefined = Flags.af | (count == 1 ? 0 : Flags.of)
        if let count, count != 0 { writes = all }
        if count == 0 { undefined = 0 }
    }
    private mutating func rotate(_ count: Int?) {
        undefined = count == 1 || count == 0 ? 0 : Flags.of
        if let count, count != 0 { writes = Flags.cf | Flags.of }
    }
}
