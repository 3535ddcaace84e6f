import CPUCore
import GuestX86
import TestSupport
import Testing

/// Virtual-8086 mode: in by IRET, out by an interrupt (SDM volume 3, 20.2 and 20.3).
@Suite struct Virtual8086Tests {
    /// Enters at 0x1000:0 with the given flags besides VM.
    private func enter(_ program: [UInt8], flags: UInt32) -> CPUFixture {
        let fixture = CPUFixture(.protected32)
        // push 0x4400; push 0x3300; push 0x2200; push 0x1100; push 0x5500; push 0x800; push ebx; push
        // 0x1000; push 0; iretd
        let code: [UInt8] = [
            0x68, 0x00, 0x44, 0x00, 0x00, 0x68, 0x00, 0x33, 0x00, 0x00, 0x68, 0x00, 0x22, 0x00, 0x00, 0x68,
            0x00, 0x11, 0x00, 0x00, 0x68, 0x00, 0x55, 0x00, 0x00, 0x68, 0x00, 0x08, 0x00, 0x00, 0x53, 0x68,
            0x00, 0x10, 0x00, 0x00, 0x6A, 0x00, 0xCF,
        ]
        fixture[.rbx] = UInt64(flags | EFlags.vm)
        fixture.write(0x1_0000, program)
        fixture.load(code)
        return fixture
    }

    @Test func segmentsAreThoseOfRealMode() {
        // mov ax, ds; mov bx, [es:4]; mov cx, cs; mov dx, ss; int3
        let program: [UInt8] = [0x8C, 0xD8, 0x26, 0x8B, 0x1E, 0x04, 0x00, 0x8C, 0xC9, 0x8C, 0xD2, 0xCC]
        let fixture = enter(program, flags: 0x3002)
        fixture.write16(0x1_1004, 0xABCD)
        fixture.run()
        #expect(fixture.haltedVector == 3)
        #expect(fixture[.rax] & 0xFFFF == 0x2200)
        #expect(fixture[.rbx] & 0xFFFF == 0xABCD)
        #expect(fixture[.rcx] & 0xFFFF == 0x1000)
        #expect(fixture[.rdx] & 0xFFFF == 0x5500)
        // Nine words on the inner stack: EIP, CS, EFLAGS, ESP, SS, ES, DS, FS, GS.
        let frame = CPUFixture.stackTop - 36
        #expect(fixture[.rsp] == frame)
        let words = (0..<9).map { fixture.read32(frame + UInt64($0) * 4) }
        #expect(words[0] == UInt32(program.count))
        #expect(words[1] == 0x1000)
        #expect(words[2] & EFlags.vm != 0)
        #expect(words[3...8].elementsEqual([0x800, 0x5500, 0x1100, 0x2200, 0x3300, 0x4400]))
        // The data segments are null in the handler, and VM is clear.
        #expect(fixture.state.pointee.segments[3].selector == 0)
        #expect(fixture.state.pointee.systemFlags & EFlags.vm == 0)
        #expect(fixture.state.pointee.cpl == 0)
    }

    /// With IOPL below 3 the instructions that touch IF, and INT n, are #GP(0).
    @Test(arguments: [[0xCD, 0x21], [0xFA], [0xFB], [0x9C], [0x9D], [0xCF]] as [[UInt8]])
    func sensitiveInstructions(program: [UInt8]) {
        let fixture = enter(program, flags: 2)
        fixture.run()
        #expect(fixture.haltedVector == 13)
        #expect(fixture.read32(fixture[.rsp]) == 0)
        #expect(fixture.read32(fixture[.rsp] + 4) == 0)
    }

    /// Instructions of protected mode only are undefined.
    @Test(arguments: [[0x0F, 0x00, 0xC0], [0x63, 0xC0], [0x0F, 0x02, 0xC0]] as [[UInt8]])
    func undefinedInstructions(program: [UInt8]) {
        let fixture = enter(program, flags: 0x3002)
        fixture.run()
        #expect(fixture.haltedVector == 6)
    }

    /// The handler returns with IRETD and the program goes on.
    @Test func returnToTheProgram() {
        // int 0x40; inc si; int3
        let program: [UInt8] = [0xCD, 0x40, 0x46, 0xCC]
        // mov edi, 0x77; iretd
        let handler: [UInt8] = [0xBF, 0x77, 0x00, 0x00, 0x00, 0xCF]
        let fixture = enter(program, flags: 0x3002)
        fixture.write(0x2_1000, handler)
        fixture.setGate(0x40, CPUFixture.kernelCode, 0x2_1000, dpl: 3)
        fixture[.rsi] = 0xFFFF
        fixture.run()
        #expect(fixture.haltedVector == 3)
        #expect(fixture[.rdi] == 0x77)
        #expect(fixture[.rsi] == 0)
    }

    /// Port access asks the permission bitmap, whatever IOPL says.
    @Test func portsAskTheBitmap() {
        let fixture = enter([0xE6, 0x80, 0xE6, 0x81, 0xCC], flags: 0x3002)
        // A bitmap behind the task state: port 80h is allowed, 81h is not.
        fixture.state.pointee.tr.limit = 0x100
        fixture.write(CPUFixture.tss + 0x68, [UInt8](repeating: 0xFF, count: 0x80))
        fixture.write(CPUFixture.tss + 0x68 + 0x10, [0xFE])
        fixture.run()
        #expect(fixture.haltedVector == 13)
        #expect(fixture.bus.portWrites.map(\.port) == [0x80])
    }
}
