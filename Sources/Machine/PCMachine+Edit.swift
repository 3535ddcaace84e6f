import Boundary
import CPUCore
import GuestX86

/// Changes from outside, by a debugger's user.
extension PCMachine {
    /// Numbers of registers in the log (docs/log-format.md).
    private enum Number {
        static let pc: UInt16 = 16
        static let flags: UInt16 = 17
        static let fsBase: UInt16 = 18
        static let gsBase: UInt16 = 19
        static let mxcsr: UInt16 = 20
        /// Those of `ruled`, in its order.
        static let firstRuled: UInt16 = 21
        static let xmm: UInt16 = 32
        /// ES, CS, SS, DS, FS, GS, LDTR, TR with their hidden parts.
        static let segment: UInt16 = 48
        /// ST(0) to ST(7).
        static let stack: UInt16 = 56
        /// Those of `x87`, in its order.
        static let x87: UInt16 = 64
        /// Registers with 16 bytes in the log; all others have 8.
        static let wide = xmm..<x87
    }
    /// The bits of EFLAGS that can be set: all that POPF at CPL 0 can, but VM, VIF and VIP.
    private static let settableFlags: UInt32 = 0x0025_7FD5
    /// Control registers, by gdb's names; append only.
    private static let ruled: [(name: String, register: X86CPU.RuledRegister)] = [
        ("cr0", .cr0), ("cr2", .cr2), ("cr3", .cr3), ("cr4", .cr4), ("efer", .efer), ("gdt_base", .gdtBase),
        ("idt_base", .idtBase), ("k_gs_base", .kernelGSBase), ("gdt_limit", .gdtLimit), ("idt_limit", .idtLimit),
    ]
    /// In the order of segments' numbers.
    private static let segmentNames = ["es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"]
    /// The x87 unit's control registers, by gdb's names; append only.
    private static let x87Names = ["fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop"]

    package func registerEdit(_ register: DebugRegister, _ bytes: [UInt8]) -> Edit? {
        guard let number = Self.number(register.name) else { return nil }
        let size = Number.wide.contains(number) ? 16 : 8
        guard bytes.count <= size else { return nil }
        let value = Self.word(bytes, 0)
        if let ruled = Self.ruled(number), !cpu.allows(ruled, value) { return nil }
        if (Number.segment..<Number.stack).contains(number) {
            let index = Int(number - Number.segment)
            guard value < 1 << 16 else { return nil }
            let selector = UInt16(value)
            let loaded = index < 6
                ? cpu.segment(index, loading: selector) : cpu.systemSegment(isTask: index == 7, loading: selector)
            return loaded.map { .register(number: number, bytes: Self.bytes($0)) }
        }
        return .register(number: number, bytes: bytes + Array(repeating: 0, count: size - bytes.count))
    }

    private static func ruled(_ number: UInt16) -> X86CPU.RuledRegister? {
        let index = Int(number) - Int(Number.firstRuled)
        return ruled.indices.contains(index) ? ruled[index].register : nil
    }

    private static func number(_ name: String) -> UInt16? {
        switch name {
        case "rip", "eip": return Number.pc
        case "eflags": return Number.flags
        case "fs_base": return Number.fsBase
        case "gs_base": return Number.gsBase
        case "mxcsr": return Number.mxcsr
        default:
            let general = [
                "ax", "cx", "dx", "bx", "sp", "bp", "si", "di", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
            ]
            let short = name.hasPrefix("e") || name.hasPrefix("r") && general.contains(String(name.dropFirst()))
            if let index = general.firstIndex(of: short ? String(name.dropFirst()) : name) { return UInt16(index) }
            if let index = ruled.firstIndex(where: { $0.name == name }) { return Number.firstRuled + UInt16(index) }
            if let index = segmentNames.firstIndex(of: name) { return Number.segment + UInt16(index) }
            if let index = x87Names.firstIndex(of: name) { return Number.x87 + UInt16(index) }
            if name.hasPrefix("xmm"), let index = UInt16(name.dropFirst(3)), index < 16 { return Number.xmm + index }
            if name.hasPrefix("st"), let index = UInt16(name.dropFirst(2)), index < 8 { return Number.stack + index }
            return nil
        }
    }

    /// Eight bytes, little endian; what is not there is 0.
    private static func word(_ bytes: [UInt8], _ start: Int) -> UInt64 {
        bytes.dropFirst(start).prefix(8).reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// Selector (2 bytes), attributes (2), limit (4), base (8).
    private static func bytes(_ segment: Segment) -> [UInt8] {
        let low = UInt64(segment.selector) | UInt64(segment.attributes) << 16 | UInt64(segment.limit) << 32
        return [low, segment.base].flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> UInt64($0 * 8)) } }
    }

    package func edit(_ edit: Edit) {
        switch edit {
        case .memory(let address, let bytes): bytes.withUnsafeBytes { cpu.dmaWrite(address, from: $0) }
        case .register(let number, let bytes): write(number, Self.word(bytes, 0), Self.word(bytes, 8))
        }
    }

    /// Writes a register's low and high eight bytes. A recording is a file: a number or value that there is not changes
    /// nothing.
    private func write(_ number: UInt16, _ low: UInt64, _ high: UInt64) {
        let state = cpu.state
        switch number {
        case 0..<16: state.pointee.core.registers[Int(number)] = low
        case Number.pc: state.pointee.core.pc = low
        case Number.flags:
            let flags = UInt32(truncatingIfNeeded: low)
            state.pointee.eflags = (state.pointee.eflags & ~Self.settableFlags) | (flags & Self.settableFlags)
        case Number.fsBase: state.pointee.segments[4].base = low
        case Number.gsBase: state.pointee.segments[5].base = low
        case Number.mxcsr: state.pointee.fpu.mxcsr = UInt32(truncatingIfNeeded: low) & 0xFFFF
        case Number.firstRuled..<Number.xmm: if let register = Self.ruled(number) { cpu.set(register, low) }
        case Number.xmm..<Number.segment: state.pointee.fpu.xmm[Int(number - Number.xmm)] = SIMD2(low, high)
        case Number.segment..<Number.stack:
            cpu.setSegment(
                Int(number - Number.segment),
                Segment(
                    selector: UInt16(truncatingIfNeeded: low), attributes: UInt16(truncatingIfNeeded: low >> 16),
                    limit: UInt32(truncatingIfNeeded: low >> 32), base: high))
        case Number.stack..<Number.x87:
            let physical = (Int(state.pointee.fpu.status >> 11) + Int(number - Number.stack)) & 7
            state.pointee.fpu.registers[physical] = Float80Bits(
                significand: low, signExponent: UInt16(truncatingIfNeeded: high))
            // Who writes a register wants it to be there.
            state.pointee.fpu.tagValid |= 1 << UInt8(physical)
        default: writeX87(Int(number) - Int(Number.x87), low)
        }
    }

    private func writeX87(_ index: Int, _ value: UInt64) {
        let state = cpu.state
        let half = UInt16(truncatingIfNeeded: value)
        switch index {
        case 0: state.pointee.fpu.setControl(half)
        case 1:
            state.pointee.fpu.status = half
            state.pointee.fpu.updatePending()
        case 2: state.pointee.fpu.tagWord = half
        case 3: state.pointee.fpu.instructionSelector = half
        case 4: state.pointee.fpu.instructionPointer = value
        case 5: state.pointee.fpu.dataSelector = half
        case 6: state.pointee.fpu.dataPointer = value
        case 7: state.pointee.fpu.opcode = half & 0x7FF
        default: break
        }
    }
}
