import CPUCore

/// Hardware task switching (SDM volume 3, chapter 7). Not in long mode.
extension X86CPU {
    enum TaskSwitchKind { case jump, call, interrupt, `return` }

    /// Switches to the task whose state `selector` names. `returnPC` is saved in the old one.
    func switchTask(_ selector: UInt16, _ kind: TaskSwitchKind, returnPC: UInt64) -> Done {
        let error = UInt32(selector & 0xFFFC)
        let exception: Exception = kind == .return ? .invalidTSS : .generalProtection
        guard selector & 4 == 0, selector & 0xFFFC != 0 else { return fault(exception, error) }
        guard var target = descriptor(selector, exception) else { return false }
        let isBusy = target.type == 3 || target.type == 11
        guard target.isSystem, [1, 3, 9, 11].contains(target.type), isBusy == (kind == .return) else {
            return fault(exception, error)
        }
        guard target.isPresent else { return fault(.segmentNotPresent, error) }
        let is32 = target.type & 8 != 0
        guard target.limit >= (is32 ? 103 : 43) else { return fault(.invalidTSS, error) }

        // All pages of both task states must be there before anything changes.
        let old = state.pointee.tr
        let oldIs32 = old.type & 8 != 0
        guard reachable(old.base, oldIs32 ? 104 : 44, write: true), reachable(target.base, is32 ? 104 : 44, write: kind == .call || kind == .interrupt)
        else { return false }

        var flags = state.pointee.eflags
        if kind == .return { flags &= ~EFlags.nt }
        saveTask(old, oldIs32, flags, returnPC)
        if kind == .jump || kind == .return { setBusy(old.selector, false) }
        if kind != .return {
            setBusy(selector, true)
            target.raw |= 1 << 41
        }
        if kind == .call || kind == .interrupt {
            _ = GuestMemory.storeSystem(state, target.base, size: 2, UInt64(old.selector))
        }
        return loadTask(selector, target, is32, nested: kind == .call || kind == .interrupt)
    }

    private func reachable(_ base: UInt64, _ length: UInt64, write: Bool) -> Done {
        let access: Access = write ? .write : []
        guard translate(base & 0xFFFF_FFFF, access) != nil else { return false }
        return translate((base &+ length &- 1) & 0xFFFF_FFFF, access) != nil
    }

    private func setBusy(_ selector: UInt16, _ busy: Bool) {
        guard let address = descriptorAddress(selector, 7), let byte = GuestMemory.loadSystem(state, address &+ 5, size: 1)
        else { return }
        _ = GuestMemory.storeSystem(state, address &+ 5, size: 1, busy ? byte | 2 : byte & ~2)
    }

    private func saveTask(_ tss: Segment, _ is32: Bool, _ flags: UInt32, _ pc: UInt64) {
        func put(_ offset: Int, _ size: Int, _ value: UInt64) {
            _ = GuestMemory.storeSystem(state, tss.base &+ UInt64(offset), size: size, value)
        }
        let size = is32 ? 4 : 2
        put(is32 ? 32 : 14, size, pc)
        put(is32 ? 36 : 16, size, UInt64(flags))
        for index in 0..<8 { put((is32 ? 40 : 18) + index * size, size, state.pointee.core.registers[index]) }
        for index in 0..<(is32 ? 6 : 4) {
            put((is32 ? 72 : 34) + index * size, 2, UInt64(state.pointee.segments[index].selector))
        }
    }

    private func loadTask(_ selector: UInt16, _ target: Descriptor, _ is32: Bool, nested: Bool) -> Done {
        let size = is32 ? 4 : 2
        func get(_ offset: Int, _ size: Int) -> UInt64 {
            GuestMemory.loadSystem(state, target.base &+ UInt64(offset), size: size) ?? 0
        }
        let pc = get(is32 ? 32 : 14, size)
        var flags = UInt32(truncatingIfNeeded: get(is32 ? 36 : 16, size))
        let registers = (0..<8).map { get((is32 ? 40 : 18) + $0 * size, size) }
        let selectors = (0..<6).map { $0 < (is32 ? 6 : 4) ? UInt16(truncatingIfNeeded: get((is32 ? 72 : 34) + $0 * size, 2)) : 0 }
        let ldt = UInt16(truncatingIfNeeded: get(is32 ? 96 : 42, 2))
        let cr3 = is32 ? get(28, 4) : state.pointee.cr3
        if nested { flags |= EFlags.nt }

        state.pointee.tr = target.segment(selector)
        state.pointee.tr.attributes |= 2
        state.pointee.cr0 |= CR0.ts
        if state.pointee.cr0 & CR0.pg != 0, is32, cr3 != state.pointee.cr3 {
            state.pointee.cr3 = cr3
            flushTLB()
        }
        state.pointee.core.pc = pc
        for index in 0..<8 {
            state.pointee.core.registers[index] =
                is32 ? registers[index] : state.pointee.core.registers[index] & 0xFFFF_0000 | registers[index]
        }
        state.pointee.eflags = flags & (is32 ? EFlags.defined : 0xFFFF) | 2
        // From here on faults happen in the new task.
        for index in 0..<6 { state.pointee.segments[index] = Segment(selector: selectors[index]) }
        state.pointee.ldtr = Segment()
        guard loadLDT(ldt, .invalidTSS) else { return false }
        if state.pointee.systemFlags & EFlags.vm != 0 {
            state.pointee.cpl = 3
            for index in 0..<6 { setRealSegment(index, selectors[index]) }
            modeChanged()
            return true
        }
        let cs = selectors[1]
        let codeError = UInt32(cs & 0xFFFC)
        guard cs & 0xFFFC != 0 else { return fault(.invalidTSS, codeError) }
        guard var code = descriptor(cs, .invalidTSS) else { return false }
        let rpl = Int(cs & 3)
        guard code.isCode, code.isConforming ? code.dpl <= rpl : code.dpl == rpl else { return fault(.invalidTSS, codeError) }
        guard code.isPresent else { return fault(.segmentNotPresent, codeError) }
        guard markAccessed(cs, &code) else { return false }
        setCode(cs, code, cpl: rpl)
        guard loadTaskSegment(2, selectors[2]) else { return false }
        for index in [0, 3, 4, 5] { guard loadTaskSegment(index, selectors[index]) else { return false } }
        guard pc <= UInt64(state.pointee.segments[1].limit) else { return fault(.generalProtection, 0) }
        if is32, get(100, 2) & 1 != 0 {
            // The debug trap flag.
            state.pointee.pendingDebug |= 1 << 15
            state.pointee.core.exitRequest |= ExitRequest.debug
        }
        return true
    }

    /// As `loadSegment`, but faults are #TS.
    private func loadTaskSegment(_ index: Int, _ selector: UInt16) -> Done {
        if loadSegment(index, selector) { return true }
        if state.pointee.exceptionVector == Exception.generalProtection.rawValue {
            state.pointee.exceptionVector = Exception.invalidTSS.rawValue
            state.pointee.exceptionError = UInt32(selector & 0xFFFC)
        }
        return false
    }

    /// LLDT, and the LDT of a new task.
    func loadLDT(_ selector: UInt16, _ exception: Exception) -> Done {
        if selector & 0xFFFC == 0 {
            state.pointee.ldtr = Segment(selector: selector)
            return true
        }
        let error = UInt32(selector & 0xFFFC)
        guard selector & 4 == 0 else { return fault(exception, error) }
        guard let descriptor = systemDescriptor(selector, exception) else { return false }
        guard descriptor.isSystem, descriptor.type == 2 else { return fault(exception, error) }
        guard descriptor.isPresent else {
            return fault(exception == .invalidTSS ? .invalidTSS : .segmentNotPresent, error)
        }
        state.pointee.ldtr = descriptor.segment(selector)
        state.pointee.ldtr.base = descriptor.base64
        return true
    }

    /// LTR.
    func loadTaskRegister(_ selector: UInt16) -> Done {
        let error = UInt32(selector & 0xFFFC)
        guard selector & 0xFFFC != 0, selector & 4 == 0 else { return fault(.generalProtection, error) }
        guard let descriptor = systemDescriptor(selector) else { return false }
        guard descriptor.isSystem, descriptor.type == 9 || (descriptor.type == 1 && !isLongMode) else {
            return fault(.generalProtection, error)
        }
        guard descriptor.isPresent else { return fault(.segmentNotPresent, error) }
        guard let address = descriptorAddress(selector, 7),
            GuestMemory.storeSystem(state, address &+ 5, size: 1, (descriptor.raw >> 40) & 0xFF | 2)
        else { return false }
        state.pointee.tr = descriptor.segment(selector)
        state.pointee.tr.base = isLongMode ? descriptor.base64 : descriptor.base
        state.pointee.tr.attributes |= 2
        return true
    }
}
