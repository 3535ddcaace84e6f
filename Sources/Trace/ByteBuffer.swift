/// Text that grows, as bytes: a trace has millions of lines.
package struct ByteBuffer: ~Copyable {
    private var start: UnsafeMutablePointer<UInt8>
    private var capacity: Int
    package private(set) var count = 0

    package init(capacity: Int = 1 << 16) {
        self.capacity = max(capacity, 64)
        start = .allocate(capacity: self.capacity)
    }
    deinit { start.deallocate() }

    package var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: start, count: count) }
    package mutating func removeAll() { count = 0 }
    /// Takes back what was added since there were `count` bytes.
    package mutating func truncate(to count: Int) { self.count = min(self.count, max(count, 0)) }

    @inline(__always)
    private mutating func reserve(_ more: Int) {
        if count + more > capacity { grow(count + more) }
    }
    private mutating func grow(_ least: Int) {
        let larger = max(capacity * 2, least)
        let next = UnsafeMutablePointer<UInt8>.allocate(capacity: larger)
        next.update(from: start, count: count)
        start.deallocate()
        start = next
        capacity = larger
    }

    @inline(__always)
    package mutating func append(_ byte: UInt8) {
        reserve(1)
        start[count] = byte
        count += 1
    }
    package mutating func append(_ bytes: [UInt8]) {
        reserve(bytes.count)
        bytes.withUnsafeBufferPointer { if let base = $0.baseAddress { (start + count).update(from: base, count: $0.count) } }
        count += bytes.count
    }
    package mutating func append(_ text: StaticString) {
        reserve(text.utf8CodeUnitCount)
        (start + count).update(from: text.utf8Start, count: text.utf8CodeUnitCount)
        count += text.utf8CodeUnitCount
    }
    package mutating func append(text: String) {
        for byte in text.utf8 { append(byte) }
    }

    package mutating func append(decimal value: UInt64) {
        reserve(20)
        var digits = 1
        var limit: UInt64 = 10
        while digits < 20, value >= limit {
            digits += 1
            let (next, overflow) = limit.multipliedReportingOverflow(by: 10)
            if overflow { break }
            limit = next
        }
        var rest = value
        for place in stride(from: count + digits - 1, through: count, by: -1) {
            let (quotient, digit) = rest.quotientAndRemainder(dividingBy: 10)
            start[place] = UInt8(ascii: "0") + UInt8(digit)
            rest = quotient
        }
        count += digits
    }

    /// Nanoseconds as seconds, with nine places.
    package mutating func append(seconds nanoseconds: UInt64) {
        let (whole, rest) = nanoseconds.quotientAndRemainder(dividingBy: 1_000_000_000)
        append(decimal: whole)
        append(UInt8(ascii: "."))
        append(padded: rest, places: 9)
    }

    /// A number with leading zeros.
    package mutating func append(padded value: UInt64, places: Int) {
        reserve(places)
        var rest = value
        for place in stride(from: count + places - 1, through: count, by: -1) {
            start[place] = UInt8(ascii: "0") + UInt8(rest % 10)
            rest /= 10
        }
        count += places
    }

    /// Without a prefix, `digits` places at least.
    package mutating func append(hexadecimal value: UInt64, digits: Int = 1) {
        let needed = max((64 - value.leadingZeroBitCount + 3) / 4, digits, 1)
        reserve(needed)
        var rest = value
        for place in stride(from: count + needed - 1, through: count, by: -1) {
            start[place] = Self.digit(UInt8(rest & 15))
            rest >>= 4
        }
        count += needed
    }

    package mutating func append(hexadecimal bytes: some Sequence<UInt8>) {
        for byte in bytes {
            append(Self.digit(byte >> 4))
            append(Self.digit(byte & 15))
        }
    }

    private static func digit(_ value: UInt8) -> UInt8 { value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") + value - 10 }
}
