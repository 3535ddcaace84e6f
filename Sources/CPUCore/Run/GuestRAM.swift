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
    /// Plain writes do not reach the page: it is ROM, or shadow RAM that is not both readable and writable.
    package static let guarded: UInt8 = 8

    /// Bytes of everything: RAM, then video memory, then ROM. A multiple of 4096.
    package let size: Int
    /// Bytes of RAM.
    package let ramSize: Int
    /// Bytes of video memory, and where it begins in all.
    package let videoSize: Int
    package var videoOffset: Int { ramSize }
    /// Bytes of ROM, which ends at 4 GiB; its last 128 KiB are at 0xE0000 too, where shadow RAM is not read.
    package let romSize: Int
    package var romOffset: Int { ramSize + videoSize }
    package let base: UnsafeMutableRawPointer
    package let pageCount: Int
    /// Flags per page.
    package let pageFlags: UnsafeMutablePointer<UInt8>
    /// Where RAM lies in the physical address space: [0, lowSize) but for the hole, and [4 GiB, 4 GiB + size - lowSize).
    package let lowSize: UInt64
    /// Physical addresses below `lowSize` that are not RAM: the video adapter's window.
    package let holeStart: UInt64
    package let holeEnd: UInt64
    /// Where shadow RAM begins, which `setShadow` switches: from here to 1 MiB.
    package static let shadowStart: UInt64 = 0xC_0000
    private static let shadowEnd: UInt64 = 0x10_0000
    /// Pages of shadow RAM that are read, and that are written; bit 0 is the page at `shadowStart`.
    private var shadowReads = UInt64.max
    private var shadowWrites = UInt64.max
    /// The physical address of the video memory; `UInt64.max` while it has none.
    package var videoBase = UInt64.max
    private let romBase: UInt64

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
    ///   - videoSize: bytes of video memory that can be mapped.
    ///   - romSize: bytes of ROM below 4 GiB; 0 or at least 128 KiB.
    package init(
        size ramSize: Int, lowLimit: UInt64 = 0xC000_0000, hole: Range<UInt64> = 0xA0000..<0xC0000, videoSize: Int = 0,
        romSize: Int = 0
    ) {
        precondition(ramSize > 0 && ramSize % 4096 == 0 && videoSize % 4096 == 0 && romSize % 4096 == 0)
        precondition(romSize == 0 || (0x2_0000...0x100_0000).contains(romSize), "the ROM has 128 KiB to 16 MiB")
        self.ramSize = ramSize
        self.videoSize = videoSize
        self.romSize = romSize
        let size = ramSize + videoSize + romSize
        self.size = size
        romBase = 0x1_0000_0000 - UInt64(romSize)
        guard let memory = LargeMemory.map(size, isDense: false) else {
            preconditionFailure("no address space for \(size) bytes of guest RAM")
        }
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
        lowSize = min(UInt64(ramSize), lowLimit)
        holeStart = hole.lowerBound
        holeEnd = hole.upperBound
        for page in (ramSize + videoSize) / 4096..<pageCount { pageFlags[page] = Self.guarded }
    }

    deinit {
        LargeMemory.unmap(base, size)
        pageFlags.deallocate()
        pageDigests.deallocate()
        dirty.deallocate()
        touched.deallocate()
        marks.deallocate()
    }

    /// The offset into the memory of what is read at a physical address, or nil when there is no memory.
    @inlinable
    package func offset(of physical: UInt64) -> Int? {
        if physical < lowSize {
            return physical >= holeStart && physical < 0x10_0000 ? legacyOffset(physical) : Int(physical)
        }
        return highOffset(physical)
    }

    /// The same for what is written: nil for ROM too.
    @inlinable
    package func writableOffset(of physical: UInt64) -> Int? {
        if physical < lowSize {
            return physical >= holeStart && physical < 0x10_0000 ? writableLegacyOffset(physical) : Int(physical)
        }
        guard let offset = highOffset(physical), offset < romOffset else { return nil }
        return offset
    }

    @usableFromInline
    func highOffset(_ physical: UInt64) -> Int? {
        if physical >= 0x1_0000_0000 {
            let offset = (physical - 0x1_0000_0000) &+ lowSize
            return offset < UInt64(ramSize) ? Int(offset) : nil
        }
        if physical >= romBase { return Int(physical - romBase) + romOffset }
        if physical >= videoBase, physical - videoBase < UInt64(videoSize) {
            return Int(physical - videoBase) + videoOffset
        }
        return nil
    }

    /// From the hole to 1 MiB.
    @usableFromInline
    func legacyOffset(_ physical: UInt64) -> Int? {
        if physical < holeEnd { return nil }
        if physical < Self.shadowStart || shadowReads >> ((physical - Self.shadowStart) >> 12) & 1 != 0 { return Int(physical) }
        return romSize > 0 && physical >= 0xE_0000 ? size - Int(Self.shadowEnd - physical) : nil
    }
    @usableFromInline
    func writableLegacyOffset(_ physical: UInt64) -> Int? {
        if physical < holeEnd { return nil }
        if physical < Self.shadowStart || shadowWrites >> ((physical - Self.shadowStart) >> 12) & 1 != 0 { return Int(physical) }
        return nil
    }

    /// Switches pages of shadow RAM (bit 0 is the page at 0xC0000) for reads and for writes. Nothing translated is valid
    /// afterwards.
    package func setShadow(reads: UInt64, writes: UInt64) {
        shadowReads = reads
        shadowWrites = writes
        for index in 0..<64 {
            let page = Int(Self.shadowStart >> 12) + index
            if (reads & writes) >> UInt64(index) & 1 != 0 {
                pageFlags[page] &= ~Self.guarded
            } else {
                pageFlags[page] |= Self.guarded
            }
        }
    }

    /// Puts the ROM's contents in place, which end at its end.
    package func loadROM(_ bytes: [UInt8]) {
        let count = min(bytes.count, romSize)
        bytes.withUnsafeBytes {
            (base + size - count).copyMemory(from: $0.baseAddress! + (bytes.count - count), byteCount: count)
        }
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
