/// What writer and reader of a chunk both know: the sites seen so far, and what tends to follow what.
///
/// A site is a place that events come from: kind, address, width, PC. Both sides update the same tables with the same
/// events, so that a right guess costs a zero, and runs of zeros cost next to nothing after compression.
final class EventPredictor {
    struct Site: BitwiseCopyable, Equatable {
        var kind: UInt8
        var flags: UInt8
        var width: UInt32
        var address: UInt64
        var pc: UInt64
    }

    private static let tableSize = 1 << 14
    private var list = RawList<Site>(capacity: 1024)
    private var values = RawList<UInt64>(capacity: 1024)
    private var lengths = RawList<Int>(capacity: 1024)
    private var afterOne = RawList<Int32>(capacity: 1024)
    private let afterTwo = UnsafeMutablePointer<Int32>.allocate(capacity: tableSize)
    private let delta = UnsafeMutablePointer<UInt64>.allocate(capacity: tableSize)
    /// Numbers of sites by a hash of their contents, open addressing, -1 empty; a power of two of slots, half full at most.
    private var index = UnsafeMutablePointer<Int32>.allocate(capacity: 2048)
    private var indexSize = 2048
    private(set) var previous = 0
    private(set) var beforePrevious = 0

    init() { clear() }
    deinit {
        list.free()
        values.free()
        lengths.free()
        afterOne.free()
        afterTwo.deallocate()
        delta.deallocate()
        index.deallocate()
    }

    /// As after `init`, with the memory it had.
    func clear() {
        list.clear()
        values.clear()
        lengths.clear()
        afterOne.clear()
        afterTwo.update(repeating: -1, count: Self.tableSize)
        delta.update(repeating: 0, count: Self.tableSize)
        index.update(repeating: -1, count: indexSize)
        (previous, beforePrevious) = (0, 0)
    }

    var count: Int { list.count }
    /// Site number `number`, which there is.
    func site(_ number: Int) -> Site { list[number] }

    /// The number of a known site, -1 for another one.
    func number(_ site: Site) -> Int {
        let expected = expectedSite
        if expected >= 0, list[expected] == site { return expected }
        var slot = Self.hash(site) & (indexSize - 1)
        while index[slot] >= 0 {
            if list[Int(index[slot])] == site { return Int(index[slot]) }
            slot = (slot + 1) & (indexSize - 1)
        }
        return -1
    }

    /// A new site. Only who asks for numbers needs them found.
    func add(_ site: Site, isSearched: Bool = true) -> Int {
        let number = list.count
        list.append(site)
        values.append(0)
        lengths.append(0)
        afterOne.append(-1)
        if isSearched {
            if list.count * 2 > indexSize { growIndex() } else { enter(number) }
        }
        return number
    }

    private static func hash(_ site: Site) -> Int {
        var hash = site.address &* 0x9E37_79B9_7F4A_7C15 ^ site.pc
        hash = (hash ^ hash >> 29) &* 0xBF58_476D_1CE4_E5B9 ^ UInt64(site.width) << 16 ^ UInt64(site.kind) << 8 ^ UInt64(site.flags)
        hash = (hash ^ hash >> 32) &* 0x94D0_49BB_1331_11EB
        return Int(truncatingIfNeeded: hash >> 33)
    }
    private func enter(_ number: Int) {
        var slot = Self.hash(list[number]) & (indexSize - 1)
        while index[slot] >= 0 { slot = (slot + 1) & (indexSize - 1) }
        index[slot] = Int32(truncatingIfNeeded: number)
    }
    private func growIndex() {
        index.deallocate()
        indexSize *= 4
        index = .allocate(capacity: indexSize)
        index.update(repeating: -1, count: indexSize)
        for number in 0..<list.count { enter(number) }
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
    func expectedValue(_ site: Int) -> UInt64 { values[site] }
    /// Bytes that the site's event had last time.
    func expectedLength(_ site: Int) -> Int { lengths[site] }
    func learn(_ site: Int, length: Int) { lengths[site] = length }

    /// Takes note of an event.
    func learn(_ site: Int, delta newDelta: UInt64, value: UInt64) {
        delta[deltaSlot(site)] = newDelta
        afterTwo[contextSlot] = Int32(truncatingIfNeeded: site)
        if previous < afterOne.count { afterOne[previous] = Int32(truncatingIfNeeded: site) }
        values[site] = value
        beforePrevious = previous
        previous = site
    }
}
