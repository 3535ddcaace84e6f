import Testing
import TestSupport

@testable import CPUCore
@testable import GuestX86

/// Stops for a debugger outside, which the guest must not notice.
@Suite struct DebuggerTests {
    /// inc eax; inc ebx; inc ecx; inc edx; jmp back
    private static let loop: [UInt8] = [0xFF, 0xC0, 0xFF, 0xC3, 0xFF, 0xC1, 0xFF, 0xC2, 0xEB, 0xF6]

    private func stop(_ fixture: CPUFixture, _ limit: UInt64) -> CPUDebugger.Stop? {
        while true {
            switch fixture.cpu.run(until: limit) {
            case .debugger: return fixture.cpu.debugger.stop
            case .attention: continue
            default: return nil
            }
        }
    }

    /// A breakpoint in the middle of a block that is translated already.
    @Test func breakpointsStopBeforeTheirInstruction() {
        let fixture = CPUFixture(.long64)
        fixture.load(Self.loop)
        for register in [.rax, .rbx, .rcx, .rdx] as [CPUFixture.Register] { fixture[register] = 0 }
        fixture.run(500)
        let debugger = fixture.cpu.debugger
        let start = fixture.cpu.position
        fixture.cpu.setDebug(breakpoints: [CPUFixture.code + 4], watches: [])
        for turn in 0..<3 {
            #expect(stop(fixture, 10_000) == .breakpoint(CPUFixture.code + 4))
            #expect(fixture.state.pointee.core.pc == CPUFixture.code + 4)
            #expect(fixture.cpu.position == start + 2 + UInt64(turn) * 5)
            #expect(fixture[.rax] == fixture[.rcx] + 1)
            debugger.skipPosition = fixture.cpu.position
            debugger.skipPhase = fixture.cpu.phase
        }
        // Without skipping it stops at once; without breakpoints it runs on.
        debugger.skipPosition = .max
        #expect(stop(fixture, 10_000) == .breakpoint(CPUFixture.code + 4))
        fixture.cpu.setDebug(breakpoints: [], watches: [])
        #expect(stop(fixture, 1000) == nil)
        #expect(fixture.cpu.position == 1000)
        #expect(fixture[.rdx] == 200)
    }

    @Test func aPlaceIsReachedExactly() {
        let fixture = CPUFixture(.long64)
        fixture.load(Self.loop)
        for goal in [3, 7, 8, 64, 1000] as [UInt64] {
            fixture.cpu.debugger.stopPosition = goal
            #expect(stop(fixture, 10_000) == .reached)
            #expect(fixture.cpu.position == goal)
        }
    }

    /// An instruction that faults has the position of its handler's first instruction, and another phase.
    @Test func faultsAreAPhase() {
        let fixture = CPUFixture(.long64)
        fixture.load([0x90, 0x0F, 0x0B])
        fixture.cpu.debugger.stopPosition = 1
        #expect(stop(fixture, 100) == .reached)
        #expect(fixture.cpu.phase == 0)
        #expect(fixture.state.pointee.core.pc == CPUFixture.code + 1)
        fixture.cpu.debugger.stopPhase = 1
        #expect(stop(fixture, 100) == .reached)
        #expect(fixture.cpu.position == 1)
        #expect(fixture.cpu.phase == 1)
        #expect(fixture.state.pointee.core.pc == CPUFixture.handler(6))
    }

    /// mov [0x30000], eax; mov ecx, [0x30004]; mov [0x30008], eax
    @Test func watchesStopAfterTheAccess() {
        let fixture = CPUFixture(.long64)
        let code: [UInt8] = [
            0x89, 0x04, 0x25, 0x00, 0x00, 0x03, 0x00, 0x8B, 0x0C, 0x25, 0x04, 0x00, 0x03, 0x00, 0x89, 0x04, 0x25, 0x08,
            0x00, 0x03, 0x00, 0xEB, 0xE9,
        ]
        fixture.load(code)
        fixture.run(40)
        fixture.cpu.setDebug(
            breakpoints: [],
            watches: [
                .init(start: 0x3_0008, length: 1, kind: .write), .init(start: 0x3_0004, length: 4, kind: .read),
                .init(start: 0x3_0000, length: 4, kind: .read),
            ])
        var seen: [(UInt64, Bool, UInt64)] = []
        for _ in 0..<4 {
            guard case .watch(let hit) = stop(fixture, 1000) else { break }
            seen.append((hit.address, hit.isWrite, fixture.cpu.position - hit.position))
        }
        #expect(seen.map(\.0) == [0x3_0004, 0x3_0008, 0x3_0004, 0x3_0008])
        #expect(seen.map(\.1) == [false, true, false, true])
        #expect(seen.allSatisfy { $0.2 == 1 })
    }

    /// Where a slice of a repeated instruction ends does not depend on what is translated, or watched.
    @Test(arguments: [0, 1, 2])
    func slicesCountTheSame(variant: Int) {
        let fixture = CPUFixture(.long64)
        // rep stosb; hlt
        fixture.load([0xF3, 0xAA, 0xF4])
        let target: UInt64 = 0x3_0000
        if variant == 1 {
            // Code that has been executed lies where the bytes go.
            fixture.write(target + 8, [0x90, 0xEB, 0xFD])
            fixture.state.pointee.core.pc = target + 8
            fixture.run(100)
            fixture.state.pointee.core.pc = CPUFixture.code
        } else if variant == 2 {
            fixture.cpu.setDebug(breakpoints: [], watches: [.init(start: target + 100, length: 4, kind: .write)])
        }
        let start = fixture.cpu.position
        fixture[.rdi] = target
        fixture[.rcx] = 10_000
        fixture[.rax] = 0x90
        var stops = 0
        while stop(fixture, start + 1000) != nil { stops += 1 }
        #expect(stops == (variant == 2 ? 1 : 0))
        // Three slices of 4096 elements at most, and HLT.
        #expect(fixture.cpu.position - start == 4)
        #expect(fixture.read(target + 9999, count: 2) == [0x90, 0])
    }

    /// Looking at memory sets no accessed bit.
    @Test func probesLeaveNoTrace() {
        let fixture = CPUFixture(.long64)
        fixture.map(0x7000_0000, 0x3_0000, flags: CPUFixture.present | CPUFixture.writable)
        let entry = fixture.entryAddress(0x7000_0000)
        fixture.write(0x3_0010, [1, 2, 3])
        #expect(fixture.cpu.probe(0x7000_0010, count: 3, isPhysical: false) == [1, 2, 3])
        #expect(fixture.cpu.probe(0x7000_0FFF, count: 2, isPhysical: false) == nil)
        #expect(fixture.cpu.probe(0x3_0010, count: 3, isPhysical: true) == [1, 2, 3])
        #expect(fixture.read64(entry) & 0x20 == 0)
    }
}
