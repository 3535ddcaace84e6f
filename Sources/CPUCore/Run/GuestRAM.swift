import Glibc

/// The guest's RAM and what is known of each 4 KiB page of it.
///
/// A page's flags are not zero while plain writes must be seen: it holds translated code, or page tables, or has not
/// been written since the last digest. See `docs/architecture.md`, "Pages that are watched".
package final class GuestRAM {
    /// Blocks were translated from this page.
    package static let code: UInt8 = 1
    /// A page walk read this page while TLB entries derived from it may live.
    package static let pageTable: UInt8 = 2
    /// Unchanged since its digest or a checkpoint was last taken: the next write must be noted.
    package static let clean: UInt8 = 4

    /// Bytes. A multiple of 4096.
    package let size: Int
    package let base: UnsafeMutableRawPointer
    package let pageCount: Int
    /// Flags per page.
    package let pageFlags: UnsafeMutablePointer<UInt8>
    /// Where RAM lies in the physical address space: [0, lowSize) but for the hole, and [4 GiB, 4 GiB + size - lowSize).
    package let lowSize: UInt64
    /// Physical addresses below `lowSize` that are not RAM: the video adapter's window.
    package let holeStart: UInt64
    package let holeEnd: UInt64

    /// Digest per page as of the last `digest()`, and their sum.
    private let pageDigests: UnsafeMutablePointer<UInt64>
    private var total: UInt64 = 0
    private var dirty: UnsafeMutablePointer<UInt32>
    private var dirtyCount = 0
    /// Pages written since the last `takeTouched`.
    private var touched: UnsafeMutablePointer<UInt32>
    private var touchedCount = 0
    /// Per page: which of the two lists it is in.
    private let marks: UnsafeMutablePointer<UInt8>
    private static let inDirty: UInt8 = 1
    private static let inTouched: UInt8 = 2

    /// - Parameters:
    ///   - size: bytes, a multiple of 4096.
    ///   - lowLimit: RAM up to this physical address (a multiple of 4096), the rest from 4 GiB.
    package init(size: Int, lowLimit: UInt64 = 0xC000_0000, hole: Range<UInt64> = 0xA0000..<0xC0000) {
        precondition(size > 0 && size % 4096 == 0)
        self.size = size
        let memory = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)!
        precondition(memory != MAP_FAILED, "no address space for \(size) bytes of guest RAM")
        base = memory
        pageCount = size / 4096
        pageFlags = .allocate(capacity: pageCount)
        pageFlags.initialize(repeating: Self.clean, count: pageCount)
        pageDigests = .allocate(capacity: pageCount)
        pageDigests.initialize(repeating: 0, count: pageCount)
        dirty = .allocate(capacity: pageCount)
        dirty.initialize(repeating: 0, count: pageCount)
        touched = .allocate(capacity: pageCount)
        touched.initialize(repeating: 0, count: pageCount)
        marks = .allocate(capacity: pageCount)
        marks.initialize(repeating: 0, count: pageCount)
        lowSize = min(UInt64(size), lowLimit)
        holeStart = hole.lowerBound
        holeEnd = hole.upperBound
    }

    deinit {
        munmap(base, size)
        pageFlags.deallocate()
        pageDigests.deallocate()
        dirty.deallocate()
        touched.deallocate()
        marks.deallocate()
    }

    /// The offset into RAM of a physical address, or nil when there is no RAM.
    @inlinable
    package func offset(of physical: UInt64) -> Int? {
        if physical < lowSize { return physical >= holeStart && physical < holeEnd ? nil : Int(physical) }
        if physical >= 0x1_0000_0000 {
            let offset = (physical - 0x1_0000_0000) &+ lowSize
            if offset < UInt64(size) { return Int(offset) }
        }
        return nil
    }

    /// Notes that a page is about to change. Its `clean` flag goes.
    @inlinable
    package func markDirty(page: Int) {
        if pageFlags[page] & Self.clean != 0 { noteDirty(page) }
    }

    @usableFromInline
    func noteDirty(_ page: Int) {
        pageFlags[page] &= ~Self.clean
        if marks[page] & Self.inDirty == 0 {
            dirty[dirtyCount] = UInt32(truncatingIfNeeded: page)
            dirtyCount += 1
        }
        if marks[page] & Self.inTouched == 0 {
            touched[touchedCount] = UInt32(truncatingIfNeeded: page)
            touchedCount += 1
        }
        marks[page] = Self.inDirty | Self.inTouched
    }

    /// Calls `body` for every page written since the last call, in the order of their first writes. The caller must
    /// then take the plain right to write from all TLBs.
    package func takeTouched(_ body: (Int) -> Void) {
        for index in 0..<touchedCount {
            let page = Int(touched[index])
            body(page)
            marks[page] &= ~Self.inTouched
            pageFlags[page] |= Self.clean
        }
        touchedCount = 0
    }

    /// Digest of all RAM. Only pages written since the last call are read. The caller must then take the plain right
    /// to write from all TLBs.
    package func digest() -> UInt64 {
        for index in 0..<dirtyCount {
            let page = Int(dirty[index])
            let digest = digest(ofPage: page)
            total = total &- pageDigests[page] &+ digest
            pageDigests[page] = digest
            marks[page] &= ~Self.inDirty
            pageFlags[page] |= Self.clean
        }
        dirtyCount = 0
        return total
    }

    /// A page's contribution: 0 for a page of zeros, so that untouched memory costs nothing.
    private func digest(ofPage page: Int) -> UInt64 {
        let words = (base + page * 4096).assumingMemoryBound(to: UInt64.self)
        var a: UInt64 = 0
        var b: UInt64 = 0
        var any: UInt64 = 0
        var index = 0
        while index < 512 {
            let x = words[index]
            let y = words[index + 1]
            any |= x | y
            a = ((a ^ x) &* 0xFF51_AFD7_ED55_8CCD)
            a ^= a >> 29
            b = ((b ^ y) &* 0xC4CE_B9FE_1A85_EC53)
            b ^= b >> 31
            index += 2
        }
        if any == 0 { return 0 }
        let mixed = (a ^ (b << 1 | b >> 63)) &+ UInt64(page) &* 0x9E37_79B9_7F4A_7C15
        return (mixed ^ (mixed >> 32)) &* 0xD6E8_FEB8_6659_FD93
    }
}
