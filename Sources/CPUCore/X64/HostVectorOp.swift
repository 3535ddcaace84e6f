/// The host's own instruction for a vector helper: what generated code puts in the place of a call.
///
/// Helpers work on operands in the state, and so do these: operands are fetched into XMM0 and XMM1, and the result goes
/// back. Exactly the helper's results, or there must be no entry.
package struct HostVectorOp: Sendable {
    package enum Kind: UInt8, Sendable, Comparable {
        case none
        /// RDTSC: EDX:EAX = the virtual time. By a supervisor, who always may.
        case timestamp
        /// The helper itself, which neither reads nor writes flags.
        case flagless
        /// DIV by slot a, of 1 << imm bytes.
        case divide
        /// dst = dst op a, 16 bytes each; dst = op a.
        case packed, packedUnary
        /// dst = dst shifted by the immediate: an opcode group, chosen by `group`.
        case shiftImmediate
        /// The same with the low 4 or 8 bytes.
        case scalar32, scalar64, scalar32Unary, scalar64Unary
        /// Low 4 bytes to low 8, and back.
        case widen, narrow
        /// Flags of dst against a: 16, 4, 8 bytes.
        case flags128, flags32, flags64
        /// dst is a general register: from 16, 4, 8 bytes of a.
        case toGeneral128, toGeneral32, toGeneral64
        /// a is a general register or temporary, dst the low 4 or 8 bytes.
        case fromGeneral32, fromGeneral64
        /// x87, from here on; dst has the instruction's 11 opcode bits. Registers only; the same that reads or writes
        /// flags; with the memory operand's value in slot a; to the address in slot a; FLDCW.
        case x87Register, x87ReadsFlags, x87Flags, x87Memory, x87Store, x87Control

        @inlinable package static func < (a: Kind, b: Kind) -> Bool { a.rawValue < b.rawValue }
    }
    package var kind = Kind.none
    /// 66, F2, F3 or 0.
    package var prefix: UInt8 = 0
    /// The opcode byte; above it 0F, 0F38 or 0F3A.
    package var opcode: UInt32 = 0
    package var group: UInt8 = 0
    package var hasImmediate = false
    /// REX.W.
    package var isWide = false
    /// Depends on MXCSR and raises its flags.
    package var isFloat = false

    package init() {}
    package init(
        _ kind: Kind, _ prefix: UInt8, _ opcode: UInt32, group: UInt8 = 0, hasImmediate: Bool = false,
        isWide: Bool = false, isFloat: Bool = false
    ) {
        self.kind = kind
        self.prefix = prefix
        self.opcode = opcode
        self.group = group
        self.hasImmediate = hasImmediate
        self.isWide = isWide
        self.isFloat = isFloat
    }
}
