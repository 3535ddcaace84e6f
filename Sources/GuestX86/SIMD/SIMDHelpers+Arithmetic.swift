import CPUCore

private typealias B = SIMD16<UInt8>
private typealias SB = SIMD16<Int8>
private typealias W = SIMD8<UInt16>
private typealias SW = SIMD8<Int16>
private typealias D = SIMD4<UInt32>
private typealias SD = SIMD4<Int32>
private typealias Q = SIMD2<UInt64>
private typealias SQ = SIMD2<Int64>

extension SIMDHelpers {
    /// Integer sums, products, comparisons.
    static func installArithmetic(_ table: Table) {
        installSums(table)
        installProducts(table)
        installComparisons(table)
        table.set(.pand) { s, d, a, _ in whole(s, d, a, Q.self) { $0 & $1 } }
        table.set(.pandn) { s, d, a, _ in whole(s, d, a, Q.self) { ~$0 & $1 } }
        table.set(.por) { s, d, a, _ in whole(s, d, a, Q.self) { $0 | $1 } }
        table.set(.pxor) { s, d, a, _ in whole(s, d, a, Q.self) { $0 ^ $1 } }
    }

    private static func installSums(_ table: Table) {
        table.set(.paddb) { s, d, a, _ in whole(s, d, a, B.self) { $0 &+ $1 } }
        table.set(.paddw) { s, d, a, _ in whole(s, d, a, W.self) { $0 &+ $1 } }
        table.set(.paddd) { s, d, a, _ in whole(s, d, a, D.self) { $0 &+ $1 } }
        table.set(.paddq) { s, d, a, _ in whole(s, d, a, Q.self) { $0 &+ $1 } }
        table.set(.psubb) { s, d, a, _ in whole(s, d, a, B.self) { $0 &- $1 } }
        table.set(.psubw) { s, d, a, _ in whole(s, d, a, W.self) { $0 &- $1 } }
        table.set(.psubd) { s, d, a, _ in whole(s, d, a, D.self) { $0 &- $1 } }
        table.set(.psubq) { s, d, a, _ in whole(s, d, a, Q.self) { $0 &- $1 } }
        table.set(.paddsb) { s, d, a, _ in each(s, d, a, SB.self) { saturatedSum($0, $1) } }
        table.set(.paddsw) { s, d, a, _ in each(s, d, a, SW.self) { saturatedSum($0, $1) } }
        table.set(.paddusb) { s, d, a, _ in each(s, d, a, B.self) { saturatedSum($0, $1) } }
        table.set(.paddusw) { s, d, a, _ in each(s, d, a, W.self) { saturatedSum($0, $1) } }
        table.set(.psubsb) { s, d, a, _ in each(s, d, a, SB.self) { saturatedDifference($0, $1) } }
        table.set(.psubsw) { s, d, a, _ in each(s, d, a, SW.self) { saturatedDifference($0, $1) } }
        table.set(.psubusb) { s, d, a, _ in each(s, d, a, B.self) { saturatedDifference($0, $1) } }
        table.set(.psubusw) { s, d, a, _ in each(s, d, a, W.self) { saturatedDifference($0, $1) } }
        table.set(.pavgb) { s, d, a, _ in each(s, d, a, B.self) { average($0, $1) } }
        table.set(.pavgw) { s, d, a, _ in each(s, d, a, W.self) { average($0, $1) } }
        table.set(.pabsb) { s, d, a, _ in each(s, d, a, SB.self) { _, y in y < 0 ? 0 &- y : y } }
        table.set(.pabsw) { s, d, a, _ in each(s, d, a, SW.self) { _, y in y < 0 ? 0 &- y : y } }
        table.set(.pabsd) { s, d, a, _ in each(s, d, a, SD.self) { _, y in y < 0 ? 0 &- y : y } }
        table.set(.psignb) { s, d, a, _ in each(s, d, a, SB.self) { withSign($0, $1) } }
        table.set(.psignw) { s, d, a, _ in each(s, d, a, SW.self) { withSign($0, $1) } }
        table.set(.psignd) { s, d, a, _ in each(s, d, a, SD.self) { withSign($0, $1) } }
        table.set(.phaddw) { s, d, a, _ in neighbours(s, d, a, W.self) { $0 &+ $1 } }
        table.set(.phaddd) { s, d, a, _ in neighbours(s, d, a, D.self) { $0 &+ $1 } }
        table.set(.phaddsw) { s, d, a, _ in neighbours(s, d, a, SW.self) { saturatedSum($0, $1) } }
        table.set(.phsubw) { s, d, a, _ in neighbours(s, d, a, W.self) { $0 &- $1 } }
        table.set(.phsubd) { s, d, a, _ in neighbours(s, d, a, D.self) { $0 &- $1 } }
        table.set(.phsubsw) { s, d, a, _ in neighbours(s, d, a, SW.self) { saturatedDifference($0, $1) } }
    }

    private static func installComparisons(_ table: Table) {
        table.set(.pminub) { s, d, a, _ in each(s, d, a, B.self) { $0 < $1 ? $0 : $1 } }
        table.set(.pminsw) { s, d, a, _ in each(s, d, a, SW.self) { $0 < $1 ? $0 : $1 } }
        table.set(.pminsb) { s, d, a, _ in each(s, d, a, SB.self) { $0 < $1 ? $0 : $1 } }
        table.set(.pminuw) { s, d, a, _ in each(s, d, a, W.self) { $0 < $1 ? $0 : $1 } }
        table.set(.pminsd) { s, d, a, _ in each(s, d, a, SD.self) { $0 < $1 ? $0 : $1 } }
        table.set(.pminud) { s, d, a, _ in each(s, d, a, D.self) { $0 < $1 ? $0 : $1 } }
        table.set(.pmaxub) { s, d, a, _ in each(s, d, a, B.self) { $0 > $1 ? $0 : $1 } }
        table.set(.pmaxsw) { s, d, a, _ in each(s, d, a, SW.self) { $0 > $1 ? $0 : $1 } }
        table.set(.pmaxsb) { s, d, a, _ in each(s, d, a, SB.self) { $0 > $1 ? $0 : $1 } }
        table.set(.pmaxuw) { s, d, a, _ in each(s, d, a, W.self) { $0 > $1 ? $0 : $1 } }
        table.set(.pmaxsd) { s, d, a, _ in each(s, d, a, SD.self) { $0 > $1 ? $0 : $1 } }
        table.set(.pmaxud) { s, d, a, _ in each(s, d, a, D.self) { $0 > $1 ? $0 : $1 } }
        table.set(.pcmpeqb) { s, d, a, _ in each(s, d, a, B.self) { $0 == $1 ? .max : 0 } }
        table.set(.pcmpeqw) { s, d, a, _ in each(s, d, a, W.self) { $0 == $1 ? .max : 0 } }
        table.set(.pcmpeqd) { s, d, a, _ in each(s, d, a, D.self) { $0 == $1 ? .max : 0 } }
        table.set(.pcmpeqq) { s, d, a, _ in each(s, d, a, Q.self) { $0 == $1 ? .max : 0 } }
        table.set(.pcmpgtb) { s, d, a, _ in each(s, d, a, SB.self) { $0 > $1 ? -1 : 0 } }
        table.set(.pcmpgtw) { s, d, a, _ in each(s, d, a, SW.self) { $0 > $1 ? -1 : 0 } }
        table.set(.pcmpgtd) { s, d, a, _ in each(s, d, a, SD.self) { $0 > $1 ? -1 : 0 } }
        table.set(.pcmpgtq) { s, d, a, _ in each(s, d, a, SQ.self) { $0 > $1 ? -1 : 0 } }
        table.set(.ptest) { s, d, a, _ in
            let x = vector(s, d, Q.self)
            let y = vector(s, a, Q.self)
            let both = x & y
            let rest = ~x & y
            var flags: UInt32 = 0
            if both.x | both.y == 0 { flags |= Flags.zf }
            if rest.x | rest.y == 0 { flags |= Flags.cf }
            setFlags(s, flags)
            return 0
        }
        // The least of 8 words and its place.
        table.set(.phminposuw) { s, d, a, _ in
            let x = vector(s, a, W.self)
            var place = 0
            for index in 1..<8 where x[index] < x[place] { place = index }
            putVector(s, d, Q(UInt64(x[place]) | UInt64(place) << 16, 0))
            return 0
        }
    }

    private static func installProducts(_ table: Table) {
        table.set(.pmullw) { s, d, a, _ in whole(s, d, a, W.self) { $0 &* $1 } }
        table.set(.pmulld) { s, d, a, _ in whole(s, d, a, D.self) { $0 &* $1 } }
        table.set(.pmulhw) { s, d, a, _ in each(s, d, a, SW.self) { Int16(truncatingIfNeeded: (Int32($0) &* Int32($1)) &>> 16) } }
        table.set(.pmulhuw) { s, d, a, _ in each(s, d, a, W.self) { UInt16(truncatingIfNeeded: (UInt32($0) &* UInt32($1)) &>> 16) } }
        table.set(.pmulhrsw) { s, d, a, _ in each(s, d, a, SW.self) { Int16(truncatingIfNeeded: ((Int32($0) &* Int32($1)) &>> 14 &+ 1) &>> 1) } }
        table.set(.pmuludq) { s, d, a, _ in each(s, d, a, Q.self) { ($0 & 0xFFFF_FFFF) &* ($1 & 0xFFFF_FFFF) } }
        table.set(.pmuldq) { s, d, a, _ in each(s, d, a, SQ.self) { Int64(Int32(truncatingIfNeeded: $0)) &* Int64(Int32(truncatingIfNeeded: $1)) } }
        table.set(.pmaddwd) { s, d, a, _ in
            let x = vector(s, d, SW.self)
            let y = vector(s, a, SW.self)
            var result = SD()
            for index in 0..<4 {
                let low = Int32(x[index * 2]) &* Int32(y[index * 2])
                result[index] = low &+ Int32(x[index * 2 + 1]) &* Int32(y[index * 2 + 1])
            }
            putVector(s, d, result)
            return 0
        }
        // Unsigned bytes of dst with signed bytes of a.
        table.set(.pmaddubsw) { s, d, a, _ in
            let x = vector(s, d, B.self)
            let y = vector(s, a, SB.self)
            var result = SW()
            for index in 0..<8 {
                let low = Int32(x[index * 2]) &* Int32(y[index * 2])
                let sum = low &+ Int32(x[index * 2 + 1]) &* Int32(y[index * 2 + 1])
                result[index] = Int16(clamping: sum)
            }
            putVector(s, d, result)
            return 0
        }
        table.set(.psadbw) { s, d, a, _ in
            let x = vector(s, d, B.self)
            let y = vector(s, a, B.self)
            var result = Q()
            for half in 0..<2 {
                for index in 0..<8 { result[half] &+= UInt64(distance(x[half * 8 + index], y[half * 8 + index])) }
            }
            putVector(s, d, result)
            return 0
        }
        // Four bytes of a, chosen by bits 1...0, against eight places of dst from where bit 2 says.
        table.set(.mpsadbw) { s, d, a, imm in
            let x = vector(s, d, B.self)
            let y = vector(s, a, B.self)
            let from = Int(imm & 4)
            let block = Int(imm & 3) * 4
            var result = W()
            for place in 0..<8 {
                for index in 0..<4 { result[place] &+= distance(x[from + place + index], y[block + index]) }
            }
            putVector(s, d, result)
            return 0
        }
    }
}

@inline(__always)
private func distance(_ x: UInt8, _ y: UInt8) -> UInt16 { x > y ? UInt16(x - y) : UInt16(y - x) }

/// Sets the six arithmetic flags.
func setFlags(_ state: UnsafeMutableRawPointer, _ flags: UInt32) {
    let pair = Flags.unpack(flags)
    x86(state).pointee.core.flagResult = pair.result
    x86(state).pointee.core.flagCarry = pair.carry
}
