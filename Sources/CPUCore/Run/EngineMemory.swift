/// One piece of memory with the CPU's state and the tables that engines look at all the time: generated code reaches all
/// of it by displacements from one register.
package struct EngineMemory {
    /// The CPU's state; not initialised.
    package let state: UnsafeMutableRawPointer
    package let supervisorTLB: TLB
    package let userTLB: TLB
    /// Where generated code for a PC begins; see `EntryTable`.
    package let entries: UnsafeMutablePointer<EntryTable.Entry>

    /// By memory access of generated code, the place of the TLB entry that it used last, in bytes from the TLB's
    /// beginning.
    package let sites: UnsafeMutablePointer<UInt32>
    package static let siteCount = 1 << 20
    /// How often that was another entry: when for the last time (position, low 32 bits), and how often soon after that.
    package struct SiteMisses {
        package var last: UInt32 = 0
        package var count: UInt32 = 0
    }
    package let siteMisses: UnsafeMutablePointer<SiteMisses>
    private let size: Int

    /// - Parameter stateSize: bytes.
    package init(stateSize: Int) {
        let stateBytes = (stateSize + 4095) & ~4095
        let tlbBytes = TLB.count * MemoryLayout<TLBEntry>.stride
        let entryBytes = EntryTable.count * MemoryLayout<EntryTable.Entry>.stride
        let siteBytes = Self.siteCount * MemoryLayout<UInt32>.stride
        size = stateBytes + 2 * tlbBytes + entryBytes + siteBytes + Self.siteCount * MemoryLayout<SiteMisses>.stride
        guard let base = LargeMemory.map((size + 4095) & ~4095, isDense: true) else {
            preconditionFailure("no address space for the processor's state")
        }
        state = base
        supervisorTLB = TLB(at: base + stateBytes)
        userTLB = TLB(at: base + stateBytes + tlbBytes)
        entries = (base + stateBytes + 2 * tlbBytes).bindMemory(to: EntryTable.Entry.self, capacity: EntryTable.count)
        entries.initialize(repeating: EntryTable.Entry(), count: EntryTable.count)
        // Zeroes, from the host.
        let behind = base + stateBytes + 2 * tlbBytes + entryBytes
        sites = behind.bindMemory(to: UInt32.self, capacity: Self.siteCount)
        siteMisses = (behind + siteBytes).bindMemory(to: SiteMisses.self, capacity: Self.siteCount)
    }

    package func deallocate() {
        supervisorTLB.deallocate()
        userTLB.deallocate()
        LargeMemory.unmap(state, (size + 4095) & ~4095)
    }
}

/// The jump cache of generated code.
package enum EntryTable {
    package struct Entry {
        /// The PC, and what is unusual in the mode: different for any two blocks of a part, as bits 63...47 of a PC are alike.
        /// `empty` when unused.
        package var key: UInt64 = Entry.empty
        /// Host address.
        package var code: UInt64 = 0
        package static let empty: UInt64 = 0x7FFF_5555_5555_5555
    }
    /// Supervisor's blocks have the first part, user's the second, which is small because it is often cleared.
    package static let supervisorCount = 1 << 16
    package static let userCount = 1 << 12
    package static let count = supervisorCount + userCount

    /// The part for a mode: its first index, and the mask of what is added.
    @inlinable @inline(__always)
    package static func part(_ mode: UInt32) -> (first: Int, mask: UInt64) {
        mode & BlockCache.userBit == 0 ? (0, UInt64(supervisorCount - 1)) : (supervisorCount, UInt64(userCount - 1))
    }

    /// The mode of most code that is worth the trouble: 64-bit, protected. Its keys are the PCs.
    package static let usualMode: UInt32 = 2 | 1 << 4
    /// What makes a PC a key, by exclusive or. The parts keep user code and supervisor code apart.
    @inlinable @inline(__always)
    package static func tag(_ mode: UInt32) -> UInt64 { UInt64((mode ^ usualMode) & ~BlockCache.userBit) << 48 }
    @inlinable @inline(__always)
    package static func key(_ pc: UInt64, _ mode: UInt32) -> UInt64 { pc ^ tag(mode) }
    @inlinable @inline(__always)
    package static func index(_ pc: UInt64, _ mode: UInt32) -> Int {
        let (first, mask) = part(mode)
        return Int((pc ^ (pc >> 12)) & mask) + first
    }
}
