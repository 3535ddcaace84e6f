import CPUCore

extension HelperTable {
    /// System instructions.
    static func installSystem(_ table: UnsafeMutablePointer<MicroHelper>) {
        func set(_ id: HelperID, _ helper: @escaping MicroHelper) { table[Int(id.rawValue)] = helper }

        set(.privileged) { raw, _, _, _ in
            x86(raw).pointee.cpl == 0 ? 0 : x86(raw).pointee.raise(.generalProtection, error: 0)
        }
        set(.portIn) { raw, dst, a, imm in
            x86(raw).withCPU { cpu in
                let port = get16(raw, a)
                guard cpu.mayUsePort(port, 1 << Int(imm)) else { return 1 }
                put64(raw, dst, cpu.portRead(port, 1 << Int(imm)))
                return 0
            }
        }
        set(.portOut) { raw, dst, a, imm in
            x86(raw).withCPU { cpu in
                let port = get16(raw, a)
                guard cpu.mayUsePort(port, 1 << Int(imm)) else { return 1 }
                cpu.portWrite(port, 1 << Int(imm), get64(raw, dst))
                return 0
            }
        }
        set(.clearInterrupt) { raw, _, _, _ in
            let state = x86(raw)
            guard HelperTable.mayChangeIF(state) else { return state.pointee.raise(.generalProtection, error: 0) }
            state.pointee.systemFlags &= ~EFlags.if
            return 0
        }
        set(.setInterrupt) { raw, _, _, _ in
            let state = x86(raw)
            guard HelperTable.mayChangeIF(state) else { return state.pointee.raise(.generalProtection, error: 0) }
            if state.pointee.systemFlags & EFlags.if == 0 {
                state.pointee.systemFlags |= EFlags.if
                state.pointee.shadowPosition = state.withCPU { $0.exactPosition } &+ 1
                if state.pointee.interruptLine || state.pointee.nmiPending {
                    state.pointee.core.exitRequest |= ExitRequest.interrupt
                }
            }
            return 0
        }
        set(.halt) { raw, _, _, _ in
            let state = x86(raw)
            guard state.pointee.cpl == 0 else { return state.pointee.raise(.generalProtection, error: 0) }
            state.pointee.isHalted = true
            return 0
        }
        set(.readControl) { raw, dst, _, imm in
            let state = x86(raw)
            // SMSW needs no privilege.
            if imm & 0x200 != 0 {
                put64(raw, dst, state.pointee.cr0)
                return 0
            }
            guard state.pointee.cpl == 0 else { return state.pointee.raise(.generalProtection, error: 0) }
            let value: UInt64
            switch imm & 0xFF {
            case 0: value = state.pointee.cr0
            case 2: value = state.pointee.cr2
            case 3: value = state.pointee.cr3
            case 4: value = state.pointee.cr4
            case 8 where imm & 0x100 != 0: value = state.withCPU { $0.taskPriority }
            default: return state.pointee.raise(.invalidOpcode)
            }
            put64(raw, dst, imm & 0x100 != 0 ? value : value & 0xFFFF_FFFF)
            return 0
        }
        set(.writeControl) { raw, _, a, imm in
            let state = x86(raw)
            guard state.pointee.cpl == 0 else { return state.pointee.raise(.generalProtection, error: 0) }
            let cpu = state.cpu
            let value = imm & 0x100 != 0 ? get64(raw, a) : get64(raw, a) & 0xFFFF_FFFF
            switch imm & 0xFF {
            case 0: return status(cpu.writeCR0(value))
            case 2: state.pointee.cr2 = value
            case 3: return status(cpu.writeCR3(value))
            case 4: return status(cpu.writeCR4(value))
            case 8 where imm & 0x100 != 0:
                guard value < 16 else { return state.pointee.raise(.generalProtection, error: 0) }
                cpu.taskPriority = value
            default: return state.pointee.raise(.invalidOpcode)
            }
            return 0
        }
        set(.readDebug) { raw, dst, _, imm in
            let state = x86(raw)
            guard state.pointee.cpl == 0 else { return state.pointee.raise(.generalProtection, error: 0) }
            guard let value = state.withCPU({ $0.readDebug(Int(imm & 0xFF)) }) else { return 1 }
            put64(raw, dst, imm & 0x100 != 0 ? value : value & 0xFFFF_FFFF)
            return 0
        }
        set(.writeDebug) { raw, _, a, imm in
            let state = x86(raw)
            guard state.pointee.cpl == 0 else { return state.pointee.raise(.generalProtection, error: 0) }
            let value = imm & 0x100 != 0 ? get64(raw, a) : get64(raw, a) & 0xFFFF_FFFF
            return status(state.withCPU { $0.writeDebug(Int(imm & 0xFF), value) })
        }
        set(.clearTaskSwitched) { raw, _, _, _ in
            let state = x86(raw)
            guard state.pointee.cpl == 0 else { return state.pointee.raise(.generalProtection, error: 0) }
            state.pointee.cr0 &= ~CR0.ts
            return 0
        }
        set(.loadMachineStatus) { raw, _, a, _ in
            let state = x86(raw)
            guard state.pointee.cpl == 0 else { return state.pointee.raise(.generalProtection, error: 0) }
            // PE can be set but not cleared.
            let low = UInt64(get16(raw, a)) & 0xF
            let new = state.pointee.cr0 & ~0xE | low | state.pointee.cr0 & CR0.pe
            return status(state.withCPU { $0.writeCR0(new) })
        }
        set(.loadDescriptorTable) { raw, _, a, imm in
            let state = x86(raw)
            guard state.pointee.cpl == 0 else { return state.pointee.raise(.generalProtection, error: 0) }
            let address = get64(raw, a)
            let is64 = state.withCPU { $0.is64BitCode }
            guard let limit = GuestMemory.load(state, address, size: 2),
                var base = GuestMemory.load(state, address &+ 2, size: is64 ? 8 : 4)
            else { return 1 }
            if is64, !state.withCPU({ $0.isCanonical(base) }) { return state.pointee.raise(.generalProtection, error: 0) }
            if !is64, imm >> 8 == 1 { base &= 0xFF_FFFF }
            if imm & 1 == 0 {
                state.pointee.gdtBase = base
                state.pointee.gdtLimit = UInt16(truncatingIfNeeded: limit)
            } else {
                state.pointee.idtBase = base
                state.pointee.idtLimit = UInt16(truncatingIfNeeded: limit)
            }
            return 0
        }
        set(.storeDescriptorTable) { raw, _, a, imm in
            let state = x86(raw)
            let address = get64(raw, a)
            let is64 = state.withCPU { $0.is64BitCode }
            let isIDT = imm & 1 != 0
            let limit = isIDT ? state.pointee.idtLimit : state.pointee.gdtLimit
            let base = isIDT ? state.pointee.idtBase : state.pointee.gdtBase
            guard GuestMemory.checkWritable(state, address, length: is64 ? 10 : 6),
                GuestMemory.store(state, address, size: 2, UInt64(limit)),
                GuestMemory.store(state, address &+ 2, size: is64 ? 8 : 4, base)
            else { return 1 }
            return 0
        }
        set(.loadLDT) { raw, _, a, _ in
            let state = x86(raw)
            guard state.withCPU({ $0.isProtected }) else { return state.pointee.raise(.invalidOpcode) }
            guard state.pointee.cpl == 0 else { return state.pointee.raise(.generalProtection, error: 0) }
            return status(state.withCPU { $0.loadLDT(get16(raw, a), .generalProtection) })
        }
        set(.loadTask) { raw, _, a, _ in
            let state = x86(raw)
            guard state.withCPU({ $0.isProtected }) else { return state.pointee.raise(.invalidOpcode) }
            guard state.pointee.cpl == 0 else { return state.pointee.raise(.generalProtection, error: 0) }
            return status(state.withCPU { $0.loadTaskRegister(get16(raw, a)) })
        }
        set(.verify) { raw, _, a, imm in
            let state = x86(raw)
            let selector = get16(raw, a)
            guard let found = state.withCPU({ $0.probeDescriptor(selector) }) else { return 1 }
            var isGood = false
            if selector & 0xFFFC != 0, let descriptor = found, !descriptor.isSystem {
                let privilege = max(Int(selector & 3), Int(state.pointee.cpl))
                let isVisible = descriptor.isCode && descriptor.isConforming || descriptor.dpl >= privilege
                let allowsIt =
                    imm == 0
                    ? !descriptor.isCode || descriptor.isReadableOrWritable
                    : !descriptor.isCode && descriptor.isReadableOrWritable
                isGood = isVisible && allowsIt
            }
            HelperTable.setZero(state, isGood)
            return 0
        }
        set(.loadAccessRights) { raw, dst, a, imm in
            let state = x86(raw)
            let selector = get16(raw, a)
            let isLimit = imm & 1 != 0
            guard let found = state.withCPU({ $0.probeDescriptor(selector) }) else { return 1 }
            guard selector & 0xFFFC != 0, let descriptor = found,
                HelperTable.isVisible(descriptor, selector, state, isLimit: isLimit)
            else {
                HelperTable.setZero(state, false)
                return 0
            }
            let value = isLimit ? UInt64(descriptor.limit) : (descriptor.raw >> 32) & 0x00FF_FF00
            switch imm >> 8 {
            case 1: (raw + Int(dst)).storeBytes(of: UInt16(truncatingIfNeeded: value), as: UInt16.self)
            default: put64(raw, dst, value)
            }
            HelperTable.setZero(state, true)
            return 0
        }
        // `imm` 1: `dst` holds the operand's linear address. It is written only if it changes.
        set(.adjustRPL) { raw, dst, a, imm in
            let state = x86(raw)
            let source = get16(raw, a)
            let target: UInt16
            if imm == 1 {
                guard let loaded = GuestMemory.load(state, get64(raw, dst), size: 2) else { return 1 }
                target = UInt16(truncatingIfNeeded: loaded)
            } else {
                target = get16(raw, dst)
            }
            let isLower = target & 3 < source & 3
            let adjusted = target & ~3 | source & 3
            if isLower, imm == 1 {
                guard GuestMemory.store(state, get64(raw, dst), size: 2, UInt64(adjusted)) else { return 1 }
            } else if isLower {
                (raw + Int(dst)).storeBytes(of: adjusted, as: UInt16.self)
            }
            HelperTable.setZero(state, isLower)
            return 0
        }
        set(.readMSR) { raw, _, _, _ in
            let state = x86(raw)
            let index = UInt32(truncatingIfNeeded: state.pointee.core.registers[1])
            guard state.pointee.cpl == 0, let value = state.withCPU({ $0.readMSR(index) }) else {
                return state.pointee.raise(.generalProtection, error: 0)
            }
            state.pointee.core.registers[0] = value & 0xFFFF_FFFF
            state.pointee.core.registers[2] = value >> 32
            return 0
        }
        set(.writeMSR) { raw, _, _, _ in
            let state = x86(raw)
            let core = state.pointee.core
            let value = core.registers[2] << 32 | core.registers[0] & 0xFFFF_FFFF
            let index = UInt32(truncatingIfNeeded: core.registers[1])
            guard state.pointee.cpl == 0, state.withCPU({ $0.writeMSR(index, value) }) else {
                return state.pointee.raise(.generalProtection, error: 0)
            }
            return 0
        }
        set(.readTimestamp) { raw, _, _, _ in HelperTable.readTimestamp(x86(raw)) }
        // No performance counters: every index is out of range.
        set(.readPerformance) { raw, _, _, _ in x86(raw).pointee.raise(.generalProtection, error: 0) }
        set(.cpuid) { raw, _, _, _ in
            let state = x86(raw)
            let leaf = UInt32(truncatingIfNeeded: state.pointee.core.registers[0])
            let (a, b, c, d) = CPUID.leaf(leaf, UInt32(truncatingIfNeeded: state.pointee.core.registers[1]))
            state.pointee.core.registers[0] = UInt64(a)
            state.pointee.core.registers[3] = UInt64(b)
            state.pointee.core.registers[1] = UInt64(c)
            // SYSCALL is advertised in 64-bit mode only.
            let isHidden = leaf == 0x8000_0001 && !state.withCPU { $0.is64BitCode }
            state.pointee.core.registers[2] = UInt64(isHidden ? d & ~(1 << 11) : d)
            return 0
        }
        set(.syscall) { raw, _, _, imm in status(x86(raw).withCPU { $0.syscall(returnPC: imm) }) }
        set(.sysret) { raw, _, _, imm in status(x86(raw).withCPU { $0.sysret(size: Int(imm)) }) }
        set(.sysenter) { raw, _, _, _ in status(x86(raw).withCPU { $0.sysenter() }) }
        set(.sysexit) { raw, _, _, imm in status(x86(raw).withCPU { $0.sysexit(size: Int(imm)) }) }
        set(.swapGS) { raw, _, _, _ in
            let state = x86(raw)
            guard state.pointee.cpl == 0 else { return state.pointee.raise(.generalProtection, error: 0) }
            let base = state.pointee.segments[5].base
            state.pointee.segments[5].base = state.pointee.kernelGSBase
            state.pointee.kernelGSBase = base
            return 0
        }
        // The TLB follows every change of the page tables at once: there is nothing stale to throw away.
        set(.invalidatePage) { raw, _, _, _ in
            x86(raw).pointee.cpl == 0 ? 0 : x86(raw).pointee.raise(.generalProtection, error: 0)
        }
        set(.waitX87) { raw, _, _, _ in
            let state = x86(raw)
            if state.pointee.cr0 & (CR0.mp | CR0.ts) == CR0.mp | CR0.ts { return state.pointee.raise(.deviceNotAvailable) }
            // Bit 7 of the status word: an unmasked exception waits.
            return state.pointee.fpu.status & 0x80 != 0 ? state.pointee.raise(.x87) : 0
        }
    }

    private static func mayChangeIF(_ state: State) -> Bool {
        state.pointee.cr0 & CR0.pe == 0 || Int(state.pointee.cpl) <= state.withCPU { $0.iopl }
    }
    private static func setZero(_ state: State, _ on: Bool) {
        let flags = state.pointee.eflags
        state.pointee.eflags = on ? flags | Flags.zf : flags & ~Flags.zf
    }
    private static func readTimestamp(_ state: State) -> UInt64 {
        if state.pointee.cr4 & CR4.tsd != 0, state.pointee.cpl != 0, state.pointee.cr0 & CR0.pe != 0 {
            return state.pointee.raise(.generalProtection, error: 0)
        }
        let value = state.withCPU { $0.timestamp }
        state.pointee.core.registers[0] = value & 0xFFFF_FFFF
        state.pointee.core.registers[2] = value >> 32
        return 0
    }

    /// LAR and LSL: the descriptor may be looked at from here.
    private static func isVisible(_ descriptor: Descriptor, _ selector: UInt16, _ state: State, isLimit: Bool) -> Bool {
        let privilege = max(Int(selector & 3), Int(state.pointee.cpl))
        if descriptor.isSystem {
            let types: [UInt16] =
                state.withCPU { $0.isLongMode } ? (isLimit ? [2, 9, 11] : [2, 9, 11, 12])
                : (isLimit ? [1, 2, 3, 9, 11] : [1, 2, 3, 4, 5, 9, 11, 12])
            guard types.contains(descriptor.type) else { return false }
            return descriptor.dpl >= privilege
        }
        return descriptor.isCode && descriptor.isConforming || descriptor.dpl >= privilege
    }
}

extension X86CPU {
    /// CR8: the local APIC's task priority, bits 7...4.
    var taskPriority: UInt64 {
        get {
            state.pointee.core.exitRequest |= ExitRequest.device
            return (bus.memoryRead(0xFEE0_0080, width: 4) >> 4) & 15
        }
        set {
            state.pointee.core.exitRequest |= ExitRequest.device
            bus.memoryWrite(0xFEE0_0080, width: 4, value: newValue << 4)
        }
    }
}
