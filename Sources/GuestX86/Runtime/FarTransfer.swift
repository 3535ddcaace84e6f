import CPUCore

/// Far jumps, calls and returns (SDM volume 2, JMP, CALL, RET).
extension X86CPU {
    /// JMP or CALL far. `size`: logarithm of the operand size; `returnPC`: the next instruction, for CALL.
    func farTransfer(_ selector: UInt16, _ offset: UInt64, size: Int, isCall: Bool, returnPC: UInt64) -> Done {
        let mask: UInt64 = size == 1 ? 0xFFFF : size == 2 ? 0xFFFF_FFFF : .max
        if !isProtected {
            if isCall {
                var stack = StackFrame(self)
                guard stack.push(UInt64(state.pointee.segments[1].selector), 1 << size),
                    stack.push(returnPC, 1 << size)
                else { return false }
                stack.commit()
            }
            setRealSegment(1, selector)
            state.pointee.core.pc = offset & mask
            return true
        }
        if selector & 0xFFFC == 0 { return fault(.generalProtection, 0) }
        let error = UInt32(selector & 0xFFFC)
        guard var target = descriptor(selector) else { return false }
        let cpl = Int(state.pointee.cpl)
        let rpl = Int(selector & 3)
        guard !target.isSystem else { return farSystem(selector, target, size, isCall, returnPC) }
        guard target.isCode else { return fault(.generalProtection, error) }
        if target.isConforming ? target.dpl > cpl : rpl > cpl || target.dpl != cpl {
            return fault(.generalProtection, error)
        }
        guard target.isPresent else { return fault(.segmentNotPresent, error) }
        if isLongMode, target.isLong, target.isBig { return fault(.generalProtection, error) }
        let entry = offset & mask
        if isLongMode, target.isLong {
            guard isCanonical(entry) else { return fault(.generalProtection, 0) }
        } else if entry > UInt64(target.limit) {
            return fault(.generalProtection, 0)
        }
        var stack = StackFrame(self)
        if isCall {
            guard stack.push(UInt64(state.pointee.segments[1].selector), 1 << size), stack.push(returnPC, 1 << size)
            else { return false }
        }
        guard markAccessed(selector, &target) else { return false }
        if isCall { stack.commit() }
        setCode(selector, target, cpl: cpl)
        state.pointee.core.pc = entry
        return true
    }

    /// Through a call gate, a task gate or a task state.
    private func farSystem(
        _ selector: UInt16, _ descriptor: Descriptor, _ size: Int, _ isCall: Bool, _ returnPC: UInt64
    ) -> Done {
        let error = UInt32(selector & 0xFFFC)
        let cpl = Int(state.pointee.cpl)
        let rpl = Int(selector & 3)
        guard descriptor.dpl >= cpl, descriptor.dpl >= rpl else { return fault(.generalProtection, error) }
        switch descriptor.type {
        case 12: return callGate(selector, descriptor, isCall, returnPC)
        case 4 where !isLongMode: return callGate(selector, descriptor, isCall, returnPC)
        case 5 where !isLongMode:
            guard descriptor.isPresent else { return fault(.segmentNotPresent, error) }
            return switchTask(descriptor.gateSelector, isCall ? .call : .jump, returnPC: returnPC)
        case 1 where !isLongMode, 9 where !isLongMode:
            guard descriptor.isPresent else { return fault(.segmentNotPresent, error) }
            return switchTask(selector, isCall ? .call : .jump, returnPC: returnPC)
        default: return fault(.generalProtection, error)
        }
    }

    private func callGate(_ gateSelector: UInt16, _ low: Descriptor, _ isCall: Bool, _ returnPC: UInt64) -> Done {
        var gate = low
        guard gate.isPresent else { return fault(.segmentNotPresent, UInt32(gateSelector & 0xFFFC)) }
        if isLongMode {
            guard let whole = systemDescriptor(gateSelector) else { return false }
            gate = whole
        }
        let selector = gate.gateSelector
        let error = UInt32(selector & 0xFFFC)
        if selector & 0xFFFC == 0 { return fault(.generalProtection, 0) }
        guard var code = descriptor(selector) else { return false }
        let cpl = Int(state.pointee.cpl)
        guard code.isCode, code.dpl <= cpl else { return fault(.generalProtection, error) }
        if isLongMode, !code.isLong || code.isBig { return fault(.generalProtection, error) }
        guard code.isPresent else { return fault(.segmentNotPresent, error) }
        let bytes = isLongMode ? 8 : gate.type == 12 ? 4 : 2
        let isInner = isCall && !code.isConforming && code.dpl < cpl
        if !isCall, !code.isConforming, code.dpl != cpl { return fault(.generalProtection, error) }
        let newCPL = isInner ? code.dpl : cpl
        let oldCS = UInt64(state.pointee.segments[1].selector)
        var stack = StackFrame(self)
        if isInner {
            let oldSS = UInt64(state.pointee.segments[2].selector)
            let oldSP = state.pointee.core.registers[4]
            if isLongMode {
                let offset = UInt32(4 + newCPL * 8)
                guard offset + 7 <= state.pointee.tr.limit else {
                    return fault(.invalidTSS, UInt32(state.pointee.tr.selector & 0xFFFC))
                }
                guard let top = GuestMemory.loadSystem(state, state.pointee.tr.base &+ UInt64(offset), size: 8) else {
                    return false
                }
                let segment = Self.nullStack(UInt16(newCPL), newCPL)
                stack = StackFrame(self, segment, top, isUser: false, is64: true)
                guard stack.push(oldSS, 8), stack.push(oldSP, 8) else { return false }
            } else {
                guard let inner = innerStack(newCPL, 0) else { return false }
                var parameters: [UInt64] = []
                var outer = StackFrame(self)
                for _ in 0..<gate.gateCount {
                    guard let value = outer.pop(bytes) else { return false }
                    parameters.append(value)
                }
                stack = StackFrame(self, inner.segment, inner.pointer, isUser: false, is64: false)
                guard stack.push(oldSS, bytes), stack.push(oldSP, bytes) else { return false }
                for value in parameters.reversed() { guard stack.push(value, bytes) else { return false } }
            }
        }
        if isCall { guard stack.push(oldCS, bytes), stack.push(returnPC, bytes) else { return false } }
        guard markAccessed(selector, &code) else { return false }
        if isInner { state.pointee.segments[2] = stack.segment }
        setCode(selector, code, cpl: newCPL)
        if isCall {
            if isLongMode { state.pointee.core.registers[4] = stack.pointer } else { stack.commit() }
        }
        state.pointee.core.pc = bytes == 2 ? gate.gateOffset & 0xFFFF : bytes == 4 ? gate.gateOffset & 0xFFFF_FFFF : gate.gateOffset
        return true
    }

    /// RET far, releasing `release` more bytes.
    func returnFar(size: Int, release: UInt64) -> Done {
        var stack = StackFrame(self)
        let bytes = 1 << size
        guard let pc = stack.pop(bytes), let rawCS = stack.pop(bytes) else { return false }
        let selector = UInt16(truncatingIfNeeded: rawCS)
        if !isProtected {
            stack.pointer = stack.pointer & ~stack.mask | (stack.pointer &+ release) & stack.mask
            stack.commit()
            setRealSegment(1, selector)
            state.pointee.core.pc = pc
            return true
        }
        guard let code = returnTarget(selector, pc) else { return false }
        stack.pointer = stack.pointer & ~stack.mask | (stack.pointer &+ release) & stack.mask
        let rpl = Int(selector & 3)
        if rpl == Int(state.pointee.cpl) {
            stack.commit()
            setCode(selector, code, cpl: rpl)
            state.pointee.core.pc = pc
            return true
        }
        guard let pointer = stack.pop(bytes), let rawSS = stack.pop(bytes) else { return false }
        return returnOuter(selector, code, pc, UInt16(truncatingIfNeeded: rawSS), pointer, release: release)
    }

    /// Checks the code segment that RET far or IRET returns to.
    private func returnTarget(_ selector: UInt16, _ pc: UInt64) -> Descriptor? {
        func fail(_ exception: Exception, _ error: UInt32) -> Descriptor? {
            _ = fault(exception, error)
            return nil
        }
        if selector & 0xFFFC == 0 { return fail(.generalProtection, 0) }
        let error = UInt32(selector & 0xFFFC)
        guard var code = descriptor(selector) else { return nil }
        let rpl = Int(selector & 3)
        guard code.isCode, rpl >= Int(state.pointee.cpl) else { return fail(.generalProtection, error) }
        if code.isConforming ? code.dpl > rpl : code.dpl != rpl { return fail(.generalProtection, error) }
        guard code.isPresent else { return fail(.segmentNotPresent, error) }
        if isLongMode, code.isLong {
            if code.isBig { return fail(.generalProtection, error) }
            if !isCanonical(pc) { return fail(.generalProtection, 0) }
        } else if pc > UInt64(code.limit) {
            return fail(.generalProtection, 0)
        }
        guard markAccessed(selector, &code) else { return nil }
        return code
    }

    /// The last part of a return to an outer level: its stack, and data segments that it may not use are cleared.
    private func returnOuter(
        _ selector: UInt16, _ code: Descriptor, _ pc: UInt64, _ ss: UInt16, _ pointer: UInt64, release: UInt64
    ) -> Done {
        let rpl = Int(selector & 3)
        var segment: Segment
        if ss & 0xFFFC == 0 {
            guard isLongMode, code.isLong, rpl != 3, Int(ss & 3) == rpl else { return fault(.generalProtection, 0) }
            segment = Self.nullStack(ss, rpl)
        } else {
            let error = UInt32(ss & 0xFFFC)
            guard var stack = descriptor(ss) else { return false }
            guard Int(ss & 3) == rpl, !stack.isSystem, !stack.isCode, stack.isReadableOrWritable, stack.dpl == rpl
            else { return fault(.generalProtection, error) }
            guard stack.isPresent else { return fault(.stackFault, error) }
            guard markAccessed(ss, &stack) else { return false }
            segment = stack.segment(ss)
        }
        setCode(selector, code, cpl: rpl)
        state.pointee.segments[2] = segment
        let isLong = isLongMode && code.isLong
        if isLong {
            state.pointee.core.registers[4] = pointer &+ release
        } else if segment.isBig {
            state.pointee.core.registers[4] = (pointer &+ release) & 0xFFFF_FFFF
        } else {
            let old = state.pointee.core.registers[4]
            state.pointee.core.registers[4] = old & ~0xFFFF | (pointer &+ release) & 0xFFFF
        }
        state.pointee.core.pc = pc
        for index in [0, 3, 4, 5] {
            let data = state.pointee.segments[index]
            if data.selector & 0xFFFC == 0 { continue }
            let isConformingCode = data.attributes & 0x1C == 0x1C
            if data.isCodeOrData, !isConformingCode, data.dpl < rpl { state.pointee.segments[index] = Segment() }
        }
        return true
    }

    /// IRET, IRETD, IRETQ.
    func interruptReturn(size: Int) -> Done {
        let bytes = 1 << size
        var stack = StackFrame(self)
        let cpl = Int(state.pointee.cpl)
        if !isProtected {
            if isVirtual8086, iopl < 3 { return fault(.generalProtection, 0) }
            guard let pc = stack.pop(bytes), let cs = stack.pop(bytes), let flags = stack.pop(bytes) else {
                return false
            }
            stack.commit()
            setRealSegment(1, UInt16(truncatingIfNeeded: cs))
            state.pointee.core.pc = pc & 0xFFFF
            var changeable = EFlags.defined & ~EFlags.vm & ~EFlags.vif & ~EFlags.vip
            if isVirtual8086 { changeable &= ~EFlags.iopl }
            if size == 1 { changeable &= 0xFFFF }
            setFlags(UInt32(truncatingIfNeeded: flags), changeable)
            state.pointee.nmiBlocked = false
            return true
        }
        if state.pointee.systemFlags & EFlags.nt != 0 {
            if isLongMode { return fault(.generalProtection, 0) }
            guard let link = GuestMemory.loadSystem(state, state.pointee.tr.base, size: 2) else { return false }
            guard switchTask(UInt16(truncatingIfNeeded: link), .return, returnPC: state.pointee.core.pc) else { return false }
            state.pointee.nmiBlocked = false
            return true
        }
        guard let pc = stack.pop(bytes), let rawCS = stack.pop(bytes), let rawFlags = stack.pop(bytes) else {
            return false
        }
        let flags = UInt32(truncatingIfNeeded: rawFlags)
        let selector = UInt16(truncatingIfNeeded: rawCS)
        if size == 2, flags & EFlags.vm != 0, cpl == 0, !isLongMode { return returnToVirtual8086(&stack, pc, selector, flags) }
        guard let code = returnTarget(selector, pc) else { return false }
        let rpl = Int(selector & 3)
        var changeable = EFlags.defined & ~(EFlags.vm | EFlags.vif | EFlags.vip | EFlags.iopl | EFlags.if)
        if cpl == 0 { changeable |= EFlags.iopl | EFlags.vif | EFlags.vip }
        if cpl <= iopl { changeable |= EFlags.if }
        if size == 1 { changeable &= 0xFFFF }
        // IRETQ always restores the stack; legacy IRET only when the level changes.
        if rpl != cpl || is64BitCode {
            guard let pointer = stack.pop(bytes), let rawSS = stack.pop(bytes) else { return false }
            guard returnOuter(selector, code, pc, UInt16(truncatingIfNeeded: rawSS), pointer, release: 0) else {
                return false
            }
        } else {
            stack.commit()
            setCode(selector, code, cpl: rpl)
            state.pointee.core.pc = pc
        }
        setFlags(flags, changeable)
        state.pointee.nmiBlocked = false
        return true
    }

    private func returnToVirtual8086(_ stack: inout StackFrame, _ pc: UInt64, _ cs: UInt16, _ flags: UInt32) -> Done {
        guard let pointer = stack.pop(4), let ss = stack.pop(4), let es = stack.pop(4), let ds = stack.pop(4),
            let fs = stack.pop(4), let gs = stack.pop(4)
        else { return false }
        setFlags(flags, EFlags.defined)
        state.pointee.cpl = 3
        for (index, selector) in [(0, es), (1, UInt64(cs)), (2, ss), (3, ds), (4, fs), (5, gs)] {
            setRealSegment(index, UInt16(truncatingIfNeeded: selector))
        }
        state.pointee.core.registers[4] = pointer
        state.pointee.core.pc = pc & 0xFFFF
        state.pointee.nmiBlocked = false
        modeChanged()
        return true
    }

    /// Writes EFLAGS where `changeable` has ones.
    func setFlags(_ flags: UInt32, _ changeable: UInt32) {
        state.pointee.eflags = (state.pointee.eflags & ~changeable) | (flags & changeable) | 2
        modeChanged()
    }

    // MARK: System calls

    private func flatSegment(_ selector: UInt16, _ attributes: UInt16) -> Segment {
        Segment(selector: selector, attributes: attributes, limit: .max, base: 0)
    }

    func syscall(returnPC: UInt64) -> Done {
        guard state.pointee.efer & EFER.sce != 0 else { return fault(.invalidOpcode) }
        let flags = state.pointee.eflags
        let selector = UInt16(truncatingIfNeeded: state.pointee.star >> 32) & 0xFFFC
        if isLongMode {
            let wasLong = is64BitCode
            state.pointee.core.registers[1] = returnPC
            state.pointee.core.registers[11] = UInt64(flags & ~EFlags.rf)
            state.pointee.core.pc = wasLong ? state.pointee.lstar : state.pointee.cstar
            let cleared = UInt32(truncatingIfNeeded: state.pointee.sfmask) | EFlags.rf
            state.pointee.eflags = flags & ~cleared
            state.pointee.segments[1] = flatSegment(selector, 0xA09B)
        } else {
            state.pointee.core.registers[1] = returnPC & 0xFFFF_FFFF
            state.pointee.core.pc = state.pointee.star & 0xFFFF_FFFF
            state.pointee.systemFlags &= ~(EFlags.vm | EFlags.if | EFlags.rf)
            state.pointee.segments[1] = flatSegment(selector, 0xC09B)
        }
        state.pointee.segments[2] = flatSegment(selector &+ 8, 0xC093)
        state.pointee.cpl = 0
        modeChanged()
        return true
    }

    func sysret(size: Int) -> Done {
        guard state.pointee.efer & EFER.sce != 0 else { return fault(.invalidOpcode) }
        guard isProtected, state.pointee.cpl == 0 else { return fault(.generalProtection, 0) }
        let base = UInt16(truncatingIfNeeded: state.pointee.star >> 48)
        let target = state.pointee.core.registers[1]
        if isLongMode {
            if size == 3 {
                guard isCanonical(target) else { return fault(.generalProtection, 0) }
                state.pointee.segments[1] = flatSegment((base &+ 16) | 3, 0xA0FB)
                state.pointee.core.pc = target
            } else {
                state.pointee.segments[1] = flatSegment(base | 3, 0xC0FB)
                state.pointee.core.pc = target & 0xFFFF_FFFF
            }
            let flags = UInt32(truncatingIfNeeded: state.pointee.core.registers[11])
            state.pointee.eflags = flags & EFlags.defined & ~(EFlags.rf | EFlags.vm)
        } else {
            state.pointee.segments[1] = flatSegment(base | 3, 0xC0FB)
            state.pointee.core.pc = target & 0xFFFF_FFFF
            state.pointee.systemFlags |= EFlags.if
        }
        state.pointee.segments[2] = flatSegment((base &+ 8) | 3, 0xC0F3)
        state.pointee.cpl = 3
        modeChanged()
        return true
    }

    func sysenter() -> Done {
        guard isProtected || isVirtual8086, state.pointee.sysenterCS & 0xFFFC != 0 else {
            return fault(.generalProtection, 0)
        }
        state.pointee.systemFlags &= ~(EFlags.vm | EFlags.if)
        let selector = UInt16(truncatingIfNeeded: state.pointee.sysenterCS) & 0xFFFC
        state.pointee.segments[1] = flatSegment(selector, isLongMode ? 0xA09B : 0xC09B)
        state.pointee.segments[2] = flatSegment(selector &+ 8, 0xC093)
        state.pointee.cpl = 0
        let mask: UInt64 = isLongMode ? .max : 0xFFFF_FFFF
        state.pointee.core.registers[4] = state.pointee.sysenterESP & mask
        state.pointee.core.pc = state.pointee.sysenterEIP & mask
        modeChanged()
        return true
    }

    func sysexit(size: Int) -> Done {
        guard isProtected, state.pointee.cpl == 0, state.pointee.sysenterCS & 0xFFFC != 0 else {
            return fault(.generalProtection, 0)
        }
        let selector = UInt16(truncatingIfNeeded: state.pointee.sysenterCS) & 0xFFFC
        let pointer = state.pointee.core.registers[1]
        let target = state.pointee.core.registers[2]
        if size == 3 {
            guard isCanonical(pointer), isCanonical(target) else { return fault(.generalProtection, 0) }
            state.pointee.segments[1] = flatSegment((selector &+ 32) | 3, 0xA0FB)
            state.pointee.segments[2] = flatSegment((selector &+ 40) | 3, 0xC0F3)
            state.pointee.core.registers[4] = pointer
            state.pointee.core.pc = target
        } else {
            state.pointee.segments[1] = flatSegment((selector &+ 16) | 3, 0xC0FB)
            state.pointee.segments[2] = flatSegment((selector &+ 24) | 3, 0xC0F3)
            state.pointee.core.registers[4] = pointer & 0xFFFF_FFFF
            state.pointee.core.pc = target & 0xFFFF_FFFF
        }
        state.pointee.cpl = 3
        modeChanged()
        return true
    }
}
