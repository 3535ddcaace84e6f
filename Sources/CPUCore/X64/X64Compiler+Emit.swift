#if arch(x86_64)
    extension X64Compiler {
        /// Generates code for one micro-op.
        mutating func emit(_ op: MicroOp) {
            if touchesX87(op) {
                if readX87Status(op) { return }
                releaseX87()
            }
            if op.opcode < .call, touchesVectors(op) {
                if vectorMove(op) { return }
                releaseVectors(op)
            }
            if op.opcode > Opcode.lastSized { return emitUnsized(op) }
            let width = op.opcode.width
            switch Opcode(rawValue: op.opcode.rawValue & ~3).unsafelyUnwrapped {
            case .mov8: move(op)
            case .movI8: moveImmediate(op)
            case .add8: binary(.add, op, isImmediate: false, setsFlags: false)
            case .addI8: binary(.add, op, isImmediate: true, setsFlags: false)
            case .sub8: binary(.sub, op, isImmediate: false, setsFlags: false)
            case .subI8: binary(.sub, op, isImmediate: true, setsFlags: false)
            case .and8: binary(.and, op, isImmediate: false, setsFlags: false)
            case .andI8: binary(.and, op, isImmediate: true, setsFlags: false)
            case .or8: binary(.or, op, isImmediate: false, setsFlags: false)
            case .orI8: binary(.or, op, isImmediate: true, setsFlags: false)
            case .xor8: binary(.xor, op, isImmediate: false, setsFlags: false)
            case .xorI8: binary(.xor, op, isImmediate: true, setsFlags: false)
            case .shlI8: shiftConstant(.shl, op, setsFlags: false)
            case .shrI8: shiftConstant(.shr, op, setsFlags: false)
            case .sarI8: shiftConstant(.sar, op, setsFlags: false)
            case .not8: unary(op) { asm, width, operand in asm.unary(2, width, operand) }
            case .addF8: binary(.add, op, isImmediate: false, setsFlags: true)
            case .addFI8: binary(.add, op, isImmediate: true, setsFlags: true)
            case .subF8: binary(.sub, op, isImmediate: false, setsFlags: true)
            case .subFI8: binary(.sub, op, isImmediate: true, setsFlags: true)
            case .andF8: binary(.and, op, isImmediate: false, setsFlags: true)
            case .andFI8: binary(.and, op, isImmediate: true, setsFlags: true)
            case .orF8: binary(.or, op, isImmediate: false, setsFlags: true)
            case .orFI8: binary(.or, op, isImmediate: true, setsFlags: true)
            case .xorF8: binary(.xor, op, isImmediate: false, setsFlags: true)
            case .xorFI8: binary(.xor, op, isImmediate: true, setsFlags: true)
            case .shlFI8: shiftConstant(.shl, op, setsFlags: true)
            case .shrFI8: shiftConstant(.shr, op, setsFlags: true)
            case .sarFI8: shiftConstant(.sar, op, setsFlags: true)
            case .adcF8: binary(.adc, op, isImmediate: false, setsFlags: true)
            case .adcFI8: binary(.adc, op, isImmediate: true, setsFlags: true)
            case .sbbF8: binary(.sbb, op, isImmediate: false, setsFlags: true)
            case .sbbFI8: binary(.sbb, op, isImmediate: true, setsFlags: true)
            case .cmp8: compare(op, isImmediate: false)
            case .cmpI8: compare(op, isImmediate: true)
            case .test8: test(op, isImmediate: false)
            case .testI8: test(op, isImmediate: true)
            case .incF8: increment(op, isDecrement: false)
            case .decF8: increment(op, isDecrement: true)
            case .negF8:
                unary(op) { asm, width, operand in asm.unary(3, width, operand) }
                flags = .host
            case .shlF8: shiftVariable(.shl, op)
            case .shrF8: shiftVariable(.shr, op)
            case .sarF8: shiftVariable(.sar, op)
            case .rolF8: shiftVariable(.rol, op)
            case .rorF8: shiftVariable(.ror, op)
            case .shldF8: doubleShift(0x0FA5, op)
            case .shrdF8: doubleShift(0x0FAD, op)
            case .mulUF8: multiplyWide(op, isSigned: false)
            case .mulSF8: multiplyWide(op, isSigned: true)
            case .imulF8: multiplyLow(op)
            case .btF8: bitTest(op, nil)
            case .btsF8: bitTest(op, .or)
            case .btrF8: bitTest(op, .and)
            case .btcF8: bitTest(op, nil, isComplement: true)
            case .bsfF8: bitScan(op, isReverse: false)
            case .bsrF8: bitScan(op, isReverse: true)
            case .cmov8: conditionalMove(op)
            case .cmpxchgF8: compareExchange(op)
            case .lea8: loadAddress(op)
            case .ld8: load(op, from: width, to: width, isSigned: false)
            case .ldw8: load(op, from: width, to: width, isSigned: false, willStore: true)
            case .st8: store(op)
            case .brZero8: branch(on: .z, op)
            case .brNonzero8: branch(on: .nz, op)
            default: runOp()
            }
        }

        private mutating func emitUnsized(_ op: MicroOp) {
            switch op.opcode {
            case .zx8x16: extend(op, from: 0, to: 1, isSigned: false)
            case .zx8x64: extend(op, from: 0, to: 3, isSigned: false)
            case .zx16x64: extend(op, from: 1, to: 3, isSigned: false)
            case .sx8x16: extend(op, from: 0, to: 1, isSigned: true)
            case .sx8x32: extend(op, from: 0, to: 2, isSigned: true)
            case .sx8x64: extend(op, from: 0, to: 3, isSigned: true)
            case .sx16x32: extend(op, from: 1, to: 2, isSigned: true)
            case .sx16x64: extend(op, from: 1, to: 3, isSigned: true)
            case .sx32x64: extend(op, from: 2, to: 3, isSigned: true)
            case .ldzx8: load(op, from: 0, to: 3, isSigned: false)
            case .ldzx16: load(op, from: 1, to: 3, isSigned: false)
            case .ldsx8x16: load(op, from: 0, to: 1, isSigned: true)
            case .ldsx8x32: load(op, from: 0, to: 2, isSigned: true)
            case .ldsx8x64: load(op, from: 0, to: 3, isSigned: true)
            case .ldsx16x32: load(op, from: 1, to: 2, isSigned: true)
            case .ldsx16x64: load(op, from: 1, to: 3, isSigned: true)
            case .ldsx32x64: load(op, from: 2, to: 3, isSigned: true)
            case .ld128: vectorAccess(op, isStore: false)
            case .st128: vectorAccess(op, isStore: true)
            case .bswap32, .bswap64:
                let width = op.opcode == .bswap32 ? 2 : 3
                moveIntoRAX(width, source(op.a))
                asm.byteSwap(width, .rax)
                write(width, op.dst, .rax)
            case .setcc:
                let condition = condition(op.b)
                asm.set(condition, .reg(.rcx))
                write(0, op.dst, .rcx)
            case .packFlags:
                saveFlags()
                asm.zeroExtend(from: 1, .rax, flagWord)
                asm.mov(2, .rcx, .rax)
                asm.shift(.shr, 2, .reg(.rax), by: 8)
                asm.arithmetic(.and, 2, .reg(.rax), immediate: 0xD5)
                asm.arithmetic(.and, 2, .reg(.rcx), immediate: 1)
                asm.shift(.shl, 2, .reg(.rcx), by: 11)
                asm.arithmetic(.or, 2, .rax, .reg(.rcx))
                flags = .memory
                write(3, op.dst, .rax)
            case .setCarry:
                clobberFlags()
                asm.arithmetic(op.imm != 0 ? .or : .and, 0, flagByte, immediate: op.imm != 0 ? 1 : 0xFE)
            case .complementCarry:
                clobberFlags()
                asm.arithmetic(.xor, 0, flagByte, immediate: 1)
            case .segment32, .segment64:
                let width = op.opcode == .segment32 ? 2 : 3
                let a = register(width, op.a, scratch: .rax)
                let b = register(width, op.b, scratch: .rcx)
                asm.lea(width, .rax, .mem(a, 0, index: b))
                write(width, op.dst, .rax)
            case .call, .callPure:
                if timestamp(op) || divide(op) || hostX87(op) || hostVector(op) { return }
                if isLight[Int(op.b)] {
                    callHelper()
                } else if vectors[Int(op.b)].kind == .flagless {
                    callWithRegisters()
                } else {
                    runOp()
                }
            case .guardCanonical: guardCanonical(op)
            case .guardClear8:
                // Nothing waits while the host's x87 unit serves.
                if isX87Ready, op.a == layout.x87.status { return }
                clobberFlags()
                asm.test(0, place(op.a), immediate: op.imm)
                slowPath(asm.jump(if: .nz), before: tempSlot)
            case .exitIf: exitBlock(op)
            case .jump:
                flushVectors()
                saveFlags()
                leaveBlock(to: op.imm)
            case .jumpIf:
                jumpIf(op)
            case .jumpTo: jumpIndirect(op)
            case .leave:
                flushVectors()
                saveFlags()
                storeConstant(layout.pc, op.imm)
                exit(.leave)
            case .leaveDynamic:
                flushVectors()
                saveFlags()
                exit(.leave)
            default: runOp()
            }
        }

        /// RDTSC by a supervisor. False: another call, nothing has been emitted.
        private mutating func timestamp(_ op: MicroOp) -> Bool {
            guard vectors[Int(op.b)].kind == .timestamp, block.pointee.mode & BlockCache.userBit == 0 else { return false }
            clobberFlags()
            // Instructions retired before this one.
            asm.mov(3, .rax, .mem(.rbp, layout.limit))
            asm.arithmetic(.sub, 3, .rax, .reg(X64Layout.budget))
            let left = UInt64(block.pointee.count) - UInt64(block.pointee.instructionIndex[current])
            asm.arithmetic(.sub, 3, .reg(.rax), immediate: left)
            asm.mov(0, .rcx, .mem(.rbp, layout.clockShift))
            asm.shift(.shl, 3, .reg(.rax))
            asm.arithmetic(.add, 3, .rax, .mem(.rbp, layout.timeOffset))
            asm.mov(3, .rdx, .rax)
            asm.shift(.shr, 3, .reg(.rdx), by: 32)
            asm.mov(2, .rax, .rax)
            write(3, Slot.register(0), .rax)
            write(3, Slot.register(2), .rdx)
            return true
        }

        /// DIV of 32 or 64 bits, when the quotient fits. False: another call, nothing has been emitted.
        private mutating func divide(_ op: MicroOp) -> Bool {
            guard vectors[Int(op.b)].kind == .divide, op.imm >= 2 else { return false }
            let width = Int(op.imm)
            clobberFlags()
            asm.mov(width, .rcx, source(op.a))
            asm.mov(width, .rax, place(Slot.register(0)))
            asm.mov(width, .rdx, place(Slot.register(2)))
            // Also when the divisor is 0.
            asm.arithmetic(.cmp, width, .rdx, .reg(.rcx))
            let faults = asm.jump(if: .nb)
            asm.unary(6, width, .reg(.rcx))
            write(width, Slot.register(0), .rax)
            write(width, Slot.register(2), .rdx)
            slowPath(faults, before: tempSlot)
            return true
        }

        // MARK: Moves

        private mutating func move(_ op: MicroOp) {
            let width = op.opcode.width
            if op.dst == op.a, width != 2 { return }
            let from = source(op.a)
            if !Self.isHighByte(op.dst) {
                let target = destination(op.dst)
                if !target.isMemory { return asm.mov(width, target.register, from) }
            }
            // A store of 32 bits needs a zero-extended copy.
            if from.isMemory || width == 2 {
                asm.mov(width, .rax, from)
                return write(width, op.dst, .rax)
            }
            write(width, op.dst, from.register)
        }

        private mutating func moveImmediate(_ op: MicroOp) {
            if isConstantCount(op) { return }
            let width = op.opcode.width
            let value =
                switch width {
                case 0: op.imm & 0xFF
                case 1: op.imm & 0xFFFF
                case 2: op.imm & 0xFFFF_FFFF
                default: op.imm
                }
            if Self.isHighByte(op.dst) {
                asm.movImmediate(.rax, value)
                return write(0, op.dst, .rax)
            }
            let target = destination(op.dst)
            if width < 2 { return asm.storeImmediate(width, target, value) }
            if !target.isMemory { return asm.movImmediate(target.register, value) }
            if Self.fits32(value) { return asm.storeImmediate(3, target, value) }
            asm.movImmediate(.rax, value)
            asm.store(3, target, .rax)
        }

        private mutating func extend(_ op: MicroOp, from: Int, to: Int, isSigned: Bool) {
            let value = source(op.a)
            // Straight to the destination, where it is a register and all of it is written.
            if to >= 2, op.dst & 7 == 0, !Self.isTemp(op.dst) {
                let target = destination(op.dst)
                if !target.isMemory {
                    if isSigned {
                        asm.signExtend(from: from, to: to, target.register, value)
                    } else {
                        asm.zeroExtend(from: from, target.register, value)
                    }
                    return
                }
            }
            if isSigned {
                asm.signExtend(from: from, to: to, .rax, value)
            } else {
                asm.zeroExtend(from: from, .rax, value)
            }
            write(to, op.dst, .rax)
        }

        // MARK: Addresses and memory

        /// The address, of which base or index is there, as an operand of LEA. Uses RAX and RCX.
        private mutating func addressOperand(_ op: MicroOp) -> HostOperand {
            let displacement = Int32(truncatingIfNeeded: op.imm)
            let scale = UInt8(truncatingIfNeeded: op.imm >> 32) & 3
            let hasBase = op.a != Slot.zero
            let hasIndex = op.b != Slot.zero
            if hasBase {
                let base = register(3, op.a, scratch: .rax)
                if !hasIndex { return .mem(base, displacement) }
                return .mem(base, displacement, index: register(3, op.b, scratch: .rcx), scale: scale)
            }
            // An index alone: scaled in RCX.
            let index = register(3, op.b, scratch: .rcx)
            if scale == 0 { return .mem(index, displacement) }
            if scale == 1 { return .mem(index, displacement, index: index) }
            let zero: HostRegister = index == .rax ? .rcx : .rax
            asm.movImmediate(zero, 0)
            return .mem(zero, displacement, index: index, scale: scale)
        }

        private mutating func loadAddress(_ op: MicroOp) {
            let width = op.opcode.width
            if width >= 2, op.dst & 7 == 0, !Self.isTemp(op.dst), op.a != Slot.zero || op.b != Slot.zero {
                let target = destination(op.dst)
                if !target.isMemory {
                    let isShort = width == 2 || op.imm & Address.truncate32 != 0
                    let operand = addressOperand(op)
                    return asm.lea(isShort ? 2 : 3, target.register, operand)
                }
            }
            addressIntoRAX(op, isShort: width == 2)
            write(width, op.dst, .rax)
        }

        /// RAX = the address.
        mutating func addressIntoRAX(_ op: MicroOp, isShort: Bool = false) {
            let isShort = isShort || op.imm & Address.truncate32 != 0
            if op.a == Slot.zero, op.b == Slot.zero {
                let value = UInt64(bitPattern: Int64(Int32(truncatingIfNeeded: op.imm)))
                return asm.movImmediate(.rax, isShort ? value & 0xFFFF_FFFF : value)
            }
            let operand = addressOperand(op)
            if operand.displacement == 0, operand.index == nil {
                if operand.base != .rax || isShort { asm.mov(isShort ? 2 : 3, .rax, operand.base) }
            } else {
                asm.lea(isShort ? 2 : 3, .rax, operand)
            }
        }

        mutating func load(_ op: MicroOp, from: Int, to: Int, isSigned: Bool, willStore: Bool = false) {
            releaseFlags()
            let miss = lookUp(op, bytes: 1 << Int32(from), isWrite: willStore)
            let before = tempSlot
            if Self.isHighByte(op.dst) {
                asm.zeroExtend(from: 0, .rax, hostAddress)
                write(0, op.dst, .rax)
            } else {
                let target = destination(op.dst)
                let register = target.isMemory ? HostRegister.rax : target.register
                if isSigned {
                    asm.signExtend(from: from, to: to, register, hostAddress)
                } else if from == to {
                    asm.mov(from, register, hostAddress)
                } else {
                    asm.zeroExtend(from: from, register, hostAddress)
                }
                if target.isMemory {
                    if to >= 2 { storeRAX(op.dst) } else { asm.store(to, target, .rax) }
                }
            }
            slowPath(miss, before: before)
        }

        mutating func store(_ op: MicroOp) {
            // STMXCSR: the interpreter's way brings the flags together.
            if Int32(op.dst) - X64Layout.bias == layout.mxcsr { return runOp() }
            let width = op.opcode.width
            releaseFlags()
            let miss = lookUp(op, bytes: 1 << Int32(width), isWrite: true)
            let before = tempSlot
            let value = register(width, op.dst, scratch: .rdx)
            asm.store(width, hostAddress, value)
            slowPath(miss, before: before)
        }

        /// 16 bytes between memory and a slot that no host register stands for.
        private mutating func vectorAccess(_ op: MicroOp, isStore: Bool) {
            releaseFlags()
            let miss = lookUp(op, bytes: 16, isWrite: isStore)
            var unaligned: UnsafeMutablePointer<UInt8>?
            if op.imm & Address.aligned != 0 {
                asm.test(0, .reg(.rax), immediate: 15)
                unaligned = asm.jump(if: .nz)
            }
            // MOVUPS.
            let (from, to) = isStore ? (state(op.dst), hostAddress) : (hostAddress, state(op.dst))
            asm.instruction(0x0F10, 2, Self.spareVector, from)
            asm.instruction(0x0F11, 2, Self.spareVector, to)
            slowPath(miss, before: tempSlot)
            if let unaligned { slowPath(unaligned, before: tempSlot) }
        }

        private mutating func guardCanonical(_ op: MicroOp) {
            clobberFlags()
            asm.mov(3, .rax, source(op.a))
            asm.mov(3, .rcx, .rax)
            asm.shift(.shl, 3, .reg(.rcx), by: 16)
            asm.shift(.sar, 3, .reg(.rcx), by: 16)
            asm.arithmetic(.cmp, 3, .rcx, .reg(.rax))
            let miss = asm.jump(if: .nz)
            slowPath(miss, before: tempSlot)
        }

        // MARK: Leaving the block

        private mutating func jumpIf(_ op: MicroOp) {
            if loop == nil { flushVectors() } else { flushX87Note() }
            // A loop that begins by writing the flags needs them only when it stops between two rounds.
            let isLazy = loop != nil && isDeadAtEntry && flags == .host && producer == current - 1 && comparedOperands() != nil
            if !isLazy { saveFlags() }
            let condition = condition(op.b)
            if loop == nil, isNear(op.imm) {
                exits[exitCount] = Exit(place: asm.jump(if: condition), target: op.imm, isPatchable: true)
                exitCount += 1
                return leaveBlock(to: block.pointee.endPC)
            }
            let taken = asm.jump(if: condition)
            if isLazy { storeHostFlags() }
            storeVectors(vectorsChanged)
            leaveBlock(to: block.pointee.endPC)
            asm.bind(taken)
            if let loop { closeLoop(loop, producer: isLazy ? producer : -1) } else { leaveBlock(to: op.imm) }
        }

        /// A jump there may be patched to go there directly.
        private func isNear(_ target: UInt64) -> Bool {
            let linear = block.pointee.linear
            let targetLinear = linear &+ (target &- block.pointee.pc)
            return (targetLinear ^ linear) >> 12 == 0 && block.pointee.secondPage < 0 && block.pointee.page >= 0
        }

        private mutating func branch(on condition: HostCondition, _ op: MicroOp) {
            flushVectors()
            clobberFlags()
            let width = op.opcode.width
            let value = source(op.a)
            if value.isMemory {
                asm.arithmetic(.cmp, width, value, immediate: 0)
            } else {
                asm.test(width, value, value.register)
            }
            let taken = asm.jump(if: condition)
            leaveBlock(to: block.pointee.endPC)
            asm.bind(taken)
            leaveBlock(to: op.imm)
        }

        /// To a known PC. Within the page the jump is patched to go there directly: blocks of one page are forgotten
        /// together. Elsewhere it asks the table of entries.
        mutating func leaveBlock(to target: UInt64) {
            if isNear(target) {
                exits[exitCount] = Exit(place: asm.jump(), target: target, isPatchable: true)
            } else {
                exits[exitCount] = Exit(place: jumpByTable(to: target), target: target, isPatchable: false)
            }
            exitCount += 1
        }

        /// To where the table of entries says that `target` begins; gives the place of the jump that is taken when it does not know.
        mutating func jumpByTable(to target: UInt64) -> UnsafeMutablePointer<UInt8> {
            let entry = layout.entries + Int32(EntryTable.index(target, block.pointee.mode)) * 16
            asm.movImmediate(.rax, EntryTable.key(target, block.pointee.mode))
            asm.arithmetic(.cmp, 3, .mem(.rbp, entry), .rax)
            let unknown = asm.jump(if: .nz)
            asm.jump(.mem(.rbp, entry + 8))
            return unknown
        }

        private mutating func jumpIndirect(_ op: MicroOp) {
            flushVectors()
            clobberFlags()
            moveIntoRAX(3, source(op.a))
            let (first, mask) = EntryTable.part(block.pointee.mode)
            let entries = layout.entries + Int32(first) * 16
            asm.mov(3, .rcx, .rax)
            asm.shift(.shr, 3, .reg(.rcx), by: 12)
            asm.arithmetic(.xor, 2, .rcx, .reg(.rax))
            asm.arithmetic(.and, 2, .reg(.rcx), immediate: mask)
            asm.shift(.shl, 2, .reg(.rcx), by: 4)
            let tag = EntryTable.tag(block.pointee.mode)
            var key = HostRegister.rax
            if tag != 0 {
                key = .rdx
                asm.movImmediate(.rdx, tag)
                asm.arithmetic(.xor, 3, .rdx, .reg(.rax))
            }
            asm.arithmetic(.cmp, 3, key, .mem(.rbp, entries, index: .rcx))
            let miss = asm.jump(if: .nz)
            asm.jump(.mem(.rbp, entries + 8, index: .rcx))
            asm.bind(miss)
            asm.store(3, .mem(.rbp, layout.pc), .rax)
            asm.storeImmediate(3, .mem(.rbp, layout.patchSite), 0)
            exit(.lookUp)
        }
    }
#endif
