import Boundary
import GuestX86
import MachineState

/// The PC's processor as gdb knows it (gdb manual, "Standard Target Features", "i386 Features").
extension PCMachine: DebugTarget {
    private static let long = "i386:x86-64"
    private static let protected = "i386"

    /// The linear address of the top of the stack.
    package var stackPointer: UInt64 {
        let state = cpu.state.pointee
        let isLong = state.efer & EFER.lma != 0
        return state.core.registers[4] &+ (isLong ? 0 : state.segments[2].base)
    }

    package var architectures: [String] { [Self.long, Self.protected] }
    package var architectureNow: String {
        cpu.state.pointee.efer & EFER.lma != 0 ? Self.long : Self.protected
    }

    /// General registers in gdb's order, as indices in encoding order.
    private static let order64 = [0, 3, 1, 2, 6, 7, 5, 4, 8, 9, 10, 11, 12, 13, 14, 15]
    private static let order32 = [0, 1, 2, 3, 4, 5, 6, 7]
    private static let names64 = [
        "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
    ]
    private static let names32 = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"]
    /// Segment registers in gdb's order, as indices in encoding order: CS, SS, DS, ES, FS, GS.
    private static let segmentOrder = [1, 2, 3, 0, 4, 5]

    package func registers(of architecture: String) -> [DebugRegister] {
        let isLong = architecture == Self.long
        let core = "org.gnu.gdb.i386.core"
        let sse = "org.gnu.gdb.i386.sse"
        let system = "emu.x86.system"
        let word = isLong ? 64 : 32
        func number(_ name: String, _ bits: Int, _ feature: String) -> DebugRegister {
            DebugRegister(name, bits, "int\(bits)", feature)
        }
        var list: [DebugRegister] = []
        for index in isLong ? Self.order64 : Self.order32 {
            let name = isLong ? Self.names64[index] : Self.names32[index]
            let isPointer = index == 4 || index == 5
            list.append(DebugRegister(name, word, isPointer ? "data_ptr" : "int\(word)", core))
        }
        list.append(DebugRegister(isLong ? "rip" : "eip", word, "code_ptr", core))
        list.append(DebugRegister("eflags", 32, "i386_eflags", core))
        for name in ["cs", "ss", "ds", "es", "fs", "gs"] { list.append(number(name, 32, core)) }
        for index in 0..<8 { list.append(DebugRegister("st\(index)", 80, "i387_ext", core)) }
        for name in ["fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop"] {
            list.append(number(name, 32, core))
        }
        for index in 0..<(isLong ? 16 : 8) { list.append(DebugRegister("xmm\(index)", 128, "vec128", sse)) }
        list.append(DebugRegister("mxcsr", 32, "i386_mxcsr", sse))
        if isLong {
            list.append(number("fs_base", 64, "org.gnu.gdb.i386.segments"))
            list.append(number("gs_base", 64, "org.gnu.gdb.i386.segments"))
        }
        for name in ["cr0", "cr2", "cr3", "cr4", "cr8", "efer", "gdt_base", "idt_base", "k_gs_base"] {
            list.append(number(name, isLong ? 64 : 32, system))
        }
        for name in ["gdt_limit", "idt_limit", "tr", "ldtr", "cpl"] { list.append(number(name, 32, system)) }
        return list
    }

    package func registerValues(of architecture: String) -> [UInt8] {
        let isLong = architecture == Self.long
        let word = isLong ? 8 : 4
        let state = cpu.state.pointee
        var bytes: [UInt8] = []
        bytes.reserveCapacity(800)
        func put(_ value: UInt64, _ size: Int) {
            for index in 0..<size { bytes.append(UInt8(truncatingIfNeeded: value >> UInt64(index * 8))) }
        }
        for index in isLong ? Self.order64 : Self.order32 { put(state.core.registers[index], word) }
        put(state.core.pc, word)
        put(UInt64(state.eflags), 4)
        for index in Self.segmentOrder { put(UInt64(state.segments[index].selector), 4) }
        let fpu = state.fpu
        let top = Int(fpu.status >> 11) & 7
        for index in 0..<8 {
            let register = fpu.registers[(top + index) & 7]
            put(register.significand, 8)
            put(UInt64(register.signExponent), 2)
        }
        put(UInt64(fpu.control), 4)
        put(UInt64(fpu.status), 4)
        put(UInt64(fpu.tagWord), 4)
        put(UInt64(fpu.instructionSelector), 4)
        put(fpu.instructionPointer, 4)
        put(UInt64(fpu.dataSelector), 4)
        put(fpu.dataPointer, 4)
        put(UInt64(fpu.opcode), 4)
        for index in 0..<(isLong ? 16 : 8) {
            put(fpu.xmm[index].x, 8)
            put(fpu.xmm[index].y, 8)
        }
        put(UInt64(fpu.mxcsr), 4)
        if isLong {
            put(state.segments[4].base, 8)
            put(state.segments[5].base, 8)
        }
        let system = [
            state.cr0, state.cr2, state.cr3, state.cr4, state.cr8, state.efer, state.gdtBase, state.idtBase,
            state.kernelGSBase,
        ]
        for value in system { put(value, word) }
        let limits = [
            UInt64(state.gdtLimit), UInt64(state.idtLimit), UInt64(state.tr.selector), UInt64(state.ldtr.selector),
            UInt64(state.cpl),
        ]
        for value in limits { put(value, 4) }
        return bytes
    }

    package func readMemory(_ address: UInt64, count: Int, isPhysical: Bool) -> [UInt8]? {
        cpu.probe(address, count: count, isPhysical: isPhysical)
    }
    package func physicalAddress(of address: UInt64) -> UInt64? { cpu.physicalAddress(ofLinear: address) }

    package func describeState(_ prefix: String) -> [(name: String, value: String)] {
        describe().filter { $0.name.hasPrefix(prefix) }.map { ($0.name, $0.value) }
    }
    package var partNames: [String] { ["cpu", "vga"] + (board?.devices.map(\.name) ?? []) }
}
