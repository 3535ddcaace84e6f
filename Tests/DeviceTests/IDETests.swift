import DeviceBus
import Devices
import MachineState
import Testing

/// PIIX3's IDE with a disk (drive 0) and a CD-ROM (drive 2), as a driver sees them.
struct IDETests {
    let board = FakeBoard()
    let disk = MemoryMedium(sectors: 70_000)
    let disc = MemoryMedium(sectors: 4000, isReadOnly: true)
    let otherDisc = MemoryMedium(sectors: 800, isReadOnly: true)
    let ide: PIIX3IDE

    init() {
        let drives: [IDEDrive?] = [
            IDEDrive(kind: .disk, medium: disk, serial: "D1"), nil, 
            IDEDrive(kind: .cdrom, medium: disc, serial: "C1", others: [otherDisc]), nil,
        ]
        let host = PCIHost(bus: board.bus)
        ide = PIIX3IDE(
            drives: drives, primary: board.line(14), secondary: board.line(15), memory: board, scheduler: board.scheduler)
        _ = board.add(host)
        _ = board.add(ide)
        host.add(ide, at: PCIAddress(slot: 1, function: 1))
        ide.enableAsFirmwareDoes()
        host.updateMappings()
        disk.onFailure = { [ide] in ide.receive([0]) }
        disc.onFailure = { [ide] in ide.receive([2]) }
        // The disc's unit attention after power-on is not what most tests are about.
        _ = packet([3, 0, 0, 0, 18, 0, 0, 0, 0, 0, 0, 0])
    }

    // MARK: A driver

    private static let primary: UInt64 = 0x1F0
    private static let secondary: UInt64 = 0x170
    private static let busMaster: UInt64 = 0xC000

    private func status(_ base: UInt64 = primary) -> UInt64 { board.in(base + 0x206) }
    private func wait(_ base: UInt64 = primary) {
        var rounds = 0
        while status(base) & 0x80 != 0, rounds < 1000 {
            board.advance(100_000)
            rounds += 1
        }
        #expect(rounds < 1000, "the drive stays busy")
    }

    private func address28(_ lba: UInt64, _ count: UInt64) {
        board.out(0x1F6, 0xE0 | lba >> 24)
        board.out(0x1F2, count & 0xFF)
        board.out(0x1F3, lba & 0xFF)
        board.out(0x1F4, lba >> 8 & 0xFF)
        board.out(0x1F5, lba >> 16 & 0xFF)
    }
    private func address48(_ lba: UInt64, _ count: UInt64) {
        board.out(0x1F6, 0xE0)
        for shift in [24, 0] as [UInt64] {
            board.out(0x1F2, shift == 24 ? count >> 8 : count & 0xFF)
            board.out(0x1F3, lba >> shift & 0xFF)
            board.out(0x1F4, lba >> (shift + 8) & 0xFF)
            board.out(0x1F5, lba >> (shift + 16) & 0xFF)
        }
    }

    private func readWords(_ count: Int, _ base: UInt64 = primary, width: Int = 2) -> [UInt8] {
        (0..<count * 2 / width).flatMap { _ -> [UInt8] in
            let value = board.in(base, width)
            return (0..<width).map { UInt8(truncatingIfNeeded: value >> UInt64($0 * 8)) }
        }
    }

    /// Reads by PIO; checks that every block has its interrupt.
    private func readPIO(_ command: UInt64, sectors: Int, perBlock: Int = 1, width: Int = 2) -> [UInt8] {
        var data: [UInt8] = []
        board.out(0x1F7, command)
        while data.count < sectors * 512 {
            wait()
            #expect(board.levels[14])
            #expect(board.in(0x1F7) == 0x58)
            #expect(!board.levels[14])
            let block = min(perBlock, sectors - data.count / 512)
            data += readWords(block * 256, width: width)
        }
        wait()
        #expect(status() == 0x50)
        #expect(!board.levels[14], "there is no interrupt after the last block")
        return data
    }

    private func sectors(_ first: Int, _ count: Int) -> [UInt8] { Array(disk.bytes[first * 512..<(first + count) * 512]) }

    /// Puts a table of regions at 0x100 and starts the bus master.
    private func startDMA(_ regions: [(UInt64, UInt64)], toMemory: Bool, channel: UInt64 = 0) {
        for (index, region) in regions.enumerated() {
            let last: UInt64 = index == regions.count - 1 ? 1 << 63 : 0
            let entry = region.0 | region.1 << 32 | last
            for byte in 0..<8 { board.ram[0x100 + index * 8 + byte] = UInt8(truncatingIfNeeded: entry >> UInt64(byte * 8)) }
        }
        let base = Self.busMaster + channel * 8
        board.out(base + 4, 0x100, 4)
        board.out(base + 2, 6)
        board.out(base, (toMemory ? 8 : 0) | 1)
    }

    // MARK: Disk

    @Test func identify() {
        board.out(0x1F6, 0xA0)
        let data = readPIO(0xEC, sectors: 1)
        func word(_ index: Int) -> Int { Int(data[index * 2]) | Int(data[index * 2 + 1]) << 8 }
        #expect(word(60) | word(61) << 16 == 70_000)
        #expect(word(100) | word(101) << 16 == 70_000)
        #expect(word(1) == 69 && word(3) == 16 && word(6) == 63)
        #expect(word(49) & 0x300 == 0x300)
        #expect(word(83) & 0x400 != 0, "48-bit addresses")
        #expect(String(decoding: (27..<33).flatMap { [data[$0 * 2 + 1], data[$0 * 2]] }, as: UTF8.self) == "EMU HARDDISK")
    }

    @Test func readsByPIO() {
        address28(5, 3)
        #expect(readPIO(0x20, sectors: 3) == sectors(5, 3))
        #expect(board.in(0x1F3) == 7 && board.in(0x1F2) == 0, "the task file names the last sector")
        address48(69_990, 10)
        #expect(readPIO(0x24, sectors: 10, width: 4) == sectors(69_990, 10))
        address28(1000, 0)
        #expect(readPIO(0xC4, sectors: 256, perBlock: 16) == sectors(1000, 256))
        address28(2000, 20)
        #expect(readPIO(0xC4, sectors: 20, perBlock: 16) == sectors(2000, 20))
    }

    @Test func readsByCylinder() {
        // Cylinder 1, head 2, sector 3 of the default translation.
        board.out(0x1F6, 0xA2)
        board.out(0x1F2, 1)
        board.out(0x1F3, 3)
        board.out(0x1F4, 1)
        board.out(0x1F5, 0)
        #expect(readPIO(0x20, sectors: 1) == sectors((1 * 16 + 2) * 63 + 2, 1))
        // Another translation: 4 heads of 17 sectors.
        board.out(0x1F6, 0xA3)
        board.out(0x1F2, 17)
        board.out(0x1F7, 0x91)
        board.out(0x1F6, 0xA2)
        board.out(0x1F2, 1)
        board.out(0x1F3, 3)
        #expect(readPIO(0x20, sectors: 1) == sectors((1 * 4 + 2) * 17 + 2, 1))
        board.out(0x1F6, 0xA2)
        board.out(0x1F2, 1)
        board.out(0x1F3, 18)
        board.out(0x1F7, 0x20)
        #expect(status() & 1 != 0 && board.in(0x1F1) == 0x10, "there is no sector 18")
    }

    @Test func writesByPIO() {
        address28(9, 2)
        board.out(0x1F7, 0x30)
        for sector in 0..<2 {
            wait()
            #expect(status() == 0x58)
            #expect(board.levels[14] == (sector > 0), "the first block is asked for without an interrupt")
            _ = board.in(0x1F7)
            for word in 0..<256 { board.out(0x1F0, UInt64(sector) << 8 | UInt64(word & 0xFF), 2) }
        }
        wait()
        #expect(status() == 0x50 && board.levels[14])
        #expect(disk.bytes[9 * 512 + 6] == 3 && disk.bytes[10 * 512 + 7] == 1)
        board.out(0x1F7, 0xE7)
        wait()
        #expect(disk.flushes == 1)
    }

    @Test func readsByDMA() {
        let expected = sectors(100, 8)
        address28(100, 8)
        startDMA([(0x2000, 1024), (0x4000, 2048), (0x3000, 1024)], toMemory: true)
        board.out(0x1F7, 0xC8)
        wait()
        #expect(board.levels[14] && status() == 0x50)
        #expect(board.in(0xC002) & 7 == 4, "interrupt, and not active")
        #expect(Array(board.ram[0x2000..<0x2400]) + Array(board.ram[0x4000..<0x4800]) + Array(board.ram[0x3000..<0x3400]) == expected)
        #expect(board.in(0xC002) & 4 != 0)
        board.out(0xC002, 4)
        #expect(board.in(0xC002) & 4 == 0)
    }

    @Test func dmaStartsWithBusMasterOrWithCommand() {
        address48(64, 2)
        board.out(0x1F7, 0x25)
        board.advance(10_000_000)
        #expect(status() & 0x80 != 0, "waits for the bus master")
        startDMA([(0x2000, 1024)], toMemory: true)
        wait()
        #expect(Array(board.ram[0x2000..<0x2400]) == sectors(64, 2))
    }

    @Test func aTableThatIsTooLongStaysActive() {
        address28(1, 1)
        startDMA([(0x2000, 4096)], toMemory: true)
        board.out(0x1F7, 0xC8)
        wait()
        #expect(board.in(0xC002) & 7 == 5)
        board.out(0xC000, 0)
        #expect(board.in(0xC002) & 1 == 0)
    }

    @Test func aTableThatIsTooShortGoesOnWithAnotherOne() {
        address28(1, 4)
        startDMA([(0x2000, 1024)], toMemory: true)
        board.out(0x1F7, 0xC8)
        board.advance(10_000_000)
        #expect(status() & 0x80 != 0 && board.in(0xC002) & 5 == 0)
        board.out(0xC000, 8)
        startDMA([(0x2400, 1024)], toMemory: true)
        wait()
        #expect(Array(board.ram[0x2000..<0x2800]) == sectors(1, 4))
    }

    @Test func writesByDMA() {
        for index in 0..<1024 { board.ram[0x2000 + index] = UInt8(truncatingIfNeeded: index &* 3) }
        address48(33, 2)
        startDMA([(0x2000, 512), (0x2200, 512)], toMemory: false)
        board.out(0x1F7, 0x35)
        wait()
        #expect(status() == 0x50)
        #expect(sectors(33, 2) == Array(board.ram[0x2000..<0x2400]))
    }

    @Test func refusesWhatIsNotOnTheDisk() {
        for (lba, count) in [(69_999, 2), (70_000, 1), (0xFFF_FFFF, 1)] as [(UInt64, UInt64)] {
            address28(lba, count)
            board.out(0x1F7, 0x20)
            #expect(status() == 0x51 && board.in(0x1F1) == 0x10 && board.levels[14])
        }
        address48(0xFFFF_FFFF_FFFF, 0)
        board.out(0x1F7, 0x25)
        #expect(status() == 0x51)
        board.out(0x1F7, 0x77)
        board.out(0x1F7, 0x02)
        #expect(status() == 0x51 && board.in(0x1F1) == 4, "unknown commands are aborted")
        board.out(0x1F2, 3)
        board.out(0x1F7, 0xC6)
        #expect(status() == 0x51, "3 sectors a block is no power of two")
    }

    @Test func hostFailuresReachTheGuest() {
        disk.bad = [12]
        address28(11, 3)
        board.out(0x1F7, 0x20)
        wait()
        #expect(status() == 0x58)
        _ = readWords(256)
        wait()
        #expect(status() & 1 != 0 && board.in(0x1F1) == 0x40, "uncorrectable")
        #expect(board.in(0x1F3) == 12, "the task file names the sector")
        let before = sectors(12, 1)
        address28(12, 1)
        board.out(0x1F7, 0x30)
        for _ in 0..<256 { board.out(0x1F0, 0xFFFF, 2) }
        wait()
        #expect(status() & 0x21 == 0x21)
        #expect(sectors(12, 1) == before, "nothing is half written")
        startDMA([(0x2000, 512)], toMemory: true)
        address28(12, 1)
        board.out(0x1F7, 0xC8)
        wait()
        #expect(status() & 1 != 0 && board.ram[0x2000..<0x2200].allSatisfy { $0 == 0 })
    }

    @Test func resetAndDiagnosis() {
        address28(77, 5)
        board.out(0x1F7, 0x20)
        board.out(0x3F6, 4)
        #expect(status() & 0x80 != 0)
        board.out(0x3F6, 0)
        wait()
        #expect(board.in(0x1F1) == 1 && board.in(0x1F2) == 1 && board.in(0x1F3) == 1 && board.in(0x1F4) == 0)
        board.out(0x376, 4)
        board.out(0x376, 0)
        wait(Self.secondary)
        #expect(board.in(0x174) == 0x14 && board.in(0x175) == 0xEB, "the signature of a packet drive")
        board.out(0x1F6, 0xB0)
        #expect(board.in(0x1F7) == 0, "there is no drive 1")
        board.out(0x1F2, 0x55)
        #expect(board.in(0x1F2) == 0)
    }

    @Test func interruptsCanBeSwitchedOff() {
        board.out(0x3F6, 2)
        address28(0, 1)
        board.out(0x1F7, 0x20)
        wait()
        #expect(!board.levels[14])
        board.out(0x3F6, 0)
        #expect(board.levels[14])
        _ = board.in(0x1F7)
        #expect(!board.levels[14])
    }

    @Test func previousTaskFile() {
        address48(0x12_3456, 0x0201)
        board.out(0x3F6, 0x80)
        #expect(board.in(0x1F2) == 2 && board.in(0x1F3) == 0)
        board.out(0x3F6, 0)
        #expect(board.in(0x1F2) == 1 && board.in(0x1F3) == 0x56)
    }

    @Test func decodingCanBeSwitchedOff() {
        ide.configuration.write(0x40, width: 2, 0)
        #expect(board.in(0x1F7) == 0xFF && board.in(0x177) != 0xFF)
    }

    // MARK: CD-ROM

    /// Sends a packet and takes what comes by PIO. Nil when the command fails.
    private func packet(_ bytes: [UInt8], limit: UInt64 = 0xFFFE) -> [UInt8]? {
        let base = Self.secondary
        board.out(base + 6, 0xA0)
        board.out(base + 1, 0)
        board.out(base + 4, limit & 0xFF)
        board.out(base + 5, limit >> 8)
        board.out(base + 7, 0xA0)
        wait(base)
        #expect(status(base) & 8 != 0 && board.in(base + 2) & 3 == 1)
        for index in 0..<6 { board.out(base, UInt64(bytes[index * 2]) | UInt64(bytes[index * 2 + 1]) << 8, 2) }
        var data: [UInt8] = []
        while true {
            wait(base)
            let now = board.in(base + 7)
            if now & 1 != 0 { return nil }
            if now & 8 == 0 { break }
            let count = Int(board.in(base + 4) | board.in(base + 5) << 8)
            #expect(count > 0 && count <= Int(limit) && board.in(base + 2) & 3 == 2)
            data += readWords((count + 1) / 2, base).prefix(count)
        }
        #expect(board.in(base + 2) & 3 == 3)
        return data
    }
    private func sense() -> [UInt8] { packet([3, 0, 0, 0, 18, 0, 0, 0, 0, 0, 0, 0]) ?? [] }

    @Test func packetCommands() {
        #expect(packet([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]) == [])
        #expect(packet([0x12, 0, 0, 0, 36, 0, 0, 0, 0, 0, 0, 0])?.prefix(2) == [5, 0x80])
        #expect(packet([0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]) == [0, 0, 3, 0xE7, 0, 0, 8, 0])
        #expect(packet([0x43, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0])?.count == 20)
        #expect(packet([0x5A, 0, 0x2A, 0, 0, 0, 0, 0, 40, 0, 0, 0])?.count == 28)
        #expect(packet([0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8, 0, 0, 0]) == [0, 6, 4, 0x10, 0, 2, 0, 0])
        #expect(packet([0x99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]) == nil)
        let text = sense()
        #expect(text[2] == 5 && text[12] == 0x20)
        #expect(sense()[2] == 0)
    }

    @Test func readsDiscsByPIO() {
        let expected = Array(disc.bytes[20 * 2048..<25 * 2048])
        #expect(packet([0x28, 0, 0, 0, 0, 20, 0, 0, 5, 0, 0, 0]) == expected)
        #expect(packet([0xA8, 0, 0, 0, 0, 20, 0, 0, 0, 5, 0, 0], limit: 2048) == expected)
        #expect(packet([0x28, 0, 0, 0, 0, 20, 0, 0, 5, 0, 0, 0], limit: 100) == expected)
        #expect(packet([0x28, 0, 0, 0, 3, 0xE7, 0, 0, 2, 0, 0, 0]) == nil)
        #expect(sense()[12] == 0x21)
    }

    @Test func readsDiscsByDMA() {
        let base = Self.secondary
        startDMA([(0x2000, 4096)], toMemory: true, channel: 1)
        board.out(base + 1, 1)
        board.out(base + 7, 0xA0)
        for word in [0x28, 0, 0x0A00, 0, 2, 0] as [UInt64] { board.out(base, word, 2) }
        wait(base)
        #expect(status(base) & 1 == 0 && board.levels[15])
        #expect(Array(board.ram[0x2000..<0x3000]) == Array(disc.bytes[10 * 2048..<12 * 2048]))
    }

    @Test func discsAreChanged() {
        let ready: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        let capacity: [UInt8] = [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        #expect(packet(ready) == [])
        ide.receive([0x82, 1])
        #expect(packet(ready) == nil)
        let text = sense()
        #expect(text[2] == 6 && text[12] == 0x28, "the medium has changed")
        #expect(packet(capacity) == [0, 0, 0, 199, 0, 0, 8, 0])
        ide.receive([0x82, IDEDrive.noDisc])
        #expect(packet(ready) == nil)
        #expect(sense()[12] == 0x3A, "no medium")
        ide.receive([0x82, 0])
        _ = sense()
        #expect(packet(capacity) == [0, 0, 3, 0xE7, 0, 0, 8, 0])
        // A disc that there is not is none; and the disk is no CD-ROM drive.
        ide.receive([0x82, 7])
        #expect(packet(ready) == nil)
        ide.receive([0x80, 1])
        ide.receive([0x82])
    }

    @Test func theTray() {
        #expect(packet([0x1E, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]) != nil)
        #expect(packet([0x1B, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]) == nil, "the tray is locked")
        #expect(packet([0x1E, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]) != nil)
        #expect(packet([0x1B, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]) != nil)
        #expect(packet([0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]) == nil)
        #expect(sense()[12] == 0x3A)
        #expect(packet([0x1B, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]) != nil)
        #expect(packet([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]) == nil, "the medium may have changed")
        #expect(packet([0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]) != nil)
    }

    @Test func hostFailuresOfADisc() {
        disc.bad = [41]
        #expect(packet([0x28, 0, 0, 0, 0, 10, 0, 0, 1, 0, 0, 0]) == nil)
        let text = sense()
        #expect(text[2] == 3 && text[12] == 0x11)
    }

    // MARK: State

    @Test func visitsEachFieldOfItsParts() {
        var drive = IDEDrive.State()
        StateChecks.namesEachField(of: drive) { drive.visit(&$0) }
        var channel = IDEChannel.State()
        StateChecks.namesEachField(of: channel) { channel.visit(&$0) }
        var busMaster = BusMaster()
        StateChecks.namesEachField(of: busMaster) { busMaster.visit(&$0) }
    }

    /// Commands with random registers, tables anywhere, zero lengths: nothing traps, and nothing outside is touched.
    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func randomCommands(seed: UInt64) {
        var random = TestRandom(seed)
        let commands: [UInt64] = [
            0x20, 0x24, 0x25, 0x29, 0x30, 0x34, 0x35, 0x39, 0xC4, 0xC5, 0xC6, 0xC8, 0xCA, 0xEC, 0xEF, 0xA0, 0xA1, 0x08, 0x90,
            0x91, 0xE7, 0x40, 0xF8, 0x27, 0x70,
        ]
        for _ in 0..<4000 {
            let base = random.below(2) == 0 ? Self.primary : Self.secondary
            let channel: UInt64 = base == Self.primary ? 0 : 8
            for register in 1...6 where random.below(2) == 0 { board.out(base + UInt64(register), random.next() & 0xFF) }
            if random.below(3) == 0 {
                let entries = (0..<1 + random.below(4)).map { _ in
                    (random.below(2) == 0 ? UInt64(random.below(1 << 16)) : random.next() & 0xFFFF_FFFF,
                     random.below(3) == 0 ? 0 : UInt64(random.below(1 << 16)))
                }
                startDMA(entries, toMemory: random.below(2) == 0, channel: channel / 8)
                if random.below(4) == 0 { board.out(0xC004 + channel, random.next() & 0xFFFF_FFFF, 4) }
            }
            board.out(base + 7, random.below(8) == 0 ? random.next() & 0xFF : commands[random.below(commands.count)])
            for _ in 0..<random.below(300) {
                if random.below(2) == 0 { _ = board.in(base, 1 << random.below(3)) }
                else { board.out(base, random.next() & 0xFFFF_FFFF, 1 << random.below(3)) }
            }
            if random.below(3) == 0 { board.advance(random.next() % 400_000) }
            if random.below(50) == 0 { board.out(base + 0x206, random.next() & 0xFF) }
            if random.below(50) == 0 { ide.receive([UInt8(random.below(6))]) }
            _ = board.in(base + 7)
        }
        // It works still.
        for _ in 0..<2 {
            board.out(0x3F6, 4)
            board.out(0x3F6, 0)
            wait()
        }
        address28(5, 1)
        #expect(readPIO(0x20, sectors: 1) == sectors(5, 1))
    }
}
