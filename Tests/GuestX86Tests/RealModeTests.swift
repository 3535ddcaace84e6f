import CPUCore
import GuestX86
import TestSupport
import Testing

/// Real mode: interrupts, segments, limits (SDM volume 3, 20.1).
@Suite struct RealModeTests {
    @Test func interruptAndReturn() {
        let fixture = CPUFixture(.real)
        // sti; stc; mov ax, 0x1234; int 0x21; mov cx, ax; hlt
        let code: [UInt8] = [0xFB, 0xF9, 0xB8, 0x34, 0x12, 0xCD, 0x21, 0x89, 0xC1, 0xF4]
        // pushf; pop dx; mov bp, sp; mov si, [bp]; mov di, [bp+2]; mov bx, [bp+4]; inc ax; iret
        let handler: [UInt8] = [
            0x9C, 0x5A, 0x89, 0xE5, 0x8B, 0x76, 0x00, 0x8B, 0x7E, 0x02, 0x8B, 0x5E, 0x04, 0x40, 0xCF,
        ]
        fixture.write(0x6000, handler)
        fixture.write32(0x21 * 4, 0x0000_6000)
        fixture.load(code, at: CPUFixture.realCode)
        #expect(fixture.run() == .halted)
        #expect(fixture[.rcx] & 0xFFFF == 0x1235)
        // The return address is after INT, CS 0, the pushed flags have IF and CF; in the handler IF is clear.
        #expect(fixture[.rsi] & 0xFFFF == CPUFixture.realCode + 7)
        #expect(fixture[.rdi] & 0xFFFF == 0)
        #expect(fixture[.rbx] & 0x201 == 0x201)
        #expect(fixture[.rdx] & 0x200 == 0)
        #expect(fixture.state.pointee.eflags & 0x201 == 0x201)
        #expect(fixture[.rsp] == 0x7000)
    }

    @Test func segmentsAreShiftedSelectors() {
        let fixture = CPUFixture(.real)
        // mov ax, 0x2000; mov es, ax; mov word [es:0x10], 0xBEEF; mov bx, [es:0x10]; hlt
        let code: [UInt8] = [
            0xB8, 0x00, 0x20, 0x8E, 0xC0, 0x26, 0xC7, 0x06, 0x10, 0x00, 0xEF, 0xBE, 0x26, 0x8B, 0x1E, 0x10,
            0x00, 0xF4,
        ]
        fixture.load(code, at: CPUFixture.realCode)
        fixture.run()
        #expect(fixture.read16(0x2_0010) == 0xBEEF)
        #expect(fixture[.rbx] & 0xFFFF == 0xBEEF)
    }

    /// A word at offset FFFF passes the limit: #GP, through the stack segment #SS.
    @Test func limitOf64K() {
        let fixture = CPUFixture(.real)
        // mov ax, [0xFFFF]
        let code: [UInt8] = [0xA1, 0xFF, 0xFF]
        fixture.load(code, at: CPUFixture.realCode)
        fixture.run()
        #expect(fixture.haltedVector == 13)
        #expect(fixture.read16(0x7000 - 6) == UInt16(CPUFixture.realCode))
        let other = CPUFixture(.real)
        // mov bp, 0xFFFF; mov ax, [bp]
        let stack: [UInt8] = [0xBD, 0xFF, 0xFF, 0x8B, 0x46, 0x00]
        other.load(stack, at: CPUFixture.realCode)
        other.run()
        #expect(other.haltedVector == 12)
    }

    @Test func divideErrorPointsToTheInstruction() {
        let fixture = CPUFixture(.real)
        // xor cx, cx; div cx
        let code: [UInt8] = [0x31, 0xC9, 0xF7, 0xF1]
        fixture.load(code, at: CPUFixture.realCode)
        fixture.run()
        #expect(fixture.haltedVector == 0)
        #expect(fixture.read16(0x7000 - 6) == UInt16(CPUFixture.realCode) + 2)
    }

    /// "Unreal mode": a limit loaded in protected mode stays after the return to real mode.
    @Test func limitsSurviveTheReturnFromProtectedMode() {
        let fixture = CPUFixture(.real)
        // cli; lgdt [0x7D00]; mov eax, cr0; or al, 1; mov cr0, eax; mov bx, 8; mov ds, bx; and al, 0xFE;
        // mov cr0, eax; xor ax, ax; mov ds, ax; mov dword [dword 0x120000], 0x12345678; hlt
        let code: [UInt8] = [
            0xFA, 0x0F, 0x01, 0x16, 0x00, 0x7D, 0x0F, 0x20, 0xC0, 0x0C, 0x01, 0x0F, 0x22, 0xC0, 0xBB, 0x08,
            0x00, 0x8E, 0xDB, 0x24, 0xFE, 0x0F, 0x22, 0xC0, 0x31, 0xC0, 0x8E, 0xD8, 0x66, 0x67, 0xC7, 0x05,
            0x00, 0x00, 0x12, 0x00, 0x78, 0x56, 0x34, 0x12, 0xF4,
        ]
        fixture.write(0x7D00, [0x0F, 0x00, 0x10, 0x7D, 0x00, 0x00])
        fixture.write64(0x7D18, CPUFixture.descriptor(base: 0, limit: 0xF_FFFF, access: 0x93, flags: 0xC))
        fixture.load(code, at: CPUFixture.realCode)
        #expect(fixture.run() == .halted)
        #expect(fixture.haltedVector == nil)
        #expect(fixture.read32(0x12_0000) == 0x1234_5678)
    }
}
