#if arch(x86_64)
    /// The pieces of code that all blocks share: the way in, the way out, and the two ways of calling back.
    struct X64Stubs {
        /// (state, code) -> `X64Exit`. In executable memory.
        let enter: UnsafeMutablePointer<UInt8>
        /// Leaves with the reason in RAX; pc is stored already. In writable memory, as jump targets are reckoned there.
        let exit: UnsafeMutablePointer<UInt8>
        /// RCX: the block; RDX: the micro-op's offset in it. They come back only when there is nothing to look at.
        let runOp: UnsafeMutablePointer<UInt8>
        let callHelper: UnsafeMutablePointer<UInt8>
        /// Lets the host's MXCSR serve the guest, if the guest's control bits are the usual ones. Uses RAX.
        let activateFloat: UnsafeMutablePointer<UInt8>
        let size: Int

        private static let saved: [HostRegister] = [.rbx, .rbp, .r12, .r13, .r14, .r15]
        /// Host registers that C functions may change.
        private static func isVolatile(_ register: HostRegister) -> Bool {
            switch register {
            case .rbx, .rbp, .r12, .r13, .r14, .r15: false
            default: true
            }
        }

        init(
            code: CodeMemory, layout: X64Layout, helpers: UnsafePointer<MicroHelper>,
            runOp callback: @convention(c) (UnsafeMutableRawPointer, UnsafeMutableRawPointer) -> UInt64
        ) {
            var asm = X64Assembler(cursor: code.writable)
            func field(_ displacement: Int32) -> HostOperand { .mem(.rbp, displacement) }
            func slot(_ number: Int) -> HostOperand { .mem(.rbp, Int32(number * 8) - X64Layout.bias) }
            func transfer(_ asm: inout X64Assembler, isStore: Bool, _ include: (HostRegister) -> Bool) {
                for number in 0..<16 {
                    guard let register = X64Layout.pinned[number], include(register) else { continue }
                    if isStore {
                        asm.store(3, slot(number), register)
                    } else {
                        asm.mov(3, register, slot(number))
                    }
                }
            }
            /// currentBlock and position, from RCX. Uses RAX and RSI.
            func note(_ asm: inout X64Assembler) {
                asm.store(3, field(layout.currentBlock), .rcx)
                asm.mov(2, .rax, .mem(.rcx, layout.blockCount))
                asm.mov(3, .rsi, field(layout.limit))
                asm.arithmetic(.sub, 3, .rsi, .reg(X64Layout.budget))
                asm.arithmetic(.sub, 3, .rsi, .reg(.rax))
                asm.store(3, field(layout.position), .rsi)
            }

            /// The exception flags that the host has gathered go to the guest's MXCSR.
            func endFloat(_ asm: inout X64Assembler, scratch: HostRegister) {
                asm.arithmetic(.cmp, 0, field(layout.fpActive), immediate: 0)
                let inactive = asm.jump(if: .z)
                asm.instruction(0x0FAE, 2, 3, field(layout.mxcsrScratch))
                asm.mov(2, scratch, field(layout.mxcsrScratch))
                asm.arithmetic(.and, 2, .reg(scratch), immediate: 0x3F)
                asm.arithmetic(.or, 2, field(layout.mxcsr), scratch)
                asm.storeImmediate(0, field(layout.fpActive), 0)
                asm.bind(inactive)
            }

            enter = code.executable + (asm.cursor - code.writable)
            for register in Self.saved { asm.push(register) }
            asm.arithmetic(.sub, 3, .reg(.rsp), immediate: 8)
            asm.lea(3, .rbp, .mem(.rdi, X64Layout.bias))
            asm.mov(3, .rax, .rsi)
            asm.mov(3, X64Layout.budget, field(layout.limit))
            asm.arithmetic(.sub, 3, X64Layout.budget, field(layout.position))
            transfer(&asm, isStore: false) { _ in true }
            asm.jump(.reg(.rax))

            exit = asm.cursor
            asm.mov(3, .rcx, field(layout.limit))
            asm.arithmetic(.sub, 3, .rcx, .reg(X64Layout.budget))
            asm.store(3, field(layout.position), .rcx)
            transfer(&asm, isStore: true) { _ in true }
            endFloat(&asm, scratch: .rcx)
            let restore = asm.cursor
            asm.arithmetic(.add, 3, .reg(.rsp), immediate: 8)
            for register in Self.saved.reversed() { asm.pop(register) }
            asm.ret()

            activateFloat = asm.cursor
            asm.mov(2, .rax, field(layout.mxcsr))
            asm.arithmetic(.and, 2, .reg(.rax), immediate: 0xFFC0)
            asm.arithmetic(.cmp, 2, .reg(.rax), immediate: 0x1F80)
            let unusual = asm.jump(if: .nz)
            asm.instruction(0x0FAE, 2, 2, field(layout.usualMXCSR))
            asm.storeImmediate(0, field(layout.fpActive), 1)
            asm.bind(unusual)
            asm.ret()

            runOp = asm.cursor
            transfer(&asm, isStore: true) { _ in true }
            note(&asm)
            endFloat(&asm, scratch: .rax)
            asm.arithmetic(.sub, 3, .reg(.rsp), immediate: 8)
            asm.mov(3, .rsi, .mem(.rcx, layout.blockOps))
            asm.arithmetic(.add, 3, .rsi, .reg(.rdx))
            asm.lea(3, .rdi, .mem(.rbp, -X64Layout.bias))
            asm.movImmediate(.rax, UInt64(UInt(bitPattern: unsafeBitCast(callback, to: UnsafeRawPointer.self))))
            asm.call(.reg(.rax))
            asm.arithmetic(.add, 3, .reg(.rsp), immediate: 8)
            asm.test(3, .reg(.rax), .rax)
            let leaves = asm.jump(if: .nz)
            transfer(&asm, isStore: false) { _ in true }
            asm.ret()
            asm.bind(leaves)
            // The caller is not returned to; all is in the state.
            asm.arithmetic(.add, 3, .reg(.rsp), immediate: 8)
            asm.jump(to: restore)

            callHelper = asm.cursor
            transfer(&asm, isStore: true, Self.isVolatile)
            note(&asm)
            endFloat(&asm, scratch: .rax)
            asm.arithmetic(.sub, 3, .reg(.rsp), immediate: 8)
            asm.arithmetic(.add, 3, .rdx, .mem(.rcx, layout.blockOps))
            asm.store(3, field(layout.currentOp), .rdx)
            asm.mov(3, .r8, .rdx)
            asm.lea(3, .rdi, .mem(.rbp, -X64Layout.bias))
            asm.zeroExtend(from: 1, .rsi, .mem(.r8, 2))
            asm.zeroExtend(from: 1, .rdx, .mem(.r8, 4))
            asm.zeroExtend(from: 1, .rax, .mem(.r8, 6))
            asm.mov(3, .rcx, .mem(.r8, 8))
            asm.movImmediate(.r8, UInt64(UInt(bitPattern: helpers)))
            asm.call(.mem(.r8, 0, index: .rax, scale: 3))
            asm.arithmetic(.add, 3, .reg(.rsp), immediate: 8)
            asm.test(3, .reg(.rax), .rax)
            let faults = asm.jump(if: .nz)
            asm.arithmetic(.cmp, 3, field(layout.exitRequest), immediate: 0)
            let interrupted = asm.jump(if: .nz)
            transfer(&asm, isStore: false, Self.isVolatile)
            asm.ret()
            for (place, reason) in [(faults, X64Exit.helperFault), (interrupted, .interrupted)] {
                asm.bind(place)
                asm.movImmediate(.rax, reason.rawValue)
                transfer(&asm, isStore: true) { !Self.isVolatile($0) }
                asm.arithmetic(.add, 3, .reg(.rsp), immediate: 8)
                asm.jump(to: restore)
            }
            size = asm.cursor - code.writable
        }
    }
#endif
