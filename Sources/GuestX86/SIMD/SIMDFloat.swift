import CPUCore

/// Helpers of SSE ... SSE4.1's floating-point operations. See `SIMDOperation` for their operands.
enum SIMDFloatHelpers {
    typealias Table = UnsafeMutablePointer<MicroHelper>

    /// Fills the floating-point operations' and LDMXCSR's entries.
    static func install(into table: Table) {
        installArithmetic(table)
        installComparisons(table)
        installHorizontal(table)
        installConversions(table)
        installIntegerConversions(table)
    }

    private static func installArithmetic(_ table: Table) {
        func set(_ operation: SIMDOperation, _ helper: @escaping MicroHelper) {
            table[Int(operation.helper)] = helper
        }
        set(.ldmxcsr) { raw, _, a, _ in
            let value = FloatLanes.get(raw, a, UInt32.self)
            if value & ~MXCSR.defined != 0 { return x86(raw).pointee.raise(.generalProtection, error: 0) }
            x86(raw).pointee.fpu.mxcsr = value
            return 0
        }
        set(.addps) { r, d, a, _ in FloatLanes.ps(r, d, a) { SoftFloat.add32($0, $1, &$2) } }
        set(.addpd) { r, d, a, _ in FloatLanes.pd(r, d, a) { SoftFloat.add64($0, $1, &$2) } }
        set(.addss) { r, d, a, _ in FloatLanes.ss(r, d, a) { SoftFloat.add32($0, $1, &$2) } }
        set(.addsd) { r, d, a, _ in FloatLanes.sd(r, d, a) { SoftFloat.add64($0, $1, &$2) } }
        set(.subps) { r, d, a, _ in FloatLanes.ps(r, d, a) { SoftFloat.sub32($0, $1, &$2) } }
        set(.subpd) { r, d, a, _ in FloatLanes.pd(r, d, a) { SoftFloat.sub64($0, $1, &$2) } }
        set(.subss) { r, d, a, _ in FloatLanes.ss(r, d, a) { SoftFloat.sub32($0, $1, &$2) } }
        set(.subsd) { r, d, a, _ in FloatLanes.sd(r, d, a) { SoftFloat.sub64($0, $1, &$2) } }
        set(.mulps) { r, d, a, _ in FloatLanes.ps(r, d, a) { SoftFloat.mul32($0, $1, &$2) } }
        set(.mulpd) { r, d, a, _ in FloatLanes.pd(r, d, a) { SoftFloat.mul64($0, $1, &$2) } }
        set(.mulss) { r, d, a, _ in FloatLanes.ss(r, d, a) { SoftFloat.mul32($0, $1, &$2) } }
        set(.mulsd) { r, d, a, _ in FloatLanes.sd(r, d, a) { SoftFloat.mul64($0, $1, &$2) } }
        set(.divps) { r, d, a, _ in FloatLanes.ps(r, d, a) { SoftFloat.div32($0, $1, &$2) } }
        set(.divpd) { r, d, a, _ in FloatLanes.pd(r, d, a) { SoftFloat.div64($0, $1, &$2) } }
        set(.divss) { r, d, a, _ in FloatLanes.ss(r, d, a) { SoftFloat.div32($0, $1, &$2) } }
        set(.divsd) { r, d, a, _ in FloatLanes.sd(r, d, a) { SoftFloat.div64($0, $1, &$2) } }
        set(.sqrtps) { r, d, a, _ in FloatLanes.ps(r, d, a) { SoftFloat.sqrt32($1, &$2) } }
        set(.sqrtpd) { r, d, a, _ in FloatLanes.pd(r, d, a) { SoftFloat.sqrt64($1, &$2) } }
        set(.sqrtss) { r, d, a, _ in FloatLanes.ss(r, d, a) { SoftFloat.sqrt32($1, &$2) } }
        set(.sqrtsd) { r, d, a, _ in FloatLanes.sd(r, d, a) { SoftFloat.sqrt64($1, &$2) } }
        set(.rcpps) { r, d, a, _ in FloatLanes.ps(r, d, a) { _, y, _ in FloatElement.reciprocal(y) } }
        set(.rcpss) { r, d, a, _ in FloatLanes.ss(r, d, a) { _, y, _ in FloatElement.reciprocal(y) } }
        set(.rsqrtps) { r, d, a, _ in FloatLanes.ps(r, d, a) { _, y, _ in FloatElement.reciprocalRoot(y) } }
        set(.rsqrtss) { r, d, a, _ in FloatLanes.ss(r, d, a) { _, y, _ in FloatElement.reciprocalRoot(y) } }
        set(.roundps) { r, d, a, i in FloatLanes.ps(r, d, a) { FloatElement.round32($1, i, &$2) } }
        set(.roundpd) { r, d, a, i in FloatLanes.pd(r, d, a) { FloatElement.round64($1, i, &$2) } }
        set(.roundss) { r, d, a, i in FloatLanes.ss(r, d, a) { FloatElement.round32($1, i, &$2) } }
        set(.roundsd) { r, d, a, i in FloatLanes.sd(r, d, a) { FloatElement.round64($1, i, &$2) } }
    }

    private static func installComparisons(_ table: Table) {
        func set(_ operation: SIMDOperation, _ helper: @escaping MicroHelper) {
            table[Int(operation.helper)] = helper
        }
        set(.minps) { r, d, a, _ in FloatLanes.ps(r, d, a) { FloatElement.minimum32($0, $1, &$2) } }
        set(.minpd) { r, d, a, _ in FloatLanes.pd(r, d, a) { FloatElement.minimum64($0, $1, &$2) } }
        set(.minss) { r, d, a, _ in FloatLanes.ss(r, d, a) { FloatElement.minimum32($0, $1, &$2) } }
        set(.minsd) { r, d, a, _ in FloatLanes.sd(r, d, a) { FloatElement.minimum64($0, $1, &$2) } }
        set(.maxps) { r, d, a, _ in FloatLanes.ps(r, d, a) { FloatElement.maximum32($0, $1, &$2) } }
        set(.maxpd) { r, d, a, _ in FloatLanes.pd(r, d, a) { FloatElement.maximum64($0, $1, &$2) } }
        set(.maxss) { r, d, a, _ in FloatLanes.ss(r, d, a) { FloatElement.maximum32($0, $1, &$2) } }
        set(.maxsd) { r, d, a, _ in FloatLanes.sd(r, d, a) { FloatElement.maximum64($0, $1, &$2) } }
        set(.cmpps) { r, d, a, i in FloatLanes.ps(r, d, a) { FloatElement.compare32($0, $1, i, &$2) } }
        set(.cmppd) { r, d, a, i in FloatLanes.pd(r, d, a) { FloatElement.compare64($0, $1, i, &$2) } }
        set(.cmpss) { r, d, a, i in FloatLanes.ss(r, d, a) { FloatElement.compare32($0, $1, i, &$2) } }
        set(.cmpsd) { r, d, a, i in FloatLanes.sd(r, d, a) { FloatElement.compare64($0, $1, i, &$2) } }
        set(.comiss) { r, d, a, _ in compareFlags32(r, d, a, signaling: true) }
        set(.ucomiss) { r, d, a, _ in compareFlags32(r, d, a, signaling: false) }
        set(.comisd) { r, d, a, _ in compareFlags64(r, d, a, signaling: true) }
        set(.ucomisd) { r, d, a, _ in compareFlags64(r, d, a, signaling: false) }
    }

    private static func installHorizontal(_ table: Table) {
        func set(_ operation: SIMDOperation, _ helper: @escaping MicroHelper) {
            table[Int(operation.helper)] = helper
        }
        set(.haddps) { r, d, a, _ in FloatLanes.horizontalPS(r, d, a) { SoftFloat.add32($0, $1, &$2) } }
        set(.haddpd) { r, d, a, _ in FloatLanes.horizontalPD(r, d, a) { SoftFloat.add64($0, $1, &$2) } }
        set(.hsubps) { r, d, a, _ in FloatLanes.horizontalPS(r, d, a) { SoftFloat.sub32($0, $1, &$2) } }
        set(.hsubpd) { r, d, a, _ in FloatLanes.horizontalPD(r, d, a) { SoftFloat.sub64($0, $1, &$2) } }
        set(.addsubps) { raw, d, a, _ in
            var c = FloatLanes.begin(raw)
            let x = FloatLanes.get(raw, d, SIMD4<UInt32>.self)
            let y = FloatLanes.get(raw, a, SIMD4<UInt32>.self)
            let r0 = SoftFloat.sub32(x[0], y[0], &c)
            let r1 = SoftFloat.add32(x[1], y[1], &c)
            let r2 = SoftFloat.sub32(x[2], y[2], &c)
            let r3 = SoftFloat.add32(x[3], y[3], &c)
            return FloatLanes.finish(raw, d, SIMD4(r0, r1, r2, r3), c)
        }
        set(.addsubpd) { raw, d, a, _ in
            var c = FloatLanes.begin(raw)
            let x = FloatLanes.get(raw, d, SIMD2<UInt64>.self)
            let y = FloatLanes.get(raw, a, SIMD2<UInt64>.self)
            let r0 = SoftFloat.sub64(x[0], y[0], &c)
            let r1 = SoftFloat.add64(x[1], y[1], &c)
            return FloatLanes.finish(raw, d, SIMD2(r0, r1), c)
        }
        set(.dpps) { raw, d, a, imm in
            let x = FloatLanes.get(raw, d, SIMD4<UInt32>.self)
            let y = FloatLanes.get(raw, a, SIMD4<UInt32>.self)
            guard let r = FloatElement.dotProduct32(x, y, imm, x86(raw)) else { return 1 }
            FloatLanes.put(raw, d, r)
            return 0
        }
        set(.dppd) { raw, d, a, imm in
            let x = FloatLanes.get(raw, d, SIMD2<UInt64>.self)
            let y = FloatLanes.get(raw, a, SIMD2<UInt64>.self)
            guard let r = FloatElement.dotProduct64(x, y, imm, x86(raw)) else { return 1 }
            FloatLanes.put(raw, d, r)
            return 0
        }
    }
}

/// COMISS, UCOMISS: ZF, PF and CF tell the order, OF, SF and AF become 0 (SDM: COMISS).
@inline(__always)
private func setFlags(_ raw: UnsafeMutableRawPointer, _ order: FloatOrder, _ context: FloatContext) -> UInt64 {
    let state = x86(raw)
    guard MXCSR.commit(state, context) else { return 1 }
    let pair =
        switch order {
        case .greater: Flags.unpack(0)
        case .less: Flags.unpack(Flags.cf)
        case .equal: Flags.unpack(Flags.zf)
        case .unordered: Flags.unpack(Flags.zf | Flags.pf | Flags.cf)
        }
    state.pointee.core.flagResult = pair.result
    state.pointee.core.flagCarry = pair.carry
    return 0
}

@inline(__always)
private func compareFlags32(_ raw: UnsafeMutableRawPointer, _ d: UInt, _ a: UInt, signaling: Bool) -> UInt64 {
    var c = FloatLanes.begin(raw)
    let x = FloatLanes.get(raw, d, UInt32.self)
    let order = SoftFloat.compare32(x, FloatLanes.get(raw, a, UInt32.self), signaling: signaling, &c)
    return setFlags(raw, order, c)
}

@inline(__always)
private func compareFlags64(_ raw: UnsafeMutableRawPointer, _ d: UInt, _ a: UInt, signaling: Bool) -> UInt64 {
    var c = FloatLanes.begin(raw)
    let x = FloatLanes.get(raw, d, UInt64.self)
    let order = SoftFloat.compare64(x, FloatLanes.get(raw, a, UInt64.self), signaling: signaling, &c)
    return setFlags(raw, order, c)
}
