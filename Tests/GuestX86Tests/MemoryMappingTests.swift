import CPUCore
import GuestX86
import MachineState
import TestSupport
import Testing

/// ROM, shadow RAM and the linear frame buffer, as the CPU and bus masters see them.
struct MemoryMappingTests {
    private let ram = GuestRAM(size: 4 << 20, videoSize: 1 << 20, romSize: 0x4_0000)
    private let bus = NullBus()
    private let cpu: X86CPU

    init() {
        cpu = X86CPU(ram: ram, bus: bus)
        ram.loadROM((0..<0x4_0000).map { UInt8(truncatingIfNeeded: $0 >> 12 &+ 1) })
        _ = Unmanaged.passRetained(cpu)
    }

    private func read(_ address: UInt64) -> UInt8 {
        var byte: UInt8 = 0
        withUnsafeMutableBytes(of: &byte) { cpu.dmaRead(address, into: $0) }
        return byte
    }
    private func write(_ address: UInt64, _ byte: UInt8) { withUnsafeBytes(of: byte) { cpu.dmaWrite(address, from: $0) } }

    /// Runs until HLT; what is written to ROM goes to the bus, and the CPU comes back for that.
    private func halts(_ cpu: X86CPU) -> Bool {
        for _ in 0..<20 where cpu.run(until: cpu.position + 100) == .halted { return true }
        return false
    }

    @Test func romIsBelow4GiBAndItsEndBelow1MiB() {
        cpu.setShadow(0)
        #expect(read(0xFFFC_0000) == 1 && read(0xFFFF_FFFF) == 0x40)
        #expect(read(0xE_0000) == 0x21 && read(0xF_FFFF) == 0x40)
        #expect(read(0xC_0000) == 0xFF, "nothing is there")
        write(0xF_0000, 0x55)
        write(0xFFFF_0000, 0x55)
        #expect(read(0xF_0000) == 0x31 && read(0xFFFF_0000) == 0x31)
    }

    @Test func shadowRAM() {
        cpu.setShadow(0)
        // PAM0: write to RAM, read the ROM.
        cpu.setShadow(0x20)
        write(0xF_0000, 0x77)
        #expect(read(0xF_0000) == 0x31)
        cpu.setShadow(0x10)
        #expect(read(0xF_0000) == 0x77)
        write(0xF_0000, 0x66)
        #expect(read(0xF_0000) == 0x77, "it is not written")
        cpu.setShadow(0x30)
        write(0xF_0000, 0x66)
        #expect(read(0xF_0000) == 0x66)
        // PAM1, low half: 0xC0000...0xC3FFF; PAM6, high half: 0xEC000...0xEFFFF.
        cpu.setShadow(0x30_0000_0000_0330)
        write(0xC_3FFF, 1)
        write(0xC_4000, 2)
        write(0xE_C000, 3)
        #expect(read(0xC_3FFF) == 1 && read(0xC_4000) == 0xFF && read(0xE_C000) == 3 && read(0xE_B000) == 0x2C)
    }

    @Test func stateSaysWhereMemoryIs() {
        cpu.setShadow(0)
        cpu.setVideoBase(0xFD00_0000)
        var saved = StateVisitor(.save)
        cpu.visitState(&saved)
        cpu.setShadow(0x30)
        cpu.setVideoBase(0)
        #expect(read(0xFD00_0000) == 0xFF)
        var loading = StateVisitor(loading: saved.bytes)
        cpu.visitState(&loading)
        #expect(read(0xFD00_0000) == 0 && read(0xF_0000) == 0x31)
        write(0xFD0F_FFFF, 9)
        #expect((ram.base + ram.videoOffset + 0xF_FFFF).load(as: UInt8.self) == 9)
        #expect(read(0xFD10_0000) == 0xFF)
    }

    /// Code that starts at the reset vector writes to 0xE0000 and reads it, with ROM and with shadow RAM there.
    @Test(arguments: [EngineKind.interpreter, .best])
    func codeRunsInROM(engine: EngineKind) {
        let ram = GuestRAM(size: 4 << 20, romSize: 0x2_0000)
        let bus = NullBus()
        let cpu = X86CPU(ram: ram, bus: bus, engine: engine)
        var rom = [UInt8](repeating: 0x90, count: 0x2_0000)
        // mov ax, 0xE000; mov ds, ax; mov byte [0], 0x12; mov bl, [0]; hlt
        let code: [UInt8] = [0xB8, 0x00, 0xE0, 0x8E, 0xD8, 0xC6, 0x06, 0x00, 0x00, 0x12, 0x8A, 0x1E, 0x00, 0x00, 0xF4]
        rom.replaceSubrange(0x1_F000..<0x1_F000 + code.count, with: code)
        // At the reset vector: jmp F000:F000.
        rom.replaceSubrange(0x1_FFF0..<0x1_FFF5, with: [0xEA, 0x00, 0xF0, 0x00, 0xF0])
        rom[0] = 0xAB
        ram.loadROM(rom)
        cpu.setShadow(0)
        #expect(halts(cpu))
        #expect(cpu.state.pointee.core.registers[3] & 0xFF == 0xAB)
        cpu.reset()
        // Shadow RAM that is written and not read: the ROM is read still.
        #expect((ram.base + 0xE_0000).load(as: UInt8.self) == 0)
        cpu.setShadow(0x2200_0000_0000)
        #expect(halts(cpu))
        #expect(cpu.state.pointee.core.registers[3] & 0xFF == 0xAB)
        #expect((ram.base + 0xE_0000).load(as: UInt8.self) == 0x12)
        (ram.base + 0xE_0000).storeBytes(of: 0, as: UInt8.self)
        cpu.reset()
        cpu.setShadow(0x33_3333_3333_3300)
        #expect(halts(cpu))
        #expect(cpu.state.pointee.core.registers[3] & 0xFF == 0x12)
        _ = Unmanaged.passRetained(cpu)
    }
}
