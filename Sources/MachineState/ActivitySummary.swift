/// What may have happened in a stretch of a run: which code was executed, which memory written, which vectors
/// delivered. May say yes too often, never no wrongly. Searches leave out stretches by it.
package struct ActivitySummary: Sendable, Equatable {
    /// Words of each of the two filters.
    package static let filterWords = 1024
    /// Code filter, write filter, vectors (4 words), and not 0 if a bus master has written RAM (1 word).
    package static let words = 2 * filterWords + 5
    package static let vectors = 2 * filterWords
    package static let dma = 2 * filterWords + 4

    package private(set) var bits: [UInt64]

    /// - Parameter bits: `words` words.
    package init(_ bits: UnsafePointer<UInt64>) {
        self.bits = Array(UnsafeBufferPointer(start: bits, count: Self.words))
    }
    /// From a file; nil when there are not `words` words.
    package init?(_ bits: [UInt64]) {
        guard bits.count == Self.words else { return nil }
        self.bits = bits
    }

    /// The bit, of 65536, that stands for a number.
    @inlinable @inline(__always)
    package static func slot(_ number: UInt64) -> Int { Int((number &* 0x9E37_79B9_7F4A_7C15) >> 48) }

    /// Code lines are 64 bytes, by linear address.
    package func mayExecute(_ linear: UInt64) -> Bool {
        let slot = Self.slot(linear >> 6)
        return bits[slot >> 6] >> UInt64(slot & 63) & 1 != 0
    }
    /// Written memory is known by pages, by linear address.
    package func mayWrite(_ start: UInt64, _ length: UInt64) -> Bool {
        if bits[Self.dma] != 0 || length > 1 << 20 { return true }
        var page = start >> 12
        let last = (start &+ length &- 1) >> 12
        while true {
            let slot = Self.slot(page)
            if bits[Self.filterWords + (slot >> 6)] >> UInt64(slot & 63) & 1 != 0 { return true }
            if page == last { return false }
            page = (page &+ 1) & (.max >> 12)
        }
    }
    package func mayDeliver(_ vector: UInt8) -> Bool {
        bits[Self.vectors + Int(vector >> 6)] >> UInt64(vector & 63) & 1 != 0
    }
}
