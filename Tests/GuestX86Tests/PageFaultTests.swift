import CPUCore
import GuestX86
import TestSupport
import Testing

/// Page faults: error codes, CR2, accessed and dirty bits (SDM volume 3, 4.7 and 4.8).
@Suite struct PageFaultTests {
    private static let page: UInt64 = 0x40_0000
    private static let physical: UInt64 = 0x30_0000
    private static let present = CPUFixture.present
    private static let writable = CPUFixture.writable
    private static let user = CPUFixture.user

    /// One access: its bytes, the page's flags, CPL 3 or 0, the expected error code (nil: no fault).
    struct Case: Sendable {
        var name: String
        var code: [UInt8]
        var flags: UInt64
        var isUser: Bool
        var error: UInt32?
    }
    // mov eax, [0x400000]; mov [0x400000], eax; jmp to it by way of eax
    private static let read: [UInt8] = [0x8B, 0x04, 0x25, 0x00, 0x00, 0x40, 0x00, 0xCC]
    private static let write: [UInt8] = [0x89, 0x04, 0x25, 0x00, 0x00, 0x40, 0x00, 0xCC]
    private static let jump: [UInt8] = [0xB8, 0x00, 0x00, 0x40, 0x00, 0xFF, 0xE0]
    static let cases: [Case] = [
        Case(name: "not present, read", code: read, flags: 0, isUser: false, error: 0),
        Case(name: "not present, write", code: write, flags: 0, isUser: false, error: 2),
        Case(name: "not present, user read", code: read, flags: 0, isUser: true, error: 4),
        Case(name: "not present, user write", code: write, flags: 0, isUser: true, error: 6),
        Case(name: "not present, fetch", code: jump, flags: 0, isUser: true, error: 0x14),
        Case(name: "supervisor page, user read", code: read, flags: present | writable, isUser: true, error: 5),
        Case(name: "supervisor page, user write", code: write, flags: present | writable, isUser: true, error: 7),
        Case(name: "supervisor page, user fetch", code: jump, flags: present | writable, isUser: true, error: 0x15),
        Case(name: "read-only, user write", code: write, flags: present | user, isUser: true, error: 7),
        Case(name: "read-only, supervisor write, WP", code: write, flags: present, isUser: false, error: 3),
        Case(
            name: "no execute, user", code: jump, flags: present | user | CPUFixture.noExecute, isUser: true,
            error: 0x15),
        Case(
            name: "no execute, supervisor", code: jump, flags: present | CPUFixture.noExecute, isUser: false,
            error: 0x11),
        Case(name: "reserved bit", code: read, flags: present | 1 << 51, isUser: false, error: 9),
        Case(
            name: "reserved bit, user write", code: write, flags: present | writable | user | 1 << 51, isUser: true,
            error: 15),
        Case(name: "allowed read", code: read, flags: present | user, isUser: true, error: nil),
        Case(name: "allowed write", code: write, flags: present | user | writable, isUser: true, error: nil),
    ]

    @Test(arguments: cases, [CPUFixture.Mode.long64, .paged32])
    func errorCode(test: Case, mode: CPUFixture.Mode) {
        let fixture = CPUFixture(mode)
        // The 32-bit encoding of [disp32] has no SIB byte.
        var code = test.code
        if mode == .paged32, code[0] != 0xB8 {
            code.remove(at: 2)
            code[1] = 0x05
        }
        let flags = Self.present | Self.writable | (test.isUser ? Self.user : 0)
        fixture.map(CPUFixture.code, CPUFixture.code, flags: flags)
        fixture.map(Self.page, Self.physical, flags: test.flags)
        fixture.write(Self.physical, [0xCC])
        if test.isUser {
            fixture.setSegments(
                code: mode == .long64 ? CPUFixture.userCode64 : CPUFixture.userCode32, data: CPUFixture.userData)
        }
        fixture.load(code)
        let entry = fixture.entryAddress(Self.page)
        fixture.run()
        guard let error = test.error else {
            #expect(fixture.haltedVector == 3)
            let expected: UInt64 = code[0] == 0x89 ? 0x60 : 0x20
            #expect(fixture.read64(entry) & 0x60 == expected)
            return
        }
        #expect(fixture.haltedVector == 14)
        #expect(fixture.state.pointee.cr2 == Self.page)
        let pushed = mode == .long64 ? fixture.read64(fixture[.rsp]) : UInt64(fixture.read32(fixture[.rsp]))
        #expect(UInt32(pushed) == error)
        #expect(fixture.read64(entry) & 0x60 == 0)
    }

    /// Without CR0.WP the supervisor writes to read-only pages, and the dirty bit is set.
    @Test func supervisorWithoutWriteProtect() {
        let fixture = CPUFixture(.long64)
        fixture.state.pointee.cr0 &= ~CR0.wp
        fixture.map(Self.page, Self.physical, flags: Self.present)
        fixture[.rax] = 0x1234
        fixture.load(Self.write)
        fixture.run()
        #expect(fixture.haltedVector == 3)
        #expect(fixture.read32(Self.physical) == 0x1234)
        #expect(fixture.read64(fixture.entryAddress(Self.page)) & 0x60 == 0x60)
    }

    /// A store over two pages of which the second is missing writes nothing, and CR2 is in the second.
    @Test func storeAcrossPages() {
        let fixture = CPUFixture(.long64)
        fixture.map(Self.page, Self.physical, flags: Self.present | Self.writable)
        fixture[.rbx] = Self.page + 0xFFD
        fixture[.rax] = 0x1122_3344
        // mov [rbx], eax
        fixture.load([0x89, 0x03])
        fixture.run()
        #expect(fixture.haltedVector == 14)
        #expect(fixture.state.pointee.cr2 == Self.page + 0x1000)
        #expect(fixture.read64(fixture[.rsp]) == 2)
        #expect(fixture.read(Self.physical + 0xFFD, count: 3) == [0, 0, 0])
    }

    /// A page is remapped and the change is seen after INVLPG, and after a change of CR3.
    @Test func remapping() {
        let fixture = CPUFixture(.long64)
        let flags = Self.present | Self.writable
        fixture.map(Self.page, Self.physical, flags: flags)
        fixture.write32(Self.physical, 1)
        fixture.write32(Self.physical + 0x1000, 2)
        fixture[.rsi] = fixture.entryAddress(Self.page)
        fixture[.rdi] = Self.physical + 0x1000 | flags
        // mov eax, [0x400000]; mov [rsi], rdi; invlpg [0x400000]; mov ebx, [0x400000]; hlt
        let code: [UInt8] = [
            0x8B, 0x04, 0x25, 0x00, 0x00, 0x40, 0x00, 0x48, 0x89, 0x3E, 0x0F, 0x01, 0x3C, 0x25, 0x00, 0x00,
            0x40, 0x00, 0x8B, 0x1C, 0x25, 0x00, 0x00, 0x40, 0x00, 0xF4,
        ]
        fixture.load(code)
        fixture.run()
        #expect(fixture[.rax] == 1)
        #expect(fixture[.rbx] == 2)
    }

    /// Two-level paging with a 4 MiB page.
    @Test func twoLevelPaging() {
        let fixture = CPUFixture(.protected32)
        // Directory at 0x40000: 4 MiB page at 0, a table for the next 4 MiB.
        fixture.write32(0x4_0000, 0x83)
        fixture.write32(0x4_0004, 0x4_1003)
        fixture.write32(0x4_1000, 0x30_0003)
        fixture.write32(0x30_0004, 0xCAFE)
        // mov eax, 0x40000; mov cr3, eax; mov eax, cr4; or eax, 0x10; mov cr4, eax; mov eax, cr0; or eax,
        // 0x80000000; mov cr0, eax; mov ebx, [0x400004]; mov [0x400008], ebx; mov ecx, [0x401000]
        let code: [UInt8] = [
            0xB8, 0x00, 0x00, 0x04, 0x00, 0x0F, 0x22, 0xD8, 0x0F, 0x20, 0xE0, 0x83, 0xC8, 0x10, 0x0F, 0x22,
            0xE0, 0x0F, 0x20, 0xC0, 0x0D, 0x00, 0x00, 0x00, 0x80, 0x0F, 0x22, 0xC0, 0x8B, 0x1D, 0x04, 0x00,
            0x40, 0x00, 0x89, 0x1D, 0x08, 0x00, 0x40, 0x00, 0x8B, 0x0D, 0x00, 0x10, 0x40, 0x00,
        ]
        fixture.load(code)
        fixture.run()
        #expect(fixture.haltedVector == 14)
        #expect(fixture[.rbx] == 0xCAFE)
        #expect(fixture.read32(0x30_0008) == 0xCAFE)
        #expect(fixture.state.pointee.cr2 == 0x40_1000)
        #expect(fixture.read32(0x4_1000) == 0x30_0063)
        #expect(fixture.read32(0x4_0004) == 0x4_1023)
        #expect(fixture.read32(0x4_0000) == 0xE3)
    }

    /// An instruction that crosses into a page which has become another one, or is none any more, after jumps to it within its
    /// first page: each time both pages are looked at.
    @Test(arguments: [false, true])
    func instructionAcrossAPageThatChanges(isPresent: Bool) {
        let fixture = CPUFixture(.long64)
        let flags = Self.present | Self.writable
        fixture.map(Self.page, Self.physical, flags: flags)
        fixture.map(Self.page + 0x1000, Self.physical + 0x1000, flags: flags)
        // jmp to the last byte; mov al, imm8, whose operand is in the next page; hlt
        fixture.write(Self.physical + 0xFF0, [0xEB, 0x0D])
        fixture.write(Self.physical + 0xFFF, [0xB0, 0x11, 0xF4])
        fixture.write(Self.physical + 0x2000, [0x22, 0xF4])
        func go() {
            fixture.state.pointee.isHalted = false
            fixture.state.pointee.core.pc = Self.page + 0xFF0
            fixture.run()
        }
        for _ in 0..<4 {
            fixture[.rax] = 0
            go()
            #expect(fixture[.rax] == 0x11 && fixture.haltedVector == nil)
        }
        fixture.map(Self.page + 0x1000, Self.physical + 0x2000, flags: isPresent ? flags : 0)
        fixture.state.pointee.isHalted = false
        // mov rax, cr3; mov cr3, rax; hlt: what a switch of processes does.
        fixture.load([0x0F, 0x20, 0xD8, 0x0F, 0x22, 0xD8, 0xF4])
        fixture.run()
        fixture[.rax] = 0
        go()
        if isPresent {
            #expect(fixture[.rax] == 0x22 && fixture.haltedVector == nil)
        } else {
            #expect(fixture[.rax] == 0 && fixture.haltedVector == 14 && fixture.state.pointee.cr2 == Self.page + 0x1000)
        }
    }
}
