import CPUCore

extension SIMDHelpers {
    /// SSE4.2's string comparisons (SDM volume 2, 4.1) and CRC32.
    static func installStrings(_ table: Table) {
        table.set(.pcmpestri) { s, d, a, imm in compareStrings(s, d, a, imm, isExplicit: true, isMask: false) }
        table.set(.pcmpestrm) { s, d, a, imm in compareStrings(s, d, a, imm, isExplicit: true, isMask: true) }
        table.set(.pcmpistri) { s, d, a, imm in compareStrings(s, d, a, imm, isExplicit: false, isMask: false) }
        table.set(.pcmpistrm) { s, d, a, imm in compareStrings(s, d, a, imm, isExplicit: false, isMask: true) }
        table.set(.crc32) { s, d, a, count in
            var crc = (s + Int(d)).load(as: UInt32.self)
            for index in 0..<Int(count) { crc = crc32c(crc, (s + Int(a) + index).load(as: UInt8.self)) }
            put64(s, d, UInt64(crc))
            return 0
        }
    }
}

/// CRC-32C by the byte: polynomial 1EDC6F41, bits reflected.
private let crcTable: InlineArray<256, UInt32> = {
    var table = InlineArray<256, UInt32>(repeating: 0)
    for index in 0..<256 {
        var value = UInt32(index)
        for _ in 0..<8 { value = value >> 1 ^ (value & 1 != 0 ? 0x82F6_3B78 : 0) }
        table[index] = value
    }
    return table
}()

@inline(__always)
private func crc32c(_ crc: UInt32, _ byte: UInt8) -> UInt32 { crc >> 8 ^ crcTable[Int((crc ^ UInt32(byte)) & 0xFF)] }

/// An operand of a string comparison: 16 bytes or 8 words, of which `length` are valid.
private struct StringOperand {
    let bytes: SIMD2<UInt64>
    let isWords: Bool
    let isSigned: Bool
    var length: Int

    var count: Int { isWords ? 8 : 16 }

    subscript(index: Int) -> Int32 {
        let shift = UInt64(index * (isWords ? 16 : 8)) & 63
        let word = (index * (isWords ? 2 : 1) < 8 ? bytes.x : bytes.y) >> shift
        if isWords { return isSigned ? Int32(Int16(truncatingIfNeeded: word)) : Int32(UInt16(truncatingIfNeeded: word)) }
        return isSigned ? Int32(Int8(truncatingIfNeeded: word)) : Int32(UInt8(truncatingIfNeeded: word))
    }

    /// The length up to the first zero.
    mutating func findEnd() {
        length = 0
        while length < count, self[length] != 0 { length += 1 }
    }
    /// The length in a general register: its magnitude, at most all.
    mutating func setLength(_ register: UInt64, is64: Bool) {
        let value = is64 ? Int64(bitPattern: register) : Int64(Int32(truncatingIfNeeded: register))
        length = Int(min(value.magnitude, UInt64(count)))
    }
}

/// The comparison's result bits before the polarity (IntRes1). `x` is the first operand: the set, the ranges, the
/// string or the needle; `y` the second.
private func aggregate(_ x: StringOperand, _ y: StringOperand, _ mode: UInt64) -> UInt32 {
    var result: UInt32 = 0
    let count = x.count
    switch mode {
    case 0:
        // Any of the set.
        for j in 0..<y.length {
            for i in 0..<x.length where x[i] == y[j] { result |= 1 << UInt32(j) }
        }
    case 1:
        // In one of the ranges; an incomplete range does not count.
        for j in 0..<y.length {
            for i in stride(from: 0, to: x.length - 1, by: 2) where x[i] <= y[j] && y[j] <= x[i + 1] {
                result |= 1 << UInt32(j)
            }
        }
    case 2:
        // Equal; both beyond their ends count as equal.
        for j in 0..<count {
            let isEqual = j < x.length && j < y.length ? x[j] == y[j] : j >= x.length && j >= y.length
            if isEqual { result |= 1 << UInt32(j) }
        }
    default:
        // The needle starts here; what lies beyond the register cannot contradict.
        for j in 0..<count {
            var isMatch = true
            for i in 0..<min(x.length, count - j) where j + i >= y.length || x[i] != y[j + i] {
                isMatch = false
                break
            }
            if isMatch { result |= 1 << UInt32(j) }
        }
    }
    return result
}

private func compareStrings(
    _ s: UnsafeMutableRawPointer, _ d: UInt, _ a: UInt, _ imm: UInt64, isExplicit: Bool, isMask: Bool
) -> UInt64 {
    let state = x86(s)
    let isWords = imm & 1 != 0
    let isSigned = imm & 2 != 0
    var x = StringOperand(bytes: vector(s, d, SIMD2<UInt64>.self), isWords: isWords, isSigned: isSigned, length: 0)
    var y = StringOperand(bytes: vector(s, a, SIMD2<UInt64>.self), isWords: isWords, isSigned: isSigned, length: 0)
    if isExplicit {
        x.setLength(state.pointee.core.registers[0], is64: imm & 0x100 != 0)
        y.setLength(state.pointee.core.registers[2], is64: imm & 0x100 != 0)
    } else {
        x.findEnd()
        y.findEnd()
    }
    var result = aggregate(x, y, imm >> 2 & 3)
    let all: UInt32 = isWords ? 0xFF : 0xFFFF
    switch imm >> 4 & 3 {
    case 1: result ^= all
    case 3: result ^= (1 << UInt32(y.length)) - 1
    default: break
    }
    if isMask {
        putVector(s, UInt(StateLayout.xmm), imm & 0x40 != 0 ? expanded(result, isWords) : SIMD2(UInt64(result), 0))
    } else {
        let index =
            result == 0 ? x.count : imm & 0x40 != 0 ? 31 - result.leadingZeroBitCount : result.trailingZeroBitCount
        state.pointee.core.registers[1] = UInt64(index)
    }
    var flags: UInt32 = 0
    if result != 0 { flags |= Flags.cf }
    if y.length < y.count { flags |= Flags.zf }
    if x.length < x.count { flags |= Flags.sf }
    if result & 1 != 0 { flags |= Flags.of }
    setFlags(s, flags)
    return 0
}

/// Bits → elements of all ones or zeros.
private func expanded(_ bits: UInt32, _ isWords: Bool) -> SIMD2<UInt64> {
    var result = SIMD2<UInt64>.zero
    let count = isWords ? 8 : 16
    for index in 0..<count where bits & 1 << UInt32(index) != 0 {
        let width = isWords ? 16 : 8
        let ones: UInt64 = isWords ? 0xFFFF : 0xFF
        let place = index * width
        result[place >> 6] |= ones << UInt64(place & 63)
    }
    return result
}
