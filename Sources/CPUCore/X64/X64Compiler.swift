#if arch(x86_64)
    /// Generates host code for one block's micro-ops.
    ///
    /// Operands are where `X64Layout` says. What is rare or complex calls back: `runOp` lets the interpreter execute one
    /// micro-op, so that there is no second description of it. Guest flags are the host's flags as long as nothing
    /// disturbs them, and go to `CoreState.hostFlags` before.
    struct X64Compiler {
        var asm: X64Assembler
        let layout: X64Layout
        let code: CodeMemory
        let stubs: X64Stubs
        /// By helper number: it neither reads nor writes flags or general registers other than its operands.
        let isLight: UnsafePointer<Bool>
        /// By helper number: the host's instruction for it.
        let vectors: UnsafePointer<HostVectorOp>
        /// The host's MXCSR serves the guest at this point.
        var isFloatReady = false
        /// The host's x87 unit is the guest's at this point; and the micro-op of the last x87 instruction that has not been
        /// noted in the state.
        var isX87Ready = false
        var x87Note = Self.noNote
        static let noNote: Int32 = -1
        /// Sets of guest vector registers, as bits: those whose host register has the value, and those of which the state
        /// does not. See `vectorNumber`.
        var vectorsInHost: UInt16 = 0
        var vectorsChanged: UInt16 = 0

        /// Where the guest's flags are: `hostFlags` in the state, the host's flags, or both; or nowhere, because only a
        /// fault would need them before they are written again: then the micro-op `producer` is computed once more.
        enum FlagPlace { case memory, host, both, recomputable }
        var flags = FlagPlace.memory
        /// The micro-op that the host's flags come from; -1: one that cannot be computed once more.
        var producer = -1
        /// The temporary that is in RSI, as offset; `noTemp` for none.
        var tempSlot = Self.noTemp
        static let noTemp = UInt16.max
        /// RAX has what has just been stored to this slot of the state, as long as nothing is emitted behind `rememberedAt`.
        private var rememberedSlot = Self.noTemp
        private var rememberedAt: UnsafeMutablePointer<UInt8>?

        var block: UnsafeMutablePointer<Block>
        var ops: UnsafeMutablePointer<MicroOp>
        var current = 0
        /// By micro-op: nothing looks at the flags any more before they are written again.
        let deadAfter: UnsafeMutablePointer<Bool>
        /// The same of the flags that the block begins with.
        var isDeadAtEntry = false

        /// A block that jumps to its own beginning: where the loop begins, and the vector registers that are in the host's,
        /// and changed, whenever it gets there. Nil: no such block.
        struct Loop {
            var top: UnsafeMutablePointer<UInt8>
            var inHost: UInt16
            var changed: UInt16
        }
        var loop: Loop?

        /// Code out of line: a micro-op by way of the interpreter.
        struct SlowPath {
            var place: UnsafeMutablePointer<UInt8>
            var back: UnsafeMutablePointer<UInt8>
            var op: Int32
            /// Temporary in RSI before and after.
            var before: UInt16
            var after: UInt16
            /// The slot whose value RAX has afterwards; `noTemp` for none.
            var remembered: UInt16
            /// Vector registers that go to the state before, and come from there afterwards; one of which only the low
            /// half does, and the upper becomes 0 (-1: none).
            var changed: UInt16
            var inHost: UInt16
            var narrow: Int8
            /// The host's MXCSR, the host's x87 unit must serve the guest again afterwards.
            var isFloatReady: Bool
            var isX87Ready: Bool
            /// `x87Note` at the jump.
            var note: Int32
            /// `producer`, if the flags are `recomputable`; else -1.
            var producer: Int32
            /// The TLB is looked up first.
            var lookUp: LookUp?
        }
        /// A memory access that has looked into the entry that it used last: where the whole look-up goes on when that was
        /// the wrong one.
        struct LookUp {
            var miss: UnsafeMutablePointer<UInt8>
            var hit: UnsafeMutablePointer<UInt8>
            /// From RBP to the access's site, and to the TLB's tags for its kind of access.
            var site: Int32
            var tags: Int32
            var bytes: Int32
            /// That was a guess, which begins here: the right entry may know.
            var guess: UnsafeMutablePointer<UInt8>?
            var isGroup: Bool
        }
        /// The look-up that has just been emitted.
        var lastLookUp: LookUp?
        /// Where the host finds what the last look-up was for.
        var hostAddress = HostOperand.mem(.rax, 0, index: .rcx)
        /// Accesses that share a look-up. A block that has such is compiled twice from the first of them on: once with shared
        /// look-ups; and with one for each access, where it goes on when a look-up fails, for what happens then may change
        /// how addresses are mapped.
        var groups = AccessGroups()
        enum Version { case only, shared, separate }
        var version = Version.only
        /// By micro-op: where the second version looks up.
        let lookUps: UnsafeMutablePointer<UnsafeMutablePointer<UInt8>>
        /// Jumps from the first version to the second one's look-ups.
        struct Switch {
            var place: UnsafeMutablePointer<UInt8>
            var op: Int32
            var lookUp: LookUp?
        }
        let switches: UnsafeMutablePointer<Switch>
        var switchCount = 0
        /// Sites in use.
        var siteCount = 0
        let slowPaths: UnsafeMutablePointer<SlowPath>
        var slowCount = 0
        /// Places where it is looked whether the host's MXCSR serves the guest.
        struct FloatCheck {
            var place: UnsafeMutablePointer<UInt8>
            var back: UnsafeMutablePointer<UInt8>
            var instruction: UInt16
            var changed: UInt16
            var note: Int32
            var isX87: Bool
        }
        let floatChecks: UnsafeMutablePointer<FloatCheck>
        var floatCheckCount = 0
        /// Jumps out of the block that may be patched.
        struct Exit {
            var place: UnsafeMutablePointer<UInt8>
            var target: UInt64
            var isPatchable: Bool
        }
        let exits: UnsafeMutablePointer<Exit>
        var exitCount = 0
        /// Jumps out of the middle of the block.
        struct SideExit {
            var place: UnsafeMutablePointer<UInt8>
            var target: UInt64
            /// Instructions of the block that are not executed.
            var left: UInt64
            /// The host's flags are to be saved.
            var hasFlags: Bool
            /// Vector registers that go to the state.
            var changed: UInt16
        }
        let sideExits: UnsafeMutablePointer<SideExit>
        var sideExitCount = 0
        /// Two calls with the block as argument: `runOp`, `callHelper`.
        var runOpThunk: UnsafeMutablePointer<UInt8>
        var helperThunk: UnsafeMutablePointer<UInt8>

        /// Upper bounds of the code for a block: bytes per micro-op and for the rest.
        static let bytesPerOp = 1280
        static let bytesPerBlock = 2048

        init(code: CodeMemory, layout: X64Layout, stubs: X64Stubs, isLight: UnsafePointer<Bool>, vectors: UnsafePointer<HostVectorOp>) {
            asm = X64Assembler(cursor: code.writable)
            self.code = code
            self.layout = layout
            self.stubs = stubs
            self.isLight = isLight
            self.vectors = vectors
            deadAfter = .allocate(capacity: BlockBuilder.maxOps)
            // Twice what a block can have: of each version.
            slowPaths = .allocate(capacity: 2 * BlockBuilder.maxOps)
            floatChecks = .allocate(capacity: 4 * BlockBuilder.maxInstructions)
            exits = .allocate(capacity: 2 * (BlockBuilder.maxInstructions + 2))
            sideExits = .allocate(capacity: 2 * BlockBuilder.maxInstructions)
            lookUps = .allocate(capacity: BlockBuilder.maxOps)
            switches = .allocate(capacity: 2 * BlockBuilder.maxOps)
            runOpThunk = code.writable
            helperThunk = code.writable
            block = UnsafeMutablePointer(bitPattern: 8).unsafelyUnwrapped
            ops = UnsafeMutablePointer(bitPattern: 8).unsafelyUnwrapped
        }

        func deallocate() {
            deadAfter.deallocate()
            slowPaths.deallocate()
            floatChecks.deallocate()
            exits.deallocate()
            sideExits.deallocate()
            groups.deallocate()
            lookUps.deallocate()
            switches.deallocate()
        }

        // MARK: The block

        /// Compiles `block` at `hot`, what is seldom executed at `cold`, and gives its entry in executable memory. Both are
        /// then the ends of the code.
        mutating func compile(
            _ block: UnsafeMutablePointer<Block>, at hot: inout UnsafeMutablePointer<UInt8>,
            _ cold: inout UnsafeMutablePointer<UInt8>
        ) -> UnsafeRawPointer {
            self.block = block
            ops = block.pointee.ops
            flags = .memory
            tempSlot = Self.noTemp
            isFloatReady = false
            isX87Ready = false
            x87Note = Self.noNote
            vectorsInHost = 0
            vectorsChanged = 0
            floatCheckCount = 0
            slowCount = 0
            exitCount = 0
            sideExitCount = 0
            producer = -1
            rememberedAt = nil
            findDeadFlags()
            let address = UInt64(UInt(bitPattern: block))
            asm.cursor = cold
            runOpThunk = asm.cursor
            asm.movImmediate(.rcx, address)
            asm.jump(to: stubs.runOp)
            helperThunk = asm.cursor
            asm.movImmediate(.rcx, address)
            asm.jump(to: stubs.callHelper)
            cold = asm.cursor
            asm.cursor = hot
            while Int(bitPattern: asm.cursor) & 15 != 0 { asm.byte(0x90) }
            let entry = asm.cursor
            asm.arithmetic(.sub, 3, .reg(X64Layout.budget), immediate: UInt64(block.pointee.count))
            let horizon = asm.jump(if: .s)
            beginLoop()
            var instruction = UInt16.max
            current = 0
            switchCount = 0
            version = .only
            groups.find(block, vectors)
            let first = groups.first
            let count = Int(block.pointee.opCount)
            emitOps(to: first, &instruction)
            let start = Point(of: self, instruction)
            if first < count {
                version = .shared
                emitOps(to: count, &instruction)
            }
            emitSideExits(from: 0)
            hot = asm.cursor
            asm.cursor = cold
            if first < count {
                version = .separate
                start.restore(&self, &instruction)
                let exits = sideExitCount
                emitOps(to: count, &instruction)
                emitSideExits(from: exits)
                emitSwitches()
            }
            emitSlowPaths()
            emitFloatChecks()
            emitExits()
            asm.bind(horizon)
            asm.arithmetic(.add, 3, .reg(X64Layout.budget), immediate: UInt64(block.pointee.count))
            storeConstant(layout.pc, block.pointee.pc)
            exit(.horizon)
            cold = asm.cursor
            return UnsafeRawPointer(code.executable + (entry - code.writable))
        }

        /// What is known at the beginning of a micro-op.
        private struct Point {
            let current: Int
            let instruction: UInt16
            let flags: FlagPlace
            let producer: Int
            let tempSlot: UInt16
            let ready: (Bool, Bool)
            let x87Note: Int32
            let vectors: (UInt16, UInt16)

            init(of compiler: borrowing X64Compiler, _ instruction: UInt16) {
                current = compiler.current
                self.instruction = instruction
                flags = compiler.flags
                producer = compiler.producer
                tempSlot = compiler.tempSlot
                ready = (compiler.isFloatReady, compiler.isX87Ready)
                x87Note = compiler.x87Note
                vectors = (compiler.vectorsInHost, compiler.vectorsChanged)
            }

            func restore(_ compiler: inout X64Compiler, _ instruction: inout UInt16) {
                compiler.current = current
                instruction = self.instruction
                compiler.flags = flags
                compiler.producer = producer
                compiler.tempSlot = tempSlot
                (compiler.isFloatReady, compiler.isX87Ready) = ready
                compiler.x87Note = x87Note
                (compiler.vectorsInHost, compiler.vectorsChanged) = vectors
            }
        }

        /// Emits the micro-ops from `current` on, up to `end`. `instruction` is the index of the last one's.
        private mutating func emitOps(to end: Int, _ instruction: inout UInt16) {
            while current < end {
                let index = block.pointee.instructionIndex[current]
                if index != instruction {
                    instruction = index
                    // Temporaries end with their instruction.
                    tempSlot = Self.noTemp
                    forgetScratch()
                    if !isFloatReady, beginsFloat() { checkFloat(isX87: false) }
                    if !isX87Ready, beginsX87() { checkFloat(isX87: true) }
                }
                emit(ops[current])
                noteProducer()
                current += 1
            }
        }

        private mutating func findDeadFlags() {
            var isDead = false
            var index = Int(block.pointee.opCount) - 1
            while index >= 0 {
                deadAfter[index] = isDead
                switch ops[index].opcode.flagUse {
                case .none, .passes: break
                case .writesAll: isDead = true
                case .reads, .barrier: isDead = false
                }
                index -= 1
            }
            isDeadAtEntry = isDead
        }

        private mutating func emitSlowPaths() {
            for index in 0..<slowCount {
                let path = slowPaths[index]
                asm.bind(path.place)
                if let lookUp = path.lookUp { emitLookUp(lookUp) }
                if path.before != Self.noTemp { asm.store(3, state(path.before), X64Layout.temporary) }
                storeVectors(path.changed)
                storeX87Note(path.note)
                if path.producer >= 0 { recompute(ops[Int(path.producer)]) }
                asm.movImmediate(.rdx, UInt64(path.op) * 16)
                asm.call(runOpThunk)
                if path.isFloatReady { asm.call(stubs.activateFloat) }
                if path.isX87Ready { asm.call(stubs.activateX87) }
                loadVectors(path.inHost)
                if path.narrow >= 0 { clearUpperHalf(Int(path.narrow)) }
                if path.after != Self.noTemp { asm.mov(3, X64Layout.temporary, state(path.after)) }
                if path.remembered != Self.noTemp { asm.mov(3, .rax, state(path.remembered)) }
                asm.jump(to: path.back)
            }
        }

        private mutating func emitExits() {
            for index in 0..<exitCount {
                let exit = exits[index]
                var site: UInt64 = 0
                if exit.isPatchable {
                    // What is patched to come here asks the table of entries first.
                    site = UInt64(exit.place - code.writable) | UInt64(asm.cursor - code.writable) << 32
                    let unknown = jumpByTable(to: exit.target)
                    asm.bind(unknown)
                }
                asm.bind(exit.place)
                storeConstant(layout.pc, exit.target)
                asm.movImmediate(.rcx, site)
                asm.store(3, .mem(.rbp, layout.patchSite), .rcx)
                self.exit(.lookUp)
            }
        }

        mutating func exit(_ reason: X64Exit) {
            asm.movImmediate(.rax, reason.rawValue)
            asm.jump(to: stubs.exit)
        }

        mutating func storeConstant(_ displacement: Int32, _ value: UInt64) {
            if Int64(bitPattern: value) == Int64(Int32(truncatingIfNeeded: value)) {
                asm.storeImmediate(3, .mem(.rbp, displacement), value)
            } else {
                asm.movImmediate(.rcx, value)
                asm.store(3, .mem(.rbp, displacement), .rcx)
            }
        }

        // MARK: Calls

        /// Lets the interpreter execute the present micro-op, in line.
        mutating func runOp() {
            saveFlags()
            spillTemp()
            flushVectors()
            asm.movImmediate(.rdx, UInt64(current) * 16)
            asm.call(runOpThunk)
            forgetHost()
        }

        /// Calls a helper that leaves flags and general registers alone.
        mutating func callHelper() {
            saveFlags()
            spillTemp()
            flushVectors()
            asm.movImmediate(.rdx, UInt64(current) * 16)
            asm.call(helperThunk)
            forgetHost()
        }

        /// Calls a helper that leaves the flags alone.
        mutating func callWithRegisters() {
            saveFlags()
            spillTemp()
            flushVectors()
            asm.movImmediate(.rcx, UInt64(UInt(bitPattern: block)))
            asm.movImmediate(.rdx, UInt64(current) * 16)
            asm.call(stubs.callWithRegisters)
            forgetHost()
        }

        /// After a call: nothing but general registers is in the host's.
        private mutating func forgetHost() {
            flags = .memory
            isFloatReady = false
            isX87Ready = false
            vectorsInHost = 0
        }

        /// The jump at `place` leads to the interpreter's way of doing the present micro-op, which then goes on here; or, from
        /// a look-up of the first of two versions, to the second one's. Nil: there is none.
        /// - Parameters:
        ///   - before: the temporary in RSI at the jump.
        ///   - changed: `vectorsChanged` at the jump; nil: as it is now.
        ///   - narrow: see `SlowPath`.
        mutating func slowPath(
            _ place: UnsafeMutablePointer<UInt8>?, before: UInt16, changed: UInt16? = nil, narrow: Int8 = -1
        ) {
            guard let place else { return }
            if let lookUp = lastLookUp, lookUp.miss == place, version == .shared {
                return noteSwitch(place, lookUp)
            }
            slowPaths[slowCount] = SlowPath(
                place: place, back: asm.cursor, op: Int32(current), before: before, after: tempSlot,
                remembered: rememberedAt == asm.cursor ? rememberedSlot : Self.noTemp, changed: changed ?? vectorsChanged, inHost: vectorsInHost, narrow: narrow, isFloatReady: isFloatReady,
                isX87Ready: isX87Ready, note: x87Note,
                producer: flags == .recomputable ? Int32(producer) : -1,
                lookUp: lastLookUp?.miss == place && lastLookUp?.guess != nil ? lastLookUp : nil)
            slowCount += 1
        }

        // MARK: Operands

        @inline(__always)
        func state(_ offset: UInt16) -> HostOperand { .mem(.rbp, Int32(offset) - X64Layout.bias) }

        static func isTemp(_ offset: UInt16) -> Bool { offset >= 256 && offset < 384 }
        /// A byte but the first of a general register that lives in a host register: AH, or a part that a vector takes.
        static func isHighByte(_ offset: UInt16) -> Bool {
            offset < 128 && offset & 7 != 0 && X64Layout.pinned[Int(offset >> 3)] != nil
        }

        /// Where a slot is; not for high bytes.
        @inline(__always)
        func place(_ offset: UInt16) -> HostOperand {
            if offset < 128, let register = X64Layout.pinned[Int(offset >> 3)] { return .reg(register) }
            if offset == tempSlot { return .reg(X64Layout.temporary) }
            return state(offset)
        }

        /// An operand to read. What is not at a host register's start is read from the state, where it is brought first.
        mutating func source(_ offset: UInt16) -> HostOperand {
            if Self.isHighByte(offset) {
                storeRegister(offset)
                return state(offset)
            }
            if Self.isTemp(offset), offset & 7 != 0 { spillTemp() }
            if offset == rememberedSlot, asm.cursor == rememberedAt { return .reg(.rax) }
            return place(offset)
        }

        /// RAX = an operand that `source` has given.
        mutating func moveIntoRAX(_ width: Int, _ operand: HostOperand) {
            if operand.isMemory || operand.register != .rax { asm.mov(width, .rax, operand) }
        }

        /// All 64 bits of RAX go to a slot in the state.
        mutating func storeRAX(_ offset: UInt16) {
            asm.store(3, state(offset), .rax)
            rememberedSlot = offset
            rememberedAt = asm.cursor
        }
        /// The next instruction may be reached by a jump.
        mutating func forgetRAX() { rememberedAt = nil }

        /// The guest register goes to the state: its bytes are picked there, without touching flags.
        private mutating func storeRegister(_ offset: UInt16) {
            let number = Int(offset >> 3)
            guard let register = X64Layout.pinned[number] else { return }
            asm.store(3, state(UInt16(number * 8)), register)
        }

        /// A slot to write all or part of. A temporary moves into RSI.
        mutating func destination(_ offset: UInt16) -> HostOperand {
            if Self.isTemp(offset), tempSlot != offset {
                spillTemp()
                if offset & 7 == 0 { tempSlot = offset }
            }
            return place(offset)
        }

        /// The temporary in RSI goes to the state.
        mutating func spillTemp() {
            if tempSlot != Self.noTemp { asm.store(3, state(tempSlot), X64Layout.temporary) }
            tempSlot = Self.noTemp
        }

        /// A slot's value in a register: its own, or `scratch`.
        mutating func register(_ width: Int, _ offset: UInt16, scratch: HostRegister) -> HostRegister {
            let operand = source(offset)
            if !operand.isMemory { return operand.register }
            asm.mov(width, scratch, operand)
            return scratch
        }

        /// Writes the low bits of `register` to a slot, by the rule of partial writes. Leaves flags alone. With a width of
        /// 32 bits the register's upper half must be 0.
        mutating func write(_ width: Int, _ offset: UInt16, _ register: HostRegister) {
            if Self.isHighByte(offset) {
                storeRegister(offset)
                asm.store(width, state(offset), register)
                let number = Int(offset >> 3)
                if let pinned = X64Layout.pinned[number] { asm.mov(3, pinned, state(UInt16(number * 8))) }
                return
            }
            let target = destination(offset)
            if target.isMemory {
                if width >= 2, register == .rax {
                    storeRAX(offset)
                } else {
                    asm.store(width == 2 ? 3 : width, target, register)
                }
            } else if target.register != register {
                asm.mov(width, target.register, register)
            }
        }

        // MARK: Flags

        var flagWord: HostOperand { .mem(.rbp, layout.hostFlags) }
        var flagByte: HostOperand { .mem(.rbp, layout.hostFlags + 1) }

        /// The flags' word is up to date; the host's flags stay. Uses RAX.
        mutating func saveFlags() {
            switch flags {
            case .memory, .both: return
            case .host: storeHostFlags()
            case .recomputable: recompute(ops[producer])
            }
            flags = .both
        }
        mutating func storeHostFlags() {
            asm.lahf()
            asm.set(.o, .reg(.rax))
            asm.store(1, flagWord, .rax)
        }

        /// The host's flags are about to be lost. Uses RAX.
        mutating func clobberFlags() {
            if flags == .recomputable { return }
            saveFlags()
            flags = .memory
        }

        /// The host's flags are the guest's. Uses RAX.
        mutating func loadFlags() {
            if flags == .recomputable { saveFlags() }
            guard flags == .memory else { return }
            loadHostFlags()
            flags = .both
        }
        private mutating func loadHostFlags() {
            asm.zeroExtend(from: 1, .rax, flagWord)
            // Overflow from bit 0 of AL, then the others from AH.
            asm.arithmetic(.add, 0, .reg(.rax), immediate: 0x7F)
            asm.sahf()
        }

        /// The host's carry is the guest's; other flags are lost. Uses RAX.
        mutating func loadCarry() {
            if flags == .recomputable { saveFlags() }
            if flags == .memory { asm.bitTest(1, flagWord, bit: 8) }
        }

        /// Makes a guest condition one of the host's flags.
        mutating func condition(_ number: UInt16) -> HostCondition {
            let isNegated = number & 1 != 0
            if flags == .recomputable { saveFlags() }
            if flags == .memory {
                let mask: UInt64?
                switch number >> 1 {
                case 0: mask = 0
                case 1: mask = 0x01
                case 2: mask = 0x40
                case 3: mask = 0x41
                case 4: mask = 0x80
                case 5: mask = 0x04
                default: mask = nil
                }
                if let mask {
                    asm.test(0, mask == 0 ? flagWord : flagByte, immediate: mask == 0 ? 1 : mask)
                    return isNegated ? .z : .nz
                }
                loadFlags()
            }
            return HostCondition(rawValue: UInt8(number)).unsafelyUnwrapped
        }
    }
#endif
