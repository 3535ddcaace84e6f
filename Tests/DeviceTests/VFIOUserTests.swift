import Boundary
import DeviceBus
import Devices
import Glibc
import MachineState
import Synchronization
import Testing
import VFIOUser

/// A PCI device that copies: what a driver writes to register 0 is an address, from which it reads 16 bytes of RAM; a moment
/// later it writes them back inverted behind the first ones, and interrupts.
private final class Copier: PCIFunction {
    let name = "copier"
    var configuration: PCIConfiguration
    private let irq: IRQLine
    private let memory: any DMAPort
    private let scheduler: Scheduler
    private var table = MSIX(count: 4)
    private let sink: any MessageSink
    private var address: UInt64 = 0
    private var isDone = false

    init(_ server: VFIOUserServer) {
        irq = IRQLine(server, 0)
        memory = server
        sink = server
        scheduler = server.scheduler
        configuration = PCIConfiguration(vendor: 0x1234, device: 0x5678, classCode: 0xFF0000, interruptPin: 1)
        configuration.setBaseAddress(0, .memory, size: 4096, region: 0)
        configuration.setBaseAddress(2, .port, size: 32, region: 1)
        MSIX.addCapability(to: &configuration, at: 0x40, vectors: 4, bar: 0)
    }
    var regions: [Region] { [configuration.region(0), configuration.region(2)] }
    func configurationWritten(_ offset: Int, width: Int) {}
    func read(region: Int, offset: UInt64, width: Int) -> UInt64 {
        if region == 0, offset < 0x800 { return ByteLanes.read(offset, width) { table.read($0) } }
        switch offset {
        case 0x0C00: return address
        case 0x0C10:
            let value: UInt64 = isDone ? 1 : 0
            isDone = false
            irq.set(false)
            return value
        case 8: return 0x1122_3344_5566_7788 & (width == 8 ? .max : 1 << UInt64(width * 8) - 1)
        default: return 0
        }
    }
    func write(region: Int, offset: UInt64, width: Int, value: UInt64) {
        if region == 0, offset < 0x800 { return ByteLanes.write(offset, width, value) { table.write($0, $1) } }
        guard offset == 0xC00 else { return }
        address = value
        scheduler.schedule(self, timer: 0, at: scheduler.now + 1_000_000)
    }
    func timerFired(_ timer: Int) {
        var bytes = [UInt8](repeating: 0, count: 16)
        bytes.withUnsafeMutableBytes { memory.read(address, into: $0) }
        bytes = bytes.map { ~$0 }
        bytes.withUnsafeBytes { memory.write(address + 16, from: $0) }
        isDone = true
        let control = UInt16(configuration.read(0x42, width: 2))
        if control & 0x8000 != 0 { table.send(2, control: control, to: sink) } else { irq.set(true) }
    }
    func reset() {
        configuration.reset()
        address = 0
        isDone = false
        table = MSIX(count: 4)
        irq.set(false)
    }
    func visitState(_ visitor: inout StateVisitor) {}
}

/// A board with a device at the other end of a connection.
private final class ForeignRig {
    let board = FakeBoard()
    let host: PCIHost
    let chip: ForeignFunction
    let client: VFIOUserClient
    static let memory: UInt64 = 0xE000_0000
    static let ports: UInt64 = 0xC000

    init(_ socket: VFIOUserSocket, report: @escaping (String) -> Void) throws {
        client = try VFIOUserClient(socket, ranges: [0..<UInt64(board.ram.count)], report: report)
        host = board.add(PCIHost(bus: board.bus))
        chip = board.add(
            ForeignFunction(
                name: "vfio4", settings: client.settings, irq: board.line(10), messages: board, memory: board.masterPort("vfio4"),
                link: client))
        host.add(chip, at: PCIAddress(slot: 4))
        host.reset()
        chip.reset()
        configure(0x10, UInt32(Self.memory))
        configure(0x18, UInt32(Self.ports))
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
    func read(_ offset: UInt64, _ width: Int = 4) -> UInt64 { board.bus.read(.memory, Self.memory + offset, width: width) }
    func write(_ offset: UInt64, _ value: UInt64, _ width: Int = 4) {
        board.bus.write(.memory, Self.memory + offset, width: width, value: value)
    }
    /// Lets the device do what it wants until something has come of it: a minute at most.
    func wait(_ condition: () -> Bool) -> Bool {
        for _ in 0..<60_000 {
            chip.poll()
            if condition() { return true }
            usleep(1000)
        }
        return false
    }
}

@Suite struct VFIOUserTests {
    /// Serves a copier at the other end.
    private func rig(_ report: @escaping (String) -> Void = { _ in }) throws -> ForeignRig {
        let (near, far) = try VFIOUserSocket.pair()
        nonisolated(unsafe) let end = far
        BackgroundThread.start {
            let server = VFIOUserServer()
            server.install(Copier(server))
            try? server.serve(end)
        }
        return try ForeignRig(near, report: report)
    }

    @Test func registersAreReached() throws {
        let rig = try rig()
        #expect(rig.configuration(0) == 0x5678_1234)
        #expect(rig.configuration(0x10) == UInt32(ForeignRig.memory) && rig.configuration(0x18) == UInt32(ForeignRig.ports) | 1)
        rig.configure(0x10, .max)
        #expect(rig.configuration(0x10) == 0xFFFF_F000)
        rig.configure(0x10, UInt32(ForeignRig.memory))
        rig.write(0xC00, 0x4000)
        #expect(rig.read(0xC00) == 0x4000)
        #expect(rig.board.bus.read(.port, ForeignRig.ports + 8, width: 1) == 0x88)
        #expect(rig.board.bus.read(.port, ForeignRig.ports + 8, width: 2) == 0x7788)
        #expect(rig.board.bus.read(.port, ForeignRig.ports + 8, width: 4) == 0x5566_7788)
        rig.chip.reset()
        rig.configure(0x10, UInt32(ForeignRig.memory))
        rig.configure(0x04, 7)
        #expect(rig.read(0xC00) == 0)
    }

    @Test func itReachesRAMAndPullsThePin() throws {
        let rig = try rig()
        for index in 0..<16 { rig.board.ram[0x3000 + index] = UInt8(index) }
        for round in 1...3 {
            rig.write(0xC00, 0x3000)
            #expect(rig.wait { rig.board.levels[10] })
            #expect((0..<16).allSatisfy { rig.board.ram[0x3010 + $0] == ~UInt8($0) })
            #expect(rig.board.edges[10] == round)
            // Looking takes it back, and lets it come again.
            #expect(rig.read(0xC10) == 1)
            #expect(!rig.board.levels[10])
        }
        #expect(rig.board.writer(of: 0x3010) == "vfio4")
    }

    @Test func messagesTakeThePinsPlace() throws {
        let rig = try rig()
        for (index, word) in [0xFEE0_1000, 0, 0x4041, 0].enumerated() { rig.write(UInt64(32 + index * 4), UInt64(word)) }
        #expect(rig.read(40) == 0x4041)
        rig.configure(0x40, 0x8000_0000)
        rig.write(0xC00, 0x3000)
        #expect(rig.wait { !rig.board.messages.isEmpty })
        #expect(rig.board.messages[0].0 == 0xFEE0_1000 && rig.board.messages[0].1 == 0x4041)
        #expect(rig.board.edges[10] == 0)
        // Masked, it waits.
        rig.write(44, 1)
        rig.write(0xC00, 0x3000)
        #expect(rig.wait { rig.read(0x800) == 4 })
        #expect(rig.board.messages.count == 1)
        rig.write(44, 0)
        #expect(rig.board.messages.count == 2 && rig.read(0x800) == 0)
    }

    /// What a device can do to the machine: a message each, and never more.
    @Test(arguments: [
        "wrong-number", "wrong-command", "huge", "tiny", "short-answer", "stray-answer", "unknown-command", "type", "closes",
        "half", "long-write", "short-read",
    ])
    func hostileDevicesVanish(_ kind: String) throws {
        let (near, far) = try VFIOUserSocket.pair()
        nonisolated(unsafe) let end = far
        BackgroundThread.start { Self.misbehave(kind, end) }
        var reports: [String] = []
        let rig = try ForeignRig(near) { reports.append($0) }
        // The fake device answers registers rightly until one is written.
        #expect(rig.read(0x10) == 0x5555_5555)
        rig.write(0x20, 1)
        #expect(rig.wait { rig.client.isGone })
        #expect(reports.count == 1 && reports[0].hasPrefix("the device has vanished: "), "\(reports)")
        #expect(rig.read(0x10) == 0xFFFF_FFFF && rig.configuration(0) == 0xFFFF_FFFF)
        rig.write(0x20, 1)
        rig.chip.reset()
        rig.chip.poll()
        #expect(rig.configuration(0) == 0xFFFF_FFFF && reports.count == 1)
    }

    /// What is not RAM is refused, and the device stays.
    @Test func onlyRAMIsReached() throws {
        let (near, far) = try VFIOUserSocket.pair()
        nonisolated(unsafe) let end = far
        BackgroundThread.start { Self.misbehave("dma", end) }
        var reports: [String] = []
        let rig = try ForeignRig(near) { reports.append($0) }
        let before = rig.board.ram
        rig.write(0x20, 1)
        #expect(rig.read(0x30) == 0x1111_1111, "each access was refused")
        #expect(!rig.client.isGone && reports.count == 1 && reports[0].contains("not RAM"))
        #expect(rig.board.ram == before)
    }

    @Test(arguments: ["version", "not-json", "no-device", "few-regions", "empty-configuration", "huge-region", "silent-close"])
    func hostileHandshakesAreErrors(_ kind: String) throws {
        let (near, far) = try VFIOUserSocket.pair()
        nonisolated(unsafe) let end = far
        BackgroundThread.start { Self.misbehave(kind, end) }
        do {
            _ = try ForeignRig(near) { _ in }
            Issue.record("\(kind): it was accepted")
        } catch let error as VFIOUserError { #expect(!error.description.isEmpty) }
    }

    /// A device of a few lines that answers as it should, until it does what `kind` says.
    private static func misbehave(_ kind: String, _ socket: VFIOUserSocket) {
        defer { shutdown(socket.descriptor, Int32(SHUT_RDWR)) }
        var configuration = [UInt8](repeating: kind == "empty-configuration" ? 0xFF : 0, count: 256)
        if kind != "empty-configuration" { configuration.replaceSubrange(0..<4, with: [0x34, 0x12, 0x78, 0x56]) }
        while let message = try? socket.receive(milliseconds: -1) {
            for descriptor in message.descriptors { close(descriptor) }
            let fields = VFIOUserFields(message.body)
            var body = VFIOUserFields()
            switch VFIOUser.Command(rawValue: message.command) {
            case .version:
                if kind == "silent-close" { return }
                body.put16(kind == "version" ? 7 : 0)
                body.put16(1)
                body.put(Array((kind == "not-json" ? "{\"capabilities\":" : "{\"capabilities\":{\"max_msg_fds\":1}}").utf8) + [0])
            case .deviceInfo:
                for value in [16, kind == "no-device" ? 0 : 3, kind == "few-regions" ? 2 : 9, 5] as [UInt32] { body.put32(value) }
            case .regionInfo:
                for value in [32, 3, fields.word32(8), 0] { body.put32(value) }
                body.put64(fields.word32(8) == 0 ? (kind == "huge-region" ? 1 << 40 : 4096) : 0)
                body.put64(0)
            case .interruptInfo: for value in [16, 1, fields.word32(8), 1] as [UInt32] { body.put32(value) }
            case .readRegion:
                body.put(Array(message.body.prefix(16)))
                let (offset, count) = (Int(fields.word64(0)), Int(fields.word32(12)))
                if fields.word32(8) == 7 {
                    body.put(Array(configuration[offset..<offset + count]))
                } else {
                    body.put([UInt8](repeating: offset == 0x30 ? refused : 0x55, count: count))
                }
            case .writeRegion:
                if fields.word32(8) == 0, fields.word64(0) == 0x20 {
                    if kind != "dma" { return attack(kind, socket, message) }
                    refused = dma(socket)
                }
                body.put(Array(message.body.prefix(16)))
            default: break
            }
            if (try? socket.send(VFIOUserMessage(replyTo: message, body: body.bytes))) == nil { return }
        }
    }
    /// What register 0x30 of the device that reaches beyond RAM has: 0x11 after all was refused.
    nonisolated(unsafe) private static var refused: UInt8 = 0

    /// Reaches where nothing is. 0x11: all of it was refused.
    private static func dma(_ socket: VFIOUserSocket) -> UInt8 {
        let places: [(UInt64, UInt64)] = [
            (0x1_0000, 16), (0xFFF8, 16), (.max - 4, 16), (0, 0), (0, .max), (0, 1 << 40), (0x8000, 1 << 20), (.max, 1),
        ]
        for (address, count) in places {
            var body = VFIOUserFields()
            body.put64(address)
            body.put64(count)
            try? socket.send(VFIOUserMessage(.readDMA, identifier: 77, body: body.bytes))
            guard let answer = try? socket.receive(milliseconds: 10_000), answer.error != nil, answer.identifier == 77 else { return 0xEE }
            if count > 1 << 20 { continue }
            body.put([UInt8](repeating: 0xAA, count: Int(count)))
            try? socket.send(VFIOUserMessage(.writeDMA, identifier: 78, body: body.bytes))
            guard let answer = try? socket.receive(milliseconds: 10_000), answer.error != nil, answer.identifier == 78 else { return 0xEF }
        }
        return 0x11
    }

    private static func attack(_ kind: String, _ socket: VFIOUserSocket, _ message: VFIOUserMessage) {
        var answer = VFIOUserMessage(replyTo: message, body: Array(message.body.prefix(16)))
        var fields = VFIOUserFields()
        func header(size: UInt32, flags: UInt32) {
            fields.put16(message.identifier)
            fields.put16(message.command)
            fields.put32(size)
            fields.put32(flags)
            fields.put32(0)
        }
        switch kind {
        case "wrong-number": answer.identifier &+= 1
        case "wrong-command": answer.command = 9
        case "huge": header(size: .max, flags: 1)
        case "tiny": header(size: 3, flags: 1)
        case "type": header(size: 32, flags: 7)
        case "half": header(size: 32, flags: 1)
        case "short-answer": answer.body = []
        case "stray-answer":
            try? socket.send(answer)
            answer.identifier = 9
        case "unknown-command": answer = VFIOUserMessage(.mapDMA, identifier: 5, body: [])
        case "long-write":
            var body = VFIOUserFields()
            body.put64(0x1000)
            body.put64(64)
            body.put([1, 2, 3])
            answer = VFIOUserMessage(.writeDMA, identifier: 5, body: body.bytes)
        case "short-read": answer = VFIOUserMessage(.readDMA, identifier: 5, body: [1, 2, 3])
        default: return
        }
        if fields.bytes.isEmpty {
            try? socket.send(answer)
        } else {
            _ = fields.bytes.withUnsafeBytes { Glibc.write(socket.descriptor, $0.baseAddress, $0.count) }
        }
        // The stray answer is met when the device is heard the next time.
        if kind == "stray-answer" { _ = try? socket.receive(milliseconds: 60_000) }
    }

    @Test func settingsAreText() throws {
        var bytes = [UInt8](repeating: 0, count: 256)
        bytes.replaceSubrange(0..<4, with: [0x34, 0x12, 0x78, 0x56])
        bytes[0x14] = 1
        let settings = try #require(ForeignDeviceSettings(configuration: bytes, sizes: [4096, 32, 0, 0, 0, 0]))
        #expect([ForeignDeviceSettings](text: [settings, settings].text) == [settings, settings])
        #expect(settings.baseAddresses.map(\.space) == [.memory, .port])
        let text = settings.text
        for damaged in [
            String(text.dropFirst()), String(text.dropLast(12)) + "/x", text + "/0/0", "", "z" + text.dropFirst(), String(text.prefix(512)),
            text.replacingOccurrence(of: "1000", with: "ffffffffffff"),
        ] where ForeignDeviceSettings(text: damaged) != nil { Issue.record("accepted: \(damaged.suffix(40))") }
        #expect([ForeignDeviceSettings](text: Array(repeating: text, count: 9).joined(separator: ",")) == nil)
    }
}

extension String {
    fileprivate func replacingOccurrence(of part: String, with other: String) -> String {
        guard let range = ranges(of: part).last else { return self }
        return replacingCharacters(range, other)
    }
    private func replacingCharacters(_ range: Range<String.Index>, _ other: String) -> String {
        String(self[..<range.lowerBound]) + other + String(self[range.upperBound...])
    }
}
