import MachineState

/// What the engines need of the guest's architecture. Plain C functions: no reference counting on the way.
package struct EngineHooks {
    /// Loads 1...8 or 16 bytes at a virtual address into `CoreState.transfer`: (state, address, `Address` attributes |
    /// size << 48 | 1 << 56 if a store will follow). Returns 0, or not 0 when the access faults.
    package var load: @convention(c) (UnsafeMutableRawPointer, UInt64, UInt64) -> UInt64
    /// Stores from `CoreState.transfer`, as above.
    package var store: @convention(c) (UnsafeMutableRawPointer, UInt64, UInt64) -> UInt64

    package init(
        load: @escaping @convention(c) (UnsafeMutableRawPointer, UInt64, UInt64) -> UInt64,
        store: @escaping @convention(c) (UnsafeMutableRawPointer, UInt64, UInt64) -> UInt64
    ) {
        self.load = load
        self.store = store
    }

    /// In an access's attributes: a store to the same place follows.
    package static let storeFollows: UInt64 = 1 << 56
}

/// Why an engine came back. `CoreState.pc` and `position` are exact.
package enum EngineExit {
    /// The block at `pc` is not in the jump cache.
    case lookUp
    /// The next block has more instructions than may be executed.
    case horizon
    /// Mode, interrupt flag or something outside may have changed.
    case leave
    /// An instruction faults: nothing of it has been retired; the run-time has noted the exception.
    case fault
}

/// The portable engine: executes micro-ops one by one. The oracle for every other engine.
package struct Interpreter {
    let hooks: EngineHooks
    let helpers: UnsafePointer<MicroHelper>
    let jumpCache: UnsafeMutablePointer<UnsafeMutablePointer<Block>?>
    /// Where the rest of an instruction is copied to when the block must end after it.
    let diverted: UnsafeMutablePointer<MicroOp>
    /// One micro-op and a stop, for `executeSingle`.
    let single: UnsafeMutablePointer<MicroOp>

    package init(
        hooks: EngineHooks, helpers: UnsafePointer<MicroHelper>,
        jumpCache: UnsafeMutablePointer<UnsafeMutablePointer<Block>?>
    ) {
        self.hooks = hooks
        self.helpers = helpers
        self.jumpCache = jumpCache
        diverted = .allocate(capacity: BlockBuilder.maxOps + 1)
        single = .allocate(capacity: 2)
        single.initialize(repeating: MicroOp(.stop), count: 2)
    }

    package func deallocate() {
        diverted.deallocate()
        single.deallocate()
    }

    /// Executes blocks from the jump cache until something stops it; never beyond position `limit`.
    package func run(_ state: UnsafeMutableRawPointer, mode: UInt32, limit: Position) -> EngineExit {
        let core = state.assumingMemoryBound(to: CoreState.self)
        while true {
            if core.pointee.exitRequest != 0 { return .leave }
            let pc = core.pointee.pc
            guard let block = jumpCache[BlockCache.jumpIndex(pc, mode)], block.pointee.pc == pc, block.pointee.mode == mode
            else { return .lookUp }
            if core.pointee.position &+ UInt64(block.pointee.count) > limit { return .horizon }
            if let exit = execute(block, state) { return exit }
        }
    }

    /// Executes one block. Nil: go on with the block at `pc`.
    @inline(__always)
    package func execute(_ block: UnsafeMutablePointer<Block>, _ state: UnsafeMutableRawPointer) -> EngineExit? {
        state.assumingMemoryBound(to: CoreState.self).pointee.currentBlock = block
        return execute(from: UnsafePointer(block.pointee.ops), block, state)
    }

    /// Executes one micro-op of `block` by itself. True: it faults, and pc and position are exact.
    @inline(never)
    package func executeSingle(
        _ op: UnsafePointer<MicroOp>, _ block: UnsafeMutablePointer<Block>, _ state: UnsafeMutableRawPointer
    ) -> Bool {
        single[0] = op.pointee
        state.assumingMemoryBound(to: CoreState.self).pointee.divertedIndex =
            UInt64(block.pointee.instructionIndex[op - UnsafePointer(block.pointee.ops)])
        return execute(from: UnsafePointer(single), block, state) == .fault
    }

    /// Executes what is left of the instruction after `op`, and no more.
    @inline(never)
    package func finishInstruction(
        after op: UnsafePointer<MicroOp>, _ block: UnsafeMutablePointer<Block>, _ state: UnsafeMutableRawPointer
    ) -> EngineExit? {
        execute(from: divert(op, state) ?? op + 1, block, state)
    }

    /// Makes pc and position exact for an instruction that faults in `op`.
    package func noteFault(_ op: UnsafePointer<MicroOp>, _ state: UnsafeMutableRawPointer) { _ = fault(op, state) }

    @inline(__always)
    private func execute(
        from start: UnsafePointer<MicroOp>, _ block: UnsafeMutablePointer<Block>, _ state: UnsafeMutableRawPointer
    ) -> EngineExit? {
        let core = state.assumingMemoryBound(to: CoreState.self)
        let s = Registers(state: state)
        let tlb = core.pointee.dataTLB
        var next = start
        while true {
            let op = next.pointee
            switch op.opcode {
            case .mov8: s.put(op.dst, s.get(op.a) as UInt8)
            case .mov16: s.put(op.dst, s.get(op.a) as UInt16)
            case .mov32: s.put(op.dst, s.get(op.a) as UInt32)
            case .mov64: s.put(op.dst, s.get(op.a) as UInt64)
            case .movI8: s.put(op.dst, UInt8(truncatingIfNeeded: op.imm))
            case .movI16: s.put(op.dst, UInt16(truncatingIfNeeded: op.imm))
            case .movI32: s.put(op.dst, UInt32(truncatingIfNeeded: op.imm))
            case .movI64: s.put(op.dst, op.imm)

            case .add8: s.binary(op, UInt8.self) { $0 &+ $1 }
            case .add16: s.binary(op, UInt16.self) { $0 &+ $1 }
            case .add32: s.binary(op, UInt32.self) { $0 &+ $1 }
            case .add64: s.binary(op, UInt64.self) { $0 &+ $1 }
            case .addI8: s.immediate(op, UInt8.self) { $0 &+ $1 }
            case .addI16: s.immediate(op, UInt16.self) { $0 &+ $1 }
            case .addI32: s.immediate(op, UInt32.self) { $0 &+ $1 }
            case .addI64: s.immediate(op, UInt64.self) { $0 &+ $1 }
            case .sub8: s.binary(op, UInt8.self) { $0 &- $1 }
            case .sub16: s.binary(op, UInt16.self) { $0 &- $1 }
            case .sub32: s.binary(op, UInt32.self) { $0 &- $1 }
            case .sub64: s.binary(op, UInt64.self) { $0 &- $1 }
            case .subI8: s.immediate(op, UInt8.self) { $0 &- $1 }
            case .subI16: s.immediate(op, UInt16.self) { $0 &- $1 }
            case .subI32: s.immediate(op, UInt32.self) { $0 &- $1 }
            case .subI64: s.immediate(op, UInt64.self) { $0 &- $1 }
            case .and8: s.binary(op, UInt8.self) { $0 & $1 }
            case .and16: s.binary(op, UInt16.self) { $0 & $1 }
            case .and32: s.binary(op, UInt32.self) { $0 & $1 }
            case .and64: s.binary(op, UInt64.self) { $0 & $1 }
            case .andI8: s.immediate(op, UInt8.self) { $0 & $1 }
            case .andI16: s.immediate(op, UInt16.self) { $0 & $1 }
            case .andI32: s.immediate(op, UInt32.self) { $0 & $1 }
            case .andI64: s.immediate(op, UInt64.self) { $0 & $1 }
            case .or8: s.binary(op, UInt8.self) { $0 | $1 }
            case .or16: s.binary(op, UInt16.self) { $0 | $1 }
            case .or32: s.binary(op, UInt32.self) { $0 | $1 }
            case .or64: s.binary(op, UInt64.self) { $0 | $1 }
            case .orI8: s.immediate(op, UInt8.self) { $0 | $1 }
            case .orI16: s.immediate(op, UInt16.self) { $0 | $1 }
            case .orI32: s.immediate(op, UInt32.self) { $0 | $1 }
            case .orI64: s.immediate(op, UInt64.self) { $0 | $1 }
            case .xor8: s.binary(op, UInt8.self) { $0 ^ $1 }
            case .xor16: s.binary(op, UInt16.self) { $0 ^ $1 }
            case .xor32: s.binary(op, UInt32.self) { $0 ^ $1 }
            case .xor64: s.binary(op, UInt64.self) { $0 ^ $1 }
            case .xorI8: s.immediate(op, UInt8.self) { $0 ^ $1 }
            case .xorI16: s.immediate(op, UInt16.self) { $0 ^ $1 }
            case .xorI32: s.immediate(op, UInt32.self) { $0 ^ $1 }
            case .xorI64: s.immediate(op, UInt64.self) { $0 ^ $1 }
            case .shlI8: s.immediate(op, UInt8.self) { $0 << $1 }
            case .shlI16: s.immediate(op, UInt16.self) { $0 << $1 }
            case .shlI32: s.immediate(op, UInt32.self) { $0 &<< $1 }
            case .shlI64: s.immediate(op, UInt64.self) { $0 &<< $1 }
            case .shrI8: s.immediate(op, UInt8.self) { $0 >> $1 }
            case .shrI16: s.immediate(op, UInt16.self) { $0 >> $1 }
            case .shrI32: s.immediate(op, UInt32.self) { $0 &>> $1 }
            case .shrI64: s.immediate(op, UInt64.self) { $0 &>> $1 }
            case .sarI8: s.immediate(op, UInt8.self) { UInt8(bitPattern: $0.signed >> Int8(bitPattern: $1)) }
            case .sarI16: s.immediate(op, UInt16.self) { UInt16(bitPattern: $0.signed >> Int16(bitPattern: $1)) }
            case .sarI32: s.immediate(op, UInt32.self) { UInt32(bitPattern: $0.signed &>> Int32(bitPattern: $1)) }
            case .sarI64: s.immediate(op, UInt64.self) { UInt64(bitPattern: $0.signed &>> Int64(bitPattern: $1)) }
            case .not8: s.put(op.dst, ~(s.get(op.a) as UInt8))
            case .not16: s.put(op.dst, ~(s.get(op.a) as UInt16))
            case .not32: s.put(op.dst, ~(s.get(op.a) as UInt32))
            case .not64: s.put(op.dst, ~(s.get(op.a) as UInt64))

            case .addF8: s.put(op.dst, s.addF(s.get(op.a), s.get(op.b) as UInt8))
            case .addF16: s.put(op.dst, s.addF(s.get(op.a), s.get(op.b) as UInt16))
            case .addF32: s.put(op.dst, s.addF(s.get(op.a), s.get(op.b) as UInt32))
            case .addF64: s.put(op.dst, s.addF(s.get(op.a), s.get(op.b) as UInt64))
            case .addFI8: s.put(op.dst, s.addF(s.get(op.a), UInt8(truncatingIfNeeded: op.imm)))
            case .addFI16: s.put(op.dst, s.addF(s.get(op.a), UInt16(truncatingIfNeeded: op.imm)))
            case .addFI32: s.put(op.dst, s.addF(s.get(op.a), UInt32(truncatingIfNeeded: op.imm)))
            case .addFI64: s.put(op.dst, s.addF(s.get(op.a), op.imm))
            case .subF8: s.put(op.dst, s.subF(s.get(op.a), s.get(op.b) as UInt8))
            case .subF16: s.put(op.dst, s.subF(s.get(op.a), s.get(op.b) as UInt16))
            case .subF32: s.put(op.dst, s.subF(s.get(op.a), s.get(op.b) as UInt32))
            case .subF64: s.put(op.dst, s.subF(s.get(op.a), s.get(op.b) as UInt64))
            case .subFI8: s.put(op.dst, s.subF(s.get(op.a), UInt8(truncatingIfNeeded: op.imm)))
            case .subFI16: s.put(op.dst, s.subF(s.get(op.a), UInt16(truncatingIfNeeded: op.imm)))
            case .subFI32: s.put(op.dst, s.subF(s.get(op.a), UInt32(truncatingIfNeeded: op.imm)))
            case .subFI64: s.put(op.dst, s.subF(s.get(op.a), op.imm))
            case .andF8: s.put(op.dst, s.logic(s.get(op.a) & (s.get(op.b) as UInt8)))
            case .andF16: s.put(op.dst, s.logic(s.get(op.a) & (s.get(op.b) as UInt16)))
            case .andF32: s.put(op.dst, s.logic(s.get(op.a) & (s.get(op.b) as UInt32)))
            case .andF64: s.put(op.dst, s.logic(s.get(op.a) & (s.get(op.b) as UInt64)))
            case .andFI8: s.put(op.dst, s.logic(s.get(op.a) & UInt8(truncatingIfNeeded: op.imm)))
            case .andFI16: s.put(op.dst, s.logic(s.get(op.a) & UInt16(truncatingIfNeeded: op.imm)))
            case .andFI32: s.put(op.dst, s.logic(s.get(op.a) & UInt32(truncatingIfNeeded: op.imm)))
            case .andFI64: s.put(op.dst, s.logic(s.get(op.a) & op.imm))
            case .orF8: s.put(op.dst, s.logic(s.get(op.a) | (s.get(op.b) as UInt8)))
            case .orF16: s.put(op.dst, s.logic(s.get(op.a) | (s.get(op.b) as UInt16)))
            case .orF32: s.put(op.dst, s.logic(s.get(op.a) | (s.get(op.b) as UInt32)))
            case .orF64: s.put(op.dst, s.logic(s.get(op.a) | (s.get(op.b) as UInt64)))
            case .orFI8: s.put(op.dst, s.logic(s.get(op.a) | UInt8(truncatingIfNeeded: op.imm)))
            case .orFI16: s.put(op.dst, s.logic(s.get(op.a) | UInt16(truncatingIfNeeded: op.imm)))
            case .orFI32: s.put(op.dst, s.logic(s.get(op.a) | UInt32(truncatingIfNeeded: op.imm)))
            case .orFI64: s.put(op.dst, s.logic(s.get(op.a) | op.imm))
            case .xorF8: s.put(op.dst, s.logic(s.get(op.a) ^ (s.get(op.b) as UInt8)))
            case .xorF16: s.put(op.dst, s.logic(s.get(op.a) ^ (s.get(op.b) as UInt16)))
            case .xorF32: s.put(op.dst, s.logic(s.get(op.a) ^ (s.get(op.b) as UInt32)))
            case .xorF64: s.put(op.dst, s.logic(s.get(op.a) ^ (s.get(op.b) as UInt64)))
            case .xorFI8: s.put(op.dst, s.logic(s.get(op.a) ^ UInt8(truncatingIfNeeded: op.imm)))
            case .xorFI16: s.put(op.dst, s.logic(s.get(op.a) ^ UInt16(truncatingIfNeeded: op.imm)))
            case .xorFI32: s.put(op.dst, s.logic(s.get(op.a) ^ UInt32(truncatingIfNeeded: op.imm)))
            case .xorFI64: s.put(op.dst, s.logic(s.get(op.a) ^ op.imm))

            case .shlFI8: s.put(op.dst, s.shlF(s.get(op.a) as UInt8, op.imm))
            case .shlFI16: s.put(op.dst, s.shlF(s.get(op.a) as UInt16, op.imm))
            case .shlFI32: s.put(op.dst, s.shlF(s.get(op.a) as UInt32, op.imm))
            case .shlFI64: s.put(op.dst, s.shlF(s.get(op.a) as UInt64, op.imm))
            case .shrFI8: s.put(op.dst, s.shrF(s.get(op.a) as UInt8, op.imm))
            case .shrFI16: s.put(op.dst, s.shrF(s.get(op.a) as UInt16, op.imm))
            case .shrFI32: s.put(op.dst, s.shrF(s.get(op.a) as UInt32, op.imm))
            case .shrFI64: s.put(op.dst, s.shrF(s.get(op.a) as UInt64, op.imm))
            case .sarFI8: s.put(op.dst, s.sarF(s.get(op.a) as UInt8, op.imm))
            case .sarFI16: s.put(op.dst, s.sarF(s.get(op.a) as UInt16, op.imm))
            case .sarFI32: s.put(op.dst, s.sarF(s.get(op.a) as UInt32, op.imm))
            case .sarFI64: s.put(op.dst, s.sarF(s.get(op.a) as UInt64, op.imm))

            case .adcF8: s.put(op.dst, s.adcF(s.get(op.a), s.get(op.b) as UInt8))
            case .adcF16: s.put(op.dst, s.adcF(s.get(op.a), s.get(op.b) as UInt16))
            case .adcF32: s.put(op.dst, s.adcF(s.get(op.a), s.get(op.b) as UInt32))
            case .adcF64: s.put(op.dst, s.adcF(s.get(op.a), s.get(op.b) as UInt64))
            case .adcFI8: s.put(op.dst, s.adcF(s.get(op.a), UInt8(truncatingIfNeeded: op.imm)))
            case .adcFI16: s.put(op.dst, s.adcF(s.get(op.a), UInt16(truncatingIfNeeded: op.imm)))
            case .adcFI32: s.put(op.dst, s.adcF(s.get(op.a), UInt32(truncatingIfNeeded: op.imm)))
            case .adcFI64: s.put(op.dst, s.adcF(s.get(op.a), op.imm))
            case .sbbF8: s.put(op.dst, s.sbbF(s.get(op.a), s.get(op.b) as UInt8))
            case .sbbF16: s.put(op.dst, s.sbbF(s.get(op.a), s.get(op.b) as UInt16))
            case .sbbF32: s.put(op.dst, s.sbbF(s.get(op.a), s.get(op.b) as UInt32))
            case .sbbF64: s.put(op.dst, s.sbbF(s.get(op.a), s.get(op.b) as UInt64))
            case .sbbFI8: s.put(op.dst, s.sbbF(s.get(op.a), UInt8(truncatingIfNeeded: op.imm)))
            case .sbbFI16: s.put(op.dst, s.sbbF(s.get(op.a), UInt16(truncatingIfNeeded: op.imm)))
            case .sbbFI32: s.put(op.dst, s.sbbF(s.get(op.a), UInt32(truncatingIfNeeded: op.imm)))
            case .sbbFI64: s.put(op.dst, s.sbbF(s.get(op.a), op.imm))
            case .cmp8: _ = s.subF(s.get(op.a), s.get(op.b) as UInt8)
            case .cmp16: _ = s.subF(s.get(op.a), s.get(op.b) as UInt16)
            case .cmp32: _ = s.subF(s.get(op.a), s.get(op.b) as UInt32)
            case .cmp64: _ = s.subF(s.get(op.a), s.get(op.b) as UInt64)
            case .cmpI8: _ = s.subF(s.get(op.a), UInt8(truncatingIfNeeded: op.imm))
            case .cmpI16: _ = s.subF(s.get(op.a), UInt16(truncatingIfNeeded: op.imm))
            case .cmpI32: _ = s.subF(s.get(op.a), UInt32(truncatingIfNeeded: op.imm))
            case .cmpI64: _ = s.subF(s.get(op.a), op.imm)
            case .test8: _ = s.logic(s.get(op.a) & (s.get(op.b) as UInt8))
            case .test16: _ = s.logic(s.get(op.a) & (s.get(op.b) as UInt16))
            case .test32: _ = s.logic(s.get(op.a) & (s.get(op.b) as UInt32))
            case .test64: _ = s.logic(s.get(op.a) & (s.get(op.b) as UInt64))
            case .testI8: _ = s.logic(s.get(op.a) & UInt8(truncatingIfNeeded: op.imm))
            case .testI16: _ = s.logic(s.get(op.a) & UInt16(truncatingIfNeeded: op.imm))
            case .testI32: _ = s.logic(s.get(op.a) & UInt32(truncatingIfNeeded: op.imm))
            case .testI64: _ = s.logic(s.get(op.a) & op.imm)

            case .incF8: s.put(op.dst, s.incF(s.get(op.a) as UInt8))
            case .incF16: s.put(op.dst, s.incF(s.get(op.a) as UInt16))
            case .incF32: s.put(op.dst, s.incF(s.get(op.a) as UInt32))
            case .incF64: s.put(op.dst, s.incF(s.get(op.a) as UInt64))
            case .decF8: s.put(op.dst, s.decF(s.get(op.a) as UInt8))
            case .decF16: s.put(op.dst, s.decF(s.get(op.a) as UInt16))
            case .decF32: s.put(op.dst, s.decF(s.get(op.a) as UInt32))
            case .decF64: s.put(op.dst, s.decF(s.get(op.a) as UInt64))
            case .negF8: s.put(op.dst, s.subF(0, s.get(op.a) as UInt8))
            case .negF16: s.put(op.dst, s.subF(0, s.get(op.a) as UInt16))
            case .negF32: s.put(op.dst, s.subF(0, s.get(op.a) as UInt32))
            case .negF64: s.put(op.dst, s.subF(0, s.get(op.a) as UInt64))

            case .shlF8: s.shift(op, UInt8.self) { s.shlF($0, $1) }
            case .shlF16: s.shift(op, UInt16.self) { s.shlF($0, $1) }
            case .shlF32: s.shift(op, UInt32.self) { s.shlF($0, $1) }
            case .shlF64: s.shift(op, UInt64.self) { s.shlF($0, $1) }
            case .shrF8: s.shift(op, UInt8.self) { s.shrF($0, $1) }
            case .shrF16: s.shift(op, UInt16.self) { s.shrF($0, $1) }
            case .shrF32: s.shift(op, UInt32.self) { s.shrF($0, $1) }
            case .shrF64: s.shift(op, UInt64.self) { s.shrF($0, $1) }
            case .sarF8: s.shift(op, UInt8.self) { s.sarF($0, $1) }
            case .sarF16: s.shift(op, UInt16.self) { s.sarF($0, $1) }
            case .sarF32: s.shift(op, UInt32.self) { s.sarF($0, $1) }
            case .sarF64: s.shift(op, UInt64.self) { s.sarF($0, $1) }
            case .rolF8: s.shift(op, UInt8.self) { s.rolF($0, $1) }
            case .rolF16: s.shift(op, UInt16.self) { s.rolF($0, $1) }
            case .rolF32: s.shift(op, UInt32.self) { s.rolF($0, $1) }
            case .rolF64: s.shift(op, UInt64.self) { s.rolF($0, $1) }
            case .rorF8: s.shift(op, UInt8.self) { s.rorF($0, $1) }
            case .rorF16: s.shift(op, UInt16.self) { s.rorF($0, $1) }
            case .rorF32: s.shift(op, UInt32.self) { s.rorF($0, $1) }
            case .rorF64: s.shift(op, UInt64.self) { s.rorF($0, $1) }
            case .rclF8: s.shift(op, UInt8.self) { s.rclF($0, $1) }
            case .rclF16: s.shift(op, UInt16.self) { s.rclF($0, $1) }
            case .rclF32: s.shift(op, UInt32.self) { s.rclF($0, $1) }
            case .rclF64: s.shift(op, UInt64.self) { s.rclF($0, $1) }
            case .rcrF8: s.shift(op, UInt8.self) { s.rcrF($0, $1) }
            case .rcrF16: s.shift(op, UInt16.self) { s.rcrF($0, $1) }
            case .rcrF32: s.shift(op, UInt32.self) { s.rcrF($0, $1) }
            case .rcrF64: s.shift(op, UInt64.self) { s.rcrF($0, $1) }
            case .shldF8, .shrdF8: break
            case .shldF16: s.shld(op, UInt16.self)
            case .shldF32: s.shld(op, UInt32.self)
            case .shldF64: s.shld(op, UInt64.self)
            case .shrdF16: s.shrd(op, UInt16.self)
            case .shrdF32: s.shrd(op, UInt32.self)
            case .shrdF64: s.shrd(op, UInt64.self)

            case .mulUF8: s.multiply(op, UInt8.self)
            case .mulUF16: s.multiply(op, UInt16.self)
            case .mulUF32: s.multiply(op, UInt32.self)
            case .mulUF64: s.multiply(op, UInt64.self)
            case .mulSF8: s.multiplySigned(op, UInt8.self)
            case .mulSF16: s.multiplySigned(op, UInt16.self)
            case .mulSF32: s.multiplySigned(op, UInt32.self)
            case .mulSF64: s.multiplySigned(op, UInt64.self)
            case .imulF8: s.multiplyLow(op, UInt8.self)
            case .imulF16: s.multiplyLow(op, UInt16.self)
            case .imulF32: s.multiplyLow(op, UInt32.self)
            case .imulF64: s.multiplyLow(op, UInt64.self)
            case .btF8, .btsF8, .btrF8, .btcF8: break
            case .btF16: _ = s.bit(op, UInt16.self)
            case .btF32: _ = s.bit(op, UInt32.self)
            case .btF64: _ = s.bit(op, UInt64.self)
            case .btsF16: s.put(op.dst, (s.get(op.a) as UInt16) | s.bit(op, UInt16.self))
            case .btsF32: s.put(op.dst, (s.get(op.a) as UInt32) | s.bit(op, UInt32.self))
            case .btsF64: s.put(op.dst, (s.get(op.a) as UInt64) | s.bit(op, UInt64.self))
            case .btrF16: s.put(op.dst, (s.get(op.a) as UInt16) & ~s.bit(op, UInt16.self))
            case .btrF32: s.put(op.dst, (s.get(op.a) as UInt32) & ~s.bit(op, UInt32.self))
            case .btrF64: s.put(op.dst, (s.get(op.a) as UInt64) & ~s.bit(op, UInt64.self))
            case .btcF16: s.put(op.dst, (s.get(op.a) as UInt16) ^ s.bit(op, UInt16.self))
            case .btcF32: s.put(op.dst, (s.get(op.a) as UInt32) ^ s.bit(op, UInt32.self))
            case .btcF64: s.put(op.dst, (s.get(op.a) as UInt64) ^ s.bit(op, UInt64.self))
            case .bsfF8, .bsrF8, .popcntF8: break
            case .bsfF16: s.scanForward(op, UInt16.self)
            case .bsfF32: s.scanForward(op, UInt32.self)
            case .bsfF64: s.scanForward(op, UInt64.self)
            case .bsrF16: s.scanReverse(op, UInt16.self)
            case .bsrF32: s.scanReverse(op, UInt32.self)
            case .bsrF64: s.scanReverse(op, UInt64.self)
            case .popcntF16: s.populationCount(op, UInt16.self)
            case .popcntF32: s.populationCount(op, UInt32.self)
            case .popcntF64: s.populationCount(op, UInt64.self)
            case .cmov8: if s.holds(op.b) { s.put(op.dst, s.get(op.a) as UInt8) }
            case .cmov16: if s.holds(op.b) { s.put(op.dst, s.get(op.a) as UInt16) }
            case .cmov32: s.put(op.dst, s.holds(op.b) ? s.get(op.a) as UInt32 : s.get(op.dst))
            case .cmov64: if s.holds(op.b) { s.put(op.dst, s.get(op.a) as UInt64) }
            case .cmpxchgF8: s.compareExchange(op, UInt8.self)
            case .cmpxchgF16: s.compareExchange(op, UInt16.self)
            case .cmpxchgF32: s.compareExchange(op, UInt32.self)
            case .cmpxchgF64: s.compareExchange(op, UInt64.self)

            case .lea8: break
            case .lea16: s.put(op.dst, UInt16(truncatingIfNeeded: s.address(op)))
            case .lea32: s.put(op.dst, UInt32(truncatingIfNeeded: s.address(op)))
            case .lea64: s.put(op.dst, s.address(op))

            case .ld8, .ld16, .ld32, .ld64, .ldzx8, .ldzx16, .ldsx8x16, .ldsx8x32, .ldsx8x64, .ldsx16x32, .ldsx16x64,
                .ldsx32x64:
                let address = s.address(op)
                let entry = tlb[TLB.index(address)]
                let offset = address & 0xFFF
                if entry.read == address &- offset {
                    let host = UnsafeRawPointer(bitPattern: UInt(address &+ entry.addend)).unsafelyUnwrapped
                    switch op.opcode {
                    case .ld8: s.put(op.dst, host.load(as: UInt8.self)); next += 1; continue
                    case .ldzx8: s.put(op.dst, UInt64(host.load(as: UInt8.self))); next += 1; continue
                    case .ldsx8x16: s.put(op.dst, UInt16(truncatingIfNeeded: host.load(as: Int8.self))); next += 1; continue
                    case .ldsx8x32: s.put(op.dst, UInt32(truncatingIfNeeded: host.load(as: Int8.self))); next += 1; continue
                    case .ldsx8x64: s.put(op.dst, UInt64(truncatingIfNeeded: host.load(as: Int8.self))); next += 1; continue
                    case .ld16 where offset <= 4094: s.put(op.dst, host.loadUnaligned(as: UInt16.self)); next += 1; continue
                    case .ldzx16 where offset <= 4094: s.put(op.dst, UInt64(host.loadUnaligned(as: UInt16.self))); next += 1; continue
                    case .ldsx16x32 where offset <= 4094: s.put(op.dst, UInt32(truncatingIfNeeded: host.loadUnaligned(as: Int16.self))); next += 1; continue
                    case .ldsx16x64 where offset <= 4094: s.put(op.dst, UInt64(truncatingIfNeeded: host.loadUnaligned(as: Int16.self))); next += 1; continue
                    case .ld32 where offset <= 4092: s.put(op.dst, host.loadUnaligned(as: UInt32.self)); next += 1; continue
                    case .ldsx32x64 where offset <= 4092: s.put(op.dst, UInt64(truncatingIfNeeded: host.loadUnaligned(as: Int32.self))); next += 1; continue
                    case .ld64 where offset <= 4088: s.put(op.dst, host.loadUnaligned(as: UInt64.self)); next += 1; continue
                    default: break
                    }
                }
                guard slowLoad(next, state, address, s) else { return fault(next, state) }
                if core.pointee.exitRequest != 0, let rest = divert(next, state) { next = rest; continue }

            case .ldw8, .ldw16, .ldw32, .ldw64:
                let address = s.address(op)
                let entry = tlb[TLB.index(address)]
                let offset = address & 0xFFF
                let size = 1 << UInt64(op.opcode.width)
                if entry.write == address &- offset, entry.read == entry.write, offset <= 4096 - UInt64(size) {
                    let host = UnsafeRawPointer(bitPattern: UInt(address &+ entry.addend)).unsafelyUnwrapped
                    switch op.opcode {
                    case .ldw8: s.put(op.dst, host.load(as: UInt8.self))
                    case .ldw16: s.put(op.dst, host.loadUnaligned(as: UInt16.self))
                    case .ldw32: s.put(op.dst, host.loadUnaligned(as: UInt32.self))
                    default: s.put(op.dst, host.loadUnaligned(as: UInt64.self))
                    }
                } else {
                    guard slowLoad(next, state, address, s) else { return fault(next, state) }
                    if core.pointee.exitRequest != 0, let rest = divert(next, state) { next = rest; continue }
                }

            case .st8, .st16, .st32, .st64:
                let address = s.address(op)
                let entry = tlb[TLB.index(address)]
                let offset = address & 0xFFF
                if entry.write == address &- offset {
                    let host = UnsafeMutableRawPointer(bitPattern: UInt(address &+ entry.addend)).unsafelyUnwrapped
                    switch op.opcode {
                    case .st8: host.storeBytes(of: s.get(op.dst), as: UInt8.self); next += 1; continue
                    case .st16 where offset <= 4094: host.storeBytes(of: s.get(op.dst), as: UInt16.self); next += 1; continue
                    case .st32 where offset <= 4092: host.storeBytes(of: s.get(op.dst), as: UInt32.self); next += 1; continue
                    case .st64 where offset <= 4088: host.storeBytes(of: s.get(op.dst), as: UInt64.self); next += 1; continue
                    default: break
                    }
                }
                core.pointee.currentOp = next
                core.pointee.transfer.x = s.get(op.dst)
                let size: UInt64 = 1 << UInt64(op.opcode.width)
                if hooks.store(state, address, op.imm | size << 48) != 0 { return fault(next, state) }
                if core.pointee.exitRequest != 0, let rest = divert(next, state) { next = rest; continue }

            case .ld128:
                core.pointee.currentOp = next
                if hooks.load(state, s.address(op), op.imm | 16 << 48) != 0 { return fault(next, state) }
                (state + Int(op.dst)).storeBytes(of: core.pointee.transfer, as: SIMD2<UInt64>.self)
                if core.pointee.exitRequest != 0, let rest = divert(next, state) { next = rest; continue }
            case .st128:
                core.pointee.currentOp = next
                core.pointee.transfer = (state + Int(op.dst)).loadUnaligned(as: SIMD2<UInt64>.self)
                if hooks.store(state, s.address(op), op.imm | 16 << 48) != 0 { return fault(next, state) }
                if core.pointee.exitRequest != 0, let rest = divert(next, state) { next = rest; continue }

            case .zx8x16: s.put(op.dst, UInt16(s.get(op.a) as UInt8))
            case .zx8x64: s.put(op.dst, UInt64(s.get(op.a) as UInt8))
            case .zx16x64: s.put(op.dst, UInt64(s.get(op.a) as UInt16))
            case .sx8x16: s.put(op.dst, UInt16(truncatingIfNeeded: (s.get(op.a) as UInt8).signed))
            case .sx8x32: s.put(op.dst, UInt32(truncatingIfNeeded: (s.get(op.a) as UInt8).signed))
            case .sx8x64: s.put(op.dst, UInt64(truncatingIfNeeded: (s.get(op.a) as UInt8).signed))
            case .sx16x32: s.put(op.dst, UInt32(truncatingIfNeeded: (s.get(op.a) as UInt16).signed))
            case .sx16x64: s.put(op.dst, UInt64(truncatingIfNeeded: (s.get(op.a) as UInt16).signed))
            case .sx32x64: s.put(op.dst, UInt64(truncatingIfNeeded: (s.get(op.a) as UInt32).signed))
            case .bswap32: s.put(op.dst, (s.get(op.a) as UInt32).byteSwapped)
            case .bswap64: s.put(op.dst, (s.get(op.a) as UInt64).byteSwapped)
            case .setcc: s.put(op.dst, s.holds(op.b) ? 1 : 0 as UInt8)
            case .packFlags: s.put(op.dst, UInt64(Flags.pack(core.pointee.flagResult, core.pointee.flagCarry)))
            case .setCarry: s.setCarry(op.imm != 0)
            case .complementCarry: s.setCarry(!Flags.isCarry(core.pointee.flagCarry))
            case .segment32: s.put(op.dst, (s.get(op.a) as UInt32) &+ (s.get(op.b) as UInt32))
            case .segment64: s.put(op.dst, (s.get(op.a) as UInt64) &+ (s.get(op.b) as UInt64))

            case .call:
                core.pointee.currentOp = next
                if helpers[Int(op.b)](state, UInt(op.dst), UInt(op.a), op.imm) != 0 { return fault(next, state) }
                if core.pointee.exitRequest != 0, let rest = divert(next, state) { next = rest; continue }
            case .callPure:
                core.pointee.currentOp = next
                _ = helpers[Int(op.b)](state, UInt(op.dst), UInt(op.a), op.imm)

            case .guardCanonical:
                let target: UInt64 = s.get(op.a)
                if Int64(bitPattern: target << 16) >> 16 != Int64(bitPattern: target) {
                    core.pointee.currentOp = next
                    if helpers[Int(op.b)](state, UInt(op.dst), UInt(op.a), op.imm) != 0 { return fault(next, state) }
                }

            case .guardClear8:
                if (s.get(op.a) as UInt8) & UInt8(truncatingIfNeeded: op.imm) != 0 {
                    core.pointee.currentOp = next
                    if helpers[Int(op.b)](state, UInt(op.dst), UInt(op.a), op.imm) != 0 { return fault(next, state) }
                }

            case .brZero8: return branch(core, block, (s.get(op.a) as UInt8) == 0, op.imm)
            case .brZero16: return branch(core, block, (s.get(op.a) as UInt16) == 0, op.imm)
            case .brZero32: return branch(core, block, (s.get(op.a) as UInt32) == 0, op.imm)
            case .brZero64: return branch(core, block, (s.get(op.a) as UInt64) == 0, op.imm)
            case .brNonzero8: return branch(core, block, (s.get(op.a) as UInt8) != 0, op.imm)
            case .brNonzero16: return branch(core, block, (s.get(op.a) as UInt16) != 0, op.imm)
            case .brNonzero32: return branch(core, block, (s.get(op.a) as UInt32) != 0, op.imm)
            case .brNonzero64: return branch(core, block, (s.get(op.a) as UInt64) != 0, op.imm)
            case .exitIf:
                if s.holds(op.b) {
                    core.pointee.pc = op.imm
                    core.pointee.position &+= UInt64(block.index(of: next, diverted: core.pointee.divertedIndex) + 1)
                    return nil
                }
            case .jumpIf: return branch(core, block, s.holds(op.b), op.imm)
            case .jump: return branch(core, block, true, op.imm)
            case .jumpTo: return branch(core, block, true, s.get(op.a))
            case .leave:
                core.pointee.pc = op.imm
                core.pointee.position &+= UInt64(block.pointee.count)
                return .leave
            case .leaveDynamic:
                core.pointee.position &+= UInt64(block.pointee.count)
                return .leave
            case .leavePartial:
                core.pointee.pc = op.imm
                core.pointee.position &+= UInt64(op.b)
                return .leave
            case .stop: return .leave
            }
            next += 1
        }
    }

    @inline(__always)
    private func branch(
        _ core: UnsafeMutablePointer<CoreState>, _ block: UnsafeMutablePointer<Block>, _ taken: Bool, _ target: UInt64
    ) -> EngineExit? {
        core.pointee.pc = taken ? target : block.pointee.endPC
        core.pointee.position &+= UInt64(block.pointee.count)
        return nil
    }

    /// A load by the guest's run-time. False: it faults.
    @inline(never)
    private func slowLoad(
        _ next: UnsafePointer<MicroOp>, _ state: UnsafeMutableRawPointer, _ address: UInt64, _ s: Registers
    ) -> Bool {
        let core = state.assumingMemoryBound(to: CoreState.self)
        let op = next.pointee
        core.pointee.currentOp = next
        let size: UInt64
        var attributes = op.imm
        switch op.opcode {
        case .ld8, .ldzx8, .ldsx8x16, .ldsx8x32, .ldsx8x64: size = 1
        case .ld16, .ldzx16, .ldsx16x32, .ldsx16x64: size = 2
        case .ld32, .ldsx32x64: size = 4
        case .ld64: size = 8
        default:
            size = 1 << UInt64(op.opcode.width)
            attributes |= EngineHooks.storeFollows
        }
        if hooks.load(state, address, attributes | size << 48) != 0 { return false }
        let value = core.pointee.transfer.x
        switch op.opcode {
        case .ld8, .ldw8: s.put(op.dst, UInt8(truncatingIfNeeded: value))
        case .ld16, .ldw16: s.put(op.dst, UInt16(truncatingIfNeeded: value))
        case .ld32, .ldw32: s.put(op.dst, UInt32(truncatingIfNeeded: value))
        case .ldzx8: s.put(op.dst, UInt64(UInt8(truncatingIfNeeded: value)))
        case .ldzx16: s.put(op.dst, UInt64(UInt16(truncatingIfNeeded: value)))
        case .ldsx8x16: s.put(op.dst, UInt16(truncatingIfNeeded: Int8(truncatingIfNeeded: value)))
        case .ldsx8x32: s.put(op.dst, UInt32(truncatingIfNeeded: Int8(truncatingIfNeeded: value)))
        case .ldsx8x64: s.put(op.dst, UInt64(truncatingIfNeeded: Int8(truncatingIfNeeded: value)))
        case .ldsx16x32: s.put(op.dst, UInt32(truncatingIfNeeded: Int16(truncatingIfNeeded: value)))
        case .ldsx16x64: s.put(op.dst, UInt64(truncatingIfNeeded: Int16(truncatingIfNeeded: value)))
        case .ldsx32x64: s.put(op.dst, UInt64(truncatingIfNeeded: Int32(truncatingIfNeeded: value)))
        default: s.put(op.dst, value)
        }
        return true
    }

    /// Makes pc and position exact for an instruction that faults in `op`.
    @inline(never)
    private func fault(_ op: UnsafePointer<MicroOp>, _ state: UnsafeMutableRawPointer) -> EngineExit {
        let core = state.assumingMemoryBound(to: CoreState.self)
        guard let block = core.pointee.currentBlock else { return .fault }
        let index = block.index(of: op, diverted: core.pointee.divertedIndex)
        core.pointee.pc = block.pointee.pc &+ UInt64(block.pointee.pcOffsets[index])
        core.pointee.position &+= UInt64(index)
        return .fault
    }

    /// The block must end after the present instruction: copies the instruction's remaining micro-ops aside, followed
    /// by an exit. Nil when the instruction is the block's last (its end leads to the run loop anyway).
    @inline(never)
    private func divert(_ op: UnsafePointer<MicroOp>, _ state: UnsafeMutableRawPointer) -> UnsafePointer<MicroOp>? {
        let core = state.assumingMemoryBound(to: CoreState.self)
        guard let block = core.pointee.currentBlock else { return nil }
        let start = op - UnsafePointer(block.pointee.ops)
        // Already diverted: the exit follows.
        guard start >= 0, start < Int(block.pointee.opCount) else { return nil }
        let index = block.pointee.instructionIndex[start]
        if UInt32(index) + 1 >= block.pointee.count { return nil }
        var count = 0
        while block.pointee.instructionIndex[start + 1 + count] == index {
            diverted[count] = block.pointee.ops[start + 1 + count]
            count += 1
        }
        let nextPC = block.pointee.pc &+ UInt64(block.pointee.pcOffsets[Int(index) + 1])
        diverted[count] = MicroOp(.leavePartial, b: index + 1, imm: nextPC)
        core.pointee.divertedIndex = UInt64(index)
        return UnsafePointer(diverted)
    }
}
