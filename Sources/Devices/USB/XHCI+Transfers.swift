import DeviceBus
import MachineState

/// Transfer rings (4.9.2, 4.10).
extension XHCI {
    /// The most blocks of one transfer, and the most bytes.
    private static let mostBlocks = 512
    private static let mostBytes = 4 << 20

    /// A transfer as it is in a ring.
    private struct Descriptor {
        var blocks: [Block] = []
        /// Behind it.
        var next: UInt64 = 0
        var cycle = false
        /// Longer than anything that a driver may ask for, or out of order.
        var isBad = false

        var setup: Block? { blocks.first.flatMap { $0.type == BlockType.setup ? $0 : nil } }
        func carriesData(_ block: Block) -> Bool {
            block.type == BlockType.normal || block.type == BlockType.data || block.type == BlockType.isochronous
        }
        var length: Int { blocks.reduce(0) { carriesData($1) ? $0 + $1.length : $0 } }
    }

    func ring(slot: Int, endpoint: Int) {
        guard (1...Self.slotCount).contains(slot), (1...31).contains(endpoint), state.command & CommandBit.run != 0,
            state.slots[slot - 1].isEnabled
        else { return }
        let old = state.slots[slot - 1].endpoints[endpoint].state
        guard old == 1 || old == 3 else { return }
        if old == 3 { setEndpointState(slot, endpoint, 1) }
        // What the device has put off is not offered before its time.
        if !state.slots[slot - 1].endpoints[endpoint].isUnderWay {
            let due = scheduler.now &+ Self.doorbellDelay
            state.slots[slot - 1].endpoints[endpoint].due = max(state.slots[slot - 1].endpoints[endpoint].due, due)
            state.slots[slot - 1].ready |= 1 << UInt32(endpoint)
        }
        scheduleEndpoints()
    }

    /// Sets the timer to the first endpoint that is due.
    func scheduleEndpoints() {
        guard state.command & CommandBit.run != 0 else { return }
        var first = VirtualTime.max
        for slot in state.slots where slot.ready != 0 {
            for endpoint in 1...31 where slot.ready >> UInt32(endpoint) & 1 != 0 { first = min(first, slot.endpoints[endpoint].due) }
        }
        if first != .max { scheduler.schedule(self, timer: Timer.endpoints, at: max(first, scheduler.now)) }
    }

    func serveEndpoints() {
        guard configuration.isBusMaster, state.command & CommandBit.run != 0 else { return }
        let now = scheduler.now
        for slot in 1...Self.slotCount where state.slots[slot - 1].ready != 0 {
            for endpoint in 1...31 where state.slots[slot - 1].ready >> UInt32(endpoint) & 1 != 0 {
                if state.slots[slot - 1].endpoints[endpoint].due > now { continue }
                state.slots[slot - 1].ready &= ~(1 << UInt32(endpoint))
                if let pause = serve(slot, endpoint) {
                    state.slots[slot - 1].endpoints[endpoint].due = now &+ max(pause, 125)
                    state.slots[slot - 1].ready |= 1 << UInt32(endpoint)
                }
            }
        }
        scheduleEndpoints()
    }

    /// A device or its slot goes: nothing waits any more.
    func cancelAll(_ slot: Int) {
        for endpoint in 1...31 { cancel(slot, endpoint) }
        state.slots[slot - 1].ready = 0
    }

    func cancel(_ slot: Int, _ endpoint: Int) {
        guard state.slots[slot - 1].endpoints[endpoint].isUnderWay else { return }
        state.slots[slot - 1].endpoints[endpoint].isUnderWay = false
        state.slots[slot - 1].ready &= ~(1 << UInt32(endpoint))
        anyDevice(at: Int(state.slots[slot - 1].port) - 1)?.cancel(endpoint: Self.number(endpoint))
    }

    /// The endpoint's number, as in `USBTransfer`, by device context index.
    private static func number(_ endpoint: Int) -> UInt8 {
        endpoint == 1 ? 0 : UInt8(endpoint / 2) | (endpoint & 1 != 0 ? 0x80 : 0)
    }

    /// Does an endpoint's next transfer. Returns the time until the next look, or nil: nothing until something happens.
    private func serve(_ slot: Int, _ endpoint: Int) -> VirtualTime? {
        let entry = state.slots[slot - 1].endpoints[endpoint]
        guard state.slots[slot - 1].isEnabled, entry.state == 1, let descriptor = gather(entry) else { return nil }
        guard let device = device(at: Int(state.slots[slot - 1].port) - 1) else {
            halt(slot, endpoint, descriptor, .transaction)
            return nil
        }
        if descriptor.isBad {
            halt(slot, endpoint, descriptor, .block)
            return nil
        }
        if !entry.isUnderWay, let pause = frame(descriptor) { return pause }
        guard let transfer = transfer(endpoint, entry, descriptor) else {
            // Nothing for the device: no operation, or event data alone.
            report(slot, endpoint, descriptor, 0)
            advance(slot, endpoint, descriptor)
            return 1_000
        }
        if !entry.isUnderWay { tap?.submitted(transfer, slot: slot, endpoint: endpoint) }
        let outcome = device.carryOut(transfer)
        let origin = transfer.kind == .control ? nil : device.dataOrigin
        if outcome != .waiting, !outcome.isLater { tap?.completed(transfer, outcome, slot: slot, endpoint: endpoint, origin: origin) }
        switch outcome {
        case .waiting:
            state.slots[slot - 1].endpoints[endpoint].isUnderWay = true
            return nil
        case .later(let time):
            state.slots[slot - 1].endpoints[endpoint].isUnderWay = true
            return time
        case .stall: halt(slot, endpoint, descriptor, .stall)
        case .failed: halt(slot, endpoint, descriptor, .transaction)
        case .done(let bytes):
            state.slots[slot - 1].endpoints[endpoint].isUnderWay = false
            if transfer.isIn {
                guard bytes.count <= transfer.length else {
                    halt(slot, endpoint, descriptor, .babble)
                    return nil
                }
                store(bytes, descriptor, origin)
            }
            let count = transfer.isIn ? bytes.count : transfer.data.count
            report(slot, endpoint, descriptor, count)
            advance(slot, endpoint, descriptor)
            switch transfer.kind {
            case .control: return 10_000 + UInt64(count) * device.speed.nanosecondsPerByte
            case .bulk: return 2_000 + UInt64(count) * device.speed.nanosecondsPerByte
            case .interrupt: return 125_000 << UInt64(entry.interval)
            case .isochronous:
                // By the time at which it was due, so that a stream keeps its pace.
                let interval: VirtualTime = 125_000 << UInt64(entry.interval)
                let late = scheduler.now &- entry.due
                return late < interval ? interval - late : interval
            }
        }
        return nil
    }

    /// The time until the frame of an isochronous transfer (4.11.2.5), if it is to come: those in the past are done at once.
    private func frame(_ descriptor: Descriptor) -> VirtualTime? {
        guard let frame = descriptor.blocks.first?.frame else { return nil }
        let present = scheduler.now / 1_000_000
        let ahead = (frame &- present) & 0x7FF
        return ahead == 0 || ahead >= 1024 ? nil : (present + ahead) * 1_000_000 - scheduler.now
    }

    // MARK: Reading the ring

    /// The next transfer; nil when it is not there as a whole.
    private func gather(_ entry: Endpoint) -> Descriptor? {
        var descriptor = Descriptor(next: entry.dequeue, cycle: entry.cycle)
        var links = 0
        var bytes = 0
        while true {
            let block = block(descriptor.next)
            guard block.cycle == descriptor.cycle else { return nil }
            if block.type == BlockType.link {
                descriptor.next = block.parameter & ~15
                if block.control & 2 != 0 { descriptor.cycle.toggle() }
                links += 1
                if links > Self.mostLinks {
                    descriptor.isBad = true
                    return descriptor.blocks.isEmpty ? nil : descriptor
                }
                continue
            }
            links = 0
            descriptor.blocks.append(block)
            descriptor.next &+= 16
            if descriptor.carriesData(block) { bytes += block.length }
            if descriptor.blocks.count >= Self.mostBlocks || bytes > Self.mostBytes {
                descriptor.isBad = true
                return descriptor
            }
            if entry.type == 4, descriptor.setup != nil {
                // A control transfer ends with its status stage; what is chained to that belongs to it.
                let hasStatus = descriptor.blocks.contains { $0.type == BlockType.status }
                if hasStatus, !block.isChained { return descriptor }
                if descriptor.blocks.count > 1, block.type == BlockType.setup {
                    descriptor.isBad = true
                    return descriptor
                }
            } else if !block.isChained {
                // Without a setup packet nothing can be done at a control endpoint.
                descriptor.isBad = entry.type == 4 && block.type != BlockType.noOperation
                return descriptor
            }
        }
    }

    /// What the device is asked for; nil: nothing.
    private func transfer(_ endpoint: Int, _ entry: Endpoint, _ descriptor: Descriptor) -> USBTransfer? {
        let number = Self.number(endpoint)
        if let setup = descriptor.setup {
            let packet = USBSetup(withUnsafeBytes(of: setup.parameter.littleEndian) { Array($0) })
            // The driver says the direction twice; the device goes by the packet.
            let length = min(descriptor.length, Int(packet.length))
            return USBTransfer(
                .control, endpoint: packet.isIn ? 0x80 : 0, setup: packet,
                data: packet.isIn ? [] : Array(load(descriptor).prefix(length)), length: packet.isIn ? length : 0)
        }
        guard descriptor.blocks.contains(where: { descriptor.carriesData($0) }) else { return nil }
        guard let kind = USBTransfer.Kind(rawValue: entry.type & 3) else { return nil }
        if number & 0x80 != 0 { return USBTransfer(kind, endpoint: number, length: descriptor.length) }
        return USBTransfer(kind, endpoint: number, data: load(descriptor))
    }

    private func load(_ descriptor: Descriptor) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: descriptor.length)
        var place = 0
        for block in descriptor.blocks where descriptor.carriesData(block) {
            if block.isImmediate {
                let immediate = withUnsafeBytes(of: block.parameter.littleEndian) { Array($0) }
                for index in 0..<min(block.length, 8) { bytes[place + index] = immediate[index] }
            } else if block.length > 0 {
                bytes.withUnsafeMutableBytes {
                    memory.read(block.parameter, into: UnsafeMutableRawBufferPointer(rebasing: $0[place..<place + block.length]))
                }
            }
            place += block.length
        }
        return bytes
    }

    private func store(_ bytes: [UInt8], _ descriptor: Descriptor, _ origin: ImageOrigin?) {
        var place = 0
        for block in descriptor.blocks where descriptor.carriesData(block) && place < bytes.count {
            let count = min(block.length, bytes.count - place)
            bytes.withUnsafeBytes {
                memory.write(
                    block.parameter, from: UnsafeRawBufferPointer(rebasing: $0[place..<place + count]),
                    origin: origin?.advanced(by: place))
            }
            place += count
        }
    }

    // MARK: Reporting

    private func post(
        _ slot: Int, _ endpoint: Int, _ parameter: UInt64, _ code: Code, _ length: Int, isEventData: Bool = false, interrupts: Bool = true
    ) {
        post(
            parameter, code.rawValue << 24 | UInt32(length) & 0xFF_FFFF,
            BlockType.transferEvent << 10 | UInt32(endpoint) << 16 | UInt32(slot) << 24 | (isEventData ? 4 : 0), interrupts: interrupts)
    }

    /// Events of a transfer that moved `count` bytes (4.10.1).
    private func report(_ slot: Int, _ endpoint: Int, _ descriptor: Descriptor, _ count: Int) {
        var left = count
        var sum = 0
        var isShort = false
        var isReported = false
        for block in descriptor.blocks {
            if block.type == BlockType.eventData {
                if block.interrupts {
                    post(
                        slot, endpoint, block.parameter, isShort ? .shortPacket : .success, sum, isEventData: true,
                        interrupts: !block.blocksInterrupt)
                }
                sum = 0
                continue
            }
            var missing = 0
            if descriptor.carriesData(block) {
                let moved = min(block.length, left)
                left -= moved
                sum += moved
                missing = block.length - moved
                if missing > 0 { isShort = true }
            } else if block.type == BlockType.status {
                (isShort, isReported) = (false, false)
            }
            if !isReported, block.interrupts || isShort && block.interruptsOnShort {
                post(
                    slot, endpoint, block.address, isShort ? .shortPacket : .success, missing, interrupts: !block.blocksInterrupt)
                isReported = isShort
            }
        }
    }

    private func advance(_ slot: Int, _ endpoint: Int, _ descriptor: Descriptor) {
        state.slots[slot - 1].endpoints[endpoint].dequeue = descriptor.next
        state.slots[slot - 1].endpoints[endpoint].cycle = descriptor.cycle
    }

    /// The transfer has failed: one event, and the endpoint waits for the driver; an isochronous one goes on.
    private func halt(_ slot: Int, _ endpoint: Int, _ descriptor: Descriptor, _ code: Code) {
        state.slots[slot - 1].endpoints[endpoint].isUnderWay = false
        guard let place = descriptor.blocks.first(where: { descriptor.carriesData($0) }) ?? descriptor.blocks.last else { return }
        let type = state.slots[slot - 1].endpoints[endpoint].type
        post(slot, endpoint, place.address, code, descriptor.length)
        if type == 1 || type == 5 {
            advance(slot, endpoint, descriptor)
            state.slots[slot - 1].ready |= 1 << UInt32(endpoint)
            state.slots[slot - 1].endpoints[endpoint].due = scheduler.now &+ 1_000_000
        } else {
            setEndpointState(slot, endpoint, 2)
        }
    }
}

extension USBOutcome {
    var isLater: Bool { if case .later = self { true } else { false } }
}
