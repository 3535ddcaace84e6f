import CPUCore

/// Byte offsets of parts of `X86State`, as operands of micro-ops.
package enum StateLayout {
    private static func offset<T>(_ path: PartialKeyPath<X86State>, _: T.Type) -> UInt16 {
        UInt16(MemoryLayout<X86State>.offset(of: path)!)
    }
    package static let fpu = offset(\.fpu, FPUState.self)
    /// Physical x87 register 0; the others follow every 16 bytes. MMX registers are their low 8 bytes.
    package static let x87 = fpu + UInt16(MemoryLayout<FPUState>.offset(of: \.registers)!)
    /// XMM0; the others follow every 16 bytes.
    package static let xmm = fpu + UInt16(MemoryLayout<FPUState>.offset(of: \.xmm)!)
    /// Two 16-byte scratch slots for memory operands.
    package static let scratch = fpu + UInt16(MemoryLayout<FPUState>.offset(of: \.scratch)!)
    /// MXCSR, 32 bits.
    package static let mxcsr = fpu + UInt16(MemoryLayout<FPUState>.offset(of: \.mxcsr)!)
    #if arch(x86_64)
        package static let x87Slots = {
            func slot(_ path: PartialKeyPath<FPUState>) -> UInt16 { fpu + UInt16(MemoryLayout<FPUState>.offset(of: path)!) }
            return X87Slots(
                registers: x87, control: slot(\.control), status: slot(\.status), tags: slot(\.tagValid),
                opcode: slot(\.opcode), instruction: slot(\.instructionPointer), data: slot(\.dataPointer))
        }()
    #endif
    package static let systemFlags = offset(\.systemFlags, UInt32.self)
    package static let cpl = offset(\.cpl, UInt8.self)
    package static let tscAux = offset(\.tscAux, UInt64.self)
    package static let segments = offset(\.segments, Segment.self)
    /// Segment `index`'s base, 64 bits, and selector, 16 bits.
    package static func base(_ index: Int) -> UInt16 {
        segments + UInt16(index * MemoryLayout<Segment>.stride + MemoryLayout<Segment>.offset(of: \.base)!)
    }
    package static func selector(_ index: Int) -> UInt16 {
        segments + UInt16(index * MemoryLayout<Segment>.stride)
    }
}
