import CHost
import CPUCore

extension HelperTable {
    /// By helper number: the x86-64 instruction that does exactly what the helper does.
    ///
    /// Left out: what processors do not compute alike (RCPPS, RSQRTPS), what takes implied operands (BLENDVPS, PCMPESTRI)
    /// and what raises in steps (DPPS).
    static func makeHostVectors() -> UnsafeMutablePointer<HostVectorOp> {
        let table = UnsafeMutablePointer<HostVectorOp>.allocate(capacity: HelperID.count)
        table.initialize(repeating: HostVectorOp(), count: HelperID.count)
        table[Int(HelperID.readTimestamp.rawValue)] = HostVectorOp(.timestamp, 0, 0)
        for helper in [HelperID.string, .readControl, .readMSR, .writeMSR, .portIn, .portOut] {
            table[Int(helper.rawValue)] = HostVectorOp(.flagless, 0, 0)
        }
        table[Int(HelperID.divide.rawValue)] = HostVectorOp(.divide, 0, 0)
        guard chost_has_sse42() == 1 else { return table }
        func set(_ operation: SIMDOperation, _ host: HostVectorOp) { table[Int(operation.helper)] = host }
        addIntegers(set)
        addShifts(set)
        addFloats(set)
        addConversions(set)
        for operation in X87Operation.allCases {
            if let kind = hostKind(operation) { table[Int(operation.helper)] = HostVectorOp(kind, 0, 0) }
        }
        return table
    }

    /// What the host's x87 unit does as every other: what IEEE 754 and the manual define to the bit. Not the transcendental
    /// functions, and not what touches memory in ways of its own.
    private static func hostKind(_ operation: X87Operation) -> HostVectorOp.Kind? {
        switch operation {
        case .arithmeticToTop, .arithmeticToRegister, .arithmeticAndPop, .loadRegister, .loadOne, .loadL2T, .loadL2E,
            .loadPi, .loadLG2, .loadLN2, .loadZero, .storeRegister, .storeRegisterAndPop, .exchange,
            .compareAndPopTwice, .unorderedCompare, .unorderedCompareAndPop, .unorderedCompareAndPopTwice, .test,
            .examine, .changeSign, .absolute, .decrementTop, .incrementTop, .squareRoot, .roundToIntegral, .free:
            .x87Register
        case .conditionalMove: .x87ReadsFlags
        case .compareFlags, .compareFlagsAndPop, .unorderedCompareFlags, .unorderedCompareFlagsAndPop: .x87Flags
        case .arithmetic32, .arithmetic64, .arithmeticInteger16, .arithmeticInteger32, .load32, .load64, .load80,
            .loadInteger16, .loadInteger32, .loadInteger64:
            .x87Memory
        case .store32, .store64, .store80, .storeInteger16, .storeInteger32, .storeInteger64: .x87Store
        case .loadControl: .x87Control
        default: nil
        }
    }

    private typealias Setter = (SIMDOperation, HostVectorOp) -> Void

    private static func addIntegers(_ set: Setter) {
        let binary: [(SIMDOperation, UInt32)] = [
            (.paddb, 0x0FFC), (.paddw, 0x0FFD), (.paddd, 0x0FFE), (.paddq, 0x0FD4), (.psubb, 0x0FF8), (.psubw, 0x0FF9),
            (.psubd, 0x0FFA), (.psubq, 0x0FFB), (.paddsb, 0x0FEC), (.paddsw, 0x0FED), (.paddusb, 0x0FDC),
            (.paddusw, 0x0FDD), (.psubsb, 0x0FE8), (.psubsw, 0x0FE9), (.psubusb, 0x0FD8), (.psubusw, 0x0FD9),
            (.pmullw, 0x0FD5), (.pmulhw, 0x0FE5), (.pmulhuw, 0x0FE4), (.pmulld, 0x0F3840), (.pmuludq, 0x0FF4),
            (.pmuldq, 0x0F3828), (.pmulhrsw, 0x0F380B), (.pmaddwd, 0x0FF5), (.pmaddubsw, 0x0F3804), (.psadbw, 0x0FF6),
            (.pavgb, 0x0FE0), (.pavgw, 0x0FE3), (.psignb, 0x0F3808), (.psignw, 0x0F3809), (.psignd, 0x0F380A),
            (.phaddw, 0x0F3801), (.phaddd, 0x0F3802), (.phaddsw, 0x0F3803), (.phsubw, 0x0F3805), (.phsubd, 0x0F3806),
            (.phsubsw, 0x0F3807), (.pminub, 0x0FDA), (.pminsw, 0x0FEA), (.pminsb, 0x0F3838), (.pminuw, 0x0F383A),
            (.pminsd, 0x0F3839), (.pminud, 0x0F383B), (.pmaxub, 0x0FDE), (.pmaxsw, 0x0FEE), (.pmaxsb, 0x0F383C),
            (.pmaxuw, 0x0F383E), (.pmaxsd, 0x0F383D), (.pmaxud, 0x0F383F), (.pcmpeqb, 0x0F74), (.pcmpeqw, 0x0F75),
            (.pcmpeqd, 0x0F76), (.pcmpeqq, 0x0F3829), (.pcmpgtb, 0x0F64), (.pcmpgtw, 0x0F65), (.pcmpgtd, 0x0F66),
            (.pcmpgtq, 0x0F3837), (.pand, 0x0FDB), (.pandn, 0x0FDF), (.por, 0x0FEB), (.pxor, 0x0FEF),
            (.packsswb, 0x0F63), (.packssdw, 0x0F6B), (.packuswb, 0x0F67), (.packusdw, 0x0F382B), (.punpcklbw, 0x0F60),
            (.punpcklwd, 0x0F61), (.punpckldq, 0x0F62), (.punpckhbw, 0x0F68), (.punpckhwd, 0x0F69),
            (.punpckhdq, 0x0F6A), (.pshufb, 0x0F3800),
        ]
        for (operation, opcode) in binary { set(operation, HostVectorOp(.packed, 0x66, opcode)) }
        let unary: [(SIMDOperation, UInt32)] = [
            (.pabsb, 0x0F381C), (.pabsw, 0x0F381D), (.pabsd, 0x0F381E), (.phminposuw, 0x0F3841),
            (.pmovsxbw, 0x0F3820), (.pmovsxbd, 0x0F3821), (.pmovsxbq, 0x0F3822), (.pmovsxwd, 0x0F3823),
            (.pmovsxwq, 0x0F3824), (.pmovsxdq, 0x0F3825), (.pmovzxbw, 0x0F3830), (.pmovzxbd, 0x0F3831),
            (.pmovzxbq, 0x0F3832), (.pmovzxwd, 0x0F3833), (.pmovzxwq, 0x0F3834), (.pmovzxdq, 0x0F3835),
        ]
        for (operation, opcode) in unary { set(operation, HostVectorOp(.packedUnary, 0x66, opcode)) }
        set(.movsldup, HostVectorOp(.packedUnary, 0xF3, 0x0F12))
        set(.movshdup, HostVectorOp(.packedUnary, 0xF3, 0x0F16))
        for (operation, prefix) in [(.pshufd, 0x66), (.pshuflw, 0xF2), (.pshufhw, 0xF3)] as [(SIMDOperation, UInt8)] {
            set(operation, HostVectorOp(.packedUnary, prefix, 0x0F70, hasImmediate: true))
        }
        set(.shufps, HostVectorOp(.packed, 0, 0x0FC6, hasImmediate: true))
        let immediate: [(SIMDOperation, UInt32)] = [
            (.shufpd, 0x0FC6), (.palignr, 0x0F3A0F), (.insertps, 0x0F3A21), (.pblendw, 0x0F3A0E), (.blendps, 0x0F3A0C),
            (.blendpd, 0x0F3A0D), (.mpsadbw, 0x0F3A42),
        ]
        for (operation, opcode) in immediate { set(operation, HostVectorOp(.packed, 0x66, opcode, hasImmediate: true)) }
        set(.pmovmskb, HostVectorOp(.toGeneral128, 0x66, 0x0FD7))
        set(.movmskps, HostVectorOp(.toGeneral128, 0, 0x0F50))
        set(.movmskpd, HostVectorOp(.toGeneral128, 0x66, 0x0F50))
        set(.ptest, HostVectorOp(.flags128, 0x66, 0x0F3817))
    }

    private static func addShifts(_ set: Setter) {
        let byRegister: [(SIMDOperation, UInt32)] = [
            (.psrlw, 0x0FD1), (.psrld, 0x0FD2), (.psrlq, 0x0FD3), (.psraw, 0x0FE1), (.psrad, 0x0FE2), (.psllw, 0x0FF1),
            (.pslld, 0x0FF2), (.psllq, 0x0FF3),
        ]
        for (operation, opcode) in byRegister { set(operation, HostVectorOp(.packed, 0x66, opcode)) }
        let byImmediate: [(SIMDOperation, UInt32, UInt8)] = [
            (.psrlwI, 0x0F71, 2), (.psrawI, 0x0F71, 4), (.psllwI, 0x0F71, 6), (.psrldI, 0x0F72, 2), (.psradI, 0x0F72, 4),
            (.pslldI, 0x0F72, 6), (.psrlqI, 0x0F73, 2), (.psrldq, 0x0F73, 3), (.psllqI, 0x0F73, 6), (.pslldq, 0x0F73, 7),
        ]
        for (operation, opcode, group) in byImmediate {
            set(operation, HostVectorOp(.shiftImmediate, 0x66, opcode, group: group, hasImmediate: true))
        }
    }

    private static func addFloats(_ set: Setter) {
        /// PS, PD, SS and SD of an opcode.
        func four(
            _ operations: [SIMDOperation], _ opcode: UInt32, isUnary: Bool = false, hasImmediate: Bool = false
        ) {
            let kinds: [HostVectorOp.Kind] =
                isUnary
                ? [.packedUnary, .packedUnary, .scalar32Unary, .scalar64Unary] : [.packed, .packed, .scalar32, .scalar64]
            for (index, prefix) in [0, 0x66, 0xF3, 0xF2].enumerated() as EnumeratedSequence<[UInt8]> {
                set(
                    operations[index],
                    HostVectorOp(kinds[index], prefix, opcode, hasImmediate: hasImmediate, isFloat: true))
            }
        }
        four([.addps, .addpd, .addss, .addsd], 0x0F58)
        four([.mulps, .mulpd, .mulss, .mulsd], 0x0F59)
        four([.subps, .subpd, .subss, .subsd], 0x0F5C)
        four([.divps, .divpd, .divss, .divsd], 0x0F5E)
        four([.minps, .minpd, .minss, .minsd], 0x0F5D)
        four([.maxps, .maxpd, .maxss, .maxsd], 0x0F5F)
        four([.sqrtps, .sqrtpd, .sqrtss, .sqrtsd], 0x0F51, isUnary: true)
        four([.cmpps, .cmppd, .cmpss, .cmpsd], 0x0FC2, hasImmediate: true)
        set(.comiss, HostVectorOp(.flags32, 0, 0x0F2F, isFloat: true))
        set(.comisd, HostVectorOp(.flags64, 0x66, 0x0F2F, isFloat: true))
        set(.ucomiss, HostVectorOp(.flags32, 0, 0x0F2E, isFloat: true))
        set(.ucomisd, HostVectorOp(.flags64, 0x66, 0x0F2E, isFloat: true))
        set(.haddps, HostVectorOp(.packed, 0xF2, 0x0F7C, isFloat: true))
        set(.haddpd, HostVectorOp(.packed, 0x66, 0x0F7C, isFloat: true))
        set(.hsubps, HostVectorOp(.packed, 0xF2, 0x0F7D, isFloat: true))
        set(.hsubpd, HostVectorOp(.packed, 0x66, 0x0F7D, isFloat: true))
        set(.addsubps, HostVectorOp(.packed, 0xF2, 0x0FD0, isFloat: true))
        set(.addsubpd, HostVectorOp(.packed, 0x66, 0x0FD0, isFloat: true))
        let rounding: [(SIMDOperation, HostVectorOp.Kind, UInt32)] = [
            (.roundps, .packedUnary, 0x0F3A08), (.roundpd, .packedUnary, 0x0F3A09), (.roundss, .scalar32Unary, 0x0F3A0A),
            (.roundsd, .scalar64Unary, 0x0F3A0B),
        ]
        for (operation, kind, opcode) in rounding {
            set(operation, HostVectorOp(kind, 0x66, opcode, hasImmediate: true, isFloat: true))
        }
    }

    private static func addConversions(_ set: Setter) {
        let packed: [(SIMDOperation, UInt8, UInt32)] = [
            (.cvtps2pd, 0, 0x0F5A), (.cvtpd2ps, 0x66, 0x0F5A), (.cvtdq2ps, 0, 0x0F5B), (.cvtps2dq, 0x66, 0x0F5B),
            (.cvttps2dq, 0xF3, 0x0F5B), (.cvtdq2pd, 0xF3, 0x0FE6), (.cvtpd2dq, 0xF2, 0x0FE6), (.cvttpd2dq, 0x66, 0x0FE6),
        ]
        for (operation, prefix, opcode) in packed {
            set(operation, HostVectorOp(.packedUnary, prefix, opcode, isFloat: true))
        }
        set(.cvtss2sd, HostVectorOp(.widen, 0xF3, 0x0F5A, isFloat: true))
        set(.cvtsd2ss, HostVectorOp(.narrow, 0xF2, 0x0F5A, isFloat: true))
        for isWide in [false, true] {
            func general(_ operation: SIMDOperation, _ kind: HostVectorOp.Kind, _ prefix: UInt8, _ opcode: UInt32) {
                set(operation, HostVectorOp(kind, prefix, opcode, isWide: isWide, isFloat: true))
            }
            general(isWide ? .cvtsi2ssQ : .cvtsi2ss, .fromGeneral32, 0xF3, 0x0F2A)
            general(isWide ? .cvtsi2sdQ : .cvtsi2sd, .fromGeneral64, 0xF2, 0x0F2A)
            general(isWide ? .cvtss2siQ : .cvtss2si, .toGeneral32, 0xF3, 0x0F2D)
            general(isWide ? .cvttss2siQ : .cvttss2si, .toGeneral32, 0xF3, 0x0F2C)
            general(isWide ? .cvtsd2siQ : .cvtsd2si, .toGeneral64, 0xF2, 0x0F2D)
            general(isWide ? .cvttsd2siQ : .cvttsd2si, .toGeneral64, 0xF2, 0x0F2C)
        }
    }
}
