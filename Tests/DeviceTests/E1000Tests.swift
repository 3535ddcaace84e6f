import DeviceBus
import Devices
import MachineState
import Testing

/// The 82540EM, driven as its driver does.
struct E1000Tests {
    private final class Frames: HostChannel {
        var sent: [[UInt8]] = []
        func send(_ bytes: [UInt8]) { sent.append(bytes) }
        func ask(_ question: UInt32) -> UInt64 { 0 }
    }

    private static let address = EthernetAddress(card: 3)
    private static let base: UInt64 = 0xE000_0000

    /// A card on a board with its registers in place.
    private final class Rig {
        let board = FakeBoard()
        let frames = Frames()
        let card: E1000

        init() {
            let host = board.add(PCIHost(bus: board.bus))
            card = board.add(
                E1000(
                    name: "e1000", address: E1000Tests.address, irq: board.line(10), memory: board, scheduler: board.scheduler,
                    channel: frames))
            host.add(card, at: PCIAddress(slot: 4))
            host.reset()
            card.reset()
            for (register, value) in [(0x10, UInt32(E1000Tests.base)), (0x14, 0xC000), (0x04, 7)] as [(UInt64, UInt32)] {
                board.out(0xCF8, 0x8000_2000 | register, 4)
                board.out(0xCFC, UInt64(value), 4)
            }
        }

        subscript(offset: UInt64) -> UInt32 {
            get { UInt32(board.bus.read(.memory, E1000Tests.base + offset, width: 4)) }
            set { board.bus.write(.memory, E1000Tests.base + offset, width: 4, value: UInt64(newValue)) }
        }
        func put(_ value: UInt64, _ width: Int, at address: Int) {
            for lane in 0..<width { board.ram[address + lane] = UInt8(truncatingIfNeeded: value >> UInt64(lane * 8)) }
        }
        func number(_ width: Int, at address: Int) -> UInt64 {
            (0..<width).reduce(0) { $0 | UInt64(board.ram[address + $1]) << UInt64($1 * 8) }
        }
        /// Rings of eight descriptors: received at 0x1000, sent at 0x2000; buffers of 2048 bytes from 0x4000 on.
        func start() {
            self[0x2800] = 0x1000
            self[0x2808] = 128
            for index in 0..<8 { put(UInt64(0x4000 + index * 0x800), 8, at: 0x1000 + index * 16) }
            self[0x2818] = 7
            self[0x100] = 0x8002
            self[0x3800] = 0x2000
            self[0x3808] = 128
            self[0x400] = 2
            self[0xD0] = 0xFFFF
        }
    }

    private let frame = Self.address.bytes + [2, 0, 0, 0, 0, 1, 8, 0] + (0..<86).map { UInt8($0) }

    @Test func theEEPROMHasTheAddressAndItsSum() {
        let rig = Rig()
        func word(_ index: UInt32) -> UInt16 {
            rig[0x14] = index << 8 | 1
            #expect(rig[0x14] & 0x10 != 0)
            return UInt16(rig[0x14] >> 16)
        }
        func wires(_ value: UInt32) { rig[0x10] = value }
        /// The same by the wires: select, start bit and operation, address, 16 clocks.
        func wireWord(_ index: UInt32) -> UInt16 {
            wires(0x40)
            #expect(rig[0x10] & 0x80 != 0, "granted")
            wires(0x42)
            for bit in (0..<9).reversed() {
                let data: UInt32 = (6 << 6 | index) >> UInt32(bit) & 1 != 0 ? 4 : 0
                wires(0x42 | data)
                wires(0x43 | data)
                wires(0x42 | data)
            }
            var value: UInt16 = 0
            for _ in 0..<16 {
                wires(0x43)
                value = value << 1 | UInt16(rig[0x10] >> 3 & 1)
                wires(0x42)
            }
            wires(0x40)
            return value
        }
        let words: [UInt16] = (0..<64).map { word(UInt32($0)) }
        var sum: UInt16 = 0
        for word in words { sum &+= word }
        #expect(sum == 0xBABA)
        var bytes: [UInt8] = []
        for word in words.prefix(3) { bytes += [UInt8(word & 0xFF), UInt8(word >> 8)] }
        #expect(bytes == Self.address.bytes)
        let wired: [UInt16] = (0..<64).map { wireWord(UInt32($0)) }
        #expect(wired == words)
        // The card has loaded its address.
        #expect(rig[0x5400] == 0x1200_5452 && rig[0x5404] == 0x8000_5934)
    }

    @Test func thePHYHasALink() {
        let rig = Rig()
        func phy(_ number: UInt32) -> UInt32 {
            rig[0x20] = 2 << 26 | 1 << 21 | number << 16
            #expect(rig[0x20] >> 28 & 5 == 1)
            return rig[0x20] & 0xFFFF
        }
        #expect(phy(2) == 0x0141 && phy(3) == 0x0C20)
        #expect(phy(1) & 0x24 == 0x24 && phy(17) & 0x400 != 0 && rig[8] & 2 != 0)
        rig[0xD0] = 4
        rig.card.receive([0])
        #expect(phy(1) & 4 == 0 && phy(17) & 0x400 == 0 && rig[8] & 2 == 0)
        #expect(rig.board.levels[10])
        #expect(rig[0xC0] == 4)
        #expect(!rig.board.levels[10] && rig[0xC0] == 0, "reading takes it away")
        rig[0x20] = 2 << 26 | 2 << 21
        #expect(rig[0x20] >> 30 == 1, "there is no PHY 2")
        // The other way to the registers: by ports.
        rig.board.out(0xC000, 8, 4)
        #expect(rig.board.in(0xC004, 4) == UInt64(rig[8]))
    }

    @Test func framesComeIn() {
        let rig = Rig()
        rig.card.receive(frame)
        rig.start()
        #expect(rig[0x2810] == 1)
        #expect(rig.number(2, at: 0x1008) == UInt64(frame.count + 4))
        #expect(rig.board.ram[0x100C] & 3 == 3)
        #expect(Array(rig.board.ram[0x4000..<0x4000 + frame.count]) == frame)
        #expect(rig.board.levels[10] && rig[0xC0] & 0x80 != 0)
        // Of another address, of a group: not for this card, until it takes all.
        let other = [0x52, 0x54, 0, 0, 0, 9] + frame.dropFirst(6)
        let group = [1, 0, 0x5E, 0, 0, 1] + frame.dropFirst(6)
        rig.card.receive(other)
        rig.card.receive(group)
        #expect(rig[0x2810] == 1)
        // The table of groups: bits 47...36 of the address, 0x010.
        rig[0x5200] = 1 << 16
        rig.card.receive(group)
        #expect(rig[0x2810] == 2)
        rig[0x100] = 0x8002 | 8
        rig.card.receive(other)
        #expect(rig[0x2810] == 3)
        // Small buffers: a frame in two of 256 bytes, the check sequence off.
        rig[0x100] = 0x8002 | 3 << 16 | 1 << 26
        rig.card.receive(Array(frame.prefix(14)) + [UInt8](repeating: 7, count: 300))
        #expect(rig[0x2810] == 5)
        #expect(rig.number(2, at: 0x1038) == 256 && rig.board.ram[0x103C] & 3 == 1)
        #expect(rig.number(2, at: 0x1048) == 58 && rig.board.ram[0x104C] & 3 == 3)
        // Two buffers are left: the third frame waits for the tail to go on.
        for _ in 0..<3 { rig.card.receive(frame) }
        #expect(rig[0x2810] == 7)
        rig[0x2818] = 1
        #expect(rig[0x2810] == 0)
        #expect(rig[0x4074] == 7 && rig[0x4074] == 0, "counted until it is read")
    }

    @Test func shortFramesAreFilledAndChecked() {
        let rig = Rig()
        rig.start()
        rig.card.receive(Array(frame.prefix(20)))
        #expect(rig.number(2, at: 0x1008) == 64)
        // CRC-32 over a frame and its own check sequence has a known rest.
        var rest = UInt32.max
        for byte in rig.board.ram[0x4000..<0x4040] {
            rest ^= UInt32(byte)
            for _ in 0..<8 { rest = rest & 1 != 0 ? rest >> 1 ^ 0xEDB8_8320 : rest >> 1 }
        }
        #expect(rest == 0xDEBB_20E3)
    }

    @Test func framesGoOut() {
        let rig = Rig()
        rig.start()
        for (index, byte) in frame.enumerated() { rig.board.ram[0x8000 + index] = byte }
        // In two legacy descriptors; the second one ends the frame and wants to be reported.
        rig.put(0x8000, 8, at: 0x2000)
        rig.put(20, 8, at: 0x2008)
        rig.put(0x8014, 8, at: 0x2010)
        rig.put(UInt64(frame.count - 20) | 0x09 << 24, 8, at: 0x2018)
        rig[0x3818] = 2
        #expect(rig.frames.sent.isEmpty)
        rig.board.advance(100_000)
        #expect(rig.frames.sent == [frame])
        #expect(rig[0x3810] == 2 && rig.board.ram[0x200C] == 0 && rig.board.ram[0x201C] == 1)
        #expect(rig[0xC0] & 3 == 3)
    }

    /// The checksum of bytes as a receiver sees it: 0xFFFF when it is right.
    private func sum(_ bytes: [UInt8]) -> Int {
        var sum = 0
        for (index, byte) in bytes.enumerated() { sum += Int(byte) << (index % 2 == 0 ? 8 : 0) }
        while sum > 0xFFFF { sum = sum & 0xFFFF + sum >> 16 }
        return sum
    }

    @Test func segmentsAreSplit() {
        let rig = Rig()
        rig.start()
        var header = [UInt8](repeating: 0, count: 54)
        header.replaceSubrange(12..<14, with: [8, 0])
        header[14] = 0x45
        header.replaceSubrange(18..<20, with: [0x12, 0xFF])
        header[23] = 6
        header.replaceSubrange(26..<34, with: [10, 0, 2, 15, 10, 0, 2, 2])
        header.replaceSubrange(38..<42, with: [0xFF, 0xFF, 0xFF, 0])
        header[46] = 0x50
        // PSH, FIN, ACK.
        header[47] = 0x19
        let pseudo = Array(header[26..<34]) + [0, 6]
        let partial = sum(pseudo)
        header[50] = UInt8(partial >> 8)
        header[51] = UInt8(partial & 0xFF)
        let payload = (0..<2500).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        for (index, byte) in (header + payload).enumerated() { rig.board.ram[0x8000 + index] = byte }
        // Context: IP from 14, its sum at 24 up to 33; TCP from 34, its sum at 50 up to the end; 54 of header, MSS 1000.
        for (place, byte) in [(0, 14), (1, 24), (2, 33), (4, 34), (5, 50), (11, 0x27), (13, 54)] { rig.put(UInt64(byte), 1, at: 0x2000 + place) }
        rig.put(2500, 2, at: 0x2008)
        rig.put(1000, 2, at: 0x200E)
        rig.put(0x8000, 8, at: 0x2010)
        rig.put(0x0300_2D10_09FA, 8, at: 0x2018)
        rig[0x3818] = 2
        rig.board.advance(100_000)
        #expect(rig.frames.sent.map(\.count) == [1054, 1054, 554])
        #expect(rig.frames.sent.flatMap { $0.dropFirst(54) } == payload)
        for (index, frame) in rig.frames.sent.enumerated() {
            let tcp = Array(frame[34...])
            #expect(sum(Array(frame[14..<34])) == 0xFFFF)
            let length = [UInt8(tcp.count >> 8), UInt8(tcp.count & 0xFF)]
            #expect(sum(pseudo + length + tcp) == 0xFFFF)
            func number(_ place: Int, _ width: Int) -> UInt32 {
                frame[place..<place + width].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
            }
            #expect(number(16, 2) == UInt32(frame.count - 14))
            #expect(number(18, 2) == UInt32(0x12FF + index))
            #expect(number(38, 4) == 0xFFFF_FF00 &+ UInt32(index * 1000))
            #expect(frame[47] == (index == 2 ? 0x19 : 0x10))
        }
    }

    // MARK: What is taken off the driver's hands

    /// IPv4 with TCP (6) or UDP (17), its checksums right.
    private func packet(_ kind: UInt8, tag: UInt16? = nil, payload: Int = 37) -> [UInt8] {
        var ip: [UInt8] = [0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, kind, 0, 0, 10, 0, 2, 2, 10, 0, 2, 15]
        var body: [UInt8] = kind == 6 ? [0, 80, 4, 0, 0, 0, 0, 9, 0, 0, 0, 7, 0x50, 0x10, 8, 0, 0, 0, 0, 0] : [0, 53, 4, 0, 0, 0, 0, 0]
        body += (0..<payload).map { UInt8(truncatingIfNeeded: $0 &* 11 &+ 3) }
        if kind == 17 { (body[4], body[5]) = (UInt8(body.count >> 8), UInt8(body.count & 255)) }
        (ip[2], ip[3]) = (UInt8((20 + body.count) >> 8), UInt8((20 + body.count) & 255))
        let header = 0xFFFF - sum(ip)
        (ip[10], ip[11]) = (UInt8(header >> 8), UInt8(header & 255))
        let all = 0xFFFF - sum(Array(ip[12...]) + [0, kind, UInt8(body.count >> 8), UInt8(body.count & 255)] + body)
        let place = kind == 6 ? 16 : 6
        (body[place], body[place + 1]) = (UInt8(all >> 8), UInt8(all & 255))
        let between = tag.map { [0x81, 0, UInt8($0 >> 8), UInt8($0 & 255)] as [UInt8] } ?? []
        return Self.address.bytes + [2, 0, 0, 0, 0, 1] + between + [8, 0] + ip + body
    }

    /// Status and errors of descriptor `index`.
    private func result(_ rig: Rig, _ index: Int) -> [UInt8] { Array(rig.board.ram[0x100C + index * 16..<0x100E + index * 16]) }

    @Test(arguments: [6, 17] as [UInt8])
    func checksumsOfWhatComesIn(kind: UInt8) {
        let rig = Rig()
        rig.start()
        // Not asked for: nobody has looked.
        rig.card.receive(packet(kind))
        #expect(result(rig, 0) == [0x07, 0])
        rig[0x38] = 0x8100
        rig[0x5000] = 0x300
        for payload in [0, 37, 1400] as [Int] {
            let rig = Rig()
            rig.start()
            rig[0x5000] = 0x300
            rig.card.receive(packet(kind, payload: payload))
            #expect(result(rig, 0) == [0x63, 0])
        }
        var broken = packet(kind)
        broken[60] ^= 1
        rig.card.receive(broken)
        #expect(result(rig, 1) == [0x63, 0x20], "TCP's or UDP's is wrong")
        broken = packet(kind)
        broken[22] ^= 1
        rig.card.receive(broken)
        #expect(result(rig, 2) == [0x63, 0x40], "IP's is wrong")
        // A fragment's end, another protocol, no IP at all, one that is cut off.
        broken = packet(kind)
        broken[20] = 0x20
        (broken[24], broken[25]) = (0, 0)
        let header = 0xFFFF - sum(Array(broken[14..<34]))
        (broken[24], broken[25]) = (UInt8(header >> 8), UInt8(header & 255))
        rig.card.receive(broken)
        #expect(result(rig, 3) == [0x43, 0])
        rig.card.receive(Array(frame.prefix(12)) + [0x86, 0xDD] + [UInt8](repeating: 0x45, count: 60))
        #expect(result(rig, 4) == [0x07, 0])
        rig.card.receive(Array(packet(kind, payload: 300).prefix(100)))
        #expect(result(rig, 5) == [0x07, 0])
        rig.card.receive(packet(kind, tag: 5))
        #expect(result(rig, 6) == [0x63, 0], "behind a tag that stays")
    }

    @Test func thePacketsChecksum() {
        let rig = Rig()
        rig.start()
        rig[0x100] = 0x8002 | 1 << 26
        rig[0x5000] = 14
        rig.card.receive(packet(6))
        // In the network's order.
        let bytes = Array(packet(6)[14...])
        let field = rig.board.ram[0x100A..<0x100C].reduce(0) { $0 << 8 | Int($1) }
        #expect(field == 0xFFFF - sum(bytes))
    }

    @Test func tagsOfVLANs() {
        let rig = Rig()
        rig.start()
        rig[0x38] = 0x8100
        rig[0x5000] = 0x300
        rig.card.receive(packet(6, tag: 0x6005))
        #expect(result(rig, 0) == [0x63, 0])
        #expect(Array(rig.board.ram[0x4000..<0x4000 + 20]) == Array(packet(6, tag: 0x6005).prefix(20)))
        // CTRL.VME: the tag comes out.
        rig[0] = rig[0] | 1 << 30
        rig.card.receive(packet(17, tag: 0x6005))
        #expect(result(rig, 1) == [0x6B, 0])
        #expect(rig.number(2, at: 0x101E) == 0x6005)
        #expect(rig.number(2, at: 0x1018) == UInt64(packet(17).count + 4))
        #expect(Array(rig.board.ram[0x4800..<0x4800 + 60]) == Array(packet(17).prefix(60)))
        rig.card.receive(packet(6))
        #expect(result(rig, 2) == [0x63, 0] && rig.number(2, at: 0x102E) == 0)
        // RCTL.VFE: only those in the table, and without CFI if so wished.
        rig[0x100] = rig[0x100] | 1 << 18
        rig.card.receive(packet(6, tag: 5))
        #expect(rig[0x2810] == 3)
        rig.card.receive(packet(6))
        #expect(rig[0x2810] == 4)
        rig[0x5600 + 4 * 2] = 1 << 6
        rig.card.receive(packet(6, tag: 70))
        rig.card.receive(packet(6, tag: 71))
        #expect(rig[0x2810] == 5)
        rig[0x100] = rig[0x100] | 1 << 19
        rig.card.receive(packet(6, tag: 0x1000 | 70))
        #expect(rig[0x2810] == 5)
        rig[0x100] = rig[0x100] | 1 << 20
        rig.card.receive(packet(6, tag: 0x1000 | 70))
        #expect(rig[0x2810] == 6)
    }

    @Test func tagsOfWhatGoesOut() {
        let rig = Rig()
        rig.start()
        rig[0x38] = 0x8100
        for (index, byte) in frame.enumerated() { rig.board.ram[0x8000 + index] = byte }
        func send(_ at: Int, _ second: UInt64) {
            rig.put(0x8000, 8, at: 0x2000 + at * 16)
            rig.put(UInt64(frame.count) | second, 8, at: 0x2008 + at * 16)
            rig[0x3818] = UInt32(at + 1)
            rig.board.advance(100_000)
        }
        // Legacy, with VLE; without CTRL.VME nothing happens.
        send(0, 0x4B << 24 | 0x2007 << 48)
        #expect(rig.frames.sent.last == frame)
        rig[0] = rig[0] | 1 << 30
        send(1, 0x4B << 24 | 0x2007 << 48)
        let tagged = Array(frame[..<12]) + [0x81, 0, 0x20, 7] + Array(frame[12...])
        #expect(rig.frames.sent.last == tagged)
        // An extended one, and one without VLE.
        send(2, 0x6B << 24 | 1 << 20 | 0x2007 << 48)
        #expect(rig.frames.sent.last == tagged)
        send(3, 0x2B << 24 | 1 << 20 | 0x2007 << 48)
        #expect(rig.frames.sent.last == frame)
        #expect(rig.frames.sent.count == 4)
    }

    // MARK: Interrupts that wait

    @Test func interruptsKeepTheirDistance() {
        let rig = Rig()
        rig.start()
        // 100 µs.
        rig[0xC4] = 390
        func take() -> UInt32 {
            let cause = rig[0xC0]
            #expect(!rig.board.levels[10])
            return cause
        }
        rig.card.receive(frame)
        #expect(rig.board.levels[10], "the first one comes at once")
        #expect(take() & 0x80 != 0)
        rig.board.advance(10_000)
        rig.card.receive(frame)
        rig.card.receive(frame)
        #expect(!rig.board.levels[10] && rig[0x2810] == 3, "the packets are there, the interrupt is not")
        rig.board.advance(80_000)
        #expect(!rig.board.levels[10])
        rig.board.advance(10_000)
        #expect(rig.board.levels[10])
        #expect(take() & 0x80 != 0)
        // Who looks by himself in the meantime needs none.
        rig.card.receive(frame)
        #expect(take() & 0x80 != 0)
        rig.board.advance(200_000)
        #expect(!rig.board.levels[10])
        // A shorter interval counts at once.
        rig.card.receive(frame)
        #expect(take() & 0x80 != 0)
        rig.card.receive(frame)
        #expect(!rig.board.levels[10])
        rig[0xC4] = 0
        #expect(rig.board.levels[10])
    }

    @Test func causesThatWait() {
        let rig = Rig()
        rig.start()
        // Nobody is told of few buffers here. Ten units after the last packet, 25 after the first.
        rig[0x100] = rig[0x100] | 2 << 8
        rig[0x2820] = 10
        rig[0x282C] = 25
        rig.card.receive(frame)
        #expect(!rig.board.levels[10])
        rig.board.advance(9_000)
        rig.card.receive(frame)
        rig.board.advance(9_000)
        #expect(!rig.board.levels[10])
        rig.card.receive(frame)
        rig.board.advance(8_000)
        #expect(rig.board.levels[10], "the longer time is over")
        #expect(rig[0xC0] == 0x80)
        rig.card.receive(frame)
        rig.board.advance(10_240)
        #expect(rig.board.levels[10] && rig[0xC0] & 0x80 != 0, "it was quiet")
        rig.board.advance(100_000)
        rig[0x100] = rig[0x100] & ~2
        rig[0x100] = rig[0x100] | 2
        #expect(rig[0xC0] & 0x80 == 0)
        rig.card.receive(frame)
        rig[0x2820] = 1 << 31 | 10
        #expect(rig[0xC0] & 0x80 != 0, "told to tell")
        // What was sent, with IDE and without.
        rig[0xD8] = 0xFFFF
        rig[0xD0] = 1
        rig[0x3820] = 20
        rig.put(0x8000, 8, at: 0x2000)
        rig.put(64 | 0x89 << 24, 8, at: 0x2008)
        rig.put(0x8000, 8, at: 0x2010)
        rig.put(64 | 0x09 << 24, 8, at: 0x2018)
        rig[0x3818] = 1
        rig.board.advance(15_000)
        #expect(rig.board.ram[0x200C] == 1 && !rig.board.levels[10])
        rig.board.advance(10_000)
        #expect(rig.board.levels[10] && rig[0xC0] & 1 != 0)
        rig[0x3818] = 2
        rig.board.advance(3_000)
        #expect(rig.board.levels[10])
    }

    @Test func aDriverHearsOfFewBuffers() {
        let rig = Rig()
        rig.start()
        // Seven buffers of eight descriptors: told at a half, then at a quarter.
        for _ in 0..<2 { rig.card.receive(frame) }
        #expect(rig[0xC0] & 0x10 == 0)
        rig.card.receive(frame)
        #expect(rig[0xC0] & 0x10 != 0)
        rig[0x100] = rig[0x100] | 1 << 8
        rig.card.receive(frame)
        #expect(rig[0xC0] & 0x10 == 0)
        rig.card.receive(frame)
        #expect(rig[0xC0] & 0x10 != 0)
    }

    @Test func stateIsSavedAndLoaded() {
        let rig = Rig()
        rig.start()
        rig.card.receive(frame)
        var save = StateVisitor(.save)
        rig.card.visitState(&save)
        let other = Rig()
        var load = StateVisitor(loading: save.bytes)
        other.card.visitState(&load)
        #expect(load.isComplete)
        var first = StateVisitor(.digest)
        rig.card.visitState(&first)
        var second = StateVisitor(.digest)
        other.card.visitState(&second)
        #expect(first.digest.value == second.digest.value)
    }

    /// Random registers, rings and frames: no crash, no endless loop.
    @Test(arguments: 1...20)
    func registersOfRandomBytes(seed: UInt64) {
        var random = TestRandom(seed)
        let rig = Rig()
        let known: [UInt64] = [0, 8, 0x10, 0x14, 0x20, 0x38, 0xC0, 0xC4, 0xC8, 0xD0, 0xD8, 0x100, 0x400, 0x2820, 0x282C, 0x3820, 0x382C, 0x5000, 0x5200, 0x5400, 0x5600]
        for _ in 0..<50 {
            rig.start()
            for _ in 0..<64 { rig.board.ram[0x1000 + random.below(0x2000)] = UInt8(random.below(256)) }
            for _ in 0..<random.below(8) {
                let ring: UInt64 = random.below(2) == 0 ? 0x2800 : 0x3800
                switch random.below(3) {
                case 0: rig[known[random.below(known.count)]] = UInt32(truncatingIfNeeded: random.next())
                case 1: rig[ring + UInt64(random.below(8) * 4)] = UInt32(random.below(0x1_0000))
                default: rig[UInt64(random.below(0x8000) * 4)] = UInt32(truncatingIfNeeded: random.next())
                }
            }
            for width in [1, 2, 4, 8] {
                let offset = Self.base + UInt64(random.below(0x1_0000)) * 2
                _ = rig.board.bus.read(.memory, offset, width: width)
                rig.board.bus.write(.memory, offset, width: width, value: random.next())
            }
            rig[0x100] = UInt32(truncatingIfNeeded: random.next()) | 2
            rig[0x400] = 2
            rig[0x3818] = UInt32(random.below(10))
            for _ in 0..<random.below(6) { rig.card.receive(random.bytes(random.below(1600))) }
            rig.board.advance(random.next() % 300_000)
        }
    }
}
