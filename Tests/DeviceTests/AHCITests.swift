import DeviceBus
import Devices
import MachineState
import Testing

/// A controller with a disk at port 0, and a driver's side of it, in the board's RAM.
private final class AHCIRig {
    let board = FakeBoard()
    let medium: MemoryMedium
    let chip: AHCI
    static let base: UInt64 = 0xE000_0000
    static let list = 0x1000
    static let received = 0x2000
    static let table = 0x3000

    init(_ medium: MemoryMedium = MemoryMedium(sectors: 1000)) {
        self.medium = medium
        let host = board.add(PCIHost(bus: board.bus))
        let memory = board.masterPort("ahci")
        chip = board.add(
            AHCI(
                name: "ahci", media: [medium], serials: ["SERIAL"], irq: board.line(10), messages: board, memory: memory,
                scheduler: board.scheduler))
        memory.request = { [unowned chip] in chip.request }
        host.add(chip, at: PCIAddress(slot: 4))
        host.reset()
        chip.reset()
        configure(0x24, UInt32(Self.base))
        configure(0x04, 6)
    }

    func configure(_ register: UInt64, _ value: UInt32) {
        board.out(0xCF8, 0x8000_2000 | register, 4)
        board.out(0xCFC, UInt64(value), 4)
    }
    func read(_ offset: UInt64) -> UInt32 { UInt32(board.bus.read(.memory, Self.base + offset, width: 4)) }
    func write(_ offset: UInt64, _ value: UInt32) { board.bus.write(.memory, Self.base + offset, width: 4, value: UInt64(value)) }
    func port(_ register: UInt64) -> UInt32 { read(0x100 + register) }
    func setPort(_ register: UInt64, _ value: UInt32) { write(0x100 + register, value) }

    /// As a driver starts port 0.
    func start() {
        write(4, 2)
        setPort(0x00, UInt32(Self.list))
        setPort(0x08, UInt32(Self.received))
        setPort(0x18, 0x16)
        setPort(0x14, 0xFFFF_FFFF)
        setPort(0x18, 0x17)
        setPort(0x10, 0xFFFF_FFFF)
        write(8, 0xFFFF_FFFF)
    }

    func put(_ value: UInt64, _ width: Int, at address: Int) {
        for lane in 0..<width { board.ram[address + lane] = UInt8(truncatingIfNeeded: value >> UInt64(lane * 8)) }
    }

    /// Issues a command in a slot; its data is in pieces of RAM.
    func issue(_ command: UInt8, sector: UInt64 = 0, count: Int = 0, slot: Int = 0, pieces: [(Int, Int)] = []) {
        let table = Self.table + slot * 0x400
        put(UInt64(pieces.count) << 16 | 5, 4, at: Self.list + slot * 32)
        put(0, 4, at: Self.list + slot * 32 + 4)
        put(UInt64(table), 8, at: Self.list + slot * 32 + 8)
        let fis: [UInt8] = [
            0x27, 0x80, command, 0, UInt8(sector & 0xFF), UInt8(sector >> 8 & 0xFF), UInt8(sector >> 16 & 0xFF), 0x40,
            UInt8(sector >> 24 & 0xFF), UInt8(sector >> 32 & 0xFF), UInt8(sector >> 40 & 0xFF), 0, UInt8(count & 0xFF),
            UInt8(count >> 8), 0, 0, 0, 0, 0, 0,
        ]
        board.ram.replaceSubrange(table..<table + 20, with: fis)
        for (index, piece) in pieces.enumerated() {
            put(UInt64(piece.0), 8, at: table + 0x80 + index * 16)
            put(UInt64(piece.1 - 1), 4, at: table + 0x80 + index * 16 + 12)
        }
        setPort(0x38, 1 << UInt32(slot))
    }

    /// Issues a queued command: 0x60 reads, 0x61 writes; `count` is where others have their features.
    func queue(_ command: UInt8, sector: UInt64, count: Int, slot: Int, pieces: [(Int, Int)], tag: Int? = nil) {
        setPort(0x34, 1 << UInt32(slot))
        let table = Self.table + slot * 0x400
        put(UInt64(pieces.count) << 16 | 5, 4, at: Self.list + slot * 32)
        put(UInt64(table), 8, at: Self.list + slot * 32 + 8)
        let fis: [UInt8] = [
            0x27, 0x80, command, UInt8(count & 0xFF), UInt8(sector & 0xFF), UInt8(sector >> 8 & 0xFF),
            UInt8(sector >> 16 & 0xFF), 0x40, UInt8(sector >> 24 & 0xFF), UInt8(sector >> 32 & 0xFF),
            UInt8(sector >> 40 & 0xFF), UInt8(count >> 8), UInt8((tag ?? slot) << 3), 0, 0, 0, 0, 0, 0, 0,
        ]
        board.ram.replaceSubrange(table..<table + 20, with: fis)
        for (index, piece) in pieces.enumerated() {
            put(UInt64(piece.0), 8, at: table + 0x80 + index * 16)
            put(UInt64(piece.1 - 1), 4, at: table + 0x80 + index * 16 + 12)
        }
        setPort(0x38, 1 << UInt32(slot))
    }
}

struct AHCITests {
    @Test func theDriveIsFound() {
        let rig = AHCIRig()
        #expect(rig.read(0x0C) == 0x3F)
        #expect(rig.port(0x28) == 0x113)
        #expect(rig.port(0x24) == 0x101)
        #expect(rig.read(0x180 + 0x28) == 0, "nothing is at port 1")
        rig.start()
        rig.setPort(0x2C, 1)
        rig.setPort(0x2C, 0)
        #expect(rig.port(0x30) & 1 << 26 != 0)
        #expect(rig.board.ram[AHCIRig.received + 0x40] == 0x34)
        #expect(rig.port(0x20) == 0x150)
    }

    @Test func identifies() {
        let rig = AHCIRig()
        rig.start()
        rig.issue(0xEC, pieces: [(0x8000, 512)])
        #expect(rig.port(0x38) == 1)
        rig.board.advance(1_000_000)
        #expect(rig.port(0x38) == 0)
        #expect(rig.port(0x10) & 2 != 0)
        #expect(rig.board.levels[10])
        // Words 60 and 100: the capacity; the serial number, two characters a word.
        #expect(rig.board.ram[0x8000 + 120] == 0xE8 && rig.board.ram[0x8000 + 200] == 0xE8)
        #expect(Array(rig.board.ram[0x8014..<0x801A]) == Array("ESIRLA".utf8))
        rig.setPort(0x10, 2)
        rig.write(8, 1)
        #expect(!rig.board.levels[10])
    }

    @Test func readsAndWrites() {
        let rig = AHCIRig()
        rig.start()
        rig.issue(0x25, sector: 10, count: 3, slot: 4, pieces: [(0x8000, 1000), (0x9000, 536)])
        rig.board.advance(1_000_000)
        #expect(rig.port(0x38) == 0)
        #expect(Array(rig.board.ram[0x8000..<0x83E8]) == Array(rig.medium.bytes[5120..<6120]))
        #expect(Array(rig.board.ram[0x9000..<0x9218]) == Array(rig.medium.bytes[6120..<6656]))
        #expect(rig.board.ram[AHCIRig.list + 4 * 32 + 4] == 0 && rig.board.ram[AHCIRig.list + 4 * 32 + 5] == 6)
        #expect(rig.port(0x18) >> 8 & 31 == 4)
        #expect(rig.board.writer(of: 0x8000) == "ahci: port 0 slot 4, command 0x25, sector 10, disk0 sector 10")
        #expect(rig.board.writer(of: 0x9000) == "ahci: port 0 slot 4, command 0x25, sector 10, disk0 sector 11+488")
        for index in 0..<512 { rig.board.ram[0xA000 + index] = UInt8(index & 0xFF) ^ 0xA5 }
        rig.issue(0x35, sector: 999, count: 1, pieces: [(0xA000, 512)])
        rig.board.advance(1_000_000)
        #expect(Array(rig.medium.bytes[999 * 512..<1000 * 512]) == Array(rig.board.ram[0xA000..<0xA200]))
    }

    @Test func commandsTakeTurns() {
        let rig = AHCIRig()
        rig.start()
        for slot in 0..<4 { rig.issue(0x25, sector: UInt64(slot), count: 1, slot: slot, pieces: [(0x8000 + slot * 512, 512)]) }
        #expect(rig.port(0x38) == 15)
        rig.board.advance(10_000_000)
        #expect(rig.port(0x38) == 0)
        #expect(Array(rig.board.ram[0x8000..<0x8800]) == Array(rig.medium.bytes[..<2048]))
    }

    @Test func anErrorStopsThePort() {
        let rig = AHCIRig()
        rig.start()
        rig.issue(0x25, sector: 999, count: 2, pieces: [(0x8000, 1024)])
        rig.board.advance(1_000_000)
        #expect(rig.port(0x20) == 0x1051)
        #expect(rig.port(0x10) & 1 << 30 != 0)
        #expect(rig.port(0x38) == 1)
        // Nothing goes on until software stops and starts the port.
        rig.issue(0x25, sector: 0, count: 1, slot: 1, pieces: [(0x8000, 512)])
        rig.board.advance(1_000_000)
        #expect(rig.port(0x38) == 3)
        rig.setPort(0x18, 0x16)
        #expect(rig.port(0x38) == 0)
        rig.setPort(0x18, 0x17)
        rig.issue(0x25, sector: 0, count: 1, slot: 1, pieces: [(0x8000, 512)])
        rig.board.advance(1_000_000)
        #expect(rig.port(0x38) == 0 && rig.port(0x20) == 0x50)
    }

    @Test func queuedCommandsWaitInTheDrive() {
        let rig = AHCIRig()
        #expect(rig.read(0) & 1 << 30 != 0)
        rig.start()
        let written = (0..<1024).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        rig.board.ram.replaceSubrange(0xC000..<0xC400, with: written)
        rig.queue(0x60, sector: 3, count: 2, slot: 0, pieces: [(0x8000, 1024)])
        rig.queue(0x61, sector: 500, count: 2, slot: 7, pieces: [(0xC000, 1024)])
        rig.queue(0x60, sector: 100, count: 1, slot: 2, pieces: [(0x9000, 512)])
        // The drive has them all: their slots are free, and they are not over.
        #expect(rig.port(0x38) == 0 && rig.port(0x34) == 0x85)
        #expect(rig.board.ram[AHCIRig.received + 0x40] == 0x34)
        rig.board.advance(50_000_000)
        #expect(rig.port(0x34) == 0 && rig.port(0x38) == 0)
        #expect(rig.port(0x10) & 8 != 0 && rig.board.levels[10])
        #expect(rig.board.ram[AHCIRig.received + 0x58] == 0xA1)
        #expect(Array(rig.board.ram[0x8000..<0x8400]) == Array(rig.medium.bytes[1536..<2560]))
        #expect(Array(rig.board.ram[0x9000..<0x9200]) == Array(rig.medium.bytes[51200..<51712]))
        #expect(Array(rig.medium.bytes[256_000..<257_024]) == written)
        // Another command comes after them.
        rig.issue(0x25, sector: 10, count: 1, pieces: [(0xA000, 512)])
        rig.board.advance(1_000_000)
        #expect(rig.port(0x38) == 0 && Array(rig.board.ram[0xA000..<0xA200]) == Array(rig.medium.bytes[5120..<5632]))
    }

    @Test func aQueuedCommandThatFailsIsInTheLog() {
        let rig = AHCIRig()
        rig.start()
        rig.queue(0x60, sector: 999, count: 2, slot: 5, pieces: [(0x8000, 1024)])
        rig.queue(0x60, sector: 0, count: 1, slot: 6, pieces: [(0x8000, 512)])
        rig.board.advance(50_000_000)
        #expect(rig.port(0x20) == 0x1041 && rig.port(0x10) & 1 << 30 != 0)
        #expect(rig.port(0x34) & 1 << 5 != 0)
        rig.setPort(0x18, 0x16)
        #expect(rig.port(0x34) == 0)
        rig.setPort(0x18, 0x17)
        for expected in [[5, 0, 0x41, 0x10], [0x80, 0, 0x40, 0]] as [[UInt8]] {
            rig.issue(0x2F, sector: 0x10, count: 1, pieces: [(0xA000, 512)])
            rig.board.advance(1_000_000)
            #expect(Array(rig.board.ram[0xA000..<0xA004]) == expected)
            #expect(rig.board.ram[0xA000..<0xA200].reduce(0, &+) == 0)
        }
        // The host's failure, and a tag that is not the slot's number.
        rig.queue(0x60, sector: 1, count: 1, slot: 3, pieces: [(0x8000, 512)])
        rig.chip.ports[0].hostFailed()
        rig.board.advance(1_000_000)
        #expect(rig.port(0x20) == 0x4041)
        rig.setPort(0x18, 0x16)
        rig.setPort(0x18, 0x17)
        rig.queue(0x60, sector: 1, count: 1, slot: 3, pieces: [(0x8000, 512)], tag: 4)
        rig.board.advance(1_000_000)
        #expect(rig.port(0x20) == 0x0441)
    }

    @Test func aFailureOfTheHostIsAnErrorOfTheCommand() {
        let rig = AHCIRig()
        rig.start()
        rig.issue(0x25, sector: 0, count: 1, pieces: [(0x8000, 512)])
        rig.chip.ports[0].hostFailed()
        rig.board.advance(1_000_000)
        #expect(rig.port(0x20) == 0x4051)
    }

    @Test func aMessageInsteadOfThePin() {
        let rig = AHCIRig()
        rig.configure(0x84, 0xFEE0_0000)
        rig.configure(0x8C, 0x4051)
        rig.configure(0x80, 0x0001_0000)
        rig.start()
        rig.issue(0xE7)
        rig.board.advance(1_000_000)
        #expect(rig.board.messages.map(\.0) == [0xFEE0_0000] && rig.board.messages.map(\.1) == [0x4051])
        #expect(!rig.board.levels[10])
    }

    /// Lists, tables and descriptors of random bytes: no crash, no endless loop, nothing outside of RAM.
    @Test(arguments: 1...20)
    func listsOfRandomBytes(seed: UInt64) {
        var random = TestRandom(seed)
        let rig = AHCIRig()
        for _ in 0..<100 {
            rig.start()
            for _ in 0..<200 { rig.board.ram[0x1000 + random.below(0x4000)] = UInt8(random.below(256)) }
            let commands: [UInt8] = [0xEC, 0x25, 0x35, 0x20, 0x30, 0xC8, 0xCA, 0xE7, 0x40, 0x24, 0x60, 0x61, 0x2F]
            let pieces = (0..<random.below(20)).map { _ in
                (random.below(4) == 0 ? Int(random.next() >> 1) : random.below(0x12000), 1 + random.below(0x4000))
            }
            if random.below(2) == 0 { rig.setPort(0x34, UInt32(truncatingIfNeeded: random.next())) }
            rig.issue(
                commands[random.below(commands.count)], sector: random.next() % 1100, count: random.below(70),
                slot: random.below(8), pieces: pieces)
            rig.setPort(0x38, UInt32(truncatingIfNeeded: random.next()))
            rig.board.advance(random.next() % 2_000_000)
            if random.below(8) == 0 { rig.chip.ports[0].hostFailed() }
            if random.below(4) == 0 { rig.setPort(0x18, 0) }
        }
    }
}
