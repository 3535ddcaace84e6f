import CPUCore

extension Translator {
    /// PUSH, POP and their kin (SDM volume 1, chapter 6.2).
    func translateStack(_ i: Instruction) {
        let size = Int(i.operandSize)
        switch i.operation {
        case .push:
            // PUSH rSP stores the value before the push: the store comes first.
            push(value(i.first, i, temp: Slot.temp(0)), size: size)
        case .pop: pop(i)
        case .pusha: helper(.pushAll, imm: UInt64(size))
        case .popa: helper(.popAll, imm: UInt64(size))
        case .pushf:
            if mode.contains(.virtual8086) {
                helper(.readFlags, dst: Slot.temp(0), imm: UInt64(size))
            } else {
                ir.emit(.packFlags, dst: Slot.temp(0))
                ir.emit(.or32, dst: Slot.temp(0), a: Slot.temp(0), b: StateLayout.systemFlags)
                // Bit 1 is always set.
                ir.emit(.orI32, dst: Slot.temp(0), a: Slot.temp(0), imm: 2)
                ir.emit(.andI32, dst: Slot.temp(0), a: Slot.temp(0), imm: UInt64(~(EFlags.vm | EFlags.rf)))
            }
            push(Slot.temp(0), size: size)
        case .popf:
            peek(Slot.temp(0), size: size)
            helper(.writeFlags, a: Slot.temp(0), imm: UInt64(size))
            dropStack(UInt64(1 << size))
            leave()
        case .pushSegment:
            ir.emit(.zx16x64, dst: Slot.temp(0), a: StateLayout.selector(Int(segmentNumber(i))))
            // A 32-bit push of a segment register writes 16 bits on some processors, zero-extends on others.
            push(Slot.temp(0), size: size)
        case .popSegment:
            peek(Slot.temp(0), size: size)
            helper(.loadSegment, a: Slot.temp(0), imm: segmentNumber(i))
            dropStack(UInt64(1 << size))
            leave()
        case .enter: helper(.enter, imm: i.immediate | i.immediate2 << 16 | UInt64(size) << 32)
        case .leave:
            // The frame pointer becomes the stack pointer only if the pop does not fault.
            let frame = Slot.register(5)
            let temp = Slot.temp(14)
            switch stackSize {
            case 3: ir.emit(.mov64, dst: temp, a: frame)
            case 2: ir.emit(.mov32, dst: temp, a: frame)
            default: ir.emit(.zx16x64, dst: temp, a: frame)
            }
            load(size, Slot.temp(0), segmented(.ss, temp, size: 1 << size, write: false))
            ir.emit(.addI64, dst: temp, a: temp, imm: UInt64(1 << size))
            ir.emit(Opcode.mov8.sized(stackSize), dst: Self.rsp, a: temp)
            ir.emit(Opcode.mov8.sized(size), dst: frame, a: Slot.temp(0))
        default: raiseUD()
        }
    }

    private func segmentNumber(_ i: Instruction) -> UInt64 {
        switch i.first {
        case .ES: 0
        case .CS: 1
        case .SS: 2
        case .DS: 3
        case .FS: 4
        default: 5
        }
    }

    private func pop(_ i: Instruction) {
        let size = Int(i.operandSize)
        let temp = Slot.temp(0)
        peek(temp, size: size)
        if let target = registerSlot(i.first, i) {
            dropStack(UInt64(1 << size))
            ir.emit(Opcode.mov8.sized(size), dst: target, a: temp)
            return
        }
        // The address uses the stack pointer after the pop, but a fault must leave it as it was.
        let saved = Slot.temp(1)
        ir.emit(.mov64, dst: saved, a: Self.rsp)
        dropStack(UInt64(1 << size))
        let offset = offsetOperands(i)
        ir.emit(.lea64, dst: Slot.temp(2), a: offset.base, b: offset.index, imm: offset.address.raw)
        let moved = Slot.temp(3)
        ir.emit(.mov64, dst: moved, a: Self.rsp)
        ir.emit(.mov64, dst: Self.rsp, a: saved)
        store(size, temp, segmented(segment(i), Slot.temp(2), size: 1 << size, write: true))
        ir.emit(.mov64, dst: Self.rsp, a: moved)
    }
}
