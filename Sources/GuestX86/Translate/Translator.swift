import CPUCore

/// Writes x86 semantics as micro-ops. Every engine starts from here; there is no other description of them.
package final class Translator {
    package let ir: BlockBuilder
    /// Mode the block is translated for.
    package private(set) var mode: ModeBits = []
    package private(set) var is64 = false
    /// PC of the instruction and of the one after it.
    package private(set) var pc: UInt64 = 0
    package private(set) var nextPC: UInt64 = 0
    /// The block's end has been emitted.
    var isEnded = false
    /// Conditional jumps in the block that it goes on after.
    var sideExits = 0
    static let mostSideExits = 4
    /// The block's last instruction is a string instruction with a repeat prefix.
    var isRepeating = false

    package init(ir: BlockBuilder) { self.ir = ir }

    package var fpuMayTrap: Bool { mode.contains(.fpuMayTrap) }

    /// Where translation stopped.
    package struct Outcome {
        /// PC after the last instruction.
        package var endPC: UInt64
        /// The instruction at `endPC` crosses the page or its bytes were not given: nothing of it was translated.
        package var needsMore: Bool
        /// That instruction is longer than 15 bytes.
        package var isTooLong: Bool
    }

    /// Translates from `bytes` until the block ends: a branch, the end of the bytes, or `limit` instructions.
    /// - Parameters:
    ///   - pc: offset in the code segment of the first byte; `linear` its linear address.
    ///   - limit: 1 or more.
    package func translate(
        _ bytes: UnsafePointer<UInt8>, available: Int, pc start: UInt64, linear: UInt64, mode: ModeBits, limit: Int
    ) -> Outcome {
        self.mode = mode
        is64 = mode.codeSize == .bits64
        ir.start(pc: start, linear: linear)
        isEnded = false
        sideExits = 0
        isRepeating = false
        var offset = 0
        pc = start
        nextPC = start
        let size = mode.codeSize
        let isProtected = mode.contains(.protected)
        let most = mode.contains(.singleStep) ? 1 : limit
        var outcome = Outcome(endPC: start, needsMore: false, isTooLong: false)
        var i = Instruction()
        while !isEnded, ir.instructionCount < most, !ir.isFull, offset < available {
            let result = Decoder.decode(
                bytes + offset, available: available - offset, size: size, isProtected: isProtected, into: &i)
            guard case .ok = result else {
                if case .needMore = result { outcome.needsMore = true } else { outcome.isTooLong = true }
                break
            }
            pc = nextPC
            nextPC = wrap(pc &+ UInt64(i.length))
            ir.beginInstruction(pc: pc)
            translate(i)
            offset += Int(i.length)
        }
        outcome.endPC = nextPC
        if ir.instructionCount > 0, !isEnded { ir.emit(.jump, imm: nextPC) }
        ir.removeDeadFlags()
        return outcome
    }

    /// A block that raises #GP: for an instruction that is too long.
    package func translateTooLong(pc start: UInt64, linear: UInt64) {
        ir.start(pc: start, linear: linear)
        ir.beginInstruction(pc: start)
        helper(.raiseGeneralProtection)
        ir.emit(.leaveDynamic)
    }

    /// An instruction pointer in the code segment's size.
    func wrap(_ pc: UInt64) -> UInt64 {
        switch mode.codeSize {
        case .bits64: pc
        case .bits32: pc & 0xFFFF_FFFF
        case .bits16: pc & 0xFFFF_FFFF
        }
    }

    // MARK: Helpers and ends

    package func helper(_ id: HelperID, dst: UInt16 = 0, a: UInt16 = 0, imm: UInt64 = 0) {
        ir.emit(.call, dst: dst, a: a, b: id.rawValue, imm: imm)
    }
    package func pureHelper(_ id: HelperID, dst: UInt16 = 0, a: UInt16 = 0, imm: UInt64 = 0) {
        ir.emit(.callPure, dst: dst, a: a, b: id.rawValue, imm: imm)
    }

    /// #UD; the block ends.
    package func raiseUD() {
        helper(.raiseInvalidOpcode)
        leaveDynamic()
    }

    /// Ends the block at the next instruction, by way of the run loop.
    func leave() {
        ir.emit(.leave, imm: nextPC)
        isEnded = true
    }

    /// Ends the block; a helper has set the PC.
    func leaveDynamic() {
        ir.emit(.leaveDynamic)
        isEnded = true
    }

    /// #GP(0) unless CPL is 0.
    func requireCPL0() { helper(.privileged) }

    // MARK: Operands

    /// Slot of general register `number` for an access of 1 << `size` bytes.
    package func gpr(_ number: UInt8, _ size: UInt8, _ i: Instruction) -> UInt16 {
        if size == 0, !i.hasREX, number >= 4 { return Slot.register(Int(number) - 4) + 1 }
        return Slot.register(Int(number))
    }

    /// Logarithm of an operand form's size.
    func size(_ form: Operand, _ i: Instruction) -> UInt8 {
        switch form {
        case .Eb, .Gb, .Zb, .Ib, .AL, .CL, .Ob: 0
        case .Ew, .Gw, .Sw: 1
        case .Ey, .Gy: is64 ? 3 : 2
        default: i.operandSize
        }
    }

    /// The slot of a register operand, or nil when the form is memory or immediate.
    func registerSlot(_ form: Operand, _ i: Instruction) -> UInt16? {
        let size = size(form, i)
        switch form {
        case .Eb, .Ew, .Ev, .Ey: return i.isMemory ? nil : gpr(i.rm, size, i)
        case .Gb, .Gw, .Gv, .Gy: return gpr(i.reg, size, i)
        case .Zb, .Zv: return gpr(i.opcode & 7 | (i.rex & 1) << 3, size, i)
        case .AL, .rAX: return Slot.register(0)
        case .CL: return Slot.register(1)
        default: return nil
        }
    }

    /// The immediate of an immediate form.
    func immediate(_ form: Operand, _ i: Instruction) -> UInt64? {
        switch form {
        case .Ib, .Ibs, .Iw, .Iz, .Iv: i.immediate
        case .one: 1
        default: nil
        }
    }

    /// The value of any operand in a slot: its register, or `temp` loaded from memory or with the immediate.
    func value(_ form: Operand, _ i: Instruction, temp: UInt16) -> UInt16 {
        if let slot = registerSlot(form, i) { return slot }
        let size = Int(size(form, i))
        if let immediate = immediate(form, i) {
            ir.emit(Opcode.movI8.sized(size), dst: temp, imm: immediate)
            return temp
        }
        let ea = effectiveAddress(i, size: 1 << size)
        ir.emit(Opcode.ld8.sized(size), dst: temp, a: ea.base, b: ea.index, imm: ea.address.raw)
        return temp
    }

    package typealias EffectiveAddress = (base: UInt16, index: UInt16, address: Address)

    func load(_ size: Int, _ dst: UInt16, _ ea: EffectiveAddress, willStore: Bool = false) {
        ir.emit(
            (willStore ? Opcode.ldw8 : Opcode.ld8).sized(size), dst: dst, a: ea.base, b: ea.index,
            imm: ea.address.raw)
    }
    func store(_ size: Int, _ src: UInt16, _ ea: EffectiveAddress) {
        ir.emit(Opcode.st8.sized(size), dst: src, a: ea.base, b: ea.index, imm: ea.address.raw)
    }

    /// Default segment of the memory operand, or the override.
    func segment(_ i: Instruction) -> SegmentRegister {
        if i.segment >= 0 { return SegmentRegister(rawValue: Int(i.segment)) ?? .ds }
        return i.base == 4 || i.base == 5 ? .ss : .ds
    }

    private func isFlat(_ segment: SegmentRegister) -> Bool {
        switch segment {
        case .es: mode.contains(.flatES)
        case .ss: mode.contains(.flatSS)
        case .ds: mode.contains(.flatDS)
        default: false
        }
    }

    private func isWide(_ segment: SegmentRegister) -> Bool {
        switch segment {
        case .fs: mode.contains(.wideFS)
        case .gs: mode.contains(.wideGS)
        default: false
        }
    }

    /// Emits what forms the linear address of the memory operand; gives the operands of a load or store.
    /// - Parameters:
    ///   - size: bytes accessed, for the limit check.
    ///   - write: it will be written.
    ///   - extra: a slot to add to the offset (bit strings), 64 bits.
    package func effectiveAddress(
        _ i: Instruction, size: Int = 1, write: Bool = false, extra: UInt16? = nil
    ) -> EffectiveAddress {
        let temp = Slot.temp(15)
        let segment = segment(i)
        let offset = offsetOperands(i, extra: extra)
        if is64 {
            var address = offset.address
            if segment == .ss, i.segment < 0 { address = address.with(Address.stack) }
            guard segment == .fs || segment == .gs else { return (offset.base, offset.index, address) }
            let base = StateLayout.base(segment.rawValue)
            if offset.index == Slot.zero, address.raw & Address.truncate32 == 0 {
                return (offset.base, base, Address(displacement: Int32(truncatingIfNeeded: address.raw)))
            }
            ir.emit(.lea64, dst: temp, a: offset.base, b: offset.index, imm: address.raw)
            ir.emit(.segment64, dst: temp, a: temp, b: base)
            return (temp, Slot.zero, Address())
        }
        if isFlat(segment) { return offset }
        ir.emit(.lea64, dst: temp, a: offset.base, b: offset.index, imm: offset.address.raw)
        return segmented(segment, temp, size: size, write: write)
    }

    /// The linear address of `offset` (a slot) in a segment, checked.
    func segmented(_ segment: SegmentRegister, _ offset: UInt16, size: Int, write: Bool) -> EffectiveAddress {
        if is64 {
            guard segment == .fs || segment == .gs else {
                return (offset, Slot.zero, segment == .ss ? Address().with(Address.stack) : Address())
            }
            return (offset, StateLayout.base(segment.rawValue), Address())
        }
        if isFlat(segment) { return (offset, Slot.zero, Address().with(Address.truncate32)) }
        let temp = Slot.temp(15)
        if isWide(segment) {
            ir.emit(.segment32, dst: temp, a: offset, b: StateLayout.base(segment.rawValue))
            return (temp, Slot.zero, Address())
        }
        helper(
            .segmentAddress, dst: temp, a: offset,
            imm: UInt64(segment.rawValue) | UInt64(size) << 8 | (write ? 1 << 32 : 0))
        return (temp, Slot.zero, Address())
    }

    /// The memory operand's offset within its segment, in the address size.
    func offsetOperands(_ i: Instruction, extra: UInt16? = nil) -> EffectiveAddress {
        let temp = Slot.temp(15)
        if i.first == .Ob || i.first == .Ov || i.second == .Ob || i.second == .Ov {
            ir.emit(.movI64, dst: temp, imm: UInt64(bitPattern: i.displacement))
            return (temp, Slot.zero, Address())
        }
        var base = i.base >= 0 ? Slot.register(Int(i.base)) : Slot.zero
        var index = i.index >= 0 ? Slot.register(Int(i.index)) : Slot.zero
        var address = Address(displacement: Int32(truncatingIfNeeded: i.displacement), scale: i.scale)
        if i.base == -2 {
            let target = nextPC &+ UInt64(bitPattern: i.displacement)
            ir.emit(.movI64, dst: temp, imm: i.addressSize == 2 ? target & 0xFFFF_FFFF : target)
            base = temp
            address = Address(scale: i.scale)
        }
        switch i.addressSize {
        case 1:
            ir.emit(.lea64, dst: temp, a: base, b: index, imm: address.raw)
            if let extra { ir.emit(.add64, dst: temp, a: temp, b: extra) }
            ir.emit(.zx16x64, dst: temp, a: temp)
            return (temp, Slot.zero, Address())
        case 2: address = address.with(Address.truncate32)
        default: break
        }
        if let extra {
            ir.emit(.lea64, dst: temp, a: base, b: index, imm: address.raw)
            base = temp
            index = extra
            address = i.addressSize == 2 ? Address().with(Address.truncate32) : Address()
        }
        return (base, index, address)
    }

    // MARK: Stack

    /// Logarithm of the stack pointer's size.
    var stackSize: Int { is64 ? 3 : mode.contains(.stack32) ? 2 : 1 }
    static let rsp = Slot.register(4)

    /// Where the stack's top will be after moving it by `displacement`, in `temp`; zero-extended.
    private func stackOffset(_ displacement: Int32, _ temp: UInt16) {
        let address = Address(displacement: displacement).raw
        switch stackSize {
        case 3: ir.emit(.lea64, dst: temp, a: Self.rsp, b: Slot.zero, imm: address)
        case 2: ir.emit(.lea32, dst: temp, a: Self.rsp, b: Slot.zero, imm: address)
        default:
            ir.emit(.lea64, dst: temp, a: Self.rsp, b: Slot.zero, imm: address)
            ir.emit(.zx16x64, dst: temp, a: temp)
        }
    }

    /// Pushes the low 1 << `size` bytes of `slot`.
    func push(_ slot: UInt16, size: Int) {
        let bytes = Int32(1 << size)
        if is64 {
            ir.emit(
                Opcode.st8.sized(size), dst: slot, a: Self.rsp, b: Slot.zero,
                imm: Address(displacement: -bytes).with(Address.stack).raw)
            ir.emit(.subI64, dst: Self.rsp, a: Self.rsp, imm: UInt64(bytes))
            return
        }
        let temp = Slot.temp(14)
        stackOffset(-bytes, temp)
        store(size, slot, segmented(.ss, temp, size: Int(bytes), write: true))
        ir.emit(Opcode.mov8.sized(stackSize), dst: Self.rsp, a: temp)
    }

    /// Loads the stack's top, `skip` bytes up, into `slot`, without moving the stack pointer.
    func peek(_ slot: UInt16, size: Int, skip: Int32 = 0) {
        if is64 {
            ir.emit(
                Opcode.ld8.sized(size), dst: slot, a: Self.rsp, b: Slot.zero,
                imm: Address(displacement: skip).with(Address.stack).raw)
            return
        }
        let temp = Slot.temp(14)
        stackOffset(skip, temp)
        load(size, slot, segmented(.ss, temp, size: 1 << size, write: false))
    }

    /// Moves the stack pointer up.
    func dropStack(_ bytes: UInt64) {
        ir.emit(Opcode.addI8.sized(stackSize), dst: Self.rsp, a: Self.rsp, imm: bytes)
    }

    // MARK: Dispatch

    private func translate(_ i: Instruction) {
        switch i.operation {
        case .invalid, .group, .ud: raiseUD()
        case .x87: translateX87(i)
        case .simd:
            if let row = SIMDMap.lookup(map: i.map, opcode: i.opcode, prefix: i.simdPrefix) {
                translateSIMD(i, row)
            } else {
                raiseUD()
            }
        case .add, .or, .adc, .sbb, .and, .sub, .xor, .cmp, .test, .inc, .dec, .neg, .not, .mul, .imul1, .imul2,
            .imul3, .div, .idiv, .rol, .ror, .rcl, .rcr, .shl, .shr, .sar, .shld, .shrd, .cbw, .cwd, .daa, .das,
            .aaa, .aas, .aam, .aad, .salc, .lahf, .sahf, .clc, .stc, .cmc, .bt, .bts, .btr, .btc, .bsf, .bsr,
            .popcnt:
            translateArithmetic(i)
        case .mov, .xchg, .lea, .movzxb, .movzxw, .movsxb, .movsxw, .movsxd, .bswap, .xadd, .cmpxchg, .cmpxchg8b,
            .cmov, .setcc, .xlat, .movMoffsLoad, .movMoffsStore, .nop, .prefetch, .fence, .clflush, .pause:
            translateMove(i)
        case .push, .pop, .pusha, .popa, .pushf, .popf, .pushSegment, .popSegment, .enter, .leave:
            translateStack(i)
        case .movs, .cmps, .stos, .lods, .scas, .ins, .outs: translateString(i)
        case .jcc, .jmp, .jmpNear, .jmpFar, .jmpFarPointer, .call, .callNear, .callFar, .callFarPointer, .ret,
            .retImmediate, .retFar, .retFarImmediate, .iret, .int, .int3, .into, .int1, .loop, .loope, .loopne,
            .jcxz, .bound:
            translateBranch(i)
        default: translateSystem(i)
        }
    }
}
