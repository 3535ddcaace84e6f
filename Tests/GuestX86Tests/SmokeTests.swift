import GuestX86
import TestSupport
import Testing

@Suite struct SmokeTests {
    /// Sum of 1...100 in a loop, in each mode at CPL 0.
    @Test(arguments: [CPUFixture.Mode.protected32, .paged32, .long64])
    func loop(mode: CPUFixture.Mode) {
        let fixture = CPUFixture(mode)
        // mov ecx, 100; xor eax, eax; l: add eax, ecx; loop l; hlt
        fixture.load([0xB9, 100, 0, 0, 0, 0x31, 0xC0, 0x01, 0xC8, 0xE2, 0xFC, 0xF4])
        let start = fixture.cpu.position
        let stop = fixture.run()
        #expect(stop == .halted)
        #expect(fixture[.rax] == 5050)
        #expect(fixture[.rcx] == 0)
        #expect(fixture.cpu.position - start == 203)
    }
}
