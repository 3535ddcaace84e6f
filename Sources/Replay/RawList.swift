/// A list of plain values in memory of its own that is never moved between owners: what a recorder does for each event must
/// not look whether an array is shared. Whoever makes one frees it.
struct RawList<Element: BitwiseCopyable> {
    private(set) var base: UnsafeMutablePointer<Element>
    private(set) var count = 0
    private var capacity: Int

    init(capacity: Int) {
        self.capacity = capacity
        base = .allocate(capacity: capacity)
    }
    func free() { base.deallocate() }

    var buffer: UnsafeBufferPointer<Element> { UnsafeBufferPointer(start: base, count: count) }

    subscript(index: Int) -> Element {
        @inline(__always) get { base[index] }
        @inline(__always) nonmutating set { base[index] = newValue }
    }

    /// Empty again, with the memory it had.
    mutating func clear() { count = 0 }

    @inline(__always)
    mutating func append(_ element: Element) {
        if count == capacity { grow(1) }
        base[count] = element
        count += 1
    }

    /// Room for `more` elements at `base + count`, which the caller writes and then says how many there are.
    @inline(__always)
    mutating func reserve(_ more: Int) { if capacity - count < more { grow(more) } }
    @inline(__always)
    mutating func advance(_ more: Int) { count += more }

    mutating func append(from source: UnsafePointer<Element>, count more: Int) {
        reserve(more)
        (base + count).update(from: source, count: more)
        count += more
    }

    @inline(never)
    private mutating func grow(_ more: Int) {
        capacity = max(capacity * 2, count + more)
        let larger = UnsafeMutablePointer<Element>.allocate(capacity: capacity)
        larger.update(from: base, count: count)
        base.deallocate()
        base = larger
    }
}

extension RawList<UInt8> {
    /// A variable-length integer (see `VarInt`).
    @inline(__always)
    mutating func append(varInt value: UInt64) {
        if value < 0x80 { return append(UInt8(truncatingIfNeeded: value)) }
        appendLong(value)
    }
    @inline(never)
    private mutating func appendLong(_ value: UInt64) {
        reserve(10)
        var rest = value
        while rest >= 0x80 {
            append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        append(UInt8(rest))
    }
}

/// Variable-length integers: seven bits a byte, low first, the high bit says that more follow (LEB128).
enum VarInt {
    /// Small magnitudes become small numbers.
    static func zigzag(_ value: Int64) -> UInt64 { UInt64(bitPattern: value << 1 ^ value >> 63) }
    static func unzigzag(_ value: UInt64) -> Int64 { Int64(bitPattern: value >> 1) ^ -Int64(bitPattern: value & 1) }
}
