import CPUCore

extension HelperTable {
    /// Control transfers, segment registers, the stack instructions that are more than a store.
    static func installTransfer(_ table: UnsafeMutablePointer<MicroHelper>) {
        func set(_ id: HelperID, _ helper: @escaping MicroHelper) { table[Int(id.rawValue)] = helper }

        set(.raiseInvalidOpcode) { raw, _, _, _ in x86(raw).pointee.raise(.invalidOpcode) }
        set(.raiseGeneralProtection) { raw, _, _, _ in x86(raw).pointee.raise(.generalProtection, error: 0) }
        set(.checkTarget) { raw, _, a, _ in
            let state = x86(raw)
            let isWithin = get64(raw, a) <= UInt64(state.pointee.segments[1].limit)
            return isWithin ? 0 : state.pointee.raise(.generalProtection, error: 0)
        }
        set(.segmentAddress) { raw, dst, a, imm in
            let linear = x86(raw).withCPU { $0.segmentAddress(
                Int(imm & 0xFF), get64(raw, a), size: Int((imm >> 8) & 0xFFFF), write: imm >> 32 != 0) }
            guard let linear else { return 1 }
            put64(raw, dst, linear)
            return 0
        }
        set(.loadSegment) { raw, _, a, imm in
            let state = x86(raw)
            let index = Int(imm & 7)
            guard state.withCPU({ $0.loadSegment(index, get16(raw, a)) }) else { return 1 }
            // No interrupt between loading SS and loading the stack pointer.
            if index == 2 { state.pointee.shadowPosition = state.withCPU({ $0.exactPosition }) &+ 1 }
            return 0
        }
        set(.storeSegment) { raw, dst, _, imm in
            let state = x86(raw)
            guard state.withCPU({ $0.isProtected }) else { return state.pointee.raise(.invalidOpcode) }
            put64(raw, dst, UInt64(imm == 8 ? state.pointee.ldtr.selector : state.pointee.tr.selector))
            return 0
        }
        set(.jumpFar) { raw, dst, a, imm in
            let cpu = x86(raw).cpu
            return status(
                cpu.farTransfer(
                    get16(raw, a), get64(raw, dst), size: Int(imm & 0xFF), isCall: false,
                    returnPC: cpu.exactPC &+ (imm >> 8)))
        }
        set(.callFar) { raw, dst, a, imm in
            let cpu = x86(raw).cpu
            return status(
                cpu.farTransfer(
                    get16(raw, a), get64(raw, dst), size: Int(imm & 0xFF), isCall: true,
                    returnPC: cpu.exactPC &+ (imm >> 8)))
        }
        set(.returnFar) { raw, _, _, imm in
            status(x86(raw).withCPU { $0.returnFar(size: Int(imm & 0xFF), release: imm >> 8) })
        }
        set(.interruptReturn) { raw, _, _, imm in status(x86(raw).withCPU { $0.interruptReturn(size: Int(imm)) }) }
        set(.softwareInterrupt) { raw, _, a, imm in
            let state = x86(raw)
            let cpu = state.cpu
            // INT n in virtual-8086 mode needs IOPL 3; INT3 does not.
            if a == 0, cpu.isVirtual8086, cpu.iopl < 3 { return state.pointee.raise(.generalProtection, error: 0) }
            return status(
                cpu.deliver(
                    UInt8(truncatingIfNeeded: imm), nil, a == 2 ? .privileged : .software,
                    returnPC: cpu.exactPC &+ (imm >> 8)))
        }
        set(.into) { raw, _, _, imm in
            let state = x86(raw)
            if state.pointee.eflags & Flags.of == 0 {
                state.pointee.core.pc = imm
                return 0
            }
            return status(state.withCPU { $0.deliver(4, nil, .software, returnPC: imm) })
        }
        set(.bound) { raw, _, a, imm in
            let state = x86(raw)
            func signed(_ value: UInt64) -> Int32 {
                imm == 1 ? Int32(Int16(truncatingIfNeeded: value)) : Int32(truncatingIfNeeded: value)
            }
            let index = signed(get64(raw, a))
            let low = signed(state.pointee.core.temps[0])
            let high = signed(state.pointee.core.temps[1])
            return index < low || index > high ? state.pointee.raise(.bound) : 0
        }
        set(.pushAll) { raw, _, _, imm in
            let state = x86(raw)
            var stack = StackFrame(state.cpu)
            for index in 0..<8 {
                guard stack.push(state.pointee.core.registers[index], 1 << Int(imm)) else { return 1 }
            }
            stack.commit()
            return 0
        }
        set(.popAll) { raw, _, _, imm in
            let state = x86(raw)
            var stack = StackFrame(state.cpu)
            var values = InlineArray<8, UInt64>(repeating: 0)
            for index in 0..<8 {
                guard let value = stack.pop(1 << Int(imm)) else { return 1 }
                values[7 - index] = value
            }
            stack.commit()
            for index in 0..<8 where index != 4 {
                let old = state.pointee.core.registers[index]
                state.pointee.core.registers[index] = imm == 1 ? old & ~0xFFFF | values[index] : values[index]
            }
            return 0
        }
        set(.enter) { raw, _, _, imm in status(HelperTable.enter(x86(raw), imm)) }
        set(.readFlags) { raw, dst, _, _ in
            let state = x86(raw)
            guard state.withCPU({ !$0.isVirtual8086 || $0.iopl >= 3 }) else {
                return state.pointee.raise(.generalProtection, error: 0)
            }
            put64(raw, dst, UInt64(state.pointee.eflags & ~(EFlags.vm | EFlags.rf)))
            return 0
        }
        set(.writeFlags) { raw, _, a, imm in
            let state = x86(raw)
            let cpu = state.cpu
            if cpu.isVirtual8086, cpu.iopl < 3 { return state.pointee.raise(.generalProtection, error: 0) }
            var changeable = EFlags.defined & ~(EFlags.vm | EFlags.rf | EFlags.vif | EFlags.vip)
            let cpl = Int(state.pointee.cpl)
            if cpu.isProtected || cpu.isVirtual8086 {
                if cpl != 0 { changeable &= ~EFlags.iopl }
                if cpl > cpu.iopl { changeable &= ~EFlags.if }
            }
            if imm == 1 { changeable &= 0xFFFF }
            cpu.setFlags(UInt32(truncatingIfNeeded: get64(raw, a)), changeable)
            return 0
        }
    }

    /// ENTER: `imm` holds the size 15...0, the level 23...16, the operand size from 32.
    private static func enter(_ state: State, _ imm: UInt64) -> Done {
        let cpu = state.cpu
        let size = 1 << Int(imm >> 32)
        let level = Int(imm >> 16) & 31
        var stack = StackFrame(cpu)
        let frameRegister = state.pointee.core.registers[5]
        guard stack.push(frameRegister, size) else { return false }
        let frame = stack.pointer
        if level > 0 {
            // The outer frames' pointers are copied from below the old frame pointer.
            var outer = StackFrame(cpu)
            for index in 1..<max(level, 1) {
                outer.pointer = frameRegister & outer.mask &- UInt64(index * size)
                guard let value = outer.pop(size), stack.push(value, size) else { return false }
            }
            guard stack.push(frame, size) else { return false }
        }
        stack.pointer = stack.pointer & ~stack.mask | (stack.pointer &- (imm & 0xFFFF)) & stack.mask
        // The new stack top must be writable, although nothing is written there.
        guard stack.probe(size) else { return false }
        stack.commit()
        switch size {
        case 2: state.pointee.core.registers[5] = frameRegister & ~0xFFFF | frame & 0xFFFF
        case 4: state.pointee.core.registers[5] = frame & 0xFFFF_FFFF
        default: state.pointee.core.registers[5] = frame
        }
        return true
    }
}
