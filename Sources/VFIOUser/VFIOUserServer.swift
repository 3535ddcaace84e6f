import CHost
import DeviceBus
import Devices
import Glibc
import MachineState

/// The device's end of a vfio-user connection: carries one of our device models out, on the host's clock, for whoever
/// connects. Everything happens on the thread that serves.
package final class VFIOUserServer: InterruptSink, MessageSink, DMAPort {
    /// The device's clock.
    package let scheduler = Scheduler()
    private var function: (any PCIFunction)?
    private var socket: VFIOUserSocket?
    private let started = ContinuousClock.now
    /// Commands that came while the device waited for RAM.
    private var waiting: [VFIOUserMessage] = []
    /// Gets what the device's backends have for it, before the next command; from any thread they wake by `wakeUp`.
    package var takeInput: () -> Void = {}
    /// Readable when there is input; -1 for none.
    package var inputDescriptor: Int32 = -1
    /// The interrupt pin's level, and whether the machine wants to hear of it.
    private var pin = false
    private var isPinMasked = false
    /// Event descriptors of the machine, by way and vector.
    private var events: [Vector: Int32] = [:]
    private struct Vector: Hashable {
        let kind: UInt32
        let number: Int
    }
    private static let errorInvalid: UInt32 = 22
    /// Where the messages of MSI-X lead to, here: their data are the vectors.
    private static let messageAddress: UInt64 = 0xFEE0_0000

    package init() {}
    deinit { for descriptor in events.values { close(descriptor) } }

    /// Says which device it is. Once, before serving.
    package func install(_ function: any PCIFunction) {
        self.function = function
        scheduler.register(function)
        function.reset()
    }

    private func synchronise() {
        let (seconds, attoseconds) = (ContinuousClock.now - started).components
        scheduler.now = max(scheduler.now, UInt64(seconds) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000))
    }

    /// Serves one connection to its end, which is the machine's, or an error.
    package func serve(_ socket: VFIOUserSocket) throws {
        self.socket = socket
        defer { disconnect() }
        while true {
            synchronise()
            takeInput()
            scheduler.fireDue()
            let message: VFIOUserMessage
            if waiting.isEmpty {
                if !isReadable(socket, until: scheduler.nextDeadline) { continue }
                guard let next = try socket.receive(milliseconds: 0) else { continue }
                message = next
            } else {
                message = waiting.removeFirst()
            }
            synchronise()
            try answer(message, socket)
        }
    }

    private func disconnect() {
        socket = nil
        waiting = []
        for descriptor in events.values { close(descriptor) }
        events = [:]
        function?.reset()
    }

    /// Waits for a command, for input, or for a timer of the device.
    private func isReadable(_ socket: VFIOUserSocket, until deadline: VirtualTime) -> Bool {
        let left = min(deadline > scheduler.now ? deadline - scheduler.now : 0, 1_000_000_000)
        return chost_readable([socket.descriptor, inputDescriptor], inputDescriptor >= 0 ? 2 : 1, left) & 1 != 0
    }

    // MARK: Commands

    private func answer(_ message: VFIOUserMessage, _ socket: VFIOUserSocket) throws {
        var descriptors = message.descriptors
        defer { for descriptor in descriptors { close(descriptor) } }
        guard !message.isReply else { throw VFIOUserError("an answer that nobody has asked for") }
        let reply: VFIOUserMessage
        if let body = carryOut(message, &descriptors) {
            reply = VFIOUserMessage(replyTo: message, body: body)
        } else {
            reply = VFIOUserMessage(replyTo: message, error: Self.errorInvalid)
        }
        if message.wantsReply { try socket.send(reply) }
    }

    /// The answer's body; nil for a command that cannot be carried out. Takes the descriptors that it keeps.
    private func carryOut(_ message: VFIOUserMessage, _ descriptors: inout [Int32]) -> [UInt8]? {
        guard let function else { return nil }
        let fields = VFIOUserFields(message.body)
        var answer = VFIOUserFields()
        switch VFIOUser.Command(rawValue: message.command) {
        case .version:
            guard message.body.count >= 4, fields.word16(0) == 0 else { return nil }
            answer.put16(0)
            answer.put16(1)
            answer.put(Array("{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":\(VFIOUser.mostData)}}".utf8) + [0])
        case .deviceInfo:
            answer.put32(16)
            answer.put32(VFIOUser.DeviceFlag.reset | VFIOUser.DeviceFlag.pci)
            answer.put32(UInt32(VFIOUser.regionCount))
            answer.put32(UInt32(VFIOUser.interruptCount))
        case .regionInfo:
            let index = Int(fields.word32(8))
            guard index < VFIOUser.regionCount else { return nil }
            let size = size(of: index, function)
            answer.put32(32)
            answer.put32(size == 0 ? 0 : VFIOUser.RegionFlag.read | VFIOUser.RegionFlag.write)
            answer.put32(UInt32(index))
            answer.put32(0)
            answer.put64(size)
            answer.put64(0)
        case .interruptInfo:
            let index = fields.word32(8)
            guard index < UInt32(VFIOUser.interruptCount) else { return nil }
            answer.put32(16)
            answer.put32(index == 0 ? VFIOUser.pinInterrupt : VFIOUser.eventInterrupt)
            answer.put32(index)
            answer.put32(UInt32(vectors(index, function)))
        case .setInterrupts: return setInterrupts(fields, function, &descriptors) ? [] : nil
        case .readRegion:
            let (offset, region, count) = (fields.word64(0), Int(fields.word32(8)), Int(fields.word32(12)))
            guard let data = read(region, offset, count, function) else { return nil }
            return Array(message.body[..<16]) + data
        case .writeRegion:
            let (offset, region, count) = (fields.word64(0), Int(fields.word32(8)), Int(fields.word32(12)))
            guard message.body.count == 16 + count, isWithin(region, offset, count, function) else { return nil }
            write(region, offset, count, fields, function)
            return Array(message.body[..<16])
        case .mapDMA: return message.body.count >= 32 ? [] : nil
        case .unmapDMA: return message.body.count >= 24 ? Array(message.body[..<24]) : nil
        case .reset:
            function.reset()
            synchronise()
            return []
        case .regionDescriptors, .readDMA, .writeDMA, nil: return nil
        }
        return answer.bytes
    }

    private func size(of region: Int, _ function: any PCIFunction) -> UInt64 {
        if region == VFIOUser.configurationRegion { return 256 }
        return region < 6 ? function.configuration.baseAddresses[region].map { UInt64($0.size) } ?? 0 : 0
    }

    private func isWithin(_ region: Int, _ offset: UInt64, _ count: Int, _ function: any PCIFunction) -> Bool {
        let size = size(of: region, function)
        return count > 0 && count <= 256 && offset <= size && UInt64(count) <= size - offset
    }

    /// The widths of the accesses that make up one of `count` bytes.
    private func pieces(_ offset: UInt64, _ count: Int) -> [(offset: UInt64, width: Int)] {
        if [1, 2, 4, 8].contains(count) { return [(offset, count)] }
        return (0..<count).map { (offset + UInt64($0), 1) }
    }

    private func read(_ region: Int, _ offset: UInt64, _ count: Int, _ function: any PCIFunction) -> [UInt8]? {
        guard isWithin(region, offset, count, function) else { return nil }
        var answer = VFIOUserFields()
        for piece in pieces(offset, count) {
            if region == VFIOUser.configurationRegion {
                for index in 0..<piece.width {
                    let place = Int(piece.offset) + index
                    function.configurationWillBeRead(place, width: 1)
                    answer.put(UInt64(function.configuration.read(place, width: 1)), width: 1)
                }
            } else if let bar = function.configuration.baseAddresses[region] {
                answer.put(function.read(region: bar.region, offset: piece.offset, width: piece.width), width: piece.width)
            }
        }
        return answer.bytes
    }

    private func write(
        _ region: Int, _ offset: UInt64, _ count: Int, _ fields: VFIOUserFields, _ function: any PCIFunction
    ) {
        for piece in pieces(offset, count) {
            let value = fields.value(16 + Int(piece.offset - offset), width: piece.width)
            if region == VFIOUser.configurationRegion {
                let width = min(piece.width, 4)
                function.configuration.write(Int(piece.offset), width: width, UInt32(truncatingIfNeeded: value))
                function.configurationWritten(Int(piece.offset), width: width)
            } else if let bar = function.configuration.baseAddresses[region] {
                function.write(region: bar.region, offset: piece.offset, width: piece.width, value: value)
            }
        }
    }

    // MARK: Interrupts

    private func capability(_ identifier: UInt8, _ function: any PCIFunction) -> Int? {
        let configuration = function.configuration
        var next = configuration.read(6, width: 1) & 0x10 != 0 ? Int(configuration.read(0x34, width: 1) & 0xFC) : 0
        for _ in 0..<48 where next >= 0x40 {
            if configuration.read(next, width: 1) == UInt32(identifier) { return next }
            next = Int(configuration.read(next + 1, width: 1) & 0xFC)
        }
        return nil
    }

    /// How many interrupts of a kind the device has.
    private func vectors(_ kind: UInt32, _ function: any PCIFunction) -> Int {
        switch ForeignInterrupt(rawValue: kind) {
        case .pin: function.configuration.read(0x3D, width: 1) != 0 ? 1 : 0
        case .msi: capability(5, function) != nil ? 1 : 0
        case .msix: capability(0x11, function).map { Int(function.configuration.read($0 + 2, width: 2) & 0x7FF) + 1 } ?? 0
        case nil: 0
        }
    }

    private func setInterrupts(_ fields: VFIOUserFields, _ function: any PCIFunction, _ descriptors: inout [Int32]) -> Bool {
        let (flags, kind) = (fields.word32(4), fields.word32(8))
        let (start, count) = (Int(fields.word32(12)), Int(fields.word32(16)))
        guard start <= 2048, count <= 2048, start + count <= vectors(kind, function) else { return false }
        if flags & VFIOUser.InterruptFlag.unmask != 0, kind == ForeignInterrupt.pin.rawValue {
            isPinMasked = false
            if pin { signalPin() }
            return true
        }
        if flags & VFIOUser.InterruptFlag.mask != 0, kind == ForeignInterrupt.pin.rawValue {
            isPinMasked = true
            return true
        }
        guard flags & VFIOUser.InterruptFlag.trigger != 0 else { return false }
        if count == 0 {
            for (vector, descriptor) in events where vector.kind == kind {
                close(descriptor)
                events[vector] = nil
            }
            return true
        }
        guard flags & VFIOUser.InterruptFlag.event != 0, descriptors.count == count else { return false }
        for (index, descriptor) in descriptors.enumerated() {
            let vector = Vector(kind: kind, number: start + index)
            if let old = events[vector] { close(old) }
            events[vector] = descriptor
            if kind == ForeignInterrupt.msix.rawValue { fillTable(vector.number, function) }
        }
        descriptors = []
        if kind == ForeignInterrupt.pin.rawValue {
            isPinMasked = false
            if pin { signalPin() }
        }
        return true
    }

    /// The machine keeps the table of MSI-X: the device's own leads to the machine's descriptors.
    private func fillTable(_ vector: Int, _ function: any PCIFunction) {
        guard let place = capability(0x11, function) else { return }
        let table = function.configuration.read(place + 4, width: 4)
        guard let bar = function.configuration.baseAddresses[Int(min(table & 7, 5))] else { return }
        let offset = UInt64(table & ~7) + UInt64(vector * 16)
        for (index, word) in [Self.messageAddress, 0, UInt64(vector), 0].enumerated() {
            function.write(region: bar.region, offset: offset + UInt64(index * 4), width: 4, value: word)
        }
    }

    private func signal(_ kind: ForeignInterrupt, _ number: Int) {
        guard let descriptor = events[Vector(kind: kind.rawValue, number: number)] else { return }
        var one: UInt64 = 1
        _ = Glibc.write(descriptor, &one, 8)
    }

    private func signalPin() {
        // Masked by itself until the machine has looked.
        if isPinMasked || events[Vector(kind: 0, number: 0)] == nil { return }
        isPinMasked = true
        signal(.pin, 0)
    }

    package func setInput(_ input: Int, _ level: Bool) {
        let rises = level && !pin
        pin = level
        if rises { signalPin() }
    }

    package func deliver(address: UInt64, data: UInt32) {
        guard let function else { return }
        if let place = capability(0x11, function), function.configuration.read(place + 2, width: 2) & 0x8000 != 0 {
            signal(.msix, Int(data & 0x7FF))
        } else {
            signal(.msi, 0)
        }
    }

    // MARK: RAM

    package func read(_ address: UInt64, into buffer: UnsafeMutableRawBufferPointer) {
        var done = 0
        while done < buffer.count {
            let count = min(buffer.count - done, VFIOUser.mostData / 2)
            guard let answer = ask(.readDMA, Self.extent(address &+ UInt64(done), count)), answer.count == 16 + count else {
                UnsafeMutableRawBufferPointer(rebasing: buffer[done...]).initializeMemory(as: UInt8.self, repeating: 0xFF)
                return
            }
            UnsafeMutableRawBufferPointer(rebasing: buffer[done..<done + count]).copyBytes(from: answer[16...])
            done += count
        }
    }

    package func write(_ address: UInt64, from buffer: UnsafeRawBufferPointer) {
        var done = 0
        while done < buffer.count {
            let count = min(buffer.count - done, VFIOUser.mostData / 2)
            if ask(.writeDMA, Self.extent(address &+ UInt64(done), count) + buffer[done..<done + count]) == nil { return }
            done += count
        }
    }

    /// What every access to RAM begins with.
    private static func extent(_ address: UInt64, _ count: Int) -> [UInt8] {
        var fields = VFIOUserFields()
        fields.put64(address)
        fields.put64(UInt64(count))
        return fields.bytes
    }

    /// Asks the machine; commands that come in the meantime wait. Nil: it says no, or has gone, which `serve` finds out.
    private func ask(_ command: VFIOUser.Command, _ body: [UInt8]) -> [UInt8]? {
        guard let socket else { return nil }
        do {
            let identifier = socket.identifier()
            try socket.send(VFIOUserMessage(command, identifier: identifier, body: body))
            while true {
                // A debugger may have stopped the machine: it takes as long as it takes.
                guard let message = try socket.receive(milliseconds: -1) else { continue }
                if !message.isReply {
                    waiting.append(message)
                    continue
                }
                if message.identifier == identifier { return message.error == nil ? message.body : nil }
            }
        } catch {
            self.socket = nil
            return nil
        }
    }
}
