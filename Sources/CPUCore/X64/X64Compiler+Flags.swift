#if arch(x86_64)
    /// Flags that only a fault would need, and jumps out of the middle of a block.
    extension X64Compiler {
        // MARK: Flags computed once more

        /// After a micro-op: where the host's flags come from.
        mutating func noteProducer() {
            switch ops[current].opcode.flagUse {
            case .none: break
            case .writesAll: producer = flags == .host ? current : -1
            default: if ops[current].opcode != .exitIf, flags != .recomputable { producer = -1 }
            }
        }

        /// A memory access is about to take the host's flags. They are saved, unless only a fault would need them and they
        /// can be computed once more then. Uses RAX.
        mutating func releaseFlags() {
            if flags == .host, producer >= 0, canRecompute() { flags = .recomputable } else { clobberFlags() }
        }

        /// Whether the flags of micro-op `producer` can be computed from its operands or its result as long as they are needed:
        /// from the present micro-op until one writes all flags again, with nothing but moves and accesses to memory between.
        private func canRecompute() -> Bool {
            guard let (first, second) = comparedOperands() else { return false }
            func changes(_ op: MicroOp) -> Bool { op.dst & ~7 == first || op.dst & ~7 == second }
            for index in producer + 1 ..< current where ops[index].opcode != .exitIf {
                if !Self.isStore(ops[index].opcode), changes(ops[index]) { return false }
            }
            var isChanged = false
            for index in current ..< Int(block.pointee.opCount) {
                let op = ops[index]
                switch op.opcode.flagUse {
                case .writesAll: return true
                case .reads: return false
                // What goes on to nobody needs nothing.
                case .passes: return deadAfter[index]
                case .none: if changes(op) { isChanged = true }
                case .barrier:
                    guard Self.isAccess(op.opcode), !isChanged else { return false }
                    if !Self.isStore(op.opcode), changes(op) { isChanged = true }
                }
            }
            return false
        }

        /// The slots by which the flags of micro-op `producer` can be computed once more, as long as they do not change. Nil:
        /// they cannot be.
        func comparedOperands() -> (UInt16, UInt16)? {
            guard producer >= 0 else { return nil }
            let op = ops[producer]
            var second = op.b
            let first: UInt16
            switch op.opcode {
            case .cmp8 ... .cmp64, .test8 ... .test64: first = op.a
            case .cmpI8 ... .cmpI64, .testI8 ... .testI64: (first, second) = (op.a, op.a)
            case .addF8 ... .addF64, .subF8 ... .subF64:
                guard op.dst == op.a, op.dst != op.b else { return nil }
                first = op.dst
            case .addFI8 ... .addFI64, .subFI8 ... .subFI64:
                guard op.dst == op.a, op.opcode.width < 3 || Self.fits32(op.imm) else { return nil }
                (first, second) = (op.dst, op.dst)
            case .andF8 ... .xorFI64: (first, second) = (op.dst, op.dst)
            default: return nil
            }
            // General registers, from their first byte on.
            return first < 128 && first & 7 == 0 && second < 128 && second & 7 == 0 ? (first, second) : nil
        }

        private static func isStore(_ opcode: Opcode) -> Bool { opcode >= .st8 && opcode <= .st64 || opcode == .st128 }
        private static func isAccess(_ opcode: Opcode) -> Bool {
            opcode >= .ld8 && opcode <= .st64 || opcode >= .ldzx8 && opcode <= .st128
        }

        /// The flags of a micro-op that `canRecompute` has accepted go to the state. Uses RAX and RCX.
        mutating func recompute(_ op: MicroOp) {
            let width = op.opcode.width
            switch op.opcode {
            case .cmp8 ... .cmp64, .cmpI8 ... .cmpI64:
                asm.mov(3, .rcx, place(op.a))
                apply(.cmp, width, op, isImmediate: op.opcode >= .cmpI8)
            case .test8 ... .test64:
                asm.mov(3, .rcx, place(op.a))
                asm.test(width, place(op.b), .rcx)
            case .testI8 ... .testI64:
                asm.mov(3, .rcx, place(op.a))
                if width < 3 || Self.fits32(op.imm) {
                    asm.test(width, .reg(.rcx), immediate: op.imm)
                } else {
                    asm.movImmediate(.rax, op.imm)
                    asm.test(width, .reg(.rcx), .rax)
                }
            case .addF8 ... .addFI64, .subF8 ... .subFI64:
                let isSum = op.opcode <= .addFI64
                let isImmediate = isSum ? op.opcode >= .addFI8 : op.opcode >= .subFI8
                asm.mov(3, .rcx, place(op.dst))
                apply(isSum ? .sub : .add, width, op, isImmediate: isImmediate)
                apply(isSum ? .add : .sub, width, op, isImmediate: isImmediate)
            default:
                asm.mov(3, .rcx, place(op.dst))
                asm.test(width, .reg(.rcx), .rcx)
            }
            storeHostFlags()
        }

        /// RCX = RCX operation b or imm.
        private mutating func apply(_ operation: HostArithmetic, _ width: Int, _ op: MicroOp, isImmediate: Bool) {
            if !isImmediate {
                asm.arithmetic(operation, width, .rcx, place(op.b))
            } else if width < 3 || Self.fits32(op.imm) {
                asm.arithmetic(operation, width, .reg(.rcx), immediate: op.imm)
            } else {
                asm.movImmediate(.rax, op.imm)
                asm.arithmetic(operation, width, .rcx, .reg(.rax))
            }
        }

        // MARK: Side exits

        /// `exitIf`: the way out is behind the block.
        mutating func exitBlock(_ op: MicroOp) {
            flushX87Note()
            let condition = condition(op.b)
            sideExits[sideExitCount] = SideExit(
                place: asm.jump(if: condition), target: op.imm,
                left: UInt64(block.pointee.count) - UInt64(block.pointee.instructionIndex[current]) - 1,
                hasFlags: flags == .host, changed: vectorsChanged)
            sideExitCount += 1
        }

        mutating func emitSideExits(from first: Int) {
            for index in first..<sideExitCount {
                let exit = sideExits[index]
                asm.bind(exit.place)
                if exit.hasFlags { storeHostFlags() }
                storeVectors(exit.changed)
                asm.arithmetic(.add, 3, .reg(X64Layout.budget), immediate: exit.left)
                leaveBlock(to: exit.target)
            }
        }
    }
#endif
