// What the helpers of vector operations have in common. Free functions, specialised and inlined: a helper is a C function
// and must not capture a generic type. Operands are read before the destination is written, for they may be the same.

/// The 16 bytes at a state offset.
@inline(__always)
func vector<V: SIMD>(_ state: UnsafeMutableRawPointer, _ offset: UInt, _: V.Type) -> V {
    (state + Int(offset)).load(as: V.self)
}

@inline(__always)
func putVector<V: SIMD>(_ state: UnsafeMutableRawPointer, _ offset: UInt, _ value: V) {
    (state + Int(offset)).storeBytes(of: value, as: V.self)
}

/// dst = f(dst, a), on whole vectors.
@inline(__always)
func whole<V: SIMD>(
    _ state: UnsafeMutableRawPointer, _ dst: UInt, _ a: UInt, _ type: V.Type, _ f: (V, V) -> V
) -> UInt64 {
    putVector(state, dst, f(vector(state, dst, type), vector(state, a, type)))
    return 0
}

/// dst = f(dst, a), element by element.
@inline(__always)
func each<V: SIMD>(
    _ state: UnsafeMutableRawPointer, _ dst: UInt, _ a: UInt, _ type: V.Type,
    _ f: (V.Scalar, V.Scalar) -> V.Scalar
) -> UInt64 {
    let x = vector(state, dst, type)
    let y = vector(state, a, type)
    var result = V()
    for index in 0..<V.scalarCount { result[index] = f(x[index], y[index]) }
    putVector(state, dst, result)
    return 0
}

/// Elements of dst from where `f` says: an index into dst's elements followed by a's.
@inline(__always)
func permute<V: SIMD>(
    _ state: UnsafeMutableRawPointer, _ dst: UInt, _ a: UInt, _ type: V.Type, _ f: (Int) -> Int
) -> UInt64 {
    let x = vector(state, dst, type)
    let y = vector(state, a, type)
    var result = V()
    let mask = V.scalarCount - 1
    for index in 0..<V.scalarCount {
        let from = f(index)
        result[index] = from & V.scalarCount == 0 ? x[from & mask] : y[from & mask]
    }
    putVector(state, dst, result)
    return 0
}

/// dst = sums or differences of neighbours: dst's in the low half, a's in the high half.
@inline(__always)
func neighbours<V: SIMD>(
    _ state: UnsafeMutableRawPointer, _ dst: UInt, _ a: UInt, _ type: V.Type,
    _ f: (V.Scalar, V.Scalar) -> V.Scalar
) -> UInt64 {
    let x = vector(state, dst, type)
    let y = vector(state, a, type)
    var result = V()
    let half = V.scalarCount / 2
    for index in 0..<half {
        result[index] = f(x[index * 2], x[index * 2 + 1])
        result[half + index] = f(y[index * 2], y[index * 2 + 1])
    }
    putVector(state, dst, result)
    return 0
}

/// dst = dst's elements, then a's, each made narrower by `f`.
@inline(__always)
func pack<V: SIMD, W: SIMD>(
    _ state: UnsafeMutableRawPointer, _ dst: UInt, _ a: UInt, _ from: V.Type, _ to: W.Type,
    _ f: (V.Scalar) -> W.Scalar
) -> UInt64 {
    let x = vector(state, dst, from)
    let y = vector(state, a, from)
    var result = W()
    for index in 0..<V.scalarCount {
        result[index] = f(x[index])
        result[V.scalarCount + index] = f(y[index])
    }
    putVector(state, dst, result)
    return 0
}

/// dst = a's low elements, made wider.
@inline(__always)
func widen<V: SIMD, W: SIMD>(
    _ state: UnsafeMutableRawPointer, _ dst: UInt, _ a: UInt, _ from: V.Type, _ to: W.Type
) -> UInt64 where V.Scalar: FixedWidthInteger, W.Scalar: FixedWidthInteger {
    let x = vector(state, a, from)
    var result = W()
    for index in 0..<W.scalarCount { result[index] = W.Scalar(truncatingIfNeeded: x[index]) }
    putVector(state, dst, result)
    return 0
}

/// Sum and difference that stay at the type's bounds.
@inline(__always)
func saturatedSum<T: FixedWidthInteger>(_ x: T, _ y: T) -> T {
    let (sum, overflow) = x.addingReportingOverflow(y)
    return overflow ? (T.isSigned && x < 0 ? T.min : T.max) : sum
}
@inline(__always)
func saturatedDifference<T: FixedWidthInteger>(_ x: T, _ y: T) -> T {
    let (difference, overflow) = x.subtractingReportingOverflow(y)
    return overflow ? (T.isSigned && x >= 0 ? T.max : T.min) : difference
}
@inline(__always)
func average<T: FixedWidthInteger & UnsignedInteger>(_ x: T, _ y: T) -> T {
    T(truncatingIfNeeded: (UInt32(truncatingIfNeeded: x) &+ UInt32(truncatingIfNeeded: y) &+ 1) &>> 1)
}
@inline(__always)
func withSign<T: FixedWidthInteger & SignedInteger>(_ x: T, _ sign: T) -> T { sign < 0 ? 0 &- x : sign == 0 ? 0 : x }
