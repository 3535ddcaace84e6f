import CPUCore

extension Translator {
    /// Control transfer (SDM volume 1, 5.1.7).
    func translateBranch(_ i: Instruction) {
        let size = Int(i.operandSize)
        switch i.operation {
        case .jcc:
            let target = target(i)
            // Compilers put what is likely next; loops go back.
            if target > nextPC, sideExits < Self.mostSideExits {
                sideExits += 1
                ir.emit(.exitIf, b: UInt16(i.opcode & 15), imm: target)
            } else {
                ir.emit(.jumpIf, b: UInt16(i.opcode & 15), imm: target)
                isEnded = true
            }
        case .jmp:
            guardTarget(target(i), size)
            ir.emit(.jump, imm: target(i))
            isEnded = true
        case .call:
            guardTarget(target(i), size)
            ir.emit(.movI64, dst: Slot.temp(0), imm: nextPC)
            push(Slot.temp(0), size: size)
            ir.emit(.jump, imm: target(i))
            isEnded = true
        case .jmpNear:
            let target = zeroExtended(value(i.first, i, temp: Slot.temp(1)), size)
            guardTarget(target, size)
            jumpTo(target)
        case .callNear:
            var target = zeroExtended(value(i.first, i, temp: Slot.temp(1)), size)
            if target == Self.rsp {
                // The stack pointer as it is before the push.
                target = Slot.temp(1)
                ir.emit(.mov64, dst: target, a: Self.rsp)
            }
            guardTarget(target, size)
            ir.emit(.movI64, dst: Slot.temp(0), imm: nextPC)
            push(Slot.temp(0), size: size)
            jumpTo(target)
        case .ret, .retImmediate:
            peek(Slot.temp(1), size: size)
            let target = zeroExtended(Slot.temp(1), size)
            guardTarget(target, size)
            dropStack(UInt64(1 << size) &+ (i.operation == .retImmediate ? i.immediate : 0))
            jumpTo(target)
        case .loop, .loope, .loopne, .jcxz: loop(i)
        case .jmpFar, .callFar:
            ir.emit(.movI64, dst: Slot.temp(0), imm: i.immediate)
            ir.emit(.movI64, dst: Slot.temp(1), imm: i.immediate2)
            far(i, i.operation == .callFar)
        case .jmpFarPointer, .callFarPointer:
            loadFarPointer(i)
            far(i, i.operation == .callFarPointer)
        case .retFar, .retFarImmediate:
            helper(.returnFar, imm: UInt64(size) | i.immediate << 8)
            leaveDynamic()
        case .iret:
            helper(.interruptReturn, imm: UInt64(size))
            leaveDynamic()
        case .int:
            helper(.softwareInterrupt, a: 0, imm: i.immediate | nextPCAsImmediate << 8)
            leaveDynamic()
        case .int3:
            helper(.softwareInterrupt, a: 1, imm: 3 | nextPCAsImmediate << 8)
            leaveDynamic()
        case .int1:
            helper(.softwareInterrupt, a: 2, imm: 1 | nextPCAsImmediate << 8)
            leaveDynamic()
        case .into:
            helper(.into, imm: nextPC)
            leaveDynamic()
        case .bound:
            let ea = effectiveAddress(i, size: 2 << size)
            load(size, Slot.temp(0), ea)
            ir.emit(.lea64, dst: Slot.temp(2), a: ea.base, b: ea.index, imm: ea.address.raw)
            ir.emit(
                Opcode.ld8.sized(size), dst: Slot.temp(1), a: Slot.temp(2), b: Slot.zero,
                imm: Address(displacement: Int32(1 << size)).with(Address.truncate32).raw)
            helper(.bound, a: gpr(i.reg, i.operandSize, i), imm: UInt64(size))
        default: raiseUD()
        }
    }

    /// PC after the instruction minus its own: helpers that need the next PC add it to the block's.
    private var nextPCAsImmediate: UInt64 { nextPC &- pc }

    private func target(_ i: Instruction) -> UInt64 {
        let target = nextPC &+ i.immediate
        switch i.operandSize {
        case 1: return target & 0xFFFF
        case 2: return target & 0xFFFF_FFFF
        default: return target
        }
    }

    private func zeroExtended(_ slot: UInt16, _ size: Int) -> UInt16 {
        if size == 3 { return slot }
        let temp = Slot.temp(1)
        ir.emit(size == 1 ? .zx16x64 : .mov32, dst: temp, a: slot)
        return temp
    }

    /// #GP, before anything has changed, when a target (a slot) is not canonical or beyond the segment's limit.
    private func guardTarget(_ slot: UInt16, _ size: Int) {
        if is64 {
            ir.emit(.guardCanonical, a: slot, b: HelperID.raiseGeneralProtection.rawValue)
        } else if isTargetLimited(size) {
            helper(.checkTarget, a: slot)
        }
    }
    /// The same for a target that is known. Conditional branches are checked where they lead to.
    private func guardTarget(_ target: UInt64, _ size: Int) {
        if is64 || !isTargetLimited(size) { return }
        ir.emit(.movI64, dst: Slot.temp(0), imm: target)
        helper(.checkTarget, a: Slot.temp(0))
    }
    private func isTargetLimited(_ size: Int) -> Bool {
        mode.contains(.codeLimited) || (mode.codeSize == .bits16 && size == 2)
    }

    private func jumpTo(_ slot: UInt16) {
        ir.emit(.jumpTo, a: slot)
        isEnded = true
    }

    private func loop(_ i: Instruction) {
        let width = Int(i.addressSize)
        let counter = Slot.register(1)
        if i.operation == .jcxz {
            ir.emit(Opcode.brZero8.sized(width), a: counter, imm: target(i))
            isEnded = true
            return
        }
        ir.emit(Opcode.subI8.sized(width), dst: counter, a: counter, imm: 1)
        if i.operation == .loop {
            ir.emit(Opcode.brNonzero8.sized(width), a: counter, imm: target(i))
        } else {
            // Taken while the counter is not 0 and ZF is as wanted: select the counter or 0, and test that.
            let temp = Slot.temp(0)
            let condition: Condition = i.operation == .loope ? .z : .nz
            ir.emit(.movI64, dst: temp, imm: 0)
            ir.emit(Opcode.cmov8.sized(width), dst: temp, a: counter, b: condition.rawValue)
            ir.emit(Opcode.brNonzero8.sized(width), a: temp, imm: target(i))
        }
        isEnded = true
    }

    /// Offset → temp 0, selector → temp 1.
    func loadFarPointer(_ i: Instruction) {
        let size = Int(i.operandSize)
        let ea = effectiveAddress(i, size: (1 << size) + 2)
        ir.emit(.lea64, dst: Slot.temp(2), a: ea.base, b: ea.index, imm: ea.address.raw)
        ir.emit(.movI64, dst: Slot.temp(0), imm: 0)
        let attributes = Address(displacement: 0).raw | (ea.address.raw & Address.stack)
        ir.emit(Opcode.ld8.sized(size), dst: Slot.temp(0), a: Slot.temp(2), b: Slot.zero, imm: attributes)
        ir.emit(
            .ldzx16, dst: Slot.temp(1), a: Slot.temp(2), b: Slot.zero,
            imm: attributes | Address(displacement: Int32(1 << size)).raw)
    }

    private func far(_ i: Instruction, _ isCall: Bool) {
        helper(
            isCall ? .callFar : .jumpFar, dst: Slot.temp(0), a: Slot.temp(1),
            imm: UInt64(i.operandSize) | nextPCAsImmediate << 8)
        leaveDynamic()
    }
}
