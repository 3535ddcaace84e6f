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
package struct TLB {
    /// Logarithm of the number of entries.
    package static let bits: UInt64 = 10
    package static let count = 1 << Int(bits)

    package let entries: UnsafeMutablePointer<TLBEntry>

    package init() {
        entries = .allocate(capacity: Self.count)
        entries.initialize(repeating: TLBEntry(), count: Self.count)
    }

    /// In memory that belongs to somebody else.
    package init(at memory: UnsafeMutableRawPointer) {
        entries = memory.bindMemory(to: TLBEntry.self, capacity: Self.count)
        entries.initialize(repeating: TLBEntry(), count: Self.count)
    }

    @inlinable @inline(__always)
    package static func index(_ address: UInt64) -> Int { Int((address >> 12) & UInt64(count - 1)) }

    package func flush() { entries.update(repeating: TLBEntry(), count: Self.count) }

    /// Forgets the page that `address` lies in.
    package func flush(page address: UInt64) { entries[Self.index(address)] = TLBEntry() }

    /// Forgets the page at `linear`, if it is here.
    @inlinable
    package func forget(page linear: UInt64) {
        let entry = entries + Self.index(linear)
        if entry.pointee.read == linear || entry.pointee.write == linear || entry.pointee.execute == linear {
            entry.pointee = TLBEntry()
        }
    }

    /// Forgets all pages below `limit`.
    package func flush(below limit: UInt64) {
        for index in 0..<Self.count where entries[index].read < limit {
            entries[index] = TLBEntry()
        }
    }

    /// Takes the plain right to write away from every entry: the next write of each page is seen.
    package func protectAll() {
        for index in 0..<Self.count { entries[index].write = TLBEntry.invalid }
    }

    /// Takes the plain right to write away from every entry that maps the host page at `host`.
    package func protect(hostPage host: UInt64) {
        for index in 0..<Self.count where entries[index].write != TLBEntry.invalid {
            if entries[index].write &+ entries[index].addend == host { entries[index].write = TLBEntry.invalid }
        }
    }
}
