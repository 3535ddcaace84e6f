/// A translated run of guest instructions. Ends at a branch, a page's end, or an instruction that leaves.
package struct Block {
    /// Guest PC of the first instruction and of the one after the last.
    package var pc: UInt64
    package var endPC: UInt64
    /// Linear address of the first instruction: `pc` plus the code segment's base.
    package var linear: UInt64
    /// The mode bits it was translated for; `deadMode` once it is invalid.
    package var mode: UInt32
    /// Guest instructions in it.
    package var count: UInt32
    package var opCount: UInt32
    package var ops: UnsafeMutablePointer<MicroOp>
    /// Per micro-op, the index of its instruction.
    package var instructionIndex: UnsafeMutablePointer<UInt16>
    /// Per instruction, its PC minus `pc`.
    package var pcOffsets: UnsafeMutablePointer<UInt16>
    /// Host code; nil as long as the interpreter executes the block.
    package var entry: UnsafeRawPointer?
    /// Executions by the interpreter so far, when there is a code generator.
    package var heat: UInt32 = 0
    /// RAM page numbers the code lies in; the second is -1 unless its one instruction crosses a page.
    package var page: Int32
    package var secondPage: Int32
    /// Next block in the same hash bucket, and in the lists of the two pages.
    var nextInBucket: Int32
    var nextInPage: Int32
    var nextInSecondPage: Int32

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
