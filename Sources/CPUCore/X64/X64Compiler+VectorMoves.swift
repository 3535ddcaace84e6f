#if arch(x86_64)
    extension X64Compiler {
        /// Moves and logic of vector registers, which the translator writes as micro-ops on their halves: what belongs
        /// together becomes one instruction. False: not one of them, nothing has been emitted.
        mutating func vectorMove(_ op: MicroOp) -> Bool {
            switch op.opcode {
            case .ld128:
                guard let number = vectorNumber(op.dst) else { return false }
                vectorLoad(op, number, bytes: 16)
            case .ld64, .ld32:
                let bytes: Int32 = op.opcode == .ld64 ? 8 : 4
                guard let number = vectorNumber(op.dst) else { return loadHigh(op) }
                if number == Self.scratchVector {
                    vectorLoad(op, number, bytes: bytes)
                } else if clearsHigh(op.dst) {
                    vectorLoad(op, number, bytes: bytes)
                    current += 1
                } else if bytes == 8 {
                    loadHalf(op, number, code: 0x0F12)
                } else {
                    return false
                }
            case .st128, .st64, .st32: return vectorStore(op)
            case .mov64: return moveHalves(op)
            case .mov32:
                if let number = vectorNumber(op.dst), isGeneral(op.a), clearsHigh(op.dst) {
                    fromGeneral(op, number, 2)
                } else {
                    return toGeneral(op, 2)
                }
            case .mov16:
                // MOVSS between registers.
                guard let to = vectorNumber(op.dst), let from = vectorNumber(op.a), let next = following(1),
                    next.opcode == .mov16, next.dst == op.dst + 2, next.a == op.a + 2
                else { return false }
                combine(0x0F10, 0xF3, to, from)
                current += 1
            case .movI64:
                guard let number = vectorNumber(op.dst), op.imm == 0, clearsHigh(op.dst) else { return false }
                vectorsInHost |= 1 << UInt16(number)
                asm.instruction(0x0FEF, 2, UInt8(number), .reg(HostRegister(rawValue: UInt8(number)).unsafelyUnwrapped), prefix: 0x66)
                vectorsChanged |= 1 << UInt16(number)
                current += 1
            case .and64, .or64, .xor64: return logic(op)
            case .not64: return andNot(op)
            default: return false
            }
            return true
        }

        /// The micro-op `distance` further on, if it belongs to the same instruction.
        private func following(_ distance: Int) -> MicroOp? {
            let index = current + distance
            guard index < Int(block.pointee.opCount),
                block.pointee.instructionIndex[index] == block.pointee.instructionIndex[current]
            else { return nil }
            return ops[index]
        }

        /// The next micro-op clears the upper half of the slot.
        private func clearsHigh(_ slot: UInt16) -> Bool {
            guard let next = following(1) else { return false }
            return next.opcode == .movI64 && next.dst == slot + 8 && next.imm == 0
        }

        /// A whole general register or temporary.
        private func isGeneral(_ slot: UInt16) -> Bool { (slot < 128 || Self.isTemp(slot)) && slot & 7 == 0 }

        private func xmm(_ number: Int) -> HostOperand { .reg(HostRegister(rawValue: UInt8(number)).unsafelyUnwrapped) }

        private mutating func markChanged(_ number: Int) {
            vectorsInHost |= 1 << UInt16(number)
            vectorsChanged |= 1 << UInt16(number)
        }

        /// The register is in the host, with the slot's value.
        private mutating func bring(_ number: Int) {
            if vectorsInHost & (1 << UInt16(number)) == 0 {
                loadVectors(1 << UInt16(number))
                vectorsInHost |= 1 << UInt16(number)
            }
        }

        /// Two registers: `to` keeps what the instruction leaves of it.
        private mutating func combine(_ code: UInt32, _ prefix: UInt8, _ to: Int, _ from: Int) {
            bring(to)
            bring(from)
            asm.instruction(code, 2, UInt8(to), xmm(from), prefix: prefix)
            markChanged(to)
        }

        /// `to` is written whole.
        private mutating func copy(_ code: UInt32, _ prefix: UInt8, _ to: Int, _ from: Int) {
            bring(from)
            asm.instruction(code, 2, UInt8(to), xmm(from), prefix: prefix)
            markChanged(to)
        }

        // MARK: Memory

        /// 4, 8 or 16 bytes; those above become 0.
        private mutating func vectorLoad(_ op: MicroOp, _ number: Int, bytes: Int32) {
            clobberFlags()
            let changed = vectorsChanged
            let miss = lookUp(op, bytes: bytes, isWrite: false)
            var unaligned: UnsafeMutablePointer<UInt8>?
            if bytes == 16, op.imm & Address.aligned != 0 {
                asm.test(0, .reg(.rax), immediate: 15)
                unaligned = asm.jump(if: .nz)
            }
            switch bytes {
            case 16: asm.instruction(0x0F10, 2, UInt8(number), hostAddress)
            case 8: asm.instruction(0x0F7E, 2, UInt8(number), hostAddress, prefix: 0xF3)
            default: asm.instruction(0x0F6E, 2, UInt8(number), hostAddress, prefix: 0x66)
            }
            markChanged(number)
            let narrow: Int8 = bytes < 16 && number != Self.scratchVector ? Int8(number) : -1
            slowPath(miss, before: tempSlot, changed: changed, narrow: narrow)
            if let unaligned { slowPath(unaligned, before: tempSlot, changed: changed) }
        }

        /// MOVLPS or MOVHPS: the other half stays.
        private mutating func loadHalf(_ op: MicroOp, _ number: Int, code: UInt32) {
            clobberFlags()
            bring(number)
            let changed = vectorsChanged
            let miss = lookUp(op, bytes: 8, isWrite: false)
            asm.instruction(code, 2, UInt8(number), hostAddress)
            markChanged(number)
            slowPath(miss, before: tempSlot, changed: changed)
        }

        private mutating func loadHigh(_ op: MicroOp) -> Bool {
            guard op.opcode == .ld64, let number = vectorNumber(op.dst &- 8), number != Self.scratchVector else { return false }
            loadHalf(op, number, code: 0x0F16)
            return true
        }

        private mutating func vectorStore(_ op: MicroOp) -> Bool {
            var isHigh = false
            var number = vectorNumber(op.dst)
            if number == nil, op.opcode == .st64 {
                number = vectorNumber(op.dst &- 8)
                isHigh = true
            }
            guard let number else { return false }
            bring(number)
            clobberFlags()
            let bytes: Int32 = op.opcode == .st128 ? 16 : op.opcode == .st64 ? 8 : 4
            let miss = lookUp(op, bytes: bytes, isWrite: true)
            var unaligned: UnsafeMutablePointer<UInt8>?
            if bytes == 16, op.imm & Address.aligned != 0 {
                asm.test(0, .reg(.rax), immediate: 15)
                unaligned = asm.jump(if: .nz)
            }
            switch bytes {
            case 16: asm.instruction(0x0F11, 2, UInt8(number), hostAddress)
            case 8 where isHigh: asm.instruction(0x0F17, 2, UInt8(number), hostAddress)
            case 8: asm.instruction(0x0FD6, 2, UInt8(number), hostAddress, prefix: 0x66)
            default: asm.instruction(0x0F7E, 2, UInt8(number), hostAddress, prefix: 0x66)
            }
            slowPath(miss, before: tempSlot)
            if let unaligned { slowPath(unaligned, before: tempSlot) }
            return true
        }

        // MARK: Between registers

        private mutating func moveHalves(_ op: MicroOp) -> Bool {
            guard let to = vectorNumber(op.dst) else { return moveHigh(op) }
            if let from = vectorNumber(op.a) {
                if let next = following(1), next.opcode == .mov64, next.dst == op.dst + 8 {
                    if next.a == op.a + 8 {
                        copy(0x0F28, 0, to, from)
                    } else if next.a == op.dst {
                        // MOVDDUP.
                        copy(0x0F12, 0xF2, to, from)
                    } else {
                        combine(0x0F10, 0xF2, to, from)
                        return true
                    }
                    current += 1
                } else if clearsHigh(op.dst) {
                    copy(0x0F7E, 0xF3, to, from)
                    current += 1
                } else {
                    combine(0x0F10, 0xF2, to, from)
                }
                return true
            }
            if op.a == op.dst + 8 {
                // UNPCKHPD.
                guard let next = following(1), next.opcode == .mov64, next.dst == op.dst + 8,
                    let from = vectorNumber(next.a &- 8)
                else { return false }
                combine(0x0F15, 0x66, to, from)
                current += 1
                return true
            }
            if let from = vectorNumber(op.a &- 8) {
                // MOVHLPS.
                combine(0x0F12, 0, to, from)
                return true
            }
            guard isGeneral(op.a), clearsHigh(op.dst) else { return false }
            fromGeneral(op, to, 3)
            return true
        }

        /// The upper half of a slot is written, or nothing of one.
        private mutating func moveHigh(_ op: MicroOp) -> Bool {
            guard let to = vectorNumber(op.dst &- 8) else { return toGeneral(op, 3) }
            guard let from = vectorNumber(op.a) else { return false }
            // MOVLHPS.
            combine(0x0F16, 0, to, from)
            return true
        }

        private mutating func fromGeneral(_ op: MicroOp, _ number: Int, _ width: Int) {
            let from = source(op.a)
            asm.instruction(0x0F6E, width, UInt8(number), from, prefix: 0x66)
            markChanged(number)
            current += 1
        }

        private mutating func toGeneral(_ op: MicroOp, _ width: Int) -> Bool {
            guard isGeneral(op.dst), let number = vectorNumber(op.a) else { return false }
            bring(number)
            asm.instruction(0x0F7E, width, UInt8(number), .reg(.rax), prefix: 0x66)
            write(width, op.dst, .rax)
            return true
        }

        // MARK: Logic

        private mutating func logic(_ op: MicroOp) -> Bool {
            guard let to = vectorNumber(op.dst), op.a == op.dst, let from = vectorNumber(op.b), let next = following(1),
                next.opcode == op.opcode, next.dst == op.dst + 8, next.a == op.dst + 8, next.b == op.b + 8
            else { return false }
            let code: UInt32 = op.opcode == .and64 ? 0x0FDB : op.opcode == .or64 ? 0x0FEB : 0x0FEF
            combine(code, 0x66, to, from)
            current += 1
            return true
        }

        /// PANDN: four micro-ops, by way of a temporary.
        private mutating func andNot(_ op: MicroOp) -> Bool {
            guard let to = vectorNumber(op.a), let first = following(1), let not = following(2), let second = following(3),
                let from = vectorNumber(first.b), first.opcode == .and64, first.dst == op.a, first.a == op.dst,
                not.opcode == .not64, not.dst == op.dst, not.a == op.a + 8, second.opcode == .and64, second.dst == op.a + 8,
                second.a == op.dst, second.b == first.b + 8
            else { return false }
            combine(0x0FDF, 0x66, to, from)
            current += 3
            return true
        }
    }
#endif
