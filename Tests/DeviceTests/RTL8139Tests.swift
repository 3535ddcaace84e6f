import DeviceBus
import MachineState
import Testing

@testable import Devices

/// Realtek's card, as its datasheet has it.
struct RTL8139Tests {
    private let address = EthernetAddress("52:54:00:01:02:03")!
    private let base: UInt64 = 0xC100

    private func card() -> (FakeBoard, RTL8139) {
        let board = FakeBoard()
        let host = board.add(PCIHost(bus: board.bus))
        let card = board.add(
            RTL8139(
                name: "rtl8139", address: address, irq: board.line(11), memory: board, scheduler: board.scheduler, channel: board))
        host.add(card, at: PCIAddress(slot: 4))
        card.reset()
        board.out(0xCF8, 0x8000_2010, 4)
        board.out(0xCFC, base, 4)
        board.out(0xCF8, 0x8000_2004, 4)
        board.out(0xCFC, 5, 4)
        return (board, card)
    }
    private func frame(_ count: Int, to: [UInt8]? = nil) -> [UInt8] {
        (to ?? address.bytes) + [2, 0, 0, 0, 0, 9, 8, 0] + (0..<count - 14).map { UInt8(truncatingIfNeeded: $0) }
    }
    /// A receiver with a ring of 8 KiB at 0x4000 for its own frames and broadcasts.
    private func open(_ board: FakeBoard, _ control: UInt64 = 0x8A) {
        board.out(base + 0x30, 0x4000, 4)
        board.out(base + 0x44, control, 4)
        board.out(base + 0x37, 0x0C)
        board.out(base + 0x3C, 0xFFFF, 2)
    }

    @Test func theEEPROMHasTheAddress() {
        let (board, _) = card()
        #expect((0..<6).map { UInt8(board.in(base + $0)) } == address.bytes)
        func word(_ number: UInt64) -> UInt16 {
            func wires(_ value: UInt64) { board.out(base + 0x50, 0x80 | value) }
            wires(0)
            wires(8)
            for bit in (0..<9 as Range<UInt64>).reversed() {
                let isSet = (6 << 6 | number) >> bit & 1
                wires(8 | isSet << 1)
                wires(8 | isSet << 1 | 4)
            }
            var value: UInt16 = 0
            for _ in 0..<16 {
                wires(8)
                wires(8 | 4)
                value = value << 1 | UInt16(board.in(base + 0x50) & 1)
            }
            wires(0)
            return value
        }
        #expect(word(0) == 0x8129 && word(7) == 0x5452 && word(9) == 0x0302)
        #expect(board.in(base + 0x40, 4) & 0x7CC0_0000 == 0x7400_0000)
    }

    @Test func framesGoOut() {
        let (board, _) = card()
        open(board)
        for number in 0..<5 as Range<UInt64> {
            let bytes = frame(60 + Int(number))
            board.ram.replaceSubrange(0x2000..<0x2000 + bytes.count, with: bytes)
            board.sent = []
            let place = number & 3
            board.out(base + 0x20 + place * 4, 0x2000, 4)
            board.out(base + 0x10 + place * 4, UInt64(bytes.count), 4)
            #expect(board.in(base + 0x10 + place * 4, 4) & 0x2000 == 0, "the card's")
            board.advance(100_000)
            #expect(board.sent == bytes && board.in(base + 0x10 + place * 4, 4) & 0xA000 == 0xA000)
            #expect(board.levels[11] && board.in(base + 0x3E, 2) == 4)
            board.out(base + 0x3E, 4, 2)
            #expect(!board.levels[11])
        }
    }

    @Test func framesComeIntoTheRing() {
        let (board, card) = card()
        open(board)
        #expect(board.in(base + 0x37) & 1 == 1, "empty")
        let bytes = frame(61)
        card.receive(bytes)
        #expect(board.in(base + 0x37) & 1 == 0 && board.in(base + 0x3E, 2) == 1 && board.levels[11])
        #expect(Array(board.ram[0x4000..<0x4004]) == [0x01, 0x40, 65, 0] && Array(board.ram[0x4004..<0x4004 + 61]) == bytes)
        #expect(board.in(base + 0x3A, 2) == 72)
        board.out(base + 0x38, 72 - 16, 2)
        #expect(board.in(base + 0x37) & 1 == 1)
        // A broadcast, and what is not for this card.
        card.receive(frame(60, to: [UInt8](repeating: 0xFF, count: 6)))
        #expect(Array(board.ram[0x4048..<0x404C]) == [0x01, 0x20, 64, 0])
        card.receive(frame(60, to: [0x52, 0x54, 0, 1, 2, 4]))
        card.receive(frame(60, to: [1, 0, 0x5E, 0, 0, 1]))
        #expect(board.in(base + 0x3A, 2) == 72 + 68)
        // The multicast filter takes it: the six highest bits of the CRC.
        board.out(base + 0x44, 0x8E, 4)
        for index in 0..<8 as Range<UInt64> { board.out(base + 8 + index, 0xFF) }
        card.receive(frame(60, to: [1, 0, 0x5E, 0, 0, 1]))
        #expect(board.in(base + 0x3A, 2) == 72 + 68 * 2)
    }

    @Test(arguments: [false, true]) func aFullRingWaitsAndWrapsAround(isLong: Bool) {
        let (board, card) = card()
        open(board, isLong ? 0x8A : 0x0A)
        let bytes = (0..<30).map { frame(1000 + $0) }
        for frame in bytes { card.receive(frame) }
        #expect(board.in(base + 0x3E, 2) & 0x11 == 0x11, "received, and no room")
        // The driver takes frame by frame.
        var place = 0
        var taken: [[UInt8]] = []
        for _ in 0..<100 where board.in(base + 0x37) & 1 == 0 {
            func byte(_ offset: Int) -> UInt8 { board.ram[0x4000 + (isLong ? place + offset : (place + offset) % 8192)] }
            let count = Int(byte(2)) | Int(byte(3)) << 8
            taken.append((4..<count).map(byte))
            place = (place + 4 + count + 3) / 4 * 4 % 8192
            board.out(base + 0x38, UInt64((place - 16) & 0xFFFF), 2)
        }
        #expect(taken == bytes)
    }

    @Test func theLink() {
        let (board, card) = card()
        open(board)
        #expect(board.in(base + 0x58) & 4 == 0 && board.in(base + 0x64, 2) & 4 == 4)
        card.receive([0])
        #expect(board.in(base + 0x58) & 4 == 4 && board.in(base + 0x64, 2) & 4 == 0 && board.in(base + 0x3E, 2) == 0x20)
        board.sent = []
        board.out(base + 0x20, 0x2000, 4)
        board.out(base + 0x10, 60, 4)
        board.advance(100_000)
        #expect(board.sent.isEmpty && board.in(base + 0x10, 4) & 0xA000 == 0xA000)
    }

    @Test func stateIsVisitedAsAWhole() {
        let (board, card) = card()
        open(board)
        card.receive(frame(100))
        StateChecks.loads(card) { self.card().1 }
        StateChecks.namesEachField(of: card.state, card.visitState)
    }

    @Test(arguments: 0..<20 as Range<UInt64>) func anyDriverAndAnyFrames(seed: UInt64) {
        var random = TestRandom(seed)
        let (board, card) = card()
        open(board)
        for _ in 0..<4000 {
            switch random.below(6) {
            case 0...2:
                board.out(base + UInt64(random.below(0x100)), random.next() & 0xFFFF_FFFF, [1, 2, 4][random.below(3)])
            case 3: _ = board.in(base + UInt64(random.below(0xF8)), [1, 2, 4][random.below(3)])
            case 4: card.receive(random.bytes(random.below(2) == 0 ? random.below(80) : 1514))
            default:
                board.out(base + 0x37, 0x0C)
                board.advance(UInt64(random.below(100_000)))
            }
        }
        var visitor = StateVisitor(.save)
        card.visitState(&visitor)
        #expect(visitor.failure == nil)
        for _ in 0..<20 {
            var bytes = visitor.bytes
            for _ in 0..<6 { bytes[random.below(bytes.count)] = UInt8(truncatingIfNeeded: random.next()) }
            var loader = StateVisitor(loading: bytes)
            card.visitState(&loader)
            card.receive(frame(200))
            board.out(base + 0x37, 0x0C)
            board.advance(100_000)
        }
    }
}
