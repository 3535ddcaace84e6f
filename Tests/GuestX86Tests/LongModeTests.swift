import CPUCore
import GuestX86
import TestSupport
import Testing

/// Into long mode and within it: SYSCALL, stack tables, compatibility mode (SDM volume 3, 9.8.5, 5.8.8, 6.14).
@Suite struct LongModeTests {
    /// The whole way from 32-bit protected mode without paging to 64-bit code.
    @Test func entry() {
        let fixture = CPUFixture(.protected32)
        // One 2 MiB page at 0: tables at 0x40000, 0x41000, 0x42000.
        fixture.write64(0x4_0000, 0x4_1003)
        fixture.write64(0x4_1000, 0x4_2003)
        fixture.write64(0x4_2000, 0x83)
        fixture.setDescriptor(0x60, CPUFixture.descriptor(base: 0, limit: 0xF_FFFF, access: 0x9B, flags: 0xA))
        // mov eax, cr4; or eax, 0x20; mov cr4, eax; mov eax, 0x40000; mov cr3, eax; mov ecx, 0xC0000080;
        // rdmsr; or eax, 0x100; wrmsr; mov eax, cr0; or eax, 0x80000000; mov cr0, eax; rdmsr; mov ebx,
        // eax; jmp 0x60:0x21000
        let code: [UInt8] = [
            0x0F, 0x20, 0xE0, 0x83, 0xC8, 0x20, 0x0F, 0x22, 0xE0, 0xB8, 0x00, 0x00, 0x04, 0x00, 0x0F, 0x22,
            0xD8, 0xB9, 0x80, 0x00, 0x00, 0xC0, 0x0F, 0x32, 0x0D, 0x00, 0x01, 0x00, 0x00, 0x0F, 0x30, 0x0F,
            0x20, 0xC0, 0x0D, 0x00, 0x00, 0x00, 0x80, 0x0F, 0x22, 0xC0, 0x0F, 0x32, 0x89, 0xC3, 0xEA, 0x00,
            0x10, 0x02, 0x00, 0x60, 0x00,
        ]
        // mov rax, 0x123456789ABCDEF0; lea rdi, [rel $]; mov rsi, cr0; hlt
        let target: [UInt8] = [
            0x48, 0xB8, 0xF0, 0xDE, 0xBC, 0x9A, 0x78, 0x56, 0x34, 0x12, 0x48, 0x8D, 0x3D, 0xF9, 0xFF, 0xFF,
            0xFF, 0x0F, 0x20, 0xC6, 0xF4,
        ]
        fixture.write(0x2_1000, target)
        fixture.load(code)
        #expect(fixture.run() == .halted)
        #expect(fixture.haltedVector == nil)
        #expect(fixture[.rax] == 0x1234_5678_9ABC_DEF0)
        #expect(fixture[.rdi] == 0x2_100A)
        #expect(fixture[.rbx] & 0x500 == 0x500)
        #expect(fixture.read64(0x4_2000) == 0xA3)
    }

    /// EFER.LME cannot be changed while paging is on; PAE cannot be left.
    @Test func illegalChanges() {
        // mov ecx, 0xC0000080; rdmsr; and eax, 0xFFFFFEFF; wrmsr
        let efer: [UInt8] = [0xB9, 0x80, 0x00, 0x00, 0xC0, 0x0F, 0x32, 0x25, 0xFF, 0xFE, 0xFF, 0xFF, 0x0F, 0x30]
        // mov rax, cr4; and eax, 0xFFFFFFDF; mov cr4, rax
        let pae: [UInt8] = [0x0F, 0x20, 0xE0, 0x83, 0xE0, 0xDF, 0x0F, 0x22, 0xE0]
        // mov rax, cr0; btr rax, 31; mov cr0, rax
        let paging: [UInt8] = [0x0F, 0x20, 0xC0, 0x48, 0x0F, 0xBA, 0xF0, 0x1F, 0x0F, 0x22, 0xC0]
        // mov rax, cr4; bts rax, 40; mov cr4, rax
        let reserved: [UInt8] = [0x0F, 0x20, 0xE0, 0x48, 0x0F, 0xBA, 0xE8, 0x28, 0x0F, 0x22, 0xE0]
        for code in [efer, pae, paging, reserved] {
            let fixture = CPUFixture(.long64)
            fixture.load(code)
            fixture.run()
            #expect(fixture.haltedVector == 13)
            #expect(fixture.read64(fixture[.rsp]) == 0)
        }
    }

    private func user(_ code: [UInt8]) -> CPUFixture {
        let fixture = CPUFixture(.long64)
        let flags = CPUFixture.present | CPUFixture.writable | CPUFixture.user
        fixture.map(0x40_0000, 0x30_0000, pages: 2, flags: flags)
        fixture.setSegments(code: CPUFixture.userCode64, data: CPUFixture.userData)
        fixture[.rsp] = 0x40_2000
        fixture.write(0x30_0000, code)
        fixture.state.pointee.core.pc = 0x40_0000
        fixture.state.pointee.systemFlags |= EFlags.if
        return fixture
    }

    @Test func systemCall() {
        // stc; mov eax, 1; syscall; mov ebx, 2; mov ecx, cs; int3
        let code: [UInt8] = [
            0xF9, 0xB8, 0x01, 0x00, 0x00, 0x00, 0x0F, 0x05, 0xBB, 0x02, 0x00, 0x00, 0x00, 0x8C, 0xC9, 0xCC,
        ]
        // mov edx, cs; mov esi, ss; pushfq; pop rdi; mov r8, rcx; mov r9, r11; mov r10, rsp; o64 sysret
        let handler: [UInt8] = [
            0x8C, 0xCA, 0x8C, 0xD6, 0x9C, 0x5F, 0x49, 0x89, 0xC8, 0x4D, 0x89, 0xD9, 0x49, 0x89, 0xE2, 0x48,
            0x0F, 0x07,
        ]
        let fixture = user(code)
        fixture.write(0x2_1000, handler)
        fixture.state.pointee.star = 0x0023_0008 << 32
        fixture.state.pointee.lstar = 0x2_1000
        fixture.state.pointee.sfmask = UInt64(EFlags.if | Flags.cf)
        // The handler pushes: its stack is the user's, which it may use.
        fixture.run()
        #expect(fixture.haltedVector == 3)
        #expect(fixture[.rbx] == 2)
        #expect(fixture[.rdx] == 8)
        #expect(fixture[.rsi] == 0x10)
        #expect(fixture[.rdi] & 0x201 == 0)
        #expect(fixture[.r8] == 0x40_0008)
        #expect(fixture[.r9] & 0x201 == 0x201)
        #expect(fixture[.r10] == 0x40_2000)
        #expect(fixture[.rcx] == 0x33)
        let flags = fixture.read64(fixture[.rsp] + 16)
        #expect(flags & 0x201 == 0x201)
    }

    @Test func systemCallDisabled() {
        let fixture = user([0x0F, 0x05])
        fixture.state.pointee.efer &= ~EFER.sce
        fixture.run()
        #expect(fixture.haltedVector == 6)
    }

    /// An interrupt at the same level aligns the stack to 16 bytes and pushes SS:RSP always.
    @Test func frameIsAligned() {
        // mov rsp, 0x7FF3; int 0x50
        let code: [UInt8] = [0x48, 0xBC, 0xF3, 0x7F, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xCD, 0x50]
        let fixture = CPUFixture(.long64)
        fixture.load(code)
        fixture.run()
        #expect(fixture.haltedVector == 0x50)
        #expect(fixture[.rsp] == 0x7FF0 - 40)
        #expect(fixture.read64(0x7FF0 - 16) == 0x7FF3)
        #expect(fixture.read64(0x7FF0 - 8) == 0x10)
        #expect(fixture.read64(0x7FF0 - 40) == CPUFixture.code + UInt64(code.count))
    }

    /// A vector with a stack table entry uses it even at the same level.
    @Test func interruptStackTable() {
        let fixture = CPUFixture(.long64)
        fixture.setGate(6, CPUFixture.kernelCode, CPUFixture.handler(6), count: 1)
        fixture.load([0x0F, 0x0B])
        fixture.run()
        #expect(fixture.haltedVector == 6)
        #expect(fixture[.rsp] == CPUFixture.interruptStackTop - 40)
    }

    /// 64-bit code goes to 32-bit code and back by far returns.
    @Test func compatibilityMode() {
        // push 0x18; push 0x21000; o64 retf
        let code: [UInt8] = [0x6A, 0x18, 0x68, 0x00, 0x10, 0x02, 0x00, 0x48, 0xCB]
        // mov eax, 0xFFFFFFFF; inc eax; dec eax; jmp 0x08:0x22000
        let compat: [UInt8] = [0xB8, 0xFF, 0xFF, 0xFF, 0xFF, 0x40, 0x48, 0xEA, 0x00, 0x20, 0x02, 0x00, 0x08, 0x00]
        // mov rbx, -1; mov ecx, cs; hlt
        let back: [UInt8] = [0x48, 0xBB, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x8C, 0xC9, 0xF4]
        let fixture = CPUFixture(.long64)
        fixture.write(0x2_1000, compat)
        fixture.write(0x2_2000, back)
        fixture.load(code)
        #expect(fixture.run() == .halted)
        #expect(fixture.haltedVector == nil)
        #expect(fixture[.rax] == 0xFFFF_FFFF)
        #expect(fixture[.rbx] == .max)
        #expect(fixture[.rcx] == 8)
    }

    /// SWAPGS, and an access through GS with a 64-bit base.
    @Test func swapGS() {
        // mov rax, [gs:8]; swapgs; mov rbx, [gs:8]; hlt
        let code: [UInt8] = [
            0x65, 0x48, 0x8B, 0x04, 0x25, 0x08, 0x00, 0x00, 0x00, 0x0F, 0x01, 0xF8, 0x65, 0x48, 0x8B, 0x1C,
            0x25, 0x08, 0x00, 0x00, 0x00, 0xF4,
        ]
        let fixture = CPUFixture(.long64)
        fixture.state.pointee.segments[5].base = 0x3_0000
        fixture.state.pointee.kernelGSBase = 0x3_1000
        fixture.write64(0x3_0008, 11)
        fixture.write64(0x3_1008, 22)
        fixture.load(code)
        fixture.run()
        #expect(fixture[.rax] == 11)
        #expect(fixture[.rbx] == 22)
    }

    /// SYSENTER and SYSEXIT.
    @Test func fastSystemCall() {
        // mov r12, rsp; sysenter
        let code: [UInt8] = [0x49, 0x89, 0xE4, 0x0F, 0x34]
        // mov eax, cs; mov ebx, ss; mov r13, rsp; mov rcx, r12; mov edx, 0x400100; o64 sysexit
        let handler: [UInt8] = [
            0x8C, 0xC8, 0x8C, 0xD3, 0x49, 0x89, 0xE5, 0x4C, 0x89, 0xE1, 0xBA, 0x00, 0x01, 0x40, 0x00, 0x48,
            0x0F, 0x35,
        ]
        let fixture = user(code)
        fixture.write(0x2_1000, handler)
        fixture.write(0x30_0100, [0x8C, 0xCE, 0x8C, 0xD7, 0xCC])
        fixture.state.pointee.sysenterCS = 8
        fixture.state.pointee.sysenterESP = 0x7800
        fixture.state.pointee.sysenterEIP = 0x2_1000
        fixture.run()
        #expect(fixture.haltedVector == 3)
        #expect(fixture[.rax] == 8)
        #expect(fixture[.rbx] == 0x10)
        #expect(fixture[.r13] == 0x7800)
        #expect(fixture[.rsi] == 0x2B)
        #expect(fixture[.rdi] == 0x33)
    }
}
