import CHost
import DeviceBus
import Devices
import Foundation
import Glibc
import MachineState
import Synchronization

/// The machine's end of a vfio-user connection: a PCI device in another process.
///
/// The device reaches RAM by messages only: it is not given the memory itself, though the protocol has a way to. What it
/// did there by itself nobody could record.
package final class VFIOUserClient: ForeignDeviceLink {
    package let settings: ForeignDeviceSettings
    package private(set) var isGone = false
    package var memory: (any DMAPort)?
    /// Gets what the user should know.
    private let report: (String) -> Void
    private let socket: VFIOUserSocket
    /// RAM, as the device knows it.
    private let ranges: [Range<UInt64>]
    private let hasReset: Bool
    /// Event descriptors in use, by way and vector.
    private var events: [(kind: ForeignInterrupt, vector: Int, descriptor: Int32)] = []
    private let watch: DescriptorWatch
    /// How many interrupts the device says it has, by way.
    private var interruptCounts: [ForeignInterrupt: Int] = [:]
    /// How long the device may take for an answer, ms.
    private static let patience: Int32 = 10_000
    private static let errorInvalid: UInt32 = 22

    /// Connects to a device.
    /// - Parameters:
    ///   - socket: connected.
    ///   - ranges: physical addresses of RAM.
    ///   - report: gets sentences for the user.
    package init(_ socket: VFIOUserSocket, ranges: [Range<UInt64>], report: @escaping (String) -> Void) throws {
        self.socket = socket
        self.ranges = ranges
        self.report = report
        watch = try DescriptorWatch()
        let setup = Handshake(socket)
        try setup.negotiate()
        let info = try setup.ask(.deviceInfo, size: 16, [(16, 4), (0, 4), (0, 4), (0, 4)])
        guard info.word32(4) & VFIOUser.DeviceFlag.pci != 0 else { throw VFIOUserError("it is no PCI device") }
        guard info.word32(8) > UInt32(VFIOUser.configurationRegion), info.word32(12) > 2 else {
            throw VFIOUserError("it has \(info.word32(8)) regions and \(info.word32(12)) kinds of interrupts")
        }
        hasReset = info.word32(4) & VFIOUser.DeviceFlag.reset != 0
        if hasReset { _ = try setup.ask(.reset, size: 0, []) }
        var sizes: [UInt64] = []
        for index in 0..<6 as Range<UInt64> {
            let region = try setup.ask(.regionInfo, size: 32, [(32, 4), (0, 4), (index, 4), (0, 4), (0, 8), (0, 8)])
            sizes.append(region.word64(16))
        }
        for kind in [ForeignInterrupt.pin, .msi, .msix] {
            let info = try setup.ask(.interruptInfo, size: 16, [(16, 4), (0, 4), (UInt64(kind.rawValue), 4), (0, 4)])
            interruptCounts[kind] = Int(min(info.word32(12), 2048))
        }
        var bytes: [UInt8] = []
        for offset in stride(from: UInt64(0), to: 256, by: 64) {
            let part = try setup.ask(.readRegion, size: 16 + 64, [(offset, 8), (UInt64(VFIOUser.configurationRegion), 4), (64, 4)])
            bytes += part.bytes[16..<80]
        }
        guard let settings = ForeignDeviceSettings(configuration: bytes, sizes: sizes) else {
            throw VFIOUserError("its configuration space is none, or its regions are too large: \(sizes)")
        }
        self.settings = settings
        for range in ranges {
            _ = try setup.ask(
                .mapDMA, size: 0,
                [(32, 4), (UInt64(VFIOUser.readWrite), 4), (0, 8), (range.lowerBound, 8), (UInt64(range.count), 8)])
        }
        watch.add(socket.descriptor)
    }

    deinit {
        watch.stop()
        for event in events { Glibc.close(event.descriptor) }
    }

    /// Ends the connection: nobody is there then.
    package func close() {
        if isGone { return }
        isGone = true
        watch.stop()
        socket.close()
    }

    /// Calls `action`, on the machine's thread, when a descriptor can be read.
    package func listen(_ descriptor: Int32, _ action: @escaping () -> Void) {
        listeners.append((descriptor, action))
        watch.add(descriptor)
    }
    private var listeners: [(descriptor: Int32, action: () -> Void)] = []

    /// Calls `nudge`, from another thread, when the device has something to say while nobody listens: after each `arm`, once.
    package func start(_ nudge: @escaping @Sendable () -> Void) { watch.start(nudge) }
    package var nextDue: VirtualTime { .max }
    package func arm() { if !isGone { watch.arm() } }

    // MARK: Commands

    /// The connection is of no use any more.
    private func fail(_ error: any Error) {
        if isGone { return }
        isGone = true
        watch.stop()
        socket.close()
        report("the device has vanished: \(error)")
    }

    /// Sends a command, and waits for its answer. What the device wants in the meantime it gets. Nil: it says no, or nobody
    /// is there.
    private func ask(_ command: VFIOUser.Command, _ body: [UInt8], descriptors: [Int32] = [], size: Int) -> VFIOUserFields? {
        if isGone { return nil }
        do {
            let identifier = socket.identifier()
            try socket.send(VFIOUserMessage(command, identifier: identifier, body: body, descriptors: descriptors))
            while true {
                guard let message = try socket.receive(milliseconds: Self.patience) else {
                    throw VFIOUserError("no answer to \(command) within \(Self.patience / 1000) s")
                }
                if !message.isReply {
                    try serve(message)
                    continue
                }
                try Handshake.check(message, command, identifier, size: size)
                return message.error == nil ? VFIOUserFields(message.body) : nil
            }
        } catch {
            fail(error)
            return nil
        }
    }

    package func read(region: Int, offset: UInt64, width: Int) -> UInt64? {
        var body = VFIOUserFields()
        body.put64(offset)
        body.put32(UInt32(region))
        body.put32(UInt32(width))
        return ask(.readRegion, body.bytes, size: 16 + width)?.value(16, width: width)
    }

    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {
        var body = VFIOUserFields()
        body.put64(offset)
        body.put32(UInt32(region))
        body.put32(UInt32(width))
        body.put(value, width: width)
        _ = ask(.writeRegion, body.bytes, size: 16)
    }

    package func reset() {
        if hasReset { _ = ask(.reset, [], size: 0) }
    }

    package func enable(_ kind: ForeignInterrupt, count: Int) {
        if count == 0 {
            setInterrupts(kind, VFIOUser.InterruptFlag.none | VFIOUser.InterruptFlag.trigger, start: 0, count: 0)
            for event in events where event.kind == kind {
                watch.remove(event.descriptor)
                Glibc.close(event.descriptor)
            }
            events.removeAll { $0.kind == kind }
            return
        }
        for vector in 0..<min(count, interruptCounts[kind] ?? 0) {
            let descriptor = chost_eventfd()
            guard descriptor >= 0 else { return report("no more event descriptors: \(String(cString: strerror(errno)))") }
            events.append((kind, vector, descriptor))
            watch.add(descriptor)
            setInterrupts(
                kind, VFIOUser.InterruptFlag.event | VFIOUser.InterruptFlag.trigger, start: vector, count: 1, [descriptor])
        }
    }

    package func unmaskPin() {
        setInterrupts(.pin, VFIOUser.InterruptFlag.none | VFIOUser.InterruptFlag.unmask, start: 0, count: 1)
    }

    private func setInterrupts(_ kind: ForeignInterrupt, _ flags: UInt32, start: Int, count: Int, _ descriptors: [Int32] = []) {
        var body = VFIOUserFields()
        body.put32(20)
        body.put32(flags)
        body.put32(kind.rawValue)
        body.put32(UInt32(start))
        body.put32(UInt32(count))
        _ = ask(.setInterrupts, body.bytes, descriptors: descriptors, size: 0)
    }

    // MARK: What the device does by itself

    package func poll(_ interrupted: (ForeignInterrupt, Int) -> Void) {
        if isGone || !watch.isAnything { return }
        do {
            // Bus masters come with many small accesses: the next one is waited for a little.
            while watch.isReadable(socket.descriptor, microseconds: 0), var message = try socket.receive(milliseconds: 0) {
                while true {
                    try serve(message)
                    guard watch.isReadable(socket.descriptor, microseconds: 60), let next = try socket.receive(milliseconds: 0) else { break }
                    message = next
                }
            }
        } catch { fail(error) }
        for listener in listeners where watch.isReadable(listener.descriptor, microseconds: 0) { listener.action() }
        // Whoever writes RAM and then interrupts has had its answer for the write.
        for event in events {
            var count: UInt64 = 0
            if Glibc.read(event.descriptor, &count, 8) == 8, count > 0 { interrupted(event.kind, event.vector) }
        }
    }

    /// Carries a command of the device out.
    private func serve(_ message: VFIOUserMessage) throws {
        for descriptor in message.descriptors { Glibc.close(descriptor) }
        guard !message.isReply else { throw VFIOUserError("an answer that nobody has asked for (message \(message.identifier))") }
        let fields = VFIOUserFields(message.body)
        switch VFIOUser.Command(rawValue: message.command) {
        case .readDMA:
            guard message.body.count >= 16 else { throw VFIOUserError("a DMA read of \(message.body.count) bytes' length") }
            let (address, count) = (fields.word64(0), fields.word64(8))
            guard let memory, isRAM(address, count) else { return try refuse(message, "reads", address, count) }
            var bytes = [UInt8](repeating: 0, count: Int(count))
            bytes.withUnsafeMutableBytes { memory.read(address, into: $0) }
            try socket.send(VFIOUserMessage(replyTo: message, body: Array(message.body[..<16]) + bytes))
        case .writeDMA:
            guard message.body.count >= 16 else { throw VFIOUserError("a DMA write of \(message.body.count) bytes' length") }
            let (address, count) = (fields.word64(0), fields.word64(8))
            guard count == UInt64(message.body.count - 16) else {
                throw VFIOUserError("a DMA write of \(count) bytes with \(message.body.count - 16) of them")
            }
            guard let memory, isRAM(address, count) else { return try refuse(message, "writes", address, count) }
            message.body.withUnsafeBytes { memory.write(address, from: UnsafeRawBufferPointer(rebasing: $0[16...])) }
            if message.wantsReply { try socket.send(VFIOUserMessage(replyTo: message, body: Array(message.body[..<16]))) }
        default: throw VFIOUserError("a command \(message.command) that a device may not give")
        }
    }

    private func isRAM(_ address: UInt64, _ count: UInt64) -> Bool {
        guard (1...UInt64(VFIOUser.mostData)).contains(count) else { return false }
        return ranges.contains { $0.contains(address) && count <= $0.upperBound - address }
    }

    private func refuse(_ message: VFIOUserMessage, _ verb: String, _ address: UInt64, _ count: UInt64) throws {
        if !hasRefused {
            hasRefused = true
            report("the device \(verb) \(count) bytes at 0x\(String(address, radix: 16)), which is not RAM: refused, as all that follow")
        }
        try socket.send(VFIOUserMessage(replyTo: message, error: Self.errorInvalid))
    }
    private var hasRefused = false
}

/// The conversation before the device is known.
private struct Handshake {
    private let socket: VFIOUserSocket
    private static let patience: Int32 = 10_000

    init(_ socket: VFIOUserSocket) { self.socket = socket }

    /// Agrees on a version.
    func negotiate() throws {
        var body = VFIOUserFields()
        body.put16(0)
        body.put16(1)
        let text = "{\"capabilities\":{\"max_msg_fds\":1,\"max_data_xfer_size\":\(VFIOUser.mostData)}}"
        body.put(Array(text.utf8) + [0])
        let answer = try ask(.version, body.bytes, size: 4)
        guard answer.word16(0) == 0 else { throw VFIOUserError("it speaks version \(answer.word16(0)).\(answer.word16(2)), not 0.1") }
        let said = answer.bytes.dropFirst(4).prefix { $0 != 0 }
        if said.isEmpty { return }
        guard let object = try? JSONSerialization.jsonObject(with: Data(said)) as? [String: Any] else {
            throw VFIOUserError("its version data are no JSON")
        }
        let most = (object["capabilities"] as? [String: Any])?["max_data_xfer_size"] as? Int ?? VFIOUser.mostData
        // All that it gets are registers.
        guard most >= 64 else { throw VFIOUserError("it takes \(most) bytes at once") }
    }

    /// A command of numbers with their widths; the answer has `size` bytes at least.
    func ask(_ command: VFIOUser.Command, size: Int, _ values: [(UInt64, Int)]) throws -> VFIOUserFields {
        var body = VFIOUserFields()
        for (value, width) in values { body.put(value, width: width) }
        return try ask(command, body.bytes, size: size)
    }

    private func ask(_ command: VFIOUser.Command, _ body: [UInt8], size: Int) throws -> VFIOUserFields {
        let identifier = socket.identifier()
        try socket.send(VFIOUserMessage(command, identifier: identifier, body: body))
        guard let message = try socket.receive(milliseconds: Self.patience) else {
            throw VFIOUserError("no answer to \(command) within \(Self.patience / 1000) s")
        }
        for descriptor in message.descriptors { Glibc.close(descriptor) }
        guard message.isReply else { throw VFIOUserError("a command \(message.command) before the answer to \(command)") }
        try Self.check(message, command, identifier, size: size)
        if let error = message.error { throw VFIOUserError("\(command): \(String(cString: strerror(Int32(truncatingIfNeeded: error))))") }
        return VFIOUserFields(message.body)
    }

    /// The message answers this command, with at least so many bytes.
    static func check(_ message: VFIOUserMessage, _ command: VFIOUser.Command, _ identifier: UInt16, size: Int) throws {
        guard message.identifier == identifier, message.command == command.rawValue else {
            throw VFIOUserError(
                "an answer to message \(message.identifier), command \(message.command), instead of \(identifier), \(command.rawValue)")
        }
        guard message.error != nil || message.body.count >= size else {
            throw VFIOUserError("an answer to \(command) of \(message.body.count) bytes, not \(size)")
        }
    }
}
