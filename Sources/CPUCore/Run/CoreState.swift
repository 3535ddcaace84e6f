/// The part of a CPU's state that the engines know: registers, temporaries, flags, program counter, position.
///
/// It is the first field of every guest architecture's state, so that its offsets are the state's. Plain old data.
package struct CoreState {
    /// Guest general registers. x86 uses the first 16, in encoding order (RAX, RCX, RDX, RBX, RSP, …).
    package var registers = InlineArray<32, UInt64>(repeating: 0)
    /// Temporaries of micro-ops. Dead at the end of every guest instruction.
    package var temps = InlineArray<16, UInt64>(repeating: 0)
    /// Always 0: the operand of an address without base or index.
    package var zero: UInt64 = 0
    /// See `Flags`.
    package var flagResult: UInt64 = 0x100
    package var flagCarry: UInt64 = 1 << 8
    /// The next instruction. x86: RIP or EIP, without the segment's base. Exact between blocks and when leaving.
    package var pc: UInt64 = 0
    /// Retired instructions: exact between blocks; within a block, its start's.
    package var position: UInt64 = 0
    /// The block must end after the present instruction: something happened that the run loop must look at.
    package var exitRequest: UInt64 = 0
    /// The micro-op being executed, stored before slow paths and helpers: gives the exact position within a block.
    package var currentOp: UnsafePointer<MicroOp>?
    /// The block being executed.
    package var currentBlock: UnsafeMutablePointer<Block>?
    /// The instruction index in `currentBlock` of micro-ops that are not the block's own (see `Interpreter.divert`).
    package var divertedIndex: UInt64 = 0
    /// While generated code runs, the arithmetic flags: bit 0 OF, bits 15...8 as LAHF gives them. Otherwise unused.
    package var hostFlags: UInt64 = 0
    /// Generated code must not go beyond this position.
    package var limit: UInt64 = 0
    /// The jump in generated code, as an offset, that led to a PC without known code; 0 for none.
    package var patchSite: UInt64 = 0
    /// What look-ups of the present block found that serve several accesses: to be added to guest addresses.
    package var accessBases = InlineArray<8, UInt64>(repeating: 0)
    /// While generated code runs: the time-stamp counter is position << `clockShift` + `timeOffset`.
    package var clockShift: UInt8 = 0
    package var timeOffset: UInt64 = 0
    /// Bit 0: the host's MXCSR serves the guest's floating point and gathers its exception flags. Bit 1: the host's x87
    /// unit is the guest's. Only while generated code runs.
    package var fpActive: UInt8 = 0
    /// Environments of the host's x87 unit (SDM volume 1, figure 8-9): scratch, and one with all masked, TOP 0, and no
    /// register empty.
    package var x87Environment = InlineArray<7, UInt32>(repeating: 0)
    package var x87CleanEnvironment: InlineArray<7, UInt32> = [0x37F, 0, 0, 0, 0, 0, 0]
    /// MXCSR with everything masked, to nearest, without flags; and a place to store the host's to.
    package var usualMXCSR: UInt32 = 0x1F80
    package var mxcsrScratch: UInt32 = 0
    /// The engine that generated code belongs to, unretained.
    package var engine: UnsafeMutableRawPointer?
    /// What slow-path loads return and slow-path stores take: up to 16 bytes.
    package var transfer: SIMD2<UInt64> = .zero
    /// TLB in use for data accesses at the present privilege.
    package var dataTLB: UnsafeMutablePointer<TLBEntry>
    /// The object behind the state, unretained: helpers and slow paths find the CPU by it.
    package var owner: UnsafeMutableRawPointer?

    package init(dataTLB: UnsafeMutablePointer<TLBEntry>) { self.dataTLB = dataTLB }
}

/// Byte offsets into the state, the operands of micro-ops.
package enum Slot {
    @inlinable @inline(__always) package static func register(_ index: Int) -> UInt16 { UInt16(index * 8) }
    @inlinable @inline(__always) package static func temp(_ index: Int) -> UInt16 { UInt16(256 + index * 8) }
    package static let zero: UInt16 = 384

    /// Checks that the constants above are `CoreState`'s layout. Called once when a CPU is made.
    package static func verifyLayout() {
        precondition(MemoryLayout<CoreState>.offset(of: \.registers) == 0)
        precondition(MemoryLayout<CoreState>.offset(of: \.temps) == 256)
        precondition(MemoryLayout<CoreState>.offset(of: \.zero) == 384)
        precondition(MemoryLayout<MicroOp>.size == 16)
    }
}

/// A shared complex operation, called by both engines. Gets the state, operands `dst` and `a` as byte offsets, and
/// `imm`; returns 0, or not 0 when the instruction faults (the guest's run-time has noted the exception).
package typealias MicroHelper =
    @convention(c) (UnsafeMutableRawPointer, UInt, UInt, UInt64) -> UInt64
