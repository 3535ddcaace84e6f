/// The MMX and SSE opcodes of the maps 0F, 0F 38 and 0F 3A (SDM volume 2, tables ), by mandatory prefix.
package struct SIMDMap: @unchecked Sendable {
    /// Row `(map - 1) << 10 | prefix << 8 | opcode`. Never written after the map is built.
    private let rows: UnsafeMutablePointer<SIMDRow>

    private static let all = SIMDMap()

    /// The opcode's row, or nil when it is not an MMX or SSE opcode.
    /// - Parameter map: 1 for 0F, 2 for 0F 38, 3 for 0F 3A.
    package static func lookup(map: UInt8, opcode: UInt8, prefix: SIMDPrefix) -> SIMDRow? {
        guard 1...3 ~= map else { return nil }
        let row = all.rows[index(Int(map), Int(opcode), prefix)]
        return row.form == .undefined ? nil : row
    }

    /// What follows the opcode, or nil when it is not an MMX or SSE opcode.
    package static func hasModRMAndImmediate(
        map: UInt8, opcode: UInt8, prefix: SIMDPrefix
    ) -> (hasModRM: Bool, hasImm8: Bool)? {
        guard let row = lookup(map: map, opcode: opcode, prefix: prefix) else { return nil }
        return (row.form != .emptyTags, row.attributes.contains(.imm8))
    }

    private static func index(_ map: Int, _ opcode: Int, _ prefix: SIMDPrefix) -> Int {
        (map - 1) << 10 | prefix.rawValue << 8 | opcode
    }

    private init() {
        rows = .allocate(capacity: 3 << 10)
        rows.initialize(repeating: SIMDRow(), count: 3 << 10)
        defineMoves()
        defineFloat()
        defineInteger()
        define38()
        define3A()
    }

    // MARK: Rows

    /// `opcode` is 0xXX, 0x38XX or 0x3AXX.
    @inline(never)
    private func def(
        _ opcode: Int, _ prefix: SIMDPrefix, _ form: SIMDForm, _ operation: SIMDOperation, _ width: UInt8,
        _ attributes: SIMDAttributes = []
    ) {
        let map = opcode < 0x100 ? 1 : opcode >> 8 == 0x38 ? 2 : 3
        let index = Self.index(map, opcode & 0xFF, prefix)
        precondition(rows[index].form == .undefined, "opcode \(opcode), prefix \(prefix) is defined twice")
        rows[index] = SIMDRow(operation: operation, form: form, width: width, attributes: attributes)
    }
    /// Integer operation on MMX registers and, with 66, on XMM registers.
    @inline(never)
    private func both(
        _ opcode: Int, _ operation: SIMDOperation, _ mmx: SIMDForm = .mmx, _ attributes: SIMDAttributes = []
    ) {
        def(opcode, .none, mmx, operation, 8, attributes)
        def(opcode, .p66, .xmm, operation, 16, attributes.union(.aligned))
    }
    /// With 66 only.
    @inline(never)
    private func sse4(_ opcode: Int, _ operation: SIMDOperation, _ attributes: SIMDAttributes = []) {
        def(opcode, .p66, .xmm, operation, 16, attributes.union(.aligned))
    }
    /// Packed single, packed double, scalar single, scalar double: prefixes none, 66, F3, F2.
    @inline(never)
    private func float(
        _ opcode: Int, _ single: SIMDOperation, _ double: SIMDOperation, _ scalarSingle: SIMDOperation,
        _ scalarDouble: SIMDOperation, _ attributes: SIMDAttributes = .mayRaise
    ) {
        def(opcode, .none, .xmm, single, 16, attributes.union(.aligned))
        def(opcode, .p66, .xmm, double, 16, attributes.union(.aligned))
        def(opcode, .pF3, .xmm, scalarSingle, 4, attributes)
        def(opcode, .pF2, .xmm, scalarDouble, 8, attributes)
    }
    /// The same for prefixes none and 66.
    @inline(never)
    private func plain(
        _ opcode: Int, _ form: SIMDForm, _ width: UInt8, _ attributes: SIMDAttributes = [],
        _ operation: SIMDOperation = .none
    ) {
        def(opcode, .none, form, operation, width, attributes)
        def(opcode, .p66, form, operation, width, attributes)
    }

    private static let aligned: SIMDAttributes = .aligned
    private static let memory: SIMDAttributes = .memoryOnly
    private static let register: SIMDAttributes = .registerOnly
    private static let imm: SIMDAttributes = .imm8
    private static let raise: SIMDAttributes = .mayRaise
    private static let alignedMemory: SIMDAttributes = [.aligned, .memoryOnly]
    private static let alignedRaise: SIMDAttributes = [.aligned, .mayRaise]
    private static let alignedImm: SIMDAttributes = [.aligned, .imm8]
    private static let registerImm: SIMDAttributes = [.registerOnly, .imm8]
    private static let raiseImm: SIMDAttributes = [.mayRaise, .imm8]
    private static let wideRaise: SIMDAttributes = [.wide, .mayRaise]

    // swift-format-ignore
    private func defineMoves() {
        typealias S = SIMDMap
        //  opcode  prefix  form             operation     bytes
        plain(0x10,         .load,                         16)
        def(0x10,   .pF3,   .loadScalar,     .none,        4)
        def(0x10,   .pF2,   .loadScalar,     .none,        8)
        plain(0x11,         .store,                        16)
        def(0x11,   .pF3,   .storeScalar,    .none,        4)
        def(0x11,   .pF2,   .storeScalar,    .none,        8)
        def(0x12,   .none,  .halfLow,        .none,        8)
        def(0x12,   .p66,   .halfLow,        .none,        8, S.memory)
        def(0x12,   .pF3,   .xmm,            .movsldup,    16, S.aligned)
        def(0x12,   .pF2,   .duplicate,      .none,        8)
        plain(0x13,         .storeHalfLow,                 8, S.memory)
        def(0x14,   .none,  .xmm,            .punpckldq,   16, S.aligned)
        def(0x14,   .p66,   .unpackLow,      .none,        16, S.aligned)
        def(0x15,   .none,  .xmm,            .punpckhdq,   16, S.aligned)
        def(0x15,   .p66,   .unpackHigh,     .none,        16, S.aligned)
        def(0x16,   .none,  .halfHigh,       .none,        8)
        def(0x16,   .p66,   .halfHigh,       .none,        8, S.memory)
        def(0x16,   .pF3,   .xmm,            .movshdup,    16, S.aligned)
        plain(0x17,         .storeHalfHigh,                8, S.memory)
        plain(0x28,         .load,                         16, S.aligned)
        plain(0x29,         .store,                        16, S.aligned)
        plain(0x2B,         .store,                        16, S.alignedMemory)
        plain(0x54,         .logic,                        16, S.aligned, .pand)
        plain(0x55,         .logic,                        16, S.aligned, .pandn)
        plain(0x56,         .logic,                        16, S.aligned, .por)
        plain(0x57,         .logic,                        16, S.aligned, .pxor)
        def(0x6C,   .p66,   .unpackLow,      .none,        16, S.aligned)
        def(0x6D,   .p66,   .unpackHigh,     .none,        16, S.aligned)
        def(0x6E,   .none,  .mmxFromGPR,     .none,        0)
        def(0x6E,   .p66,   .fromGPR,        .none,        0)
        def(0x6F,   .none,  .mmxLoad,        .none,        8)
        def(0x6F,   .p66,   .load,           .none,        16, S.aligned)
        def(0x6F,   .pF3,   .load,           .none,        16)
        def(0x77,   .none,  .emptyTags,      .none,        0)
        def(0x7E,   .none,  .mmxToGPR,       .none,        0)
        def(0x7E,   .p66,   .toGPR,          .none,        0)
        def(0x7E,   .pF3,   .loadLow,        .none,        8)
        def(0x7F,   .none,  .mmxStore,       .none,        8)
        def(0x7F,   .p66,   .store,          .none,        16, S.aligned)
        def(0x7F,   .pF3,   .store,          .none,        16)
        def(0xC3,   .none,  .storeGPR,       .none,        0, [.memoryOnly, .unchecked])
        def(0xC4,   .none,  .mmxInsert,      .none,        2, S.imm)
        def(0xC4,   .p66,   .insert,         .none,        2, S.imm)
        def(0xC5,   .none,  .mmxExtract,     .none,        2, S.registerImm)
        def(0xC5,   .p66,   .extractToReg,   .none,        2, S.registerImm)
        def(0xD6,   .p66,   .storeLow,       .none,        8)
        def(0xD6,   .pF3,   .xmmFromMMX,     .none,        8, S.register)
        def(0xD6,   .pF2,   .mmxFromXMM,     .none,        8, S.register)
        def(0xE7,   .none,  .mmxStore,       .none,        8, S.memory)
        def(0xE7,   .p66,   .store,          .none,        16, S.alignedMemory)
        def(0xF0,   .pF2,   .load,           .none,        16, S.memory)
        def(0xF7,   .none,  .mmxMasked,      .maskmovq,    8, S.register)
        def(0xF7,   .p66,   .xmmMasked,      .maskmovdqu,  16, S.register)
    }

    // swift-format-ignore
    private func defineFloat() {
        typealias S = SIMDMap
        def(0x2A,   .none,  .xmmMMX,         .cvtpi2ps,    8, [.mayRaise, .noTransition])
        def(0x2A,   .p66,   .xmmMMX,         .cvtpi2pd,    8, .noTransition)
        def(0x2A,   .pF3,   .xmmGPR,         .cvtsi2ss,    0, S.wideRaise)
        def(0x2A,   .pF2,   .xmmGPR,         .cvtsi2sd,    0, S.wideRaise)
        def(0x2C,   .none,  .mmxXMM,         .cvttps2pi,   8, S.raise)
        def(0x2C,   .p66,   .mmxXMM,         .cvttpd2pi,   16, S.alignedRaise)
        def(0x2C,   .pF3,   .gprXMM,         .cvttss2si,   4, S.wideRaise)
        def(0x2C,   .pF2,   .gprXMM,         .cvttsd2si,   8, S.wideRaise)
        def(0x2D,   .none,  .mmxXMM,         .cvtps2pi,    8, S.raise)
        def(0x2D,   .p66,   .mmxXMM,         .cvtpd2pi,    16, S.alignedRaise)
        def(0x2D,   .pF3,   .gprXMM,         .cvtss2si,    4, S.wideRaise)
        def(0x2D,   .pF2,   .gprXMM,         .cvtsd2si,    8, S.wideRaise)
        def(0x2E,   .none,  .xmm,            .ucomiss,     4, S.raise)
        def(0x2E,   .p66,   .xmm,            .ucomisd,     8, S.raise)
        def(0x2F,   .none,  .xmm,            .comiss,      4, S.raise)
        def(0x2F,   .p66,   .xmm,            .comisd,      8, S.raise)
        def(0x50,   .none,  .gprXMM,         .movmskps,    16, S.register)
        def(0x50,   .p66,   .gprXMM,         .movmskpd,    16, S.register)
        float(0x51, .sqrtps, .sqrtpd, .sqrtss, .sqrtsd)
        def(0x52,   .none,  .xmm,            .rsqrtps,     16, S.aligned)
        def(0x52,   .pF3,   .xmm,            .rsqrtss,     4)
        def(0x53,   .none,  .xmm,            .rcpps,       16, S.aligned)
        def(0x53,   .pF3,   .xmm,            .rcpss,       4)
        float(0x58, .addps, .addpd, .addss, .addsd)
        float(0x59, .mulps, .mulpd, .mulss, .mulsd)
        def(0x5A,   .none,  .xmm,            .cvtps2pd,    8, S.raise)
        def(0x5A,   .p66,   .xmm,            .cvtpd2ps,    16, S.alignedRaise)
        def(0x5A,   .pF3,   .xmm,            .cvtss2sd,    4, S.raise)
        def(0x5A,   .pF2,   .xmm,            .cvtsd2ss,    8, S.raise)
        def(0x5B,   .none,  .xmm,            .cvtdq2ps,    16, S.alignedRaise)
        def(0x5B,   .p66,   .xmm,            .cvtps2dq,    16, S.alignedRaise)
        def(0x5B,   .pF3,   .xmm,            .cvttps2dq,   16, S.alignedRaise)
        float(0x5C, .subps, .subpd, .subss, .subsd)
        float(0x5D, .minps, .minpd, .minss, .minsd)
        float(0x5E, .divps, .divpd, .divss, .divsd)
        float(0x5F, .maxps, .maxpd, .maxss, .maxsd)
        def(0x7C,   .p66,   .xmm,            .haddpd,      16, S.alignedRaise)
        def(0x7C,   .pF2,   .xmm,            .haddps,      16, S.alignedRaise)
        def(0x7D,   .p66,   .xmm,            .hsubpd,      16, S.alignedRaise)
        def(0x7D,   .pF2,   .xmm,            .hsubps,      16, S.alignedRaise)
        float(0xC2, .cmpps, .cmppd, .cmpss, .cmpsd, S.raiseImm)
        def(0xC6,   .none,  .xmm,            .shufps,      16, S.alignedImm)
        def(0xC6,   .p66,   .xmm,            .shufpd,      16, S.alignedImm)
        def(0xD0,   .p66,   .xmm,            .addsubpd,    16, S.alignedRaise)
        def(0xD0,   .pF2,   .xmm,            .addsubps,    16, S.alignedRaise)
        def(0xE6,   .p66,   .xmm,            .cvttpd2dq,   16, S.alignedRaise)
        def(0xE6,   .pF3,   .xmm,            .cvtdq2pd,    8)
        def(0xE6,   .pF2,   .xmm,            .cvtpd2dq,    16, S.alignedRaise)
    }

    // swift-format-ignore
    private func defineInteger() {
        typealias S = SIMDMap
        // The low halves: MMX reads just 4 bytes.
        def(0x60,   .none,  .mmx,            .punpcklbw,   4)
        def(0x61,   .none,  .mmx,            .punpcklwd,   4)
        def(0x62,   .none,  .mmx,            .punpckldq,   4)
        sse4(0x60, .punpcklbw)
        sse4(0x61, .punpcklwd)
        sse4(0x62, .punpckldq)
        both(0x63, .packsswb, .mmxJoined)
        both(0x64, .pcmpgtb)
        both(0x65, .pcmpgtw)
        both(0x66, .pcmpgtd)
        both(0x67, .packuswb, .mmxJoined)
        def(0x68,   .none,  .mmxHigh,        .punpcklbw,   8)
        def(0x69,   .none,  .mmxHigh,        .punpcklwd,   8)
        def(0x6A,   .none,  .mmxHigh,        .punpckldq,   8)
        sse4(0x68, .punpckhbw)
        sse4(0x69, .punpckhwd)
        sse4(0x6A, .punpckhdq)
        both(0x6B, .packssdw, .mmxJoined)
        def(0x70,   .none,  .mmx,            .pshuflw,     8, S.imm)
        def(0x70,   .p66,   .xmm,            .pshufd,      16, S.alignedImm)
        def(0x70,   .pF3,   .xmm,            .pshufhw,     16, S.alignedImm)
        def(0x70,   .pF2,   .xmm,            .pshuflw,     16, S.alignedImm)
        for opcode in 0x71...0x73 {
            def(opcode, .none, .mmxShift,    .none,        8, S.registerImm)
            def(opcode, .p66, .xmmShift,     .none,        16, S.registerImm)
        }
        both(0x74, .pcmpeqb)
        both(0x75, .pcmpeqw)
        both(0x76, .pcmpeqd)
        both(0xD1, .psrlw)
        both(0xD2, .psrld)
        both(0xD3, .psrlq)
        both(0xD4, .paddq)
        both(0xD5, .pmullw)
        def(0xD7,   .none,  .gprMMX,         .pmovmskb,    8, S.register)
        def(0xD7,   .p66,   .gprXMM,         .pmovmskb,    16, S.register)
        both(0xD8, .psubusb)
        both(0xD9, .psubusw)
        both(0xDA, .pminub)
        def(0xDB,   .none,  .mmxLogic,       .pand,        8)
        def(0xDB,   .p66,   .logic,          .pand,        16, S.aligned)
        both(0xDC, .paddusb)
        both(0xDD, .paddusw)
        both(0xDE, .pmaxub)
        def(0xDF,   .none,  .mmxLogic,       .pandn,       8)
        def(0xDF,   .p66,   .logic,          .pandn,       16, S.aligned)
        both(0xE0, .pavgb)
        both(0xE1, .psraw)
        both(0xE2, .psrad)
        both(0xE3, .pavgw)
        both(0xE4, .pmulhuw)
        both(0xE5, .pmulhw)
        both(0xE8, .psubsb)
        both(0xE9, .psubsw)
        both(0xEA, .pminsw)
        def(0xEB,   .none,  .mmxLogic,       .por,         8)
        def(0xEB,   .p66,   .logic,          .por,         16, S.aligned)
        both(0xEC, .paddsb)
        both(0xED, .paddsw)
        both(0xEE, .pmaxsw)
        def(0xEF,   .none,  .mmxLogic,       .pxor,        8)
        def(0xEF,   .p66,   .logic,          .pxor,        16, S.aligned)
        both(0xF1, .psllw)
        both(0xF2, .pslld)
        both(0xF3, .psllq)
        both(0xF4, .pmuludq)
        both(0xF5, .pmaddwd)
        both(0xF6, .psadbw)
        both(0xF8, .psubb)
        both(0xF9, .psubw)
        both(0xFA, .psubd)
        both(0xFB, .psubq)
        both(0xFC, .paddb)
        both(0xFD, .paddw)
        both(0xFE, .paddd)
    }

    // swift-format-ignore
    private func define38() {
        typealias S = SIMDMap
        both(0x3800, .pshufb, .mmxShuffle)
        both(0x3801, .phaddw, .mmxJoined)
        both(0x3802, .phaddd, .mmxJoined)
        both(0x3803, .phaddsw, .mmxJoined)
        both(0x3804, .pmaddubsw)
        both(0x3805, .phsubw, .mmxJoined)
        both(0x3806, .phsubd, .mmxJoined)
        both(0x3807, .phsubsw, .mmxJoined)
        both(0x3808, .psignb)
        both(0x3809, .psignw)
        both(0x380A, .psignd)
        both(0x380B, .pmulhrsw)
        sse4(0x3810, .pblendvb)
        sse4(0x3814, .blendvps)
        sse4(0x3815, .blendvpd)
        sse4(0x3817, .ptest)
        both(0x381C, .pabsb)
        both(0x381D, .pabsw)
        both(0x381E, .pabsd)
        def(0x3820, .p66,   .xmm,            .pmovsxbw,    8)
        def(0x3821, .p66,   .xmm,            .pmovsxbd,    4)
        def(0x3822, .p66,   .xmm,            .pmovsxbq,    2)
        def(0x3823, .p66,   .xmm,            .pmovsxwd,    8)
        def(0x3824, .p66,   .xmm,            .pmovsxwq,    4)
        def(0x3825, .p66,   .xmm,            .pmovsxdq,    8)
        sse4(0x3828, .pmuldq)
        sse4(0x3829, .pcmpeqq)
        def(0x382A, .p66,   .load,           .none,        16, S.alignedMemory)
        sse4(0x382B, .packusdw)
        def(0x3830, .p66,   .xmm,            .pmovzxbw,    8)
        def(0x3831, .p66,   .xmm,            .pmovzxbd,    4)
        def(0x3832, .p66,   .xmm,            .pmovzxbq,    2)
        def(0x3833, .p66,   .xmm,            .pmovzxwd,    8)
        def(0x3834, .p66,   .xmm,            .pmovzxwq,    4)
        def(0x3835, .p66,   .xmm,            .pmovzxdq,    8)
        sse4(0x3837, .pcmpgtq)
        sse4(0x3838, .pminsb)
        sse4(0x3839, .pminsd)
        sse4(0x383A, .pminuw)
        sse4(0x383B, .pminud)
        sse4(0x383C, .pmaxsb)
        sse4(0x383D, .pmaxsd)
        sse4(0x383E, .pmaxuw)
        sse4(0x383F, .pmaxud)
        sse4(0x3840, .pmulld)
        sse4(0x3841, .phminposuw)
        sse4(0x38DB, .aesimc)
        sse4(0x38DC, .aesenc)
        sse4(0x38DD, .aesenclast)
        sse4(0x38DE, .aesdec)
        sse4(0x38DF, .aesdeclast)
        def(0x38F0, .pF2,   .checksum,       .crc32,       1, .unchecked)
        def(0x38F1, .pF2,   .checksum,       .crc32,       0, .unchecked)
    }

    // swift-format-ignore
    private func define3A() {
        typealias S = SIMDMap
        sse4(0x3A08, .roundps, S.raiseImm)
        sse4(0x3A09, .roundpd, S.raiseImm)
        def(0x3A0A, .p66,   .xmm,            .roundss,     4, S.raiseImm)
        def(0x3A0B, .p66,   .xmm,            .roundsd,     8, S.raiseImm)
        sse4(0x3A0C, .blendps, S.imm)
        sse4(0x3A0D, .blendpd, S.imm)
        sse4(0x3A0E, .pblendw, S.imm)
        both(0x3A0F, .palignr, .mmxAlign, S.imm)
        def(0x3A14, .p66,   .extract,        .none,        1, S.imm)
        def(0x3A15, .p66,   .extract,        .none,        2, S.imm)
        def(0x3A16, .p66,   .extract,        .none,        0, S.imm)
        def(0x3A17, .p66,   .extract,        .none,        4, S.imm)
        def(0x3A20, .p66,   .insert,         .none,        1, S.imm)
        def(0x3A21, .p66,   .xmm,            .insertps,    4, S.imm)
        def(0x3A22, .p66,   .insert,         .none,        0, S.imm)
        sse4(0x3A40, .dpps, S.raiseImm)
        sse4(0x3A41, .dppd, S.raiseImm)
        sse4(0x3A42, .mpsadbw, S.imm)
        sse4(0x3A44, .pclmulqdq, S.imm)
        def(0x3A60, .p66,   .xmm,            .pcmpestrm,   16, S.imm)
        def(0x3A61, .p66,   .xmm,            .pcmpestri,   16, S.imm)
        def(0x3A62, .p66,   .xmm,            .pcmpistrm,   16, S.imm)
        def(0x3A63, .p66,   .xmm,            .pcmpistri,   16, S.imm)
        sse4(0x3ADF, .aeskeygenassist, S.imm)
    }
}
