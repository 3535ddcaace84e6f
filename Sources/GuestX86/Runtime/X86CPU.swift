import CPUCore
import MachineState

/// An x86 processor: state, translations, run loop.
package final class X86CPU {
    /// Why `run` came back.
    package enum Stop: Sendable {
        /// The position asked for is reached.
        case horizon
        /// A device was accessed or the machine asked for its turn: inputs and deadlines must be looked at.
        case attention
        /// HLT: nothing to do until an interrupt.
        case halted
        /// Triple fault.
        case shutdown
        /// The debugger wants to stop: see `CPUDebugger.stop`.
        case debugger
    }

    package let state: UnsafeMutablePointer<X86State>
    package let ram: GuestRAM
    /// What the time-stamp counter goes by. The machine's clock: it lives here because it is read millions of times a second.
    package var clock = VirtualClock(shift: 0)
    package unowned let bus: any SystemBus
    private let memory = EngineMemory(stateSize: MemoryLayout<X86State>.stride)
    package var supervisorTLB: TLB { memory.supervisorTLB }
    package var userTLB: TLB { memory.userTLB }
    /// Never filled: in use while every data access must be looked at (alignment checks, data breakpoints).
    package let watchfulTLB = TLB()
    package let blocks: BlockCache
    let builder = BlockBuilder()
    let translator: Translator
    let helpers: UnsafeMutablePointer<MicroHelper>
    let interpreter: Interpreter
    private let lightHelpers: UnsafeMutablePointer<Bool>
    private let hostVectors: UnsafeMutablePointer<HostVectorOp>
    #if arch(x86_64)
        /// The code generator; nil when the interpreter is to do everything.
        package let generator: X64Engine?
        /// The same, to be called without retaining it.
        private let engine: Unmanaged<X64Engine>?
    #endif
    /// RAM pages that are watched as page tables, and those of them that map the lower half only; some repeatedly.
    var watchedTables: [Int32] = []
    var lowerTables: [Int32] = []
    /// Times that something was taken out of the TLB, and times that all was.
    var tlbChanges: UInt64 = 0
    var tlbFlushes: UInt64 = 1
    /// Slow accesses to memory because the TLB did not know the page; and host time spent on translating blocks, in
    /// nanoseconds, when `measuresTime`. For `statistics`.
    var tlbMisses = 0
    var translationTime: UInt64 = 0
    var measuresTime = false
    /// Per RAM page, when and where it was last given the plain right to write in a TLB (see `WritablePlace`); and for a page of page
    /// tables, the linear address that its first entry maps plus the logarithm of the bytes that each maps, or `manyBases`.
    let writableSince: UnsafeMutablePointer<UInt64>
    let tableBase: UnsafeMutablePointer<UInt64>
    /// Where pages of code have been found, by their linear page number.
    private struct CodePage {
        /// The linear address of the page; bit 0: for user code.
        var key = UInt64.max
        /// `tlbChanges` when it was found: it is right as long as that stays.
        var changes: UInt64 = 0
        var page: Int32 = 0
    }
    private let codePages: UnsafeMutablePointer<CodePage>
    private static let codePageCount = 256
    /// A supervisor's block in the lower half of the address space may be in the jump cache.
    var supervisorRunsLow = false
    /// Bits 3...0 of DR6 for the #DB being delivered.
    var debugHits: UInt64 = 0
    /// What a debugger outside has asked for.
    package let debugger = CPUDebugger()
    var activity = ActivityTrace()
    /// An interrupt or exception has been delivered by the present instruction: a single step ends without a trap.
    var hasDelivered = false
    /// The code segment base that the jump cache was filled for.
    private var jumpCacheBase: UInt64 = 0
    private let codeBuffer: UnsafeMutablePointer<UInt8>
    /// What `findOrTranslate` gave may be executed once.
    private var isTemporary = false

    /// - Parameters:
    ///   - engine: what executes; the interpreter also where the host does not let programs generate code.
    ///   - threshold: the execution of a block at which code is generated for it.
    package init(ram: GuestRAM, bus: any SystemBus, engine: EngineKind = .best, threshold: UInt32 = 8) {
        Slot.verifyLayout()
        self.ram = ram
        self.bus = bus
        writableSince = .allocate(capacity: ram.pageCount)
        writableSince.initialize(repeating: 0, count: ram.pageCount)
        tableBase = .allocate(capacity: ram.pageCount)
        tableBase.initialize(repeating: Self.manyBases, count: ram.pageCount)
        blocks = BlockCache(ram: ram)
        translator = Translator(ir: builder)
        helpers = HelperTable.make()
        lightHelpers = HelperTable.makeLight()
        hostVectors = HelperTable.makeHostVectors()
        state = memory.state.bindMemory(to: X86State.self, capacity: 1)
        state.initialize(to: X86State(dataTLB: memory.supervisorTLB.entries))
        interpreter = Interpreter(
            hooks: EngineHooks(
                load: { state, address, attributes in
                    state.assumingMemoryBound(to: X86State.self).withCPU { $0.slowLoad(address, attributes) }
                },
                store: { state, address, attributes in
                    state.assumingMemoryBound(to: X86State.self).withCPU { $0.slowStore(address, attributes) }
                }),
            helpers: helpers, jumpCache: blocks.jumpCache)
        codeBuffer = .allocate(capacity: 16)
        codePages = .allocate(capacity: Self.codePageCount)
        codePages.initialize(repeating: CodePage(), count: Self.codePageCount)
        #if arch(x86_64)
            generator =
                engine != .x64
                ? nil
                : X64Engine(
                    memory: memory, watchful: watchfulTLB.entries, interpreter: interpreter, blocks: blocks,
                    helpers: helpers, isLight: lightHelpers, vectors: hostVectors,
                    slots: VectorSlots(
                        mxcsr: StateLayout.mxcsr, xmm: StateLayout.xmm, scratch: StateLayout.scratch,
                        x87: StateLayout.x87Slots),
                    threshold: threshold)
            self.engine = generator.map { Unmanaged.passUnretained($0) }
        #endif
        state.pointee.core.owner = Unmanaged.passUnretained(self).toOpaque()
        reset()
    }

    deinit {
        interpreter.deallocate()
        helpers.deallocate()
        lightHelpers.deallocate()
        hostVectors.deallocate()
        codeBuffer.deallocate()
        codePages.deallocate()
        writableSince.deallocate()
        tableBase.deallocate()
        activity.deallocate()
        memory.deallocate()
        watchfulTLB.entries.deallocate()
        watchfulTLB.deallocate()
    }

    /// The state after RESET (SDM volume 3, table 10-1). The position goes on counting.
    package func reset() {
        let position = state.pointee.core.position
        let owner = state.pointee.core.owner
        // Wires from other chips, which are reset by themselves.
        let (shadowControl, videoBase) = (state.pointee.shadowControl, state.pointee.videoBase)
        state.pointee = X86State(dataTLB: supervisorTLB.entries)
        state.pointee.shadowControl = shadowControl
        state.pointee.videoBase = videoBase
        state.pointee.core.position = position
        state.pointee.core.owner = owner
        for index in 0..<6 {
            state.pointee.segments[index] = Segment(selector: 0, attributes: 0x93, limit: 0xFFFF, base: 0)
        }
        state.pointee.segments[1] = Segment(selector: 0xF000, attributes: 0x9B, limit: 0xFFFF, base: 0xFFFF_0000)
        state.pointee.ldtr = Segment(selector: 0, attributes: 0x82, limit: 0xFFFF, base: 0)
        state.pointee.tr = Segment(selector: 0, attributes: 0x8B, limit: 0xFFFF, base: 0)
        state.pointee.gdtLimit = 0xFFFF
        state.pointee.idtLimit = 0xFFFF
        state.pointee.core.pc = 0xFFF0
        state.pointee.core.registers[2] = CPUID.signature
        state.pointee.debug[6] = 0xFFFF_0FF0
        state.pointee.debug[7] = 0x400
        flushTLB()
        modeChanged()
    }

    // MARK: Position

    package var position: Position { state.pointee.core.position }

    /// The exact position within an instruction that accesses a device: instructions retired before it.
    package var exactPosition: Position { state.pointee.core.position &+ UInt64(instructionIndex) }
    /// The PC of that instruction.
    package var exactPC: UInt64 {
        guard let block = state.pointee.core.currentBlock, state.pointee.core.currentOp != nil else {
            return state.pointee.core.pc
        }
        return block.pointee.pc &+ UInt64(block.pointee.pcOffsets[instructionIndex])
    }
    private var instructionIndex: Int {
        guard let block = state.pointee.core.currentBlock, let op = state.pointee.core.currentOp else { return 0 }
        return block.index(of: op, diverted: state.pointee.core.divertedIndex)
    }

    /// Lets `run` come back after the present instruction.
    package func requestAttention() { state.pointee.core.exitRequest |= ExitRequest.machine }

    // MARK: Mode

    /// The mode bits that code is translated for now.
    var mode: ModeBits {
        let s = state
        var bits: UInt32 = 0
        let cs = s.pointee.segments[1]
        let isVM = s.pointee.systemFlags & EFlags.vm != 0
        let isProtected = s.pointee.cr0 & CR0.pe != 0
        if s.pointee.efer & EFER.lma != 0, cs.isLong {
            bits = UInt32(Decoder.Size.bits64.rawValue)
        } else {
            bits = UInt32(cs.isBig ? Decoder.Size.bits32.rawValue : Decoder.Size.bits16.rawValue)
            if s.pointee.segments[2].isBig { bits |= ModeBits.stack32.rawValue }
            if isProtected, !isVM {
                if isFlat(0) { bits |= ModeBits.flatES.rawValue }
                if isFlat(2) { bits |= ModeBits.flatSS.rawValue }
                if isFlat(3) { bits |= ModeBits.flatDS.rawValue }
                if isWide(4) { bits |= ModeBits.wideFS.rawValue }
                if s.pointee.cpl == 3, isWide(5) { bits |= ModeBits.wideGS.rawValue }
            }
            if cs.base != 0 { bits |= ModeBits.codeBase.rawValue }
            if cs.limit < (cs.isBig ? .max : 0xFFFF) { bits |= ModeBits.codeLimited.rawValue }
        }
        if s.pointee.cpl == 3 { bits |= ModeBits.user.rawValue }
        if isProtected { bits |= isVM ? ModeBits.virtual8086.rawValue : ModeBits.protected.rawValue }
        if s.pointee.systemFlags & EFlags.tf != 0 { bits |= ModeBits.singleStep.rawValue }
        if s.pointee.cr0 & (CR0.em | CR0.ts) != 0 || s.pointee.cr4 & CR4.osfxsr == 0 {
            bits |= ModeBits.fpuMayTrap.rawValue
        }
        return ModeBits(rawValue: bits)
    }

    /// The segment's limit is 4 GiB, and it is present, writable, expand-up data.
    private func isWide(_ index: Int) -> Bool {
        let segment = state.pointee.segments[index]
        return segment.limit == .max && segment.attributes & 0x9E == 0x92
    }
    private func isFlat(_ index: Int) -> Bool { state.pointee.segments[index].base == 0 && isWide(index) }
    /// In a segment of 32-bit protected mode that begins at 0 and ends at 4 GiB an offset is a linear address.
    func isFlatData(_ index: Int) -> Bool {
        state.pointee.cr0 & CR0.pe != 0 && state.pointee.systemFlags & EFlags.vm == 0 && isFlat(index)
    }

    var isAlignmentChecked: Bool {
        state.pointee.cpl == 3 && state.pointee.cr0 & CR0.am != 0 && state.pointee.systemFlags & EFlags.ac != 0
    }
    /// Some data breakpoint (R/W1 or R/W3) is enabled.
    private var hasDataBreakpoints: Bool {
        let dr7 = state.pointee.debug[7]
        return (0..<4).contains { dr7 >> UInt64($0 * 2) & 3 != 0 && dr7 >> UInt64(16 + $0 * 4) & 3 != 0 }
    }
    private var hasCodeBreakpoints: Bool {
        let dr7 = state.pointee.debug[7]
        return (0..<4).contains { dr7 >> UInt64($0 * 2) & 3 != 0 && dr7 >> UInt64(16 + $0 * 4) & 3 == 0 }
    }

    /// CPL, CR0.AM, EFLAGS.AC or DR7 may have changed: chooses the TLB for data accesses.
    func modeChanged() {
        if isAlignmentChecked || hasDataBreakpoints {
            state.pointee.core.dataTLB = watchfulTLB.entries
        } else {
            state.pointee.core.dataTLB = state.pointee.cpl == 3 ? userTLB.entries : supervisorTLB.entries
        }
    }

    // MARK: Run loop

    /// True when an interrupt or NMI can be taken before the next instruction.
    package var canInterrupt: Bool {
        let s = state
        if s.pointee.shadowPosition == s.pointee.core.position { return false }
        if s.pointee.nmiPending, !s.pointee.nmiBlocked { return true }
        return s.pointee.interruptLine && s.pointee.systemFlags & EFlags.if != 0
    }

    /// Executes until `limit` at most. Interrupts that are pending are taken first, in between, and whenever an
    /// instruction makes them possible.
    package func run(until limit: Position) -> Stop {
        let raw = UnsafeMutableRawPointer(state)
        state.pointee.core.exitRequest = 0
        // Between instructions the exact position is the position.
        defer { state.pointee.core.currentOp = nil }
        while true {
            if state.pointee.isShutdown { return .shutdown }
            if canInterrupt {
                // Taking one wakes the CPU. It costs no position, but the machine must see what it did to the chips.
                takeInterrupt()
                if state.pointee.core.exitRequest & (ExitRequest.device | ExitRequest.machine) != 0 { return .attention }
                continue
            }
            if state.pointee.isHalted { return .halted }
            let position = state.pointee.core.position
            if position >= limit { return .horizon }
            var limit = limit
            if debugger.isArmed {
                if stopsForDebugger(position) { return .debugger }
                limit = min(limit, max(debugger.stopPosition, position + 1))
            }
            modeChanged()
            // Blocks in the jump cache are found by PC alone: it must be emptied when the base changes.
            if codeBase != jumpCacheBase {
                jumpCacheBase = codeBase
                blocks.clearJumpCache()
            }
            let mode = self.mode
            if mode.contains(.singleStep) || state.pointee.systemFlags & EFlags.rf != 0
                || state.pointee.debug[7] & 0xFF != 0 && hasCodeBreakpoints
            {
                stepWatched(mode)
            } else {
                // An interrupt that waits for the shadow's end is taken right after one instruction.
                let isShadowed = state.pointee.shadowPosition == position && state.pointee.interruptLine
                let exit =
                    isShadowed
                    ? EngineExit.horizon
                    : execute(raw, mode, limit)
                switch exit {
                case .lookUp:
                    // At the limit what is due there comes first. A walk would show: accessed bits, or a fault before it.
                    if state.pointee.core.position < limit { lookUp(mode, limit) }
                case .horizon:
                    let left = limit - state.pointee.core.position
                    if left == 0 { break }
                    runShort(mode, Int(min(left, isShadowed ? 1 : 64)))
                case .leave: break
                case .fault: deliverException()
                }
            }
            let request = state.pointee.core.exitRequest
            if request != 0 {
                if request & ExitRequest.debug != 0 { takePendingDebug() }
                state.pointee.core.exitRequest = 0
                if request & (ExitRequest.device | ExitRequest.machine) != 0 { return .attention }
            }
        }
    }

    @inline(__always)
    private func execute(_ raw: UnsafeMutableRawPointer, _ mode: ModeBits, _ limit: Position) -> EngineExit {
        #if arch(x86_64)
            setTime()
            if let engine { return engine._withUnsafeGuaranteedRef { $0.run(raw, mode: mode.rawValue, limit: limit) } }
        #endif
        return interpreter.run(raw, mode: mode.rawValue, limit: limit)
    }

    /// Finds or translates the block at the PC and puts it into the jump cache.
    private func lookUp(_ mode: ModeBits, _ limit: Position) {
        isTemporary = false
        guard let block = findOrTranslate(mode) else { return deliverException() }
        if activity.isOn {
            activity.executed(linearPC, block.pointee.endPC &- block.pointee.pc)
            // Generated code goes on within a page without coming by here: to any code that is known there.
            if block.pointee.page >= 0 { activity.executed(page: linearPC >> 12, blocks.codeMap[Int(block.pointee.page)]) }
        }
        if isTemporary {
            // One instruction from outside RAM: cannot be kept.
            if interpreter.execute(block, UnsafeMutableRawPointer(state)) == .fault { deliverException() }
            return
        }
        // What begins at a breakpoint must come by the run loop, which looks whether to stop.
        if debugger.isArmed, debugger.isBreakpoint(linearPC) {
            let position = state.pointee.core.position
            if position != debugger.checkedPosition { return }
            if position &+ UInt64(block.pointee.count) > limit { return runShort(mode, Int(limit &- position)) }
            if interpreter.execute(block, UnsafeMutableRawPointer(state)) == .fault { deliverException() }
            return
        }
        if !mode.contains(.user), !isUpperHalf(linearPC) { supervisorRunsLow = true }
        blocks.enter(block)
    }

    private var codeBase: UInt64 {
        state.pointee.efer & EFER.lma != 0 && state.pointee.segments[1].isLong ? 0 : state.pointee.segments[1].base
    }

    /// Linear address of the next instruction.
    package var linearPC: UInt64 {
        let base = codeBase
        if state.pointee.efer & EFER.lma != 0, state.pointee.segments[1].isLong { return state.pointee.core.pc }
        return (base &+ state.pointee.core.pc) & 0xFFFF_FFFF
    }

    /// RAM page of the code at a linear address; -1 when it is not RAM. Nil: an exception has been noted.
    private func codePage(_ linear: UInt64) -> Int32? {
        guard isCanonical(linear) else {
            _ = state.pointee.raise(.generalProtection, error: 0)
            return nil
        }
        let isUser = state.pointee.cpl == 3
        let key = linear & ~0xFFF | (isUser ? 1 : 0)
        let known = codePages + Int(linear >> 12 & UInt64(Self.codePageCount - 1))
        if known.pointee.key == key, known.pointee.changes == tlbChanges { return known.pointee.page }
        guard let translation = translate(linear, isUser ? [.user, .execute] : .execute) else { return nil }
        guard let offset = ram.offset(of: translation.physical) else { return -1 }
        let page = Int32(truncatingIfNeeded: offset >> 12)
        // Without paging nothing counts what changes, and below 1 MiB memory is switched.
        if state.pointee.cr0 & CR0.pg != 0, translation.physical >= 1 << 20 {
            known.pointee = CodePage(key: key, changes: tlbChanges, page: page)
        }
        return page
    }

    private func findOrTranslate(_ mode: ModeBits) -> UnsafeMutablePointer<Block>? {
        let pc = state.pointee.core.pc
        let linear = linearPC
        if mode.codeSize != .bits64, pc > UInt64(state.pointee.segments[1].limit) {
            _ = state.pointee.raise(.generalProtection, error: 0)
            return nil
        }
        guard let page = codePage(linear) else { return nil }
        if page >= 0 {
            let found = blocks.find(pc: pc, linear: linear, page: page, mode: mode.rawValue) {
                codePage((linear & ~0xFFF) &+ 4096) ?? -2
            }
            if let found { return found }
        }
        let start = measuresTime ? HostTime.now : 0
        guard let (endPC, secondPage) = translateBlock(mode, BlockBuilder.maxInstructions, pc, linear, page) else {
            return nil
        }
        if measuresTime { translationTime &+= HostTime.now &- start }
        if page < 0 || secondPage == -1 {
            isTemporary = true
            return blocks.temporary(builder, endPC: endPC, mode: mode.rawValue)
        }
        let block = blocks.add(
            builder, endPC: endPC, mode: mode.rawValue, page: page, secondPage: secondPage == Self.onePage ? -1 : secondPage)
        blocks.takeNewlyWatched { protect(page: $0) }
        return block
    }

    private static let onePage: Int32 = -3

    /// Translates at `pc` into the builder. Returns the PC after it and the second page: `onePage` if there is none, -1
    /// if it is not RAM. Nil: fetching faults, and the exception has been noted.
    private func translateBlock(
        _ mode: ModeBits, _ limit: Int, _ pc: UInt64, _ linear: UInt64, _ page: Int32
    ) -> (UInt64, Int32)? {
        let offset = Int(linear & 0xFFF)
        var outcome: Translator.Outcome
        if page >= 0 {
            let bytes = (ram.base + Int(page) * 4096 + offset).assumingMemoryBound(to: UInt8.self)
            outcome = translator.translate(
                bytes, available: 4096 - offset, pc: pc, linear: linear, mode: mode, limit: limit)
            if builder.instructionCount > 1, debugger.isArmed,
                let cut = debugger.firstBreakpoint(after: linear, before: linear &+ (outcome.endPC &- pc))
            {
                let before = (0..<builder.instructionCount).count { UInt64(builder.pcOffsets[$0]) < cut &- linear }
                outcome = translator.translate(
                    bytes, available: 4096 - offset, pc: pc, linear: linear, mode: mode, limit: before)
            }
            if builder.instructionCount > 0 { return (outcome.endPC, Self.onePage) }
        } else {
            outcome = Translator.Outcome(endPC: pc, needsMore: true, isTooLong: false)
        }
        if outcome.isTooLong {
            translator.translateTooLong(pc: pc, linear: linear)
            return (pc, Self.onePage)
        }
        // One instruction that crosses into the next page, or code that is not in RAM.
        let inFirst = min(4096 - offset, 15)
        for index in 0..<inFirst {
            codeBuffer[index] = page >= 0
                ? (ram.base + Int(page) * 4096 + offset + index).load(as: UInt8.self) : fetchDevice(linear &+ UInt64(index))
        }
        var available = inFirst
        var secondPage: Int32 = Self.onePage
        if inFirst < 15 {
            // Code that is not in RAM may fit the first page.
            if page < 0 {
                outcome = translator.translate(
                    codeBuffer, available: available, pc: pc, linear: linear, mode: mode, limit: 1)
                if builder.instructionCount > 0 { return (outcome.endPC, -1) }
            }
            var next = (linear & ~0xFFF) &+ 4096
            if mode.codeSize != .bits64 { next &= 0xFFFF_FFFF }
            guard let second = codePage(next) else { return nil }
            secondPage = second
            while available < 15 {
                codeBuffer[available] = second >= 0
                    ? (ram.base + Int(second) * 4096 + available - inFirst).load(as: UInt8.self)
                    : fetchDevice(next &+ UInt64(available - inFirst))
                available += 1
            }
        }
        outcome = translator.translate(
            codeBuffer, available: available, pc: pc, linear: linear, mode: mode, limit: 1)
        if builder.instructionCount == 0 {
            translator.translateTooLong(pc: pc, linear: linear)
            return (pc, page < 0 ? -1 : secondPage)
        }
        return (outcome.endPC, page < 0 ? -1 : secondPage)
    }

    /// A code byte that is not in RAM: an open bus. Nothing that we emulate executes from a device.
    private func fetchDevice(_ linear: UInt64) -> UInt8 { 0xFF }

    /// Executes at most `count` instructions: a block cut short by a horizon. Not kept.
    private func runShort(_ mode: ModeBits, _ count: Int) {
        let pc = state.pointee.core.pc
        let linear = linearPC
        if mode.codeSize != .bits64, pc > UInt64(state.pointee.segments[1].limit) {
            _ = state.pointee.raise(.generalProtection, error: 0)
            return deliverException()
        }
        guard let page = codePage(linear), let (endPC, _) = translateBlock(mode, count, pc, linear, page) else {
            return deliverException()
        }
        if activity.isOn { activity.executed(linear, endPC &- pc) }
        let block = blocks.temporary(builder, endPC: endPC, mode: mode.rawValue)
        if interpreter.execute(block, UnsafeMutableRawPointer(state)) == .fault { deliverException() }
    }

    /// One instruction with TF set or code breakpoints armed.
    private func stepWatched(_ mode: ModeBits) {
        let isResumed = state.pointee.systemFlags & EFlags.rf != 0
        if !isResumed, hitsCodeBreakpoint(linearPC) {
            _ = state.pointee.raise(.debug)
            return deliverException()
        }
        let position = state.pointee.core.position
        let pc = state.pointee.core.pc
        hasDelivered = false
        // RF goes with the instruction that it lets pass, which may be an IRET that sets it anew. A fault pushes it set.
        state.pointee.systemFlags &= ~EFlags.rf
        runShort(mode, 1)
        if state.pointee.core.position != position {
            // The rest of a repeated string instruction is still the same instruction.
            if translator.isRepeating, state.pointee.core.pc == pc, !hasDelivered {
                state.pointee.systemFlags |= EFlags.rf
            }
            if mode.contains(.singleStep), !hasDelivered {
                state.pointee.pendingDebug |= 1 << 14
                state.pointee.core.exitRequest |= ExitRequest.debug
            }
        }
    }

    /// Visits all that the CPU remembers.
    package func visitState(_ visitor: inout StateVisitor) {
        state.pointee.visit(&visitor)
        if visitor.mode == .load {
            // Translated code stays: it belongs to the contents of RAM, whose changes are noted one by one.
            applyMappings()
            flushTLB()
            modeChanged()
            clearTransients()
        }
    }

    /// What is dead between two instructions.
    private func clearTransients() {
        state.pointee.core.exitRequest = 0
        state.pointee.core.currentOp = nil
        state.pointee.core.currentBlock = nil
        debugHits = 0
        hasDelivered = false
        debugger.clearPending()
    }

    /// RAM has been replaced or changed behind the CPU's back: nothing translated is valid.
    package func forgetTranslations() {
        flushTLB()
        blocks.flushAll()
    }

    /// Replaces a page of RAM by 4096 bytes, as a bus master would.
    package func replace(page: Int, from source: UnsafeRawPointer) {
        willWriteRAM(page << 12, 4096)
        (ram.base + (page << 12)).copyMemory(from: source, byteCount: 4096)
    }

    /// Calls `body` for every page of RAM written since the last call.
    package func takeTouchedPages(_ body: (Int) -> Void) {
        ram.takeTouched(body)
        supervisorTLB.protectAll()
        userTLB.protectAll()
    }

    /// Digest of RAM. Afterwards every page is watched for its first write.
    package func digestRAM() -> UInt64 {
        let digest = ram.digest()
        supervisorTLB.protectAll()
        userTLB.protectAll()
        return digest
    }
}
