import DeviceBus
import MachineState

/// Intel's 82540EM gigabit network card (PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual,
/// 317453), with its EEPROM and its PHY. It computes checksums and splits segments for the driver when it sends, checks checksums of what
/// comes in, puts VLAN tags in and takes them out, and delays interrupts.
///
/// Not there: wake-up, flow control, statistics other than packets and bytes.
package final class E1000: PCIFunction, NetworkCard {
    /// Everything the guest can observe.
    package struct State {
        package var configuration = E1000.makeConfiguration()
        /// The registers that only keep what is written to them, and those in `Register`, by word.
        package var registers = [UInt32](repeating: 0, count: E1000.registerCount)
        package var wire = NetworkWire()
        package var eeprom: E1000EEPROM
        package var phy = E1000PHY()
        package var sender = E1000Sender()
        var moderation = E1000Moderation()
        /// IOADDR: the register that IODATA is.
        package var window: UInt32 = 0
        /// Packets and bytes, as `Register.statistics` has them.
        package var statistics = [UInt64](repeating: 0, count: 6)
        /// The descriptors to be sent are looked at soon.
        package var isTransmitting = false

        package init(_ address: EthernetAddress) { eeprom = E1000EEPROM(address) }

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.group("configuration") { configuration.visit(&$0) }
            visitor.field("registers", &registers)
            visitor.group("wire") { wire.visit(&$0) }
            visitor.group("eeprom") { eeprom.visit(&$0) }
            visitor.group("phy") { phy.visit(&$0) }
            visitor.group("sender") { sender.visit(&$0) }
            visitor.group("moderation") { moderation.visit(&$0) }
            visitor.field("window", &window)
            visitor.field("statistics", &statistics)
            visitor.field("isTransmitting", &isTransmitting)
            if visitor.mode == .load, registers.count != E1000.registerCount || statistics.count != 6 {
                visitor.fail("another number of registers")
                registers = [UInt32](repeating: 0, count: E1000.registerCount)
                statistics = [UInt64](repeating: 0, count: 6)
            }
        }
    }

    static let registerCount = 0x5C00 / 4
    private static let memorySize: UInt32 = 0x20000
    private static let portCount: UInt32 = 64
    /// From a new tail to the first frame on the cable, ns.
    private static let transmitDelay: VirtualTime = 2_000
    private static let transmitTimer = 0
    /// For an interrupt that must wait; for causes that do.
    private static let pinTimer = 1
    private static let delayTimer = 2
    /// The most descriptors that are carried out at once.
    private static let mostAtOnce = 256
    /// The most bytes that go out at once, but for a packet's last segments.
    private static let mostBytesAtOnce = 1 << 18

    package let name: String
    package var regions: [Region] {
        [
            configuration.region(0, registers: Self.registerNames),
            configuration.region(1, registers: [RegisterName(0, "IOADDR", length: 4), RegisterName(4, "IODATA", length: 4)]),
        ]
    }
    package private(set) var state: State
    package var configuration: PCIConfiguration {
        get { state.configuration }
        set { state.configuration = newValue }
    }
    private let address: EthernetAddress
    private let irq: IRQLine
    private let memory: any DMAPort
    private let scheduler: Scheduler
    private let channel: any HostChannel

    /// - Parameter irq: the pin INTA of its slot.
    package init(
        name: String, address: EthernetAddress, irq: IRQLine, memory: any DMAPort, scheduler: Scheduler,
        channel: any HostChannel
    ) {
        self.name = name
        self.address = address
        self.irq = irq
        self.memory = memory
        self.scheduler = scheduler
        self.channel = channel
        state = State(address)
        resetCard()
    }

    private static func makeConfiguration() -> PCIConfiguration {
        var configuration = PCIConfiguration(
            vendor: 0x8086, device: 0x100E, revision: 3, classCode: 0x020000, subsystemVendor: 0x8086, subsystem: 0x001E,
            interruptPin: 1)
        configuration.setBaseAddress(0, .memory, size: memorySize, region: 0)
        configuration.setBaseAddress(1, .port, size: portCount, region: 1)
        return configuration
    }

    package var isLinkUp: Bool { state.wire.isLinkUp }

    // MARK: Device

    package func visitState(_ visitor: inout StateVisitor) { state.visit(&visitor) }

    package func reset() {
        state.configuration.reset()
        resetCard()
    }

    /// The card's own reset (CTRL.RST): all but PCI's registers. The cable stays as it is.
    private func resetCard() {
        for timer in 0...Self.delayTimer { scheduler.cancel(self, timer: timer) }
        var new = State(address)
        new.configuration = state.configuration
        new.wire = state.wire
        new.wire.empty()
        state = new
        // What the card loads from its EEPROM: full duplex, 1000 Mb/s; its address.
        set(Register.control, 0x0000_0201)
        set(Register.packetBuffer, 0x0010_0030)
        let bytes = address.bytes.map(UInt32.init)
        set(Register.addresses, bytes[0] | bytes[1] << 8 | bytes[2] << 16 | bytes[3] << 24)
        set(Register.addresses + 4, bytes[4] | bytes[5] << 8 | 1 << 31)
        updatePin()
    }

    package func configurationWritten(_ offset: Int, width: Int) { updatePin() }

    package func timerFired(_ timer: Int) {
        switch timer {
        case Self.pinTimer: updatePin()
        case Self.delayTimer: finishDelays()
        default:
            state.isTransmitting = false
            transmit()
        }
    }

    // MARK: Interrupts

    private func raise(_ cause: UInt32) {
        set(Register.cause, word(Register.cause) | cause)
        updatePin()
    }
    private func updatePin() {
        let wants = word(Register.cause) & word(Register.mask) != 0 && configuration.allowsInterruptPin
        let later = state.moderation.update(wants: wants, now: scheduler.now, interval: word(Register.interval))
        if let later { scheduler.schedule(self, timer: Self.pinTimer, at: later) }
        irq.set(state.moderation.isAsserted)
    }

    private func scheduleDelays() {
        let deadline = min(state.moderation.received.deadline, state.moderation.transmitted.deadline)
        if deadline != .max { scheduler.schedule(self, timer: Self.delayTimer, at: deadline) }
    }
    private func finishDelays() {
        var causes: UInt32 = 0
        if state.moderation.received.deadline <= scheduler.now {
            state.moderation.received.clear()
            causes |= Cause.received
        }
        if state.moderation.transmitted.deadline <= scheduler.now {
            state.moderation.transmitted.clear()
            causes |= Cause.transmitted
        }
        scheduleDelays()
        if causes != 0 { raise(causes) }
    }

    // MARK: Registers: of 32 bits; a narrower access reads its part, and writes it with the rest as it was

    private func word(_ offset: Int) -> UInt32 { state.registers[offset / 4] }
    private func set(_ offset: Int, _ value: UInt32) { state.registers[offset / 4] = value }

    package func read(region: Int, offset: UInt64, width: Int) -> UInt64 {
        if region == 1 {
            let value = offset & ~3 == 4 ? readRegister(Int(state.window & ~3)) : offset & ~3 == 0 ? state.window : 0
            return ByteLanes.read(offset, width) { UInt8(truncatingIfNeeded: value >> UInt32(($0 & 3) * 8)) }
        }
        let low = readRegister(Int(offset & ~3))
        let high = width + Int(offset & 3) > 4 ? readRegister(Int(offset & ~3) + 4) : 0
        let both = UInt64(high) << 32 | UInt64(low)
        return both >> ((offset & 3) * 8) & (width >= 8 ? .max : UInt64(1) << UInt64(width * 8) - 1)
    }

    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {
        if region == 1 {
            if offset == 0, width == 4 { state.window = UInt32(truncatingIfNeeded: value) }
            if offset == 4, width == 4 { writeRegister(Int(state.window & ~3), UInt32(truncatingIfNeeded: value)) }
            return
        }
        // The card takes aligned words; a driver that does otherwise reaches the words one after the other.
        if offset & 3 == 0, width >= 4 {
            writeRegister(Int(offset), UInt32(truncatingIfNeeded: value))
            if width == 8 { writeRegister(Int(offset) + 4, UInt32(truncatingIfNeeded: value >> 32)) }
        }
    }

    private func readRegister(_ offset: Int) -> UInt32 {
        switch offset {
        // 1000 Mb/s, full duplex; bit 1: the link is up.
        case Register.status: return 0x81 | (isLinkUp ? 2 : 0)
        case Register.eepromControl: return state.eeprom.control
        case Register.cause:
            let cause = word(Register.cause)
            set(Register.cause, 0)
            updatePin()
            return cause
        case Register.causeSet, Register.maskClear: return 0
        default:
            if let index = Register.statistics.firstIndex(of: offset) {
                let value = UInt32(truncatingIfNeeded: state.statistics[index])
                if index != 2, index != 3 { state.statistics[index] = 0 }
                return value
            }
            if let index = Register.statistics.firstIndex(of: offset - 4), index == 2 || index == 3 {
                defer { state.statistics[index] = 0 }
                return UInt32(truncatingIfNeeded: state.statistics[index] >> 32)
            }
            return offset / 4 < Self.registerCount ? word(offset) : 0
        }
    }

    private func writeRegister(_ offset: Int, _ value: UInt32) {
        guard offset >= 0, offset / 4 < Self.registerCount else { return }
        switch offset {
        case Register.control, Register.control + 4:
            if value & 1 << 26 != 0 { return resetCard() }
            if value & 1 << 31 != 0 { state.phy = E1000PHY() }
            set(Register.control, value & ~(1 << 31))
        case Register.status: break
        case Register.eepromControl: state.eeprom.write(value)
        case Register.eepromRead: set(offset, state.eeprom.read(value))
        case Register.phy: set(offset, state.phy.access(value, isLinkUp: isLinkUp))
        case Register.cause:
            set(offset, word(offset) & ~value)
            updatePin()
        case Register.causeSet: raise(value)
        case Register.interval:
            set(offset, value & 0xFFFF)
            updatePin()
        case Register.receiveDelay, Register.transmitDelay:
            set(offset, value & 0xFFFF)
            // FPD: what waits is told of now.
            if value & 1 << 31 != 0 {
                if offset == Register.receiveDelay { state.moderation.received.flush(scheduler.now) }
                if offset == Register.transmitDelay { state.moderation.transmitted.flush(scheduler.now) }
                finishDelays()
            }
        case Register.mask:
            set(offset, word(offset) | value)
            updatePin()
        case Register.maskClear:
            set(Register.mask, word(Register.mask) & ~value)
            updatePin()
        case Register.receiveControl, Register.receiveRing + 0x18:
            set(offset, offset == Register.receiveControl ? value : value & 0xFFFF)
            fillBuffers()
        case Register.transmitControl, Register.transmitRing + 0x18:
            set(offset, offset == Register.transmitControl ? value : value & 0xFFFF)
            scheduleTransmission(Self.transmitDelay)
        case Register.receiveRing + 0x10, Register.transmitRing + 0x10: set(offset, value & 0xFFFF)
        case Register.receiveRing + 8, Register.transmitRing + 8: set(offset, value & 0xF_FF80)
        case Register.receiveRing, Register.transmitRing: set(offset, value & ~15)
        default: set(offset, value)
        }
    }

    // MARK: Rings of descriptors, of 16 bytes each

    /// The address of the descriptor at the head, unless head and tail are one, or the ring has no place.
    private func head(_ ring: Int) -> UInt64? {
        let count = word(ring + 8) / 16
        if word(ring + 0x10) >= count { set(ring + 0x10, 0) }
        let head = word(ring + 0x10)
        guard configuration.isBusMaster, count > 0, head != word(ring + 0x18) else { return nil }
        return (UInt64(word(ring + 4)) << 32 | UInt64(word(ring))) &+ UInt64(head) * 16
    }
    private func advance(_ ring: Int) {
        let next = word(ring + 0x10) + 1
        set(ring + 0x10, next >= word(ring + 8) / 16 ? 0 : next)
    }
    private func descriptor(_ address: UInt64) -> (UInt64, UInt64) {
        var raw: (UInt64, UInt64) = (0, 0)
        withUnsafeMutableBytes(of: &raw) { memory.read(address, into: $0) }
        return (UInt64(littleEndian: raw.0), UInt64(littleEndian: raw.1))
    }

    private func scheduleTransmission(_ delay: VirtualTime) {
        if state.isTransmitting || word(Register.transmitControl) & 2 == 0 { return }
        if word(Register.transmitRing + 0x10) == word(Register.transmitRing + 0x18) { return }
        state.isTransmitting = true
        scheduler.schedule(self, timer: Self.transmitTimer, at: scheduler.now &+ delay)
    }

    private func transmit() {
        guard word(Register.transmitControl) & 2 != 0 else { return }
        var causes: UInt32 = 0
        var bytes = 0
        let isTagging = word(Register.control) & 1 << 30 != 0
        for _ in 0..<Self.mostAtOnce where bytes < Self.mostBytesAtOnce {
            guard let place = head(Register.transmitRing) else {
                if causes != 0 { raise(causes | Cause.queueEmpty) }
                return
            }
            let (address, second) = descriptor(place)
            let type = isTagging ? UInt16(truncatingIfNeeded: word(Register.tagType)) : nil
            for frame in state.sender.take(address, second, memory, tagType: type) where state.wire.canSend(frame.count) {
                bytes += frame.count
                state.statistics[1] &+= 1
                state.statistics[5] &+= 1
                state.statistics[3] &+= UInt64(frame.count + 4)
                channel.send(frame)
            }
            // RS: the driver wants to see that it is done.
            if second >> 27 & 1 != 0 {
                var status = UInt8(truncatingIfNeeded: second >> 32) | 1
                withUnsafeBytes(of: &status) { memory.write(place &+ 12, from: $0) }
                // IDE: it is told of later.
                let delay = word(Register.transmitDelay)
                if second >> 31 & 1 != 0, delay != 0 {
                    state.moderation.transmitted.happened(scheduler.now, units: delay, most: word(Register.transmitLimit))
                    scheduleDelays()
                } else {
                    causes |= Cause.transmitted
                }
            }
            causes |= Cause.queueEmpty
            advance(Register.transmitRing)
        }
        if causes != 0 { raise(causes & ~Cause.queueEmpty) }
        scheduleTransmission(10_000)
    }

    // MARK: Receiving

    package func receive(_ bytes: [UInt8]) {
        switch state.wire.receive(bytes) {
        case .frame: fillBuffers()
        case .link: raise(Cause.link)
        case .nothing: break
        }
    }

    /// RCTL: the bytes of a receive buffer.
    private var bufferSize: Int {
        let control = word(Register.receiveControl)
        let size = 2048 >> Int(control >> 16 & 3)
        return control >> 25 & 1 != 0 && control >> 16 & 3 != 0 ? size * 16 : size
    }

    /// Gives waiting frames to the driver, as far as it has given buffers.
    private func fillBuffers() {
        guard word(Register.receiveControl) & 2 != 0 else { return }
        var hasReceived = false
        while let frame = state.wire.waiting.first {
            if !accepts(frame) {
                _ = state.wire.next()
                continue
            }
            // A real frame has 60 bytes at least, and its check sequence unless RCTL.SECRC takes it away.
            let packet = E1000Received(
                EthernetCheck.packet(frame, hasSequence: word(Register.receiveControl) >> 26 & 1 == 0),
                type: UInt16(truncatingIfNeeded: word(Register.tagType)), takesTag: word(Register.control) & 1 << 30 != 0,
                control: word(Register.checksums))
            let bytes = packet.bytes
            let size = bufferSize
            let count = word(Register.receiveRing + 8) / 16
            let (head, tail) = (word(Register.receiveRing + 0x10), word(Register.receiveRing + 0x18))
            let free = count == 0 ? 0 : (tail &+ count &- head) % count
            guard Int(free) * size >= bytes.count else { break }
            _ = state.wire.next()
            for start in stride(from: 0, to: bytes.count, by: size) {
                guard let place = self.head(Register.receiveRing) else { break }
                let count = min(size, bytes.count - start)
                let buffer = descriptor(place).0
                bytes.withUnsafeBytes { memory.write(buffer, from: UnsafeRawBufferPointer(rebasing: $0[start..<start + count])) }
                // Length, checksum; done, end of packet, what was found out; errors, and the tag.
                let isLast = start + size >= bytes.count
                let status = 1 | (isLast ? 2 | UInt64(packet.status) | UInt64(packet.errors) << 8 | UInt64(packet.tag) << 16 : 0)
                let second = (UInt64(count) | (start == 0 ? UInt64(packet.checksum) << 16 : 0) | status << 32).littleEndian
                withUnsafeBytes(of: second) { memory.write(place &+ 8, from: $0) }
                advance(Register.receiveRing)
            }
            state.statistics[0] &+= 1
            state.statistics[4] &+= 1
            state.statistics[2] &+= UInt64(max(frame.count, 60) + 4)
            hasReceived = true
        }
        guard hasReceived else { return }
        let delay = word(Register.receiveDelay)
        if delay == 0 { return raise(Cause.received | fewBuffers) }
        state.moderation.received.happened(scheduler.now, units: delay, most: word(Register.receiveLimit))
        scheduleDelays()
        if fewBuffers != 0 { raise(fewBuffers) }
    }

    /// RCTL.RDMTS: a half, a quarter or an eighth of the buffers are left, or fewer.
    private var fewBuffers: UInt32 {
        let count = word(Register.receiveRing + 8) / 16
        if count == 0 { return 0 }
        let free = (word(Register.receiveRing + 0x18) &+ count &- word(Register.receiveRing + 0x10)) % count
        return free <= count >> (1 + min(word(Register.receiveControl) >> 8 & 3, 2)) ? Cause.fewBuffers : 0
    }

    /// The card's filters (14.5: receive addresses, multicast table; 9.3: VLANs).
    private func accepts(_ frame: [UInt8]) -> Bool { acceptsAddress(frame) && acceptsTag(frame) }

    private func acceptsTag(_ frame: [UInt8]) -> Bool {
        let control = word(Register.receiveControl)
        let type = UInt32(frame[12]) << 8 | UInt32(frame[13])
        guard control & 1 << 18 != 0, type == word(Register.tagType) & 0xFFFF, frame.count >= 16 else { return true }
        let tag = UInt32(frame[14]) << 8 | UInt32(frame[15])
        if control & 1 << 19 != 0, tag >> 12 & 1 != control >> 20 & 1 { return false }
        return word(Register.tagFilter + Int(tag >> 5 & 127) * 4) >> (tag & 31) & 1 != 0
    }

    private func acceptsAddress(_ frame: [UInt8]) -> Bool {
        let control = word(Register.receiveControl)
        if frame[0] & 1 == 0 {
            if control & 8 != 0 { return true }
        } else {
            if control & 0x10 != 0 { return true }
            if frame.prefix(6).allSatisfy({ $0 == 0xFF }) { return control & 0x8000 != 0 }
            let shift = [4, 3, 2, 0][Int(control >> 12 & 3)]
            let hash = (Int(frame[5]) << 8 | Int(frame[4])) >> shift & 0xFFF
            if word(Register.multicast + (hash >> 5) * 4) >> UInt32(hash & 31) & 1 != 0 { return true }
        }
        let low = (0..<4).reduce(UInt32(0)) { $0 | UInt32(frame[$1]) << UInt32($1 * 8) }
        let high = UInt32(frame[4]) | UInt32(frame[5]) << 8
        return (0..<16).contains { index in
            let place = Register.addresses + index * 8
            return word(place) == low && word(place + 4) & 0x8000_FFFF == 1 << 31 | high
        }
    }
}
