import CPUCore

extension Translator {
    /// Arithmetic, logic, shifts, bits and flags (SDM volume 1, 5.1.2 to 5.1.6 and 5.1.11).
    func translateArithmetic(_ i: Instruction) {
        switch i.operation {
        case .add: binary(i, .addF8, .addFI8)
        case .or: binary(i, .orF8, .orFI8)
        case .adc: binary(i, .adcF8, .adcFI8)
        case .sbb: binary(i, .sbbF8, .sbbFI8)
        case .and: binary(i, .andF8, .andFI8)
        case .sub: binary(i, .subF8, .subFI8)
        case .xor: binary(i, .xorF8, .xorFI8)
        case .cmp: compare(i, .cmp8, .cmpI8)
        case .test: compare(i, .test8, .testI8)
        case .inc: modify(i) { ir.emit(Opcode.incF8.sized($0), dst: $1, a: $1) }
        case .dec: modify(i) { ir.emit(Opcode.decF8.sized($0), dst: $1, a: $1) }
        case .neg: modify(i) { ir.emit(Opcode.negF8.sized($0), dst: $1, a: $1) }
        case .not: modify(i) { ir.emit(Opcode.not8.sized($0), dst: $1, a: $1) }
        case .mul: multiply(i, .mulUF8)
        case .imul1: multiply(i, .mulSF8)
        case .imul2:
            let source = value(i.second, i, temp: Slot.temp(0))
            let target = gpr(i.reg, i.operandSize, i)
            ir.emit(Opcode.imulF8.sized(Int(i.operandSize)), dst: target, a: target, b: source)
        case .imul3:
            let source = value(i.second, i, temp: Slot.temp(0))
            ir.emit(.movI64, dst: Slot.temp(1), imm: i.immediate)
            ir.emit(
                Opcode.imulF8.sized(Int(i.operandSize)), dst: gpr(i.reg, i.operandSize, i), a: source,
                b: Slot.temp(1))
        case .div, .idiv:
            let source = value(i.first, i, temp: Slot.temp(0))
            helper(i.operation == .div ? .divide : .divideSigned, a: source, imm: UInt64(size(i.first, i)))
        case .rol: shift(i, .rolF8, nil)
        case .ror: shift(i, .rorF8, nil)
        case .rcl: shift(i, .rclF8, nil)
        case .rcr: shift(i, .rcrF8, nil)
        case .shl: shift(i, .shlF8, .shlFI8)
        case .shr: shift(i, .shrF8, .shrFI8)
        case .sar: shift(i, .sarF8, .sarFI8)
        case .shld: doubleShift(i, .shldF8)
        case .shrd: doubleShift(i, .shrdF8)
        case .bt: bitTest(i, .btF8)
        case .bts: bitTest(i, .btsF8)
        case .btr: bitTest(i, .btrF8)
        case .btc: bitTest(i, .btcF8)
        case .bsf: unary(i, .bsfF8)
        case .bsr: unary(i, .bsrF8)
        case .popcnt: unary(i, .popcntF8)
        case .cbw:
            let rax = Slot.register(0)
            ir.emit([.nopWidth, .sx8x16, .sx16x32, .sx32x64][Int(i.operandSize)], dst: rax, a: rax)
        case .cwd:
            let size = Int(i.operandSize)
            ir.emit(
                Opcode.sarI8.sized(size), dst: Slot.register(2), a: Slot.register(0), imm: UInt64(8 << size) - 1)
        case .daa: pureHelper(.decimalAdjust, imm: 0)
        case .das: pureHelper(.decimalAdjust, imm: 1)
        case .aaa: pureHelper(.decimalAdjust, imm: 2)
        case .aas: pureHelper(.decimalAdjust, imm: 3)
        case .aam: helper(.ascii, imm: i.immediate)
        case .aad: helper(.ascii, imm: i.immediate | 0x100)
        case .salc: pureHelper(.decimalAdjust, imm: 4)
        case .lahf: pureHelper(.loadAH)
        case .sahf: pureHelper(.storeAH)
        case .clc: ir.emit(.setCarry, imm: 0)
        case .stc: ir.emit(.setCarry, imm: 1)
        case .cmc: ir.emit(.complementCarry)
        default: raiseUD()
        }
    }

    private func binary(_ i: Instruction, _ operation: Opcode, _ withImmediate: Opcode) {
        let size = Int(size(i.first, i))
        if let target = registerSlot(i.first, i) {
            if let immediate = immediate(i.second, i) {
                ir.emit(withImmediate.sized(size), dst: target, a: target, imm: immediate)
            } else {
                let source = value(i.second, i, temp: Slot.temp(0))
                ir.emit(operation.sized(size), dst: target, a: target, b: source)
            }
            return
        }
        let ea = effectiveAddress(i, size: 1 << size, write: true)
        let temp = Slot.temp(0)
        load(size, temp, ea, willStore: true)
        if let immediate = immediate(i.second, i) {
            ir.emit(withImmediate.sized(size), dst: temp, a: temp, imm: immediate)
        } else if let source = registerSlot(i.second, i) {
            ir.emit(operation.sized(size), dst: temp, a: temp, b: source)
        }
        store(size, temp, ea)
    }

    private func compare(_ i: Instruction, _ operation: Opcode, _ withImmediate: Opcode) {
        let size = Int(size(i.first, i))
        let target = value(i.first, i, temp: Slot.temp(0))
        if let immediate = immediate(i.second, i) {
            ir.emit(withImmediate.sized(size), a: target, imm: immediate)
        } else {
            let source = value(i.second, i, temp: Slot.temp(1))
            ir.emit(operation.sized(size), a: target, b: source)
        }
    }

    /// Reads, changes and writes the first operand; `body` gets the size and the slot to change.
    private func modify(_ i: Instruction, _ body: (Int, UInt16) -> Void) {
        let size = Int(size(i.first, i))
        if let target = registerSlot(i.first, i) { return body(size, target) }
        let ea = effectiveAddress(i, size: 1 << size, write: true)
        load(size, Slot.temp(0), ea, willStore: true)
        body(size, Slot.temp(0))
        store(size, Slot.temp(0), ea)
    }

    private func multiply(_ i: Instruction, _ operation: Opcode) {
        let size = Int(size(i.first, i))
        let source = value(i.first, i, temp: Slot.temp(0))
        let rax = Slot.register(0)
        let high = size == 0 ? rax + 1 : Slot.register(2)
        ir.emit(operation.sized(size), dst: rax, a: rax, b: source, imm: UInt64(high))
    }

    private func unary(_ i: Instruction, _ operation: Opcode) {
        let source = value(i.second, i, temp: Slot.temp(0))
        ir.emit(operation.sized(Int(i.operandSize)), dst: gpr(i.reg, i.operandSize, i), a: source)
    }

    private func shift(_ i: Instruction, _ byRegister: Opcode, _ byConstant: Opcode?) {
        let size = Int(size(i.first, i))
        guard let immediate = immediate(i.second, i) else {
            return modify(i) {
                ir.emit(byRegister.sized($0), dst: $1, a: $1, b: Slot.register(1))
            }
        }
        let count = immediate & (size == 3 ? 63 : 31)
        if let byConstant, count != 0 {
            return modify(i) { ir.emit(byConstant.sized($0), dst: $1, a: $1, imm: count) }
        }
        modify(i) {
            ir.emit(.movI8, dst: Slot.temp(1), imm: count)
            ir.emit(byRegister.sized($0), dst: $1, a: $1, b: Slot.temp(1))
        }
    }

    private func doubleShift(_ i: Instruction, _ operation: Opcode) {
        let count = Slot.temp(1)
        if let immediate = immediate(i.third, i) {
            ir.emit(.movI8, dst: count, imm: immediate)
        } else {
            ir.emit(.mov8, dst: count, a: Slot.register(1))
        }
        let source = gpr(i.reg, i.operandSize, i)
        modify(i) { ir.emit(operation.sized($0), dst: $1, a: source, imm: UInt64(count)) }
    }

    private func bitTest(_ i: Instruction, _ operation: Opcode) {
        let size = Int(i.operandSize)
        var bit = Slot.temp(1)
        if let immediate = immediate(i.second, i) {
            ir.emit(.movI64, dst: bit, imm: immediate)
        } else {
            bit = gpr(i.reg, i.operandSize, i)
        }
        if let target = registerSlot(i.first, i) {
            return ir.emit(operation.sized(size), dst: target, a: target, b: bit)
        }
        // A bit number in a register reaches beyond the operand: the address moves by whole operands.
        var extra: UInt16?
        if i.second == .Gv {
            let temp = Slot.temp(2)
            switch size {
            case 1: ir.emit(.sx16x64, dst: temp, a: bit)
            case 2: ir.emit(.sx32x64, dst: temp, a: bit)
            default: ir.emit(.mov64, dst: temp, a: bit)
            }
            ir.emit(.sarI64, dst: temp, a: temp, imm: UInt64(3 + size))
            ir.emit(.shlI64, dst: temp, a: temp, imm: UInt64(size))
            extra = temp
        }
        let isRead = operation == .btF8
        let ea = effectiveAddress(i, size: 1 << size, write: !isRead, extra: extra)
        load(size, Slot.temp(0), ea, willStore: !isRead)
        ir.emit(operation.sized(size), dst: Slot.temp(0), a: Slot.temp(0), b: bit)
        if !isRead { store(size, Slot.temp(0), ea) }
    }
}

extension Opcode {
    /// Never emitted: fills the place of a width that does not occur.
    fileprivate static let nopWidth = Opcode.lea8
}
