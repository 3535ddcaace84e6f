/// What MMX and SSE instructions compute, apart from where operands come from: one helper each, of number
/// `HelperID.simdBase` + raw value, called with `dst`, `a` (byte offsets into the state) and the immediate byte.
///
/// Operands are 16 bytes in the state, unless said otherwise: `dst` is read and written, `a` read. Each is exactly what
/// the SSE instruction of that name does with registers. MMX instructions use the same operations on an MMX register
/// together with the 8 bytes behind it, which are set right afterwards.
package enum SIMDOperation: UInt16, Sendable, CaseIterable {
    case none
    // Faults: #UD, #NM by CR0 and CR4; for MMX #MF, too; for both
    case checkSSE, checkMMX, checkBoth
    // MXCSR ← 32 bits at a
    case ldmxcsr
    // Bytes of dst whose mask byte in a has bit 7 set → memory at the address in temporary 0; 16 and 8 bytes
    case maskmovdqu, maskmovq

    // Integer sums and products
    case paddb, paddw, paddd, paddq, psubb, psubw, psubd, psubq
    case paddsb, paddsw, paddusb, paddusw, psubsb, psubsw, psubusb, psubusw
    case pmullw, pmulhw, pmulhuw, pmulld, pmuludq, pmuldq, pmulhrsw, pmaddwd, pmaddubsw, psadbw, mpsadbw
    case pavgb, pavgw, pabsb, pabsw, pabsd, psignb, psignw, psignd
    case phaddw, phaddd, phaddsw, phsubw, phsubd, phsubsw, phminposuw
    case pminub, pminsw, pminsb, pminuw, pminsd, pminud, pmaxub, pmaxsw, pmaxsb, pmaxuw, pmaxsd, pmaxud
    case pcmpeqb, pcmpeqw, pcmpeqd, pcmpeqq, pcmpgtb, pcmpgtw, pcmpgtd, pcmpgtq
    // Logic: emitted as plain micro-ops; helpers for completeness
    case pand, pandn, por, pxor
    // Shifts: by the low 64 bits of a; by the immediate
    case psrlw, psrld, psrlq, psraw, psrad, psllw, pslld, psllq
    case psrlwI, psrldI, psrlqI, psrawI, psradI, psllwI, pslldI, psllqI, psrldq, pslldq
    // Order of elements
    case packsswb, packssdw, packuswb, packusdw
    case punpcklbw, punpcklwd, punpckldq, punpckhbw, punpckhwd, punpckhdq
    case pshufb, pshufd, pshuflw, pshufhw, shufps, shufpd, palignr, movsldup, movshdup, insertps
    case pblendw, blendps, blendpd, pblendvb, blendvps, blendvpd
    case pmovsxbw, pmovsxbd, pmovsxbq, pmovsxwd, pmovsxwq, pmovsxdq
    case pmovzxbw, pmovzxbd, pmovzxbq, pmovzxwd, pmovzxwq, pmovzxdq
    // dst: 64 bits of a general register
    case pmovmskb, movmskps, movmskpd
    // Flags only
    case ptest

    // Floating point
    case addps, addpd, addss, addsd, subps, subpd, subss, subsd
    case mulps, mulpd, mulss, mulsd, divps, divpd, divss, divsd
    case sqrtps, sqrtpd, sqrtss, sqrtsd, minps, minpd, minss, minsd, maxps, maxpd, maxss, maxsd
    case cmpps, cmppd, cmpss, cmpsd, comiss, comisd, ucomiss, ucomisd
    case haddps, haddpd, hsubps, hsubpd, addsubps, addsubpd, dpps, dppd
    case roundps, roundpd, roundss, roundsd, rcpps, rcpss, rsqrtps, rsqrtss
    // Conversions. pi: an MMX register's 64 bits
    case cvtps2pd, cvtpd2ps, cvtss2sd, cvtsd2ss, cvtdq2ps, cvtps2dq, cvttps2dq, cvtdq2pd, cvtpd2dq, cvttpd2dq
    case cvtpi2ps, cvtpi2pd, cvtps2pi, cvttps2pi, cvtpd2pi, cvttpd2pi
    // a: 32 or 64 bits of a general register
    case cvtsi2ss, cvtsi2ssQ, cvtsi2sd, cvtsi2sdQ
    // dst: 64 bits of a general register
    case cvtss2si, cvtss2siQ, cvttss2si, cvttss2siQ, cvtsd2si, cvtsd2siQ, cvttsd2si, cvttsd2siQ

    // Strings: the result is in ECX or XMM0. Bit 8 of the immediate: lengths are 64 bits (REX.W)
    case pcmpestrm, pcmpestri, pcmpistrm, pcmpistri
    // dst: general register; a: general register or temporary, of as many bytes as the immediate says
    case crc32
    case pclmulqdq, aesenc, aesenclast, aesdec, aesdeclast, aesimc, aeskeygenassist

    /// The helper's number.
    @inlinable package var helper: UInt16 { HelperID.simdBase + rawValue }
}
