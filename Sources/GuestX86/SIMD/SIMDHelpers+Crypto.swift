import CPUCore

extension SIMDHelpers {
    /// PCLMULQDQ and AES (SDM volume 2; FIPS 197).
    static func installCrypto(_ table: Table) {
        table.set(.pclmulqdq) { s, d, a, imm in
            let x = vector(s, d, SIMD2<UInt64>.self)[Int(imm & 1)]
            let y = vector(s, a, SIMD2<UInt64>.self)[Int(imm >> 4 & 1)]
            var low: UInt64 = 0
            var high: UInt64 = 0
            for bit in 0..<64 where y >> UInt64(bit) & 1 != 0 {
                low ^= x << UInt64(bit)
                if bit > 0 { high ^= x >> UInt64(64 - bit) }
            }
            putVector(s, d, SIMD2(low, high))
            return 0
        }
        table.set(.aesenc) { s, d, a, _ in
            let x = mixed(substituted(vector(s, d, SIMD16<UInt8>.self), isInverse: false), isInverse: false)
            putVector(s, d, x ^ vector(s, a, SIMD16<UInt8>.self))
            return 0
        }
        table.set(.aesenclast) { s, d, a, _ in
            let x = substituted(vector(s, d, SIMD16<UInt8>.self), isInverse: false)
            putVector(s, d, x ^ vector(s, a, SIMD16<UInt8>.self))
            return 0
        }
        table.set(.aesdec) { s, d, a, _ in
            let x = mixed(substituted(vector(s, d, SIMD16<UInt8>.self), isInverse: true), isInverse: true)
            putVector(s, d, x ^ vector(s, a, SIMD16<UInt8>.self))
            return 0
        }
        table.set(.aesdeclast) { s, d, a, _ in
            let x = substituted(vector(s, d, SIMD16<UInt8>.self), isInverse: true)
            putVector(s, d, x ^ vector(s, a, SIMD16<UInt8>.self))
            return 0
        }
        table.set(.aesimc) { s, d, a, _ in
            putVector(s, d, mixed(vector(s, a, SIMD16<UInt8>.self), isInverse: true))
            return 0
        }
        table.set(.aeskeygenassist) { s, d, a, imm in
            let x = vector(s, a, SIMD4<UInt32>.self)
            let low = substitutedWord(x[1])
            let high = substitutedWord(x[3])
            let constant = UInt32(truncatingIfNeeded: imm & 0xFF)
            putVector(
                s, d,
                SIMD4(low, (low >> 8 | low << 24) ^ constant, high, (high >> 8 | high << 24) ^ constant))
            return 0
        }
    }
}

/// The S-box (first 256) and its inverse.
private let boxes: InlineArray<512, UInt8> = {
    var table = InlineArray<512, UInt8>(repeating: 0)
    for value in 0..<256 {
        // Inverse in GF(2^8): the 254th power.
        var inverse: UInt8 = 1
        for _ in 0..<254 { inverse = times(inverse, UInt8(value)) }
        var result = inverse
        for turn in 1...4 { result ^= inverse << UInt8(turn) | inverse >> UInt8(8 - turn) }
        result ^= 0x63
        table[value] = result
        table[256 + Int(result)] = UInt8(value)
    }
    return table
}()

/// Product in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1.
@inline(__always)
private func times(_ x: UInt8, _ y: UInt8) -> UInt8 {
    var x = x
    var result: UInt8 = 0
    for bit in 0..<8 {
        if y >> UInt8(bit) & 1 != 0 { result ^= x }
        x = x << 1 ^ (x & 0x80 != 0 ? 0x1B : 0)
    }
    return result
}

/// SubBytes and ShiftRows, or their inverses: byte `row` of column `c` comes from column `c + row` (or `c - row`).
private func substituted(_ x: SIMD16<UInt8>, isInverse: Bool) -> SIMD16<UInt8> {
    var result = SIMD16<UInt8>()
    let box = isInverse ? 256 : 0
    for index in 0..<16 {
        let row = index & 3
        let from = isInverse ? index + 16 - row * 4 : index + row * 4
        result[index] = boxes[box + Int(x[from & 15])]
    }
    return result
}

private func substitutedWord(_ x: UInt32) -> UInt32 {
    var result: UInt32 = 0
    for byte in 0..<4 { result |= UInt32(boxes[Int(x >> UInt32(byte * 8) & 0xFF)]) << UInt32(byte * 8) }
    return result
}

/// MixColumns or its inverse.
private func mixed(_ x: SIMD16<UInt8>, isInverse: Bool) -> SIMD16<UInt8> {
    let factors = isInverse ? SIMD4<UInt8>(14, 11, 13, 9) : SIMD4<UInt8>(2, 3, 1, 1)
    var result = SIMD16<UInt8>()
    for column in 0..<4 {
        for row in 0..<4 {
            var sum: UInt8 = 0
            for term in 0..<4 { sum ^= times(x[column * 4 + ((row + term) & 3)], factors[term]) }
            result[column * 4 + row] = sum
        }
    }
    return result
}
