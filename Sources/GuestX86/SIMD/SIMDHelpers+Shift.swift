import CPUCore

private typealias W = SIMD8<UInt16>
private typealias SW = SIMD8<Int16>
private typealias D = SIMD4<UInt32>
private typealias SD = SIMD4<Int32>
private typealias Q = SIMD2<UInt64>

extension SIMDHelpers {
    /// Shifts: every element by the same count, the low 64 bits of `a` or the immediate.
    static func installShifts(_ table: Table) {
        table.set(.psrlw) { s, d, a, _ in shiftRight(s, d, get64(s, a), W.self) }
        table.set(.psrld) { s, d, a, _ in shiftRight(s, d, get64(s, a), D.self) }
        table.set(.psrlq) { s, d, a, _ in shiftRight(s, d, get64(s, a), Q.self) }
        table.set(.psraw) { s, d, a, _ in shiftSigned(s, d, get64(s, a), SW.self) }
        table.set(.psrad) { s, d, a, _ in shiftSigned(s, d, get64(s, a), SD.self) }
        table.set(.psllw) { s, d, a, _ in shiftLeft(s, d, get64(s, a), W.self) }
        table.set(.pslld) { s, d, a, _ in shiftLeft(s, d, get64(s, a), D.self) }
        table.set(.psllq) { s, d, a, _ in shiftLeft(s, d, get64(s, a), Q.self) }
        table.set(.psrlwI) { s, d, _, imm in shiftRight(s, d, imm, W.self) }
        table.set(.psrldI) { s, d, _, imm in shiftRight(s, d, imm, D.self) }
        table.set(.psrlqI) { s, d, _, imm in shiftRight(s, d, imm, Q.self) }
        table.set(.psrawI) { s, d, _, imm in shiftSigned(s, d, imm, SW.self) }
        table.set(.psradI) { s, d, _, imm in shiftSigned(s, d, imm, SD.self) }
        table.set(.psllwI) { s, d, _, imm in shiftLeft(s, d, imm, W.self) }
        table.set(.pslldI) { s, d, _, imm in shiftLeft(s, d, imm, D.self) }
        table.set(.psllqI) { s, d, _, imm in shiftLeft(s, d, imm, Q.self) }
        // The whole register, by bytes.
        table.set(.psrldq) { s, d, _, imm in
            let x = vector(s, d, Q.self)
            putVector(s, d, bytesRight(x, .zero, imm))
            return 0
        }
        table.set(.pslldq) { s, d, _, imm in
            let x = vector(s, d, Q.self)
            putVector(s, d, imm >= 16 ? .zero : bytesRight(.zero, x, 16 - imm))
            return 0
        }
        table.set(.palignr) { s, d, a, imm in
            let x = vector(s, d, Q.self)
            let y = vector(s, a, Q.self)
            putVector(s, d, bytesRight(y, x, imm))
            return 0
        }
    }
}

@inline(__always)
private func shiftRight<V: SIMD>(_ s: UnsafeMutableRawPointer, _ d: UInt, _ count: UInt64, _ type: V.Type) -> UInt64
where V.Scalar: FixedWidthInteger & UnsignedInteger {
    let isAll = count >= UInt64(V.Scalar.bitWidth)
    putVector(s, d, isAll ? V() : vector(s, d, type) &>> V(repeating: V.Scalar(truncatingIfNeeded: count)))
    return 0
}

@inline(__always)
private func shiftLeft<V: SIMD>(_ s: UnsafeMutableRawPointer, _ d: UInt, _ count: UInt64, _ type: V.Type) -> UInt64
where V.Scalar: FixedWidthInteger & UnsignedInteger {
    let isAll = count >= UInt64(V.Scalar.bitWidth)
    putVector(s, d, isAll ? V() : vector(s, d, type) &<< V(repeating: V.Scalar(truncatingIfNeeded: count)))
    return 0
}

/// Arithmetic shift: a count beyond the width leaves copies of the sign.
@inline(__always)
private func shiftSigned<V: SIMD>(_ s: UnsafeMutableRawPointer, _ d: UInt, _ count: UInt64, _ type: V.Type) -> UInt64
where V.Scalar: FixedWidthInteger & SignedInteger {
    let bits = V.Scalar(truncatingIfNeeded: min(count, UInt64(V.Scalar.bitWidth - 1)))
    putVector(s, d, vector(s, d, type) &>> V(repeating: bits))
    return 0
}

/// 16 bytes of `low` followed by `high`, from byte `count` on; zeros behind.
private func bytesRight(_ low: SIMD2<UInt64>, _ high: SIMD2<UInt64>, _ count: UInt64) -> SIMD2<UInt64> {
    let words = (low.x, low.y, high.x, high.y)
    let (a, b, c): (UInt64, UInt64, UInt64) =
        switch count >> 3 {
        case 0: (words.0, words.1, words.2)
        case 1: (words.1, words.2, words.3)
        case 2: (words.2, words.3, 0)
        case 3: (words.3, 0, 0)
        default: (0, 0, 0)
        }
    let bits = (count & 7) * 8
    if bits == 0 { return SIMD2(a, b) }
    return SIMD2(a &>> bits | b &<< (64 - bits), b &>> bits | c &<< (64 - bits))
}
