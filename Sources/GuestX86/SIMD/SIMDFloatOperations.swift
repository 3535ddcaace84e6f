/// SSE's operations on elements that are more than one of `SoftFloat`'s.
enum FloatElement {
    // MARK: MINPS, MAXPS (SDM: MINPS)

    /// The second operand when either is a NaN (which is invalid, even when quiet) or both are zeros.
    @inline(__always)
    static func minimum32(_ a: UInt32, _ b: UInt32, _ c: inout FloatContext) -> UInt32 {
        SoftFloat.compare32(a, b, signaling: true, &c) == .less ? flush(a, c) : flush(b, c)
    }
    @inline(__always)
    static func maximum32(_ a: UInt32, _ b: UInt32, _ c: inout FloatContext) -> UInt32 {
        SoftFloat.compare32(a, b, signaling: true, &c) == .greater ? flush(a, c) : flush(b, c)
    }
    @inline(__always)
    static func minimum64(_ a: UInt64, _ b: UInt64, _ c: inout FloatContext) -> UInt64 {
        SoftFloat.compare64(a, b, signaling: true, &c) == .less ? flush(a, c) : flush(b, c)
    }
    @inline(__always)
    static func maximum64(_ a: UInt64, _ b: UInt64, _ c: inout FloatContext) -> UInt64 {
        SoftFloat.compare64(a, b, signaling: true, &c) == .greater ? flush(a, c) : flush(b, c)
    }

    /// An operand as DAZ makes it.
    @inline(__always)
    private static func flush(_ a: UInt32, _ c: FloatContext) -> UInt32 {
        c.denormalsAreZero && a & 0x7F80_0000 == 0 ? a & 0x8000_0000 : a
    }
    @inline(__always)
    private static func flush(_ a: UInt64, _ c: FloatContext) -> UInt64 {
        c.denormalsAreZero && a & 0x7FF << 52 == 0 ? a & 1 << 63 : a
    }

    // MARK: CMPPS

    /// All ones where predicate `imm` (bits 2...0) holds: equal, less, less or equal, unordered, and their contraries.
    @inline(__always)
    static func compare32(_ a: UInt32, _ b: UInt32, _ imm: UInt64, _ c: inout FloatContext) -> UInt32 {
        let order = SoftFloat.compare32(a, b, signaling: isSignaling(imm), &c)
        return holds(order, imm) ? .max : 0
    }
    @inline(__always)
    static func compare64(_ a: UInt64, _ b: UInt64, _ imm: UInt64, _ c: inout FloatContext) -> UInt64 {
        let order = SoftFloat.compare64(a, b, signaling: isSignaling(imm), &c)
        return holds(order, imm) ? .max : 0
    }

    /// The predicates with "less" are invalid for quiet NaNs, too.
    @inline(__always)
    private static func isSignaling(_ imm: UInt64) -> Bool { imm & 3 == 1 || imm & 3 == 2 }

    @inline(__always)
    private static func holds(_ order: FloatOrder, _ imm: UInt64) -> Bool {
        let positive =
            switch imm & 3 {
            case 0: order == .equal
            case 1: order == .less
            case 2: order == .less || order == .equal
            default: order == .unordered
            }
        return positive != (imm & 4 != 0)
    }

    // MARK: ROUNDPS

    /// `imm`: bits 1...0 direction, bit 2 take MXCSR's instead, bit 3 without precision.
    @inline(__always)
    static func round32(_ a: UInt32, _ imm: UInt64, _ c: inout FloatContext) -> UInt32 {
        let direction = imm & 4 != 0 ? c.rounding : UInt8(imm & 3)
        return SoftFloat.roundToInt32(a, direction, imm & 8 != 0, &c)
    }
    @inline(__always)
    static func round64(_ a: UInt64, _ imm: UInt64, _ c: inout FloatContext) -> UInt64 {
        let direction = imm & 4 != 0 ? c.rounding : UInt8(imm & 3)
        return SoftFloat.roundToInt64(a, direction, imm & 8 != 0, &c)
    }

    // MARK: RCPPS, RSQRTPS

    // Processors differ in these, within a relative error of 1.5 * 2^-12. Here they are the true values rounded to 13
    // significant bits (an error of 2^-13 at most), by way of IEEE operations that are the same on every host. Neither
    // raises exceptions or heeds MXCSR; denormal operands count as zero and tiny results become it.

    static func reciprocal(_ a: UInt32) -> UInt32 {
        let sign = a & 0x8000_0000
        let magnitude = a & 0x7FFF_FFFF
        if magnitude > 0x7F80_0000 { return a | 0x0040_0000 }
        if magnitude == 0x7F80_0000 { return sign }
        if magnitude < 0x0080_0000 { return sign | 0x7F80_0000 }
        return sign | approximate(1 / Double(Float(bitPattern: magnitude)))
    }

    static func reciprocalRoot(_ a: UInt32) -> UInt32 {
        let magnitude = a & 0x7FFF_FFFF
        if magnitude > 0x7F80_0000 { return a | 0x0040_0000 }
        if magnitude < 0x0080_0000 { return a & 0x8000_0000 | 0x7F80_0000 }
        if a != magnitude { return 0xFFC0_0000 }
        if magnitude == 0x7F80_0000 { return 0 }
        return approximate(1 / Double(Float(bitPattern: a)).squareRoot())
    }

    /// Positive `value`, within binary32's range or below, to 13 significant bits.
    @inline(__always)
    private static func approximate(_ value: Double) -> UInt32 {
        let rounded = (value.bitPattern &+ 1 << 39) & ~(1 << 40 - 1)
        let result = Float(Double(bitPattern: rounded)).bitPattern
        return result < 0x0080_0000 ? 0 : result
    }

    // MARK: DPPS

    /// The products that `imm`'s bits 7...4 select are summed up, (0 + 1) + (2 + 3), and the sum goes where bits 3...0 say.
    @inline(__always)
    static func dotProduct32(
        _ x: SIMD4<UInt32>, _ y: SIMD4<UInt32>, _ imm: UInt64, _ state: UnsafeMutablePointer<X86State>
    ) -> SIMD4<UInt32>? {
        var c = MXCSR.context(state.pointee.fpu.mxcsr)
        var products = SIMD4<UInt32>(repeating: 0)
        for index in 0..<4 where imm &>> UInt64(4 &+ index) & 1 != 0 {
            products[index] = SoftFloat.mul32(x[index], y[index], &c)
        }
        // Each step traps by itself.
        guard MXCSR.commit(state, c) else { return nil }
        let low = SoftFloat.add32(products[0], products[1], &c)
        let high = SoftFloat.add32(products[2], products[3], &c)
        guard MXCSR.commit(state, c) else { return nil }
        let sum = SoftFloat.add32(low, high, &c)
        guard MXCSR.commit(state, c) else { return nil }
        var result = SIMD4<UInt32>(repeating: 0)
        for index in 0..<4 where imm &>> UInt64(index) & 1 != 0 { result[index] = sum }
        return result
    }
    @inline(__always)
    static func dotProduct64(
        _ x: SIMD2<UInt64>, _ y: SIMD2<UInt64>, _ imm: UInt64, _ state: UnsafeMutablePointer<X86State>
    ) -> SIMD2<UInt64>? {
        var c = MXCSR.context(state.pointee.fpu.mxcsr)
        var products = SIMD2<UInt64>(repeating: 0)
        for index in 0..<2 where imm &>> UInt64(4 &+ index) & 1 != 0 {
            products[index] = SoftFloat.mul64(x[index], y[index], &c)
        }
        guard MXCSR.commit(state, c) else { return nil }
        let sum = SoftFloat.add64(products[0], products[1], &c)
        guard MXCSR.commit(state, c) else { return nil }
        var result = SIMD2<UInt64>(repeating: 0)
        for index in 0..<2 where imm &>> UInt64(index) & 1 != 0 { result[index] = sum }
        return result
    }
}
