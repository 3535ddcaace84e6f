import MachineState

/// An 80-bit x87 register: explicit integer bit, 15-bit biased exponent, sign (SDM volume 1, 4.2.2).
package struct Float80Bits: Equatable, Sendable {
    /// Bits 63...0: integer bit and fraction. An MMX register is this half.
    package var significand: UInt64 = 0
    /// Bits 79...64: sign in bit 15, exponent biased by 16383 in bits 14...0.
    package var signExponent: UInt16 = 0
    @inlinable package init(significand: UInt64 = 0, signExponent: UInt16 = 0) {
        self.significand = significand
        self.signExponent = signExponent
    }
}

/// x87, MMX and SSE registers. Plain old data at fixed offsets in `X86State`: generated code addresses it.
package struct FPUState {
    /// Physical registers R0...R7 (not ST order: ST(i) is R((TOP + i) & 7)). Stride 16 bytes.
    package var registers = InlineArray<8, Float80Bits>(repeating: Float80Bits())
    /// Control word (FCW), after FNINIT 0x37F.
    package var control: UInt16 = 0x37F
    /// Status word (FSW) with TOP in bits 13...11.
    package var status: UInt16 = 0
    /// Abridged tag word (FXSAVE's form): bit i set when physical register Ri is not empty.
    package var tagValid: UInt8 = 0
    /// Last non-control instruction's opcode, 11 bits.
    package var opcode: UInt16 = 0
    /// Its address and that of its memory operand (FIP, FDP) and selectors (FCS, FDS).
    package var instructionPointer: UInt64 = 0
    package var dataPointer: UInt64 = 0
    package var instructionSelector: UInt16 = 0
    package var dataSelector: UInt16 = 0
    /// SSE control and status.
    package var mxcsr: UInt32 = 0x1F80
    /// XMM0...XMM15, 16 bytes each, low half first.
    package var xmm = InlineArray<16, SIMD2<UInt64>>(repeating: .zero)
    /// 16-byte scratch that micro-ops load memory operands into. Not guest state.
    package var scratch = InlineArray<2, SIMD2<UInt64>>(repeating: .zero)

    package init() {}

    package mutating func visit(_ visitor: inout StateVisitor) {
        for index in 0..<8 {
            visitor.field("r\(index).significand", &registers[index].significand)
            visitor.field("r\(index).signExponent", &registers[index].signExponent)
        }
        visitor.field("control", &control)
        visitor.field("status", &status)
        visitor.field("tagValid", &tagValid)
        visitor.field("opcode", &opcode)
        visitor.field("instructionPointer", &instructionPointer)
        visitor.field("dataPointer", &dataPointer)
        visitor.field("instructionSelector", &instructionSelector)
        visitor.field("dataSelector", &dataSelector)
        visitor.field("mxcsr", &mxcsr)
        for index in 0..<16 {
            visitor.field("xmm\(index).low", &xmm[index].x)
            visitor.field("xmm\(index).high", &xmm[index].y)
        }
    }
}
