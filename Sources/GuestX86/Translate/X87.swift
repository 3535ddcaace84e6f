import CPUCore

extension Translator {
    /// x87 (SDM volume 1, 5.2). Opcodes D8 ... DF; the rest of the decoding is done here.
    ///
    /// Memory operands are loaded by micro-ops; stores are done by the helpers, which know whether there is one.
    func translateX87(_ i: Instruction) {
        if fpuMayTrap { x87(.checkAvailable) }
        if i.isMemory { translateX87Memory(i) } else { translateX87Register(i) }
    }

    // MARK: Memory operands

    private func translateX87Memory(_ i: Instruction) {
        let reg = i.reg & 7
        switch (i.opcode, reg) {
        case (0xD8, _): x87Load(i, .arithmetic32, 2)
        case (0xDA, _): x87Load(i, .arithmeticInteger32, 2)
        case (0xDC, _): x87Load(i, .arithmetic64, 3)
        case (0xDE, _): x87Load(i, .arithmeticInteger16, 1)
        case (0xD9, 0): x87Load(i, .load32, 2)
        case (0xD9, 2), (0xD9, 3): x87Store(i, .store32, 4)
        case (0xD9, 4): x87Environment(i, .loadEnvironment, 14, write: false)
        case (0xD9, 5):
            checkPending()
            load(1, Slot.temp(0), effectiveAddress(i, size: 2))
            x87(.loadControl, a: Slot.temp(0), mayFault: false)
        case (0xD9, 6): x87Environment(i, .storeEnvironment, 14, write: true)
        case (0xD9, 7): store(1, X87Slot.control, effectiveAddress(i, size: 2, write: true))
        case (0xDB, 0): x87Load(i, .loadInteger32, 2)
        case (0xDB, 1), (0xDB, 2), (0xDB, 3): x87Store(i, .storeInteger32, 4)
        case (0xDB, 5): x87LoadTen(i, .load80)
        case (0xDB, 7): x87Store(i, .store80, 10)
        case (0xDD, 0): x87Load(i, .load64, 3)
        case (0xDD, 1): x87Store(i, .storeInteger64, 8)
        case (0xDD, 2), (0xDD, 3): x87Store(i, .store64, 8)
        case (0xDD, 4): x87Environment(i, .restore, 94, write: false)
        case (0xDD, 6): x87Environment(i, .save, 94, write: true)
        case (0xDD, 7): store(1, X87Slot.status, effectiveAddress(i, size: 2, write: true))
        case (0xDF, 0): x87Load(i, .loadInteger16, 1)
        case (0xDF, 1), (0xDF, 2), (0xDF, 3): x87Store(i, .storeInteger16, 2)
        case (0xDF, 4): x87LoadTen(i, .loadDecimal)
        case (0xDF, 5): x87Load(i, .loadInteger64, 3)
        case (0xDF, 6): x87Store(i, .storeDecimal, 10)
        case (0xDF, 7): x87Store(i, .storeInteger64, 8)
        default: raiseUD()
        }
    }

    private func x87Load(_ i: Instruction, _ operation: X87Operation, _ size: Int) {
        // A waiting exception comes before a fault of the access.
        checkPending()
        let ea = effectiveAddress(i, size: 1 << size)
        ir.emit(.lea64, dst: Slot.temp(2), a: ea.base, b: ea.index, imm: ea.address.raw)
        load(size, Slot.temp(0), (Slot.temp(2), Slot.zero, stackAttribute(ea.address)))
        ir.emit(.mov64, dst: X87Slot.dataPointer, a: Slot.temp(2))
        x87(operation, i, a: Slot.temp(0), mayFault: false)
    }

    private func x87LoadTen(_ i: Instruction, _ operation: X87Operation) {
        checkPending()
        let ea = effectiveAddress(i, size: 10)
        ir.emit(.lea64, dst: Slot.temp(2), a: ea.base, b: ea.index, imm: ea.address.raw)
        let attribute = stackAttribute(ea.address)
        load(3, Slot.temp(0), (Slot.temp(2), Slot.zero, attribute))
        load(1, Slot.temp(1), (Slot.temp(2), Slot.zero, Address(displacement: 8).with(attribute.raw)))
        ir.emit(.mov64, dst: X87Slot.dataPointer, a: Slot.temp(2))
        x87(operation, i, a: Slot.temp(0), mayFault: false)
    }

    /// Whether a fault of the access is one of the stack: all that must be kept once the address has been computed.
    private func stackAttribute(_ address: Address) -> Address { Address().with(address.raw & Address.stack) }

    private func x87Store(_ i: Instruction, _ operation: X87Operation, _ size: Int) {
        x87Address(i, size, write: true)
        x87(operation, i, a: Slot.temp(0))
    }

    private func x87Address(_ i: Instruction, _ size: Int, write: Bool) {
        let ea = effectiveAddress(i, size: size, write: write)
        ir.emit(.lea64, dst: Slot.temp(0), a: ea.base, b: ea.index, imm: ea.address.raw)
    }

    /// FLDENV and FRSTOR wait for exceptions, FNSTENV and FNSAVE do not.
    private func x87Environment(_ i: Instruction, _ operation: X87Operation, _ size: Int, write: Bool) {
        if !write { checkPending() }
        let is32 = i.operandSize != 1
        x87Address(i, is32 ? size + 14 : size, write: write)
        let isReal = !mode.contains(.protected)
        x87(operation, a: Slot.temp(0), imm: (is32 ? 1 : 0) | (isReal ? 2 : 0))
    }

    // MARK: Registers

    private func translateX87Register(_ i: Instruction) {
        let reg = i.reg & 7
        switch (i.opcode, reg) {
        case (0xD8, _): x87(.arithmeticToTop, i)
        case (0xDC, 2), (0xDC, 3): x87(.arithmeticToTop, i)
        case (0xDC, _): x87(.arithmeticToRegister, i)
        case (0xDE, 2): x87(.arithmeticAndPop, i)
        case (0xDE, 3): if i.rm & 7 == 1 { x87(.compareAndPopTwice, i) } else { raiseUD() }
        case (0xDE, _): x87(.arithmeticAndPop, i)
        case (0xD9, 0): x87(.loadRegister, i)
        case (0xD9, 1), (0xDD, 1), (0xDF, 1): x87(.exchange, i)
        case (0xD9, 2): if i.rm & 7 == 0 { x87(.nothing, i) } else { raiseUD() }
        case (0xD9, 3): x87(.storeRegisterQuietly, i)
        case (0xDD, 3), (0xDF, 2), (0xDF, 3): x87(.storeRegisterAndPop, i)
        case (0xD9, _): translateX87Top(i)
        case (0xDA, 0...3), (0xDB, 0...3): x87(.conditionalMove, i)
        case (0xDA, 5): if i.rm & 7 == 1 { x87(.unorderedCompareAndPopTwice, i) } else { raiseUD() }
        case (0xDB, 4): translateX87Control(i)
        case (0xDB, 5): x87(.unorderedCompareFlags, i)
        case (0xDB, 6): x87(.compareFlags, i)
        case (0xDD, 0): x87(.free, i)
        case (0xDD, 2): x87(.storeRegister, i)
        case (0xDD, 4): x87(.unorderedCompare, i)
        case (0xDD, 5): x87(.unorderedCompareAndPop, i)
        case (0xDF, 0): x87(.freeAndPop, i)
        case (0xDF, 4):
            if i.rm & 7 == 0 { ir.emit(.mov16, dst: Slot.register(0), a: X87Slot.status) } else { raiseUD() }
        case (0xDF, 5): x87(.unorderedCompareFlagsAndPop, i)
        case (0xDF, 6): x87(.compareFlagsAndPop, i)
        default: raiseUD()
        }
    }

    /// DB E0 ... E7: FNCLEX, FNINIT; FENI, FDISI and FSETPM of older processors do nothing.
    private func translateX87Control(_ i: Instruction) {
        switch i.rm & 7 {
        case 0, 1, 4: break
        case 2: x87(.clearExceptions, mayFault: false)
        case 3: x87(.initialize, mayFault: false)
        default: raiseUD()
        }
    }

    /// D9 E0 ... FF: operations on the stack's top.
    private func translateX87Top(_ i: Instruction) {
        let operation: X87Operation? =
            switch (i.reg & 7) << 3 | (i.rm & 7) {
            case 0x20: .changeSign
            case 0x21: .absolute
            case 0x24: .test
            case 0x25: .examine
            case 0x28: .loadOne
            case 0x29: .loadL2T
            case 0x2A: .loadL2E
            case 0x2B: .loadPi
            case 0x2C: .loadLG2
            case 0x2D: .loadLN2
            case 0x2E: .loadZero
            case let code where code >= 0x30:
                X87Operation(rawValue: X87Operation.exponential.rawValue + UInt16(code - 0x30))
            default: nil
            }
        if let operation { x87(operation, i) } else { raiseUD() }
    }

    // MARK: Parts

    /// #MF if an unmasked exception waits.
    private func checkPending() {
        ir.emit(.guardClear8, a: X87Slot.status, b: X87Operation.checkPending.helper, imm: UInt64(FPUState.Status.pending))
    }

    /// A helper that notes the instruction: see `X87Operation`.
    private func x87(_ operation: X87Operation, _ i: Instruction, a: UInt16 = 0, mayFault: Bool = true) {
        let modRM = UInt16(i.mod << 6 | (i.reg & 7) << 3 | (i.rm & 7))
        let bits = UInt16(i.opcode & 7) << 8 | modRM
        x87(operation, dst: bits, a: a, imm: pc, mayFault: mayFault)
    }

    private func x87(
        _ operation: X87Operation, dst: UInt16 = 0, a: UInt16 = 0, imm: UInt64 = 0, mayFault: Bool = true
    ) {
        ir.emit(mayFault ? .call : .callPure, dst: dst, a: a, b: operation.helper, imm: imm)
    }
}

/// Offsets of the x87 unit's words.
private enum X87Slot {
    static let control = StateLayout.fpu + UInt16(MemoryLayout<FPUState>.offset(of: \.control)!)
    static let status = StateLayout.fpu + UInt16(MemoryLayout<FPUState>.offset(of: \.status)!)
    static let dataPointer = StateLayout.fpu + UInt16(MemoryLayout<FPUState>.offset(of: \.dataPointer)!)
}
