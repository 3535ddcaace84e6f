import CPUCore
import GuestX86
import TestSupport
import Testing

/// Debug exceptions (SDM volume 3, 17.2 and 17.3).
@Suite struct DebugTests {
    /// A #DB handler at 0x21000 that counts in R15, keeps DR6 in R14 and the return address in R13, and returns.
    @Test func singleStep() {
        // pushfq; or dword [rsp], 0x100; popfq; nop; inc eax; inc eax; pushfq; and dword [rsp],
        // 0xFFFFFEFF; popfq; inc eax; hlt
        let code: [UInt8] = [
            0x9C, 0x81, 0x0C, 0x24, 0x00, 0x01, 0x00, 0x00, 0x9D, 0x90, 0xFF, 0xC0, 0xFF, 0xC0, 0x9C, 0x81,
            0x24, 0x24, 0xFF, 0xFE, 0xFF, 0xFF, 0x9D, 0xFF, 0xC0, 0xF4,
        ]
        // inc r15; mov r14, dr6; mov r13, [rsp]; iretq
        let handler: [UInt8] = [0x49, 0xFF, 0xC7, 0x41, 0x0F, 0x21, 0xF6, 0x4C, 0x8B, 0x2C, 0x24, 0x48, 0xCF]
        let fixture = CPUFixture(.long64)
        fixture.write(0x2_1000, handler)
        fixture.setGate(1, CPUFixture.kernelCode, 0x2_1000)
        fixture.load(code)
        fixture[.rax] = 0
        #expect(fixture.run() == .halted)
        // After NOP, two INC, PUSHF, AND and the POPF that ends it.
        #expect(fixture[.r15] == 6)
        #expect(fixture[.r14] & 0x4000 != 0)
        #expect(fixture[.rax] == 3)
        // The last trap came before the last INC.
        #expect(fixture[.r13] == CPUFixture.code + UInt64(code.count) - 3)
    }

    /// A code breakpoint is a fault: it comes before the instruction, once if the handler sets RF.
    @Test func codeBreakpoint() {
        // mov eax, 0x20020; mov dr0, rax; mov eax, 1; mov dr7, rax; jmp 0x20020; times
        // 0x20020-($-$$+0x20000) nop; inc ebx; inc ebx; hlt
        let code: [UInt8] = [
            0xB8, 0x20, 0x00, 0x02, 0x00, 0x0F, 0x23, 0xC0, 0xB8, 0x01, 0x00, 0x00, 0x00, 0x0F, 0x23, 0xF8,
            0xE9, 0x0B, 0x00, 0x00, 0x00, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90,
            0xFF, 0xC3, 0xFF, 0xC3, 0xF4,
        ]
        // inc r15; mov r14, dr6; mov r13, [rsp]; mov r12, rbx; or dword [rsp+16], 0x10000; iretq
        let handler: [UInt8] = [
            0x49, 0xFF, 0xC7, 0x41, 0x0F, 0x21, 0xF6, 0x4C, 0x8B, 0x2C, 0x24, 0x49, 0x89, 0xDC, 0x81, 0x4C,
            0x24, 0x10, 0x00, 0x00, 0x01, 0x00, 0x48, 0xCF,
        ]
        let fixture = CPUFixture(.long64)
        fixture.write(0x2_1000, handler)
        fixture.setGate(1, CPUFixture.kernelCode, 0x2_1000)
        fixture.load(code)
        fixture[.rbx] = 0
        #expect(fixture.run() == .halted)
        #expect(fixture[.r15] == 1)
        #expect(fixture[.r14] & 0xF == 1)
        #expect(fixture[.r13] == 0x2_0020)
        #expect(fixture[.r12] == 0)
        #expect(fixture[.rbx] == 2)
    }

    /// A breakpoint at a repeated string instruction hits once.
    @Test func codeBreakpointAtRepeatedString() {
        // mov eax, 0x20020; mov dr0, rax; mov eax, 1; mov dr7, rax; mov edi, 0x30000; mov ecx, 10000; jmp
        // 0x20020; times 0x20020-($-$$+0x20000) nop; rep stosb; hlt
        let code: [UInt8] = [
            0xB8, 0x20, 0x00, 0x02, 0x00, 0x0F, 0x23, 0xC0, 0xB8, 0x01, 0x00, 0x00, 0x00, 0x0F, 0x23, 0xF8,
            0xBF, 0x00, 0x00, 0x03, 0x00, 0xB9, 0x10, 0x27, 0x00, 0x00, 0xE9, 0x01, 0x00, 0x00, 0x00, 0x90,
            0xF3, 0xAA, 0xF4,
        ]
        // inc r15; or dword [rsp+16], 0x10000; iretq
        let handler: [UInt8] = [0x49, 0xFF, 0xC7, 0x81, 0x4C, 0x24, 0x10, 0x00, 0x00, 0x01, 0x00, 0x48, 0xCF]
        let fixture = CPUFixture(.long64)
        fixture.write(0x2_1000, handler)
        fixture.setGate(1, CPUFixture.kernelCode, 0x2_1000)
        fixture.load(code)
        #expect(fixture.run() == .halted)
        #expect(fixture[.r15] == 1)
        #expect(fixture[.rcx] == 0)
    }

    /// Data breakpoints are traps: they come after the instruction. Writes only, or reads and writes.
    @Test(arguments: [(UInt64(1), UInt64(1)), (3, 2)])
    func dataBreakpoint(kind: UInt64, expected: UInt64) {
        // mov ebx, [0x30004]; mov [0x30006], al; mov [0x30008], al; hlt
        let code: [UInt8] = [
            0x8B, 0x1C, 0x25, 0x04, 0x00, 0x03, 0x00, 0x88, 0x04, 0x25, 0x06, 0x00, 0x03, 0x00, 0x88, 0x04,
            0x25, 0x08, 0x00, 0x03, 0x00, 0xF4,
        ]
        // inc r15; mov r14, dr6; mov r13, [rsp]; iretq
        let handler: [UInt8] = [0x49, 0xFF, 0xC7, 0x41, 0x0F, 0x21, 0xF6, 0x4C, 0x8B, 0x2C, 0x24, 0x48, 0xCF]
        let fixture = CPUFixture(.long64)
        fixture.write(0x2_1000, handler)
        fixture.setGate(1, CPUFixture.kernelCode, 0x2_1000)
        fixture.load(code)
        // DR1: four bytes at 0x30004.
        fixture.state.pointee.debug[1] = 0x3_0004
        fixture.state.pointee.debug[7] = 0x400 | 4 | kind << 20 | 3 << 22
        #expect(fixture.run() == .halted)
        #expect(fixture[.r15] == expected)
        #expect(fixture[.r14] & 0xF == 2)
        #expect(fixture[.r13] == CPUFixture.code + 14)
    }

    /// DR7.GD: any access to a debug register is a #DB before it, with DR6.BD, and GD is cleared.
    @Test func generalDetect() {
        let fixture = CPUFixture(.long64)
        fixture.state.pointee.debug[7] = 0x2400
        fixture.load([0x0F, 0x21, 0xC0])
        fixture.run()
        #expect(fixture.haltedVector == 1)
        #expect(fixture.state.pointee.debug[6] & 0x2000 != 0)
        #expect(fixture.state.pointee.debug[7] & 0x2000 == 0)
        #expect(fixture.read64(fixture[.rsp]) == CPUFixture.code)
    }

    /// Delivery of an interrupt clears TF: its handler is not stepped, and INT itself does not trap.
    @Test func softwareInterruptWhileStepping() {
        let fixture = CPUFixture(.long64)
        fixture.setGate(0x80, CPUFixture.kernelCode, CPUFixture.handler(0x80))
        fixture.state.pointee.systemFlags |= EFlags.tf
        fixture.load([0xCD, 0x80])
        fixture.run()
        #expect(fixture.haltedVector == 0x80)
        #expect(fixture.read64(fixture[.rsp] + 16) & UInt64(EFlags.tf) != 0)
    }

    /// DR4 and DR5 are DR6 and DR7 until CR4.DE makes them undefined.
    @Test func aliases() {
        // db 0x0F, 0x21, 0xE0; db 0x0F, 0x21, 0xEB; mov rcx, cr4; or ecx, 8; mov cr4, rcx; db 0x0F, 0x21,
        // 0xE2
        let code: [UInt8] = [
            0x0F, 0x21, 0xE0, 0x0F, 0x21, 0xEB, 0x0F, 0x20, 0xE1, 0x83, 0xC9, 0x08, 0x0F, 0x22, 0xE1, 0x0F,
            0x21, 0xE2,
        ]
        let fixture = CPUFixture(.long64)
        fixture.load(code)
        fixture.run()
        #expect(fixture.haltedVector == 6)
        #expect(fixture[.rax] == 0xFFFF_0FF0)
        #expect(fixture[.rbx] == 0x400)
    }
}
