import DeviceBus
import MachineState
import Testing

@testable import Devices

/// Intel's AC '97 sound, driven as its driver does.
struct AC97Tests {
    private let codec: UInt64 = 0xC400
    private let master: UInt64 = 0xC800

    private func card() -> (FakeBoard, AC97, SoundMessages) {
        let board = FakeBoard()
        let messages = SoundMessages()
        let host = board.add(PCIHost(bus: board.bus))
        let card = board.add(AC97(name: "ac97", irq: board.line(9), memory: board, scheduler: board.scheduler, channel: messages))
        host.add(card, at: PCIAddress(slot: 4))
        card.reset()
        for (register, value) in [(0x10, codec), (0x14, master), (0x04, 5)] as [(UInt64, UInt64)] {
            board.out(0xCF8, 0x8000_2000 | register, 4)
            board.out(0xCFC, value, 4)
        }
        board.out(master + 0x2C, 2, 4)
        return (board, card, messages)
    }

    /// Descriptor `number` of a list at 0x1000.
    private func describe(_ board: FakeBoard, _ number: Int, _ address: Int, samples: Int, flags: Int) {
        let value = address | samples << 32 | flags << 48
        for lane in 0..<8 { board.ram[0x1000 + number * 8 + lane] = UInt8(truncatingIfNeeded: value >> (lane * 8)) }
    }

    @Test func theCodec() {
        let (board, _, _) = card()
        #expect(board.in(master + 0x30, 4) & 0x100 == 0x100, "ready")
        #expect(board.in(master + 0x34) == 0 && board.in(master + 0x34) == 1, "the semaphore is taken")
        #expect(board.in(codec + 0x7C, 2) == 0x8384 && board.in(master + 0x34) == 0, "and given back")
        #expect(board.in(codec + 0x26, 2) == 0x0F && board.in(codec + 2, 2) == 0x8000)
        board.out(codec + 2, 0x0404, 2)
        #expect(board.in(codec + 2, 2) == 0x0404)
        // The rate can be changed when the driver has said that it will.
        board.out(codec + 0x2C, 44_100, 2)
        #expect(board.in(codec + 0x2C, 2) == 48_000)
        board.out(codec + 0x2A, 1, 2)
        board.out(codec + 0x2C, 44_100, 2)
        #expect(board.in(codec + 0x2C, 2) == 44_100)
        board.out(codec, 0, 2)
        #expect(board.in(codec + 2, 2) == 0x8000 && board.in(codec + 0x2C, 2) == 48_000)
    }

    @Test func samplesGoOutAtTheirRate() {
        let (board, _, messages) = card()
        let bytes = (0..<4096).map { UInt8(truncatingIfNeeded: $0 &* 13) }
        board.ram.replaceSubrange(0x2000..<0x3000, with: bytes)
        describe(board, 0, 0x2000, samples: 960, flags: 0x8000)
        describe(board, 1, 0x2000 + 1920, samples: 960, flags: 0)
        board.out(master + 0x10, 0x1000, 4)
        board.out(master + 0x15, 1)
        board.out(master + 0x1B, 0x15)
        // 480 frames of two samples take 10 ms.
        board.advance(5_000_000)
        #expect(board.in(master + 0x18, 2) == 480 && board.in(master + 0x14) == 0 && messages.samples == Array(bytes[..<960]))
        board.advance(5_000_001)
        #expect(board.in(master + 0x14) == 1 && board.in(master + 0x16, 2) == 8 && board.levels[9])
        board.out(master + 0x16, 8, 2)
        #expect(!board.levels[9])
        board.advance(10_000_000)
        #expect(board.in(master + 0x16, 2) == 7 && board.levels[9], "the end: halted, and the last one is done")
        #expect(messages.samples == Array(bytes[..<3840]))
        // A new last one, and it goes on.
        describe(board, 2, 0x2000, samples: 2, flags: 0)
        board.out(master + 0x16, 0x1C, 2)
        board.out(master + 0x15, 2)
        #expect(board.in(master + 0x16, 2) == 0)
        board.advance(1_000_000)
        #expect(messages.samples.count == 3844)
        board.out(master + 0x1B, 0)
        board.out(master + 0x1B, 2)
        #expect(board.in(master + 0x1B) == 0 && board.in(master + 0x16, 2) == 1 && board.in(master + 0x10, 4) == 0)
    }

    @Test func aRecordingIsWhatCameIn() {
        let (board, card, messages) = card()
        card.receive([1, 2, 3, 4])
        describe(board, 0, 0x2000, samples: 8, flags: 0x8000)
        describe(board, 1, 0x2100, samples: 8, flags: 0)
        board.out(master + 0x00, 0x1000, 4)
        board.out(master + 0x05, 1)
        board.out(master + 0x0B, 0x11)
        #expect(messages.sent == [[2, 0x80, 0xBB, 0, 0]], "48000 frames a second")
        let bytes = (1...24).map { UInt8($0) }
        card.receive(bytes + [99])
        board.advance(1_000_000)
        #expect(Array(board.ram[0x2000..<0x2010]) == Array(bytes[..<16]), "not what came before")
        #expect(Array(board.ram[0x2100..<0x2110]) == Array(bytes[16...]) + [UInt8](repeating: 0, count: 8))
        board.out(master + 0x0B, 0)
        #expect(messages.sent.last == [3, 0x80, 0xBB, 0, 0])
    }

    @Test func stateIsVisitedAsAWhole() {
        let (board, card, _) = card()
        describe(board, 0, 0x2000, samples: 100, flags: 0)
        board.out(master + 0x10, 0x1000, 4)
        board.out(master + 0x1B, 1)
        StateChecks.loads(card) { self.card().1 }
        StateChecks.namesEachField(of: card.state, card.visitState)
        var stream = AC97.Stream()
        StateChecks.namesEachField(of: stream) { stream.visit(&$0) }
    }

    @Test(arguments: 0..<20 as Range<UInt64>) func anyDriver(seed: UInt64) {
        var random = TestRandom(seed)
        let (board, card, _) = card()
        for _ in 0..<3000 {
            switch random.below(8) {
            case 0...2: board.out(master + UInt64(random.below(0x3C)), random.next() & 0xFFFF_FFFF, [1, 2, 4][random.below(3)])
            case 3: board.out(codec + UInt64(random.below(0xFC)), random.next() & 0xFFFF, [1, 2, 4][random.below(3)])
            case 4: _ = board.in(master + UInt64(random.below(0x3C)), [1, 2, 4][random.below(3)])
            case 5: card.receive(random.bytes(random.below(2000)))
            case 6:
                let stream = UInt64(random.below(3)) * 16
                board.out(master + stream, UInt64(random.below(0x8000)), 4)
                board.out(master + stream + 5, UInt64(random.below(32)))
                board.out(master + stream + 11, 0x15)
            default: board.advance(UInt64(random.below(3_000_000)))
            }
        }
        var visitor = StateVisitor(.save)
        card.visitState(&visitor)
        for _ in 0..<20 {
            var bytes = visitor.bytes
            for _ in 0..<8 { bytes[random.below(bytes.count)] = UInt8(truncatingIfNeeded: random.next()) }
            var loader = StateVisitor(loading: bytes)
            card.visitState(&loader)
            _ = board.in(master + 0x18, 2)
            board.out(master + 0x1B, 1)
            board.advance(1_000_000)
        }
    }
}
