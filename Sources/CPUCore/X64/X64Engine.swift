#if arch(x86_64)
    import MachineState

    /// Executes blocks as generated x86-64 code, those that are executed often; the interpreter does the others.
    package final class X64Engine {
        /// The execution at which a block is compiled.
        private let threshold: UInt32
        private static let codeBytes = 64 << 20
        /// Where, in that memory, code that is seldom executed begins: what is executed stays closer together without it.
        private static let coldOffset = 24 << 20

        private let interpreter: Interpreter
        private let blocks: BlockCache
        private let jumpCache: UnsafeMutablePointer<UnsafeMutablePointer<Block>?>
        private let entries: UnsafeMutablePointer<EntryTable.Entry>
        private let code: CodeMemory
        private let stubs: X64Stubs
        private var compiler: X64Compiler
        private let enter: @convention(c) (UnsafeMutableRawPointer, UnsafeRawPointer) -> UInt64
        /// Where the next block's code goes: what is mostly executed, and the rest.
        private var hot: UnsafeMutablePointer<UInt8>
        private var cold: UnsafeMutablePointer<UInt8>
        /// The TLB of watched accesses: with it in use only the interpreter is right.
        private let watchful: UnsafeMutablePointer<TLBEntry>

        /// Blocks compiled, and how often code was left, by `X64Exit`, for `--stats`.
        package private(set) var compiled = 0
        package private(set) var exitCounts = InlineArray<8, Int>(repeating: 0)
        package private(set) var slowOps = 0
        private let slowCounts: UnsafeMutablePointer<Int>
        /// Micro-ops that the interpreter did, by opcode or helper, the most frequent first.
        package var slowOpsByKind: [(String, Int)] {
            (0..<Self.slowKinds).filter { slowCounts[$0] > 0 }.sorted { slowCounts[$0] > slowCounts[$1] }.map {
                let opcode = $0 < 1024 ? Opcode(rawValue: UInt16($0)).map { "\($0)" } ?? "?" : "helper \($0 - 1024)"
                return (opcode, slowCounts[$0])
            }
        }
        private static let slowKinds = 2048
        /// Names for generated code, when they are wanted.
        private var perfMap: PerfMap?
        /// Host time spent on generating code, nanoseconds, when `measuresTime`.
        package private(set) var compileTime: UInt64 = 0
        package var measuresTime = false
        /// Bytes of generated code now.
        package var codeBytesUsed: Int { hot - code.writable }
        package var coldBytesUsed: Int { cold - code.writable - Self.coldOffset }

        /// Nil when the host does not let programs generate code.
        /// - Parameters:
        ///   - threshold: the execution at which a block is compiled; 1 is the first.
        ///   - isLight: by helper number, whether it leaves flags and general registers alone.
        ///   - vectors: by helper number, the host's instruction for it.
        ///   - slots: where the guest's vector registers are.
        package init?(
            memory: EngineMemory, watchful: UnsafeMutablePointer<TLBEntry>, interpreter: Interpreter,
            blocks: BlockCache, helpers: UnsafePointer<MicroHelper>, isLight: UnsafePointer<Bool>,
            vectors: UnsafePointer<HostVectorOp>, slots: VectorSlots, threshold: UInt32
        ) {
            guard let code = CodeMemory(size: Self.codeBytes) else { return nil }
            self.code = code
            self.threshold = threshold
            slowCounts = .allocate(capacity: Self.slowKinds)
            slowCounts.initialize(repeating: 0, count: Self.slowKinds)
            self.watchful = watchful
            self.interpreter = interpreter
            self.blocks = blocks
            jumpCache = blocks.jumpCache
            entries = memory.entries
            let layout = X64Layout(memory: memory, vectors: slots)
            stubs = X64Stubs(code: code, layout: layout, helpers: helpers) { state, op in
                let core = state.assumingMemoryBound(to: CoreState.self)
                return Unmanaged<X64Engine>.fromOpaque(core.pointee.engine.unsafelyUnwrapped)
                    ._withUnsafeGuaranteedRef { $0.runOp(state, op) }
            }
            compiler = X64Compiler(code: code, layout: layout, stubs: stubs, isLight: isLight, vectors: vectors)
            enter = unsafeBitCast(
                UnsafeRawPointer(stubs.enter), to: (@convention(c) (UnsafeMutableRawPointer, UnsafeRawPointer) -> UInt64).self)
            hot = code.writable + ((stubs.size + 63) & ~63)
            cold = code.writable + Self.coldOffset
            memory.state.assumingMemoryBound(to: CoreState.self).pointee.engine =
                Unmanaged.passUnretained(self).toOpaque()
            blocks.entries = memory.entries
            blocks.onFlush = { [unowned self] in
                hot = self.code.writable + ((stubs.size + 63) & ~63)
                cold = self.code.writable + Self.coldOffset
                memory.siteMisses.update(repeating: EngineMemory.SiteMisses(), count: compiler.siteCount)
                compiler.siteCount = 0
            }
        }

        deinit {
            compiler.deallocate()
            slowCounts.deallocate()
        }

        /// From now on names of generated code go to the file where `perf report` looks for them.
        /// - Returns: the file's name, or nil when it cannot be written.
        package func writePerfMap() -> String? {
            guard let map = PerfMap() else { return nil }
            map.add(UInt(bitPattern: code.executable), hot - code.writable, "emu stubs")
            perfMap = map
            return map.path
        }

        /// As `Interpreter.run`.
        package func run(_ state: UnsafeMutableRawPointer, mode: UInt32, limit: Position) -> EngineExit {
            let core = state.assumingMemoryBound(to: CoreState.self)
            core.pointee.engine = Unmanaged.passUnretained(self).toOpaque()
            if core.pointee.dataTLB == watchful {
                return interpreter.run(state, mode: mode, limit: limit)
            }
            core.pointee.limit = min(limit, core.pointee.position &+ 1 << 62)
            // The jump that led to the present PC, if it may be patched.
            var site: UInt64 = 0
            var isUnusual = false
            while true {
                if core.pointee.exitRequest != 0 { return .leave }
                let pc = core.pointee.pc
                guard let block = jumpCache[BlockCache.jumpIndex(pc, mode)], block.pointee.pc == pc, block.pointee.mode == mode
                else {
                    // Found by the next call, the jump will be patched the next time.
                    return .lookUp
                }
                if core.pointee.position &+ UInt64(block.pointee.count) > limit { return .horizon }
                if isUnusual {
                    isUnusual = false
                    if let exit = interpreter.execute(block, state) { return exit }
                    continue
                }
                if block.pointee.entry == nil {
                    block.pointee.heat &+= 1
                    if block.pointee.heat < threshold {
                        site = 0
                        if let exit = interpreter.execute(block, state) { return exit }
                        continue
                    }
                    guard compile(block) else { return .lookUp }
                }
                let entry = block.pointee.entry.unsafelyUnwrapped
                entries[EntryTable.index(pc, mode)] = EntryTable.Entry(
                    key: EntryTable.key(pc, mode), code: UInt64(UInt(bitPattern: entry)))
                // A block that goes on into another page is asked for in the table each time: that page may lie elsewhere by then.
                if site != 0 {
                    let place = Int(truncatingIfNeeded: site & 0xFFFF_FFFF)
                    patch(place, block.pointee.secondPage < 0 ? entry - UnsafeRawPointer(code.executable) : Int(site >> 32))
                }
                site = 0
                packFlags(core)
                let reason = enter(state, entry)
                unpackFlags(core)
                exitCounts[Int(reason & 7)] &+= 1
                switch X64Exit(rawValue: reason) {
                case .lookUp: site = core.pointee.patchSite
                case .horizon: return .horizon
                case .leave: return .leave
                case .unusualFloat: isUnusual = true
                case .fault: return .fault
                case .helperFault:
                    interpreter.noteFault(core.pointee.currentOp.unsafelyUnwrapped, state)
                    return .fault
                default:
                    let exit = interpreter.finishInstruction(
                        after: core.pointee.currentOp.unsafelyUnwrapped,
                        core.pointee.currentBlock.unsafelyUnwrapped, state)
                    if let exit { return exit }
                }
            }
        }

        /// False: there was no room, and everything has been forgotten.
        @inline(never)
        private func compile(_ block: UnsafeMutablePointer<Block>) -> Bool {
            let most = Int(block.pointee.opCount) * X64Compiler.bytesPerOp + X64Compiler.bytesPerBlock
            let mostSites = compiler.siteCount + Int(block.pointee.opCount)
            if hot + most > code.writable + Self.coldOffset || cold + most > code.writable + code.size || mostSites > EngineMemory.siteCount {
                blocks.flushAll()
                return false
            }
            let start = measuresTime ? HostTime.now : 0
            let starts = (hot, cold)
            block.pointee.entry = compiler.compile(block, at: &hot, &cold)
            if let perfMap {
                let isUser = block.pointee.mode & BlockCache.userBit != 0
                let name = "guest \(isUser ? "user" : "kernel") 0x\(String(block.pointee.pc, radix: 16))"
                for (start, end) in [(starts.0, hot), (starts.1, cold)] {
                    perfMap.add(UInt(bitPattern: code.executable) + UInt(start - code.writable), end - start, name)
                }
            }
            compiled &+= 1
            if measuresTime { compileTime &+= HostTime.now &- start }
            return true
        }

        /// Lets the jump whose displacement is at `place` go to `target`, both counted from the beginning of generated code.
        private func patch(_ place: Int, _ target: Int) {
            UnsafeMutableRawPointer(code.writable + place).storeBytes(
                of: Int32(truncatingIfNeeded: target - place - 4), as: Int32.self)
        }

        private func packFlags(_ core: UnsafeMutablePointer<CoreState>) {
            let flags = Flags.pack(core.pointee.flagResult, core.pointee.flagCarry)
            core.pointee.hostFlags = UInt64(flags & 0xD5) << 8 | UInt64(flags >> 11)
        }
        private func unpackFlags(_ core: UnsafeMutablePointer<CoreState>) {
            let word = UInt32(truncatingIfNeeded: core.pointee.hostFlags)
            let pair = Flags.unpack((word >> 8 & 0xD5) | (word & 1) << 11)
            core.pointee.flagResult = pair.result
            core.pointee.flagCarry = pair.carry
        }

        /// Called by generated code: one micro-op. 0: go on; else an `X64Exit`.
        private func runOp(_ state: UnsafeMutableRawPointer, _ raw: UnsafeMutableRawPointer) -> UInt64 {
            let core = state.assumingMemoryBound(to: CoreState.self)
            let op = UnsafePointer(raw.assumingMemoryBound(to: MicroOp.self))
            slowOps &+= 1
            let isCall = op.pointee.opcode == .call || op.pointee.opcode == .callPure
            slowCounts[isCall ? 1024 + Int(op.pointee.b & 1023) : Int(op.pointee.opcode.rawValue)] &+= 1
            unpackFlags(core)
            if interpreter.executeSingle(op, core.pointee.currentBlock.unsafelyUnwrapped, state) {
                packFlags(core)
                return X64Exit.fault.rawValue
            }
            packFlags(core)
            if core.pointee.exitRequest == 0 { return 0 }
            core.pointee.currentOp = op
            return X64Exit.interrupted.rawValue
        }
    }
#endif
