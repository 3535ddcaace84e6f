import Glibc

/// What writer and reader of a chunk expect of a bus master: where it reads and writes next, and what.
///
/// Bus masters follow rings: the next entry is where the last one was and a little further; what an entry says is where the next
/// transfer goes (a buffer), or which entry of another table is next. So an address is expected in one of three ways, the one
/// that was right last time in this place; a place is a site after two others.
final class TransferPredictor {
    /// Payloads below this, and so many bytes of others, are expected from the one before, byte for byte; they stand in columns
    /// of their own.
    static let large = 64
    /// Longer ones are not remembered as a whole.
    static let mostRemembered = 66_000

    private enum Way: UInt8 { case stride, pointer, index }
    private struct Place: BitwiseCopyable {
        var address: UInt64 = 0
        var stride: UInt64 = 0
        /// `pointer` when the address was seen.
        var pointer: UInt64 = 0
        var way = 0 as UInt8
        /// Bytes of the last small payload, which lie in `contents`.
        var length = 0 as UInt8
    }
    private static let tableSize = 1 << 11
    private let places = UnsafeMutablePointer<Place>.allocate(capacity: tableSize)
    private let contents = UnsafeMutablePointer<UInt8>.allocate(capacity: tableSize * large)
    /// What the bus master has read last that was small: a descriptor, an entry of a ring.
    private var pointer: UInt64 = 0
    /// The last payload that is large and not too long, for what is said twice: a frame that came in, and its way into RAM.
    private let last = UnsafeMutablePointer<UInt8>.allocate(capacity: mostRemembered)
    private var lastCount = 0

    init() { clear() }
    deinit {
        places.deallocate()
        contents.deallocate()
        last.deallocate()
    }

    /// As after `init`.
    func clear() {
        places.update(repeating: Place(), count: Self.tableSize)
        (pointer, lastCount) = (0, 0)
    }

    /// The place of the event of site `site` that follows `previous` and `beforePrevious`.
    static func place(_ site: Int, _ previous: Int, _ beforePrevious: Int) -> Int {
        (site &* 0x9E3B &+ previous &* 0x85EB &+ beforePrevious &* 0x2C1B) & (tableSize - 1)
    }

    // MARK: Addresses

    /// `length`: bytes of an entry, if its number is what was read before.
    func expectedAddress(_ place: Int, length: Int) -> UInt64 {
        address(places[place], Way(rawValue: places[place].way) ?? .stride, length)
    }
    private func address(_ place: Place, _ way: Way, _ length: Int) -> UInt64 {
        switch way {
        case .stride: place.address &+ place.stride
        case .pointer: place.address &+ (pointer &- place.pointer)
        case .index: place.address &+ (pointer &- place.pointer) &* UInt64(truncatingIfNeeded: length)
        }
    }
    func learn(_ place: Int, address: UInt64, length: Int) {
        let known = places[place]
        if expectedAddress(place, length: length) != address {
            if self.address(known, .stride, length) == address {
                places[place].way = Way.stride.rawValue
            } else if self.address(known, .pointer, length) == address {
                places[place].way = Way.pointer.rawValue
            } else if self.address(known, .index, length) == address {
                places[place].way = Way.index.rawValue
            }
        }
        places[place].stride = address &- known.address
        places[place].address = address
        places[place].pointer = pointer
    }
    /// Takes note of what a bus master has read: addresses of 4 bytes with a length behind them, or of 8 bytes; or a number.
    func learn(read bytes: UnsafeBufferPointer<UInt8>) {
        let count = bytes.count
        if count == 0 || count >= Self.large { return }
        pointer = 0
        for index in 0..<(count == 8 ? 4 : min(count, 8)) { pointer |= UInt64(bytes[index]) << UInt64(index * 8) }
    }

    // MARK: Small payloads

    /// Bytes that are counted together: differences carry within them.
    private static func step(_ count: Int) -> Int { count == 2 ? 2 : count <= 16 && count % 4 == 0 ? 4 : 1 }

    /// What `bytes` differ by from what was last in this place; `out` has room for `count` bytes, at most `large`.
    func difference(_ place: Int, _ bytes: UnsafePointer<UInt8>, count: Int, into out: UnsafeMutablePointer<UInt8>) {
        combine(place, bytes, count, out, isUndoing: false)
        remember(place, bytes, count)
    }
    /// The reverse.
    func restore(_ place: Int, _ bytes: UnsafePointer<UInt8>, count: Int, into out: UnsafeMutablePointer<UInt8>) {
        combine(place, bytes, count, out, isUndoing: true)
        remember(place, out, count)
    }
    private func combine(
        _ place: Int, _ bytes: UnsafePointer<UInt8>, _ count: Int, _ out: UnsafeMutablePointer<UInt8>, isUndoing: Bool
    ) {
        guard Int(places[place].length) == count else { return out.update(from: bytes, count: count) }
        let known = contents + place * Self.large
        let step = Self.step(count)
        var carry: Int32 = 0
        for index in 0..<count {
            if index % step == 0 { carry = 0 }
            let sum = isUndoing ? Int32(bytes[index]) + Int32(known[index]) : Int32(bytes[index]) - Int32(known[index])
            out[index] = UInt8(truncatingIfNeeded: sum + carry)
            carry = (sum + carry) >> 8
        }
    }
    private func remember(_ place: Int, _ bytes: UnsafePointer<UInt8>, _ count: Int) {
        (contents + place * Self.large).update(from: bytes, count: count)
        places[place].length = UInt8(truncatingIfNeeded: count)
    }

    // MARK: Large payloads

    /// What of a payload is what the last one was.
    struct Copy {
        /// All of the last payload is in this one, from byte `at` on; else this one is in the last, from its byte `at` on.
        var isWhole: Bool
        var at: Int
        /// As a number of the column; 0 is for none.
        var code: UInt64 { UInt64(at) << 1 &+ (isWhole ? 1 : 2) }
        init(isWhole: Bool, at: Int) { (self.isWhole, self.at) = (isWhole, at) }
        init(code: UInt64) {
            isWhole = code & 1 == 1
            at = Int(clamping: (code &- 1) >> 1)
        }
    }
    /// Bytes of the last payload that `copy` means, of a payload of `count` bytes; nil if it is not so.
    func copied(_ copy: Copy, count: Int) -> UnsafeBufferPointer<UInt8>? {
        let (outer, inner) = copy.isWhole ? (count, lastCount) : (lastCount, count)
        guard lastCount > 0, inner <= outer, copy.at <= outer - inner else { return nil }
        return UnsafeBufferPointer(start: last + (copy.isWhole ? 0 : copy.at), count: inner)
    }
    /// Where the last payload is in this one, or this one in it: near the beginning, or at the end.
    func copy(in bytes: UnsafeRawBufferPointer) -> Copy? {
        guard lastCount > 0, let base = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return nil }
        if bytes.count >= lastCount { return Self.find(last, lastCount, in: base, bytes.count).map { Copy(isWhole: true, at: $0) } }
        return Self.find(base, bytes.count, in: last, lastCount).map { Copy(isWhole: false, at: $0) }
    }
    private static func find(
        _ inner: UnsafePointer<UInt8>, _ innerCount: Int, in outer: UnsafePointer<UInt8>, _ outerCount: Int
    ) -> Int? {
        let beginning = UnsafeRawPointer(inner).loadUnaligned(as: UInt64.self)
        let isAt = { (at: Int) in
            UnsafeRawPointer(outer + at).loadUnaligned(as: UInt64.self) == beginning && equal(outer + at, inner, innerCount)
        }
        let rest = outerCount - innerCount
        for at in 0...min(rest, large) where isAt(at) { return at }
        return rest > large && isAt(rest) ? rest : nil
    }
    private static func equal(_ left: UnsafePointer<UInt8>, _ right: UnsafePointer<UInt8>, _ count: Int) -> Bool {
        memcmp(left, right, count) == 0
    }

    /// Takes note of a large payload.
    func learn(large bytes: UnsafeRawBufferPointer) {
        guard bytes.count <= Self.mostRemembered, let base = bytes.baseAddress else { return }
        UnsafeMutableRawPointer(last).copyMemory(from: base, byteCount: bytes.count)
        lastCount = bytes.count
    }
}
