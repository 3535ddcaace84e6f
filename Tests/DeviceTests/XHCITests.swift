import DeviceBus
@testable import Devices
import MachineState
import Testing

/// A driver for the controller: rings in the RAM of a `FakeBoard`.
private final class Driver {
    let board = FakeBoard()
    let chip: XHCI
    private let base: UInt64 = 0xF000_0000
    /// Where things are in RAM.
    static let contexts: UInt64 = 0x1000, commands: UInt64 = 0x2000, segments: UInt64 = 0x2400, events: UInt64 = 0x3000
    static let device: UInt64 = 0x4000, input: UInt64 = 0x4800, rings: UInt64 = 0x6000, data: UInt64 = 0x8000
    private var command: UInt64 = Driver.commands
    private var event = 0
    private var eventCycle: UInt32 = 1
    private var places: [Int: UInt64] = [:]

    init(_ devices: [any USBDevice]) {
        chip = XHCI(name: "xhci", devices: devices, irq: board.line(5), messages: board, memory: board, scheduler: board.scheduler)
        let host = board.add(PCIHost(bus: board.bus))
        host.add(board.add(chip), at: PCIAddress(slot: 4))
        chip.reset()
        board.out(0xCF8, 0x8000_2010, 4)
        board.out(0xCFC, base, 4)
        board.out(0xCF8, 0x8000_2004, 4)
        board.out(0xCFC, 6, 4)
    }

    func read(_ offset: UInt64) -> UInt32 { UInt32(board.bus.read(.memory, base + offset, width: 4)) }
    func write(_ offset: UInt64, _ value: UInt64, _ width: Int = 4) { board.bus.write(.memory, base + offset, width: width, value: value) }
    func word(_ address: UInt64) -> UInt32 { board.word(address) }
    func set(_ address: UInt64, _ values: UInt32...) { board.set(address, values) }

    /// - Parameter eventCount: the size of the event ring.
    func start(eventCount: UInt32 = 64) {
        write(0x40, 2)
        write(0x78, 8)
        write(0x70, Driver.contexts, 8)
        write(0x58, Driver.commands | 1, 8)
        set(Driver.segments, UInt32(Driver.events), 0, eventCount, 0)
        write(0x1028, 1)
        write(0x1038, Driver.events, 8)
        write(0x1030, Driver.segments, 8)
        write(0x1020, 2)
        write(0x40, 5)
    }

    /// The next event: parameter, code, length, type, and the slot; nil: there is none.
    func next(_ size: Int = 64) -> (parameter: UInt32, code: UInt32, length: UInt32, type: UInt32, slot: UInt32)? {
        let place = Driver.events + UInt64(event) * 16
        guard word(place + 12) & 1 == eventCycle else { return nil }
        event += 1
        if event == size { (event, eventCycle) = (0, eventCycle ^ 1) }
        let status = word(place + 8)
        return (word(place), status >> 24, status & 0xFF_FFFF, word(place + 12) >> 10 & 63, word(place + 12) >> 24)
    }
    /// Says that all events have been seen.
    func acknowledge() { write(0x1038, Driver.events + UInt64(event) * 16 | 8, 8) }

    /// Gives a command, and returns its completion code and slot.
    func run(_ type: UInt32, parameter: UInt64 = 0, slot: UInt32 = 0, endpoint: UInt32 = 0) -> (code: UInt32, slot: UInt32) {
        set(command, UInt32(parameter), 0, 0, type << 10 | slot << 24 | endpoint << 16 | 1)
        command += 16
        write(0x2000, 0)
        board.advance(10_000)
        while let found = next() {
            acknowledge()
            if found.type == 33 { return (found.code, found.slot) }
        }
        return (0, 0)
    }

    /// Resets the port, and gives the device at it slot 1 and an address.
    func address(port: UInt32 = 1) {
        write(0x440 + UInt64(port - 1) * 16, 0x210)
        #expect(run(9) == (1, 1))
        set(Driver.contexts + 8, UInt32(Driver.device), 0)
        set(Driver.input, 0, 3)
        set(Driver.input + 32, 1 << 27, port << 16)
        open(1, type: 4)
        #expect(run(11, parameter: Driver.input, slot: 1) == (1, 1))
    }

    /// Puts an endpoint's context into the input context, with a ring of its own.
    func open(_ endpoint: Int, type: UInt32, interval: UInt32 = 0) {
        let ring = Driver.rings + UInt64(endpoint) * 0x200
        places[endpoint] = ring
        set(Driver.input + UInt64(endpoint + 1) * 32, interval << 16, type << 3 | 64 << 16, UInt32(ring) | 1, 0)
    }
    func configure(_ endpoints: [(Int, UInt32)], interval: UInt32 = 0) {
        set(Driver.input, 0, endpoints.reduce(1) { $0 | 1 << UInt32($1.0) })
        set(Driver.input + 32, 31 << 27, 1 << 16)
        for (endpoint, type) in endpoints { open(endpoint, type: type, interval: interval) }
        #expect(run(12, parameter: Driver.input, slot: 1) == (1, 1))
    }

    /// Puts blocks on an endpoint's ring, with the cycle bit, and rings.
    func put(_ endpoint: Int, _ blocks: (UInt64, UInt32, UInt32)...) {
        for (parameter, status, control) in blocks {
            let place = places[endpoint] ?? 0
            set(place, UInt32(truncatingIfNeeded: parameter), UInt32(parameter >> 32), status, control | 1)
            places[endpoint] = place + 16
        }
        write(0x2004, UInt64(endpoint))
        board.advance(1_000_000)
    }

    /// A control transfer; returns the data's code and length that is missing, and the status stage's code.
    func control(_ setup: USBSetup, _ data: [UInt8] = []) -> [UInt32] {
        let packet = setup.bytes.enumerated().reduce(UInt64(0)) { $0 | UInt64($1.element) << UInt64($1.offset * 8) }
        board.ram.replaceSubrange(Int(Driver.data)..<Int(Driver.data) + data.count, with: data)
        // Setup (immediate), data (interrupt on short), status (interrupt).
        if setup.length > 0 {
            put(1, (packet, 8, 2 << 10 | 0x40), (Driver.data, UInt32(setup.length), 3 << 10 | 4), (0, 0, 4 << 10 | 0x20))
        } else {
            put(1, (packet, 8, 2 << 10 | 0x40), (0, 0, 4 << 10 | 0x20))
        }
        var codes: [UInt32] = []
        while let found = next() {
            if found.type == 32 { codes += [found.code, found.length] }
            acknowledge()
        }
        return codes
    }
    func bytes(_ count: Int) -> [UInt8] { Array(board.ram[Int(Driver.data)..<Int(Driver.data) + count]) }
}

struct XHCITests {
    private func keyboard() -> (Driver, USBKeyboard) {
        let function = USBKeyboard()
        let driver = Driver([USBBuiltIn(function, speed: .full)])
        return (driver, function)
    }

    @Test func registersAndPorts() {
        let (driver, _) = keyboard()
        #expect(driver.read(0) == 0x0100_0040 && driver.read(4) == 8 << 24 | 1 << 8 | 16)
        #expect(driver.read(0x44) & 1 == 1, "halted")
        // Connected at full speed, and changed; nothing at the others.
        #expect(driver.read(0x440) & 0x2_3E01 == 0x2_0601, "\(driver.read(0x440))")
        #expect(driver.read(0x450) & 1 == 0 && driver.read(0x480) & 1 == 0)
        driver.start()
        #expect(driver.read(0x44) & 1 == 0)
        let change = driver.next()
        #expect(change?.type == 34 && change?.parameter == 1 << 24 && driver.board.levels[5])
        driver.write(0x1020, 3)
        #expect(!driver.board.levels[5])
        driver.acknowledge()
        driver.write(0x440, 0x2_0200)
        #expect(driver.read(0x440) & 0x2_0002 == 0, "the change is taken, the port not enabled")
        driver.write(0x440, 0x210)
        #expect(driver.read(0x440) & 0x20_0003 == 0x20_0003, "reset: enabled")
        #expect(driver.next()?.type == 34)
    }

    @Test func controlTransfers() {
        let (driver, _) = keyboard()
        driver.start()
        driver.address()
        #expect(driver.word(Driver.device + 12) == 2 << 27 | 1, "addressed")
        #expect(driver.control(USBSetup(type: 0x80, request: 6, value: 0x100, length: 18)) == [1, 0])
        #expect(driver.bytes(18) == [18, 1, 0, 2, 0, 0, 0, 8, 0x6B, 0x1D, 0x10, 0x01, 0, 1, 1, 2, 3, 1])
        // Less than was asked for: told by the data stage, and then the end.
        #expect(driver.control(USBSetup(type: 0x80, request: 6, value: 0x100, length: 64)) == [13, 46, 1, 0])
        #expect(driver.control(USBSetup(type: 0x00, request: 9, value: 1)) == [1, 0])
        #expect(driver.control(USBSetup(type: 0x80, request: 8, length: 1)) == [1, 0] && driver.bytes(1) == [1])
        // A request that it does not know: a stall; then the endpoint waits for the driver.
        #expect(driver.control(USBSetup(type: 0xC0, request: 99, length: 4)) == [6, 4])
        #expect(driver.word(Driver.device + 32) & 7 == 2)
        #expect(driver.control(USBSetup(type: 0x80, request: 8, length: 1)) == [])
        #expect(driver.run(14, slot: 1, endpoint: 1) == (1, 1))
        #expect(driver.word(Driver.device + 32) & 7 == 3)
    }

    @Test func keysAreReports() {
        let (driver, function) = keyboard()
        driver.start()
        driver.address()
        _ = driver.control(USBSetup(type: 0x00, request: 9, value: 1))
        driver.configure([(3, 7)])
        driver.put(3, (Driver.data, 8, 1 << 10 | 0x24))
        #expect(driver.next() == nil, "nothing is pressed")
        function.receive(KeyMessage.stroke([KeyCode(name: "shift")!, KeyCode(name: "a")!]))
        driver.board.advance(10_000_000)
        #expect(driver.next()?.code == 1 && driver.bytes(8) == [2, 0, 0, 0, 0, 0, 0, 0])
        driver.put(3, (Driver.data, 8, 1 << 10 | 0x24))
        driver.board.advance(10_000_000)
        #expect(driver.next()?.code == 1 && driver.bytes(8) == [2, 0, 4, 0, 0, 0, 0, 0])
        // Stopped while it waits: the transfer is told of, and the ring can be set anew.
        for _ in 0..<2 {
            driver.put(3, (Driver.data, 8, 1 << 10 | 0x24))
            driver.board.advance(10_000_000)
            #expect(driver.next()?.code == 1)
        }
        driver.acknowledge()
        driver.put(3, (Driver.data, 8, 1 << 10 | 0x24))
        #expect(driver.next() == nil)
        driver.set(Driver.commands + 0x80, 0, 0, 0, 0)
        #expect(driver.run(15, slot: 1, endpoint: 3) == (1, 1))
        #expect(driver.word(Driver.device + 3 * 32) & 7 == 3)
        #expect(driver.run(16, parameter: 0x7000 | 1, slot: 1, endpoint: 3) == (1, 1))
        #expect(driver.run(16, parameter: 0x7000 | 1, slot: 1, endpoint: 1).code == 19, "that one runs")
        #expect(driver.run(10, slot: 1) == (1, 1) && driver.run(15, slot: 1, endpoint: 3).code == 11)
    }

    @Test func pointersTellMotionAndPlaces() {
        let mouse = USBPointer(isTablet: false)
        let report = USBTransfer(.interrupt, endpoint: 0x81, length: 8)
        #expect(mouse.carryOut(report) == .waiting)
        mouse.receive(MouseMessage(dx: 200, dy: -3, buttons: 1).bytes + MouseMessage(dx: 1, buttons: 0).bytes)
        #expect(mouse.carryOut(report) == .done([1, 127, 0xFD, 0]), "a click has its own report")
        #expect(mouse.carryOut(report) == .done([0, 1, 0, 0]))
        #expect(mouse.carryOut(report) == .waiting)
        let tablet = USBPointer(isTablet: true)
        tablet.receive(MouseMessage(dx: 5).bytes + MouseMessage(dx: 0x1234, dy: 0x7FFF, dz: -2, buttons: 4, isAbsolute: true).bytes)
        #expect(tablet.carryOut(report) == .done([4, 0x34, 0x12, 0xFF, 0x7F, 2]))
        #expect(tablet.carryOut(report) == .waiting)
    }

    @Test func theSerialAdapterTellsOfTheCarrier() {
        let serial = USBSerial(channel: FakeBoard())
        var woken: [UInt8] = []
        serial.wake = { woken.append($0) }
        let news = USBTransfer(.interrupt, endpoint: 0x83, length: 16)
        #expect(serial.carryOut(news) == .done([0xA1, 0x20, 0, 0, 0, 0, 2, 0, 3, 0]))
        #expect(serial.carryOut(news) == .waiting)
        serial.receive([5])
        serial.receive([])
        #expect(serial.carryOut(news) == .waiting, "what came before is read first")
        woken = []
        #expect(serial.carryOut(USBTransfer(.bulk, endpoint: 0x81, length: 64)) == .done([5]) && woken == [0x83])
        #expect(serial.carryOut(news) == .done([0xA1, 0x20, 0, 0, 0, 0, 2, 0, 0, 0]))
        serial.reset()
        #expect(serial.carryOut(news) == .done([0xA1, 0x20, 0, 0, 0, 0, 2, 0, 0, 0]), "a reset brings nobody back")
        serial.receive([])
        #expect(serial.carryOut(news) == .done([0xA1, 0x20, 0, 0, 0, 0, 2, 0, 3, 0]))
    }

    /// Sectors that come in small packets.
    @Test func aDiskTakesSmallPackets() {
        let medium = MemoryMedium(sectors: 16)
        let disk = USBStorage(medium: medium, serial: "S1", isHighSpeed: false)
        let data = (0..<1024).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        #expect(disk.carryOut(USBTransfer(.bulk, endpoint: 2, data: wrapper(7, 1024, isIn: false, [0x2A, 0, 0, 0, 0, 3, 0, 0, 2]))) == .done([]))
        for start in stride(from: 0, to: 1024, by: 96) {
            let packet = USBTransfer(.bulk, endpoint: 2, data: Array(data[start..<min(start + 96, 1024)]))
            if case .later = disk.carryOut(packet) { #expect(disk.carryOut(packet) == .done([])) }
        }
        if case .done(let status) = disk.carryOut(USBTransfer(.bulk, endpoint: 0x81, length: 13)) { #expect(status[12] == 0) }
        #expect(Array(medium.bytes[3 * 512..<5 * 512]) == data)
    }

    /// A ring of events that is full loses nothing while some wait.
    @Test func eventsWaitForRoom() {
        let (driver, _) = keyboard()
        driver.start(eventCount: 16)
        _ = driver.next(16)
        for _ in 0..<40 {
            driver.write(0x440, 0x210)
            driver.write(0x440, 0x20_0200)
        }
        var count = 0
        for _ in 0..<100 {
            while driver.next(16) != nil { count += 1 }
            driver.acknowledge()
        }
        #expect(count == 40)
    }

    // MARK: The disk

    private func wrapper(_ tag: UInt32, _ length: UInt32, isIn: Bool, _ block: [UInt8]) -> [UInt8] {
        func word(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> UInt32($0 * 8)) } }
        return word(0x4342_5355) + word(tag) + word(length) + [isIn ? 0x80 : 0, 0, UInt8(block.count)] + block
            + [UInt8](repeating: 0, count: 16 - block.count)
    }
    /// Carries a command out; returns the data and the status.
    private func execute(_ disk: USBStorage, _ block: [UInt8], isIn: Bool = true, _ length: UInt32 = 0, data: [UInt8] = []) -> ([UInt8], UInt8) {
        func move(_ transfer: USBTransfer) -> USBOutcome {
            for _ in 0..<3 {
                let outcome = disk.carryOut(transfer)
                if case .later = outcome { continue }
                return outcome
            }
            return .failed
        }
        #expect(move(USBTransfer(.bulk, endpoint: 2, data: wrapper(7, length, isIn: isIn, block))) == .done([]))
        var bytes: [UInt8] = []
        if length > 0, isIn {
            if case .done(let found) = move(USBTransfer(.bulk, endpoint: 0x81, length: Int(length))) { bytes = found }
        } else if length > 0 {
            #expect(move(USBTransfer(.bulk, endpoint: 2, data: data)) == .done([]))
        }
        guard case .done(let status) = move(USBTransfer(.bulk, endpoint: 0x81, length: 13)), status.count == 13 else { return (bytes, 99) }
        #expect(Array(status[..<8]) == [0x55, 0x53, 0x42, 0x53, 7, 0, 0, 0])
        return (bytes, status[12])
    }

    @Test func aDisksCommands() {
        let medium = MemoryMedium(sectors: 100)
        let disk = USBStorage(medium: medium, serial: "S1", isHighSpeed: true)
        #expect(execute(disk, [0x25], 8).0 == [0, 0, 0, 99, 0, 0, 2, 0])
        let data = (0..<1024).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        #expect(execute(disk, [0x2A, 0, 0, 0, 0, 98, 0, 0, 2], isIn: false, 1024, data: data).1 == 0)
        #expect(execute(disk, [0x28, 0, 0, 0, 0, 98, 0, 0, 2], 1024) == (data, 0))
        // Beyond the end: fails, and says why once.
        #expect(execute(disk, [0x28, 0, 0, 0, 0, 99, 0, 0, 2], 1024) == ([], 1))
        let sense = execute(disk, [0x03, 0, 0, 0, 18], 18).0
        #expect(sense.count == 18 && sense[2] == 5 && sense[12] == 0x21)
        #expect(execute(disk, [0x03, 0, 0, 0, 18], 18).0[2] == 0)
        #expect(execute(disk, [0xFF]).1 == 1)
        // Data that the host does not expect.
        #expect(execute(disk, [0x28, 0, 0, 0, 0, 0, 0, 0, 1]).1 == 2)
        // The host's file fails while a sector is on its way: the data is not seen, and the command fails.
        #expect(disk.carryOut(USBTransfer(.bulk, endpoint: 2, data: wrapper(7, 512, isIn: true, [0x28, 0, 0, 0, 0, 98, 0, 0, 1]))) == .done([]))
        guard case .later = disk.carryOut(USBTransfer(.bulk, endpoint: 0x81, length: 512)) else {
            Issue.record("a read takes time")
            return
        }
        disk.receive([0])
        #expect(disk.carryOut(USBTransfer(.bulk, endpoint: 0x81, length: 512)) == .done([UInt8](repeating: 0, count: 512)))
        if case .done(let status) = disk.carryOut(USBTransfer(.bulk, endpoint: 0x81, length: 13)) { #expect(status[12] == 1) }
    }

    // MARK: The host's devices

    @Test func aHostDeviceComesGoesAndAnswers() {
        let board = FakeBoard()
        let device = USBHostDevice(channel: board)
        let driver = Driver([device])
        driver.start()
        #expect(driver.read(0x440) & 1 == 0 && driver.next() == nil)
        device.receive(USBHostMessage.attached(.high))
        #expect(driver.read(0x440) & 0x3C01 == 0xC01 && driver.next()?.type == 34)
        driver.acknowledge()
        driver.address()
        board.sent = []
        let setup = USBSetup(type: 0x80, request: 6, value: 0x100, length: 18)
        #expect(driver.control(setup) == [], "the host has not answered")
        let request = USBHostMessage.request(board.sent)
        guard case .submit(let number, let transfer) = request else {
            Issue.record("\(board.sent)")
            return
        }
        #expect(transfer == USBTransfer(.control, endpoint: 0x80, setup: setup, length: 18))
        device.receive(USBHostMessage.completed(number &+ 1, 0, [9]))
        driver.board.advance(1_000_000)
        #expect(driver.next() == nil, "another transfer's")
        device.receive(USBHostMessage.completed(number, USBHostMessage.done, [18, 1, 2, 3]))
        driver.board.advance(1_000_000)
        #expect(driver.next()?.code == 13 && driver.bytes(4) == [18, 1, 2, 3])
        #expect(driver.next()?.code == 1)
        driver.acknowledge()
        // More than was asked for: what no device may do.
        board.sent = []
        #expect(driver.control(setup) == [])
        device.receive(USBHostMessage.completed(number &+ 1, USBHostMessage.done, [UInt8](repeating: 1, count: 19)))
        driver.board.advance(1_000_000)
        #expect(driver.next()?.code == 3)
        driver.acknowledge()
        driver.write(0x440, 0x22_0200)
        device.receive(USBHostMessage.detached)
        #expect(driver.read(0x440) & 1 == 0 && driver.next()?.type == 34)
    }

    // MARK: Everything

    /// An isochronous block: done as soon as possible, or in a frame; with an event.
    private func packet(_ place: UInt64, _ length: UInt32, frame: UInt32? = nil, blocksInterrupt: Bool = false) -> (UInt64, UInt32, UInt32) {
        (place, length, 5 << 10 | 0x20 | (frame.map { ($0 & 0x7FF) << 20 } ?? 1 << 31) | (blocksInterrupt ? 1 << 9 : 0))
    }

    @Test func soundGoesInPackets() {
        let messages = SoundMessages()
        let function = USBAudio(channel: messages)
        let driver = Driver([USBBuiltIn(function, speed: .full)])
        driver.start()
        driver.address()
        #expect(driver.control(USBSetup(type: 0x80, request: 6, value: 0x200, length: 255)).first == 13)
        let length = Int(driver.word(Driver.data + 2) & 0xFFFF)
        let descriptors = driver.bytes(length)
        var (place, endpoints, interfaces) = (0, [[UInt8]](), 0)
        while place + 1 < length, descriptors[place] > 1 {
            if descriptors[place + 1] == 5 { endpoints.append(Array(descriptors[place..<place + Int(descriptors[place])])) }
            if descriptors[place + 1] == 4 { interfaces += 1 }
            place += Int(descriptors[place])
        }
        #expect(place == length && interfaces == 5)
        #expect(endpoints == [[9, 5, 0x01, 0x09, 192, 0, 1, 0, 0], [9, 5, 0x82, 0x0D, 192, 0, 1, 0, 0]])
        #expect(driver.control(USBSetup(type: 0, request: 9, value: 1)) == [1, 0])
        driver.configure([(2, 1), (5, 5)], interval: 3)
        // Without a setting that has the endpoint nobody answers; the ring goes on.
        driver.put(2, packet(Driver.data, 192))
        #expect(driver.next()?.code == 4 && driver.word(Driver.device + 64) & 7 == 1)
        driver.acknowledge()
        for interface in 1...2 as ClosedRange<UInt16> { #expect(driver.control(USBSetup(type: 1, request: 11, value: 1, index: interface)) == [1, 0]) }
        let samples = (0..<768).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        driver.board.ram.replaceSubrange(Int(Driver.data)..<Int(Driver.data) + 768, with: samples)
        // One in a millisecond, and only the last one interrupts.
        driver.write(0x1020, 3)
        let pieces = (0..<4).map { packet(Driver.data + UInt64($0) * 192, 192, blocksInterrupt: $0 < 3) }
        driver.put(2, pieces[0], pieces[1], pieces[2], pieces[3])
        let first = messages.samples.count
        #expect(first >= 192 && first < 768 && !driver.board.levels[5])
        driver.board.advance(1_000_000)
        #expect(messages.samples.count == first + 192)
        driver.board.advance(4_000_000)
        #expect(messages.samples == samples && messages.sent.allSatisfy { $0[..<5] == [1, 0x80, 0xBB, 0, 0] } && driver.board.levels[5])
        for _ in 0..<4 { #expect(driver.next()?.code == 1) }
        #expect(driver.next() == nil)
        driver.acknowledge()

        // The recording begins with the first packet, which is empty, and goes on with what has come in.
        driver.put(5, packet(Driver.data, 192))
        #expect(messages.sent.last == [2, 0x80, 0xBB, 0, 0])
        let empty = driver.next()
        #expect(empty?.code == 13 && empty?.length == 192)
        driver.acknowledge()
        function.receive(Array(samples[..<200]) + [1])
        driver.put(5, packet(Driver.data, 192), packet(Driver.data + 192, 192))
        driver.board.advance(2_000_000)
        #expect(driver.bytes(384) == Array(samples[..<200]) + [UInt8](repeating: 0, count: 184))
        #expect(driver.next()?.code == 1 && driver.next()?.code == 1)
        driver.acknowledge()
        #expect(driver.control(USBSetup(type: 1, request: 11, value: 0, index: 2)) == [1, 0])
        #expect(messages.sent.last == [3, 0x80, 0xBB, 0, 0])
        StateChecks.namesEachField(of: function.state) { function.visit(&$0) }
    }

    @Test func packetsWaitForTheirFrame() {
        let messages = SoundMessages()
        let driver = Driver([USBBuiltIn(USBAudio(channel: messages), speed: .full)])
        driver.start()
        driver.address()
        #expect(driver.control(USBSetup(type: 0, request: 9, value: 1)) == [1, 0])
        #expect(driver.control(USBSetup(type: 1, request: 11, value: 1, index: 1)) == [1, 0])
        driver.configure([(2, 1)], interval: 3)
        let frame = driver.read(0x1000) >> 3
        driver.put(2, packet(Driver.data, 192, frame: frame &+ 5))
        #expect(messages.sent.isEmpty)
        while driver.read(0x1000) >> 3 != frame &+ 5 {
            #expect(messages.sent.isEmpty)
            driver.board.advance(100_000)
        }
        driver.board.advance(100_000)
        #expect(messages.sent.count == 1)
        // What is late is done at once.
        driver.put(2, packet(Driver.data, 192, frame: frame))
        driver.board.advance(1_000_000)
        #expect(messages.sent.count == 2)
    }

    /// A device of the host as its messages show it: takes packets, and gives numbered ones.
    @Test func aHostsStreamRunsAhead() {
        let outside = SoundMessages()
        let device = USBHostDevice(channel: outside)
        let driver = Driver([device])
        driver.start()
        device.receive(USBHostMessage.attached(.full))
        driver.acknowledge()
        while driver.next() != nil { driver.acknowledge() }
        driver.address()
        driver.configure([(2, 1), (5, 5)], interval: 3)
        outside.sent = []
        func requests() -> [(UInt32, USBTransfer)] {
            outside.sent.compactMap { if case .submit(let number, let transfer) = USBHostMessage.request($0) { (number, transfer) } else { nil } }
        }
        // To the device: done at once, whatever becomes of it.
        driver.put(2, packet(Driver.data, 96), packet(Driver.data + 96, 96))
        driver.board.advance(2_000_000)
        #expect(requests().map { $0.1.kind } == [.isochronous, .isochronous] && requests().allSatisfy { $0.1.data.count == 96 && $0.1.endpoint == 1 })
        #expect(driver.next()?.code == 1 && driver.next()?.code == 1)
        driver.acknowledge()
        for (number, _) in requests() { device.receive(USBHostMessage.completed(number, USBHostMessage.failed)) }
        #expect(device.state.pending.isEmpty)
        outside.sent = []
        // From the device: many are under way, and come in their order.
        driver.put(5, packet(Driver.data, 100), packet(Driver.data + 100, 100), packet(Driver.data + 200, 100))
        let ahead = requests()
        #expect(ahead.count == 16 && ahead.allSatisfy { $0.1.length == 100 && $0.1.endpoint == 0x82 } && driver.next() == nil)
        device.receive(USBHostMessage.completed(ahead[1].0, USBHostMessage.done, [2, 2]))
        driver.board.advance(2_000_000)
        #expect(driver.next() == nil, "the first one has not come")
        device.receive(USBHostMessage.completed(ahead[0].0, USBHostMessage.done, [1]))
        device.receive(USBHostMessage.completed(ahead[2].0, USBHostMessage.failed))
        driver.board.advance(4_000_000)
        let events = (0..<3).compactMap { _ in driver.next() }
        #expect(events.map { $0.code } == [13, 13, 4] && events.map { $0.length } == [99, 98, 100])
        #expect(driver.bytes(1) == [1] && Array(driver.board.ram[Int(Driver.data) + 100..<Int(Driver.data) + 102]) == [2, 2])
        #expect(requests().count == 19, "each that was taken is followed by another one")
        driver.acknowledge()
        // Another setting: nothing is under way any more.
        outside.sent = []
        _ = driver.control(USBSetup(type: 1, request: 11, value: 0, index: 1))
        #expect(outside.sent.filter { $0.first == 2 }.count == 16 && !device.state.pending.contains { $0.isStream })
        // Too many to the device: lost, and counted.
        for _ in 0..<70 { #expect(device.carryOut(USBTransfer(.isochronous, endpoint: 1, data: [1, 2])) == .done([])) }
        #expect(device.state.lost == 6)
    }

    @Test func stateIsVisitedAsAWhole() {
        let (driver, function) = keyboard()
        driver.start()
        driver.address()
        function.receive(KeyMessage(KeyCode(name: "a")!).bytes)
        StateChecks.loads(driver.chip) { keyboard().0.chip }
        var state = driver.chip.state
        StateChecks.namesEachField(of: state) { state.visit(&$0) }
        var slot = XHCI.Slot()
        StateChecks.namesEachField(of: slot) { slot.visit(&$0) }
        var endpoint = XHCI.Endpoint()
        StateChecks.namesEachField(of: endpoint) { endpoint.visit(&$0) }
        var interrupter = XHCI.Interrupter()
        StateChecks.namesEachField(of: interrupter) { interrupter.visit(&$0) }
        var port = XHCI.Port()
        StateChecks.namesEachField(of: port) { port.visit(&$0) }
        var keys = USBKeyboard.State()
        StateChecks.namesEachField(of: keys) { keys.visit(&$0) }
        var pointer = USBPointer.State()
        StateChecks.namesEachField(of: pointer) { pointer.visit(&$0) }
        var disk = USBStorage.State()
        StateChecks.namesEachField(of: disk) { disk.visit(&$0) }
        var serial = USBSerial.State()
        StateChecks.namesEachField(of: serial) { serial.visit(&$0) }
        var pending = USBHostDevice.Pending()
        StateChecks.namesEachField(of: pending) { pending.visit(&$0) }
    }

    /// Registers, contexts and rings of random bytes, and a device of the host that says anything.
    @Test(arguments: 0..<24 as Range<UInt64>) func anyDriverAndAnyDevice(seed: UInt64) {
        var random = TestRandom(seed)
        let outside = FakeBoard()
        let keyboard = USBKeyboard()
        let tablet = USBPointer(isTablet: true)
        let disk = USBStorage(medium: MemoryMedium(sectors: 64), serial: "S", isHighSpeed: true)
        let serial = USBSerial(channel: outside)
        let host = USBHostDevice(channel: outside)
        let audio = USBAudio(channel: outside)
        let isSound = seed & 1 != 0
        let driver = Driver([
            USBBuiltIn(keyboard, speed: .full), isSound ? USBBuiltIn(audio, speed: .full) : USBBuiltIn(tablet, speed: .full),
            USBBuiltIn(disk, speed: .high),
            USBBuiltIn(serial, speed: .full), host,
        ])
        driver.start()
        driver.address(port: isSound ? 2 : UInt32(1 + random.below(4)))
        _ = driver.control(USBSetup(type: 0, request: 9, value: 1))
        for interface in 1...2 as ClosedRange<UInt16> where isSound {
            _ = driver.control(USBSetup(type: 1, request: 11, value: 1, index: interface))
        }
        driver.configure(isSound ? [(2, 1), (3, 5), (4, 1), (5, 5), (7, 7)] : [(2, 2), (3, 6), (4, 2), (5, 6), (7, 7)])
        let types: [UInt32] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]
        for _ in 0..<1500 {
            switch random.below(12) {
            case 0: driver.write(UInt64(random.below(0x2080)) & ~3, random.next() & 0xFFFF_FFFF)
            case 1: driver.write(0x440 + UInt64(random.below(10)) * 16, random.next() & 0xFFFF_FFFF)
            case 2...5:
                // A block somewhere in a ring.
                let place = Driver.rings + UInt64(random.below(0x100)) * 16
                let type = types[random.below(types.count)]
                driver.set(
                    place, UInt32(Driver.data) &+ UInt32(random.below(0x1000)), random.below(8) == 0 ? UInt32(random.below(9)) : 0,
                    UInt32(random.below(random.below(4) == 0 ? 1 << 17 : 64)), type << 10 | UInt32(random.next() & 0x77))
            case 6: driver.write(0x2000 + UInt64(random.below(8)) * 4, UInt64(random.below(32)))
            case 7:
                driver.set(
                    Driver.commands + UInt64(random.below(64)) * 16, UInt32(Driver.input), 0, 0,
                    types[random.below(types.count)] << 10 | UInt32(random.below(4)) << 24 | UInt32(random.below(8)) << 16 | UInt32(random.below(2)))
                driver.write(0x2000, 0)
            case 8: driver.set(Driver.input + UInt64(random.below(0x100)) * 4, UInt32(truncatingIfNeeded: random.next()))
            case 9:
                keyboard.receive(random.bytes(random.below(9)))
                tablet.receive([2] + random.bytes(6))
                serial.receive(random.bytes(random.below(100)))
            case 10:
                host.receive([UInt8(random.below(4))] + random.bytes(random.below(20)))
                host.receive(USBHostMessage.completed(UInt32(random.below(20)), UInt8(random.below(4)), random.bytes(random.below(100))))
            default:
                // A start anew, now and then.
                if random.below(20) == 0 { driver.start() }
                disk.receive([0])
            }
            driver.board.advance(UInt64(random.below(200_000)))
            driver.acknowledge()
        }
        for command in 0..<400 {
            _ = disk.carryOut(USBTransfer(.bulk, endpoint: 2, data: wrapper(1, UInt32(random.below(3000)), isIn: command & 1 == 0, random.bytes(16))))
            _ = disk.carryOut(USBTransfer(.bulk, endpoint: 0x81, length: random.below(2000)))
            _ = disk.carryOut(USBTransfer(.bulk, endpoint: 2, data: random.bytes(random.below(2000))))
            _ = USBHostMessage.request(random.bytes(random.below(30)))
        }
        StateChecks.survivesDamage(driver.chip, &random) { _ in
            driver.write(0x2008, 3)
            driver.board.advance(1_000_000)
        }
    }
}
