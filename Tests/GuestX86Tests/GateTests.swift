import CPUCore
import GuestX86
import TestSupport
import Testing

/// Interrupt and call gates of protected mode, with and without a change of privilege (SDM volume 3, 5.8, 6.12).
@Suite struct GateTests {
    private static let userStack: UInt64 = 0x3_0000

    private func user(_ code: [UInt8]) -> CPUFixture {
        let fixture = CPUFixture(.protected32)
        fixture.setSegments(code: CPUFixture.userCode32, data: CPUFixture.userData)
        fixture[.rsp] = Self.userStack
        fixture.load(code)
        return fixture
    }

    @Test func interruptFromUserSwitchesTheStack() {
        // stc; int 0x80; mov ecx, 7; int 0x81
        let code: [UInt8] = [0xF9, 0xCD, 0x80, 0xB9, 0x07, 0x00, 0x00, 0x00, 0xCD, 0x81]
        // mov edx, [esp+12]; mov ebx, [esp]; mov esi, cs; mov edi, ss; iretd
        let handler: [UInt8] = [0x8B, 0x54, 0x24, 0x0C, 0x8B, 0x1C, 0x24, 0x8C, 0xCE, 0x8C, 0xD7, 0xCF]
        let fixture = user(code)
        fixture.write(0x2_1000, handler)
        fixture.setGate(0x80, CPUFixture.kernelCode, 0x2_1000, dpl: 3)
        fixture.setGate(0x81, CPUFixture.kernelCode, CPUFixture.handler(0x81), dpl: 3)
        fixture.run()
        #expect(fixture.haltedVector == 0x81)
        #expect(fixture[.rcx] == 7)
        #expect(fixture[.rdx] == Self.userStack)
        #expect(fixture[.rbx] == CPUFixture.code + 3)
        #expect(fixture[.rsi] == 8)
        #expect(fixture[.rdi] == 0x10)
        // EIP, CS, EFLAGS, ESP, SS.
        let frame = CPUFixture.stackTop - 20
        #expect(fixture[.rsp] == frame)
        #expect(fixture.read32(frame) == UInt32(CPUFixture.code) + UInt32(code.count))
        #expect(fixture.read32(frame + 4) == 0x23)
        #expect(fixture.read32(frame + 8) & 1 == 1)
        #expect(fixture.read32(frame + 12) == UInt32(Self.userStack))
        #expect(fixture.read32(frame + 16) == 0x2B)
    }

    /// INT n through a gate whose DPL is 0: #GP with the vector as error code, IDT bit set.
    @Test func gatePrivilege() {
        let fixture = user([0xCD, 0x20])
        fixture.run()
        #expect(fixture.haltedVector == 13)
        #expect(fixture.read32(fixture[.rsp]) == 0x20 * 8 + 2)
        #expect(fixture.read32(fixture[.rsp] + 4) == UInt32(CPUFixture.code))
    }

    @Test func gateNotPresent() {
        let fixture = user([0xCD, 0x20])
        let gate = CPUFixture.gate(CPUFixture.kernelCode, 0x2_1000, type: 14, dpl: 3) & ~(1 << 47)
        fixture.write64(CPUFixture.idt + 0x20 * 8, gate)
        fixture.run()
        #expect(fixture.haltedVector == 11)
        #expect(fixture.read32(fixture[.rsp]) == 0x20 * 8 + 2)
    }

    /// Interrupt gates clear IF, trap gates leave it.
    @Test(arguments: [(UInt8(14), UInt32(0)), (15, 0x200)])
    func interruptFlag(type: UInt8, expected: UInt32) {
        let fixture = user([0xCD, 0x20])
        fixture.state.pointee.systemFlags |= EFlags.if
        fixture.setGate(0x20, CPUFixture.kernelCode, CPUFixture.handler(0x20), type: type, dpl: 3)
        fixture.run()
        #expect(fixture.haltedVector == 0x20)
        #expect(fixture.state.pointee.eflags & 0x200 == expected)
    }

    /// A call gate copies parameters to the inner stack; RET n comes back over both stacks.
    @Test func callGateWithParameters() {
        // push 0x1111; push 0x2222; call 0x63:0; mov ebp, esp; int 0x81
        let code: [UInt8] = [
            0x68, 0x11, 0x11, 0x00, 0x00, 0x68, 0x22, 0x22, 0x00, 0x00, 0x9A, 0x00, 0x00, 0x00, 0x00, 0x63,
            0x00, 0x89, 0xE5, 0xCD, 0x81,
        ]
        // mov eax, [esp+8]; mov ebx, [esp+12]; mov ecx, [esp+16]; mov edx, [esp+20]; mov esi, cs; retf 8
        let handler: [UInt8] = [
            0x8B, 0x44, 0x24, 0x08, 0x8B, 0x5C, 0x24, 0x0C, 0x8B, 0x4C, 0x24, 0x10, 0x8B, 0x54, 0x24, 0x14,
            0x8C, 0xCE, 0xCA, 0x08, 0x00,
        ]
        let fixture = user(code)
        fixture.write(0x2_1000, handler)
        fixture.setDescriptor(
            CPUFixture.freeSelector,
            CPUFixture.gate(CPUFixture.kernelCode, 0x2_1000, type: 12, dpl: 3, count: 2))
        fixture.setGate(0x81, CPUFixture.kernelCode, CPUFixture.handler(0x81), dpl: 3)
        fixture.run()
        #expect(fixture.haltedVector == 0x81)
        #expect(fixture[.rax] == 0x2222)
        #expect(fixture[.rbx] == 0x1111)
        #expect(fixture[.rcx] == Self.userStack - 8)
        #expect(fixture[.rdx] == 0x2B)
        #expect(fixture[.rsi] == 8)
        #expect(fixture[.rbp] == Self.userStack)
    }

    @Test func callGateWithoutPrivilege() {
        // call 0x63:0
        let code: [UInt8] = [0x9A, 0x00, 0x00, 0x00, 0x00, 0x63, 0x00]
        let fixture = user(code)
        fixture.setDescriptor(
            CPUFixture.freeSelector, CPUFixture.gate(CPUFixture.kernelCode, 0x2_1000, type: 12, dpl: 0))
        fixture.run()
        #expect(fixture.haltedVector == 13)
        #expect(fixture.read32(fixture[.rsp]) == 0x60)
    }

    /// On a return to an outer level data segments that it may not use become null.
    @Test func returnClearsPrivilegedSegments() {
        // mov ax, 0x10; mov es, ax; push 0x2B; push 0x30000; push 0x23; push 0x20100; retf
        let code: [UInt8] = [
            0x66, 0xB8, 0x10, 0x00, 0x66, 0x8E, 0xC0, 0x6A, 0x2B, 0x68, 0x00, 0x00, 0x03, 0x00, 0x6A, 0x23,
            0x68, 0x00, 0x01, 0x02, 0x00, 0xCB,
        ]
        // mov eax, es; mov ebx, ds; int 3
        let target: [UInt8] = [0x8C, 0xC0, 0x8C, 0xDB, 0xCD, 0x03]
        let fixture = CPUFixture(.protected32)
        fixture.load(code)
        fixture.write(0x2_0100, target)
        fixture.state.pointee.segments[3] = Segment(selector: 0x2B, attributes: 0xC0F3, limit: .max, base: 0)
        fixture.run()
        #expect(fixture.haltedVector == 3)
        #expect(fixture[.rax] == 0)
        #expect(fixture[.rbx] == 0x2B)
    }

    /// The inner stack does not lie in the task state: #TS with the task's selector.
    @Test func innerStackBeyondTheTaskState() {
        let fixture = user([0xCD, 0x80])
        fixture.setGate(0x80, CPUFixture.kernelCode, 0x2_1000, dpl: 3)
        fixture.state.pointee.tr.limit = 8
        #expect(fixture.run() == .shutdown)
        let other = user([0xCD, 0x80])
        other.setGate(0x80, CPUFixture.kernelCode, 0x2_1000, dpl: 3)
        other.write16(CPUFixture.tss + 8, 0x2B)
        #expect(other.run() == .shutdown)
    }
}
