import DeviceBus
@testable import Devices
import MachineState
import Testing

/// A driver for the controller: a list of frames that all lead to one queue, in the RAM of a `FakeBoard`.
private final class Driver {
    let board = FakeBoard()
    let chip: UHCI
    private let base: UInt64 = 0xC100
    static let frames: UInt32 = 0x1000, queue: UInt32 = 0x2000, descriptors: UInt32 = 0x3000, data: UInt32 = 0x8000
    static let active: UInt32 = 1 << 23, interrupts: UInt32 = 1 << 24, shortDetect: UInt32 = 1 << 29

    init(_ devices: [any USBDevice]) {
        chip = UHCI(
            name: "uhci", devices: devices, role: .piix3, irq: board.line(5), memory: board, scheduler: board.scheduler)
        let host = board.add(PCIHost(bus: board.bus))
        host.add(board.add(chip), at: PCIAddress(slot: 4))
        chip.reset()
        board.out(0xCF8, 0x8000_2020, 4)
        board.out(0xCFC, base, 4)
        board.out(0xCF8, 0x8000_2004, 4)
        board.out(0xCFC, 5, 4)
    }

    func read(_ offset: UInt64, _ width: Int = 2) -> UInt64 { board.in(base + offset, width) }
    func write(_ offset: UInt64, _ value: UInt64, _ width: Int = 2) { board.out(base + offset, value, width) }
    func word(_ address: UInt32) -> UInt32 { board.word(UInt64(address)) }
    func set(_ address: UInt32, _ values: UInt32...) { board.set(UInt64(address), values) }

    func start() {
        for frame in 0..<1024 as Range<UInt32> { set(Driver.frames + frame * 4, Driver.queue | 2) }
        set(Driver.queue, 1, 1)
        write(8, UInt64(Driver.frames), 4)
        write(4, 0xF)
        write(0, 0xC1)
    }
    func resetPort(_ number: UInt64 = 0) {
        write(0x10 + number * 2, 0x200)
        board.advance(50_000_000)
        write(0x10 + number * 2, 0)
        write(0x10 + number * 2, 4 | 2)
    }

    /// Queues packets: kind, bytes, bits of the control word; one behind the other, with the data one behind the other.
    func queue(_ packets: [(packet: UInt32, length: Int, bits: UInt32)], address: UInt32 = 0, endpoint: UInt32 = 0, toggle: UInt32 = 0) {
        var place = Driver.data
        for (index, packet) in packets.enumerated() {
            let descriptor = Driver.descriptors + UInt32(index) * 32
            set(
                descriptor, index + 1 < packets.count ? descriptor + 32 : 1, Driver.active | 3 << 27 | packet.bits,
                (UInt32(packet.length) &- 1 & 0x7FF) << 21 | endpoint << 15 | address << 8 | packet.packet, place)
            place += UInt32(packet.length)
        }
        set(Driver.queue + 4, Driver.descriptors)
    }
    func control(_ index: Int) -> UInt32 { word(Driver.descriptors + UInt32(index) * 32 + 4) }
    /// Bytes that a packet moved.
    func moved(_ index: Int) -> Int { Int((control(index) & 0x7FF &+ 1) & 0x7FF) }
    func frames(_ count: Int) { board.advance(UInt64(count) * 1_000_000) }
    func bytes(_ count: Int, at place: Int = 0) -> [UInt8] { Array(board.ram[Int(Driver.data) + place..<Int(Driver.data) + place + count]) }
    func put(_ bytes: [UInt8], at place: Int = 0) { board.ram.replaceSubrange(Int(Driver.data) + place..<Int(Driver.data) + place + bytes.count, with: bytes) }

    /// A control transfer with packets of 8 bytes; returns the last packet's status bits.
    @discardableResult func control(_ setup: USBSetup, address: UInt32 = 0, data: [UInt8] = []) -> UInt32 {
        put(setup.bytes + data)
        var packets: [(UInt32, Int, UInt32)] = [(0x2D, 8, 0)]
        var left = Int(setup.length)
        while left > 0 {
            packets.append((setup.isIn ? 0x69 : 0xE1, min(left, 8), Driver.shortDetect))
            left -= 8
        }
        let isStatusIn = !setup.isIn || setup.length == 0
        packets.append((isStatusIn ? 0x69 : 0xE1, 0, Driver.interrupts))
        queue(packets, address: address)
        frames(4)
        return control(packets.count - 1) >> 16 & 0xFF
    }
}

struct UHCITests {
    private func keyboard() -> (Driver, USBKeyboard) {
        let function = USBKeyboard()
        return (Driver([USBBuiltIn(function, speed: .full)]), function)
    }

    @Test func registersAndPorts() {
        let (driver, _) = keyboard()
        #expect(driver.read(2) & 0x20 != 0 && driver.read(0x0C, 1) == 64)
        #expect(driver.read(0x10) == 0x83 && driver.read(0x12) == 0x80 && driver.read(0x14) == 0xFFFF)
        driver.write(0x10, 2)
        #expect(driver.read(0x10) == 0x81)
        driver.resetPort()
        #expect(driver.read(0x10) == 0x85)
        driver.write(0x12, 4)
        #expect(driver.read(0x12) == 0x80, "nothing is there")
        driver.start()
        #expect(driver.read(2) & 0x20 == 0)
        driver.frames(3)
        #expect(driver.read(6) == 3)
        driver.write(0, 0)
        driver.frames(3)
        #expect(driver.read(2) & 0x20 != 0 && driver.read(6) == 3)
        // The controller's reset forgets everything but what is plugged in.
        driver.write(0, 2)
        #expect(driver.read(0) == 0 && driver.read(8, 4) == 0 && driver.read(0x10) == 0x83)
    }

    @Test func isochronousTransfers() {
        let messages = SoundMessages()
        let function = USBAudio(channel: messages)
        let driver = Driver([USBBuiltIn(function, speed: .full)])
        driver.resetPort()
        driver.start()
        #expect(driver.control(USBSetup(type: 0, request: 5, value: 7)) == 0)
        for setup in [
            USBSetup(type: 0, request: 9, value: 1), USBSetup(type: 1, request: 11, value: 1, index: 1),
            USBSetup(type: 1, request: 11, value: 1, index: 2),
        ] { #expect(driver.control(setup, address: 7) == 0) }
        /// Puts a packet, which is before the queues, into the frame that is `ahead` of the present one.
        func schedule(_ ahead: UInt32, _ packet: UInt32, endpoint: UInt32, place: UInt32) {
            let descriptor = 0x6000 + ahead * 32
            driver.set(
                descriptor, Driver.queue | 2, Driver.active | 1 << 25 | Driver.interrupts, 191 << 21 | endpoint << 15 | 7 << 8 | packet,
                Driver.data + place)
            driver.set(Driver.frames + ((UInt32(driver.read(6)) + ahead) & 0x3FF) * 4, descriptor)
        }
        let samples = (0..<384).map { UInt8(truncatingIfNeeded: $0 &* 5) }
        driver.put(samples)
        schedule(2, 0xE1, endpoint: 1, place: 0)
        schedule(3, 0xE1, endpoint: 1, place: 192)
        driver.frames(2)
        #expect(messages.sent.isEmpty)
        driver.frames(1)
        #expect(messages.samples == Array(samples[..<192]) && driver.word(0x6044) & (0xFF << 16 | 0x7FF) == 191)
        driver.frames(1)
        #expect(messages.samples == samples)
        // From the device: nothing yet, then what came in.
        schedule(1, 0x69, endpoint: 2, place: 1024)
        driver.frames(2)
        #expect(messages.sent.last?.first == 2 && driver.word(0x6024) & (0xFF << 16 | 0x7FF) == 0x7FF)
        function.receive(Array(samples[..<192]))
        schedule(1, 0x69, endpoint: 2, place: 1024)
        driver.frames(2)
        #expect(driver.bytes(192, at: 1024) == Array(samples[..<192]) && driver.word(0x6024) & 0x7FF == 191)
        // Nobody has that endpoint: it is not offered again.
        schedule(1, 0x69, endpoint: 5, place: 1024)
        driver.frames(2)
        #expect(driver.word(0x6024) & Driver.active == 0 && driver.word(0x6024) & 1 << 18 != 0)
    }

    @Test func controlTransfersInPackets() {
        let (driver, _) = keyboard()
        driver.resetPort()
        driver.start()
        #expect(driver.control(USBSetup(type: 0x80, request: 6, value: 0x100, length: 18)) == 0)
        #expect(driver.bytes(18, at: 8) == [18, 1, 0, 2, 0, 0, 0, 8, 0x6B, 0x1D, 0x10, 0x01, 0, 1, 1, 2, 3, 1])
        #expect((0..<5).map { driver.moved($0) } == [8, 8, 8, 2, 0])
        #expect(driver.board.levels[5] && driver.read(2) & 1 == 1)
        driver.write(2, 1)
        #expect(!driver.board.levels[5])
        // An address, and nobody answers at the old one.
        #expect(driver.control(USBSetup(type: 0, request: 5, value: 7)) == 0)
        #expect(driver.control(USBSetup(type: 0, request: 9, value: 1), address: 7) == 0)
        driver.control(USBSetup(type: 0x80, request: 8, length: 1))
        #expect(driver.control(0) & (1 << 22 | 1 << 18) == 1 << 22 | 1 << 18 && driver.read(2) & 2 == 2)
        #expect(driver.control(USBSetup(type: 0x80, request: 8, length: 1), address: 7) == 0 && driver.bytes(1, at: 8) == [1])
        // Less than was asked for: the queue stays at the short packet.
        driver.control(USBSetup(type: 0x80, request: 6, value: 0x100, length: 64), address: 7)
        #expect(driver.moved(3) == 2 && driver.control(3) & Driver.active == 0 && driver.control(4) & Driver.active != 0)
        #expect(driver.word(Driver.queue + 4) == Driver.descriptors + 3 * 32)
        // A request that the device does not know.
        driver.control(USBSetup(type: 0xC0, request: 99, length: 4), address: 7)
        #expect(driver.control(1) & (1 << 22 | Driver.active) == 1 << 22)
        // Data to the device: the keyboard's lights.
        #expect(driver.control(USBSetup(type: 0x21, request: 9, value: 0x200, length: 1), address: 7, data: [5]) == 0)
    }

    @Test func reportsComeWhenThereAreSome() {
        let (driver, function) = keyboard()
        driver.resetPort()
        driver.start()
        driver.control(USBSetup(type: 0, request: 9, value: 1))
        driver.queue([(0x69, 8, Driver.interrupts)], endpoint: 1)
        driver.write(2, 0x1F)
        driver.frames(5)
        #expect(driver.control(0) & (Driver.active | 1 << 19) == Driver.active | 1 << 19 && !driver.board.levels[5], "waits")
        function.receive(KeyMessage(KeyCode(name: "a")!).bytes)
        driver.frames(2)
        #expect(driver.control(0) & Driver.active == 0 && driver.moved(0) == 8 && driver.bytes(8) == [0, 0, 4, 0, 0, 0, 0, 0])
        #expect(driver.board.levels[5] && driver.word(Driver.queue + 4) == 1)
    }

    /// A disk with packets of 64 bytes: what a frame has room for at once, and a short packet at the end.
    @Test func aDiskReadsAndWrites() {
        let medium = MemoryMedium(sectors: 64)
        let disk = USBBuiltIn(USBStorage(medium: medium, serial: "S", isHighSpeed: false), speed: .full)
        let driver = Driver([disk])
        driver.resetPort()
        driver.start()
        driver.control(USBSetup(type: 0, request: 9, value: 1))
        func command(_ block: [UInt8], _ length: UInt32, isIn: Bool) {
            let words = [0x4342_5355, 9, length].flatMap { value in (0..<4).map { UInt8(truncatingIfNeeded: value >> UInt32($0 * 8)) } }
            driver.put(words + [isIn ? 0x80 : 0, 0, 10] + block + [UInt8](repeating: 0, count: 16 - block.count))
            driver.queue([(0xE1, 31, Driver.interrupts)], endpoint: 2)
            driver.frames(2)
            #expect(driver.control(0) & 0xFF0000 == 0)
        }
        func status() -> UInt8 {
            driver.queue([(0x69, 64, 0)], endpoint: 1)
            driver.frames(2)
            #expect(driver.moved(0) == 13)
            return driver.bytes(13)[12]
        }
        command([0x28, 0, 0, 0, 0, 3, 0, 0, 4], 2048, isIn: true)
        driver.queue((0..<32).map { (0x69, 64, $0 == 31 ? Driver.interrupts : Driver.shortDetect) }, endpoint: 1)
        driver.frames(10)
        #expect(driver.bytes(2048) == Array(medium.bytes[3 * 512..<7 * 512]))
        #expect(status() == 0)
        command([0x2A, 0, 0, 0, 0, 9, 0, 0, 2], 1024, isIn: false)
        let data = (0..<1024).map { UInt8(truncatingIfNeeded: $0 &* 13) }
        driver.put(data)
        // One packet at a time: sectors are put together.
        for index in 0..<16 {
            driver.queue([(0xE1, 64, Driver.interrupts)], endpoint: 2)
            driver.set(Driver.descriptors + 12, Driver.data + UInt32(index) * 64)
            driver.frames(3)
            #expect(driver.control(0) & Driver.active == 0)
        }
        #expect(status() == 0 && Array(medium.bytes[9 * 512..<11 * 512]) == data)
    }

    @Test func isochronousPacketsOfAFrame() {
        let outside = FakeBoard()
        let device = USBHostDevice(channel: outside)
        let driver = Driver([device])
        device.receive(USBHostMessage.attached(.full))
        driver.resetPort()
        driver.start()
        // In frame 100 only, before the queue.
        driver.set(Driver.descriptors, Driver.queue | 2, Driver.active | 1 << 25 | Driver.interrupts, 99 << 21 | 3 << 15 | 0xE1, Driver.data)
        driver.put((0..<100).map { UInt8($0) })
        driver.set(Driver.frames + 4 * 100, Driver.descriptors)
        outside.sent = []
        driver.frames(101)
        guard case .submit(_, let transfer) = USBHostMessage.request(outside.sent) else {
            Issue.record("\(outside.sent)")
            return
        }
        #expect(transfer == USBTransfer(.isochronous, endpoint: 3, data: (0..<100).map { UInt8($0) }))
    }

    @Test func aDeviceOfTheHostComesAndGoes() {
        let outside = FakeBoard()
        let device = USBHostDevice(channel: outside)
        let driver = Driver([device])
        driver.start()
        #expect(driver.read(0x10) & 1 == 0)
        device.receive(USBHostMessage.attached(.low))
        #expect(driver.read(0x10) & 0x103 == 0x103)
        driver.resetPort()
        outside.sent = []
        driver.control(USBSetup(type: 0x80, request: 6, value: 0x100, length: 18))
        guard case .submit(let number, let transfer) = USBHostMessage.request(outside.sent) else {
            Issue.record("\(outside.sent)")
            return
        }
        #expect(transfer.length == 18 && driver.control(1) & Driver.active != 0)
        device.receive(USBHostMessage.completed(number, USBHostMessage.done, [18, 1]))
        driver.frames(2)
        #expect(driver.bytes(2, at: 8) == [18, 1] && driver.moved(1) == 2)
        // What the driver takes away is taken away from the host too, when it offers something else.
        driver.control(USBSetup(type: 0x80, request: 6, value: 0x100, length: 18))
        outside.sent = []
        driver.control(USBSetup(type: 0x80, request: 6, value: 0x200, length: 9))
        #expect(USBHostMessage.request(Array(outside.sent.prefix(5))) == .cancel(number: number + 1))
        device.receive(USBHostMessage.detached)
        #expect(driver.read(0x10) & 7 == 2 && driver.read(0x10) & 8 == 8)
        // A fast device is none for this controller.
        device.receive(USBHostMessage.attached(.high))
        #expect(driver.read(0x10) & 1 == 0)
    }

    /// Rings of queues and descriptors, and addresses beyond memory, end a frame and no more.
    @Test func schedulesThatGoRound() {
        let (driver, _) = keyboard()
        driver.resetPort()
        driver.start()
        // Two queues that lead to each other, with nothing to do.
        driver.set(Driver.queue, 0x2010 | 2, 1)
        driver.set(0x2010, Driver.queue | 2, 1)
        driver.frames(5)
        // A descriptor that leads to itself, and is never over.
        driver.set(Driver.descriptors, Driver.descriptors, 0, 0x69, 0)
        driver.set(Driver.queue + 4, Driver.descriptors)
        driver.set(Driver.frames, Driver.descriptors)
        driver.frames(1030)
        // A list that is nowhere.
        driver.write(8, 0xFFFF_F000, 4)
        driver.frames(5)
        #expect(driver.read(2) & 0x20 == 0)
        // A packet that no bus has stops the controller.
        driver.write(8, UInt64(Driver.frames), 4)
        driver.set(Driver.descriptors, 1, Driver.active, 0x55, 0)
        for frame in 0..<1024 as Range<UInt32> { driver.set(Driver.frames + frame * 4, Driver.descriptors) }
        driver.frames(2)
        #expect(driver.read(2) & 0x30 == 0x30 && driver.board.levels[5])
    }

    @Test func stateIsVisitedAsAWhole() {
        let (driver, function) = keyboard()
        driver.resetPort()
        driver.start()
        driver.control(USBSetup(type: 0x80, request: 6, value: 0x100, length: 64))
        function.receive(KeyMessage(KeyCode(name: "a")!).bytes)
        StateChecks.loads(driver.chip) { keyboard().0.chip }
        var state = driver.chip.state
        StateChecks.namesEachField(of: state) { state.visit(&$0) }
        var wire = USBWire()
        StateChecks.namesEachField(of: wire) { wire.visit(&$0) }
        var offer = USBWire.Offer()
        StateChecks.namesEachField(of: offer) { offer.visit(&$0) }
    }

    /// Registers and schedules of random bytes, and a device of the host that says anything.
    @Test(arguments: 0..<16 as Range<UInt64>) func anyDriverAndAnyDevice(seed: UInt64) {
        var random = TestRandom(seed)
        let outside = FakeBoard()
        let disk = USBStorage(medium: MemoryMedium(sectors: 64), serial: "S", isHighSpeed: false)
        let host = USBHostDevice(channel: outside)
        let isSound = seed & 1 != 0
        let driver = Driver([isSound ? USBBuiltIn(USBAudio(channel: outside), speed: .full) : USBBuiltIn(disk, speed: .full), host])
        driver.resetPort()
        driver.start()
        driver.control(USBSetup(type: 0, request: 9, value: 1))
        if isSound { for index in 1...2 as ClosedRange<UInt16> { driver.control(USBSetup(type: 1, request: 11, value: 1, index: index)) } }
        for _ in 0..<1500 {
            switch random.below(9) {
            case 0: driver.write(UInt64(random.below(0x20)), random.next() & 0xFFFF_FFFF, [1, 2, 4][random.below(3)])
            case 1: _ = driver.read(UInt64(random.below(0x20)), [1, 2, 4][random.below(3)])
            case 2: driver.resetPort(UInt64(random.below(2)))
            case 3...5:
                let link = Driver.descriptors + UInt32(random.below(16)) * 32
                driver.set(
                    Driver.descriptors + UInt32(random.below(16)) * 32, link | UInt32(random.below(8) & 5), Driver.active | UInt32(random.next() & 0x3F00_0000),
                    UInt32(random.below(random.below(4) == 0 ? 0x800 : 65)) << 21 | UInt32(random.below(4)) << 15 | [0x69, 0xE1, 0x2D, 0x69][random.below(4)],
                    random.below(20) == 0 ? UInt32(truncatingIfNeeded: random.next()) : Driver.data)
                driver.set(Driver.queue + 4, link)
            case 6: driver.set(UInt32(0x2000 + random.below(0x40) * 4), UInt32(0x2000 + random.below(0x40) * 16) | UInt32(random.below(4)))
            case 7:
                host.receive([UInt8(random.below(4))] + random.bytes(random.below(20)))
                host.receive(USBHostMessage.completed(UInt32(random.below(20)), UInt8(random.below(4)), random.bytes(random.below(100))))
            default: if random.below(10) == 0 { driver.start() }
            }
            driver.board.advance(UInt64(random.below(4_000_000)))
        }
        StateChecks.survivesDamage(driver.chip, &random) { _ in
            driver.start()
            driver.frames(3)
        }
    }
}
