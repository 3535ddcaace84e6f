import CPUCore
import GuestX86
import TestSupport
import Testing

/// External interrupts, their shadows, HLT and NMI (SDM volume 3, 6.8, 6.7; volume 2, STI, MOV, HLT).
@Suite struct InterruptTests {
    private func fixture(_ code: [UInt8]) -> CPUFixture {
        let fixture = CPUFixture(.protected32)
        fixture.bus.vector = 0x30
        fixture.bus.onAcknowledge = { [state = fixture.state] in state.pointee.interruptLine = false }
        fixture.state.pointee.interruptLine = true
        fixture.load(code)
        return fixture
    }
    private func returnAddress(_ fixture: CPUFixture) -> UInt32 {
        fixture.read32(fixture[.rsp]) - UInt32(CPUFixture.code)
    }

    /// After STI one more instruction is executed.
    @Test func shadowOfSTI() {
        let fixture = fixture([0xFB, 0x90, 0x90, 0xF4])
        fixture.run()
        #expect(fixture.haltedVector == 0x30)
        #expect(returnAddress(fixture) == 2)
        #expect(fixture.bus.acknowledged == 1)
    }

    /// STI with interrupts enabled already has no shadow.
    @Test func noShadowWhenEnabled() {
        let fixture = fixture([0xFB, 0xFB, 0x90, 0xF4])
        fixture.run()
        #expect(returnAddress(fixture) == 2)
    }

    /// STI, CLI: no interrupt in between.
    @Test func shadowThenCLI() {
        let fixture = fixture([0xFB, 0xFA, 0x90, 0xF4])
        #expect(fixture.run() == .halted)
        #expect(fixture.haltedVector == nil)
        #expect(fixture.bus.acknowledged == 0)
    }

    /// STI, HLT: the interrupt wakes the processor, and the return address is behind HLT.
    @Test func wakeFromHalt() {
        let fixture = fixture([0xFB, 0xF4, 0x90])
        fixture.run()
        #expect(fixture.haltedVector == 0x30)
        #expect(returnAddress(fixture) == 2)
    }

    /// MOV SS and POP SS hold interrupts off for one instruction.
    @Test func shadowOfStackSwitch() {
        // sti; mov eax, 0x10; mov ss, eax; mov esp, 0x7000; nop; hlt
        let code: [UInt8] = [0xFB, 0xB8, 0x10, 0x00, 0x00, 0x00, 0x8E, 0xD0, 0xBC, 0x00, 0x70, 0x00, 0x00, 0x90, 0xF4]
        let fixture = fixture(code)
        // The line rises when SS is loaded.
        fixture.state.pointee.interruptLine = false
        fixture.run(3)
        fixture.state.pointee.interruptLine = true
        fixture.run()
        #expect(fixture.haltedVector == 0x30)
        #expect(fixture[.rsp] == 0x7000 - 12)
        #expect(returnAddress(fixture) == UInt32(code.count) - 2)
    }

    /// POPF that enables interrupts has no shadow.
    @Test func popFlags() {
        // push 0x202; popfd; nop; hlt
        let code: [UInt8] = [0x68, 0x02, 0x02, 0x00, 0x00, 0x9D, 0x90, 0xF4]
        let fixture = fixture(code)
        fixture.run()
        #expect(returnAddress(fixture) == UInt32(code.count) - 2)
    }

    /// An NMI is taken with interrupts off; another waits until IRET.
    @Test func nonMaskable() {
        // nop; nop; hlt
        let code: [UInt8] = [0x90, 0x90, 0xF4]
        // inc ebx; cmp ebx, 2; jae done; nop; nop; done: iretd
        let handler: [UInt8] = [0x43, 0x83, 0xFB, 0x02, 0x0F, 0x83, 0x02, 0x00, 0x00, 0x00, 0x90, 0x90, 0xCF]
        let fixture = fixture(code)
        fixture.state.pointee.interruptLine = false
        fixture.write(0x2_1000, handler)
        fixture.setGate(2, CPUFixture.kernelCode, 0x2_1000)
        fixture[.rbx] = 0
        fixture.state.pointee.nmiPending = true
        fixture.run(2)
        #expect(fixture[.rbx] == 1)
        fixture.state.pointee.nmiPending = true
        fixture.run(3)
        #expect(fixture[.rbx] == 1)
        #expect(fixture.run() == .halted)
        #expect(fixture[.rbx] == 2)
        #expect(!fixture.state.pointee.nmiBlocked)
    }

    /// An interrupt comes between two elements of a repeated string instruction, and it goes on afterwards.
    @Test func withinRepeatedString() {
        // sti; mov edi, 0x30000; mov ecx, 20000; rep stosb; hlt
        let code: [UInt8] = [0xFB, 0xBF, 0x00, 0x00, 0x03, 0x00, 0xB9, 0x20, 0x4E, 0x00, 0x00, 0xF3, 0xAA, 0xF4]
        // mov ebx, ecx; mov edx, [esp]; iretd
        let handler: [UInt8] = [0x89, 0xCB, 0x8B, 0x14, 0x24, 0xCF]
        let fixture = fixture(code)
        fixture.state.pointee.interruptLine = false
        fixture.write(0x2_1000, handler)
        fixture.setGate(0x30, CPUFixture.kernelCode, 0x2_1000)
        fixture[.rax] = 0xEE
        fixture.run(4)
        fixture.state.pointee.interruptLine = true
        #expect(fixture.run() == .halted)
        #expect(fixture[.rbx] > 0)
        #expect(fixture[.rbx] < 20000)
        #expect(fixture[.rdx] == CPUFixture.code + UInt64(code.count) - 3)
        #expect(fixture[.rcx] == 0)
        #expect(fixture.read(0x3_0000, count: 20001) == [UInt8](repeating: 0xEE, count: 20000) + [0])
    }
}
