/// The parts of the CPU's mode that translated code depends on: with the PC, a block's identity.
package struct ModeBits: OptionSet, Sendable {
    package let rawValue: UInt32
    @inlinable package init(rawValue: UInt32) { self.rawValue = rawValue }

    /// Bits 1...0: the code size, `Decoder.Size`.
    package var codeSize: Decoder.Size { Decoder.Size(rawValue: UInt8(rawValue & 3)) ?? .bits16 }
    package static let stack32 = ModeBits(rawValue: 1 << 2)
    /// CPL 3. Keeps user and supervisor blocks apart, which see different page protections.
    package static let user = ModeBits(rawValue: 1 << 3)
    /// CR0.PE and not EFLAGS.VM.
    package static let protected = ModeBits(rawValue: 1 << 4)
    package static let virtual8086 = ModeBits(rawValue: 1 << 5)
    /// The segment's base is 0, its limit 4 GiB, and it may be read and written.
    package static let flatES = ModeBits(rawValue: 1 << 6)
    package static let flatSS = ModeBits(rawValue: 1 << 7)
    package static let flatDS = ModeBits(rawValue: 1 << 8)
    /// EFLAGS.TF: one instruction a block, one iteration a slice.
    package static let singleStep = ModeBits(rawValue: 1 << 9)
    /// CR0.EM or TS is set, or CR4.OSFXSR clear: x87, MMX and SSE instructions must look.
    package static let fpuMayTrap = ModeBits(rawValue: 1 << 10)
    /// The code segment's base is not 0.
    package static let codeBase = ModeBits(rawValue: 1 << 11)
    /// The code segment's limit is less than what its size can address: jumps must be checked.
    package static let codeLimited = ModeBits(rawValue: 1 << 12)
    /// The segment's limit is 4 GiB, and it may be read and written, wherever it begins: where 32-bit systems keep what
    /// belongs to a processor or a thread. GS counts in user code only, where FS does not matter to kernels: their code is
    /// not to be translated again for each program's GS.
    package static let wideFS = ModeBits(rawValue: 1 << 13)
    package static let wideGS = ModeBits(rawValue: 1 << 14)
}
