#if arch(x86_64)
    extension X64Compiler {
        // MARK: x87

        /// Whether a call is done by the host's x87 unit; see `HostVectorOp.Kind`.
        private func isX87(_ op: MicroOp) -> Bool { vectors[Int(op.b)].kind >= .x87Register }

        /// Whether the instruction that begins at the present micro-op is wholly one for the host's x87 unit.
        func beginsX87() -> Bool {
            let instruction = block.pointee.instructionIndex[current]
            var index = current
            var isFound = false
            while index < Int(block.pointee.opCount), block.pointee.instructionIndex[index] == instruction {
                let op = ops[index]
                if op.opcode == .call || op.opcode == .callPure {
                    guard isX87(op) else { return false }
                    isFound = true
                }
                index += 1
            }
            return isFound
        }

        /// Whether a micro-op reads or writes what the host's x87 unit holds while it serves the guest.
        func touchesX87(_ op: MicroOp) -> Bool {
            if op.opcode == .guardClear8 { return false }
            if op.opcode == .call || op.opcode == .callPure {
                let kind = vectors[Int(op.b)].kind
                return kind != .none && kind < .x87Register && (isX87State(op.dst) || isX87State(op.a))
            }
            return isX87State(op.dst) || isX87State(op.a) || isX87State(op.b)
        }

        private func isX87State(_ offset: UInt16) -> Bool {
            offset >= layout.x87.registers && offset < layout.x87.registers + 128
                || offset >= layout.x87.status && offset < layout.x87.status + 2 || offset == layout.x87.tags
        }

        /// The state holds the guest's x87 unit from here on.
        mutating func releaseX87() {
            clobberFlags()
            flushX87Note()
            asm.test(0, .mem(.rbp, layout.fpActive), immediate: X64Layout.x87Serves)
            let inactive = asm.jump(if: .z)
            asm.call(stubs.endX87)
            asm.bind(inactive)
            isX87Ready = false
        }

        /// Opcode and address of the last x87 instruction go to the state. Uses RCX; flags stay.
        mutating func flushX87Note() {
            storeX87Note(x87Note)
            x87Note = Self.noNote
        }
        mutating func storeX87Note(_ note: Int32) {
            guard note != Self.noNote else { return }
            let op = ops[Int(note)]
            asm.storeImmediate(1, state(layout.x87.opcode), UInt64(op.dst))
            storeConstant(Int32(layout.x87.instruction) - X64Layout.bias, op.imm)
        }

        /// The status word, while it is the host's: FNSTSW AX. False: another micro-op, nothing has been emitted.
        mutating func readX87Status(_ op: MicroOp) -> Bool {
            guard isX87Ready, op.opcode == .mov16, op.a == layout.x87.status else { return false }
            asm.byte(0xDF)
            asm.byte(0xE0)
            write(1, op.dst, .rax)
            return true
        }

        /// An x87 helper's operation by the host's own instruction, whose registers, control and status are the guest's.
        /// False: it does not serve now, or there is none.
        mutating func hostX87(_ op: MicroOp) -> Bool {
            let host = vectors[Int(op.b)]
            guard isX87Ready, isX87(op) else { return false }
            let opcode = 0xD8 | UInt8(truncatingIfNeeded: op.dst >> 8) & 7
            let modRM = UInt8(truncatingIfNeeded: op.dst)
            switch host.kind {
            case .x87ReadsFlags:
                loadFlags()
                asm.byte(opcode)
                asm.byte(modRM)
            case .x87Memory:
                spillTemp()
                asm.instruction(UInt32(opcode), 2, modRM >> 3 & 7, state(op.a))
            case .x87Store: storeX87(op, opcode, modRM >> 3 & 7)
            case .x87Control:
                loadX87Control(op)
                // Not an instruction that FIP tells of.
                return true
            default:
                asm.byte(opcode)
                asm.byte(modRM)
                if host.kind == .x87Flags { flags = .host }
            }
            x87Note = Int32(current)
            return true
        }

        /// To memory at the address in slot `a`.
        private mutating func storeX87(_ op: MicroOp, _ opcode: UInt8, _ reg: UInt8) {
            let bytes: Int32 =
                switch (opcode, reg) {
                case (0xD9, _): 4
                case (0xDB, 7): 10
                case (0xDB, _): 4
                case (0xDD, _): 8
                case (0xDF, 7): 8
                default: 2
                }
            clobberFlags()
            let miss = lookUp(MicroOp(.st64, a: op.a, b: Slot.zero), bytes: bytes, isWrite: true)
            asm.instruction(UInt32(opcode), 2, reg, hostAddress)
            asm.store(3, state(layout.x87.data), .rax)
            slowPath(miss, before: tempSlot)
        }

        /// FLDCW, of a word that masks all exceptions; another goes the slow way.
        private mutating func loadX87Control(_ op: MicroOp) {
            clobberFlags()
            spillTemp()
            flushVectors()
            asm.zeroExtend(from: 1, .rax, state(op.a))
            asm.arithmetic(.and, 2, .reg(.rax), immediate: 0x1F3F)
            asm.arithmetic(.or, 2, .reg(.rax), immediate: 0x40)
            // Neither unmasked exceptions nor the reserved precision.
            asm.mov(2, .rcx, .rax)
            asm.arithmetic(.and, 2, .reg(.rcx), immediate: 0x3F)
            asm.arithmetic(.cmp, 2, .reg(.rcx), immediate: 0x3F)
            let unmasked = asm.jump(if: .nz)
            asm.mov(2, .rcx, .rax)
            asm.arithmetic(.and, 2, .reg(.rcx), immediate: 0x300)
            asm.arithmetic(.cmp, 2, .reg(.rcx), immediate: 0x100)
            let reserved = asm.jump(if: .z)
            asm.store(1, state(layout.x87.control), .rax)
            asm.instruction(0xD9, 2, 5, state(layout.x87.control))
            let done = asm.jump()
            // The helper, in line; what follows finds out by itself that the host does not serve.
            asm.bind(unmasked)
            asm.bind(reserved)
            callHelper()
            asm.bind(done)
        }
    }
#endif
