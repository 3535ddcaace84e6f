import DeviceBus
import Devices
import MachineState
import Testing

/// A virtio device on a board, and a driver's side of its queues, in the board's RAM.
final class VirtioRig {
    let board = FakeBoard()
    let host: PCIHost
    let chip: VirtioPCI
    /// Where base address registers 0, 1 and 4 are.
    static let ports: UInt64 = 0xC000
    static let messages: UInt64 = 0xE000_0000
    static let memory: UInt64 = 0xE001_0000
    /// Queue 0: descriptors, available ring, used ring; legacy layout, of 128 entries.
    static let table = 0x1000
    static let available = 0x1800
    static let used = 0x2000
    private var filled: UInt16 = 0

    init(_ function: any VirtioFunction) {
        host = board.add(PCIHost(bus: board.bus))
        let memory = board.masterPort("virtio4")
        chip = board.add(
            VirtioPCI(
                name: "virtio4", function: function, irq: board.line(10), messages: board, memory: memory,
                scheduler: board.scheduler))
        memory.request = { [unowned chip] in chip.request }
        host.add(chip, at: PCIAddress(slot: 4))
        host.reset()
        chip.reset()
        configure(0x10, UInt32(Self.ports))
        configure(0x14, UInt32(Self.messages))
        configure(0x20, UInt32(Self.memory))
        configure(0x04, 7)
    }

    func configure(_ register: UInt64, _ value: UInt32) {
        board.out(0xCF8, 0x8000_2000 | register & 0xFC, 4)
        board.out(0xCFC, UInt64(value), 4)
    }
    func configuration(_ register: UInt64) -> UInt32 {
        board.out(0xCF8, 0x8000_2000 | register & 0xFC, 4)
        return UInt32(board.in(0xCFC, 4))
    }
    func write(_ offset: UInt64, _ value: UInt64, _ width: Int) {
        board.bus.write(.memory, Self.memory + offset, width: width, value: value)
    }
    func read(_ offset: UInt64, _ width: Int) -> UInt64 { board.bus.read(.memory, Self.memory + offset, width: width) }

    /// The modern interface, as a driver starts it.
    func startModern(queueSize: UInt64 = 128) {
        write(20, 0, 1)
        write(20, 3, 1)
        for select in 0..<2 as Range<UInt64> {
            write(0, select, 4)
            write(8, select, 4)
            write(12, read(4, 4), 4)
        }
        write(20, 11, 1)
        write(22, 0, 2)
        write(24, queueSize, 2)
        write(32, UInt64(Self.table), 8)
        write(40, UInt64(Self.available), 4)
        write(44, 0, 4)
        write(48, UInt64(Self.used), 8)
        write(28, 1, 2)
        write(20, 15, 1)
    }

    /// The legacy interface.
    func startLegacy() {
        board.out(Self.ports + 18, 0)
        board.out(Self.ports + 18, 3)
        board.out(Self.ports + 4, board.in(Self.ports, 4), 4)
        board.out(Self.ports + 14, 0, 2)
        board.out(Self.ports + 8, UInt64(Self.table >> 12), 4)
        board.out(Self.ports + 18, 7)
    }

    func put(_ value: UInt64, _ width: Int, at address: Int) {
        for lane in 0..<width { board.ram[address + lane] = UInt8(truncatingIfNeeded: value >> UInt64(lane * 8)) }
    }
    func number(_ width: Int, at address: Int) -> UInt64 {
        (0..<width).reduce(0) { $0 | UInt64(board.ram[address + $1]) << UInt64($1 * 8) }
    }
    func descriptor(_ index: Int, _ address: Int, _ length: Int, flags: UInt64, next: Int = 0, table: Int = VirtioRig.table) {
        let at = table + index * 16
        put(UInt64(address), 8, at: at)
        put(UInt64(length), 4, at: at + 8)
        put(flags, 2, at: at + 12)
        put(UInt64(next), 2, at: at + 14)
    }
    /// Makes the chain at `head` available and says so.
    func offer(_ head: Int, isLegacy: Bool = false) {
        put(UInt64(head), 2, at: Self.available + 4 + Int(filled & 127) * 2)
        filled &+= 1
        put(UInt64(filled), 2, at: Self.available + 2)
        if isLegacy { board.out(Self.ports + 16, 0, 2) } else { write(0x3000, 0, 2) }
    }
    var usedCount: UInt64 { number(2, at: Self.used + 2) }
    /// Number and length of a used chain.
    func usedEntry(_ index: Int) -> (UInt64, UInt64) {
        (number(4, at: Self.used + 4 + index * 8), number(4, at: Self.used + 8 + index * 8))
    }
}

struct VirtioTests {
    private func blockRig(_ medium: MemoryMedium) -> (VirtioRig, VirtioBlock) {
        let block = VirtioBlock(medium: medium, serial: "SERIAL")
        let rig = VirtioRig(block)
        block.transport = rig.chip
        return (rig, block)
    }

    /// A request of header (at 0x4000), data (at 0x5000) and result (at 0x4100) in descriptors 0...2.
    private func request(
        _ rig: VirtioRig, _ kind: UInt64, sector: UInt64, bytes: Int, writesRAM: Bool, isLegacy: Bool = false
    ) {
        rig.put(kind, 4, at: 0x4000)
        rig.put(sector, 8, at: 0x4008)
        rig.board.ram[0x4100] = 0xEE
        rig.descriptor(0, 0x4000, 16, flags: 1, next: bytes > 0 ? 1 : 2)
        rig.descriptor(1, 0x5000, bytes, flags: writesRAM ? 3 : 1, next: 2)
        rig.descriptor(2, 0x4100, 1, flags: 2)
        rig.offer(0, isLegacy: isLegacy)
    }

    @Test(arguments: [false, true])
    func readsAndWritesSectors(isLegacy: Bool) {
        let medium = MemoryMedium(sectors: 100)
        let (rig, _) = blockRig(medium)
        if isLegacy { rig.startLegacy() } else { rig.startModern() }
        request(rig, 0, sector: 7, bytes: 1024, writesRAM: true, isLegacy: isLegacy)
        #expect(rig.usedCount == 0, "a disk takes its time")
        rig.board.advance(1_000_000)
        #expect(rig.usedCount == 1)
        #expect(rig.usedEntry(0) == (0, 1025))
        #expect(Array(rig.board.ram[0x5000..<0x5400]) == Array(medium.bytes[7 * 512..<9 * 512]))
        #expect(rig.board.ram[0x4100] == 0)
        #expect(rig.board.writer(of: 0x5000) == "virtio4: read, sector 7, descriptor 0, disk0 sector 7")
        #expect(rig.board.levels[10])
        // Reading the interrupt status takes the interrupt back.
        #expect(rig.board.in(VirtioRig.ports + 19) == 1)
        #expect(!rig.board.levels[10])

        for index in 0..<512 { rig.board.ram[0x5000 + index] = UInt8(index & 0xFF) ^ 0x5A }
        request(rig, 1, sector: 99, bytes: 512, writesRAM: false, isLegacy: isLegacy)
        rig.board.advance(1_000_000)
        #expect(rig.usedCount == 2)
        #expect(rig.board.ram[0x4100] == 0)
        #expect(Array(medium.bytes[99 * 512..<100 * 512]) == Array(rig.board.ram[0x5000..<0x5200]))
    }

    @Test func refusesWhatIsNotOnTheDisk() {
        let (rig, _) = blockRig(MemoryMedium(sectors: 100))
        rig.startModern()
        for (index, sector) in [100, 99, UInt64.max, 1 << 62].enumerated() {
            request(rig, 0, sector: sector, bytes: 1024, writesRAM: true)
            rig.board.advance(1_000_000)
            #expect(rig.board.ram[0x4100] == 1)
            #expect(rig.usedCount == UInt64(index + 1))
        }
        // An unknown request; then half a sector.
        request(rig, 77, sector: 0, bytes: 512, writesRAM: true)
        #expect(rig.board.ram[0x4100] == 2)
        request(rig, 0, sector: 0, bytes: 100, writesRAM: true)
        #expect(rig.board.ram[0x4100] == 1)
    }

    @Test func aReadOnlyDiskIsNotWritten() {
        let medium = MemoryMedium(sectors: 10, isReadOnly: true)
        let (rig, _) = blockRig(medium)
        #expect(rig.board.in(VirtioRig.ports, 4) & 1 << 5 != 0)
        rig.startModern()
        request(rig, 1, sector: 0, bytes: 512, writesRAM: false)
        #expect(rig.board.ram[0x4100] == 1)
        #expect(medium.bytes == MemoryMedium(sectors: 10).bytes)
    }

    @Test func aFailureOfTheHostIsAnErrorOfTheRequest() {
        let medium = MemoryMedium(sectors: 100)
        let (rig, block) = blockRig(medium)
        medium.bad = [50]
        medium.onFailure = { block.receive([16]) }
        rig.startModern()
        request(rig, 0, sector: 48, bytes: 2048, writesRAM: true)
        // The file's failure comes as an input, after the instruction.
        block.receive([16])
        rig.board.advance(1_000_000)
        #expect(rig.board.ram[0x4100] == 1)
        medium.bad = []
        request(rig, 0, sector: 48, bytes: 2048, writesRAM: true)
        rig.board.advance(1_000_000)
        #expect(rig.board.ram[0x4100] == 0)
    }

    @Test func flushesAndNamesItself() {
        let medium = MemoryMedium(sectors: 100)
        let (rig, _) = blockRig(medium)
        rig.startModern()
        request(rig, 4, sector: 0, bytes: 0, writesRAM: true)
        rig.board.advance(1_000_000)
        #expect(medium.flushes == 1)
        #expect(rig.board.ram[0x4100] == 0)
        request(rig, 8, sector: 0, bytes: 20, writesRAM: true)
        #expect(Array(rig.board.ram[0x5000..<0x5014]) == Array("SERIAL".utf8) + [UInt8](repeating: 0, count: 14))
        #expect(rig.usedEntry(1) == (0, 21))
    }

    @Test func indirectTables() {
        let medium = MemoryMedium(sectors: 100)
        let (rig, _) = blockRig(medium)
        rig.startModern()
        rig.put(0, 4, at: 0x4000)
        rig.put(3, 8, at: 0x4008)
        rig.descriptor(0, 0x4000, 16, flags: 1, next: 2, table: 0x3000)
        rig.descriptor(2, 0x5000, 256, flags: 3, next: 1, table: 0x3000)
        rig.descriptor(1, 0x6000, 257, flags: 2, table: 0x3000)
        rig.descriptor(5, 0x3000, 48, flags: 4)
        rig.offer(5)
        rig.board.advance(1_000_000)
        #expect(rig.usedEntry(0) == (5, 513))
        #expect(Array(rig.board.ram[0x5000..<0x5100]) == Array(medium.bytes[1536..<1792]))
        #expect(Array(rig.board.ram[0x6000..<0x6100]) == Array(medium.bytes[1792..<2048]))
        #expect(rig.board.ram[0x6100] == 0)
    }

    /// What a driver must not do: the device needs a reset, and works again after it.
    @Test(arguments: ["loop", "outside", "order", "indirect loop", "indirect length", "head", "index", "short", "no result"])
    func brokenChains(kind: String) {
        let (rig, _) = blockRig(MemoryMedium(sectors: 100))
        rig.startModern()
        var head = 0
        switch kind {
        case "loop":
            rig.descriptor(0, 0x4000, 16, flags: 1, next: 1)
            rig.descriptor(1, 0x5000, 512, flags: 1, next: 0)
        case "outside": rig.descriptor(0, 0x4000, 16, flags: 1, next: 500)
        case "order":
            rig.descriptor(0, 0x4000, 16, flags: 3, next: 1)
            rig.descriptor(1, 0x5000, 512, flags: 0)
        case "indirect loop":
            rig.descriptor(0, 0x3000, 32, flags: 4)
            rig.descriptor(0, 0x3000, 32, flags: 4, table: 0x3000)
        case "indirect length": rig.descriptor(0, 0x3000, 17, flags: 4)
        case "head": head = 300
        case "short":
            rig.descriptor(0, 0x4000, 8, flags: 1, next: 1)
            rig.descriptor(1, 0x4100, 1, flags: 2)
        case "no result": rig.descriptor(0, 0x4000, 16, flags: 0)
        default: break
        }
        if kind == "index" { rig.put(1000, 2, at: VirtioRig.available + 2) }
        if kind == "index" { rig.write(0x3000, 0, 2) } else { rig.offer(head) }
        rig.board.advance(1_000_000)
        #expect(rig.read(20, 1) & 0x40 != 0)
        #expect(rig.usedCount == 0)
        rig.write(20, 0, 1)
        #expect(rig.read(20, 1) == 0)
        #expect(rig.read(28, 2) == 0)
    }

    @Test func messagesInsteadOfThePin() {
        let (rig, _) = blockRig(MemoryMedium(sectors: 100))
        rig.configure(0x40, 0x8000_0000)
        for (word, value) in [0xFEE0_0000, 0, 0x4041, 1].enumerated() {
            rig.board.bus.write(.memory, VirtioRig.messages + 16 + UInt64(word * 4), width: 4, value: UInt64(value))
        }
        rig.startModern()
        rig.write(26, 1, 2)
        rig.write(16, 9, 2)
        #expect(rig.read(16, 2) == 0xFFFF, "there is no vector 9")
        request(rig, 0, sector: 0, bytes: 512, writesRAM: true)
        rig.board.advance(1_000_000)
        #expect(rig.board.messages.isEmpty)
        #expect(rig.board.bus.read(.memory, VirtioRig.messages + 0x800, width: 4) == 2, "masked: pending")
        rig.board.bus.write(.memory, VirtioRig.messages + 28, width: 4, value: 0)
        #expect(rig.board.messages.map(\.0) == [0xFEE0_0000] && rig.board.messages.map(\.1) == [0x4041])
        #expect(!rig.board.levels[10])
    }

    @Test func capabilitiesLeadToTheParts() {
        let (rig, _) = blockRig(MemoryMedium(sectors: 100))
        #expect(rig.configuration(0) == 0x1001_1AF4)
        #expect(rig.configuration(4) >> 20 & 1 == 1)
        var kinds: [UInt32] = []
        var next = UInt64(rig.configuration(0x34) & 0xFF)
        while next != 0, kinds.count < 20 {
            let word = rig.configuration(next)
            if word & 0xFF == 9 { kinds.append(word >> 24) }
            next = UInt64(word >> 8 & 0xFF)
        }
        #expect(kinds.sorted() == [1, 2, 3, 4, 5])
        // The window of configuration space: the capacity, by the device's configuration.
        rig.configure(0x98, 4)
        rig.configure(0x9C, 0x2000)
        rig.configure(0xA0, 4)
        #expect(rig.configuration(0xA4) == 100)
        rig.configure(0x9C, 22)
        rig.configure(0xA0, 2)
        rig.configure(0xA4, 3)
        #expect(rig.read(22, 2) == 3)
        // An access that is not within the register does nothing.
        rig.configure(0x9C, 0xFFFF_FFFE)
        rig.configure(0xA4, 0xFFFF_FFFF)
        #expect(rig.read(22, 2) == 3)
    }

    @Test func randomNumbersAreAnswersOfTheChannel() {
        let entropy = VirtioEntropy(channel: CountingChannel())
        let rig = VirtioRig(entropy)
        entropy.transport = rig.chip
        rig.startModern(queueSize: 64)
        rig.descriptor(0, 0x5000, 20, flags: 2)
        rig.offer(0)
        rig.board.advance(1_000_000)
        #expect(rig.usedEntry(0) == (0, 20))
        #expect(rig.number(8, at: 0x5000) == 1 && rig.number(8, at: 0x5008) == 2 && rig.number(4, at: 0x5010) == 3)
    }

    @Test func theConsoleSpeaksAndListens() {
        let channel = CountingChannel()
        let console = VirtioConsole(channel: channel)
        let rig = VirtioRig(console)
        console.transport = rig.chip
        rig.startModern(queueSize: 64)
        rig.descriptor(0, 0x5000, 4, flags: 2)
        rig.descriptor(1, 0x5010, 4, flags: 2)
        console.receive(Array("hello".utf8))
        rig.offer(0)
        rig.offer(1)
        rig.board.advance(1_000_000)
        #expect(rig.usedEntry(0) == (0, 4))
        #expect(rig.usedEntry(1) == (1, 1))
        #expect(Array(rig.board.ram[0x5000..<0x5004]) == Array("hell".utf8))
        // Queue 1 uses the same places, one after the other.
        rig.write(22, 1, 2)
        rig.write(24, 64, 2)
        rig.write(32, 0x7000, 8)
        rig.write(40, 0x7800, 8)
        rig.write(48, 0x7A00, 8)
        rig.write(28, 1, 2)
        rig.descriptor(0, 0x5000, 3, flags: 0, table: 0x7000)
        rig.put(1, 2, at: 0x7802)
        rig.write(0x3004, 1, 2)
        rig.board.advance(1_000_000)
        #expect(channel.sent == Array("hel".utf8))
        #expect(rig.number(2, at: 0x7A02) == 1)
    }

    /// Rings and tables of random bytes: no crash, no endless loop.
    @Test(arguments: 1...20)
    func ringsOfRandomBytes(seed: UInt64) {
        var random = TestRandom(seed)
        let (rig, block) = blockRig(MemoryMedium(sectors: 3000))
        for _ in 0..<200 {
            for _ in 0..<64 { rig.board.ram[0x1000 + random.below(0x2000)] = UInt8(random.below(256)) }
            for index in 0..<128 where random.below(2) == 0 {
                rig.descriptor(
                    index, random.below(0x12000), random.below(4) == 0 ? Int(random.next() >> 33) : random.below(2000),
                    flags: UInt64(random.below(5)), next: random.below(130))
            }
            // Rings that lie on one another.
            rig.startModern(queueSize: 1 << UInt64(random.below(8)))
            if random.below(4) == 0 {
                rig.write(28, 0, 2)
                rig.write(20, 0, 1)
                rig.write(20, 11, 1)
                rig.write(32, UInt64(random.below(0x10000)), 8)
                rig.write(40, 0x1800, 8)
                rig.write(48, 0x1800, 8)
                rig.write(28, 1, 2)
                rig.write(20, 15, 1)
            }
            rig.put(UInt64(random.below(130)), 2, at: VirtioRig.available + 2)
            rig.write(0x3000, 0, 2)
            if random.below(10) == 0 { block.receive([0]) }
            rig.board.advance(random.next() % 3_000_000)
        }
    }
}

/// Answers 1, 2, 3, …
private final class CountingChannel: HostChannel {
    var sent: [UInt8] = []
    private var count: UInt64 = 0
    func send(_ bytes: [UInt8]) { sent += bytes }
    func ask(_ question: UInt32) -> UInt64 {
        count += 1
        return count
    }
}
