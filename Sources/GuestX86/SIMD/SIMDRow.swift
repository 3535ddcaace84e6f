/// How the operands of an MMX or SSE instruction are encoded, and what is emitted around the operation.
///
/// V is the XMM register of ModRM's reg field, W the XMM register or memory of rm; P and Q are the same with MMX
/// registers; G and E with general registers; M is memory. Names as in the SDM's opcode maps (volume 2, A.2).
package enum SIMDForm: UInt8, Sendable {
    /// Not an opcode.
    case undefined

    // An operation with its operands in place.
    /// V, W; V, W with an 8-bit count for the whole register in the opcode's group (71...73).
    case xmm, xmmShift
    /// P, Q: the operation is done on 16 bytes, of which 8 are kept.
    case mmx, mmxShift
    /// P, Q where the result's high half comes from Q: packs and horizontal sums.
    case mmxJoined
    /// P, Q: the high half of the interleaved bytes is the result.
    case mmxHigh
    /// PSHUFB and PALIGNR on MMX registers, whose indices are modulo 8.
    case mmxShuffle, mmxAlign
    /// G, W; G, Q; V, E; V, Q; P, W.
    case gprXMM, gprMMX, xmmGPR, xmmMMX, mmxXMM
    /// Memory at DS:rDI under a mask: V, U; P, N.
    case xmmMasked, mmxMasked
    /// CRC32: G, E.
    case checksum

    // Moves and the like, made of plain micro-ops.
    /// V ← W, W ← V: 16 bytes; V ← M.
    case load, store
    /// Low 4 or 8 bytes: from memory the rest becomes 0, between registers it stays.
    case loadScalar, storeScalar
    /// Low 8 bytes; the high half becomes 0 (MOVQ).
    case loadLow, storeLow
    /// One half of V ← M; MOVHLPS and MOVLHPS between registers. M ← one half of V.
    case halfLow, halfHigh, storeHalfLow, storeHalfHigh
    /// MOVDDUP.
    case duplicate
    /// PUNPCKLQDQ, UNPCKLPD; PUNPCKHQDQ, UNPCKHPD.
    case unpackLow, unpackHigh
    /// V op W, P op Q: `operation` says which.
    case logic, mmxLogic
    /// P ← Q, Q ← P: 8 bytes.
    case mmxLoad, mmxStore
    /// MOVD and MOVQ between E and a register.
    case fromGPR, toGPR, mmxFromGPR, mmxToGPR
    /// V ← N (MOVQ2DQ), P ← U (MOVDQ2Q).
    case xmmFromMMX, mmxFromXMM
    /// PINSRx V, E; PEXTRx E, V. `width` is the element's.
    case insert, extract
    /// PINSRW and PEXTRW on MMX registers; PEXTRW G, U (0F C5).
    case mmxInsert, mmxExtract, extractToReg
    /// MOVNTI M, G.
    case storeGPR
    /// EMMS.
    case emptyTags
}

/// One opcode of `SIMDMap`.
package struct SIMDRow: Sendable {
    /// What to do with the operands; `.none` for moves.
    package var operation: SIMDOperation = .none
    package var form: SIMDForm = .undefined
    /// Bytes of the memory operand; 0 when it is the general register's size.
    package var width: UInt8 = 0
    package var attributes: SIMDAttributes = []
}

/// Attributes of an MMX or SSE opcode.
package struct SIMDAttributes: OptionSet, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }
    /// A memory operand must be aligned to 16 bytes, else #GP.
    package static let aligned = SIMDAttributes(rawValue: 1)
    /// #UD with a register; with memory.
    package static let memoryOnly = SIMDAttributes(rawValue: 2)
    package static let registerOnly = SIMDAttributes(rawValue: 4)
    /// An immediate byte follows.
    package static let imm8 = SIMDAttributes(rawValue: 8)
    /// The operation may raise #XM.
    package static let mayRaise = SIMDAttributes(rawValue: 16)
    /// Uses neither XMM nor MMX registers: CR0.EM and CR0.TS do not matter.
    package static let unchecked = SIMDAttributes(rawValue: 32)
    /// `operation`'s successor is for 64-bit general registers (REX.W).
    package static let wide = SIMDAttributes(rawValue: 64)
    /// With a memory operand the MMX state is left alone (CVTPI2PD).
    package static let noTransition = SIMDAttributes(rawValue: 128)
}
