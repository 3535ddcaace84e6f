/// One piece of memory with the CPU's state and the tables that engines look at all the time: generated code reaches all
/// of it by displacements from one register.
package struct EngineMemory {
    /// The CPU's state; not initialised.
    package let state: UnsafeMutableRawPointer
    package let supervisorTLB: TLB
    package let userTLB: TLB
    /// Where generated code for a PC begins; see `EntryTable`.
    package let entries: UnsafeMutablePointer<EntryTable.Entry>

    /// - Parameter stateSize: bytes.
    package init(stateSize: Int) {
        let stateBytes = (stateSize + 4095) & ~4095
        let tlbBytes = TLB.count * MemoryLayout<TLBEntry>.stride
        let size = stateBytes + 2 * tlbBytes + 2 * EntryTable.count * MemoryLayout<EntryTable.Entry>.stride
        let base = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 4096)
        state = base
        supervisorTLB = TLB(at: base + stateBytes)
        userTLB = TLB(at: base + stateBytes + tlbBytes)
        entries = (base + stateBytes + 2 * tlbBytes).bindMemory(to: EntryTable.Entry.self, capacity: 2 * EntryTable.count)
        entries.initialize(repeating: EntryTable.Entry(), count: 2 * EntryTable.count)
    }

    package func deallocate() { state.deallocate() }
}

/// The jump cache of generated code.
package enum EntryTable {
    package struct Entry {
        /// PC XOR mode << 48: different for any two blocks, as bits 63...47 of a PC are alike. `empty` when unused.
        package var key: UInt64 = Entry.empty
        /// Host address.
        package var code: UInt64 = 0
        package static let empty: UInt64 = 0x7FFF_5555_5555_5555
    }
    /// Of one half: as in the jump cache, user's blocks have the second.
    package static let count = 1 << 12

    @inlinable @inline(__always)
    package static func key(_ pc: UInt64, _ mode: UInt32) -> UInt64 { pc ^ UInt64(mode) << 48 }
    @inlinable @inline(__always)
    package static func index(_ pc: UInt64, _ mode: UInt32) -> Int {
        Int((pc ^ (pc >> 12)) & UInt64(count - 1)) + (mode & BlockCache.userBit == 0 ? 0 : count)
    }
}
