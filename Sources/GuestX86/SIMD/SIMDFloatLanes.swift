/// Shapes of SSE's floating-point instructions: how an operation on elements becomes one on operands in the state.
/// Everything is read before anything is written, as destination and source may be the same register.
enum FloatLanes {
    typealias Raw = UnsafeMutableRawPointer
    typealias Context = FloatContext

    @inline(__always) static func get<T>(_ raw: Raw, _ offset: UInt, _: T.Type, _ index: Int = 0) -> T {
        (raw + Int(bitPattern: offset)).load(fromByteOffset: index &* MemoryLayout<T>.stride, as: T.self)
    }
    @inline(__always) static func put<T>(_ raw: Raw, _ offset: UInt, _ value: T) {
        (raw + Int(bitPattern: offset)).storeBytes(of: value, as: T.self)
    }
    @inline(__always) static func begin(_ raw: Raw) -> Context { MXCSR.context(x86(raw).pointee.fpu.mxcsr) }

    /// Raises what `context` has and, if nothing of it traps, writes `value`.
    @inline(__always)
    static func finish<T>(_ raw: Raw, _ offset: UInt, _ value: T, _ context: Context) -> UInt64 {
        guard MXCSR.commit(x86(raw), context) else { return 1 }
        put(raw, offset, value)
        return 0
    }

    // MARK: dst = operation(dst, a), element by element

    @inline(__always)
    static func ps(
        _ raw: Raw, _ dst: UInt, _ a: UInt, _ operation: (UInt32, UInt32, inout Context) -> UInt32
    ) -> UInt64 {
        var c = begin(raw)
        let x = get(raw, dst, SIMD4<UInt32>.self)
        let y = get(raw, a, SIMD4<UInt32>.self)
        let r0 = operation(x[0], y[0], &c)
        let r1 = operation(x[1], y[1], &c)
        let r2 = operation(x[2], y[2], &c)
        let r3 = operation(x[3], y[3], &c)
        return finish(raw, dst, SIMD4(r0, r1, r2, r3), c)
    }
    @inline(__always)
    static func pd(
        _ raw: Raw, _ dst: UInt, _ a: UInt, _ operation: (UInt64, UInt64, inout Context) -> UInt64
    ) -> UInt64 {
        var c = begin(raw)
        let x = get(raw, dst, SIMD2<UInt64>.self)
        let y = get(raw, a, SIMD2<UInt64>.self)
        let r0 = operation(x[0], y[0], &c)
        let r1 = operation(x[1], y[1], &c)
        return finish(raw, dst, SIMD2(r0, r1), c)
    }
    @inline(__always)
    static func ss(
        _ raw: Raw, _ dst: UInt, _ a: UInt, _ operation: (UInt32, UInt32, inout Context) -> UInt32
    ) -> UInt64 {
        var c = begin(raw)
        let r = operation(get(raw, dst, UInt32.self), get(raw, a, UInt32.self), &c)
        return finish(raw, dst, r, c)
    }
    @inline(__always)
    static func sd(
        _ raw: Raw, _ dst: UInt, _ a: UInt, _ operation: (UInt64, UInt64, inout Context) -> UInt64
    ) -> UInt64 {
        var c = begin(raw)
        let r = operation(get(raw, dst, UInt64.self), get(raw, a, UInt64.self), &c)
        return finish(raw, dst, r, c)
    }

    // MARK: Two-element results, and one from another width

    /// dst (`R`) = operation(a (`T`)).
    @inline(__always)
    static func convert<T, R>(
        _ raw: Raw, _ dst: UInt, _ a: UInt, _: T.Type, _ operation: (T, inout Context) -> R
    ) -> UInt64 {
        var c = begin(raw)
        let r = operation(get(raw, a, T.self), &c)
        return finish(raw, dst, r, c)
    }

    // MARK: Within pairs of elements (HADDPS and the like)

    @inline(__always)
    static func horizontalPS(
        _ raw: Raw, _ dst: UInt, _ a: UInt, _ operation: (UInt32, UInt32, inout Context) -> UInt32
    ) -> UInt64 {
        var c = begin(raw)
        let x = get(raw, dst, SIMD4<UInt32>.self)
        let y = get(raw, a, SIMD4<UInt32>.self)
        let r0 = operation(x[0], x[1], &c)
        let r1 = operation(x[2], x[3], &c)
        let r2 = operation(y[0], y[1], &c)
        let r3 = operation(y[2], y[3], &c)
        return finish(raw, dst, SIMD4(r0, r1, r2, r3), c)
    }
    @inline(__always)
    static func horizontalPD(
        _ raw: Raw, _ dst: UInt, _ a: UInt, _ operation: (UInt64, UInt64, inout Context) -> UInt64
    ) -> UInt64 {
        var c = begin(raw)
        let x = get(raw, dst, SIMD2<UInt64>.self)
        let y = get(raw, a, SIMD2<UInt64>.self)
        let r0 = operation(x[0], x[1], &c)
        let r1 = operation(y[0], y[1], &c)
        return finish(raw, dst, SIMD2(r0, r1), c)
    }
}
