import DeviceBus
import MachineState

/// Intel's 82540EM gigabit network card (PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual,
/// 317453), with its EEPROM and its PHY. It computes checksums and splits segments for the driver when it sends.
///
/// Not there: VLAN tags put in and taken out by the card, checksums of what comes in (drivers are told that nobody has
/// looked), wake-up, flow control, the delay of interrupts, statistics other than packets and bytes.
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

    /// Offsets in the memory region.
    private enum Register {
        static let control = 0x0000
        static let status = 0x0008
        static let eepromControl = 0x0010
        static let eepromRead = 0x0014
        static let phy = 0x0020
        static let cause = 0x00C0
        static let causeSet = 0x00C8
        static let mask = 0x00D0
        static let maskClear = 0x00D8
        static let receiveControl = 0x0100
        static let transmitControl = 0x0400
        static let packetBuffer = 0x1000
        /// Base low and high, length, head, tail at 0, 4, 8, 0x10, 0x18.
        static let receiveRing = 0x2800
        static let transmitRing = 0x3800
        static let multicast = 0x5200
        static let addresses = 0x5400
        /// Good packets in and out, bytes in and out (two words each, of which the high one clears), all packets.
        static let statistics = [0x4074, 0x4080, 0x4088, 0x4090, 0x40D0, 0x40D4]
    }
    private enum Cause {
        static let transmitted: UInt32 = 1 << 0
        static let queueEmpty: UInt32 = 1 << 1
        static let link: UInt32 = 1 << 2
        static let received: UInt32 = 1 << 7
    }
    static let registerCount = 0x5C00 / 4
    private static let memorySize: UInt32 = 0x20000
    private static let portCount: UInt32 = 64
    /// From a new tail to the first frame on the cable, ns.
    private static let transmitDelay: VirtualTime = 2_000
    private static let transmitTimer = 0
    /// The most descriptors that are carried out at once.
    private static let mostAtOnce = 256
    /// The most bytes that go out at once, but for a packet's last segments.
    private static let mostBytesAtOnce = 1 << 18

    package let name: String
    /// Bits of registers (8254x manual, 13.4).
    private static let fields: [String: String] = {
        let interrupts = "TXDW TXQE LSC RXSEQ RXDMT0 - RXO RXT0 - MDAC"
        return [
            "CTRL": "FD - PRIOR LRST - ASDE SLU ILOS SPEED:2=10/100/1000 - FRCSPD FRCDPX -:13 RST RFCE TFCE - VME PHYRST",
            "STATUS": "FD LU FUNCTION:2 TXOFF TBI SPEED:2=10/100/1000",
            "EECD": "SK CS DI DO FWE:2 REQ GNT PRES", "EERD": "START -:3 DONE -:3 ADDRESS:8 DATA:16",
            "MDIC": "DATA:16 REGISTER:5 PHY:5 OP:2=0/write/read R I E",
            "ICR": interrupts, "ICS": interrupts, "IMS": interrupts, "IMC": interrupts,
            "RCTL": "- EN SBP UPE MPE LPE LBM:2 RDMTS:2 -:2 MO:2 - BAM BSIZE:2 VFE CFIEN CFI - DPF PMCF - BSEX SECRC",
            "TCTL": "- EN - PSP CT:8 COLD:10 SWXOFF - RTLC",
        ]
    }()
    private static let registerNames = [
        (0x00, "CTRL"), (0x08, "STATUS"), (0x10, "EECD"), (0x14, "EERD"), (0x20, "MDIC"), (0xC0, "ICR"), (0xC4, "ITR"),
        (0xC8, "ICS"), (0xD0, "IMS"), (0xD8, "IMC"), (0x100, "RCTL"), (0x400, "TCTL"), (0x1000, "PBA"), (0x2800, "RDBAL"),
        (0x2804, "RDBAH"), (0x2808, "RDLEN"), (0x2810, "RDH"), (0x2818, "RDT"), (0x3800, "TDBAL"), (0x3804, "TDBAH"),
        (0x3808, "TDLEN"), (0x3810, "TDH"), (0x3818, "TDT"),
    ].map { RegisterName(UInt64($0.0), $0.1, length: 4, fields: fields[$0.1] ?? "", contents: $0.1.contains("DBA") ? .address : .value) }
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
        scheduler.cancel(self, timer: Self.transmitTimer)
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
        state.isTransmitting = false
        transmit()
    }

    // MARK: Interrupts

    private func raise(_ cause: UInt32) {
        set(Register.cause, word(Register.cause) | cause)
        updatePin()
    }
    private func updatePin() {
        irq.set(word(Register.cause) & word(Register.mask) != 0 && configuration.allowsInterruptPin)
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
        for _ in 0..<Self.mostAtOnce where bytes < Self.mostBytesAtOnce {
            guard let place = head(Register.transmitRing) else {
                if causes != 0 { raise(causes | Cause.queueEmpty) }
                return
            }
            let (address, second) = descriptor(place)
            for frame in state.sender.take(address, second, memory) where state.wire.canSend(frame.count) {
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
                causes |= Cause.transmitted
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
            let bytes = EthernetCheck.packet(frame, hasSequence: word(Register.receiveControl) >> 26 & 1 == 0)
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
                // Length; done, end of packet, and that no checksum was looked at.
                let status: UInt64 = 1 | 4 | (start + size >= bytes.count ? 2 : 0)
                let second = (UInt64(count) | status << 32).littleEndian
                withUnsafeBytes(of: second) { memory.write(place &+ 8, from: $0) }
                advance(Register.receiveRing)
            }
            state.statistics[0] &+= 1
            state.statistics[4] &+= 1
            state.statistics[2] &+= UInt64(max(frame.count, 60) + 4)
            hasReceived = true
        }
        if hasReceived { raise(Cause.received) }
    }

    /// The card's filters (14.5: receive addresses, multicast table).
    private func accepts(_ frame: [UInt8]) -> Bool {
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
