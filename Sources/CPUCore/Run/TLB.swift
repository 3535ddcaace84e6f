/// One entry of the software TLB: a page's tags per kind of access, and where it is on the host.
@frozen
package struct TLBEntry {
    /// The page's virtual address if it may be read (written, executed) with a plain host access, else `invalid`.
    package var read: UInt64
    package var write: UInt64
    package var execute: UInt64
    /// Host address of the page minus its virtual address.
    package var addend: UInt64

    /// No page's address: it has low bits set.
    package static let invalid: UInt64 = 0xFFF
    @inlinable package init() {
        read = Self.invalid
        write = Self.invalid
        execute = Self.invalid
        addend = 0
    }
}

/// A direct-mapped software TLB. What it holds is never visible to the guest: see `docs/architecture.md`, "The TLB
/// is coherent".
///
/// Entries below the upper half of the address space come and go with address spaces: the first of them since they were
/// last forgotten are listed, so that forgetting them takes no longer than entering them.
package struct TLB {
    /// Logarithm of the number of entries.
    package static let bits: UInt64 = 12
    package static let count = 1 << Int(bits)

    package let entries: UnsafeMutablePointer<TLBEntry>
    /// Indices of entries that are to be forgotten often, after how many there are; more than fit are not listed.
    private let list: UnsafeMutablePointer<Int32>
    private static let mostListed = 256

    package init() {
        self.init(at: .allocate(byteCount: Self.count * MemoryLayout<TLBEntry>.stride, alignment: 64))
    }

    /// In memory that belongs to somebody else.
    package init(at memory: UnsafeMutableRawPointer) {
        entries = memory.bindMemory(to: TLBEntry.self, capacity: Self.count)
        entries.initialize(repeating: TLBEntry(), count: Self.count)
        list = .allocate(capacity: Self.mostListed + 1)
        list.initialize(repeating: 0, count: Self.mostListed + 1)
    }

    /// Frees what it allocated but the entries.
    package func deallocate() { list.deallocate() }

    @inlinable @inline(__always)
    package static func index(_ address: UInt64) -> Int { Int((address >> 12) & UInt64(count - 1)) }

    /// Notes that the entry for a page of the lower half is about to be filled.
    package func willFill(_ index: Int) {
        let listed = Int(list[0])
        if listed > Self.mostListed { return }
        list[0] += 1
        if listed < Self.mostListed { list[1 + listed] = Int32(truncatingIfNeeded: index) }
    }

    package func flush() {
        entries.update(repeating: TLBEntry(), count: Self.count)
        list[0] = 0
    }

    /// Forgets the page at `linear`, if it is here.
    @inlinable
    package func forget(page linear: UInt64) {
        let entry = entries + Self.index(linear)
        if entry.pointee.read == linear || entry.pointee.write == linear || entry.pointee.execute == linear {
            entry.pointee = TLBEntry()
        }
    }

    /// Forgets all pages below `limit`, where the upper half begins.
    package func flush(below limit: UInt64) {
        let listed = Int(list[0])
        if listed <= Self.mostListed {
            for number in 0..<listed {
                let index = Int(list[1 + number])
                if entries[index].read < limit { entries[index] = TLBEntry() }
            }
        } else {
            for index in 0..<Self.count where entries[index].read < limit { entries[index] = TLBEntry() }
        }
        list[0] = 0
    }

    /// Forgets all pages from `first` to `last`, which is the last byte of a page; all of the lower half.
    package func forget(from first: UInt64, through last: UInt64) {
        let listed = Int(list[0])
        if listed <= Self.mostListed {
            for number in 0..<listed { forget(entry: Int(list[1 + number]), first, last) }
            return
        }
        // A page has one place where it can be.
        let pages = (last &- first) >> 12 &+ 1
        for page in 0..<min(Int(clamping: pages), Self.count) {
            forget(entry: Self.index(first &+ UInt64(page) << 12), first, last)
        }
    }

    @inline(__always)
    private func forget(entry index: Int, _ first: UInt64, _ last: UInt64) {
        let entry = entries[index]
        if entry.read >= first && entry.read <= last || entry.write >= first && entry.write <= last
            || entry.execute >= first && entry.execute <= last
        {
            entries[index] = TLBEntry()
        }
    }

    /// Takes the plain right to write away from every entry: the next write of each page is seen.
    package func protectAll() {
        for index in 0..<Self.count { entries[index].write = TLBEntry.invalid }
    }

    /// Takes the plain right to write away from every entry that maps the host page at `host`.
    package func protect(hostPage host: UInt64) {
        for index in 0..<Self.count { protect(hostPage: host, at: index) }
    }

    /// The same, if it is the entry at `index` that does.
    @inline(__always)
    package func protect(hostPage host: UInt64, at index: Int) {
        if entries[index].write != TLBEntry.invalid, entries[index].write &+ entries[index].addend == host {
            entries[index].write = TLBEntry.invalid
        }
    }
}
