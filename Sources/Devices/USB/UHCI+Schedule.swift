import DeviceBus
import MachineState

/// The schedule: a list of frames, queues and transfer descriptors (UHCI Design Guide 1.1, 3).
extension UHCI {
    /// The bytes that a frame has room for, and the most of one transfer: two sectors of a disk.
    private static let frameBytes = 1280
    private static let longest = 1024
    /// The most queues and descriptors that are looked at in a frame.
    private static let mostLooks = 1024
    /// Queues that are remembered, so that a ring of queues with nothing to do ends.
    private static let mostSeen = 128

    private enum Link {
        static let end: UInt32 = 1
        static let queue: UInt32 = 2
    }
    private enum Token {
        static let input: UInt8 = 0x69
        static let output: UInt8 = 0xE1
        static let setup: UInt8 = 0x2D
    }
    private enum Bit {
        static let timeout: UInt32 = 1 << 18
        static let waiting: UInt32 = 1 << 19
        static let babble: UInt32 = 1 << 20
        static let stalled: UInt32 = 1 << 22
        static let active: UInt32 = 1 << 23
        static let interrupts: UInt32 = 1 << 24
        static let isochronous: UInt32 = 1 << 25
        static let shortDetect: UInt32 = 1 << 29
    }

    /// A transfer descriptor (3.2).
    private struct Descriptor {
        var address: UInt32
        var link: UInt32
        var control: UInt32
        var token: UInt32
        var buffer: UInt32

        var isActive: Bool { control & Bit.active != 0 }
        var packet: UInt8 { UInt8(token & 0xFF) }
        var device: UInt8 { UInt8(token >> 8 & 0x7F) }
        var endpoint: UInt8 { UInt8(token >> 15 & 15) }
        /// Bytes: 0x7FF is none.
        var length: Int { Int((token >> 21 &+ 1) & 0x7FF) }
        /// More than any packet has.
        var isBad: Bool { length > 1280 || ![Token.input, Token.output, Token.setup].contains(packet) }
    }

    /// What became of a queue's or a frame's descriptors.
    private enum Result {
        /// Nothing was done: not active, or the device has nothing.
        case none
        /// Packets were done; the queue goes on at `next`.
        case done(next: UInt32)
        /// The queue stays at a descriptor until the driver does something.
        case stopped(UInt32)
    }

    private func word(_ address: UInt32) -> UInt32 {
        var raw: UInt32 = 0
        withUnsafeMutableBytes(of: &raw) { memory.read(UInt64(address), into: $0) }
        return UInt32(littleEndian: raw)
    }
    private func set(_ address: UInt32, _ value: UInt32) {
        withUnsafeBytes(of: value.littleEndian) { memory.write(UInt64(address), from: $0) }
    }
    private func descriptor(_ address: UInt32) -> Descriptor {
        var raw: (UInt64, UInt64) = (0, 0)
        withUnsafeMutableBytes(of: &raw) { memory.read(UInt64(address), into: $0) }
        let (first, second) = (UInt64(littleEndian: raw.0), UInt64(littleEndian: raw.1))
        return Descriptor(
            address: address, link: UInt32(truncatingIfNeeded: first), control: UInt32(truncatingIfNeeded: first >> 32),
            token: UInt32(truncatingIfNeeded: second), buffer: UInt32(truncatingIfNeeded: second >> 32))
    }

    /// Goes through the present frame.
    func serveFrame() {
        guard configuration.isBusMaster else { return }
        var room = Self.frameBytes
        var raised: (status: UInt16, cause: UInt8) = (0, 0)
        // Queues since the last packet, in the order of the schedule.
        var seen: [UInt32] = []
        var link = word(state.base &+ UInt32(state.frame & 0x3FF) * 4)
        var looks = 0
        while link & Link.end == 0, room > 0, looks < Self.mostLooks, state.isRunning {
            looks += 1
            let address = link & ~15
            if link & Link.queue == 0 {
                let descriptor = descriptor(address)
                if case .done = execute(descriptor, isQueued: false, &room, &raised) { seen.removeAll(keepingCapacity: true) }
                link = descriptor.link
                continue
            }
            // A ring of queues gives the frame's rest to those that can use it, and ends when none can.
            if seen.contains(address) || seen.count >= Self.mostSeen { break }
            seen.append(address)
            let next = word(address)
            var element = word(address &+ 4)
            while element & (Link.end | Link.queue) == 0, room > 0, looks < Self.mostLooks, state.isRunning {
                looks += 1
                let result = execute(descriptor(element & ~15), isQueued: true, &room, &raised)
                if case .stopped(let place) = result, place != element & ~15 { set(address &+ 4, place) }
                guard case .done(let following) = result else { break }
                element = following
                set(address &+ 4, element)
                seen.removeAll(keepingCapacity: true)
            }
            // A queue within a queue takes its place.
            link = element & Link.end == 0 && element & Link.queue != 0 ? element : next
        }
        if raised.status != 0 { raise(raised.status, cause: raised.cause) }
    }

    /// Does a descriptor, and those behind it in its queue that belong to the same transfer.
    private func execute(
        _ first: Descriptor, isQueued: Bool, _ room: inout Int, _ raised: inout (status: UInt16, cause: UInt8)
    ) -> Result {
        guard first.isActive else { return .none }
        if first.isBad {
            fail(StatusBit.processError)
            return .stopped(first.address)
        }
        guard let number = port(of: first.device), let device = device(at: number) else {
            finish(first, Bit.timeout | Bit.stalled, 0, &raised)
            raised.status |= StatusBit.error
            return .stopped(first.address)
        }
        if first.packet == Token.setup {
            guard first.length == 8 else {
                finish(first, Bit.stalled, 0, &raised)
                raised.status |= StatusBit.error
                return .stopped(first.address)
            }
            state.wires[number].begin(load(first.buffer, 8), device)
            finish(first, 0, 8, &raised)
            room -= 8
            return .done(next: first.link)
        }
        let isIn = first.packet == Token.input
        let endpoint = first.endpoint | (isIn ? 0x80 : 0)
        let offer = state.wires[number].offer(endpoint)
        let isSame = offer.isUnderWay && offer.place == UInt64(first.address)
        // What has been offered is offered again as it was, in a frame that has room for it.
        let limit = isSame ? Int(offer.length) : min(room, Self.longest)
        if isSame, limit > room, room < Self.frameBytes { return .none }
        let packets = isQueued ? gather(first, limit) : [first]
        let length = packets.reduce(0) { $0 + $1.length }
        if length > room, room < Self.frameBytes { return .none }
        var data: [UInt8] = []
        if !isIn { for packet in packets { data += load(packet.buffer, packet.length) } }
        let kind = first.endpoint == 0 ? .control : first.control & Bit.isochronous != 0 ? .isochronous : device.kind(of: endpoint)
        let transfer = USBTransfer(kind, endpoint: endpoint, data: data, length: isIn ? length : 0)
        let outcome =
            kind == .isochronous
            ? state.wires[number].carryOutNow(transfer, device, tap: tap, slot: captureSlot(number))
            : state.wires[number].carryOut(
                transfer, at: UInt64(first.address), device, now: scheduler.now, tap: tap, slot: captureSlot(number))
        switch outcome {
        case .waiting, .later:
            if first.control & Bit.waiting == 0 { set(first.address &+ 4, first.control | Bit.waiting) }
            return .none
        case .stall, .failed:
            finish(first, outcome == .stall ? Bit.stalled : Bit.timeout | Bit.stalled, 0, &raised)
            raised.status |= StatusBit.error
            return .stopped(first.address)
        case .done(let bytes):
            if bytes.count > transfer.length, isIn {
                finish(first, Bit.babble | Bit.stalled, 0, &raised)
                raised.status |= StatusBit.error
                return .stopped(first.address)
            }
            room -= max(isIn ? bytes.count : length, 8)
            return deliver(isIn ? bytes : nil, packets, first.endpoint == 0 ? nil : device.dataOrigin, &raised)
        }
    }

    /// Ends the packets of a transfer: those to the device are done, those from it have as much as there is.
    private func deliver(
        _ bytes: [UInt8]?, _ packets: [Descriptor], _ origin: ImageOrigin?, _ raised: inout (status: UInt16, cause: UInt8)
    ) -> Result {
        var place = 0
        var next = Link.end
        for packet in packets {
            let count = bytes.map { min($0.count - place, packet.length) } ?? packet.length
            if let bytes, count > 0 {
                bytes.withUnsafeBytes {
                    memory.write(
                        UInt64(packet.buffer), from: UnsafeRawBufferPointer(rebasing: $0[place..<place + count]),
                        origin: origin?.advanced(by: place))
                }
            }
            place += count
            finish(packet, 0, count, &raised)
            next = packet.link
            if count < packet.length {
                // A short packet: the queue stays at it if the driver wants that.
                if packet.control & Bit.shortDetect == 0 { return .done(next: next) }
                raised.status |= StatusBit.interrupt
                raised.cause |= 2
                return .stopped(packet.address)
            }
        }
        return .done(next: next)
    }

    private func finish(_ packet: Descriptor, _ bits: UInt32, _ count: Int, _ raised: inout (status: UInt16, cause: UInt8)) {
        let kept = packet.control & ~(Bit.active | Bit.waiting | 0x7FF)
        set(packet.address &+ 4, kept | bits | UInt32(truncatingIfNeeded: count &- 1) & 0x7FF)
        if packet.control & Bit.interrupts != 0 {
            raised.status |= StatusBit.interrupt
            raised.cause |= 1
        }
    }

    /// The descriptors of a transfer from `first` on: packets of the same kind for the same endpoint, as long as they are
    /// active, up to one that is told of when it is done, or that has another size than the first.
    private func gather(_ first: Descriptor, _ limit: Int) -> [Descriptor] {
        var found = [first]
        var bytes = first.length
        while let last = found.last, last.link & (Link.end | Link.queue) == 0, last.control & Bit.interrupts == 0,
            last.length == first.length, first.length > 0
        {
            let next = descriptor(last.link & ~15)
            guard next.isActive, !next.isBad, next.packet == first.packet, next.device == first.device,
                next.endpoint == first.endpoint, next.control & Bit.isochronous == 0, next.length > 0, bytes + next.length <= limit
            else { break }
            found.append(next)
            bytes += next.length
        }
        return found
    }

    private func load(_ address: UInt32, _ count: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        if count > 0 { bytes.withUnsafeMutableBytes { memory.read(UInt64(address), into: $0) } }
        return bytes
    }

    /// The port of the device with an address, if it answers: only one that is enabled does.
    private func port(of address: UInt8) -> Int? {
        devices.indices.first {
            state.ports[$0] & (PortBit.enabled | PortBit.suspended) == PortBit.enabled && state.wires[$0].address == address
                && device(at: $0) != nil
        }
    }
}
