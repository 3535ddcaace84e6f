import CPUCore
import Glibc

/// Kinds of access, as far as protection is concerned.
package struct Access: OptionSet, Sendable {
    package let rawValue: UInt8
    @inlinable package init(rawValue: UInt8) { self.rawValue = rawValue }
    package static let write = Access(rawValue: 1)
    package static let execute = Access(rawValue: 2)
    /// By CPL 3. Accesses to descriptor tables and task states are the supervisor's at any CPL.
    package static let user = Access(rawValue: 4)
}

extension X86CPU {
    /// A page as a walk found it.
    struct Translation {
        /// Physical address, bit 20 masked if A20 is off.
        var physical: UInt64
        /// Writes are allowed, and the dirty bit is set.
        var isWritable: Bool
    }

    private static let present: UInt64 = 1
    private static let writable: UInt64 = 2
    private static let user: UInt64 = 4
    private static let accessed: UInt64 = 0x20
    private static let dirty: UInt64 = 0x40
    private static let large: UInt64 = 0x80
    private static let noExecute: UInt64 = 1 << 63
    /// Physical addresses have 40 bits (CPUID 80000008h).
    static let physicalBits: UInt64 = 40
    private static let reservedHigh: UInt64 = (1 << 52) - (1 << physicalBits)
    private static let frame: UInt64 = 0x000F_FFFF_FFFF_F000

    /// Linear → physical (SDM volume 3, chapter 4). Nil: a page fault has been noted.
    @inline(never)
    func translate(_ linear: UInt64, _ access: Access) -> Translation? {
        let state = self.state
        let cr0 = state.pointee.cr0
        if cr0 & CR0.pg == 0 {
            return Translation(physical: linear & 0xFFFF_FFFF & state.pointee.a20Mask, isWritable: true)
        }
        let cr4 = state.pointee.cr4
        if cr4 & CR4.pae == 0 { return translate32(linear, access, cr0, cr4) }
        let isLong = state.pointee.efer & EFER.lma != 0
        let hasNX = state.pointee.efer & EFER.nxe != 0
        var table = state.pointee.cr3 & (isLong ? Self.frame : 0xFFFF_FFE0)
        var shift: UInt64 = isLong ? 39 : 30
        var rights: UInt64 = Self.writable | Self.user
        var nx: UInt64 = 0
        while true {
            let isTop3 = !isLong && shift == 30
            let address = table &+ ((linear >> shift) & (isTop3 ? 3 : 511)) << 3
            // What the table maps: the top one everything, from 0 on; that of PAE's third level is no page.
            let span: UInt64 = 1 << (shift + 9)
            let base = isTop3 ? Self.manyBases : (shift == 39 ? 0 : linear & ~(span - 1)) | shift
            guard let entry = readTable(address, size: 8, maps: base) else { return pageFault(linear, access, 0) }
            if entry & Self.present == 0 { return pageFault(linear, access, 0) }
            var reserved = Self.reservedHigh
            if !hasNX { reserved |= Self.noExecute }
            let isLeaf = shift == 12 || (entry & Self.large != 0 && (shift == 21 || shift == 30) && !isTop3)
            if isTop3 {
                reserved |= 0x1E6 | Self.noExecute
            } else if shift == 39 || (shift == 30 && !isLeaf) {
                reserved |= shift == 39 ? Self.large : 0
            }
            if isLeaf, shift > 12 { reserved |= ((1 << shift) - 1) & ~0x1FFF }
            if !isLong { reserved |= 0x7FF0_0000_0000_0000 }
            if entry & reserved != 0 { return pageFault(linear, access, 1 | 8) }
            if !isTop3 {
                rights &= entry
                nx |= entry & Self.noExecute
            }
            if !isLeaf {
                if entry & Self.accessed == 0, !isTop3 { writeTable(address, entry | Self.accessed, size: 8) }
                table = entry & Self.frame
                shift -= 9
                continue
            }
            guard isAllowed(rights, nx != 0, access, cr0, cr4) else { return pageFault(linear, access, 1) }
            let isWrite = access.contains(.write)
            let updated = entry | Self.accessed | (isWrite ? Self.dirty : 0)
            if updated != entry { writeTable(address, updated, size: 8) }
            let mask: UInt64 = (1 << shift) - 1
            return Translation(
                physical: ((entry & Self.frame & ~mask) | (linear & mask)) & state.pointee.a20Mask,
                isWritable: updated & Self.dirty != 0 && mayWrite(rights, access, cr0))
        }
    }

    /// Two-level paging with 4 KiB and 4 MiB pages.
    private func translate32(_ linear: UInt64, _ access: Access, _ cr0: UInt64, _ cr4: UInt64) -> Translation? {
        let a20 = state.pointee.a20Mask
        let directory = (state.pointee.cr3 & 0xFFFF_F000) &+ ((linear >> 22) & 1023) << 2
        guard let pde = readTable(directory, size: 4, maps: 22), pde & Self.present != 0 else {
            return pageFault(linear, access, 0)
        }
        let isWrite = access.contains(.write)
        if pde & Self.large != 0, cr4 & CR4.pse != 0 {
            // PSE-36 is not advertised: bits 21...13 must be 0.
            if pde & 0x003F_E000 != 0 { return pageFault(linear, access, 1 | 8) }
            guard isAllowed(pde, false, access, cr0, cr4) else { return pageFault(linear, access, 1) }
            let updated = pde | Self.accessed | (isWrite ? Self.dirty : 0)
            if updated != pde { writeTable(directory, updated, size: 4) }
            return Translation(
                physical: ((pde & 0xFFC0_0000) | (linear & 0x3F_FFFF)) & a20,
                isWritable: updated & Self.dirty != 0 && mayWrite(pde, access, cr0))
        }
        let address = (pde & 0xFFFF_F000) &+ ((linear >> 12) & 1023) << 2
        guard let pte = readTable(address, size: 4, maps: linear & ~0x3F_FFFF | 12), pte & Self.present != 0 else {
            return pageFault(linear, access, 0)
        }
        let rights = pde & pte
        guard isAllowed(rights, false, access, cr0, cr4) else { return pageFault(linear, access, 1) }
        if pde & Self.accessed == 0 { writeTable(directory, pde | Self.accessed, size: 4) }
        let updated = pte | Self.accessed | (isWrite ? Self.dirty : 0)
        if updated != pte { writeTable(address, updated, size: 4) }
        return Translation(
            physical: ((pte & 0xFFFF_F000) | (linear & 0xFFF)) & a20,
            isWritable: updated & Self.dirty != 0 && mayWrite(rights, access, cr0))
    }

    private func mayWrite(_ rights: UInt64, _ access: Access, _ cr0: UInt64) -> Bool {
        rights & Self.writable != 0 || (!access.contains(.user) && cr0 & CR0.wp == 0)
    }

    private func isAllowed(_ rights: UInt64, _ nx: Bool, _ access: Access, _ cr0: UInt64, _ cr4: UInt64) -> Bool {
        let isUserPage = rights & Self.user != 0
        if access.contains(.user), !isUserPage { return false }
        if access.contains(.write), !mayWrite(rights, access, cr0) { return false }
        if access.contains(.execute) {
            if nx { return false }
            if isUserPage, !access.contains(.user), cr4 & CR4.smep != 0 { return false }
        }
        return true
    }

    /// Notes #PF. `code`: bit 0 protection, bit 3 reserved bit.
    private func pageFault(_ linear: UInt64, _ access: Access, _ code: UInt32) -> Translation? {
        var error = code
        if access.contains(.write) { error |= 2 }
        if access.contains(.user) { error |= 4 }
        let hasFetchBit =
            state.pointee.cr4 & CR4.smep != 0
            || (state.pointee.efer & EFER.nxe != 0 && state.pointee.cr4 & CR4.pae != 0)
        if access.contains(.execute), hasFetchBit { error |= 16 }
        _ = state.pointee.raise(.pageFault, error: error)
        state.pointee.exceptionAddress = linear
        return nil
    }

    /// A paging-structure entry. From now on writes to its page are seen. Tables outside RAM read as not present.
    /// - Parameter base: see `tableBase`.
    private func readTable(_ address: UInt64, size: Int, maps base: UInt64) -> UInt64? {
        guard let offset = ram.offset(of: address & state.pointee.a20Mask) else { return nil }
        let page = offset >> 12
        if ram.pageFlags[page] & GuestRAM.pageTable == 0 {
            tableBase[page] = base
            watchTable(page)
        } else if tableBase[page] != base {
            tableBase[page] = Self.manyBases
        }
        let host = ram.base + offset
        return size == 8 ? host.load(as: UInt64.self) : UInt64(host.load(as: UInt32.self))
    }

    /// Sets accessed and dirty bits: derived TLB entries stay right.
    private func writeTable(_ address: UInt64, _ value: UInt64, size: Int) {
        guard let offset = ram.writableOffset(of: address & state.pointee.a20Mask) else { return }
        let page = offset >> 12
        ram.markDirty(page: page)
        if ram.pageFlags[page] & GuestRAM.code != 0, blocks.willWrite(page: page, offset: offset & 0xFFF, length: size) {
            state.pointee.core.exitRequest |= ExitRequest.code
        }
        if size == 8 {
            (ram.base + offset).storeBytes(of: value, as: UInt64.self)
        } else {
            (ram.base + offset).storeBytes(of: UInt32(truncatingIfNeeded: value), as: UInt32.self)
        }
    }

    @inline(never)
    private func watchTable(_ page: Int) {
        if watchedTables.count == watchedTables.capacity { dropUnwatched(&watchedTables) }
        ram.pageFlags[page] |= GuestRAM.pageTable
        watchedTables.append(Int32(page))
        if !speaksForUpperHalf(page) {
            if lowerTables.count == lowerTables.capacity { dropUnwatched(&lowerTables) }
            lowerTables.append(Int32(page))
        }
        protect(page: page)
    }

    /// Whether a table maps something of the upper half, as far as is known.
    private func speaksForUpperHalf(_ page: Int) -> Bool {
        let base = tableBase[page]
        // Top tables have both halves.
        return base == Self.manyBases || base & 0xFFF == 39 || base & 0xFFF == 22 || isUpperHalf(base)
    }

    /// Nothing is known of the lower half any more: its tables may become anything.
    private func unwatchLowerTables() {
        for page in lowerTables where !speaksForUpperHalf(Int(page)) { ram.pageFlags[Int(page)] &= ~GuestRAM.pageTable }
        lowerTables.removeAll(keepingCapacity: true)
    }

    /// Takes pages that are no longer watched, and repetitions, out of the list.
    private func dropUnwatched(_ list: inout [Int32]) {
        let isWatched = GuestRAM.pageTable
        list.removeAll {
            if ram.pageFlags[Int($0)] & isWatched == 0 { return true }
            ram.pageFlags[Int($0)] &= ~isWatched
            return false
        }
        for page in list { ram.pageFlags[Int(page)] |= isWatched }
        list.reserveCapacity(max(4096, 2 * list.count))
    }

    /// Takes the plain right to write a RAM page from the TLBs.
    func protect(page: Int) {
        let place = writableSince[page]
        guard WritablePlace.epoch(place) == tlbFlushes else { return }
        writableSince[page] = 0
        let host = UInt64(UInt(bitPattern: ram.base)) &+ UInt64(page) << 12
        if let (index, isUser) = WritablePlace.single(place) {
            return (isUser ? userTLB : supervisorTLB).protect(hostPage: host, at: index)
        }
        supervisorTLB.protect(hostPage: host)
        userTLB.protect(hostPage: host)
    }

    /// No address: a table that is used in several ways.
    static let manyBases = UInt64.max

    /// Forgets translations of the lower half of the address space; no supervisor's code is there.
    private func forgetLowerHalf(from first: UInt64, through last: UInt64) {
        supervisorTLB.forget(from: first, through: last)
        userTLB.forget(from: first, through: last)
        blocks.clearUserJumpCache()
        state.pointee.core.exitRequest |= ExitRequest.code
    }

    /// A present entry of a watched table, which begins at `offset` of RAM, is about to change: what was derived from it is forgotten.
    func tableWillChange(_ offset: Int) {
        let base = tableBase[offset >> 12]
        guard base != Self.manyBases else { return flushTLB() }
        let isWide = state.pointee.cr4 & CR4.pae != 0
        let host = ram.base + offset
        let old = isWide ? host.load(as: UInt64.self) : UInt64(host.load(as: UInt32.self))
        tlbChanges &+= 1
        let shift = base & 0xFFF
        var linear = base & ~0xFFF &+ UInt64((offset & 0xFFF) >> (isWide ? 3 : 2)) << shift
        if shift == 39 { linear = UInt64(bitPattern: Int64(bitPattern: linear << 16) >> 16) }
        if shift != 12 { return subtreeWillChange(linear, shift, old, isWide: isWide) }
        supervisorTLB.forget(page: linear)
        userTLB.forget(page: linear)
        // Blocks in the jump cache were found by this entry only if there is code in the page, and then at this address.
        guard let target = ram.offset(of: old & (isWide ? Self.frame : 0xFFFF_F000) & state.pointee.a20Mask) else { return }
        if ram.pageFlags[target >> 12] & GuestRAM.code != 0 {
            blocks.forgetMapping(of: linear, to: target >> 12)
            state.pointee.core.exitRequest |= ExitRequest.code
        }
    }

    /// The same for an entry that maps 1 << `shift` bytes from `linear` on, by another table or as a large page.
    private func subtreeWillChange(_ linear: UInt64, _ shift: UInt64, _ old: UInt64, isWide: Bool) {
        if isUpperHalf(linear) || supervisorRunsLow { return flushTLB() }
        forgetLowerHalf(from: linear, through: linear &+ (1 << shift &- 1))
        // Nothing is left that comes from the table below: the page may become anything.
        guard old & Self.large == 0 || shift > 30,
            let table = ram.offset(of: old & (isWide ? Self.frame : 0xFFFF_F000) & state.pointee.a20Mask),
            tableBase[table >> 12] == linear | (isWide ? shift - 9 : 12)
        else { return }
        ram.pageFlags[table >> 12] &= ~GuestRAM.pageTable
    }

    /// Forgets all translations; then no page of tables needs to be watched. What is being executed was found by them, too:
    /// it goes on by way of the run loop.
    func flushTLB() {
        state.pointee.core.exitRequest |= ExitRequest.code
        tlbChanges &+= 1
        tlbFlushes &+= 1
        supervisorTLB.flush()
        userTLB.flush()
        blocks.clearJumpCache()
        supervisorRunsLow = false
        for page in watchedTables { ram.pageFlags[Int(page)] &= ~GuestRAM.pageTable }
        watchedTables.removeAll(keepingCapacity: true)
        lowerTables.removeAll(keepingCapacity: true)
    }

    /// The upper half of the address space: the part that systems keep for themselves.
    func isUpperHalf(_ linear: UInt64) -> Bool {
        linear >= (state.pointee.efer & EFER.lma != 0 ? 1 << 63 : 0xC000_0000)
    }

    /// CR3 goes from `old` to the present value. When both top-level tables have the same upper half, as systems
    /// arrange it for themselves, then what is known of it stays right, and only the lower half is forgotten.
    func tablesChanged(from old: UInt64) {
        let isLong = state.pointee.efer & EFER.lma != 0
        let isPAE = state.pointee.cr4 & CR4.pae != 0
        let a20 = state.pointee.a20Mask
        guard state.pointee.cr0 & CR0.pg != 0, isLong || !isPAE, !supervisorRunsLow,
            let before = ram.offset(of: old & 0x000F_FFFF_FFFF_F000 & a20),
            let after = ram.offset(of: state.pointee.cr3 & 0x000F_FFFF_FFFF_F000 & a20),
            ram.pageFlags[before >> 12] & GuestRAM.pageTable != 0
        else { return flushTLB() }
        // 256 of 512 entries, 256 of 1024 entries.
        let (first, length) = isLong ? (2048, 2048) : (3072, 1024)
        guard memcmp(ram.base + before + first, ram.base + after + first, length) == 0 else { return flushTLB() }
        unwatchLowerTables()
        // The new table speaks for the upper half from now on.
        if ram.pageFlags[after >> 12] & GuestRAM.pageTable == 0 {
            tableBase[after >> 12] = isLong ? 39 : 22
            watchTable(after >> 12)
        }
        if before != after { ram.pageFlags[before >> 12] &= ~GuestRAM.pageTable }
        tlbChanges &+= 1
        // Not `flush`: this takes the listed ones only.
        userTLB.flush(below: .max)
        supervisorTLB.flush(below: isLong ? 1 << 63 : 0xC000_0000)
        blocks.clearUserJumpCache()
        state.pointee.core.exitRequest |= ExitRequest.code
    }
}
