import CPUCore

/// Reasons for the engines to leave the block after the present instruction, as bits of `CoreState.exitRequest`.
package enum ExitRequest {
    /// Code was written that may be in the block.
    package static let code: UInt64 = 1
    /// A device was accessed: interrupts and deadlines may have changed.
    package static let device: UInt64 = 2
    /// The machine wants its turn.
    package static let machine: UInt64 = 4
    /// A data breakpoint was hit.
    package static let debug: UInt64 = 8
    /// The debugger outside wants to stop.
    package static let debugger: UInt64 = 16
    /// Interrupts are enabled, and one waits.
    package static let interrupt: UInt64 = 32
    /// What ends a slice of a repeated string instruction: the guest's doing only, never the state of our caches.
    package static let endsSlice: UInt64 = device | machine | debug
}

/// Memory accesses of helpers: linear addresses, through the TLB. Sizes 1, 2, 4 and 8 bytes.
///
/// nil or false: an exception has been noted, and the helper must return 1.
package enum GuestMemory {
    @inline(__always)
    package static func load(_ state: UnsafeMutablePointer<X86State>, _ linear: UInt64, size: Int) -> UInt64? {
        let entry = state.pointee.core.dataTLB[TLB.index(linear)]
        let offset = linear & 0xFFF
        if entry.read == linear &- offset, offset &+ UInt64(size) <= 4096 {
            let host = UnsafeRawPointer(bitPattern: UInt(linear &+ entry.addend)).unsafelyUnwrapped
            switch size {
            case 1: return UInt64(host.load(as: UInt8.self))
            case 2: return UInt64(host.loadUnaligned(as: UInt16.self))
            case 4: return UInt64(host.loadUnaligned(as: UInt32.self))
            default: return host.loadUnaligned(as: UInt64.self)
            }
        }
        if state.withCPU({ $0.slowLoad(linear, UInt64(size) << 48) }) != 0 { return nil }
        return state.pointee.core.transfer.x
    }

    @inline(__always)
    package static func store(
        _ state: UnsafeMutablePointer<X86State>, _ linear: UInt64, size: Int, _ value: UInt64
    ) -> Bool {
        let entry = state.pointee.core.dataTLB[TLB.index(linear)]
        let offset = linear & 0xFFF
        if entry.write == linear &- offset, offset &+ UInt64(size) <= 4096 {
            let host = UnsafeMutableRawPointer(bitPattern: UInt(linear &+ entry.addend)).unsafelyUnwrapped
            switch size {
            case 1: host.storeBytes(of: UInt8(truncatingIfNeeded: value), as: UInt8.self)
            case 2: host.storeBytes(of: UInt16(truncatingIfNeeded: value), as: UInt16.self)
            case 4: host.storeBytes(of: UInt32(truncatingIfNeeded: value), as: UInt32.self)
            default: host.storeBytes(of: value, as: UInt64.self)
            }
            return true
        }
        state.pointee.core.transfer.x = value
        return state.withCPU { $0.slowStore(linear, UInt64(size) << 48) } == 0
    }

    /// Checks that `length` bytes can be written: a helper that stores piecemeal calls it first, so that a fault
    /// leaves nothing half done.
    package static func checkWritable(
        _ state: UnsafeMutablePointer<X86State>, _ linear: UInt64, length: Int
    ) -> Bool {
        state.withCPU { cpu in
            var address = linear
            let last = linear &+ UInt64(length - 1)
            while true {
                guard cpu.isCanonical(address) else {
                    _ = state.pointee.raise(.generalProtection, error: 0)
                    return false
                }
                guard cpu.translate(address, cpu.dataAccess.union(.write)) != nil else { return false }
                if address & ~0xFFF == last & ~0xFFF { return true }
                address = (address & ~0xFFF) &+ 4096
            }
        }
    }

    /// Loads as the supervisor, whatever the CPL: descriptor tables and task states.
    package static func loadSystem(_ state: UnsafeMutablePointer<X86State>, _ linear: UInt64, size: Int) -> UInt64? {
        let saved = state.pointee.core.dataTLB
        state.pointee.core.dataTLB = state.withCPU { $0.supervisorTLB.entries }
        defer { state.pointee.core.dataTLB = saved }
        return load(state, linear, size: size)
    }
    package static func storeSystem(
        _ state: UnsafeMutablePointer<X86State>, _ linear: UInt64, size: Int, _ value: UInt64
    ) -> Bool {
        let saved = state.pointee.core.dataTLB
        state.pointee.core.dataTLB = state.withCPU { $0.supervisorTLB.entries }
        defer { state.pointee.core.dataTLB = saved }
        return store(state, linear, size: size, value)
    }
}

extension UnsafeMutablePointer where Pointee == X86State {
    /// Calls `body` with the CPU whose state this is, without retaining it: helpers do this millions of times a second.
    @inline(__always)
    package func withCPU<Result>(_ body: (X86CPU) -> Result) -> Result {
        Unmanaged<X86CPU>.fromOpaque(pointee.core.owner.unsafelyUnwrapped)._withUnsafeGuaranteedRef(body)
    }

    /// The CPU whose state this is, for what is rare.
    package var cpu: X86CPU {
        Unmanaged<X86CPU>.fromOpaque(pointee.core.owner.unsafelyUnwrapped).takeUnretainedValue()
    }
}

extension X86CPU {
    /// Protection of data accesses with the TLB in use.
    @inline(__always)
    var dataAccess: Access {
        let tlb = state.pointee.core.dataTLB
        if tlb == supervisorTLB.entries { return [] }
        if tlb == userTLB.entries { return .user }
        return state.pointee.cpl == 3 ? .user : []
    }

    @inline(__always)
    package func isCanonical(_ address: UInt64) -> Bool {
        UInt64(bitPattern: Int64(bitPattern: address << 16) >> 16) == address
    }

    /// The part of an access that both directions share: checks, then the physical addresses of its two halves.
    /// Returns not 0 when it faults.
    @inline(__always)
    private func prepare(
        _ linear: UInt64, _ attributes: UInt64, _ access: Access, _ first: inout Translation,
        _ second: inout Translation
    ) -> UInt64 {
        let size = (attributes >> 48) & 0xFF
        if attributes & Address.aligned != 0, linear & (size - 1) != 0 {
            return state.pointee.raise(.generalProtection, error: 0)
        }
        if !isCanonical(linear) || !isCanonical(linear &+ size &- 1) {
            return state.pointee.raise(
                attributes & Address.stack != 0 ? .stackFault : .generalProtection, error: 0)
        }
        if state.pointee.core.dataTLB == watchfulTLB.entries {
            if isAlignmentChecked, linear & (size - 1) != 0 { return state.pointee.raise(.alignmentCheck, error: 0) }
            checkDataBreakpoints(linear, Int(size), isWrite: access.contains(.write))
        }
        if !debugger.watches.isEmpty { checkWatches(linear, Int(size), isWrite: access.contains(.write)) }
        guard let translation = translate(linear, access) else { return 1 }
        first = translation
        if linear & 0xFFF &+ size > 4096 {
            var next = (linear & ~0xFFF) &+ 4096
            if state.pointee.efer & EFER.lma == 0 { next &= 0xFFFF_FFFF }
            guard let translation = translate(next, access) else { return 1 }
            second = translation
        }
        return 0
    }

    /// Loads 1...8 or 16 bytes into `core.transfer`. Returns not 0 when it faults.
    @inline(never)
    package func slowLoad(_ linear: UInt64, _ attributes: UInt64) -> UInt64 {
        let size = Int((attributes >> 48) & 0xFF)
        var access = dataAccess
        if attributes & EngineHooks.storeFollows != 0 { access.insert(.write) }
        var first = Translation(physical: 0, isWritable: false)
        var second = first
        if prepare(linear, attributes, access, &first, &second) != 0 { return 1 }
        let inFirst = min(size, 4096 - Int(linear & 0xFFF))
        if inFirst == size {
            if let offset = ram.offset(of: first.physical) {
                fill(linear, first, offset)
                if size == 16 {
                    state.pointee.core.transfer = (ram.base + offset).loadUnaligned(as: SIMD2<UInt64>.self)
                } else {
                    state.pointee.core.transfer.x = readRAM(offset, size)
                }
            } else if size == 16 {
                state.pointee.core.transfer.x = readDevice(first.physical, 8)
                state.pointee.core.transfer.y = readDevice(first.physical &+ 8, 8)
            } else {
                state.pointee.core.transfer.x = readDevice(first.physical, size)
            }
            return 0
        }
        var low: UInt64 = 0
        var high: UInt64 = 0
        for index in 0..<size {
            let physical =
                index < inFirst ? first.physical &+ UInt64(index) : second.physical &+ UInt64(index - inFirst)
            let byte = ram.offset(of: physical).map { readRAM($0, 1) } ?? readDevice(physical, 1)
            if index < 8 { low |= byte << UInt64(index * 8) } else { high |= byte << UInt64((index - 8) * 8) }
        }
        state.pointee.core.transfer = SIMD2(low, high)
        return 0
    }

    /// Stores 1...8 or 16 bytes from `core.transfer`. Returns not 0 when it faults.
    @inline(never)
    package func slowStore(_ linear: UInt64, _ attributes: UInt64) -> UInt64 {
        let size = Int((attributes >> 48) & 0xFF)
        let value = state.pointee.core.transfer
        var first = Translation(physical: 0, isWritable: false)
        var second = first
        if prepare(linear, attributes, dataAccess.union(.write), &first, &second) != 0 { return 1 }
        if activity.isOn {
            activity.written(linear)
            activity.written(linear &+ UInt64(size - 1))
        }
        let inFirst = min(size, 4096 - Int(linear & 0xFFF))
        if inFirst == size {
            if let offset = ram.writableOffset(of: first.physical) {
                let changes = tlbChanges
                willWriteRAM(offset, size)
                if size == 16 {
                    (ram.base + offset).storeBytes(of: value, as: SIMD2<UInt64>.self)
                } else {
                    writeRAM(offset, size, value.x)
                }
                // A store to a page table may have changed what `first` comes from, or ended the watch over it; and shadow
                // RAM that is not read is not what a load would find here.
                if tlbChanges == changes, ram.pageFlags[offset >> 12] & GuestRAM.guarded == 0 {
                    fill(linear, first, offset)
                }
            } else if size == 16 {
                writeDevice(first.physical, 8, value.x)
                writeDevice(first.physical &+ 8, 8, value.y)
            } else {
                writeDevice(first.physical, size, value.x)
            }
            return 0
        }
        for index in 0..<size {
            let physical =
                index < inFirst ? first.physical &+ UInt64(index) : second.physical &+ UInt64(index - inFirst)
            let byte = (index < 8 ? value.x >> UInt64(index * 8) : value.y >> UInt64((index - 8) * 8)) & 0xFF
            if let offset = ram.writableOffset(of: physical) {
                willWriteRAM(offset, 1)
                writeRAM(offset, 1, byte)
            } else {
                writeDevice(physical, 1, byte)
            }
        }
        return 0
    }

    /// Enters a RAM page into the TLB in use.
    @inline(__always)
    private func fill(_ linear: UInt64, _ translation: Translation, _ offset: Int) {
        let tlb = state.pointee.core.dataTLB
        if tlb == watchfulTLB.entries { return }
        tlbMisses &+= 1
        let page = linear & ~0xFFF
        if !debugger.watches.isEmpty, debugger.watches(page: page) { return }
        let index = TLB.index(linear)
        let entry = tlb + index
        let isUser = tlb == userTLB.entries
        let host = UInt64(UInt(bitPattern: ram.base)) &+ UInt64(offset & ~0xFFF)
        if entry.pointee.addend != host &- page || (entry.pointee.read != page && entry.pointee.execute != page) {
            entry.pointee = TLBEntry()
            entry.pointee.addend = host &- page
            if isUser { userTLB.willFill(index) } else if !isUpperHalf(linear) { supervisorTLB.willFill(index) }
        }
        entry.pointee.read = page
        if translation.isWritable, ram.pageFlags[offset >> 12] == 0 {
            entry.pointee.write = page
            WritablePlace.note(&writableSince[offset >> 12], index, isUser: isUser, epoch: tlbFlushes)
        } else {
            entry.pointee.write = TLBEntry.invalid
        }
    }

    @inline(__always)
    func readRAM(_ offset: Int, _ size: Int) -> UInt64 {
        let host = ram.base + offset
        switch size {
        case 1: return UInt64(host.load(as: UInt8.self))
        case 2: return UInt64(host.loadUnaligned(as: UInt16.self))
        case 4: return UInt64(host.loadUnaligned(as: UInt32.self))
        default: return host.loadUnaligned(as: UInt64.self)
        }
    }
    @inline(__always)
    func writeRAM(_ offset: Int, _ size: Int, _ value: UInt64) {
        let host = ram.base + offset
        switch size {
        case 1: host.storeBytes(of: UInt8(truncatingIfNeeded: value), as: UInt8.self)
        case 2: host.storeBytes(of: UInt16(truncatingIfNeeded: value), as: UInt16.self)
        case 4: host.storeBytes(of: UInt32(truncatingIfNeeded: value), as: UInt32.self)
        default: host.storeBytes(of: value, as: UInt64.self)
        }
    }

    /// RAM is about to change, within one page: whatever watches the page is told.
    package func willWriteRAM(_ offset: Int, _ size: Int) {
        let page = offset >> 12
        let flags = ram.pageFlags[page]
        if flags == 0 { return }
        ram.markDirty(page: page)
        if flags & GuestRAM.pageTable != 0 {
            // TLB entries come from present paging-structure entries only: others may change freely.
            let step = state.pointee.cr4 & CR4.pae != 0 ? 8 : 4
            var entry = offset & ~(step - 1)
            while entry < offset + size, ram.pageFlags[page] & GuestRAM.pageTable != 0 {
                if (ram.base + entry).load(as: UInt32.self) & 1 != 0 { tableWillChange(entry) }
                entry += step
            }
        }
        if flags & GuestRAM.code != 0, blocks.willWrite(page: page, offset: offset & 0xFFF, length: size) {
            state.pointee.core.exitRequest |= ExitRequest.code
        }
    }

    @inline(never)
    private func readDevice(_ physical: UInt64, _ size: Int) -> UInt64 {
        state.pointee.core.exitRequest |= ExitRequest.device
        if physical & UInt64(size - 1) != 0 || size & (size - 1) != 0 {
            return (0..<size).reduce(0) { $0 | bus.memoryRead(physical &+ UInt64($1), width: 1) << UInt64($1 * 8) }
        }
        return bus.memoryRead(physical, width: size)
    }
    private func writeDevice(_ physical: UInt64, _ size: Int, _ value: UInt64) {
        state.pointee.core.exitRequest |= ExitRequest.device
        if physical & UInt64(size - 1) != 0 || size & (size - 1) != 0 {
            for index in 0..<size {
                bus.memoryWrite(physical &+ UInt64(index), width: 1, value: (value >> UInt64(index * 8)) & 0xFF)
            }
            return
        }
        bus.memoryWrite(physical, width: size, value: size == 8 ? value : value & ((1 << UInt64(size * 8)) - 1))
    }

    /// A bus master writes RAM, between instructions. Addresses without RAM are skipped.
    package func dmaWrite(_ address: UInt64, from buffer: UnsafeRawBufferPointer) {
        var done = 0
        while done < buffer.count {
            let physical = address &+ UInt64(done)
            let count = min(buffer.count - done, 4096 - Int(physical & 0xFFF))
            if let offset = ram.writableOffset(of: physical), let source = buffer.baseAddress {
                if !debugger.watches.isEmpty { checkWatchesOfDMA(physical, count) }
                if activity.isOn { activity.writtenByDMA() }
                willWriteRAM(offset, count)
                (ram.base + offset).copyMemory(from: source + done, byteCount: count)
            }
            done += count
        }
    }

    /// A bus master reads RAM. Addresses without RAM read as 0xFF.
    package func dmaRead(_ address: UInt64, into buffer: UnsafeMutableRawBufferPointer) {
        var done = 0
        while done < buffer.count {
            let physical = address &+ UInt64(done)
            let count = min(buffer.count - done, 4096 - Int(physical & 0xFFF))
            if let target = buffer.baseAddress {
                if let offset = ram.offset(of: physical) {
                    (target + done).copyMemory(from: ram.base + offset, byteCount: count)
                } else {
                    (target + done).initializeMemory(as: UInt8.self, repeating: 0xFF, count: count)
                }
            }
            done += count
        }
    }
}
