import CPUCore

/// Offsets of parts of `FPUState` that only MMX and SSE instructions touch by micro-ops.
private enum FPUSlot {
    static let status = StateLayout.fpu + UInt16(MemoryLayout<FPUState>.offset(of: \.status)!)
    static let tagValid = StateLayout.fpu + UInt16(MemoryLayout<FPUState>.offset(of: \.tagValid)!)
    static let mxcsr = StateLayout.fpu + UInt16(MemoryLayout<FPUState>.offset(of: \.mxcsr)!)

    /// Where memory operands are loaded to, and a second place of 16 bytes.
    static let scratch = StateLayout.scratch
    static let scratch2 = StateLayout.scratch + 16

    static func xmm(_ number: UInt8) -> UInt16 { StateLayout.xmm + UInt16(number & 15) * 16 }
    /// MMX register: 8 bytes, followed by the x87 register's sign and exponent. REX does not extend the number.
    static func mmx(_ number: UInt8) -> UInt16 { StateLayout.x87 + UInt16(number & 7) * 16 }
}

extension Translator {
    /// MMX, SSE … SSE4.2 (SDM volume 1, 5.4 to 5.12).
    ///
    /// Whatever may fault comes first: checks, then memory, then changes of registers.
    func translateSIMD(_ i: Instruction, _ row: SIMDRow) {
        let misfit: SIMDAttributes = i.isMemory ? .registerOnly : .memoryOnly
        if row.attributes.contains(misfit) {
            raiseUD()
            return
        }
        check(i, row)
        switch row.form {
        case .undefined: raiseUD()
        case .xmm, .xmmShift, .gprXMM, .xmmGPR, .checksum, .xmmMasked: translateOperation(i, row)
        case .mmx, .mmxShift, .mmxJoined, .mmxHigh, .mmxShuffle, .mmxAlign, .gprMMX, .xmmMMX, .mmxXMM, .mmxMasked,
            .mmxLogic, .mmxLoad, .mmxStore, .mmxFromGPR, .mmxToGPR, .xmmFromMMX, .mmxFromXMM, .mmxInsert,
            .mmxExtract, .emptyTags:
            translateMMX(i, row)
        default: translateVectorMove(i, row)
        }
    }

    /// MXCSR ← memory.
    func translateLDMXCSR(_ i: Instruction) {
        if fpuMayTrap { simd(.checkSSE) }
        load(2, Slot.temp(0), effectiveAddress(i, size: 4))
        ir.emit(.call, a: Slot.temp(0), b: SIMDOperation.ldmxcsr.helper)
    }

    /// Memory ← MXCSR.
    func translateSTMXCSR(_ i: Instruction) {
        if fpuMayTrap { simd(.checkSSE) }
        store(2, FPUSlot.mxcsr, effectiveAddress(i, size: 4, write: true))
    }

    // MARK: Parts

    /// CR0.EM, CR0.TS, CR4.OSFXSR; for instructions with MMX registers a waiting x87 exception, too.
    private func check(_ i: Instruction, _ row: SIMDRow) {
        switch row.form {
        case .xmmMMX where row.attributes.contains(.noTransition) && i.isMemory: if fpuMayTrap { simd(.checkSSE) }
        case .xmmMMX, .mmxXMM, .xmmFromMMX, .mmxFromXMM: simd(.checkBoth)
        case .mmx, .mmxShift, .mmxJoined, .mmxHigh, .mmxShuffle, .mmxAlign, .gprMMX, .mmxMasked, .mmxLogic, .mmxLoad,
            .mmxStore, .mmxFromGPR, .mmxToGPR, .mmxInsert, .mmxExtract, .emptyTags:
            simd(.checkMMX)
        default: if fpuMayTrap, !row.attributes.contains(.unchecked) { simd(.checkSSE) }
        }
    }

    private func simd(
        _ operation: SIMDOperation, dst: UInt16 = 0, a: UInt16 = 0, imm: UInt64 = 0, mayRaise: Bool = true
    ) {
        ir.emit(mayRaise ? .call : .callPure, dst: dst, a: a, b: operation.helper, imm: imm)
    }

    private func copy128(_ dst: UInt16, _ src: UInt16) {
        if dst == src { return }
        ir.emit(.mov64, dst: dst, a: src)
        ir.emit(.mov64, dst: dst + 8, a: src + 8)
    }

    /// Loads `width` bytes of the memory operand to `slot`; the bytes behind are zero (4) or left as they are.
    private func loadVector(_ i: Instruction, _ row: SIMDRow, to slot: UInt16) {
        let ea = effectiveAddress(i, size: Int(row.width))
        switch row.width {
        case 16:
            let address = row.attributes.contains(.aligned) ? ea.address.with(Address.aligned) : ea.address
            ir.emit(.ld128, dst: slot, a: ea.base, b: ea.index, imm: address.raw)
        case 8: load(3, slot, ea)
        case 4: load(2, slot, ea)
        case 2: load(1, slot, ea)
        default: load(0, slot, ea)
        }
    }

    private func storeVector(_ i: Instruction, _ row: SIMDRow, from slot: UInt16) {
        let ea = effectiveAddress(i, size: Int(row.width), write: true)
        switch row.width {
        case 16:
            let address = row.attributes.contains(.aligned) ? ea.address.with(Address.aligned) : ea.address
            ir.emit(.st128, dst: slot, a: ea.base, b: ea.index, imm: address.raw)
        case 8: store(3, slot, ea)
        case 4: store(2, slot, ea)
        case 2: store(1, slot, ea)
        default: store(0, slot, ea)
        }
    }

    /// The XMM or MMX register of rm, or the memory operand in scratch.
    private func xmmSource(_ i: Instruction, _ row: SIMDRow) -> UInt16 {
        if !i.isMemory { return FPUSlot.xmm(i.rm) }
        loadVector(i, row, to: FPUSlot.scratch)
        return FPUSlot.scratch
    }
    private func mmxSource(_ i: Instruction, _ row: SIMDRow) -> UInt16 {
        if !i.isMemory { return FPUSlot.mmx(i.rm) }
        loadVector(i, row, to: FPUSlot.scratch)
        return FPUSlot.scratch
    }

    /// The general register of rm, or the memory operand in temporary 0; `size` is the logarithm of the bytes.
    private func gprSource(_ i: Instruction, _ size: Int) -> UInt16 {
        if !i.isMemory { return gpr(i.rm, UInt8(size), i) }
        load(size, Slot.temp(0), effectiveAddress(i, size: 1 << size))
        return Slot.temp(0)
    }

    // MARK: Operations on XMM registers

    private func translateOperation(_ i: Instruction, _ row: SIMDRow) {
        let mayRaise = row.attributes.contains(.mayRaise)
        switch row.form {
        case .xmm:
            let src = xmmSource(i, row)
            simd(row.operation, dst: FPUSlot.xmm(i.reg), a: src, imm: operationImmediate(i, row), mayRaise: mayRaise)
        case .xmmShift:
            guard let operation = shift(i, isMMX: false) else { return raiseUD() }
            simd(operation, dst: FPUSlot.xmm(i.rm), imm: i.immediate & 0xFF, mayRaise: false)
        case .gprXMM:
            let src = xmmSource(i, row)
            simd(operation(i, row), dst: Slot.register(Int(i.reg)), a: src, mayRaise: mayRaise)
        case .xmmGPR:
            let src = gprSource(i, i.rexW ? 3 : 2)
            simd(operation(i, row), dst: FPUSlot.xmm(i.reg), a: src, mayRaise: mayRaise)
        case .checksum:
            let size = row.width == 1 ? 0 : Int(i.operandSize)
            let src = gprSource(i, size)
            simd(.crc32, dst: Slot.register(Int(i.reg)), a: src, imm: 1 << UInt64(size), mayRaise: false)
        default: masked(i, row, mask: FPUSlot.xmm(i.rm), data: FPUSlot.xmm(i.reg))
        }
    }

    /// The row's operation, or its 64-bit sibling with REX.W.
    private func operation(_ i: Instruction, _ row: SIMDRow) -> SIMDOperation {
        guard i.rexW, row.attributes.contains(.wide) else { return row.operation }
        return SIMDOperation(rawValue: row.operation.rawValue + 1) ?? row.operation
    }

    private func operationImmediate(_ i: Instruction, _ row: SIMDRow) -> UInt64 {
        let immediate = i.immediate & 0xFF
        switch row.operation {
        // A memory operand is element 0.
        case .insertps where i.isMemory: return immediate & 0x3F
        case .pcmpestri, .pcmpestrm: return immediate | (i.rexW ? 0x100 : 0)
        default: return immediate
        }
    }

    /// Groups 12, 13, 14 (0F 71...73): shifts by an immediate.
    private func shift(_ i: Instruction, isMMX: Bool) -> SIMDOperation? {
        switch (i.opcode, i.reg & 7) {
        case (0x71, 2): .psrlwI
        case (0x71, 4): .psrawI
        case (0x71, 6): .psllwI
        case (0x72, 2): .psrldI
        case (0x72, 4): .psradI
        case (0x72, 6): .pslldI
        case (0x73, 2): .psrlqI
        case (0x73, 6): .psllqI
        case (0x73, 3): isMMX ? nil : .psrldq
        case (0x73, 7): isMMX ? nil : .pslldq
        default: nil
        }
    }

    /// MASKMOVDQU, MASKMOVQ: the memory operand is at DS:rDI, or another segment.
    private func masked(_ i: Instruction, _ row: SIMDRow, mask: UInt16, data: UInt16) {
        var place = i
        place.mod = 0
        place.base = 7
        place.index = -1
        place.scale = 0
        place.displacement = 0
        let ea = effectiveAddress(place, size: Int(row.width), write: true)
        ir.emit(.lea64, dst: Slot.temp(0), a: ea.base, b: ea.index, imm: ea.address.raw)
        simd(row.operation, dst: data, a: mask)
    }

    // MARK: MMX

    /// The x87 unit holds MMX registers now: all tags valid, top of stack 0.
    private func enterMMX() {
        ir.emit(.movI8, dst: FPUSlot.tagValid, imm: 0xFF)
        ir.emit(.andI16, dst: FPUSlot.status, a: FPUSlot.status, imm: 0xC7FF)
    }
    /// After a write of an MMX register: sign and exponent become ones.
    private func finishMMX(_ dst: UInt16) { ir.emit(.movI64, dst: dst + 8, imm: 0xFFFF) }

    private func translateMMX(_ i: Instruction, _ row: SIMDRow) {
        let dst = FPUSlot.mmx(i.reg)
        let immediate = i.immediate & 0xFF
        let mayRaise = row.attributes.contains(.mayRaise)
        switch row.form {
        case .mmx, .mmxJoined, .mmxHigh, .mmxShuffle, .mmxAlign:
            let src = mmxSource(i, row)
            enterMMX()
            combineMMX(row, dst: dst, src: src, imm: immediate)
            finishMMX(dst)
        case .mmxShift:
            guard let operation = shift(i, isMMX: true) else { return raiseUD() }
            enterMMX()
            simd(operation, dst: FPUSlot.mmx(i.rm), imm: immediate, mayRaise: false)
            finishMMX(FPUSlot.mmx(i.rm))
        case .mmxLogic:
            let src = mmxSource(i, row)
            enterMMX()
            logic(row.operation, dst: dst, src: src)
            finishMMX(dst)
        case .gprMMX:
            enterMMX()
            let target = Slot.register(Int(i.reg))
            simd(row.operation, dst: target, a: FPUSlot.mmx(i.rm), mayRaise: false)
            ir.emit(.andI64, dst: target, a: target, imm: 0xFF)
        case .xmmMMX:
            let src = mmxSource(i, row)
            // Processors make the transition before they look for floating-point exceptions.
            if !(row.attributes.contains(.noTransition) && i.isMemory) { enterMMX() }
            simd(row.operation, dst: FPUSlot.xmm(i.reg), a: src, mayRaise: mayRaise)
        case .mmxXMM:
            let src = xmmSource(i, row)
            enterMMX()
            simd(row.operation, dst: dst, a: src, mayRaise: mayRaise)
            finishMMX(dst)
        case .mmxMasked:
            enterMMX()
            masked(i, row, mask: FPUSlot.mmx(i.rm), data: dst)
        case .emptyTags:
            ir.emit(.movI8, dst: FPUSlot.tagValid, imm: 0)
        default: moveMMX(i, row, dst)
        }
    }

    /// An operation on 16 bytes whose low half becomes the MMX result.
    private func combineMMX(_ row: SIMDRow, dst: UInt16, src: UInt16, imm: UInt64) {
        switch row.form {
        case .mmxJoined:
            // Both operands side by side are one operand of the 16-byte operation.
            ir.emit(.mov64, dst: dst + 8, a: src)
            simd(row.operation, dst: dst, a: dst, mayRaise: false)
        case .mmxHigh:
            simd(row.operation, dst: dst, a: src, mayRaise: false)
            ir.emit(.mov64, dst: dst, a: dst + 8)
        case .mmxShuffle:
            // Bit 3 of an index does not count: there are 8 bytes.
            ir.emit(.andI64, dst: FPUSlot.scratch2, a: src, imm: 0x8787_8787_8787_8787)
            simd(row.operation, dst: dst, a: FPUSlot.scratch2, mayRaise: false)
        case .mmxAlign:
            if src != FPUSlot.scratch { ir.emit(.mov64, dst: FPUSlot.scratch, a: src) }
            ir.emit(.mov64, dst: FPUSlot.scratch + 8, a: dst)
            simd(.psrldq, dst: FPUSlot.scratch, imm: imm, mayRaise: false)
            ir.emit(.mov64, dst: dst, a: FPUSlot.scratch)
        default: simd(row.operation, dst: dst, a: src, imm: imm, mayRaise: false)
        }
    }

    private func moveMMX(_ i: Instruction, _ row: SIMDRow, _ dst: UInt16) {
        let size = i.rexW ? 3 : 2
        switch row.form {
        case .mmxLoad:
            let src = mmxSource(i, row)
            enterMMX()
            ir.emit(.mov64, dst: dst, a: src)
            finishMMX(dst)
        case .mmxStore:
            if i.isMemory {
                storeVector(i, row, from: dst)
                enterMMX()
            } else {
                enterMMX()
                ir.emit(.mov64, dst: FPUSlot.mmx(i.rm), a: dst)
                finishMMX(FPUSlot.mmx(i.rm))
            }
        case .mmxFromGPR:
            let src = gprSource(i, size)
            enterMMX()
            ir.emit(Opcode.mov8.sized(size), dst: dst, a: src)
            finishMMX(dst)
        case .mmxToGPR:
            if i.isMemory {
                store(size, dst, effectiveAddress(i, size: 1 << size, write: true))
            } else {
                ir.emit(Opcode.mov8.sized(size), dst: Slot.register(Int(i.rm)), a: dst)
            }
            enterMMX()
        case .xmmFromMMX:
            enterMMX()
            ir.emit(.mov64, dst: FPUSlot.xmm(i.reg), a: FPUSlot.mmx(i.rm))
            ir.emit(.movI64, dst: FPUSlot.xmm(i.reg) + 8, imm: 0)
        case .mmxFromXMM:
            enterMMX()
            ir.emit(.mov64, dst: dst, a: FPUSlot.xmm(i.rm))
            finishMMX(dst)
        case .mmxInsert:
            let src = gprSource(i, 1)
            enterMMX()
            ir.emit(.mov16, dst: dst + UInt16(i.immediate & 3) * 2, a: src)
            finishMMX(dst)
        default:
            enterMMX()
            let src = FPUSlot.mmx(i.rm) + UInt16(i.immediate & 3) * 2
            ir.emit(.zx16x64, dst: Slot.register(Int(i.reg)), a: src)
        }
    }

    /// AND, AND NOT, OR, XOR of 8 bytes.
    private func logic(_ operation: SIMDOperation, dst: UInt16, src: UInt16) {
        switch operation {
        case .pand: ir.emit(.and64, dst: dst, a: dst, b: src)
        case .por: ir.emit(.or64, dst: dst, a: dst, b: src)
        case .pxor where dst == src: ir.emit(.movI64, dst: dst, imm: 0)
        case .pxor: ir.emit(.xor64, dst: dst, a: dst, b: src)
        default:
            ir.emit(.not64, dst: Slot.temp(0), a: dst)
            ir.emit(.and64, dst: dst, a: Slot.temp(0), b: src)
        }
    }

    // MARK: Moves of XMM registers

    private func translateVectorMove(_ i: Instruction, _ row: SIMDRow) {
        let reg = FPUSlot.xmm(i.reg)
        let rm = FPUSlot.xmm(i.rm)
        switch row.form {
        case .load:
            if i.isMemory { loadVector(i, row, to: reg) } else { copy128(reg, rm) }
        case .store:
            if i.isMemory { storeVector(i, row, from: reg) } else { copy128(rm, reg) }
        case .loadScalar:
            if i.isMemory {
                loadVector(i, row, to: reg)
                ir.emit(.movI64, dst: reg + 8, imm: 0)
            } else {
                copyElement(row.width, reg, rm)
            }
        case .storeScalar:
            if i.isMemory { storeVector(i, row, from: reg) } else { copyElement(row.width, rm, reg) }
        case .loadLow:
            if i.isMemory { loadVector(i, row, to: reg) } else { ir.emit(.mov64, dst: reg, a: rm) }
            ir.emit(.movI64, dst: reg + 8, imm: 0)
        case .storeLow:
            if i.isMemory { return storeVector(i, row, from: reg) }
            ir.emit(.mov64, dst: rm, a: reg)
            ir.emit(.movI64, dst: rm + 8, imm: 0)
        case .halfLow:
            if i.isMemory { loadVector(i, row, to: reg) } else { ir.emit(.mov64, dst: reg, a: rm + 8) }
        case .halfHigh:
            if i.isMemory { loadVector(i, row, to: reg + 8) } else { ir.emit(.mov64, dst: reg + 8, a: rm) }
        case .storeHalfLow: storeVector(i, row, from: reg)
        case .storeHalfHigh: storeVector(i, row, from: reg + 8)
        case .duplicate:
            if i.isMemory { loadVector(i, row, to: reg) } else { ir.emit(.mov64, dst: reg, a: rm) }
            ir.emit(.mov64, dst: reg + 8, a: reg)
        case .unpackLow:
            let src = xmmSource(i, row)
            ir.emit(.mov64, dst: reg + 8, a: src)
        case .unpackHigh:
            let src = xmmSource(i, row)
            ir.emit(.mov64, dst: reg, a: reg + 8)
            ir.emit(.mov64, dst: reg + 8, a: src + 8)
        case .logic:
            let src = xmmSource(i, row)
            logic(row.operation, dst: reg, src: src)
            logic(row.operation, dst: reg + 8, src: src + 8)
        default: moveElement(i, row)
        }
    }

    /// Low 4 or 8 bytes; the rest stays. (A 32-bit move would clear what follows.)
    private func copyElement(_ width: UInt8, _ dst: UInt16, _ src: UInt16) {
        switch width {
        case 8: ir.emit(.mov64, dst: dst, a: src)
        case 4:
            ir.emit(.mov16, dst: dst, a: src)
            ir.emit(.mov16, dst: dst + 2, a: src + 2)
        case 2: ir.emit(.mov16, dst: dst, a: src)
        default: ir.emit(.mov8, dst: dst, a: src)
        }
    }

    /// Between one element and a general register or memory.
    private func moveElement(_ i: Instruction, _ row: SIMDRow) {
        let reg = FPUSlot.xmm(i.reg)
        let size = row.width == 0 ? (i.rexW ? 3 : 2) : row.width.trailingZeroBitCount
        let width = UInt8(1) << UInt8(size)
        let element = UInt16(i.immediate & UInt64(16 / width - 1)) * UInt16(width)
        switch row.form {
        case .fromGPR:
            let src = gprSource(i, size)
            ir.emit(Opcode.mov8.sized(size), dst: reg, a: src)
            ir.emit(.movI64, dst: reg + 8, imm: 0)
        case .toGPR:
            if i.isMemory { return store(size, reg, effectiveAddress(i, size: 1 << size, write: true)) }
            ir.emit(Opcode.mov8.sized(size), dst: Slot.register(Int(i.rm)), a: reg)
        case .insert:
            // A byte register is never AH and so on: the operand is the low byte of a 32-bit register.
            let src = i.isMemory ? gprSource(i, size) : Slot.register(Int(i.rm))
            copyElement(width, reg + element, src)
        case .extract:
            if i.isMemory { return store(size, reg + element, effectiveAddress(i, size: 1 << size, write: true)) }
            extend(size, Slot.register(Int(i.rm)), reg + element)
        case .extractToReg: extend(size, Slot.register(Int(i.reg)), FPUSlot.xmm(i.rm) + element)
        case .storeGPR:
            let size = i.rexW ? 3 : 2
            store(size, Slot.register(Int(i.reg)), effectiveAddress(i, size: 1 << size, write: true))
        default: raiseUD()
        }
    }

    /// An element, zero-extended to a general register.
    private func extend(_ size: Int, _ dst: UInt16, _ src: UInt16) {
        switch size {
        case 0: ir.emit(.zx8x64, dst: dst, a: src)
        case 1: ir.emit(.zx16x64, dst: dst, a: src)
        case 2: ir.emit(.mov32, dst: dst, a: src)
        default: ir.emit(.mov64, dst: dst, a: src)
        }
    }
}
