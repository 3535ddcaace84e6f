import DeviceBus
import Devices
import MachineState
import Testing

/// A controller with a disk of 1.44 MB in drive A, and DMA channel 2.
private final class FloppyRig {
    let board = FakeBoard()
    let medium = MemoryMedium(sectors: 2880)
    let dma: DMA8237
    let chip: FloppyController

    init() {
        dma = board.add(DMA8237(memory: board))
        chip = board.add(
            FloppyController(media: [medium], irq: board.line(6), dma: dma, scheduler: board.scheduler))
        chip.reset()
        board.out(0x3F2, 0)
        board.out(0x3F2, 0x1C)
        board.advance(1_000_000)
        for _ in 0..<4 { _ = command([0x08]) }
    }

    /// Programs channel 2. Mode: 0x46 to RAM, 0x4A from it.
    func program(_ address: Int, _ count: Int, mode: UInt64) {
        board.out(0x0A, 6)
        board.out(0x0C, 0)
        board.out(0x04, UInt64(address & 0xFF))
        board.out(0x04, UInt64(address >> 8 & 0xFF))
        board.out(0x81, UInt64(address >> 16))
        board.out(0x05, UInt64((count - 1) & 0xFF))
        board.out(0x05, UInt64((count - 1) >> 8))
        board.out(0x0B, mode)
        board.out(0x0A, 2)
    }

    /// Sends a command, waits, and reads the result.
    func command(_ bytes: [UInt8]) -> [UInt8] {
        for byte in bytes { board.out(0x3F5, UInt64(byte)) }
        board.advance(2_000_000_000)
        var result: [UInt8] = []
        while board.in(0x3F4) & 0xC0 == 0xC0, result.count < 16 { result.append(UInt8(board.in(0x3F5))) }
        return result
    }
}

struct FloppyTests {
    @Test func aResetTellsOfFourDrives() {
        let board = FakeBoard()
        let dma = board.add(DMA8237(memory: board))
        let chip = board.add(FloppyController(media: [nil], irq: board.line(6), dma: dma, scheduler: board.scheduler))
        chip.reset()
        board.out(0x3F2, 0x08)
        #expect(board.in(0x3F4) == 0)
        board.out(0x3F2, 0x0C)
        board.advance(1_000_000)
        #expect(board.levels[6])
        for drive in 0..<4 as Range<UInt64> {
            board.out(0x3F5, 0x08)
            #expect(board.in(0x3F5) == 0xC0 | drive)
            #expect(board.in(0x3F5) == 0)
        }
        #expect(!board.levels[6])
        board.out(0x3F5, 0x08)
        #expect(board.in(0x3F5) == 0x80, "no interrupt to tell of")
        #expect(board.in(0x3F4) == 0x80)
    }

    @Test func formatsATrack() {
        let rig = FloppyRig()
        let before = rig.medium.bytes
        _ = rig.command([0x0F, 0, 5])
        _ = rig.command([0x08])
        // The sectors interleaved: 1, 10, 2, 11, ...
        var identifiers: [UInt8] = []
        for index in 0..<9 as Range<UInt8> { identifiers += [5, 1, index + 1, 2, 5, 1, index + 10, 2] }
        rig.board.ram.replaceSubrange(0x4000..<0x4000 + 72, with: identifiers)
        rig.program(0x4000, 72, mode: 0x4A)
        #expect(rig.command([0x4D, 4, 2, 18, 84, 0xF6]) == [0x04, 0, 0, 5, 1, 18, 2])
        let track = (5 * 2 + 1) * 18 * 512
        #expect(rig.medium.bytes[track..<track + 18 * 512].allSatisfy { $0 == 0xF6 })
        #expect(rig.medium.bytes[..<track] == before[..<track])
        #expect(rig.medium.bytes[(track + 18 * 512)...] == before[(track + 18 * 512)...])

        // A sector that an image of this size does not have, and one of another cylinder.
        for identifier in [[5, 1, 19, 2], [6, 1, 1, 2], [5, 1, 1, 3]] as [[UInt8]] {
            rig.board.ram.replaceSubrange(0x4000..<0x4004, with: identifier)
            rig.program(0x4000, 4, mode: 0x4A)
            let result = rig.command([0x4D, 4, 2, 1, 84, 0x11])
            #expect(result.prefix(2) == [0x44, 0x04], "\(identifier): \(result)")
        }
        #expect(!rig.medium.bytes.contains(0x11) || before.contains(0x11))
    }

    @Test func seeksAndReads() {
        let rig = FloppyRig()
        #expect(rig.board.in(0x3F7) == 0x80, "the disk may be a new one")
        _ = rig.command([0x0F, 0, 5])
        #expect(rig.board.levels[6])
        #expect(rig.command([0x08]) == [0x20, 5])
        #expect(rig.board.in(0x3F7) == 0)
        // Cylinder 5, head 1, sectors 17 and 18.
        rig.program(0x4000, 1024, mode: 0x46)
        #expect(rig.command([0xE6, 4, 5, 1, 17, 2, 18, 27, 0xFF]) == [0, 0, 0, 6, 0, 1, 2])
        let first = ((5 * 2 + 1) * 18 + 16) * 512
        #expect(Array(rig.board.ram[0x4000..<0x4400]) == Array(rig.medium.bytes[first..<first + 1024]))
        #expect(rig.board.in(0x08) & 4 != 0, "the channel is at its end")
    }

    @Test func writes() {
        let rig = FloppyRig()
        for index in 0..<512 { rig.board.ram[0x5000 + index] = UInt8(index & 0xFF) ^ 0x77 }
        rig.program(0x5000, 512, mode: 0x4A)
        #expect(rig.command([0xC5, 0, 0, 0, 3, 2, 18, 27, 0xFF])[0] == 0)
        #expect(Array(rig.medium.bytes[1024..<1536]) == Array(rig.board.ram[0x5000..<0x5200]))
    }

    @Test func errors() {
        let rig = FloppyRig()
        rig.program(0x4000, 512, mode: 0x46)
        #expect(rig.command([0xE6, 0, 7, 0, 1, 2, 18, 27, 0xFF]).prefix(2) == [0x40, 0x04], "the head is elsewhere")
        #expect(rig.command([0xE6, 0, 0, 0, 19, 2, 19, 27, 0xFF]).prefix(2) == [0x40, 0x04], "there are 18 sectors")
        #expect(rig.command([0xE6, 1, 0, 0, 1, 2, 18, 27, 0xFF]).prefix(2) == [0x41, 0x01], "no disk in drive B")
        rig.program(0x4000, 4096, mode: 0x46)
        #expect(rig.command([0x66, 0, 0, 0, 18, 2, 18, 27, 0xFF]).prefix(2) == [0x40, 0x80], "the cylinder ends first")
        #expect(rig.command([0x1F]) == [0x80])
        rig.program(0x4000, 512, mode: 0x46)
        for byte in [0xE6, 0, 0, 0, 1, 2, 18, 27, 0xFF] as [UInt64] { rig.board.out(0x3F5, byte) }
        rig.chip.receive([12])
        rig.board.advance(100_000_000)
        #expect(rig.board.in(0x3F5) == 0x40 && rig.board.in(0x3F5) == 0x20, "the host has failed")
    }

    /// Random commands with a channel at work: no crash, no endless loop.
    @Test(arguments: 1...10)
    func randomCommands(seed: UInt64) {
        var random = TestRandom(seed)
        let rig = FloppyRig()
        for _ in 0..<300 {
            rig.program(random.below(1 << 18), 1 + random.below(65536), mode: UInt64(random.below(256)) & ~3 | 2)
            let codes: [UInt8] = [0xE6, 0xC5, 0x4A, 0x0F, 0x07, 0x0E, 0x46, 0x08, 0x13]
            var bytes = (0..<9).map { _ in UInt8(random.below(random.below(3) == 0 ? 256 : 20)) }
            bytes[0] = codes[random.below(codes.count)]
            _ = rig.command(bytes)
        }
    }
}

struct HPETTests {
    private let board = FakeBoard()
    private let base = HPET.base

    private func make() -> HPET {
        let chip = board.add(
            HPET(timer: board.line(0), clock: board.line(8), ioAPIC: board, scheduler: board.scheduler))
        chip.reset()
        return chip
    }
    private func read(_ offset: UInt64, _ width: Int = 8) -> UInt64 { board.bus.read(.memory, base + offset, width: width) }
    private func write(_ offset: UInt64, _ value: UInt64, _ width: Int = 8) {
        board.bus.write(.memory, base + offset, width: width, value: value)
    }

    @Test func counts() {
        _ = make()
        #expect(read(0) >> 32 == 10_000_000 && read(0) & 0xFF == 1)
        write(0x10, 1)
        board.advance(1_000_000)
        #expect(read(0xF0) == 100_000)
        write(0x10, 0)
        board.advance(1_000_000)
        #expect(read(0xF0) == 100_000)
        write(0xF0, 7)
        #expect(read(0xF0, 4) == 7)
    }

    @Test func oneShotAndPeriodic() {
        _ = make()
        // Timer 2 to I/O APIC input 21, once; timer 0 periodic, with legacy replacement, to interrupt 0.
        write(0x140, 4 | 21 << 9)
        write(0x148, 1000)
        write(0x100, 4 | 8 | 0x40)
        write(0x108, 500)
        write(0x108, 500)
        write(0x10, 3)
        board.advance(9_000)
        #expect(board.edges[0] == 1 && board.edges[21] == 0)
        board.advance(2_000)
        #expect(board.edges[0] == 2 && board.edges[21] == 1)
        board.advance(100_000)
        #expect(board.edges[0] == 22 && board.edges[21] == 1)
    }

    @Test func levelTriggeredUntilTaken() {
        _ = make()
        write(0x120, 2 | 4 | 20 << 9)
        write(0x128, 100)
        write(0x10, 1)
        board.advance(2_000)
        #expect(board.levels[20] && read(0x20) == 2)
        write(0x20, 2)
        #expect(!board.levels[20] && read(0x20) == 0)
    }

    @Test func legacyReplacementTakesTheOthersLines() {
        let chip = make()
        chip.setInput(0, true)
        #expect(board.levels[0])
        write(0x10, 3)
        #expect(!board.levels[0])
        chip.setInput(1, true)
        #expect(!board.levels[8])
        write(0x10, 0)
        #expect(board.levels[0] && board.levels[8])
    }
}

struct SmallPortTests {
    @Test func theParallelPortPrints() {
        let board = FakeBoard()
        let chip = board.add(
            ParallelPort(name: "parallel0", base: 0x378, irq: board.line(7), scheduler: board.scheduler, channel: board))
        chip.reset()
        for byte in "Hi".utf8 {
            #expect(board.in(0x379) & 0x80 != 0)
            board.out(0x378, UInt64(byte))
            board.out(0x37A, 0x1D)
            #expect(board.in(0x379) & 0x80 == 0)
            board.out(0x37A, 0x1C)
            board.advance(10_000)
        }
        #expect(board.sent == Array("Hi".utf8))
        #expect(board.edges[7] == 2)
    }

    @Test func thePanicPortTells() {
        let board = FakeBoard()
        _ = board.add(PanicPort(channel: board))
        #expect(board.in(0x505) == 3)
        board.out(0x505, 1)
        #expect(board.sent == [1])
    }
}
