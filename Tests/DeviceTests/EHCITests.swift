import DeviceBus
@testable import Devices
import MachineState
import Testing

/// A driver for the controller: an asynchronous ring of one queue head, and a periodic one, in the RAM of a `FakeBoard`.
private final class Driver {
    let board = FakeBoard()
    let chip: EHCI
    let companion: UHCI
    private let base: UInt64 = 0xF000_0000
    private let ports: UInt64 = 0xC100
    static let frames: UInt32 = 0x1000, head: UInt32 = 0x2000, periodic: UInt32 = 0x2080, descriptors: UInt32 = 0x3000, data: UInt32 = 0x8000
    static let active: UInt32 = 0x80, interrupts: UInt32 = 1 << 15

    init(_ devices: [any USBDevice]) {
        chip = EHCI(name: "ehci", devices: devices, irq: board.line(5), memory: board, scheduler: board.scheduler)
        companion = UHCI(
            name: "uhci", devices: devices, role: .companion(function: 0), owner: chip, irq: board.line(6), memory: board,
            scheduler: board.scheduler)
        chip.companions = [companion]
        let host = board.add(PCIHost(bus: board.bus))
        host.add(board.add(companion), at: PCIAddress(slot: 4))
        host.add(board.add(chip), at: PCIAddress(slot: 4, function: 7))
        companion.reset()
        chip.reset()
        board.out(0xCF8, 0x8000_2710, 4)
        board.out(0xCFC, base, 4)
        board.out(0xCF8, 0x8000_2704, 4)
        board.out(0xCFC, 6, 4)
        board.out(0xCF8, 0x8000_2020, 4)
        board.out(0xCFC, ports, 4)
        board.out(0xCF8, 0x8000_2004, 4)
        board.out(0xCFC, 5, 4)
    }

    func read(_ offset: UInt64) -> UInt32 { UInt32(board.bus.read(.memory, base + offset, width: 4)) }
    func write(_ offset: UInt64, _ value: UInt32) { board.bus.write(.memory, base + offset, width: 4, value: UInt64(value)) }
    func port(_ number: UInt64 = 0) -> UInt32 { read(0x64 + number * 4) }
    func writePort(_ value: UInt32, _ number: UInt64 = 0) { write(0x64 + number * 4, value) }
    func word(_ address: UInt32) -> UInt32 { board.word(UInt64(address)) }
    func set(_ address: UInt32, _ values: UInt32...) { board.set(UInt64(address), values) }

    func start() {
        for frame in 0..<1024 as Range<UInt32> { set(Driver.frames + frame * 4, Driver.periodic | 2) }
        set(Driver.head, Driver.head | 2, 0xA000 | 64 << 16, 1 << 30, 0, 1, 1, 0)
        set(Driver.periodic, 1, 0x2000 | 8 << 16, 1 << 30 | 1, 0, 1, 1, 0)
        write(0x34, Driver.frames)
        write(0x38, Driver.head)
        write(0x28, 0x3F)
        write(0x20, 0x0008_0031)
        write(0x60, 1)
    }
    func resetPort(_ number: UInt64 = 0) {
        writePort(0x1100, number)
        board.advance(50_000_000)
        writePort(0x1000, number)
    }

    /// Queues descriptors: kind (0 to the device, 1 from it, 2 setup), bytes, bits of the token, with the data one behind the other.
    func queue(_ packets: [(packet: UInt32, length: Int, bits: UInt32)], address: UInt32 = 0, endpoint: UInt32 = 0, isPeriodic: Bool = false) {
        var place = Driver.data
        for (index, packet) in packets.enumerated() {
            let descriptor = Driver.descriptors + UInt32(index) * 64
            let end = Driver.descriptors + UInt32(packets.count - 1) * 64
            // After a short packet of a control transfer: its status stage.
            set(
                descriptor, index + 1 < packets.count ? descriptor + 64 : 1, index + 1 < packets.count ? end : 1,
                UInt32(packet.length) << 16 | 3 << 10 | packet.packet << 8 | Driver.active | packet.bits, place, (place & ~0xFFF) + 0x1000,
                (place & ~0xFFF) + 0x2000, (place & ~0xFFF) + 0x3000, (place & ~0xFFF) + 0x4000)
            place += UInt32(packet.length)
        }
        let head = isPeriodic ? Driver.periodic : Driver.head
        set(head + 4, (isPeriodic ? 0x2000 | 8 << 16 : endpoint == 0 ? 0xE000 | 64 << 16 : 0xA000 | 512 << 16) | endpoint << 8 | address)
        set(head + 16, Driver.descriptors, 1, 0)
    }
    func token(_ index: Int) -> UInt32 { word(Driver.descriptors + UInt32(index) * 64 + 8) }
    func left(_ index: Int) -> Int { Int(token(index) >> 16 & 0x7FFF) }
    func advance(_ milliseconds: Int = 3) { board.advance(UInt64(milliseconds) * 1_000_000) }
    func bytes(_ count: Int, at place: Int = 0) -> [UInt8] { Array(board.ram[Int(Driver.data) + place..<Int(Driver.data) + place + count]) }
    func put(_ bytes: [UInt8], at place: Int = 0) { board.ram.replaceSubrange(Int(Driver.data) + place..<Int(Driver.data) + place + bytes.count, with: bytes) }

    /// A control transfer; returns the status of its status stage.
    @discardableResult func control(_ setup: USBSetup, address: UInt32 = 0, data: [UInt8] = []) -> UInt32 {
        put(setup.bytes + data)
        var packets: [(UInt32, Int, UInt32)] = [(2, 8, 0)]
        if setup.length > 0 { packets.append((setup.isIn ? 1 : 0, Int(setup.length), 0)) }
        packets.append((setup.isIn && setup.length > 0 ? 0 : 1, 0, Driver.interrupts))
        queue(packets, address: address)
        advance()
        return token(packets.count - 1) & 0xFF
    }
}

struct EHCITests {
    private func keyboard() -> (Driver, USBKeyboard) {
        let function = USBKeyboard()
        return (Driver([USBBuiltIn(function, speed: .high)]), function)
    }

    @Test func registersAndPorts() {
        let (driver, _) = keyboard()
        #expect(driver.read(0) == 0x0100_0020 && driver.read(4) == 0x1204 && driver.read(0x24) == 0x1000)
        // Until the driver says so, the companion has all ports, but no use for a fast device.
        #expect(driver.port() & 1 == 0 && driver.board.in(0xC110, 2) & 1 == 0)
        driver.start()
        #expect(driver.port() & 0xC03 == 0x803 && driver.read(0x24) & 4 == 4 && driver.board.levels[5])
        driver.write(0x24, 4)
        #expect(!driver.board.levels[5])
        driver.writePort(0x1002)
        #expect(driver.port() == 0x1801)
        driver.resetPort()
        #expect(driver.port() == 0x1005)
        driver.resetPort(1)
        #expect(driver.port(1) == 0x1000)
        // Micro-frames go on, and stop.
        let before = driver.read(0x2C)
        driver.advance(2)
        #expect(driver.read(0x2C) == before + 16)
        driver.write(0x20, 0)
        driver.advance(2)
        #expect(driver.read(0x2C) == before + 16 && driver.read(0x24) & 0x1000 != 0)
        driver.write(0x20, 2)
        #expect(driver.read(0x20) == 0x80000 && driver.port() == 0x1000)
    }

    /// An isochronous descriptor at 0x6000, in the frame that is `ahead` of the present one.
    private func schedule(_ driver: Driver, _ ahead: UInt32, endpoint: UInt32, isIn: Bool, _ transactions: [Int: (length: UInt32, place: UInt32)]) {
        let frame = (driver.read(0x2C) >> 3 + ahead) & 0x3FF
        let place: UInt32 = 0x6000
        driver.set(place, Driver.periodic | 2)
        for index in 0..<8 {
            let transaction = transactions[index].map { 1 << 31 | $0.length << 16 | ($0.place >> 12) << 12 | $0.place & 0xFFF } ?? 0
            driver.set(place + 4 + UInt32(index) * 4, transaction | (index == 7 ? 1 << 15 : 0))
        }
        for page in 0..<7 as Range<UInt32> { driver.set(place + 36 + page * 4, Driver.data + page * 0x1000) }
        driver.set(place + 36, Driver.data | endpoint << 8 | 3)
        driver.set(place + 40, Driver.data + 0x1000 | (isIn ? 1 << 11 : 0) | 192)
        driver.set(Driver.frames + frame * 4, place)
    }

    @Test func isochronousTransfers() {
        let messages = SoundMessages()
        let function = USBAudio(channel: messages)
        let driver = Driver([USBBuiltIn(function, speed: .high)])
        #expect(driver.read(8) == 0x80)
        driver.start()
        driver.resetPort()
        for setup in [USBSetup(type: 0, request: 5, value: 3)] { #expect(driver.control(setup) == 0) }
        for setup in [
            USBSetup(type: 0, request: 9, value: 1), USBSetup(type: 1, request: 11, value: 1, index: 1),
            USBSetup(type: 1, request: 11, value: 1, index: 2),
        ] { #expect(driver.control(setup, address: 3) == 0) }
        // Two packets in a frame, one of them over the end of a page.
        let samples = (0..<0x1100).map { UInt8(truncatingIfNeeded: $0 &* 11) }
        driver.put(samples)
        driver.write(0x24, 0x3F)
        schedule(driver, 3, endpoint: 1, isIn: false, [0: (192, 0x0010), 7: (200, 0x0FA0)])
        driver.advance(1)
        #expect(messages.sent.isEmpty)
        driver.advance(5)
        #expect(messages.samples == Array(samples[0x10..<0x10 + 192]) + Array(samples[0xFA0..<0xFA0 + 200]))
        #expect(driver.word(0x6004) >> 28 == 0 && driver.word(0x6020) >> 28 == 0 && driver.read(0x24) & 3 == 1)
        // From the device: nothing yet, then what came in.
        schedule(driver, 2, endpoint: 2, isIn: true, [0: (192, 0x2000)])
        driver.advance(4)
        #expect(messages.sent.last?.first == 2 && driver.word(0x6004) == 0x2000)
        function.receive(Array(samples[..<100]))
        schedule(driver, 2, endpoint: 2, isIn: true, [0: (192, 0x2000), 1: (0, 0)])
        driver.advance(4)
        #expect(driver.word(0x6004) == 192 << 16 | 0x2000 && driver.bytes(100, at: 0x2000) == Array(samples[..<100]))
        // Nobody has that endpoint, and no hub is there for a split transfer.
        driver.write(0x24, 0x3F)
        schedule(driver, 2, endpoint: 5, isIn: false, [2: (8, 0)])
        driver.advance(4)
        #expect(driver.word(0x600C) >> 28 == 1 && driver.read(0x24) & 2 == 2)
        driver.write(0x24, 0x3F)
        driver.set(0x6000, Driver.periodic | 2, 0, 0, 1 << 31 | 0x80, 0, 0, 1)
        driver.set(Driver.frames + ((driver.read(0x2C) >> 3 + 2) & 0x3FF) * 4, 0x6004 & ~31 | 4)
        driver.advance(4)
        #expect(driver.word(0x600C) == 1 << 31 | 8 && driver.read(0x24) & 3 == 3)
    }

    @Test func controlTransfers() {
        let (driver, _) = keyboard()
        driver.start()
        driver.resetPort()
        #expect(driver.control(USBSetup(type: 0x80, request: 6, value: 0x100, length: 18)) == 0)
        #expect(driver.bytes(18, at: 8) == [18, 1, 0, 2, 0, 0, 0, 64, 0x6B, 0x1D, 0x10, 0x01, 0, 1, 1, 2, 3, 1])
        #expect(driver.read(0x24) & 1 == 1 && driver.board.levels[5])
        driver.write(0x24, 1)
        // Less than was asked for: goes on at the status stage.
        #expect(driver.control(USBSetup(type: 0x80, request: 6, value: 0x100, length: 64)) == 0 && driver.left(1) == 46)
        #expect(driver.control(USBSetup(type: 0, request: 5, value: 9)) == 0)
        #expect(driver.control(USBSetup(type: 0, request: 9, value: 1), address: 9) == 0)
        #expect(driver.control(USBSetup(type: 0x80, request: 8, length: 1), address: 9) == 0 && driver.bytes(1, at: 8) == [1])
        // A stall, and nobody at an address.
        driver.control(USBSetup(type: 0xC0, request: 99, length: 4), address: 9)
        #expect(driver.token(1) & 0xC8 == 0x40 && driver.read(0x24) & 2 == 2)
        driver.control(USBSetup(type: 0x80, request: 8, length: 1))
        #expect(driver.token(0) & 0xC8 == 0x48)
        // The doorbell: the ring has gone on.
        driver.write(0x20, 0x0008_0071)
        driver.advance(1)
        #expect(driver.read(0x24) & 0x20 == 0x20 && driver.read(0x20) & 0x40 == 0)
    }

    @Test func reportsComeWhenThereAreSome() {
        let (driver, function) = keyboard()
        driver.start()
        driver.resetPort()
        driver.control(USBSetup(type: 0, request: 9, value: 1))
        driver.write(0x24, 0x3F)
        driver.queue([(1, 8, Driver.interrupts)], endpoint: 1, isPeriodic: true)
        driver.advance(20)
        #expect(driver.token(0) & 0xFF == Driver.active && !driver.board.levels[5], "waits")
        function.receive(KeyMessage(KeyCode(name: "a")!).bytes)
        driver.advance(2)
        #expect(driver.token(0) & 0xFF == 0 && driver.left(0) == 0 && driver.bytes(8) == [0, 0, 4, 0, 0, 0, 0, 0])
        #expect(driver.board.levels[5])
    }

    /// Buffers over several pages, from anywhere in one.
    @Test func aDiskReadsAndWrites() {
        let medium = MemoryMedium(sectors: 64)
        let driver = Driver([USBBuiltIn(USBStorage(medium: medium, serial: "S", isHighSpeed: true), speed: .high)])
        driver.start()
        driver.resetPort()
        driver.control(USBSetup(type: 0, request: 9, value: 1))
        func command(_ block: [UInt8], _ length: UInt32, isIn: Bool) {
            let words = [0x4342_5355, 9, length].flatMap { value in (0..<4).map { UInt8(truncatingIfNeeded: value >> UInt32($0 * 8)) } }
            driver.put(words + [isIn ? 0x80 : 0, 0, 10] + block + [UInt8](repeating: 0, count: 16 - block.count))
            driver.queue([(0, 31, Driver.interrupts)], endpoint: 2)
            driver.advance()
            #expect(driver.token(0) & 0xFF == 0 && driver.left(0) == 0)
        }
        func status() -> UInt8 {
            driver.queue([(1, 13, 0)], endpoint: 1)
            driver.advance()
            #expect(driver.token(0) & 0xFF == 0 && driver.left(0) == 0)
            return driver.bytes(13)[12]
        }
        command([0x28, 0, 0, 0, 0, 3, 0, 0, 20], 10240, isIn: true)
        driver.queue([(1, 10240, Driver.interrupts)], endpoint: 1)
        driver.set(Driver.descriptors + 12, Driver.data + 0x234)
        driver.advance()
        #expect(driver.left(0) == 0 && driver.bytes(10240, at: 0x234) == Array(medium.bytes[3 * 512..<23 * 512]))
        #expect(status() == 0)
        command([0x2A, 0, 0, 0, 0, 9, 0, 0, 9], 4608, isIn: false)
        let data = (0..<4608).map { UInt8(truncatingIfNeeded: $0 &* 13) }
        driver.put(data, at: 0x100)
        driver.queue([(0, 4608, Driver.interrupts)], endpoint: 2)
        driver.set(Driver.descriptors + 12, Driver.data + 0x100)
        driver.advance()
        #expect(status() == 0 && Array(medium.bytes[9 * 512..<18 * 512]) == data)
    }

    /// A slow device: its port is given to the companion, where it works, and comes back when it is gone.
    @Test func slowDevicesGoToTheCompanion() {
        let outside = FakeBoard()
        let device = USBHostDevice(channel: outside)
        let driver = Driver([device])
        driver.start()
        device.receive(USBHostMessage.attached(.low))
        #expect(driver.port() & 0xC01 == 0x401, "a low-speed line")
        driver.writePort(0x3000)
        #expect(driver.port() & 0x2001 == 0x2000 && driver.board.in(0xC110, 2) & 0x103 == 0x103)
        driver.board.out(0xC110, 0x200, 2)
        driver.board.out(0xC110, 4, 2)
        #expect(driver.board.in(0xC110, 2) & 5 == 5)
        device.receive(USBHostMessage.detached)
        #expect(driver.port() & 0x2001 == 0 && driver.board.in(0xC110, 2) & 5 == 0)
        device.receive(USBHostMessage.attached(.full))
        #expect(driver.port() & 0xC01 == 0x801 && driver.board.in(0xC110, 2) & 1 == 0)
        driver.resetPort()
        #expect(driver.port() & 5 == 1, "not enabled: it is not of high speed")
    }

    /// Rings that go round, addresses beyond memory.
    @Test func schedulesThatGoRound() {
        let (driver, _) = keyboard()
        driver.start()
        driver.resetPort()
        driver.set(Driver.periodic, Driver.periodic | 2)
        driver.advance(5)
        driver.set(Driver.periodic, Driver.periodic | 4)
        driver.set(Driver.head, 0x2100 | 2)
        driver.set(0x2100, 0x2100 | 2, 0xA000, 0, 0, 1, 1, 0)
        driver.advance(5)
        driver.set(Driver.descriptors, Driver.descriptors, Driver.descriptors, 0)
        driver.set(Driver.head + 16, Driver.descriptors)
        driver.advance(5)
        driver.write(0x38, 0xFFFF_FFE0)
        driver.write(0x34, 0xFFFF_F000)
        driver.advance(5)
        #expect(driver.read(0x24) & 0x1000 == 0)
    }

    @Test func stateIsVisitedAsAWhole() {
        let (driver, function) = keyboard()
        driver.start()
        driver.resetPort()
        driver.control(USBSetup(type: 0x80, request: 6, value: 0x100, length: 18))
        function.receive(KeyMessage(KeyCode(name: "a")!).bytes)
        StateChecks.loads(driver.chip) { keyboard().0.chip }
        var state = driver.chip.state
        StateChecks.namesEachField(of: state) { state.visit(&$0) }
    }

    /// Registers and schedules of random bytes, and a device of the host that says anything.
    @Test(arguments: 0..<16 as Range<UInt64>) func anyDriverAndAnyDevice(seed: UInt64) {
        var random = TestRandom(seed)
        let outside = FakeBoard()
        let disk = USBStorage(medium: MemoryMedium(sectors: 64), serial: "S", isHighSpeed: true)
        let host = USBHostDevice(channel: outside)
        let isSound = seed & 1 != 0
        let driver = Driver([isSound ? USBBuiltIn(USBAudio(channel: outside), speed: .high) : USBBuiltIn(disk, speed: .high), host])
        driver.start()
        driver.resetPort()
        driver.control(USBSetup(type: 0, request: 9, value: 1))
        if isSound { for index in 1...2 as ClosedRange<UInt16> { driver.control(USBSetup(type: 1, request: 11, value: 1, index: index)) } }
        for _ in 0..<1500 {
            switch random.below(10) {
            case 0: driver.write(UInt64(random.below(0x80)) & ~3, UInt32(truncatingIfNeeded: random.next()))
            case 1: _ = driver.read(UInt64(random.below(0x100)) & ~3)
            case 2: driver.resetPort(UInt64(random.below(4)))
            case 3...5:
                let place = Driver.descriptors + UInt32(random.below(16)) * 64
                driver.set(
                    place, Driver.descriptors + UInt32(random.below(16)) * 64 | UInt32(random.below(2)), UInt32(random.below(2)),
                    UInt32(random.below(random.below(4) == 0 ? 0x8000 : 65)) << 16 | UInt32(random.next() & 0x7F00) | Driver.active
                        | UInt32(random.below(4)) << 8, random.below(20) == 0 ? UInt32(truncatingIfNeeded: random.next()) : Driver.data, Driver.data, Driver.data)
                let head = random.below(4) == 0 ? Driver.periodic : Driver.head
                driver.set(head + 4, 0xA000 | 64 << 16 | UInt32(random.below(3)) << 8 | (random.below(8) == 0 ? UInt32(random.below(128)) : 0))
                driver.set(head + 16, place, 1, 0)
            case 6: driver.set(0x2000 + UInt32(random.below(0x40)) * 4, 0x2000 + UInt32(random.below(8)) * 32 | UInt32(random.below(8)))
            case 7:
                host.receive([UInt8(random.below(4))] + random.bytes(random.below(20)))
                host.receive(USBHostMessage.completed(UInt32(random.below(20)), UInt8(random.below(4)), random.bytes(random.below(100))))
            case 8:
                // Isochronous and split descriptors that lead to one another.
                let place = 0x6000 + UInt32(random.below(8)) * 64
                driver.set(place, 0x6000 + UInt32(random.below(8)) * 64 | UInt32(random.below(8)))
                for word in 1..<16 as Range<UInt32> { driver.set(place + word * 4, UInt32(truncatingIfNeeded: random.next())) }
                if random.below(2) == 0 {
                    driver.set(place + 36, Driver.data | UInt32(random.below(4)) << 8, Driver.data | UInt32(random.below(2)) << 11 | 192)
                }
                driver.set(Driver.frames + UInt32(random.below(1024)) * 4, place | UInt32(random.below(4)) << 1)
                if random.below(2) == 0 { driver.set(Driver.frames + ((driver.read(0x2C) >> 3 + 1) & 0x3FF) * 4, place) }
            default: if random.below(10) == 0 { driver.start() }
            }
            driver.board.advance(UInt64(random.below(1_000_000)))
        }
        StateChecks.survivesDamage(driver.chip, &random) { _ in
            driver.start()
            driver.advance()
        }
    }
}
