import CPUCore
import GuestX86
import TestSupport
import Testing

/// Hardware task switches (SDM volume 3, chapter 7).
@Suite struct TaskSwitchTests {
    private static let other: UInt64 = 0x3800
    private static let selector = CPUFixture.freeSelector

    /// A second task at `other` that runs at 0x21000 at CPL 0.
    private func fixture(_ code: [UInt8], _ task: [UInt8]) -> CPUFixture {
        let fixture = CPUFixture(.protected32)
        fixture.setDescriptor(
            Self.selector, CPUFixture.descriptor(base: Self.other, limit: 0x67, access: 0x89, flags: 0))
        fixture.write32(Self.other + 32, 0x2_1000)
        fixture.write32(Self.other + 36, 0x0000_0202 | EFlags.df)
        for index in 0..<8 { fixture.write32(Self.other + 40 + UInt64(index) * 4, 0x1000 + UInt32(index)) }
        fixture.write32(Self.other + 40 + 16, 0x7000)
        for (index, value) in [0x10, 0x08, 0x10, 0x10, 0, 0].enumerated() {
            fixture.write32(Self.other + 72 + UInt64(index) * 4, UInt32(value))
        }
        fixture.write32(Self.other + 96, UInt32(CPUFixture.ldtSelector))
        fixture.write(0x2_1000, task)
        fixture.load(code)
        return fixture
    }

    private func access(_ fixture: CPUFixture, _ selector: UInt16) -> UInt8 {
        fixture.read(CPUFixture.gdt + UInt64(selector) + 5, count: 1)[0]
    }

    @Test func jump() {
        // mov eax, 0xAAAA; mov ebx, 0xBBBB; jmp 0x60:0
        let code: [UInt8] = [
            0xB8, 0xAA, 0xAA, 0x00, 0x00, 0xBB, 0xBB, 0xBB, 0x00, 0x00, 0xEA, 0x00, 0x00, 0x00, 0x00, 0x60,
            0x00,
        ]
        let fixture = fixture(code, [0xF4])
        #expect(fixture.run() == .halted)
        #expect(fixture.haltedVector == nil)
        #expect(fixture.state.pointee.core.pc == 0x2_1001)
        #expect(fixture[.rax] == 0x1000)
        #expect(fixture[.rsp] == 0x7000)
        #expect(fixture[.rdi] == 0x1007)
        #expect(fixture.state.pointee.tr.selector == Self.selector)
        #expect(fixture.state.pointee.eflags & (EFlags.if | EFlags.df | EFlags.nt) == EFlags.if | EFlags.df)
        #expect(fixture.state.pointee.cr0 & CR0.ts != 0)
        // The old task is saved and no longer busy, the new one is.
        #expect(fixture.read32(CPUFixture.tss + 40) == 0xAAAA)
        #expect(fixture.read32(CPUFixture.tss + 52) == 0xBBBB)
        #expect(fixture.read32(CPUFixture.tss + 32) == UInt32(CPUFixture.code) + UInt32(code.count))
        #expect(fixture.read16(CPUFixture.tss + 76) == 8)
        #expect(access(fixture, CPUFixture.taskSelector) == 0x89)
        #expect(access(fixture, Self.selector) == 0x8B)
    }

    /// CALL nests: back link, NT, both busy; IRET returns.
    @Test func callAndReturn() {
        // mov esi, 5; call 0x60:0; mov ebp, 9; hlt
        let code: [UInt8] = [
            0xBE, 0x05, 0x00, 0x00, 0x00, 0x9A, 0x00, 0x00, 0x00, 0x00, 0x60, 0x00, 0xBD, 0x09, 0x00, 0x00,
            0x00, 0xF4,
        ]
        // mov edi, 0x31; pushfd; pop edx; mov [0x3900], edx; iretd
        let task: [UInt8] = [0xBF, 0x31, 0x00, 0x00, 0x00, 0x9C, 0x5A, 0x89, 0x15, 0x00, 0x39, 0x00, 0x00, 0xCF]
        let fixture = fixture(code, task)
        #expect(fixture.run() == .halted)
        #expect(fixture[.rbp] == 9)
        #expect(fixture[.rsi] == 5)
        #expect(fixture.state.pointee.tr.selector == CPUFixture.taskSelector)
        #expect(fixture.read16(Self.other) == CPUFixture.taskSelector)
        #expect(fixture.read32(0x3900) & EFlags.nt != 0)
        #expect(fixture.state.pointee.eflags & EFlags.nt == 0)
        #expect(access(fixture, CPUFixture.taskSelector) == 0x8B)
        #expect(access(fixture, Self.selector) == 0x89)
        // The other task's state was saved as it left.
        #expect(fixture.read32(Self.other + 68) == 0x31)
    }

    /// An interrupt through a task gate, with an error code on the new task's stack.
    @Test func taskGate() {
        let fixture = fixture([0x0F, 0x0B], [0xF4])
        fixture.write64(CPUFixture.idt + 13 * 8, CPUFixture.gate(Self.selector, 0, type: 5))
        // mov ds, 0x7F00 by way of eax: beyond the table, #GP(0x7F00)
        fixture.load([0xB8, 0x00, 0x7F, 0x00, 0x00, 0x8E, 0xD8])
        #expect(fixture.run() == .halted)
        #expect(fixture.state.pointee.tr.selector == Self.selector)
        #expect(fixture[.rsp] == 0x7000 - 4)
        #expect(fixture.read32(0x7000 - 4) == 0x7F00)
        #expect(fixture.read32(CPUFixture.tss + 32) == UInt32(CPUFixture.code) + 5)
    }

    /// A busy task cannot be jumped to: #GP with its selector.
    @Test func busyTask() {
        // jmp 0x40:0
        let code: [UInt8] = [0xEA, 0x00, 0x00, 0x00, 0x00, 0x40, 0x00]
        let fixture = fixture(code, [0xF4])
        fixture.run()
        #expect(fixture.haltedVector == 13)
        #expect(fixture.read32(fixture[.rsp]) == UInt32(CPUFixture.taskSelector))
    }

    /// A task state that is too short: #TS.
    @Test func shortTaskState() {
        // jmp 0x60:0
        let code: [UInt8] = [0xEA, 0x00, 0x00, 0x00, 0x00, 0x60, 0x00]
        let fixture = fixture(code, [0xF4])
        fixture.setDescriptor(
            Self.selector, CPUFixture.descriptor(base: Self.other, limit: 0x66, access: 0x89, flags: 0))
        fixture.run()
        #expect(fixture.haltedVector == 10)
        #expect(fixture.read32(fixture[.rsp]) == UInt32(Self.selector))
    }
}
