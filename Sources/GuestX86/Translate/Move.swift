import CPUCore

extension Translator {
    /// Data movement (SDM volume 1, 5.1.1).
    func translateMove(_ i: Instruction) {
        let size = Int(i.operandSize)
        switch i.operation {
        case .mov: move(i)
        case .movMoffsLoad:
            let size = Int(self.size(i.first, i))
            let ea = effectiveAddress(i, size: 1 << size)
            load(size, Slot.register(0), ea)
        case .movMoffsStore:
            let size = Int(self.size(i.second, i))
            let ea = effectiveAddress(i, size: 1 << size, write: true)
            store(size, Slot.register(0), ea)
        case .lea:
            let offset = offsetOperands(i)
            let target = gpr(i.reg, i.operandSize, i)
            if size == 3, offset.address.raw & Address.truncate32 != 0 {
                ir.emit(.lea32, dst: target, a: offset.base, b: offset.index, imm: offset.address.raw)
            } else {
                ir.emit(Opcode.lea8.sized(size), dst: target, a: offset.base, b: offset.index, imm: offset.address.raw)
            }
        case .movzxb: widen(i, 0, signed: false)
        case .movzxw: widen(i, 1, signed: false)
        case .movsxb: widen(i, 0, signed: true)
        case .movsxw: widen(i, 1, signed: true)
        case .movsxd:
            if size < 3 {
                // Without REX.W it is a plain move.
                let source = value(.Ev, i, temp: Slot.temp(0))
                ir.emit(Opcode.mov8.sized(size), dst: gpr(i.reg, i.operandSize, i), a: source)
            } else {
                widen(i, 2, signed: true)
            }
        case .xchg: exchange(i)
        case .bswap:
            let target = gpr(i.opcode & 7 | (i.rex & 1) << 3, i.operandSize, i)
            switch size {
            case 3: ir.emit(.bswap64, dst: target, a: target)
            case 2: ir.emit(.bswap32, dst: target, a: target)
            // Undefined by the manual; processors clear the register's low half.
            default: ir.emit(.movI16, dst: target, imm: 0)
            }
        case .xadd: exchangeAdd(i)
        case .cmpxchg: compareExchange(i)
        case .cmpxchg8b:
            let is16 = i.rexW
            let ea = effectiveAddress(i, size: is16 ? 16 : 8, write: true)
            ir.emit(.lea64, dst: Slot.temp(0), a: ea.base, b: ea.index, imm: ea.address.raw)
            helper(
                is16 ? .compareExchange16 : .compareExchange8, a: Slot.temp(0),
                imm: ea.address.raw & Address.stack)
        case .cmov:
            let source = value(i.second, i, temp: Slot.temp(0))
            ir.emit(
                Opcode.cmov8.sized(size), dst: gpr(i.reg, i.operandSize, i), a: source, b: UInt16(i.opcode & 15))
        case .setcc:
            let condition = UInt16(i.opcode & 15)
            if let target = registerSlot(.Eb, i) { return ir.emit(.setcc, dst: target, b: condition) }
            ir.emit(.setcc, dst: Slot.temp(0), b: condition)
            store(0, Slot.temp(0), effectiveAddress(i, size: 1, write: true))
        case .xlat:
            let temp = Slot.temp(0)
            ir.emit(.zx8x64, dst: temp, a: Slot.register(0))
            ir.emit(.add64, dst: temp, a: temp, b: Slot.register(3))
            switch i.addressSize {
            case 1: ir.emit(.zx16x64, dst: temp, a: temp)
            case 2: ir.emit(.mov32, dst: temp, a: temp)
            default: break
            }
            let segment = i.segment >= 0 ? SegmentRegister(rawValue: Int(i.segment)) ?? .ds : .ds
            load(0, Slot.register(0), segmented(segment, temp, size: 1, write: false))
        // It faults as a load would, and is nothing else here.
        case .clflush: load(0, Slot.temp(0), effectiveAddress(i))
        case .nop, .prefetch, .fence, .pause: break
        default: raiseUD()
        }
    }

    private func move(_ i: Instruction) {
        let size = Int(size(i.first, i))
        if let target = registerSlot(i.first, i) {
            if let immediate = immediate(i.second, i) {
                ir.emit(Opcode.movI8.sized(size), dst: target, imm: immediate)
            } else if let source = registerSlot(i.second, i) {
                ir.emit(Opcode.mov8.sized(size), dst: target, a: source)
            } else {
                load(size, target, effectiveAddress(i, size: 1 << size))
            }
            return
        }
        let ea = effectiveAddress(i, size: 1 << size, write: true)
        if let source = registerSlot(i.second, i) { return store(size, source, ea) }
        ir.emit(Opcode.movI8.sized(size), dst: Slot.temp(0), imm: i.immediate)
        store(size, Slot.temp(0), ea)
    }

    /// MOVZX, MOVSX, MOVSXD from 1 << `from` bytes.
    private func widen(_ i: Instruction, _ from: Int, signed: Bool) {
        let target = gpr(i.reg, i.operandSize, i)
        let to = Int(i.operandSize)
        if from == to {
            let source = value(i.second, i, temp: Slot.temp(0))
            return ir.emit(Opcode.mov8.sized(to), dst: target, a: source)
        }
        if i.isMemory {
            let ea = effectiveAddress(i, size: 1 << from)
            let opcode: Opcode =
                switch (from, to, signed) {
                case (0, 1, true): .ldsx8x16
                case (0, 2, true): .ldsx8x32
                case (0, _, true): .ldsx8x64
                case (1, 2, true): .ldsx16x32
                case (1, _, true): .ldsx16x64
                case (2, _, true): .ldsx32x64
                case (0, _, _): .ldzx8
                default: .ldzx16
                }
            if to == 1, !signed {
                ir.emit(.ldzx8, dst: Slot.temp(0), a: ea.base, b: ea.index, imm: ea.address.raw)
                return ir.emit(.mov16, dst: target, a: Slot.temp(0))
            }
            return ir.emit(opcode, dst: target, a: ea.base, b: ea.index, imm: ea.address.raw)
        }
        let source = gpr(i.rm, UInt8(from), i)
        let opcode: Opcode =
            switch (from, to, signed) {
            case (0, 1, true): .sx8x16
            case (0, 2, true): .sx8x32
            case (0, _, true): .sx8x64
            case (1, 2, true): .sx16x32
            case (1, _, true): .sx16x64
            case (2, _, true): .sx32x64
            case (0, 1, _): .zx8x16
            case (0, _, _): .zx8x64
            default: .zx16x64
            }
        ir.emit(opcode, dst: target, a: source)
    }

    private func exchange(_ i: Instruction) {
        let size = Int(size(i.first, i))
        let temp = Slot.temp(0)
        guard let second = registerSlot(i.second, i) else { return raiseUD() }
        if let first = registerSlot(i.first, i) {
            ir.emit(Opcode.mov8.sized(size), dst: temp, a: first)
            ir.emit(Opcode.mov8.sized(size), dst: first, a: second)
            ir.emit(Opcode.mov8.sized(size), dst: second, a: temp)
            return
        }
        let ea = effectiveAddress(i, size: 1 << size, write: true)
        load(size, temp, ea, willStore: true)
        store(size, second, ea)
        ir.emit(Opcode.mov8.sized(size), dst: second, a: temp)
    }

    private func exchangeAdd(_ i: Instruction) {
        let size = Int(size(i.first, i))
        let old = Slot.temp(0)
        let sum = Slot.temp(1)
        guard let source = registerSlot(i.second, i) else { return raiseUD() }
        if let target = registerSlot(i.first, i) {
            ir.emit(Opcode.mov8.sized(size), dst: old, a: target)
            ir.emit(Opcode.addF8.sized(size), dst: sum, a: target, b: source)
            ir.emit(Opcode.mov8.sized(size), dst: source, a: old)
            ir.emit(Opcode.mov8.sized(size), dst: target, a: sum)
            return
        }
        let ea = effectiveAddress(i, size: 1 << size, write: true)
        load(size, old, ea, willStore: true)
        ir.emit(Opcode.addF8.sized(size), dst: sum, a: old, b: source)
        store(size, sum, ea)
        ir.emit(Opcode.mov8.sized(size), dst: source, a: old)
    }

    private func compareExchange(_ i: Instruction) {
        let size = Int(size(i.first, i))
        let old = Slot.temp(0)
        let new = Slot.temp(1)
        let rax = Slot.register(0)
        guard let source = registerSlot(i.second, i) else { return raiseUD() }
        if let target = registerSlot(i.first, i) {
            ir.emit(Opcode.mov8.sized(size), dst: old, a: target)
            ir.emit(Opcode.cmpxchgF8.sized(size), dst: new, a: rax, b: old, imm: UInt64(source))
            // A register that is not exchanged keeps all its 64 bits.
            ir.emit(Opcode.cmov8.sized(size == 2 ? 3 : size), dst: target, a: new, b: Condition.z.rawValue)
        } else {
            let ea = effectiveAddress(i, size: 1 << size, write: true)
            load(size, old, ea, willStore: true)
            ir.emit(Opcode.cmpxchgF8.sized(size), dst: new, a: rax, b: old, imm: UInt64(source))
            store(size, new, ea)
        }
        // When they were equal the accumulator keeps all its 64 bits: no 32-bit write then.
        let width = size == 2 ? 3 : size
        ir.emit(Opcode.cmov8.sized(width), dst: rax, a: old, b: Condition.nz.rawValue)
    }
}
