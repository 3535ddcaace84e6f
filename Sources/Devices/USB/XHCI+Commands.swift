import DeviceBus
import MachineState

/// The command ring (4.6).
extension XHCI {
    /// The most commands that are carried out at once.
    private static let mostAtOnce = 64
    /// The most links that are followed one after the other.
    static let mostLinks = 4

    func ringCommands() {
        guard state.command & CommandBit.run != 0 else { return }
        state.isCommandRingRunning = true
        scheduler.schedule(self, timer: Timer.commands, at: scheduler.now &+ Self.doorbellDelay)
    }

    func block(_ address: UInt64) -> Block {
        var raw: (UInt64, UInt64) = (0, 0)
        withUnsafeMutableBytes(of: &raw) { memory.read(address, into: $0) }
        let rest = UInt64(littleEndian: raw.1)
        return Block(
            address: address, parameter: UInt64(littleEndian: raw.0), status: UInt32(truncatingIfNeeded: rest),
            control: UInt32(truncatingIfNeeded: rest >> 32))
    }

    func word(_ address: UInt64) -> UInt32 {
        var raw: UInt32 = 0
        withUnsafeMutableBytes(of: &raw) { memory.read(address, into: $0) }
        return UInt32(littleEndian: raw)
    }
    func setWord(_ address: UInt64, _ value: UInt32) {
        withUnsafeBytes(of: value.littleEndian) { memory.write(address, from: $0) }
    }

    func runCommands() {
        guard configuration.isBusMaster else { return }
        var links = 0
        for _ in 0..<Self.mostAtOnce {
            guard state.command & CommandBit.run != 0, state.isCommandRingRunning else { return }
            let command = block(state.commandRing)
            guard command.cycle == state.commandCycle else { return }
            if command.type == BlockType.link {
                state.commandRing = command.parameter & ~15
                if command.control & 2 != 0 { state.commandCycle.toggle() }
                links += 1
                if links > Self.mostLinks { return }
                continue
            }
            links = 0
            let (code, slot) = execute(command)
            post(command.address, code.rawValue << 24, BlockType.commandEvent << 10 | UInt32(slot) << 24)
            state.commandRing &+= 16
        }
        scheduler.schedule(self, timer: Timer.commands, at: scheduler.now &+ Self.doorbellDelay)
    }

    /// Returns the slot that the event names.
    private func execute(_ command: Block) -> (Code, Int) {
        let slot = Int(command.control >> 24)
        if command.type == 9 { return enableSlot() }
        if command.type == 23 { return (.success, 0) }
        guard (10...17).contains(command.type) else { return (.block, slot) }
        guard (1...Self.slotCount).contains(slot), state.slots[slot - 1].isEnabled else { return (.slotNotEnabled, slot) }
        let endpoint = Int(command.control >> 16 & 31)
        let code: Code
        switch command.type {
        case 10:
            cancelAll(slot)
            state.slots[slot - 1] = Slot()
            code = .success
        case 11: code = address(slot, input: command.parameter & ~15, isBlocked: command.control & 1 << 9 != 0)
        case 12: code = configure(slot, input: command.parameter & ~15, deconfigures: command.control & 1 << 9 != 0)
        case 13: code = evaluate(slot, input: command.parameter & ~15)
        case 14: code = changeState(slot, endpoint, from: 2, to: 3)
        case 15: code = stop(slot, endpoint)
        case 16: code = setDequeue(slot, endpoint, command.parameter)
        default: code = resetDevice(slot)
        }
        return (code, slot)
    }

    private func enableSlot() -> (Code, Int) {
        let most = min(Int(state.configure & 0xFF), Self.slotCount)
        guard let index = state.slots.prefix(most).firstIndex(where: { !$0.isEnabled }) else { return (.noSlots, 0) }
        state.slots[index] = Slot()
        state.slots[index].isEnabled = true
        return (.success, index + 1)
    }

    // MARK: Contexts, of 32 bytes each: the slot's, then the endpoints'

    private func contextPlace(_ slot: Int) -> UInt64 {
        let address = state.contexts &+ UInt64(slot) * 8
        return (UInt64(word(address &+ 4)) << 32 | UInt64(word(address))) & ~63
    }
    private func setSlotState(_ slot: Int, _ value: UInt8) {
        state.slots[slot - 1].state = value
        let place = state.slots[slot - 1].context &+ 12
        setWord(place, word(place) & 0x07FF_FFFF | UInt32(value) << 27)
    }
    func setEndpointState(_ slot: Int, _ endpoint: Int, _ value: UInt8) {
        state.slots[slot - 1].endpoints[endpoint].state = value
        let place = state.slots[slot - 1].context &+ UInt64(endpoint) * 32
        setWord(place, word(place) & ~7 | UInt32(value))
        let entry = state.slots[slot - 1].endpoints[endpoint]
        setWord(place &+ 8, UInt32(truncatingIfNeeded: entry.dequeue) | (entry.cycle ? 1 : 0))
        setWord(place &+ 12, UInt32(truncatingIfNeeded: entry.dequeue >> 32))
    }

    private func copy(_ from: UInt64, _ to: UInt64) {
        for offset in stride(from: 0, to: 32, by: 4) as StrideTo<UInt64> { setWord(to &+ offset, word(from &+ offset)) }
    }

    /// Makes an endpoint by its context in an input context.
    private func open(_ slot: Int, _ endpoint: Int, from place: UInt64) {
        let pointer = UInt64(word(place &+ 12)) << 32 | UInt64(word(place &+ 8))
        var entry = Endpoint()
        entry.type = UInt8(word(place &+ 4) >> 3 & 7)
        entry.interval = UInt8(min(word(place) >> 16 & 0xFF, 16))
        entry.dequeue = pointer & ~15
        entry.cycle = pointer & 1 != 0
        state.slots[slot - 1].endpoints[endpoint] = entry
        copy(place, state.slots[slot - 1].context &+ UInt64(endpoint) * 32)
        setEndpointState(slot, endpoint, 1)
    }
    private func close(_ slot: Int, _ endpoint: Int) {
        cancel(slot, endpoint)
        setEndpointState(slot, endpoint, 0)
        state.slots[slot - 1].endpoints[endpoint] = Endpoint()
        state.slots[slot - 1].ready &= ~(1 << UInt32(endpoint))
    }

    // MARK: Commands

    private func address(_ slot: Int, input: UInt64, isBlocked: Bool) -> Code {
        let flags = word(input &+ 4)
        let context = input &+ 32
        let port = Int(word(context &+ 4) >> 16 & 0xFF)
        guard flags & 3 == 3, (1...devices.count).contains(port), word(context) & 0xF_FFFF == 0 else { return .parameter }
        let isTaken = state.slots.enumerated().contains { $0.offset != slot - 1 && $0.element.isEnabled && Int($0.element.port) == port }
        guard state.slots[slot - 1].state < 2, !isTaken else { return .contextState }
        guard let device = device(at: port - 1) else { return .transaction }
        state.slots[slot - 1].port = UInt8(port)
        state.slots[slot - 1].context = contextPlace(slot)
        copy(context, state.slots[slot - 1].context)
        open(slot, 1, from: input &+ 64)
        if isBlocked {
            setSlotState(slot, 1)
        } else {
            let setup = USBSetup(type: 0, request: 5, value: UInt16(slot))
            guard device.carryOut(USBTransfer(.control, endpoint: 0, setup: setup)) == .done([]) else { return .transaction }
            let place = state.slots[slot - 1].context &+ 12
            setWord(place, word(place) & ~0xFF | UInt32(slot))
            setSlotState(slot, 2)
        }
        return .success
    }

    private func configure(_ slot: Int, input: UInt64, deconfigures: Bool) -> Code {
        guard state.slots[slot - 1].state >= 2 else { return .contextState }
        let place = state.slots[slot - 1].context
        if deconfigures {
            for endpoint in 2...31 where state.slots[slot - 1].endpoints[endpoint].state != 0 { close(slot, endpoint) }
            setSlotState(slot, 2)
            return .success
        }
        let (drop, add) = (word(input), word(input &+ 4))
        guard drop & 3 == 0, add & 3 == 1 else { return .parameter }
        for endpoint in 2...31 where drop >> UInt32(endpoint) & 1 != 0 && state.slots[slot - 1].endpoints[endpoint].state != 0 {
            close(slot, endpoint)
        }
        for endpoint in 2...31 where add >> UInt32(endpoint) & 1 != 0 {
            let type = word(input &+ UInt64(endpoint + 1) * 32 &+ 4) >> 3 & 7
            // The index says the direction, and so must the type.
            guard type != 0, type != 4, (type > 4) == (endpoint & 1 != 0) else { return .parameter }
            cancel(slot, endpoint)
            open(slot, endpoint, from: input &+ UInt64(endpoint + 1) * 32)
        }
        let isOpen = state.slots[slot - 1].endpoints[2...].contains { $0.state != 0 }
        setWord(place, word(place) & 0x07FF_FFFF | word(input &+ 32) & 0xF800_0000)
        setSlotState(slot, isOpen ? 3 : 2)
        return .success
    }

    private func evaluate(_ slot: Int, input: UInt64) -> Code {
        guard state.slots[slot - 1].state >= 1 else { return .contextState }
        let add = word(input &+ 4)
        let place = state.slots[slot - 1].context
        if add & 1 != 0 {
            // Exit latency, interrupter.
            setWord(place &+ 4, word(place &+ 4) & ~0xFFFF | word(input &+ 36) & 0xFFFF)
            setWord(place &+ 8, word(place &+ 8) & 0x003F_FFFF | word(input &+ 40) & 0xFFC0_0000)
        }
        if add & 2 != 0 {
            // The largest packet of endpoint 0.
            setWord(place &+ 36, word(place &+ 36) & 0xFFFF | word(input &+ 68) & 0xFFFF_0000)
        }
        return .success
    }

    private func changeState(_ slot: Int, _ endpoint: Int, from: UInt8, to: UInt8) -> Code {
        guard endpoint > 0 else { return .block }
        guard state.slots[slot - 1].endpoints[endpoint].state == from else { return .contextState }
        setEndpointState(slot, endpoint, to)
        return .success
    }

    private func stop(_ slot: Int, _ endpoint: Int) -> Code {
        guard endpoint > 0 else { return .block }
        guard state.slots[slot - 1].endpoints[endpoint].state == 1 else { return .contextState }
        if state.slots[slot - 1].endpoints[endpoint].isUnderWay {
            let place = state.slots[slot - 1].endpoints[endpoint].dequeue
            cancel(slot, endpoint)
            var length: UInt32 = 0
            let first = block(place)
            if first.type == BlockType.normal || first.type == BlockType.isochronous { length = UInt32(first.length) }
            post(
                place, Code.stopped.rawValue << 24 | length,
                BlockType.transferEvent << 10 | UInt32(endpoint) << 16 | UInt32(slot) << 24)
        }
        return changeState(slot, endpoint, from: 1, to: 3)
    }

    private func setDequeue(_ slot: Int, _ endpoint: Int, _ pointer: UInt64) -> Code {
        guard endpoint > 0 else { return .block }
        let old = state.slots[slot - 1].endpoints[endpoint].state
        guard old == 3 || old == 4 else { return .contextState }
        cancel(slot, endpoint)
        state.slots[slot - 1].endpoints[endpoint].dequeue = pointer & ~15
        state.slots[slot - 1].endpoints[endpoint].cycle = pointer & 1 != 0
        setEndpointState(slot, endpoint, 3)
        return .success
    }

    private func resetDevice(_ slot: Int) -> Code {
        guard state.slots[slot - 1].state >= 2 else { return .contextState }
        for endpoint in 2...31 where state.slots[slot - 1].endpoints[endpoint].state != 0 { close(slot, endpoint) }
        cancel(slot, 1)
        let place = state.slots[slot - 1].context &+ 12
        setWord(place, word(place) & ~0xFF)
        setSlotState(slot, 1)
        return .success
    }
}
