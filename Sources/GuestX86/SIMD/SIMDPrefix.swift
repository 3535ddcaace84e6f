/// The mandatory prefix of an MMX or SSE opcode: part of the opcode, not a modifier (SDM volume 2, 2.1.2). F3 and F2
/// win over 66.
package enum SIMDPrefix: Int, Sendable, CaseIterable {
    case none, p66, pF3, pF2
}

extension Instruction {
    /// The prefix that chooses the row of `SIMDMap`.
    package var simdPrefix: SIMDPrefix {
        if hasRep { return .pF3 }
        if hasRepne { return .pF2 }
        return hasOperandSize ? .p66 : .none
    }
}
