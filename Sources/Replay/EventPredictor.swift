/// What writer and reader of a chunk both know: the sites seen so far, and what tends to follow what.
///
/// A site is a place that events come from: kind, address, width, PC. Both sides update the same tables with the same
/// events, so that a right guess costs a zero, and runs of zeros cost next to nothing after compression.
struct EventPredictor {
    struct Site: Hashable {
        var kind: UInt8
        var flags: UInt8
        var width: UInt32
        var address: UInt64
        var pc: UInt64
    }

    private static let tableSize = 1 << 14
    private(set) var sites: [Site] = []
    private var index: [Site: Int32] = [:]
    private var lastValue: [UInt64] = []
    private var afterOne: [Int32] = []
    private var afterTwo = [Int32](repeating: -1, count: tableSize)
    private var delta = [UInt64](repeating: 0, count: tableSize)
    private var previous = 0
    private var beforePrevious = 0

    init() {}

    /// As after `init`, with the memory it had.
    mutating func clear() {
        sites.removeAll(keepingCapacity: true)
        index.removeAll(keepingCapacity: true)
        lastValue.removeAll(keepingCapacity: true)
        afterOne.removeAll(keepingCapacity: true)
        for slot in 0..<Self.tableSize { (afterTwo[slot], delta[slot]) = (-1, 0) }
        (previous, beforePrevious) = (0, 0)
    }

    /// The number of a known site.
    func number(_ site: Site) -> Int? {
        let expected = expectedSite
        if expected >= 0, sites[expected] == site { return expected }
        return index[site].map(Int.init)
    }

    mutating func add(_ site: Site) -> Int {
        let number = sites.count
        sites.append(site)
        index[site] = Int32(number)
        lastValue.append(0)
        afterOne.append(-1)
        return number
    }

    private var contextSlot: Int { (previous &* 0x9E3B + beforePrevious &* 0x85EB) & (Self.tableSize - 1) }
    private func deltaSlot(_ site: Int) -> Int { (previous &* 0x2C1B + site &* 0xC2B3) & (Self.tableSize - 1) }

    /// The site expected next, or -1.
    var expectedSite: Int {
        let two = Int(afterTwo[contextSlot])
        if two >= 0 { return two }
        return previous < afterOne.count ? Int(afterOne[previous]) : -1
    }
    /// Position delta expected for `site`.
    func expectedDelta(_ site: Int) -> UInt64 { delta[deltaSlot(site)] }
    func expectedValue(_ site: Int) -> UInt64 { lastValue[site] }

    /// Takes note of an event.
    mutating func learn(_ site: Int, delta newDelta: UInt64, value: UInt64) {
        delta[deltaSlot(site)] = newDelta
        afterTwo[contextSlot] = Int32(site)
        if previous < afterOne.count { afterOne[previous] = Int32(site) }
        lastValue[site] = value
        beforePrevious = previous
        previous = site
    }
}

/// Variable-length integers: seven bits a byte, low first, the high bit says that more follow (LEB128).
enum VarInt {
    @inline(__always)
    static func append(_ value: UInt64, to bytes: inout [UInt8]) {
        if value < 0x80 { return bytes.append(UInt8(truncatingIfNeeded: value)) }
        appendLong(value, to: &bytes)
    }
    @inline(never)
    private static func appendLong(_ value: UInt64, to bytes: inout [UInt8]) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }
    /// Small magnitudes become small numbers.
    static func zigzag(_ value: Int64) -> UInt64 { UInt64(bitPattern: value << 1 ^ value >> 63) }
    static func unzigzag(_ value: UInt64) -> Int64 { Int64(bitPattern: value >> 1) ^ -Int64(bitPattern: value & 1) }
}
