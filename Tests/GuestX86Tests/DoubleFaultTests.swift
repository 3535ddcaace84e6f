import CPUCore
import GuestX86
import TestSupport
import Testing

/// Faults during the delivery of faults (SDM volume 3, table 6-5).
@Suite struct DoubleFaultTests {
    private func remove(_ vector: UInt8, _ fixture: CPUFixture) {
        fixture.setGate(vector, CPUFixture.kernelCode, 0, type: 0)
    }

    /// A page fault whose gate is bad: #GP on the way makes a double fault, error code 0.
    @Test(arguments: [CPUFixture.Mode.long64, .paged32])
    func pageFaultThenProtection(mode: CPUFixture.Mode) {
        let fixture = CPUFixture(mode)
        remove(14, fixture)
        // mov eax, [ebx]
        fixture[.rbx] = 0x40_0000
        fixture.load([0x8B, 0x03])
        fixture.run()
        #expect(fixture.haltedVector == 8)
        #expect(fixture.read32(fixture[.rsp]) == 0)
        #expect(fixture.state.pointee.cr2 == 0x40_0000)
    }

    /// A divide error during which a page fault happens is handled one after the other: the page fault comes.
    @Test func divideThenPageFault() {
        let fixture = CPUFixture(.long64)
        // The divide error's handler pushes to a stack that is not there.
        fixture.write64(CPUFixture.tss + 36, 0x50_0000)
        fixture.setGate(0, CPUFixture.kernelCode, CPUFixture.handler(0), count: 1)
        fixture.load([0x31, 0xC9, 0xF7, 0xF1])
        fixture.run()
        #expect(fixture.haltedVector == 14)
        #expect(fixture.state.pointee.cr2 == 0x50_0000 - 8)
    }

    /// An invalid opcode is benign: a #GP on its way is delivered as such.
    @Test func benignThenProtection() {
        let fixture = CPUFixture(.protected32)
        remove(6, fixture)
        fixture.load([0x0F, 0x0B])
        fixture.run()
        #expect(fixture.haltedVector == 13)
        // External event bit, IDT bit, vector 6.
        #expect(fixture.read32(fixture[.rsp]) == 6 * 8 + 3)
    }

    @Test(arguments: [CPUFixture.Mode.real, .protected32, .long64])
    func tripleFault(mode: CPUFixture.Mode) {
        let fixture = CPUFixture(mode)
        fixture.state.pointee.idtLimit = 0
        fixture.load([0x0F, 0x0B], at: mode == .real ? CPUFixture.realCode : CPUFixture.code)
        #expect(fixture.run() == .shutdown)
        #expect(fixture.run() == .shutdown)
    }
}
