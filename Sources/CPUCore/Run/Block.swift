/// A translated run of guest instructions. Ends at a branch, a page's end, or an instruction that leaves.
///
/// What finds and enters a block comes first: blocks are two cache lines, and mostly only the first is looked at.
package struct Block {
    /// Guest PC of the first instruction.
    package var pc: UInt64
    /// Linear address of the first instruction: `pc` plus the code segment's base.
    package var linear: UInt64
    /// Host code; nil as long as the interpreter executes the block.
    package var entry: UnsafeRawPointer?
    /// The mode bits it was translated for; `deadMode` once it is invalid.
    package var mode: UInt32
    /// RAM page numbers the code lies in; the second is -1 unless its one instruction crosses a page.
    package var page: Int32
    package var secondPage: Int32
    /// Next block in the same hash bucket.
    var nextInBucket: Int32
    /// Guest instructions in it.
    package var count: UInt32
    /// Executions by the interpreter so far, when there is a code generator.
    package var heat: UInt32 = 0
    package var ops: UnsafeMutablePointer<MicroOp>
    /// Guest PC after the last instruction.
    package var endPC: UInt64
    /// Per micro-op, the index of its instruction.
    package var instructionIndex: UnsafeMutablePointer<UInt16>
    /// Per instruction, its PC minus `pc`.
    package var pcOffsets: UnsafeMutablePointer<UInt16>
    package var opCount: UInt32
    /// Next block in the lists of the two pages.
    var nextInPage: Int32
    var nextInSecondPage: Int32
    private var padding: InlineArray<9, UInt32> = InlineArray(repeating: 0)

    init(
        pc: UInt64, endPC: UInt64, linear: UInt64, mode: UInt32, count: UInt32, opCount: UInt32,
        ops: UnsafeMutablePointer<MicroOp>, instructionIndex: UnsafeMutablePointer<UInt16>,
        pcOffsets: UnsafeMutablePointer<UInt16>, page: Int32, secondPage: Int32
    ) {
        self.pc = pc
        self.linear = linear
        self.mode = mode
        self.page = page
        self.secondPage = secondPage
        nextInBucket = -1
        self.count = count
        self.ops = ops
        self.endPC = endPC
        self.instructionIndex = instructionIndex
        self.pcOffsets = pcOffsets
        self.opCount = opCount
        nextInPage = -1
        nextInSecondPage = -1
    }

    /// No CPU mode: marks a block that must not be found.
    package static let deadMode = UInt32.max
}

extension UnsafeMutablePointer where Pointee == Block {
    /// The index of the instruction that `op` belongs to.
    package func index(of op: UnsafePointer<MicroOp>, diverted: UInt64) -> Int {
        let index = op - UnsafePointer(pointee.ops)
        return index >= 0 && index < Int(pointee.opCount) ? Int(pointee.instructionIndex[index]) : Int(diverted)
    }
}
