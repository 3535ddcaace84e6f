import CPUCore

/// Where an interrupt comes from: decides privilege checks, the return address and the error code's EXT bit.
enum InterruptSource {
    /// A fault or trap of the CPU.
    case exception
    /// INTR or NMI.
    case external
    /// INT n, INTO: gate privilege is checked.
    case software
    /// INT1: like software, but without the check.
    case privileged
}

extension X86CPU {
    /// Takes the pending NMI or interrupt.
    func takeInterrupt() {
        state.pointee.isHalted = false
        state.pointee.core.currentOp = nil
        state.pointee.core.currentBlock = nil
        let vector: UInt8
        if state.pointee.nmiPending, !state.pointee.nmiBlocked {
            state.pointee.nmiPending = false
            state.pointee.nmiBlocked = true
            vector = 2
        } else {
            vector = bus.acknowledgeInterrupt()
            state.pointee.core.exitRequest |= ExitRequest.device
        }
        if deliver(vector, nil, .external) {
            noteDelivery(vector)
        } else {
            deliverException(first: Exception(rawValue: vector), isInterrupt: true)
        }
    }

    /// Delivers the noted exception; exceptions on the way become double faults or a shutdown (SDM volume 3, 6.15).
    func deliverException() { deliverException(first: nil, isInterrupt: false) }

    private func deliverException(first: Exception?, isInterrupt: Bool) {
        var previous: UInt8? = nil
        var vector = state.pointee.exceptionVector
        while true {
            if let before = previous {
                if before == Exception.doubleFault.rawValue {
                    state.pointee.isShutdown = true
                    return
                }
                if Self.makesDoubleFault(before, vector) {
                    _ = state.pointee.raise(.doubleFault, error: 0)
                    vector = Exception.doubleFault.rawValue
                }
            }
            if vector == Exception.pageFault.rawValue { state.pointee.cr2 = state.pointee.exceptionAddress }
            let error = state.pointee.exceptionHasError ? state.pointee.exceptionError : nil
            if vector == Exception.debug.rawValue {
                state.pointee.debug[6] = state.pointee.debug[6] & ~0xF | debugHits
                debugHits = 0
            }
            state.pointee.isHalted = false
            if deliver(vector, error, .exception) {
                noteDelivery(vector)
                return
            }
            previous = vector
            vector = state.pointee.exceptionVector
        }
    }

    private static func makesDoubleFault(_ first: UInt8, _ second: UInt8) -> Bool {
        func isContributory(_ vector: UInt8) -> Bool { vector == 0 || (10...13).contains(vector) }
        if isContributory(first) { return isContributory(second) }
        if first == 14 { return isContributory(second) || second == 14 }
        return false
    }

    /// Goes through the interrupt table. False: an exception has been noted, and nothing has changed.
    func deliver(_ vector: UInt8, _ error: UInt32?, _ source: InterruptSource, returnPC: UInt64? = nil) -> Done {
        let returnPC = returnPC ?? state.pointee.core.pc
        hasDelivered = true
        if state.pointee.cr0 & CR0.pe == 0 { return deliverReal(vector, returnPC) }
        if isLongMode { return deliverLong(vector, error, source, returnPC) }
        return deliverProtected(vector, error, source, returnPC)
    }

    private func deliverReal(_ vector: UInt8, _ returnPC: UInt64) -> Done {
        let offset = UInt64(vector) * 4
        guard offset + 3 <= UInt64(state.pointee.idtLimit) else {
            return fault(.generalProtection)
        }
        guard let entry = GuestMemory.load(state, state.pointee.idtBase &+ offset, size: 4) else { return false }
        var stack = StackFrame(self)
        guard stack.push(UInt64(state.pointee.eflags), 2), stack.push(UInt64(state.pointee.segments[1].selector), 2),
            stack.push(returnPC, 2)
        else { return false }
        stack.commit()
        state.pointee.systemFlags &= ~(EFlags.if | EFlags.tf | EFlags.ac | EFlags.rf)
        setRealSegment(1, UInt16(truncatingIfNeeded: entry >> 16))
        state.pointee.core.pc = entry & 0xFFFF
        return true
    }

    /// EFLAGS as pushed: faults set RF, so that a code breakpoint does not hit again.
    private func savedFlags(_ vector: UInt8, _ source: InterruptSource) -> UInt64 {
        var flags = state.pointee.eflags
        if case .exception = source, vector != 1, vector != 3, vector != 4 { flags |= EFlags.rf }
        return UInt64(flags)
    }

    private func deliverProtected(
        _ vector: UInt8, _ error: UInt32?, _ source: InterruptSource, _ returnPC: UInt64
    ) -> Done {
        let isSoftware: Bool
        let ext: UInt32
        switch source {
        case .software: (isSoftware, ext) = (true, 0)
        case .privileged: (isSoftware, ext) = (false, 1)
        default: (isSoftware, ext) = (false, 1)
        }
        let entryError = UInt32(vector) * 8 + 2 + ext
        guard UInt32(vector) * 8 + 7 <= UInt32(state.pointee.idtLimit) else {
            return fault(.generalProtection, entryError)
        }
        guard let raw = GuestMemory.loadSystem(state, state.pointee.idtBase &+ UInt64(vector) * 8, size: 8) else {
            return false
        }
        let gate = Descriptor(raw: raw)
        guard gate.isSystem, [5, 6, 7, 14, 15].contains(gate.type) else { return fault(.generalProtection, entryError) }
        if isSoftware, gate.dpl < Int(state.pointee.cpl) { return fault(.generalProtection, entryError) }
        guard gate.isPresent else { return fault(.segmentNotPresent, entryError) }
        if gate.type == 5 {
            guard switchTask(gate.gateSelector, .interrupt, returnPC: returnPC) else { return false }
            if let error {
                var stack = StackFrame(self)
                guard stack.push(UInt64(error), state.pointee.tr.type & 8 != 0 ? 4 : 2) else { return false }
                stack.commit()
            }
            return true
        }
        let selector = gate.gateSelector
        if selector & 0xFFFC == 0 { return fault(.generalProtection, ext) }
        let selectorError = UInt32(selector & 0xFFFC) | ext
        guard var code = descriptor(selector) else {
            if state.pointee.exceptionVector == Exception.generalProtection.rawValue {
                state.pointee.exceptionError |= ext
            }
            return false
        }
        let cpl = Int(state.pointee.cpl)
        guard code.isCode, code.dpl <= cpl else { return fault(.generalProtection, selectorError) }
        guard code.isPresent else { return fault(.segmentNotPresent, selectorError) }
        let size = gate.type & 8 != 0 ? 4 : 2
        let wasVM = isVirtual8086
        let newCPL = code.isConforming ? cpl : code.dpl
        let flags = savedFlags(vector, source)
        var stack: StackFrame
        if newCPL < cpl {
            if wasVM, newCPL != 0 { return fault(.generalProtection, selectorError) }
            guard let inner = innerStack(newCPL, ext) else { return false }
            stack = StackFrame(self, inner.segment, inner.pointer, isUser: false, is64: false)
            if wasVM {
                for index in [5, 4, 3, 0] {
                    guard stack.push(UInt64(state.pointee.segments[index].selector), size) else { return false }
                }
            }
            guard stack.push(UInt64(state.pointee.segments[2].selector), size),
                stack.push(state.pointee.core.registers[4], size)
            else { return false }
        } else {
            if wasVM { return fault(.generalProtection, selectorError) }
            stack = StackFrame(self)
        }
        guard stack.push(flags, size), stack.push(UInt64(state.pointee.segments[1].selector), size),
            stack.push(returnPC, size)
        else { return false }
        if let error { guard stack.push(UInt64(error), size) else { return false } }
        guard markAccessed(selector, &code) else { return false }
        var cleared = EFlags.tf | EFlags.nt | EFlags.rf | EFlags.vm
        if gate.type & 1 == 0 { cleared |= EFlags.if }
        state.pointee.systemFlags &= ~cleared
        if newCPL < cpl {
            if wasVM { for index in [0, 3, 4, 5] { state.pointee.segments[index] = Segment() } }
            state.pointee.segments[2] = stack.segment
        }
        setCode(selector, code, cpl: newCPL)
        stack.commit()
        state.pointee.core.pc = size == 4 ? gate.gateOffset & 0xFFFF_FFFF : gate.gateOffset & 0xFFFF
        return true
    }

    /// The stack for an inner privilege level, from the task state (SDM volume 3, 5.8.5). Nil: #TS or #SS noted.
    func innerStack(_ cpl: Int, _ ext: UInt32) -> (segment: Segment, pointer: UInt64)? {
        let tr = state.pointee.tr
        let is32 = tr.type & 8 != 0
        let offset = is32 ? 4 + cpl * 8 : 2 + cpl * 4
        let length = is32 ? 6 : 4
        guard UInt32(offset + length - 1) <= tr.limit else {
            _ = fault(.invalidTSS, UInt32(tr.selector & 0xFFFC) | ext)
            return nil
        }
        let address = tr.base &+ UInt64(offset)
        guard let pointer = GuestMemory.loadSystem(state, address, size: is32 ? 4 : 2),
            let rawSelector = GuestMemory.loadSystem(state, address &+ (is32 ? 4 : 2), size: 2)
        else { return nil }
        let selector = UInt16(truncatingIfNeeded: rawSelector)
        let error = UInt32(selector & 0xFFFC) | ext
        guard selector & 0xFFFC != 0 else {
            _ = fault(.invalidTSS, ext)
            return nil
        }
        guard var descriptor = descriptor(selector, .invalidTSS) else { return nil }
        guard Int(selector & 3) == cpl, descriptor.dpl == cpl, !descriptor.isSystem, !descriptor.isCode,
            descriptor.isReadableOrWritable
        else {
            _ = fault(.invalidTSS, error)
            return nil
        }
        guard descriptor.isPresent else {
            _ = fault(.stackFault, error)
            return nil
        }
        guard markAccessed(selector, &descriptor) else { return nil }
        return (descriptor.segment(selector), pointer)
    }

    private func deliverLong(
        _ vector: UInt8, _ error: UInt32?, _ source: InterruptSource, _ returnPC: UInt64
    ) -> Done {
        let isSoftware = if case .software = source { true } else { false }
        let ext: UInt32 = isSoftware ? 0 : 1
        let entryError = UInt32(vector) * 8 + 2 + ext
        guard UInt32(vector) * 16 + 15 <= UInt32(state.pointee.idtLimit) else {
            return fault(.generalProtection, entryError)
        }
        let address = state.pointee.idtBase &+ UInt64(vector) * 16
        guard let low = GuestMemory.loadSystem(state, address, size: 8),
            let high = GuestMemory.loadSystem(state, address &+ 8, size: 8)
        else { return false }
        let gate = Descriptor(raw: low, high: high)
        guard gate.isSystem, gate.type == 14 || gate.type == 15 else { return fault(.generalProtection, entryError) }
        if isSoftware, gate.dpl < Int(state.pointee.cpl) { return fault(.generalProtection, entryError) }
        guard gate.isPresent else { return fault(.segmentNotPresent, entryError) }
        let selector = gate.gateSelector
        if selector & 0xFFFC == 0 { return fault(.generalProtection, ext) }
        let selectorError = UInt32(selector & 0xFFFC) | ext
        guard var code = descriptor(selector) else { return false }
        let cpl = Int(state.pointee.cpl)
        guard code.isCode, code.dpl <= cpl, code.isLong, !code.isBig else {
            return fault(.generalProtection, selectorError)
        }
        guard code.isPresent else { return fault(.segmentNotPresent, selectorError) }
        let newCPL = code.isConforming ? cpl : code.dpl
        var pointer = state.pointee.core.registers[4]
        if gate.gateIST != 0 || newCPL < cpl {
            let offset = gate.gateIST != 0 ? 36 + (gate.gateIST - 1) * 8 : 4 + newCPL * 8
            guard UInt32(offset + 7) <= state.pointee.tr.limit else {
                return fault(.invalidTSS, UInt32(state.pointee.tr.selector & 0xFFFC) | ext)
            }
            guard let top = GuestMemory.loadSystem(state, state.pointee.tr.base &+ UInt64(offset), size: 8) else {
                return false
            }
            guard isCanonical(top) else { return fault(.stackFault, ext) }
            pointer = top
        }
        var stack = StackFrame(self, Segment(), pointer & ~15, isUser: newCPL == 3, is64: true)
        guard stack.push(UInt64(state.pointee.segments[2].selector), 8),
            stack.push(state.pointee.core.registers[4], 8), stack.push(savedFlags(vector, source), 8),
            stack.push(UInt64(state.pointee.segments[1].selector), 8), stack.push(returnPC, 8)
        else { return false }
        if let error { guard stack.push(UInt64(error), 8) else { return false } }
        guard markAccessed(selector, &code) else { return false }
        var cleared = EFlags.tf | EFlags.nt | EFlags.rf | EFlags.vm
        if gate.type & 1 == 0 { cleared |= EFlags.if }
        state.pointee.systemFlags &= ~cleared
        if newCPL < cpl {
            state.pointee.segments[2] = Self.nullStack(UInt16(newCPL), newCPL)
        }
        setCode(selector, code, cpl: newCPL)
        state.pointee.core.registers[4] = stack.pointer
        state.pointee.core.pc = gate.gateOffset
        return true
    }

    // MARK: Debug exceptions (SDM volume 3, 17.2)

    /// #DB after an instruction: single step, data breakpoints.
    func takePendingDebug() {
        let hits = state.pointee.pendingDebug
        state.pointee.pendingDebug = 0
        if hits == 0 { return }
        debugHits = hits & 0xF
        state.pointee.debug[6] |= hits & ~0xF
        _ = state.pointee.raise(.debug)
        deliverException()
    }

    func hitsCodeBreakpoint(_ linear: UInt64) -> Bool {
        let dr7 = state.pointee.debug[7]
        var hits: UInt64 = 0
        for index in 0..<4 where dr7 >> UInt64(index * 2) & 3 != 0 && dr7 >> UInt64(16 + index * 4) & 3 == 0 {
            if state.pointee.debug[index] == linear { hits |= 1 << UInt64(index) }
        }
        debugHits = hits
        return hits != 0
    }

    func checkDataBreakpoints(_ linear: UInt64, _ size: Int, isWrite: Bool) {
        let dr7 = state.pointee.debug[7]
        if dr7 & 0xFF == 0 { return }
        for index in 0..<4 where dr7 >> UInt64(index * 2) & 3 != 0 {
            let kind = dr7 >> UInt64(16 + index * 4) & 3
            guard kind == 1 && isWrite || kind == 3 else { continue }
            let length: UInt64 = [1, 2, 8, 4][Int(dr7 >> UInt64(18 + index * 4) & 3)]
            let start = state.pointee.debug[index] & ~(length - 1)
            if linear < start &+ length, start < linear &+ UInt64(size) {
                state.pointee.pendingDebug |= 1 << UInt64(index)
                state.pointee.core.exitRequest |= ExitRequest.debug
            }
        }
    }
}
