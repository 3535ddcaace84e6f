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
        /// The same for a helper that reads or writes general registers.
        let callWithRegisters: UnsafeMutablePointer<UInt8>
        /// RDX: where a look-up guesses, in writable memory; it will look up its entry instead. Changes only flags.
        let stopGuessing: UnsafeMutablePointer<UInt8>
        /// Lets the host's MXCSR serve the guest, if the guest's control bits are the usual ones. Uses RAX.
        let activateFloat: UnsafeMutablePointer<UInt8>
        /// Makes the host's x87 unit the guest's, if all exceptions are masked and none waits. Uses RAX and RCX.
        let activateX87: UnsafeMutablePointer<UInt8>
        /// Brings the x87 unit from the host's, which serves it now, to the state. Uses nothing but flags.
        let endX87: UnsafeMutablePointer<UInt8>
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
                asm.test(0, field(layout.fpActive), immediate: X64Layout.x87Serves)
                let noX87 = asm.jump(if: .z)
                asm.call(endX87)
                asm.bind(noX87)
                asm.test(0, field(layout.fpActive), immediate: X64Layout.mxcsrServes)
                let noMXCSR = asm.jump(if: .z)
                asm.instruction(0x0FAE, 2, 3, field(layout.mxcsrScratch))
                asm.mov(2, scratch, field(layout.mxcsrScratch))
                asm.arithmetic(.and, 2, .reg(scratch), immediate: 0x3F)
                asm.arithmetic(.or, 2, field(layout.mxcsr), scratch)
                asm.storeImmediate(0, field(layout.fpActive), 0)
                asm.bind(noMXCSR)
                asm.bind(inactive)
            }

            activateX87 = asm.cursor
            Self.activateX87(&asm, layout)
            endX87 = asm.cursor
            Self.endX87(&asm, layout)
            let endX87 = endX87

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

            stopGuessing = asm.cursor
            Self.stopGuessing(&asm)

            activateFloat = asm.cursor
            asm.mov(2, .rax, field(layout.mxcsr))
            asm.arithmetic(.and, 2, .reg(.rax), immediate: 0xFFC0)
            asm.arithmetic(.cmp, 2, .reg(.rax), immediate: 0x1F80)
            let unusual = asm.jump(if: .nz)
            asm.instruction(0x0FAE, 2, 2, field(layout.usualMXCSR))
            asm.arithmetic(.or, 0, field(layout.fpActive), immediate: X64Layout.mxcsrServes)
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

            /// The helper gets the registers that `isBrought` says, and may change them.
            func helperCall(_ asm: inout X64Assembler, _ isBrought: (HostRegister) -> Bool) {
                transfer(&asm, isStore: true, isBrought)
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
                transfer(&asm, isStore: false, isBrought)
                asm.ret()
                for (place, reason) in [(faults, X64Exit.helperFault), (interrupted, .interrupted)] {
                    asm.bind(place)
                    asm.movImmediate(.rax, reason.rawValue)
                    transfer(&asm, isStore: true) { !isBrought($0) }
                    asm.arithmetic(.add, 3, .reg(.rsp), immediate: 8)
                    asm.jump(to: restore)
                }
            }
            callHelper = asm.cursor
            helperCall(&asm, Self.isVolatile)
            callWithRegisters = asm.cursor
            helperCall(&asm) { _ in true }
            size = asm.cursor - code.writable
        }

        private static func stopGuessing(_ asm: inout X64Assembler) {
            let bytes = UnsafeMutablePointer<UInt8>.allocate(capacity: 16)
            defer { bytes.deallocate() }
            var piece = X64Assembler(cursor: bytes)
            piece.entryIntoRCX()
            precondition(piece.cursor - bytes == X64Assembler.guessBytes)
            let raw = UnsafeRawPointer(bytes)
            for register in [HostRegister.rax, .rbx, .rcx] { asm.push(register) }
            asm.movImmediate(.rcx, raw.loadUnaligned(as: UInt64.self))
            asm.store(3, .mem(.rdx, 0), .rcx)
            asm.movImmediate(.rcx, UInt64(raw.loadUnaligned(fromByteOffset: 7, as: UInt32.self)))
            asm.store(2, .mem(.rdx, 7), .rcx)
            // CPUID: what has been fetched ahead is fetched again (SDM volume 3, 9.1.3).
            asm.movImmediate(.rax, 0)
            asm.byte(0x0F)
            asm.byte(0xA2)
            for register in [HostRegister.rcx, .rbx, .rax] { asm.pop(register) }
            asm.ret()
        }

        // MARK: x87

        /// By the abridged tag word of a byte: the tag word, 3 for empty, 0 else. And by a byte of the tag word: 4 bits of the
        /// abridged one. Addresses of tables that stay for ever, for generated code.
        private static let tagWords: UInt64 = {
            let table = UnsafeMutablePointer<UInt16>.allocate(capacity: 256)
            for tags in 0..<256 {
                table[tags] = (0..<8).reduce(0) { $0 | (tags >> $1 & 1 == 0 ? 3 << UInt16(2 * $1) : 0) }
            }
            return UInt64(UInt(bitPattern: table))
        }()
        private static let tagBits: UInt64 = {
            let table = UnsafeMutablePointer<UInt8>.allocate(capacity: 256)
            for word in 0..<256 {
                table[word] = (0..<4).reduce(0) { $0 | (word >> (2 * $1) & 3 == 3 ? 0 : 1 << UInt8($1)) }
            }
            return UInt64(UInt(bitPattern: table))
        }()

        /// An operand in the state, by its offset there.
        private static func slot(_ offset: UInt16, _ more: Int = 0) -> HostOperand {
            .mem(.rbp, Int32(offset) + Int32(more) - X64Layout.bias)
        }

        private static func activateX87(_ asm: inout X64Assembler, _ layout: X64Layout) {
            let x87 = layout.x87
            asm.zeroExtend(from: 1, .rax, slot(x87.control))
            asm.mov(2, .rcx, .rax)
            asm.arithmetic(.and, 2, .reg(.rcx), immediate: 0x3F)
            asm.arithmetic(.cmp, 2, .reg(.rcx), immediate: 0x3F)
            let unmasked = asm.jump(if: .nz)
            asm.mov(2, .rcx, .rax)
            asm.arithmetic(.and, 2, .reg(.rcx), immediate: 0x300)
            asm.arithmetic(.cmp, 2, .reg(.rcx), immediate: 0x100)
            let reserved = asm.jump(if: .z)
            asm.test(0, slot(x87.status), immediate: 0x80)
            let pending = asm.jump(if: .nz)
            asm.store(2, .mem(.rbp, layout.environment), .rax)
            asm.zeroExtend(from: 1, .rax, slot(x87.status))
            asm.store(2, .mem(.rbp, layout.environment + 4), .rax)
            asm.zeroExtend(from: 0, .rax, slot(x87.tags))
            asm.movImmediate(.rcx, tagWords)
            asm.zeroExtend(from: 1, .rax, .mem(.rcx, 0, index: .rax, scale: 1))
            asm.store(2, .mem(.rbp, layout.environment + 8), .rax)
            // FNINIT; from TOP 0 eight pushes fill R7 to R0; FLDENV.
            asm.byte(0xDB)
            asm.byte(0xE3)
            for number in (0..<8).reversed() { asm.instruction(0xDB, 2, 5, slot(x87.registers, number * 16)) }
            asm.instruction(0xD9, 2, 4, .mem(.rbp, layout.environment))
            asm.arithmetic(.or, 0, .mem(.rbp, layout.fpActive), immediate: X64Layout.x87Serves)
            asm.bind(unmasked)
            asm.bind(reserved)
            asm.bind(pending)
            asm.ret()
        }

        private static func endX87(_ asm: inout X64Assembler, _ layout: X64Layout) {
            let x87 = layout.x87
            asm.push(.rax)
            asm.push(.rcx)
            // FNSTENV.
            asm.instruction(0xD9, 2, 6, .mem(.rbp, layout.environment))
            asm.zeroExtend(from: 1, .rax, .mem(.rbp, layout.environment + 4))
            asm.store(1, slot(x87.status), .rax)
            asm.movImmediate(.rcx, tagBits)
            asm.zeroExtend(from: 0, .rax, .mem(.rbp, layout.environment + 8))
            asm.zeroExtend(from: 0, .rax, .mem(.rcx, 0, index: .rax))
            asm.store(0, slot(x87.tags), .rax)
            asm.zeroExtend(from: 0, .rax, .mem(.rbp, layout.environment + 9))
            asm.zeroExtend(from: 0, .rax, .mem(.rcx, 0, index: .rax))
            asm.shift(.shl, 2, .reg(.rax), by: 4)
            asm.arithmetic(.or, 0, slot(x87.tags), .rax)
            // With TOP 0 and nothing empty, eight pops are R0 to R7.
            asm.instruction(0xD9, 2, 4, .mem(.rbp, layout.cleanEnvironment))
            for number in 0..<8 { asm.instruction(0xDB, 2, 7, slot(x87.registers, number * 16)) }
            asm.arithmetic(.and, 0, .mem(.rbp, layout.fpActive), immediate: UInt64(~UInt8(X64Layout.x87Serves)))
            asm.pop(.rcx)
            asm.pop(.rax)
            asm.ret()
        }
    }
#endif
