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
        static let xmm: UInt16 = 32
    }
    /// The bits of EFLAGS that can be set: all that POPF at CPL 0 can, but VM, VIF and VIP.
    private static let settableFlags: UInt32 = 0x0025_7FD5

    package func registerEdit(_ register: DebugRegister, _ bytes: [UInt8]) -> Edit? {
        guard let number = Self.number(register.name) else { return nil }
        let size = number >= Number.xmm ? 16 : 8
        guard bytes.count <= size else { return nil }
        return .register(number: number, bytes: bytes + Array(repeating: 0, count: size - bytes.count))
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
            if name.hasPrefix("xmm"), let index = UInt16(name.dropFirst(3)), index < 16 { return Number.xmm + index }
            return nil
        }
    }

    package func edit(_ edit: Edit) {
        switch edit {
        case .memory(let address, let bytes): bytes.withUnsafeBytes { cpu.dmaWrite(address, from: $0) }
        case .register(let number, let bytes):
            func word(_ start: Int) -> UInt64 {
                bytes.dropFirst(start).prefix(8).reversed().reduce(0) { $0 << 8 | UInt64($1) }
            }
            let state = cpu.state
            switch number {
            case 0..<16: state.pointee.core.registers[Int(number)] = word(0)
            case Number.pc: state.pointee.core.pc = word(0)
            case Number.flags:
                let flags = UInt32(truncatingIfNeeded: word(0))
                state.pointee.eflags = (state.pointee.eflags & ~Self.settableFlags) | (flags & Self.settableFlags)
            case Number.fsBase: state.pointee.segments[4].base = word(0)
            case Number.gsBase: state.pointee.segments[5].base = word(0)
            case Number.mxcsr: state.pointee.fpu.mxcsr = UInt32(truncatingIfNeeded: word(0)) & 0xFFFF
            case Number.xmm..<Number.xmm + 16:
                state.pointee.fpu.xmm[Int(number - Number.xmm)] = SIMD2(word(0), word(8))
            default: break
            }
        }
    }
}
