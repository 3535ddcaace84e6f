import CPUCore
import GuestX86
import TestSupport
import Testing

/// Code that changes: the next instruction executed is the new one (SDM volume 3, 11.6).
@Suite struct SelfModifyingCodeTests {
    /// An instruction further on in the running block is changed.
    @Test func withinTheBlock() {
        // mov byte [rel target+1], 0x22; nop; target: mov al, 0x11; hlt
        let code: [UInt8] = [0xC6, 0x05, 0x02, 0x00, 0x00, 0x00, 0x22, 0x90, 0xB0, 0x11, 0xF4]
        let fixture = CPUFixture(.long64)
        fixture.load(code)
        fixture.run()
        #expect(fixture[.rax] & 0xFF == 0x22)
    }

    /// A loop that changes an instruction in each turn, before and behind the store.
    @Test func inALoop() {
        // xor ebx, ebx; mov ecx, 50; again: mov al, 0; add bl, al; inc byte [rel again+1]; mov dl, 0; add
        // bh, dl; dec byte [rel again+11]; loop again; hlt
        let code: [UInt8] = [
            0x31, 0xDB, 0xB9, 0x32, 0x00, 0x00, 0x00, 0xB0, 0x00, 0x00, 0xC3, 0xFE, 0x05, 0xF7, 0xFF, 0xFF,
            0xFF, 0xB2, 0x00, 0x00, 0xD7, 0xFE, 0x0D, 0xF7, 0xFF, 0xFF, 0xFF, 0xE2, 0xEA, 0xF4,
        ]
        let fixture = CPUFixture(.long64)
        // `again` + 10 is MOV DL, imm8: see the bytes.
        fixture.load(code)
        fixture.run()
        #expect(fixture[.rcx] == 0)
        #expect(fixture[.rbx] & 0xFF == UInt64((0..<50).reduce(0, +) & 0xFF))
        let sum = (0..<50).reduce(0) { ($0 + 256 - $1) & 0xFF }
        #expect(fixture[.rbx] >> 8 & 0xFF == UInt64(sum))
    }

    /// Code in another page is rewritten and called again.
    @Test func acrossPages() {
        // call 0x24000; mov ebx, eax; mov byte [0x24001], 9; call 0x24000; hlt
        let code: [UInt8] = [
            0xE8, 0xFB, 0x3F, 0x00, 0x00, 0x89, 0xC3, 0xC6, 0x04, 0x25, 0x01, 0x40, 0x02, 0x00, 0x09, 0xE8,
            0xEC, 0x3F, 0x00, 0x00, 0xF4,
        ]
        // mov eax, 5; ret
        let callee: [UInt8] = [0xB8, 0x05, 0x00, 0x00, 0x00, 0xC3]
        let fixture = CPUFixture(.long64)
        fixture.write(0x2_4000, callee)
        fixture.load(code)
        fixture.run()
        #expect(fixture[.rbx] == 5)
        #expect(fixture[.rax] == 9)
    }

    /// An instruction that crosses a page boundary runs, and a change of its second part is seen.
    @Test func instructionAcrossPages() {
        // mov esi, 2; again: call 0x24FFD; mov ebx, [0x30000]; add ebx, eax; mov [0x30000], ebx; mov byte
        // [0x25001], 0x01; dec esi; jnz again; hlt
        let code: [UInt8] = [
            0xBE, 0x02, 0x00, 0x00, 0x00, 0xE8, 0xF3, 0x4F, 0x00, 0x00, 0x8B, 0x1C, 0x25, 0x00, 0x00, 0x03,
            0x00, 0x01, 0xC3, 0x89, 0x1C, 0x25, 0x00, 0x00, 0x03, 0x00, 0xC6, 0x04, 0x25, 0x01, 0x50, 0x02,
            0x00, 0x01, 0xFF, 0xCE, 0x0F, 0x85, 0xDB, 0xFF, 0xFF, 0xFF, 0xF4,
        ]
        // MOV EAX, imm32 with three bytes in the first page and two in the second.
        // mov eax, 0x00000007; ret
        let callee: [UInt8] = [0xB8, 0x07, 0x00, 0x00, 0x00, 0xC3]
        let fixture = CPUFixture(.long64)
        fixture.write(0x2_4FFD, callee)
        fixture.load(code)
        fixture.run()
        #expect(fixture[.rbx] == 7 + 0x0100_0007)
    }

    /// The second page of such an instruction is missing: the fault's address is in it, the instruction pointer is not.
    @Test func secondPageIsMissing() {
        let fixture = CPUFixture(.long64)
        fixture.map(0x40_0000, 0x30_0000, flags: CPUFixture.present | CPUFixture.writable)
        fixture.write(0x30_0FFD, [0xB8, 1, 0])
        fixture.state.pointee.core.pc = 0x40_0FFD
        fixture.run()
        #expect(fixture.haltedVector == 14)
        #expect(fixture.state.pointee.cr2 == 0x40_1000)
        #expect(fixture.read64(fixture[.rsp] + 8) == 0x40_0FFD)
    }

    /// One of the two pages is mapped elsewhere: the same linear address is another instruction.
    @Test func secondPageIsRemapped() {
        let fixture = CPUFixture(.long64)
        let flags = CPUFixture.present | CPUFixture.writable
        fixture.map(0x40_0000, 0x30_0000, pages: 2, flags: flags)
        fixture.write(0x30_0FFD, [0xB8, 1, 0])
        fixture.write(0x30_1000, [0, 0, 0xC3])
        fixture.write(0x31_0000, [0, 0x40, 0xC3])
        fixture[.rsi] = fixture.entryAddress(0x40_1000)
        fixture[.rdi] = 0x31_0000 | flags
        // call 0x400FFD; mov ebx, eax; mov [rsi], rdi; invlpg [0x401000]; call 0x400FFD; hlt
        let code: [UInt8] = [
            0xE8, 0xF8, 0x0F, 0x3E, 0x00, 0x89, 0xC3, 0x48, 0x89, 0x3E, 0x0F, 0x01, 0x3C, 0x25, 0x00, 0x10,
            0x40, 0x00, 0xE8, 0xE6, 0x0F, 0x3E, 0x00, 0xF4,
        ]
        fixture.load(code)
        fixture.run()
        #expect(fixture[.rbx] == 1)
        #expect(fixture[.rax] == 0x4000_0001)
    }

    /// A repeated string instruction writes over the code behind it, and over itself.
    @Test func stringOverCode() {
        // mov edi, target; mov al, 0x90; mov ecx, 4; rep stosb; nop; target: inc ebx; inc ebx; hlt
        let code: [UInt8] = [
            0xBF, 0x0F, 0x00, 0x02, 0x00, 0xB0, 0x90, 0xB9, 0x04, 0x00, 0x00, 0x00, 0xF3, 0xAA, 0x90, 0xFF,
            0xC3, 0xFF, 0xC3, 0xF4,
        ]
        let fixture = CPUFixture(.long64)
        fixture.load(code)
        fixture[.rbx] = 0
        fixture.run()
        #expect(fixture[.rbx] == 0)
        #expect(fixture[.rcx] == 0)
    }

    /// A bus master writes code.
    @Test func busMaster() {
        let fixture = CPUFixture(.long64)
        fixture.load([0xB0, 1, 0xF4])
        fixture.run()
        fixture.state.pointee.isHalted = false
        fixture.load([0xB0, 2, 0xF4])
        fixture.run()
        #expect(fixture[.rax] & 0xFF == 2)
    }
}
