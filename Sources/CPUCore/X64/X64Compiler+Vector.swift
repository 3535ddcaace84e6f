#if arch(x86_64)
    extension X64Compiler {
        /// A vector helper's operation by the host's own instruction. False: there is none.
        ///
        /// Floating point runs on the host's MXCSR as long as the guest's control bits are the usual ones (round to
        /// nearest, everything masked); the host then gathers the exception flags, and who leaves generated code adds them to the
        /// guest's. `fpActive` says that it is so; when it is not, the helper is called.
        mutating func hostVector(_ op: MicroOp) -> Bool {
            let host = vectors[Int(op.b)]
            if host.kind == .none { return false }
            var miss: UnsafeMutablePointer<UInt8>?
            let toGeneral = host.kind == .toGeneral128 || host.kind == .toGeneral32 || host.kind == .toGeneral64
            let toFlags = host.kind == .flags128 || host.kind == .flags32 || host.kind == .flags64
            let fromGeneral = host.kind == .fromGeneral32 || host.kind == .fromGeneral64
            if host.isFloat {
                clobberFlags()
                miss = checkFloat()
            }
            let before = tempSlot
            switch host.kind {
            case .packed:
                loadVector(0, op.dst)
                loadVector(1, op.a)
                emit(host, op, register: 0, .reg(.rcx))
                storeVector(op.dst)
            case .packedUnary:
                loadVector(1, op.a)
                emit(host, op, register: 0, .reg(.rcx))
                storeVector(op.dst)
            case .shiftImmediate:
                loadVector(0, op.dst)
                emit(host, op, register: host.group, .reg(.rax))
                storeVector(op.dst)
            case .scalar32, .scalar64:
                let prefix: UInt8 = host.kind == .scalar32 ? 0xF3 : 0xF2
                asm.instruction(0x0F10, 2, 0, state(op.dst), prefix: prefix)
                emit(host, op, register: 0, state(op.a))
                asm.instruction(0x0F11, 2, 0, state(op.dst), prefix: prefix)
            case .scalar32Unary, .scalar64Unary, .widen, .narrow:
                emit(host, op, register: 0, state(op.a))
                let isNarrow = host.kind == .scalar32Unary || host.kind == .narrow
                asm.instruction(0x0F11, 2, 0, state(op.dst), prefix: isNarrow ? 0xF3 : 0xF2)
            case .flags128:
                loadVector(0, op.dst)
                loadVector(1, op.a)
                emit(host, op, register: 0, .reg(.rcx))
            case .flags32, .flags64:
                asm.instruction(0x0F10, 2, 0, state(op.dst), prefix: host.kind == .flags32 ? 0xF3 : 0xF2)
                emit(host, op, register: 0, state(op.a))
            case .toGeneral128:
                loadVector(1, op.a)
                emit(host, op, register: 0, .reg(.rcx))
                write(3, op.dst, .rax)
            case .toGeneral32, .toGeneral64:
                emit(host, op, register: 0, state(op.a))
                write(3, op.dst, .rax)
            case .fromGeneral32, .fromGeneral64:
                emit(host, op, register: 0, source(op.a))
                asm.instruction(0x0F11, 2, 0, state(op.dst), prefix: host.kind == .fromGeneral32 ? 0xF3 : 0xF2)
            case .none: break
            }
            if toFlags { flags = .host }
            if let miss {
                slowPath(miss, before: before, isHelper: !toGeneral && !toFlags && !fromGeneral, loadsFlags: toFlags)
            }
            return true
        }

        private mutating func loadVector(_ register: UInt8, _ offset: UInt16) {
            asm.instruction(0x0F10, 2, register, state(offset))
        }
        private mutating func storeVector(_ offset: UInt16) { asm.instruction(0x0F11, 2, 0, state(offset)) }

        private mutating func emit(_ host: HostVectorOp, _ op: MicroOp, register: UInt8, _ operand: HostOperand) {
            asm.instruction(host.opcode, host.isWide ? 3 : 2, register, operand, prefix: host.prefix)
            if host.hasImmediate { asm.byte(UInt8(truncatingIfNeeded: op.imm)) }
        }

        /// The jump is taken when the host's MXCSR does not serve the guest.
        private mutating func checkFloat() -> UnsafeMutablePointer<UInt8> {
            let isActive = HostOperand.mem(.rbp, layout.fpActive)
            if !triesFloat {
                // The first in a row: perhaps it may be made to serve.
                triesFloat = true
                asm.arithmetic(.cmp, 0, isActive, immediate: 0)
                let active = asm.jump(if: .nz)
                asm.call(stubs.activateFloat)
                asm.bind(active)
            }
            asm.arithmetic(.cmp, 0, isActive, immediate: 0)
            return asm.jump(if: .z)
        }
    }
#endif
