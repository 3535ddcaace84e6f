#if arch(x86_64)
    extension X64Compiler {
        // MARK: Two operands

        static func fits32(_ value: UInt64) -> Bool {
            Int64(bitPattern: value) == Int64(Int32(truncatingIfNeeded: value))
        }

        /// dst = a op b or a op imm. `setsFlags`: the host's flags are then the guest's; else they are lost.
        mutating func binary(
            _ operation: HostArithmetic, _ op: MicroOp, isImmediate: Bool, setsFlags: Bool
        ) {
            let width = op.opcode.width
            if !setsFlags {
                if width >= 2, sumWithoutFlags(operation, op, isImmediate: isImmediate) { return }
                clobberFlags()
            } else if operation == .adc || operation == .sbb {
                loadCarry()
            }
            let isHigh = Self.isHighByte(op.dst)
            // Memory operands keep their upper halves: 32 bits go by way of RAX, which clears them.
            let target = isHigh ? HostOperand.reg(.rax) : place(op.dst)
            let isInPlace = op.dst == op.a && !isHigh && (!target.isMemory || width != 2)
            if isInPlace {
                let target = destinationInPlace(op.dst, width)
                apply(operation, width, target, op, isImmediate: isImmediate)
            } else if width >= 2, !isHigh, !target.isMemory, isImmediate || op.b != op.dst, !Self.isTemp(op.dst) {
                // Nothing of the destination is left: it does the work.
                asm.mov(width, target.register, source(op.a))
                apply(operation, width, target, op, isImmediate: isImmediate)
            } else {
                moveIntoRAX(width, source(op.a))
                apply(operation, width, .reg(.rax), op, isImmediate: isImmediate)
                write(width, op.dst, .rax)
            }
            if setsFlags { flags = .host }
        }

        /// Sums and differences that LEA can do.
        private mutating func sumWithoutFlags(
            _ operation: HostArithmetic, _ op: MicroOp, isImmediate: Bool
        ) -> Bool {
            guard operation == .add || (operation == .sub && isImmediate) else { return false }
            let width = op.opcode.width
            let address: HostOperand
            if isImmediate {
                let value = operation == .add ? op.imm : 0 &- op.imm
                guard width == 2 || Self.fits32(value) else { return false }
                address = .mem(register(width, op.a, scratch: .rax), Int32(truncatingIfNeeded: value))
            } else {
                let a = register(width, op.a, scratch: .rax)
                let b = register(width, op.b, scratch: .rcx)
                address = .mem(a, 0, index: b)
            }
            let target = destination(op.dst)
            if target.isMemory {
                asm.lea(width, .rax, address)
                storeRAX(op.dst)
            } else {
                asm.lea(width, target.register, address)
            }
            return true
        }

        /// The destination of an operation that also reads it: a temporary that is not in RSI comes there.
        mutating func destinationInPlace(_ offset: UInt16, _ width: Int) -> HostOperand {
            if Self.isTemp(offset), tempSlot != offset {
                let target = destination(offset)
                asm.mov(3, target.register, state(offset))
                return target
            }
            return place(offset)
        }

        private mutating func apply(
            _ operation: HostArithmetic, _ width: Int, _ target: HostOperand, _ op: MicroOp, isImmediate: Bool
        ) {
            if isImmediate {
                if width < 3 || Self.fits32(op.imm) {
                    return asm.arithmetic(operation, width, target, immediate: op.imm)
                }
                asm.movImmediate(.rcx, op.imm)
                if target.isMemory {
                    asm.arithmetic(operation, width, target, .rcx)
                } else {
                    asm.arithmetic(operation, width, target.register, .reg(.rcx))
                }
                return
            }
            if target.isMemory {
                asm.arithmetic(operation, width, target, register(width, op.b, scratch: .rcx))
            } else {
                asm.arithmetic(operation, width, target.register, source(op.b))
            }
        }

        /// Flags of a - b.
        mutating func compare(_ op: MicroOp, isImmediate: Bool) {
            let width = op.opcode.width
            let a = source(op.a)
            if isImmediate {
                if width < 3 || Self.fits32(op.imm) {
                    asm.arithmetic(.cmp, width, a, immediate: op.imm)
                } else {
                    asm.movImmediate(.rcx, op.imm)
                    asm.arithmetic(.cmp, width, a, .rcx)
                }
            } else if a.isMemory {
                asm.arithmetic(.cmp, width, a, register(width, op.b, scratch: .rcx))
            } else {
                asm.arithmetic(.cmp, width, a.register, source(op.b))
            }
            flags = .host
        }

        /// Flags of a & b.
        mutating func test(_ op: MicroOp, isImmediate: Bool) {
            let width = op.opcode.width
            let a = source(op.a)
            if isImmediate {
                if width < 3 || Self.fits32(op.imm) {
                    asm.test(width, a, immediate: op.imm)
                } else {
                    asm.movImmediate(.rcx, op.imm)
                    asm.test(width, a, .rcx)
                }
            } else {
                asm.test(width, a, register(width, op.b, scratch: .rcx))
            }
            flags = .host
        }

        // MARK: One operand

        /// dst = operation(a), by a closure that works on a register or memory in place.
        mutating func unary(
            _ op: MicroOp, _ operation: (inout X64Assembler, Int, HostOperand) -> Void
        ) {
            let width = op.opcode.width
            let isHigh = Self.isHighByte(op.dst)
            let target = isHigh ? HostOperand.reg(.rax) : place(op.dst)
            if op.dst == op.a, !isHigh, !target.isMemory || width != 2 {
                operation(&asm, width, destinationInPlace(op.dst, width))
            } else {
                moveIntoRAX(width, source(op.a))
                operation(&asm, width, .reg(.rax))
                write(width, op.dst, .rax)
            }
        }

        mutating func increment(_ op: MicroOp, isDecrement: Bool) {
            loadCarry()
            unary(op) { asm, width, operand in asm.increment(isDecrement ? 1 : 0, width, operand) }
            flags = .host
        }

        // MARK: Shifts

        /// The flag word from AH, whose AF is made 0, and an overflow in bit 0 of `overflow`, or none.
        private mutating func storeFlags(overflow: HostRegister?) {
            asm.arithmetic(.and, 2, .reg(.rax), immediate: 0xEF00)
            if let overflow { asm.arithmetic(.or, 2, .rax, .reg(overflow)) }
            asm.store(1, flagWord, .rax)
        }

        /// shlI, shrI, sarI and their like with flags.
        mutating func shiftConstant(_ shift: HostShift, _ op: MicroOp, setsFlags: Bool) {
            let width = op.opcode.width
            let count = op.imm
            if width < 2, count >= UInt64(8 << width) { return runOp() }
            let isLive = setsFlags && !deadAfter[current]
            if !setsFlags { clobberFlags() }
            unary(op) { asm, width, operand in asm.shift(shift, width, operand, by: UInt8(truncatingIfNeeded: count)) }
            guard setsFlags else { return }
            flags = .memory
            guard isLive else { return }
            asm.lahf()
            if count == 1 {
                asm.set(.o, .reg(.rcx))
                asm.zeroExtend(from: 0, .rcx, .reg(.rcx))
                storeFlags(overflow: .rcx)
            } else if shift == .shl {
                // Sign and carry differ.
                asm.mov(2, .rcx, .rax)
                asm.shift(.shr, 2, .reg(.rcx), by: 7)
                asm.arithmetic(.xor, 2, .rcx, .reg(.rax))
                asm.shift(.shr, 2, .reg(.rcx), by: 8)
                asm.arithmetic(.and, 2, .reg(.rcx), immediate: 1)
                storeFlags(overflow: .rcx)
            } else {
                storeFlags(overflow: nil)
            }
        }

        /// Whether the constant of a micro-op is the count of the next one, whose instruction ends with it, and which needs it
        /// nowhere but in its own code.
        func isConstantCount(_ op: MicroOp) -> Bool {
            guard op.opcode == .movI8, Self.isTemp(op.dst), current + 1 < Int(block.pointee.opCount) else { return false }
            let next = ops[current + 1]
            guard next.opcode >= .shlF8, next.opcode <= .rorF64, next.b == op.dst, next.a != op.dst, deadAfter[current + 1],
                current + 2 == Int(block.pointee.opCount)
                    || block.pointee.instructionIndex[current + 2] != block.pointee.instructionIndex[current]
            else { return false }
            return UInt8(truncatingIfNeeded: op.imm) & (next.opcode.width == 3 ? 63 : 31) != 0
        }

        /// The count of a shift when the micro-op before has put a constant there.
        private func constantCount(_ op: MicroOp) -> UInt8? {
            guard current > 0, ops[current - 1].opcode == .movI8, ops[current - 1].dst == op.b, op.b != op.a else { return nil }
            let count = UInt8(truncatingIfNeeded: ops[current - 1].imm) & (op.opcode.width == 3 ? 63 : 31)
            return count == 0 ? nil : count
        }

        /// dst = a shifted by the count at slot b.
        mutating func shiftVariable(_ shift: HostShift, _ op: MicroOp) {
            let width = op.opcode.width
            let isLive = !deadAfter[current]
            if !isLive, let count = constantCount(op) {
                flags = .memory
                unary(op) { asm, width, operand in asm.shift(shift, width, operand, by: count) }
                return
            }
            if isLive, width < 2 { return runOp() }
            if isLive { clobberFlags() } else { flags = .memory }
            // RDX works; RAX is for flags.
            let value = source(op.a)
            asm.mov(width, .rdx, value)
            asm.mov(0, .rcx, source(op.b))
            guard isLive else {
                asm.shift(shift, width, .reg(.rdx))
                return write(width, op.dst, .rdx)
            }
            asm.arithmetic(.and, 2, .reg(.rcx), immediate: width == 3 ? 63 : 31)
            let skip = asm.jump(if: .z)
            asm.shift(shift, width, .reg(.rdx))
            if shift == .rol || shift == .ror {
                rotateFlags(shift, width)
            } else {
                asm.lahf()
                switch shift {
                case .shl:
                    asm.mov(2, .rcx, .rax)
                    asm.shift(.shr, 2, .reg(.rcx), by: 7)
                    asm.arithmetic(.xor, 2, .rcx, .reg(.rax))
                    asm.shift(.shr, 2, .reg(.rcx), by: 8)
                    asm.arithmetic(.and, 2, .reg(.rcx), immediate: 1)
                    storeFlags(overflow: .rcx)
                case .shr:
                    topBitsDiffer(width)
                    storeFlags(overflow: .rcx)
                default: storeFlags(overflow: nil)
                }
            }
            asm.bind(skip)
            // With a count of 0 a 32-bit destination is zero-extended all the same.
            write(width, op.dst, .rdx)
        }

        /// SHLD, SHRD: dst and a shifted by the count at slot imm, where nobody looks at the flags.
        mutating func doubleShift(_ opcode: UInt32, _ op: MicroOp) {
            let width = op.opcode.width
            if width < 2 || !deadAfter[current] { return runOp() }
            flags = .memory
            asm.mov(width, .rdx, source(op.dst))
            asm.mov(width, .rax, source(op.a))
            asm.mov(0, .rcx, source(UInt16(truncatingIfNeeded: op.imm)))
            asm.instruction(opcode, width, HostRegister.rax.rawValue, .reg(.rdx))
            // With a count of 0 a 32-bit destination is zero-extended all the same.
            write(width, op.dst, .rdx)
        }

        /// RCX = the two top bits of RDX differ.
        private mutating func topBitsDiffer(_ width: Int) {
            asm.lea(3, .rcx, .mem(.rdx, 0, index: .rdx))
            asm.arithmetic(.xor, 3, .rcx, .reg(.rdx))
            asm.shift(.shr, width, .reg(.rcx), by: width == 3 ? 63 : 31)
        }

        /// After a rotate of RDX: carry and overflow of the word, the others stay.
        private mutating func rotateFlags(_ shift: HostShift, _ width: Int) {
            let top: UInt8 = width == 3 ? 63 : 31
            if shift == .rol {
                // Carry is bit 0; overflow: the top bit is another.
                asm.mov(3, .rcx, .rdx)
                asm.shift(.shr, width, .reg(.rcx), by: top)
                asm.mov(2, .rax, .rdx)
                asm.arithmetic(.and, 2, .reg(.rax), immediate: 1)
                asm.arithmetic(.xor, 2, .rcx, .reg(.rax))
            } else {
                // Carry is the top bit; overflow: the one below is another.
                topBitsDiffer(width)
                asm.mov(3, .rax, .rdx)
                asm.shift(.shr, width, .reg(.rax), by: top)
            }
            asm.shift(.shl, 2, .reg(.rax), by: 8)
            asm.arithmetic(.or, 2, .rcx, .reg(.rax))
            asm.zeroExtend(from: 1, .rax, flagWord)
            asm.arithmetic(.and, 2, .reg(.rax), immediate: 0xFE00)
            asm.arithmetic(.or, 2, .rax, .reg(.rcx))
            asm.store(1, flagWord, .rax)
        }

        // MARK: Products

        /// After a product whose low half is in `low`: carry and overflow from the host, the others by the low half.
        private mutating func productFlags(_ width: Int, _ low: HostRegister) {
            if deadAfter[current] {
                flags = .memory
                return
            }
            asm.set(.o, .reg(.rcx))
            asm.zeroExtend(from: 0, .rcx, .reg(.rcx))
            asm.test(width, .reg(low), low)
            asm.lahf()
            asm.arithmetic(.and, 2, .reg(.rax), immediate: 0xEE00)
            asm.arithmetic(.or, 2, .rax, .reg(.rcx))
            asm.shift(.shl, 2, .reg(.rcx), by: 8)
            asm.arithmetic(.or, 2, .rax, .reg(.rcx))
            asm.store(1, flagWord, .rax)
            flags = .memory
        }

        /// dst = low half of a * b.
        mutating func multiplyLow(_ op: MicroOp) {
            let width = op.opcode.width
            if width == 0 { return runOp() }
            let a = source(op.a)
            asm.mov(width, .rdx, a)
            asm.multiply(width, .rdx, source(op.b))
            write(width, op.dst, .rdx)
            productFlags(width, .rdx)
        }

        /// dst, slot imm = a * b.
        mutating func multiplyWide(_ op: MicroOp, isSigned: Bool) {
            let width = op.opcode.width
            if width == 0 { return runOp() }
            moveIntoRAX(width, source(op.a))
            let b = source(op.b)
            asm.unary(isSigned ? 5 : 4, width, b)
            // Moves leave the flags. The second write may move RSI's temporary, not RAX.
            write(width, op.dst, .rax)
            write(width, UInt16(truncatingIfNeeded: op.imm), .rdx)
            asm.mov(width, .rdx, .rax)
            productFlags(width, .rdx)
        }

        // MARK: Bits

        mutating func bitTest(_ op: MicroOp, _ change: HostArithmetic?, isComplement: Bool = false) {
            let width = op.opcode.width
            if width == 0 { return runOp() }
            let isLive = !deadAfter[current]
            if isLive { clobberFlags() } else { flags = .memory }
            asm.mov(width, .rcx, source(op.b))
            asm.mov(width, .rdx, source(op.a))
            // BT, BTS, BTR, BTC with registers take the place modulo the width.
            let code: UInt32 = isComplement ? 0x0FBB : change == .or ? 0x0FAB : change == .and ? 0x0FB3 : 0x0FA3
            asm.instruction(code, width, HostRegister.rcx.rawValue, .reg(.rdx))
            if isLive {
                asm.set(.b, .reg(.rcx))
                asm.mov(0, .rax, flagByte)
                asm.arithmetic(.and, 0, .reg(.rax), immediate: 0xFE)
                asm.arithmetic(.or, 0, .rax, .reg(.rcx))
                asm.store(0, flagByte, .rax)
            }
            if change != nil || isComplement { write(width, op.dst, .rdx) }
        }

        mutating func bitScan(_ op: MicroOp, isReverse: Bool) {
            let width = op.opcode.width
            if width == 0 || Self.isTemp(op.dst) { return runOp() }
            clobberFlags()
            let value = register(width, op.a, scratch: .rdx)
            asm.test(width, .reg(value), value)
            let isZero = asm.jump(if: .z)
            asm.instruction(isReverse ? 0x0FBD : 0x0FBC, width, HostRegister.rcx.rawValue, .reg(value))
            write(width, op.dst, .rcx)
            asm.arithmetic(.and, 0, flagByte, immediate: 0xBF)
            let done = asm.jump()
            asm.bind(isZero)
            asm.arithmetic(.or, 0, flagByte, immediate: 0x40)
            asm.bind(done)
        }

        mutating func compareExchange(_ op: MicroOp) {
            let width = op.opcode.width
            let other = UInt16(truncatingIfNeeded: op.imm)
            if width == 0 || Self.isHighByte(op.a) || Self.isHighByte(op.b) || Self.isHighByte(other) { return runOp() }
            asm.mov(width, .rdx, source(op.b))
            let accumulator = register(width, op.a, scratch: .rcx)
            asm.arithmetic(.cmp, width, accumulator, .reg(.rdx))
            asm.move(.z, width, .rdx, source(other))
            write(width, op.dst, .rdx)
            flags = .host
        }

        mutating func conditionalMove(_ op: MicroOp) {
            let width = op.opcode.width
            if width == 0 { return runOp() }
            let condition = condition(op.b)
            let target = place(op.dst)
            if target.isMemory || (Self.isTemp(op.dst) && tempSlot != op.dst) {
                asm.mov(width, .rdx, target)
                asm.move(condition, width, .rdx, source(op.a))
                write(width, op.dst, .rdx)
            } else {
                asm.move(condition, width, target.register, source(op.a))
            }
        }
    }
#endif
