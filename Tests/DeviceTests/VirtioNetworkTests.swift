import DeviceBus
import Devices
import MachineState
import Testing

/// The virtio network card, driven as a driver does: queue 0 receives, queue 1 sends.
struct VirtioNetworkTests {
    private final class Frames: HostChannel {
        var sent: [[UInt8]] = []
        func send(_ bytes: [UInt8]) { sent.append(bytes) }
        func ask(_ question: UInt32) -> UInt64 { 0 }
    }

    private static let address = EthernetAddress(card: 0)

    private func rig() -> (VirtioRig, VirtioNetwork, Frames) {
        let frames = Frames()
        let card = VirtioNetwork(address: Self.address, channel: frames)
        let rig = VirtioRig(card)
        card.transport = rig.chip
        return (rig, card, frames)
    }

    private static let sendTable = 0x7000
    private static let sendAvailable = 0x8000
    private static let sendUsed = 0x9000

    /// Queue 1 beside queue 0, for the modern interface.
    private func startSending(_ rig: VirtioRig) {
        rig.write(22, 1, 2)
        rig.write(24, 128, 2)
        rig.write(32, UInt64(Self.sendTable), 8)
        rig.write(40, UInt64(Self.sendAvailable), 8)
        rig.write(48, UInt64(Self.sendUsed), 8)
        rig.write(28, 1, 2)
    }
    private func send(_ rig: VirtioRig, _ head: Int, count: Int = 1) {
        rig.put(UInt64(head), 2, at: Self.sendAvailable + 4 + (count - 1) * 2)
        rig.put(UInt64(count), 2, at: Self.sendAvailable + 2)
        rig.write(0x3004, 1, 2)
    }

    private let frame = Self.address.bytes + [2, 0, 0, 0, 0, 1, 8, 0] + (0..<86).map { UInt8($0) }

    @Test func showsItsAddressAndItsLink() {
        let (rig, card, _) = rig()
        #expect(rig.configuration(0) == 0x1000_1AF4)
        #expect(rig.configuration(8) >> 8 == 0x020000)
        #expect(rig.board.in(VirtioRig.ports, 4) & (1 << 5 | 1 << 16) == 1 << 5 | 1 << 16)
        #expect((0..<6).map { UInt8(rig.read(0x2000 + UInt64($0), 1)) } == Self.address.bytes)
        #expect(rig.read(0x2006, 2) == 1)
        rig.startModern()
        let generation = rig.read(21, 1)
        card.receive([0])
        #expect(rig.read(0x2006, 2) == 0)
        #expect(rig.read(21, 1) != generation)
        #expect(rig.board.levels[10], "the driver is told")
        #expect(rig.board.in(VirtioRig.ports + 19) & 2 != 0)
        // Again the same: nothing has changed.
        card.receive([0])
        #expect(!rig.board.levels[10])
        // The cable is not the card's: a reset leaves it as it is.
        rig.write(20, 0, 1)
        #expect(rig.read(0x2006, 2) == 0)
        card.receive([1])
        #expect(rig.read(0x2006, 2) == 1)
    }

    @Test func framesComeIn() {
        let (rig, card, _) = rig()
        rig.startModern()
        // Two come before there is room; a header of 12 bytes goes before each, by the chain's two pieces.
        card.receive(frame)
        card.receive(Array(frame.reversed()))
        rig.descriptor(0, 0x5000, 12, flags: 3, next: 1)
        rig.descriptor(1, 0x5100, 1518, flags: 2)
        rig.descriptor(2, 0x6000, 1530, flags: 2)
        rig.offer(0)
        rig.offer(2)
        rig.board.advance(100_000)
        #expect(rig.usedCount == 2)
        #expect(rig.usedEntry(0) == (0, UInt64(12 + frame.count)))
        #expect(Array(rig.board.ram[0x5000..<0x500C]) == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0])
        #expect(Array(rig.board.ram[0x5100..<0x5100 + frame.count]) == frame)
        #expect(Array(rig.board.ram[0x600C..<0x600C + frame.count]) == Array(frame.reversed()))
        #expect(rig.board.levels[10])
    }

    @Test func theLegacyHeaderIsShorterAndTheAddressCanBeSet() {
        let (rig, card, _) = rig()
        rig.board.out(VirtioRig.ports + 18, 0)
        rig.board.out(VirtioRig.ports + 18, 3)
        rig.board.out(VirtioRig.ports + 4, rig.board.in(VirtioRig.ports, 4), 4)
        rig.board.out(VirtioRig.ports + 20 + 5, 0x99)
        #expect(rig.board.in(VirtioRig.ports + 25) == 0x99)
        rig.board.out(VirtioRig.ports + 14, 0, 2)
        rig.board.out(VirtioRig.ports + 8, UInt64(VirtioRig.table >> 12), 4)
        rig.board.out(VirtioRig.ports + 18, 7)
        // A legacy ring of 256 entries: 4096 bytes of descriptors, then the available ring.
        rig.descriptor(0, 0x5000, 1530, flags: 2)
        rig.put(0, 2, at: 0x2004)
        rig.put(1, 2, at: 0x2002)
        card.receive(frame)
        rig.board.advance(100_000)
        #expect(rig.number(2, at: 0x3002) == 1)
        #expect(rig.number(4, at: 0x3008) == UInt64(10 + frame.count))
        #expect(Array(rig.board.ram[0x500A..<0x500A + frame.count]) == frame)
        // Power-on brings the address back.
        rig.board.out(VirtioRig.ports + 18, 0)
        #expect(rig.board.in(VirtioRig.ports + 25) == UInt64(Self.address.bytes[5]))
    }

    @Test func framesGoOut() {
        let (rig, card, frames) = rig()
        rig.startModern()
        startSending(rig)
        for (index, byte) in frame.enumerated() { rig.board.ram[0x5100 + index] = byte }
        rig.descriptor(0, 0x5000, 12, flags: 1, next: 1, table: Self.sendTable)
        rig.descriptor(1, 0x5100, frame.count, flags: 0, table: Self.sendTable)
        send(rig, 0)
        #expect(frames.sent.isEmpty, "a card takes its time")
        rig.board.advance(100_000)
        #expect(frames.sent == [frame])
        #expect(rig.number(2, at: Self.sendUsed + 2) == 1)
        // Too short, too long, and with the cable out: nothing goes out, the buffers come back.
        rig.descriptor(1, 0x5100, 13, flags: 0, table: Self.sendTable)
        send(rig, 0, count: 2)
        rig.board.advance(100_000)
        rig.descriptor(1, 0x5100, 1519, flags: 0, table: Self.sendTable)
        send(rig, 0, count: 3)
        rig.board.advance(100_000)
        rig.descriptor(1, 0x5100, frame.count, flags: 0, table: Self.sendTable)
        card.receive([0])
        send(rig, 0, count: 4)
        rig.board.advance(100_000)
        #expect(frames.sent == [frame])
        #expect(rig.number(2, at: Self.sendUsed + 2) == 4)
        // A buffer that has no room for the header breaks the rules.
        rig.descriptor(0, 0x5000, 11, flags: 0, table: Self.sendTable)
        send(rig, 0, count: 5)
        rig.board.advance(100_000)
        #expect(rig.read(20, 1) & 0x40 != 0)
    }

    @Test func whatIsNoFrameDoesNotComeIn() {
        let (rig, card, _) = rig()
        rig.startModern()
        rig.descriptor(0, 0x5000, 2000, flags: 2)
        rig.offer(0)
        for bytes in [[], [1], [UInt8](repeating: 1, count: 13), [UInt8](repeating: 1, count: 1519)] { card.receive(bytes) }
        card.receive([0])
        card.receive(frame)
        card.receive([1])
        rig.board.advance(100_000)
        #expect(rig.usedCount == 0)
        // A buffer that is too small for a frame is the driver's fault.
        rig.descriptor(0, 0x5000, 40, flags: 2)
        card.receive(frame)
        #expect(rig.read(20, 1) & 0x40 != 0)
    }

    @Test func framesThatNobodyTakesAreLost() {
        let (rig, card, _) = rig()
        rig.startModern()
        for _ in 0..<NetworkWire.mostWaiting + 7 { card.receive(frame) }
        #expect(card.state.wire.waiting.count == NetworkWire.mostWaiting)
        #expect(card.state.wire.lost == 7)
    }

    @Test func stateIsSavedAndLoaded() {
        let (rig, card, _) = rig()
        rig.startModern()
        card.receive(frame)
        card.receive(frame)
        var save = StateVisitor(.save)
        rig.chip.visitState(&save)
        let (other, otherCard, _) = self.rig()
        otherCard.receive([0])
        var load = StateVisitor(loading: save.bytes)
        other.chip.visitState(&load)
        #expect(load.isComplete)
        #expect(otherCard.isLinkUp && otherCard.state.wire.waiting == [frame, frame])
        var first = StateVisitor(.digest)
        rig.chip.visitState(&first)
        var second = StateVisitor(.digest)
        other.chip.visitState(&second)
        #expect(first.digest.value == second.digest.value)
    }

    /// Rings of random bytes and frames of random lengths: no crash, no endless loop.
    @Test(arguments: 1...20)
    func ringsOfRandomBytes(seed: UInt64) {
        var random = TestRandom(seed)
        let (rig, card, _) = rig()
        for _ in 0..<200 {
            rig.startModern(queueSize: 1 << UInt64(random.below(9)))
            startSending(rig)
            for (table, available, queue) in [
                (VirtioRig.table, VirtioRig.available, UInt64(0)), (Self.sendTable, Self.sendAvailable, 1),
            ] {
                for index in 0..<128 where random.below(2) == 0 {
                    rig.descriptor(
                        index, random.below(0x12000), random.below(4) == 0 ? Int(random.next() >> 33) : random.below(3000),
                        flags: UInt64(random.below(5)), next: random.below(130), table: table)
                }
                for index in 0..<128 { rig.put(UInt64(random.below(140)), 2, at: available + 4 + index * 2) }
                rig.put(UInt64(random.below(130)), 2, at: available + 2)
                rig.write(0x3000 + queue * 4, queue, 2)
            }
            for _ in 0..<random.below(6) { card.receive(random.bytes(random.below(1600))) }
            if random.below(5) == 0 { card.receive([UInt8(random.below(2))]) }
            rig.board.advance(random.next() % 300_000)
        }
    }

    @Test func addressesAsText() {
        #expect(EthernetAddress("52:54:00:aB:cd:01")?.bytes == [0x52, 0x54, 0, 0xAB, 0xCD, 1])
        #expect(EthernetAddress("52-54-00-12-34-56") == EthernetAddress(card: 0))
        #expect(EthernetAddress(card: 2).text == "52:54:00:12:34:58")
        for text in ["", "52:54:00:12:34", "52:54:00:12:34:5", "53:54:00:12:34:56", "52:54:00:12:34:56:78", "52:54:00:12:34:+6"] {
            #expect(EthernetAddress(text) == nil, "\(text)")
        }
    }
}
