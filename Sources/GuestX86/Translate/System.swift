import CPUCore

extension Translator {
    /// Segment registers, I/O and system instructions (SDM volume 1, 5.1.8, 5.1.10, 5.20).
    func translateSystem(_ i: Instruction) {
        let size = Int(i.operandSize)
        switch i.operation {
        case .movFromSegment:
            ir.emit(.zx16x64, dst: Slot.temp(0), a: StateLayout.selector(Int(i.reg & 7)))
            if let target = registerSlot(.Ev, i) {
                ir.emit(Opcode.mov8.sized(size), dst: target, a: Slot.temp(0))
            } else {
                store(1, Slot.temp(0), effectiveAddress(i, size: 2, write: true))
            }
        case .movToSegment:
            let source = value(.Ew, i, temp: Slot.temp(0))
            helper(.loadSegment, a: source, imm: UInt64(i.reg & 7) | 0x100)
            leave()
        case .les: loadFar(i, .es)
        case .lds: loadFar(i, .ds)
        case .lss: loadFar(i, .ss)
        case .lfs: loadFar(i, .fs)
        case .lgs: loadFar(i, .gs)
        case .inImmediate, .inDX: portIO(i, isIn: true)
        case .outImmediate, .outDX: portIO(i, isIn: false)
        // DF is bit 10: a 16-bit operation leaves what lies behind the flags alone.
        case .cld: ir.emit(.andI16, dst: StateLayout.systemFlags, a: StateLayout.systemFlags, imm: 0xFBFF)
        case .std: ir.emit(.orI16, dst: StateLayout.systemFlags, a: StateLayout.systemFlags, imm: 0x400)
        case .cli:
            if mode.contains(.user) {
                helper(.clearInterrupt)
            } else {
                // The supervisor may, at CPL 1 and 2 depending on IOPL. IF is bit 9.
                ir.emit(.guardClear8, a: StateLayout.cpl, b: HelperID.clearInterrupt.rawValue, imm: 3)
                ir.emit(.andI16, dst: StateLayout.systemFlags, a: StateLayout.systemFlags, imm: 0xFDFF)
            }
        case .sti: helper(.setInterrupt)
        case .hlt:
            helper(.halt)
            leave()
        case .wait: helper(.waitX87)
        case .movFromControl:
            helper(.readControl, dst: gpr(i.rm, 3, i), imm: UInt64(i.reg) | (is64 ? 0x100 : 0))
            // CR8 may be read from a chip outside.
            if i.reg == 8 { leave() }
        case .movToControl:
            helper(.writeControl, a: gpr(i.rm, 3, i), imm: UInt64(i.reg) | (is64 ? 0x100 : 0))
            leave()
        case .movFromDebug: helper(.readDebug, dst: gpr(i.rm, 3, i), imm: UInt64(i.reg) | (is64 ? 0x100 : 0))
        case .movToDebug:
            helper(.writeDebug, a: gpr(i.rm, 3, i), imm: UInt64(i.reg) | (is64 ? 0x100 : 0))
            leave()
        case .clts:
            helper(.clearTaskSwitched)
            leave()
        case .smsw:
            helper(.readControl, dst: Slot.temp(0), imm: 0x200)
            storeSystem(i)
        case .lmsw:
            helper(.loadMachineStatus, a: value(.Ew, i, temp: Slot.temp(0)))
            leave()
        case .lgdt, .lidt:
            address(i, size: is64 ? 10 : 6)
            helper(
                .loadDescriptorTable, a: Slot.temp(0), imm: (i.operation == .lidt ? 1 : 0) | UInt64(size) << 8)
            leave()
        case .sgdt, .sidt:
            address(i, size: is64 ? 10 : 6, write: true)
            helper(.storeDescriptorTable, a: Slot.temp(0), imm: (i.operation == .sidt ? 1 : 0) | UInt64(size) << 8)
        case .lldt:
            helper(.loadLDT, a: value(.Ew, i, temp: Slot.temp(0)))
            leave()
        case .ltr:
            helper(.loadTask, a: value(.Ew, i, temp: Slot.temp(0)))
            leave()
        case .sldt, .str:
            helper(.storeSegment, dst: Slot.temp(0), imm: i.operation == .sldt ? 8 : 9)
            storeSystem(i)
        case .verr, .verw:
            helper(.verify, a: value(.Ew, i, temp: Slot.temp(0)), imm: i.operation == .verw ? 1 : 0)
        case .lar, .lsl:
            let source = value(.Ew, i, temp: Slot.temp(0))
            helper(
                .loadAccessRights, dst: gpr(i.reg, i.operandSize, i), a: source,
                imm: (i.operation == .lsl ? 1 : 0) | UInt64(size) << 8)
        case .arpl:
            if let target = registerSlot(.Ew, i) {
                helper(.adjustRPL, dst: target, a: gpr(i.reg, 1, i))
            } else {
                address(i, size: 2, write: true)
                helper(.adjustRPL, dst: Slot.temp(0), a: gpr(i.reg, 1, i), imm: 1)
            }
        case .invlpg:
            let offset = effectiveAddress(i)
            ir.emit(.lea64, dst: Slot.temp(0), a: offset.base, b: offset.index, imm: offset.address.raw)
            helper(.invalidatePage, a: Slot.temp(0))
            leave()
        case .invd, .wbinvd: requireCPL0()
        case .rdtsc: helper(.readTimestamp)
        case .rdtscp:
            helper(.readTimestamp)
            ir.emit(.mov64, dst: Slot.register(1), a: StateLayout.tscAux)
        case .rdmsr: helper(.readMSR)
        case .wrmsr:
            helper(.writeMSR)
            leave()
        case .rdpmc: helper(.readPerformance)
        case .cpuid: helper(.cpuid)
        case .syscall:
            helper(.syscall, imm: nextPC)
            leaveDynamic()
        case .sysret:
            helper(.sysret, imm: UInt64(size))
            leaveDynamic()
        case .sysenter:
            helper(.sysenter)
            leaveDynamic()
        case .sysexit:
            helper(.sysexit, imm: UInt64(size))
            leaveDynamic()
        case .swapgs: if is64 { helper(.swapGS) } else { raiseUD() }
        case .monitor, .mwait: raiseUD()
        case .fxsave, .fxrstor:
            address(i, size: 512, write: i.operation == .fxsave)
            helper(
                i.operation == .fxsave ? .fxsave : .fxrstor, a: Slot.temp(0),
                imm: (i.rexW ? 1 : 0) | (is64 ? 2 : 0))
        case .ldmxcsr: translateLDMXCSR(i)
        case .stmxcsr: translateSTMXCSR(i)
        default: raiseUD()
        }
    }

    /// The memory operand's linear address → temp 0.
    private func address(_ i: Instruction, size: Int, write: Bool = false) {
        let ea = effectiveAddress(i, size: size, write: write)
        ir.emit(.lea64, dst: Slot.temp(0), a: ea.base, b: ea.index, imm: ea.address.raw)
    }

    /// Temp 0 → a register of operand size, or 16 bits of memory.
    private func storeSystem(_ i: Instruction) {
        if let target = registerSlot(.Ev, i) {
            ir.emit(Opcode.mov8.sized(Int(i.operandSize)), dst: target, a: Slot.temp(0))
        } else {
            store(1, Slot.temp(0), effectiveAddress(i, size: 2, write: true))
        }
    }

    private func loadFar(_ i: Instruction, _ segment: SegmentRegister) {
        loadFarPointer(i)
        helper(.loadSegment, a: Slot.temp(1), imm: UInt64(segment.rawValue))
        ir.emit(Opcode.mov8.sized(Int(i.operandSize)), dst: gpr(i.reg, i.operandSize, i), a: Slot.temp(0))
        leave()
    }

    private func portIO(_ i: Instruction, isIn: Bool) {
        // Port I/O has no 64-bit form.
        let size = i.opcode & 1 == 0 ? 0 : min(Int(i.operandSize), 2)
        let port = Slot.temp(0)
        if i.operation == .inImmediate || i.operation == .outImmediate {
            ir.emit(.movI64, dst: port, imm: i.immediate & 0xFF)
        } else {
            ir.emit(.zx16x64, dst: port, a: Slot.register(2))
        }
        if isIn {
            helper(.portIn, dst: Slot.temp(1), a: port, imm: UInt64(size))
            ir.emit(Opcode.mov8.sized(size), dst: Slot.register(0), a: Slot.temp(1))
        } else {
            helper(.portOut, dst: Slot.register(0), a: port, imm: UInt64(size))
        }
        leave()
    }
}
