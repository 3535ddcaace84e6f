#if arch(x86_64)
    extension X64Compiler {
        // MARK: Vector registers

        /// Guest XMM0 … XMM13 live in the host's registers of the same number, from a block's first use of each to its
        /// end; host XMM14 is the slot that memory operands come by, XMM15 serves the rest.
        static let scratchVector = 14
        static let spareVector: UInt8 = 15

        /// The host register for a slot; nil: it stays in the state, or the offset is not a slot's start.
        func vectorNumber(_ offset: UInt16) -> Int? {
            if offset == layout.scratch { return Self.scratchVector }
            let distance = Int(offset) - Int(layout.xmm)
            guard distance >= 0, distance < Self.scratchVector * 16, distance & 15 == 0 else { return nil }
            return distance >> 4
        }

        /// The host register for the slot that an offset lies in.
        private func vectorAround(_ offset: UInt16) -> Int? {
            let distance = Int(offset) - Int(layout.xmm)
            if distance >= 0, distance < Self.scratchVector * 16 { return distance >> 4 }
            return offset >= layout.scratch && offset < layout.scratch + 16 ? Self.scratchVector : nil
        }

        private func vectorSlot(_ number: Int) -> HostOperand {
            state(number == Self.scratchVector ? layout.scratch : layout.xmm + UInt16(number * 16))
        }
        private func vectorOperand(_ number: Int) -> HostOperand {
            .reg(HostRegister(rawValue: UInt8(number)).unsafelyUnwrapped)
        }

        /// MOVUPS and MOVAPS between slot and register.
        private mutating func loadSlot(_ number: Int) { asm.instruction(0x0F28, 2, UInt8(number), vectorSlot(number)) }
        private mutating func storeSlot(_ number: Int) { asm.instruction(0x0F29, 2, UInt8(number), vectorSlot(number)) }

        /// The register that holds a slot's value.
        private mutating func vector(_ number: Int) -> UInt8 {
            if vectorsInHost & (1 << UInt16(number)) == 0 {
                loadSlot(number)
                vectorsInHost |= 1 << UInt16(number)
            }
            return UInt8(number)
        }

        private mutating func vectorChanged(_ number: Int) {
            vectorsInHost |= 1 << UInt16(number)
            vectorsChanged |= 1 << UInt16(number)
        }

        /// All registers of a set go to the state, or come from there. Flags stay.
        mutating func storeVectors(_ set: UInt16) {
            for number in 0...Self.scratchVector where set & (1 << UInt16(number)) != 0 { storeSlot(number) }
        }
        mutating func loadVectors(_ set: UInt16) {
            for number in 0...Self.scratchVector where set & (1 << UInt16(number)) != 0 { loadSlot(number) }
        }

        /// The state holds all vectors; the registers still hold them, too.
        mutating func flushVectors() {
            flushX87Note()
            storeVectors(vectorsChanged)
            vectorsChanged = 0
        }

        /// A register's upper half becomes 0: MOVQ.
        mutating func clearUpperHalf(_ number: Int) {
            asm.instruction(0x0F7E, 2, UInt8(number), vectorOperand(number), prefix: 0xF3)
        }

        /// The memory operand's slot ends with its instruction.
        mutating func forgetScratch() {
            vectorsChanged &= ~(1 << UInt16(Self.scratchVector))
            vectorsInHost &= ~(1 << UInt16(Self.scratchVector))
        }

        /// Whether a micro-op other than a call has something to do with vectors.
        func touchesVectors(_ op: MicroOp) -> Bool {
            vectorAround(op.dst) != nil || vectorAround(op.a) != nil || vectorAround(op.b) != nil
        }

        /// A micro-op that knows nothing of vector registers finds its operands in the state, and leaves them there.
        mutating func releaseVectors(_ op: MicroOp) {
            release(op.dst)
            release(op.a)
            release(op.b)
        }
        private mutating func release(_ offset: UInt16) {
            guard let number = vectorAround(offset) else { return }
            let bit: UInt16 = 1 << UInt16(number)
            if vectorsChanged & bit != 0 { storeSlot(number) }
            vectorsChanged &= ~bit
            vectorsInHost &= ~bit
        }

        // MARK: Loops

        /// If the block is a loop, the vector registers that it uses come to the host's before it begins, and stay there.
        mutating func beginLoop() {
            loop = nil
            let last = ops[Int(block.pointee.opCount) - 1]
            guard last.opcode == .jumpIf, last.imm == block.pointee.pc, block.pointee.secondPage < 0,
                block.pointee.page >= 0
            else { return }
            var used: UInt16 = 0
            var written: UInt16 = 0
            for index in 0..<Int(block.pointee.opCount) {
                let op = ops[index]
                var isWrite = op.opcode < .st8 || op.opcode > .st64
                if op.opcode == .call || op.opcode == .callPure {
                    switch vectors[Int(op.b)].kind {
                    case .none, .timestamp, .flagless, .divide, .x87Register, .x87ReadsFlags, .x87Flags, .x87Memory, .x87Store, .x87Control: continue
                    case .flags128, .flags32, .flags64: isWrite = false
                    default: break
                    }
                } else if let number = vectorAround(op.b) {
                    used |= 1 << UInt16(number)
                }
                if op.opcode == .st128 { isWrite = false }
                if let number = vectorAround(op.a) { used |= 1 << UInt16(number) }
                if let number = vectorAround(op.dst) {
                    used |= 1 << UInt16(number)
                    if isWrite { written |= 1 << UInt16(number) }
                }
            }
            let registers: UInt16 = 1 << UInt16(Self.scratchVector) - 1
            vectorsInHost = used & registers
            vectorsChanged = written & registers
            loadVectors(vectorsInHost)
            loop = Loop(top: asm.cursor, inHost: vectorsInHost, changed: vectorsChanged)
        }

        /// Back to the loop's beginning, unless the horizon is too near. Other vectors are saved, and so are flags, unless
        /// they are those of the micro-op `producer`.
        mutating func closeLoop(_ loop: Loop, producer: Int) {
            loadVectors(loop.inHost & ~vectorsInHost)
            asm.arithmetic(.sub, 3, .reg(X64Layout.budget), immediate: UInt64(block.pointee.count))
            asm.jump(if: .ns, to: loop.top)
            storeVectors(loop.changed)
            asm.arithmetic(.add, 3, .reg(X64Layout.budget), immediate: UInt64(block.pointee.count))
            if producer >= 0 { recompute(ops[producer]) }
            storeConstant(layout.pc, block.pointee.pc)
            exit(.horizon)
        }

        // MARK: Floating point

        /// Whether the instruction that begins at the present micro-op computes by the host's MXCSR.
        func beginsFloat() -> Bool {
            let instruction = block.pointee.instructionIndex[current]
            var index = current
            while index < Int(block.pointee.opCount), block.pointee.instructionIndex[index] == instruction {
                let op = ops[index]
                if op.opcode == .call || op.opcode == .callPure, vectors[Int(op.b)].isFloat { return true }
                index += 1
            }
            return false
        }

        /// Before an instruction: the host's MXCSR or its x87 unit serves the guest from here on. When it cannot, the block
        /// is left, and the interpreter goes on.
        mutating func checkFloat(isX87: Bool) {
            clobberFlags()
            asm.test(
                0, .mem(.rbp, layout.fpActive), immediate: isX87 ? X64Layout.x87Serves : X64Layout.mxcsrServes)
            floatChecks[floatCheckCount] = FloatCheck(
                place: asm.jump(if: .z), back: asm.cursor, instruction: block.pointee.instructionIndex[current],
                changed: vectorsChanged, note: x87Note, isX87: isX87)
            floatCheckCount += 1
            if isX87 { isX87Ready = true } else { isFloatReady = true }
        }

        mutating func emitFloatChecks() {
            for index in 0..<floatCheckCount {
                let check = floatChecks[index]
                asm.bind(check.place)
                asm.call(check.isX87 ? stubs.activateX87 : stubs.activateFloat)
                asm.test(
                    0, .mem(.rbp, layout.fpActive),
                    immediate: check.isX87 ? X64Layout.x87Serves : X64Layout.mxcsrServes)
                asm.jump(if: .nz, to: check.back)
                storeVectors(check.changed)
                storeX87Note(check.note)
                let left = UInt64(block.pointee.count) - UInt64(check.instruction)
                asm.arithmetic(.add, 3, .reg(X64Layout.budget), immediate: left)
                storeConstant(layout.pc, block.pointee.pc &+ UInt64(block.pointee.pcOffsets[Int(check.instruction)]))
                exit(.unusualFloat)
            }
        }

        // MARK: Operations

        /// A vector helper's operation by the host's own instruction. False: there is none.
        ///
        /// Floating point runs on the host's MXCSR as long as the guest's control bits are the usual ones (round to
        /// nearest, everything masked); the host then gathers the exception flags, and who leaves generated code adds
        /// them to the guest's. `checkFloat` has seen to it.
        mutating func hostVector(_ op: MicroOp) -> Bool {
            let host = vectors[Int(op.b)]
            switch host.kind {
            case .none, .timestamp, .flagless, .divide, .x87Register, .x87ReadsFlags, .x87Flags, .x87Memory, .x87Store, .x87Control: return false
            case .packed, .packedUnary, .flags128: if op.a & 15 != 0 || op.dst & 15 != 0 { return false }
            case .shiftImmediate: if op.dst & 15 != 0 { return false }
            case .toGeneral128: if op.a & 15 != 0 { return false }
            default: break
            }
            // INSERTPS means another thing by a memory operand.
            if host.opcode == 0x0F3A21, vectorNumber(op.a) == nil { return false }
            switch host.kind {
            case .packed, .scalar32, .scalar64, .scalar32Unary, .scalar64Unary, .widen, .narrow:
                operate(op.dst, reads: true) { $0.emit(host, op, register: $1, $0.vectorSource(op.a)) }
            case .packedUnary:
                operate(op.dst, reads: false) { $0.emit(host, op, register: $1, $0.vectorSource(op.a)) }
            case .shiftImmediate:
                operate(op.dst, reads: true) {
                    $0.emit(host, op, register: host.group, .reg(HostRegister(rawValue: $1).unsafelyUnwrapped))
                }
            case .flags128, .flags32, .flags64:
                let first = vectorInRegister(op.dst)
                let second = vectorSource(op.a)
                emit(host, op, register: first, second)
                flags = .host
            case .toGeneral128, .toGeneral32, .toGeneral64:
                if host.kind == .toGeneral128 {
                    let from = vectorInRegister(op.a)
                    emit(host, op, register: 0, .reg(HostRegister(rawValue: from).unsafelyUnwrapped))
                } else {
                    emit(host, op, register: 0, vectorSource(op.a))
                }
                write(3, op.dst, .rax)
            case .fromGeneral32, .fromGeneral64:
                let from = source(op.a)
                operate(op.dst, reads: true) { $0.emit(host, op, register: $1, from) }
            default: break
            }
            return true
        }

        /// `body` works on the register for the slot at `offset`.
        private mutating func operate(_ offset: UInt16, reads: Bool, _ body: (inout X64Compiler, UInt8) -> Void) {
            if let number = vectorNumber(offset) {
                let register = reads ? vector(number) : UInt8(number)
                body(&self, register)
                vectorChanged(number)
            } else {
                if reads { asm.instruction(0x0F10, 2, Self.spareVector, state(offset)) }
                body(&self, Self.spareVector)
                asm.instruction(0x0F11, 2, Self.spareVector, state(offset))
            }
        }

        /// A slot as second operand: its register, or the state.
        private mutating func vectorSource(_ offset: UInt16) -> HostOperand {
            guard let number = vectorNumber(offset) else {
                if let around = vectorAround(offset), vectorsChanged & (1 << UInt16(around)) != 0 {
                    storeSlot(around)
                    vectorsChanged &= ~(1 << UInt16(around))
                }
                return state(offset)
            }
            _ = vector(number)
            return vectorOperand(number)
        }

        private mutating func vectorInRegister(_ offset: UInt16) -> UInt8 {
            if let number = vectorNumber(offset) { return vector(number) }
            asm.instruction(0x0F10, 2, Self.spareVector, state(offset))
            return Self.spareVector
        }

        private mutating func emit(_ host: HostVectorOp, _ op: MicroOp, register: UInt8, _ operand: HostOperand) {
            asm.instruction(host.opcode, host.isWide ? 3 : 2, register, operand, prefix: host.prefix)
            if host.hasImmediate { asm.byte(UInt8(truncatingIfNeeded: op.imm)) }
        }
    }
#endif
