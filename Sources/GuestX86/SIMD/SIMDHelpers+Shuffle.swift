import CPUCore

private typealias B = SIMD16<UInt8>
private typealias W = SIMD8<UInt16>
private typealias SW = SIMD8<Int16>
private typealias D = SIMD4<UInt32>
private typealias SD = SIMD4<Int32>
private typealias Q = SIMD2<UInt64>

extension SIMDHelpers {
    /// Order of elements: packs, interleaving, shuffles, blends, sign masks.
    static func installShuffles(_ table: Table) {
        installPacks(table)
        installBlends(table)
        table.set(.pshufb) { s, d, a, _ in
            let x = vector(s, d, B.self)
            let y = vector(s, a, B.self)
            var result = B()
            for index in 0..<16 { result[index] = y[index] & 0x80 != 0 ? 0 : x[Int(y[index] & 15)] }
            putVector(s, d, result)
            return 0
        }
        table.set(.pshufd) { s, d, a, imm in permute(s, d, a, D.self) { 4 + select(imm, $0) } }
        table.set(.pshuflw) { s, d, a, imm in
            permute(s, d, a, W.self) { $0 < 4 ? 8 + select(imm, $0) : 8 + $0 }
        }
        table.set(.pshufhw) { s, d, a, imm in
            permute(s, d, a, W.self) { $0 < 4 ? 8 + $0 : 12 + select(imm, $0 - 4) }
        }
        table.set(.shufps) { s, d, a, imm in
            permute(s, d, a, D.self) { ($0 < 2 ? 0 : 4) + select(imm, $0) }
        }
        table.set(.shufpd) { s, d, a, imm in
            permute(s, d, a, Q.self) { $0 == 0 ? Int(imm & 1) : 2 + Int(imm >> 1 & 1) }
        }
        table.set(.movsldup) { s, d, a, _ in permute(s, d, a, D.self) { 4 + ($0 & 2) } }
        table.set(.movshdup) { s, d, a, _ in permute(s, d, a, D.self) { 4 + ($0 | 1) } }
        table.set(.insertps) { s, d, a, imm in
            let element = vector(s, a, D.self)[Int(imm >> 6 & 3)]
            var result = vector(s, d, D.self)
            result[Int(imm >> 4 & 3)] = element
            for index in 0..<4 where imm & 1 << UInt64(index) != 0 { result[index] = 0 }
            putVector(s, d, result)
            return 0
        }
        table.set(.pmovmskb) { s, d, a, _ in
            let x = vector(s, a, Q.self)
            put64(s, d, signs(x.x) | signs(x.y) << 8)
            return 0
        }
        table.set(.movmskps) { s, d, a, _ in
            let x = vector(s, a, Q.self)
            put64(s, d, (x.x >> 31 & 1) | (x.x >> 62 & 2) | (x.y >> 29 & 4) | (x.y >> 60 & 8))
            return 0
        }
        table.set(.movmskpd) { s, d, a, _ in
            let x = vector(s, a, Q.self)
            put64(s, d, x.x >> 63 | (x.y >> 63) << 1)
            return 0
        }
    }

    private static func installPacks(_ table: Table) {
        table.set(.packsswb) { s, d, a, _ in pack(s, d, a, SW.self, SIMD16<Int8>.self) { Int8(clamping: $0) } }
        table.set(.packuswb) { s, d, a, _ in pack(s, d, a, SW.self, B.self) { UInt8(clamping: $0) } }
        table.set(.packssdw) { s, d, a, _ in pack(s, d, a, SD.self, SW.self) { Int16(clamping: $0) } }
        table.set(.packusdw) { s, d, a, _ in pack(s, d, a, SD.self, W.self) { UInt16(clamping: $0) } }
        table.set(.punpcklbw) { s, d, a, _ in permute(s, d, a, B.self) { $0 >> 1 | ($0 & 1) << 4 } }
        table.set(.punpcklwd) { s, d, a, _ in permute(s, d, a, W.self) { $0 >> 1 | ($0 & 1) << 3 } }
        table.set(.punpckldq) { s, d, a, _ in permute(s, d, a, D.self) { $0 >> 1 | ($0 & 1) << 2 } }
        table.set(.punpckhbw) { s, d, a, _ in permute(s, d, a, B.self) { 8 + $0 >> 1 | ($0 & 1) << 4 } }
        table.set(.punpckhwd) { s, d, a, _ in permute(s, d, a, W.self) { 4 + $0 >> 1 | ($0 & 1) << 3 } }
        table.set(.punpckhdq) { s, d, a, _ in permute(s, d, a, D.self) { 2 + $0 >> 1 | ($0 & 1) << 2 } }
    }

    private static func installBlends(_ table: Table) {
        table.set(.pblendw) { s, d, a, imm in permute(s, d, a, W.self) { $0 + chosen(imm, $0) * 8 } }
        table.set(.blendps) { s, d, a, imm in permute(s, d, a, D.self) { $0 + chosen(imm, $0) * 4 } }
        table.set(.blendpd) { s, d, a, imm in permute(s, d, a, Q.self) { $0 + chosen(imm, $0) * 2 } }
        // The mask is the signs of XMM0's elements.
        table.set(.pblendvb) { s, d, a, _ in
            let mask = vector(s, UInt(StateLayout.xmm), B.self)
            return permute(s, d, a, B.self) { $0 + Int(mask[$0] >> 7) * 16 }
        }
        table.set(.blendvps) { s, d, a, _ in
            let mask = vector(s, UInt(StateLayout.xmm), D.self)
            return permute(s, d, a, D.self) { $0 + Int(mask[$0] >> 31) * 4 }
        }
        table.set(.blendvpd) { s, d, a, _ in
            let mask = vector(s, UInt(StateLayout.xmm), Q.self)
            return permute(s, d, a, Q.self) { $0 + Int(mask[$0] >> 63) * 2 }
        }
    }

    /// Sign and zero extension of the low elements.
    static func installWidening(_ table: Table) {
        table.set(.pmovsxbw) { s, d, a, _ in widen(s, d, a, SIMD16<Int8>.self, SW.self) }
        table.set(.pmovsxbd) { s, d, a, _ in widen(s, d, a, SIMD16<Int8>.self, SD.self) }
        table.set(.pmovsxbq) { s, d, a, _ in widen(s, d, a, SIMD16<Int8>.self, SIMD2<Int64>.self) }
        table.set(.pmovsxwd) { s, d, a, _ in widen(s, d, a, SW.self, SD.self) }
        table.set(.pmovsxwq) { s, d, a, _ in widen(s, d, a, SW.self, SIMD2<Int64>.self) }
        table.set(.pmovsxdq) { s, d, a, _ in widen(s, d, a, SD.self, SIMD2<Int64>.self) }
        table.set(.pmovzxbw) { s, d, a, _ in widen(s, d, a, B.self, W.self) }
        table.set(.pmovzxbd) { s, d, a, _ in widen(s, d, a, B.self, D.self) }
        table.set(.pmovzxbq) { s, d, a, _ in widen(s, d, a, B.self, Q.self) }
        table.set(.pmovzxwd) { s, d, a, _ in widen(s, d, a, W.self, D.self) }
        table.set(.pmovzxwq) { s, d, a, _ in widen(s, d, a, W.self, Q.self) }
        table.set(.pmovzxdq) { s, d, a, _ in widen(s, d, a, D.self, Q.self) }
    }
}

/// Two bits of a shuffle's immediate; one of a blend's.
@inline(__always)
private func select(_ imm: UInt64, _ index: Int) -> Int { Int(imm >> UInt64(index * 2) & 3) }
@inline(__always)
private func chosen(_ imm: UInt64, _ index: Int) -> Int { Int(imm >> UInt64(index) & 1) }

/// The eight bytes' top bits, gathered by a multiplication that moves bit 8 k + 7 to bit 56 + k.
@inline(__always)
private func signs(_ x: UInt64) -> UInt64 { ((x & 0x8080_8080_8080_8080) &* 0x0002_0408_1020_4081) &>> 56 }
