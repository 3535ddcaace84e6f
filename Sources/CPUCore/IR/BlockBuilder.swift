/// All that a guest translator may touch: collects the micro-ops of one block.
package final class BlockBuilder {
    /// No block has more instructions or micro-ops than this.
    package static let maxInstructions = 64
    package static let maxOps = 2048

    package let ops: UnsafeMutablePointer<MicroOp>
    package private(set) var opCount = 0
    let instructionIndex: UnsafeMutablePointer<UInt16>
    package let pcOffsets: UnsafeMutablePointer<UInt16>
    package private(set) var instructionCount = 0
    package private(set) var startPC: UInt64 = 0
    /// Linear address of the first instruction.
    package private(set) var linear: UInt64 = 0

    package init() {
        ops = .allocate(capacity: Self.maxOps)
        instructionIndex = .allocate(capacity: Self.maxOps)
        pcOffsets = .allocate(capacity: Self.maxInstructions + 1)
    }

    deinit {
        ops.deallocate()
        instructionIndex.deallocate()
        pcOffsets.deallocate()
    }

    package func start(pc: UInt64, linear: UInt64) {
        startPC = pc
        self.linear = linear
        opCount = 0
        instructionCount = 0
    }

    /// The following micro-ops belong to the instruction at `pc`.
    package func beginInstruction(pc: UInt64) {
        pcOffsets[instructionCount] = UInt16(truncatingIfNeeded: pc &- startPC)
        instructionCount += 1
    }

    /// Takes the instruction begun last back, with its micro-ops.
    package func dropInstruction() {
        instructionCount -= 1
        while opCount > 0, instructionIndex[opCount - 1] >= UInt16(instructionCount) { opCount -= 1 }
    }

    /// True when another instruction may not fit.
    package var isFull: Bool { instructionCount >= Self.maxInstructions || opCount > Self.maxOps - 128 }

    @inline(__always)
    package func emit(_ op: MicroOp) {
        ops[opCount] = op
        instructionIndex[opCount] = UInt16(truncatingIfNeeded: instructionCount - 1)
        opCount += 1
    }

    @inline(__always)
    package func emit(
        _ opcode: Opcode, dst: UInt16 = 0, a: UInt16 = 0, b: UInt16 = 0, imm: UInt64 = 0
    ) {
        emit(MicroOp(opcode, dst: dst, a: a, b: b, imm: imm))
    }

    /// The last micro-op, for looking at what was just emitted.
    package var last: MicroOp? { opCount == 0 ? nil : ops[opCount - 1] }
}
