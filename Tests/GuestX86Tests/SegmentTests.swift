import CPUCore
import GuestX86
import TestSupport
import Testing

/// Segment limits, types and loads in protected mode (SDM volume 3, 5.3 to 5.6).
@Suite struct SegmentTests {
    private static let selector = CPUFixture.freeSelector

    /// Runs `code` with a descriptor at the free selector; gives vector and error code.
    private func run(
        _ code: [UInt8], base: UInt64 = 0x3_0000, limit: UInt32 = 0xFF, access: UInt8 = 0x93, flags: UInt8 = 4
    ) -> (UInt8?, UInt32, CPUFixture) {
        let fixture = CPUFixture(.protected32)
        fixture.setDescriptor(
            Self.selector, CPUFixture.descriptor(base: base, limit: limit, access: access, flags: flags))
        fixture.load(code)
        fixture.run()
        let hasError = [8, 10, 11, 12, 13, 14].contains(fixture.haltedVector)
        return (fixture.haltedVector, hasError ? fixture.read32(fixture[.rsp]) : 0, fixture)
    }

    @Test func expandUp() {
        // mov ax, 0x60; mov es, ax; mov dword [es:0xFC], 0x1234; mov ebx, [es:0xFC]; int3
        let inside: [UInt8] = [
            0x66, 0xB8, 0x60, 0x00, 0x66, 0x8E, 0xC0, 0x26, 0xC7, 0x05, 0xFC, 0x00, 0x00, 0x00, 0x34, 0x12,
            0x00, 0x00, 0x26, 0x8B, 0x1D, 0xFC, 0x00, 0x00, 0x00, 0xCC,
        ]
        let (vector, _, fixture) = run(inside)
        #expect(vector == 3)
        #expect(fixture[.rbx] == 0x1234)
        #expect(fixture.read32(0x3_00FC) == 0x1234)
        // mov ax, 0x60; mov es, ax; mov ebx, [es:0xFD]
        let beyond: [UInt8] = [0x66, 0xB8, 0x60, 0x00, 0x66, 0x8E, 0xC0, 0x26, 0x8B, 0x1D, 0xFD, 0x00, 0x00, 0x00]
        #expect(run(beyond).0 == 13)
        #expect(run(beyond).1 == 0)
        // mov ax, 0x60; mov es, ax; mov edi, 0xF8; mov ecx, 4; rep stosd
        let string: [UInt8] = [
            0x66, 0xB8, 0x60, 0x00, 0x66, 0x8E, 0xC0, 0xBF, 0xF8, 0x00, 0x00, 0x00, 0xB9, 0x04, 0x00, 0x00,
            0x00, 0xF3, 0xAB,
        ]
        let result = run(string)
        #expect(result.0 == 13)
        #expect(result.2[.rcx] == 2)
        #expect(result.2[.rdi] == 0x100)
    }

    @Test func expandDown() {
        // mov ax, 0x60; mov es, ax; mov ebx, [es:0x100]; mov ecx, [es:0xFFFFFFFC]; int3
        let inside: [UInt8] = [
            0x66, 0xB8, 0x60, 0x00, 0x66, 0x8E, 0xC0, 0x26, 0x8B, 0x1D, 0x00, 0x01, 0x00, 0x00, 0x26, 0x8B,
            0x0D, 0xFC, 0xFF, 0xFF, 0xFF, 0xCC,
        ]
        #expect(run(inside, access: 0x97).0 == 3)
        // mov ax, 0x60; mov es, ax; mov bl, [es:0xFF]
        let below: [UInt8] = [0x66, 0xB8, 0x60, 0x00, 0x66, 0x8E, 0xC0, 0x26, 0x8A, 0x1D, 0xFF, 0x00, 0x00, 0x00]
        #expect(run(below, access: 0x97).0 == 13)
        // Without the B bit the upper end is 64 KiB.
        // mov ax, 0x60; mov es, ax; mov ebx, [es:0xFFFD]
        let above: [UInt8] = [0x66, 0xB8, 0x60, 0x00, 0x66, 0x8E, 0xC0, 0x26, 0x8B, 0x1D, 0xFD, 0xFF, 0x00, 0x00]
        #expect(run(above, access: 0x97, flags: 0).0 == 13)
        // mov ax, 0x60; mov es, ax; mov ebx, [es:0xFFFC]; int3
        let top: [UInt8] = [0x66, 0xB8, 0x60, 0x00, 0x66, 0x8E, 0xC0, 0x26, 0x8B, 0x1D, 0xFC, 0xFF, 0x00, 0x00, 0xCC]
        #expect(run(top, access: 0x97, flags: 0).0 == 3)
    }

    @Test func readOnlyData() {
        // mov ax, 0x60; mov es, ax; mov ebx, [es:0]; mov [es:0], ebx
        let code: [UInt8] = [
            0x66, 0xB8, 0x60, 0x00, 0x66, 0x8E, 0xC0, 0x26, 0x8B, 0x1D, 0x00, 0x00, 0x00, 0x00, 0x26, 0x89,
            0x1D, 0x00, 0x00, 0x00, 0x00,
        ]
        let (vector, error, fixture) = run(code, access: 0x91)
        #expect(vector == 13)
        #expect(error == 0)
        #expect(fixture.read32(fixture[.rsp] + 4) == UInt32(CPUFixture.code) + UInt32(code.count) - 7)
    }

    @Test func codeSegmentAsData() {
        // mov ax, 0x60; mov es, ax; mov ebx, [es:0]; int3
        let read: [UInt8] = [0x66, 0xB8, 0x60, 0x00, 0x66, 0x8E, 0xC0, 0x26, 0x8B, 0x1D, 0x00, 0x00, 0x00, 0x00, 0xCC]
        #expect(run(read, access: 0x9B).0 == 3)
        // Execute-only code cannot be loaded into a data segment register.
        #expect(run(read, access: 0x99).0 == 13)
        #expect(run(read, access: 0x99).1 == 0x60)
        // mov ax, 0x60; mov es, ax; mov [es:0], ebx
        let write: [UInt8] = [0x66, 0xB8, 0x60, 0x00, 0x66, 0x8E, 0xC0, 0x26, 0x89, 0x1D, 0x00, 0x00, 0x00, 0x00]
        #expect(run(write, access: 0x9B).0 == 13)
    }

    @Test func loads() {
        // mov ax, 0x60; mov es, ax
        let data: [UInt8] = [0x66, 0xB8, 0x60, 0x00, 0x66, 0x8E, 0xC0]
        #expect(run(data, access: 0x13).0 == 11)
        #expect(run(data, access: 0x13).1 == 0x60)
        // mov ax, 0x60; mov ss, ax
        let stack: [UInt8] = [0x66, 0xB8, 0x60, 0x00, 0x66, 0x8E, 0xD0]
        #expect(run(stack, access: 0x13).0 == 12)
        #expect(run(stack, access: 0x13).1 == 0x60)
        // A stack must be writable, and its DPL the CPL.
        #expect(run(stack, access: 0x91).0 == 13)
        #expect(run(stack, access: 0xF3).0 == 13)
        #expect(run(stack, access: 0xF3).1 == 0x60)
        // System descriptors are no segments.
        #expect(run(data, access: 0x82).0 == 13)
        // xor eax, eax; mov ss, ax
        let null: [UInt8] = [0x31, 0xC0, 0x66, 0x8E, 0xD0]
        #expect(run(null).0 == 13)
        #expect(run(null).1 == 0)
        // mov ax, 0x1FF8; mov ds, ax
        let beyond: [UInt8] = [0x66, 0xB8, 0xF8, 0x1F, 0x66, 0x8E, 0xD8]
        #expect(run(beyond).0 == 13)
        #expect(run(beyond).1 == 0x1FF8)
        // A null data segment may be loaded, but not used.
        // xor eax, eax; mov es, ax; mov ebx, [es:0]
        let nullData: [UInt8] = [0x31, 0xC0, 0x66, 0x8E, 0xC0, 0x26, 0x8B, 0x1D, 0x00, 0x00, 0x00, 0x00]
        let (vector, error, fixture) = run(nullData)
        #expect(vector == 13)
        #expect(error == 0)
        #expect(fixture.read32(fixture[.rsp] + 4) == UInt32(CPUFixture.code) + UInt32(nullData.count) - 7)
    }

    @Test func accessedBit() {
        // mov ax, 0x60; mov es, ax; int3
        let code: [UInt8] = [0x66, 0xB8, 0x60, 0x00, 0x66, 0x8E, 0xC0, 0xCC]
        let (vector, _, fixture) = run(code, access: 0x92)
        #expect(vector == 3)
        #expect(fixture.read(CPUFixture.gdt + 0x65, count: 1) == [0x93])
    }

    /// A stack segment of 256 bytes: the limit is #SS(0), and the pointer stays.
    @Test func stackLimit() {
        // mov cx, 0x10; mov ax, 0x60; mov ss, ax; mov esp, 0x102; push eax
        let code: [UInt8] = [
            0x66, 0xB9, 0x10, 0x00, 0x66, 0xB8, 0x60, 0x00, 0x66, 0x8E, 0xD0, 0xBC, 0x02, 0x01, 0x00, 0x00,
            0x50,
        ]
        let fixture = CPUFixture(.protected32)
        fixture.setDescriptor(
            Self.selector, CPUFixture.descriptor(base: 0x3_0000, limit: 0xFF, access: 0x93, flags: 4))
        // The handler runs in its own task: the stack is of no use to it.
        fixture.setDescriptor(0x68, CPUFixture.descriptor(base: 0x3800, limit: 0x67, access: 0x89, flags: 0))
        fixture.write32(0x3800 + 32, UInt32(CPUFixture.handler(12)))
        fixture.write32(0x3800 + 56, 0x7000)
        for (index, value) in [0x10, 0x08, 0x10, 0x10].enumerated() {
            fixture.write32(0x3800 + 72 + UInt64(index) * 4, UInt32(value))
        }
        fixture.write64(CPUFixture.idt + 12 * 8, CPUFixture.gate(0x68, 0, type: 5))
        fixture.load(code)
        fixture.run()
        #expect(fixture.haltedVector == 12)
        #expect(fixture.read32(0x7000 - 4) == 0)
        #expect(fixture.read32(CPUFixture.tss + 56) == 0x102)
    }

    @Test func verifyAndLoadRights() {
        // mov cx, 0x60; verr cx; setz al; verw cx; setz ah; lar ebx, ecx; lsl edx, ecx; mov cx, 0x2000;
        // lar esi, ecx; setz ch; int3
        let code: [UInt8] = [
            0x66, 0xB9, 0x60, 0x00, 0x0F, 0x00, 0xE1, 0x0F, 0x94, 0xC0, 0x0F, 0x00, 0xE9, 0x0F, 0x94, 0xC4,
            0x0F, 0x02, 0xD9, 0x0F, 0x03, 0xD1, 0x66, 0xB9, 0x00, 0x20, 0x0F, 0x02, 0xF1, 0x0F, 0x94, 0xC5,
            0xCC,
        ]
        let (vector, _, fixture) = run(code, limit: 0x12345, access: 0x91, flags: 0xC)
        #expect(vector == 3)
        #expect(fixture[.rax] & 0xFFFF == 0x0001)
        #expect(fixture[.rbx] == 0x00C1_9100)
        #expect(fixture[.rdx] == 0x1234_5FFF)
        #expect(fixture[.rcx] & 0xFF00 == 0)
    }

    /// Far jumps check the target's type, privilege and limit.
    @Test func farJumps() {
        // jmp 0x60:0x100
        let code: [UInt8] = [0xEA, 0x00, 0x01, 0x00, 0x00, 0x60, 0x00]
        #expect(run(code, access: 0x93).0 == 13)
        #expect(run(code, access: 0x1B).0 == 11)
        #expect(run(code, access: 0xFB).0 == 13)
        let (vector, error, _) = run(code, access: 0x9B)
        #expect(vector == 13)
        #expect(error == 0)
        // A conforming segment may be entered from less privileged code only.
        #expect(
            run(code, base: 0x4000 - 0x100 + 8 * 9, limit: 0xFFFF, access: 0x9F).2.state.pointee.segments[1].selector
                == 0x60)
    }
}
