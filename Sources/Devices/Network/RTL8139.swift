import DeviceBus
import MachineState

/// Realtek's RTL8139C 100 megabit network card (datasheet RTL8139C(L) 1.4), with its EEPROM and internal PHY: a ring of bytes for
/// what comes in, four descriptors for what goes out.
///
/// Not there: wake-up, the timer interrupt, early interrupts, flash memory.
package final class RTL8139: PCIFunction, NetworkCard {
    /// Everything the guest can observe.
    package struct State {
        package var configuration = RTL8139.makeConfiguration()
        package var wire = NetworkWire()
        package var eeprom: E1000EEPROM
        /// IDR0...5: the address in use.
        package var address: [UInt8]
        /// MAR0...7: the multicast filter.
        package var multicast = [UInt8](repeating: 0, count: 8)
        package var transmitStatus = [UInt32](repeating: RTL8139.TransmitBit.own, count: 4)
        package var transmitAddress = [UInt32](repeating: 0, count: 4)
        /// The descriptor that is sent next.
        package var nextTransmit: UInt8 = 0
        package var isTransmitting = false
        package var receiveStart: UInt32 = 0
        /// CR: transmitter and receiver on.
        package var command: UInt8 = 0
        /// CAPR and CBR: where the driver reads, less 16, and where the next frame goes.
        package var readPointer: UInt16 = 0xFFF0
        package var writePointer: UInt16 = 0
        package var interruptMask: UInt16 = 0
        package var interruptStatus: UInt16 = 0
        package var transmitControl: UInt32 = 0x0300_0700
        package var receiveControl: UInt32 = 0
        package var missed: UInt32 = 0
        package var eepromControl: UInt8 = 0
        /// CONFIG0...4, by offset from 0x51; those between are others.
        package var settings: [UInt8] = [0, 0x0C, 0, 0, 0, 0, 0, 0, 0, 0]
        /// BMCR and ANAR.
        package var phyControl: UInt16 = 0x3100
        package var advertisement: UInt16 = 0x01E1

        package init(_ address: EthernetAddress) {
            self.address = address.bytes
            eeprom = E1000EEPROM(words: RTL8139.eepromWords(address))
        }

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.group("configuration") { configuration.visit(&$0) }
            visitor.group("wire") { wire.visit(&$0) }
            visitor.group("eeprom") { eeprom.visit(&$0) }
            visitor.field("address", &address)
            visitor.field("multicast", &multicast)
            visitor.field("transmitStatus", &transmitStatus)
            visitor.field("transmitAddress", &transmitAddress)
            visitor.field("nextTransmit", &nextTransmit)
            visitor.field("isTransmitting", &isTransmitting)
            visitor.field("receiveStart", &receiveStart)
            visitor.field("command", &command)
            visitor.field("readPointer", &readPointer)
            visitor.field("writePointer", &writePointer)
            visitor.field("interruptMask", &interruptMask)
            visitor.field("interruptStatus", &interruptStatus)
            visitor.field("transmitControl", &transmitControl)
            visitor.field("receiveControl", &receiveControl)
            visitor.field("missed", &missed)
            visitor.field("eepromControl", &eepromControl)
            visitor.field("settings", &settings)
            visitor.field("phyControl", &phyControl)
            visitor.field("advertisement", &advertisement)
            if visitor.mode == .load,
                address.count != 6 || multicast.count != 8 || transmitStatus.count != 4 || transmitAddress.count != 4 || settings.count != 10
            {
                visitor.fail("registers of another size")
                self = State(EthernetAddress(card: 0))
            }
        }
    }

    enum TransmitBit {
        static let own: UInt32 = 1 << 13
        static let done: UInt32 = 1 << 15
    }
    private enum Cause {
        static let received: UInt16 = 1
        static let transmitted: UInt16 = 1 << 2
        static let overflow: UInt16 = 1 << 4
        static let link: UInt16 = 1 << 5
    }
    private enum CommandBit {
        static let empty: UInt8 = 1
        static let transmitter: UInt8 = 1 << 2
        static let receiver: UInt8 = 1 << 3
        static let reset: UInt8 = 1 << 4
    }
    /// A frame of 100 Mb/s takes 80 ns a byte; less here, so that the card is no brake. And what it takes to begin.
    private static let nanosecondsPerByte: VirtualTime = 8
    private static let transmitDelay: VirtualTime = 2_000

    package let name: String
    private static let registerNames = [
        (0x00, "IDR0", 6), (0x08, "MAR0", 8), (0x10, "TSD0", 4), (0x14, "TSD1", 4), (0x18, "TSD2", 4), (0x1C, "TSD3", 4), (0x20, "TSAD0", 4),
        (0x24, "TSAD1", 4), (0x28, "TSAD2", 4), (0x2C, "TSAD3", 4), (0x30, "RBSTART", 4), (0x37, "CR", 1), (0x38, "CAPR", 2),
        (0x3A, "CBR", 2), (0x3C, "IMR", 2), (0x3E, "ISR", 2), (0x40, "TCR", 4), (0x44, "RCR", 4), (0x4C, "MPC", 4), (0x50, "9346CR", 1),
        (0x51, "CONFIG0", 1), (0x52, "CONFIG1", 1), (0x58, "MSR", 1), (0x59, "CONFIG3", 1), (0x60, "TSAD", 2), (0x62, "BMCR", 2),
        (0x64, "BMSR", 2), (0x66, "ANAR", 2), (0x68, "ANLPAR", 2),
    ].map { RegisterName(UInt64($0.0), $0.1, length: UInt64($0.2)) }
    package var regions: [Region] {
        [configuration.region(0, registers: Self.registerNames), configuration.region(1, registers: Self.registerNames)]
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
        name: String, address: EthernetAddress, irq: IRQLine, memory: any DMAPort, scheduler: Scheduler, channel: any HostChannel
    ) {
        self.name = name
        self.address = address
        self.irq = irq
        self.memory = memory
        self.scheduler = scheduler
        self.channel = channel
        state = State(address)
    }

    private static func makeConfiguration() -> PCIConfiguration {
        // Revision 0x10: an RTL8139, not one of the newer 8139C+, which has another interface besides.
        var configuration = PCIConfiguration(
            vendor: 0x10EC, device: 0x8139, revision: 0x10, classCode: 0x020000, subsystemVendor: 0x10EC, subsystem: 0x8139,
            interruptPin: 1)
        configuration.setBaseAddress(0, .port, size: 256, region: 0)
        configuration.setBaseAddress(1, .memory, size: 256, region: 1)
        return configuration
    }

    /// The identifier, vendor and device, and the address in words 7 to 9 (datasheet, 6).
    private static func eepromWords(_ address: EthernetAddress) -> [UInt16] {
        var words = [UInt16](repeating: 0, count: 64)
        for (index, word) in [0x8129, 0x10EC, 0x8139, 0x10EC, 0x8139].enumerated() { words[index] = UInt16(word) }
        for index in 0..<3 { words[7 + index] = UInt16(address.bytes[index * 2]) | UInt16(address.bytes[index * 2 + 1]) << 8 }
        return words
    }

    package var isLinkUp: Bool { state.wire.isLinkUp }

    // MARK: Device

    package func visitState(_ visitor: inout StateVisitor) { state.visit(&visitor) }

    package func reset() {
        state.configuration.reset()
        let wire = state.wire
        let configuration = state.configuration
        state = State(address)
        (state.wire, state.configuration) = (wire, configuration)
        state.wire.empty()
        scheduler.cancel(self, timer: 0)
        updatePin()
    }

    /// CR's reset: rings, interrupts and what is on its way, but not the address or the PHY.
    private func resetCard() {
        scheduler.cancel(self, timer: 0)
        let old = state
        state = State(address)
        state.configuration = old.configuration
        state.wire = old.wire
        state.wire.empty()
        state.eeprom = old.eeprom
        (state.address, state.multicast) = (old.address, old.multicast)
        (state.settings, state.eepromControl) = (old.settings, old.eepromControl)
        (state.phyControl, state.advertisement) = (old.phyControl, old.advertisement)
        updatePin()
    }

    package func configurationWritten(_ offset: Int, width: Int) { updatePin() }
    package func timerFired(_ timer: Int) { transmit() }

    private func raise(_ cause: UInt16) {
        state.interruptStatus |= cause
        updatePin()
    }
    private func updatePin() {
        irq.set(state.interruptStatus & state.interruptMask != 0 && configuration.allowsInterruptPin)
    }

    // MARK: Registers: each is read by bytes; a write of a register's whole width is what counts

    package func read(region: Int, offset: UInt64, width: Int) -> UInt64 {
        ByteLanes.read(offset, width) { place in
            let (value, start) = register(Int(place))
            return UInt8(truncatingIfNeeded: value >> UInt32((Int(place) - start) * 8))
        }
    }

    /// The register that has a byte, and where it begins.
    private func register(_ offset: Int) -> (UInt32, Int) {
        switch offset {
        case 0x00...0x05: return (UInt32(state.address[offset]), offset)
        case 0x08...0x0F: return (UInt32(state.multicast[offset - 8]), offset)
        case 0x10...0x1F: return (state.transmitStatus[(offset - 0x10) / 4], offset & ~3)
        case 0x20...0x2F: return (state.transmitAddress[(offset - 0x20) / 4], offset & ~3)
        case 0x30...0x33: return (state.receiveStart, 0x30)
        case 0x37: return (UInt32(state.command | (isBufferEmpty ? CommandBit.empty : 0)), offset)
        case 0x38...0x39: return (UInt32(state.readPointer), 0x38)
        case 0x3A...0x3B: return (UInt32(state.writePointer), 0x3A)
        case 0x3C...0x3D: return (UInt32(state.interruptMask), 0x3C)
        case 0x3E...0x3F: return (UInt32(state.interruptStatus), 0x3E)
        // The version: an RTL8139C.
        case 0x40...0x43: return (state.transmitControl & ~0x7CC0_0000 | 0x7400_0000, 0x40)
        case 0x44...0x47: return (state.receiveControl, 0x44)
        // A counter of the PCI clock.
        case 0x48...0x4B: return (UInt32(truncatingIfNeeded: scheduler.now / 30), 0x48)
        case 0x4C...0x4F: return (state.missed, 0x4C)
        case 0x50: return (UInt32(state.eepromControl & 0xCE | (state.eeprom.control & 8 != 0 ? 1 : 0)), offset)
        // The link is told upside down.
        case 0x58: return (isLinkUp ? 0x10 : 0x14, offset)
        case 0x51...0x5A: return (UInt32(state.settings[offset - 0x51]), offset)
        case 0x60...0x61: return (transmitSummary, 0x60)
        case 0x62...0x63: return (UInt32(state.phyControl), 0x62)
        case 0x64...0x65: return (0x7809 | (isLinkUp ? 0x24 : 0), 0x64)
        case 0x66...0x67: return (UInt32(state.advertisement), 0x66)
        case 0x68...0x69: return (isLinkUp ? 0x45E1 : 0, 0x68)
        case 0x6A...0x6B: return (isLinkUp ? 1 : 0, 0x6A)
        default: return (0, offset)
        }
    }

    /// TSAD: owner and done of all four descriptors.
    private var transmitSummary: UInt32 {
        state.transmitStatus.enumerated().reduce(0) { sum, entry in
            sum | (entry.element & TransmitBit.own != 0 ? 1 << UInt32(entry.offset) : 0)
                | (entry.element & TransmitBit.done != 0 ? 0x1000 << UInt32(entry.offset) : 0)
        }
    }

    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {
        // Registers of 32 bits first; what is left is written in halves, down to bytes.
        let place = Int(offset)
        let isWord = (0x10...0x33).contains(place) || (0x40...0x4F).contains(place)
        if isWord, width == 4, place & 3 == 0 { return writeWord(place, UInt32(truncatingIfNeeded: value)) }
        let isHalf = (0x38...0x3F).contains(place) || (0x60...0x6B).contains(place)
        if isHalf, width == 2, place & 1 == 0 { return writeHalf(place, UInt16(truncatingIfNeeded: value)) }
        if width == 1 { return writeByte(place, UInt8(truncatingIfNeeded: value)) }
        let half = width / 2
        write(region: region, offset: offset, width: half, value: value & (1 << UInt64(half * 8) - 1))
        write(region: region, offset: offset + UInt64(half), width: half, value: value >> UInt64(half * 8))
    }

    private func writeWord(_ place: Int, _ value: UInt32) {
        switch place {
        case 0x10...0x1C:
            // The driver gives a buffer away by clearing OWN.
            state.transmitStatus[(place - 0x10) / 4] = value & 0x003F_3FFF
            scheduleTransmission(Self.transmitDelay)
        case 0x20...0x2C: state.transmitAddress[(place - 0x20) / 4] = value
        case 0x30:
            state.receiveStart = value
            (state.writePointer, state.readPointer) = (0, 0xFFF0)
        case 0x40: state.transmitControl = value
        case 0x44:
            state.receiveControl = value
            fillBuffer()
        case 0x4C: state.missed = 0
        default: break
        }
    }

    private func writeHalf(_ place: Int, _ value: UInt16) {
        switch place {
        case 0x38:
            state.readPointer = value
            fillBuffer()
        case 0x3C: state.interruptMask = value
        case 0x3E: state.interruptStatus &= ~value
        // A reset and a restart of negotiation are over at once.
        case 0x62: state.phyControl = value & ~0x8200
        case 0x66: state.advertisement = value
        default: break
        }
        updatePin()
    }

    private func writeByte(_ place: Int, _ value: UInt8) {
        // The address and the settings can be changed while 9346CR says so.
        let isOpen = state.eepromControl >> 6 == 3
        switch place {
        case 0x00...0x05: if isOpen { state.address[place] = value }
        case 0x08...0x0F: state.multicast[place - 8] = value
        case 0x37:
            if value & CommandBit.reset != 0 { return resetCard() }
            state.command = value & (CommandBit.transmitter | CommandBit.receiver)
            scheduleTransmission(Self.transmitDelay)
            fillBuffer()
        case 0x50:
            state.eepromControl = value & 0xCE
            // Data in, clock, select, as the EEPROM's own wires.
            let isProgramming = value >> 6 == 2
            let wires: UInt32 = (value & 4 != 0 ? 1 : 0) | (value & 8 != 0 ? 2 : 0) | (value & 2 != 0 ? 4 : 0)
            state.eeprom.write(isProgramming ? wires : 0)
        case 0x51...0x5A where place != 0x58: if isOpen { state.settings[place - 0x51] = value }
        default: break
        }
    }

    // MARK: Sending

    private func scheduleTransmission(_ delay: VirtualTime) {
        guard !state.isTransmitting, state.command & CommandBit.transmitter != 0,
            state.transmitStatus[Int(state.nextTransmit & 3)] & TransmitBit.own == 0
        else { return }
        state.isTransmitting = true
        scheduler.schedule(self, timer: 0, at: scheduler.now &+ delay)
    }

    /// Sends one frame.
    private func transmit() {
        state.isTransmitting = false
        let index = Int(state.nextTransmit & 3)
        guard state.command & CommandBit.transmitter != 0, state.transmitStatus[index] & TransmitBit.own == 0 else { return }
        // Without the right to read memory it waits for better times.
        guard configuration.isBusMaster else { return }
        let count = Int(state.transmitStatus[index] & 0x1FFF)
        var frame = [UInt8](repeating: 0, count: count)
        frame.withUnsafeMutableBytes { memory.read(UInt64(state.transmitAddress[index]), into: $0) }
        // Loopback: what goes out comes in.
        if state.transmitControl >> 17 & 3 == 3 {
            if case .frame = state.wire.receive(frame) { fillBuffer() }
        } else if state.wire.canSend(count) {
            channel.send(frame)
        }
        state.transmitStatus[index] |= TransmitBit.own | TransmitBit.done
        state.nextTransmit = UInt8((index + 1) & 3)
        raise(Cause.transmitted)
        scheduleTransmission(Self.transmitDelay &+ UInt64(count) &* Self.nanosecondsPerByte)
    }

    // MARK: Receiving

    package func receive(_ bytes: [UInt8]) {
        switch state.wire.receive(bytes) {
        case .frame: fillBuffer()
        case .link: raise(Cause.link)
        case .nothing: break
        }
    }

    private var bufferSize: Int { 8192 << Int(state.receiveControl >> 11 & 3) }
    /// Where the driver reads.
    private var readPlace: Int { (Int(state.readPointer) + 16) % bufferSize }
    private var isBufferEmpty: Bool { Int(state.writePointer) % bufferSize == readPlace }

    /// Puts frames that wait into the ring, as long as there is room.
    private func fillBuffer() {
        guard state.command & CommandBit.receiver != 0, configuration.isBusMaster else { return }
        var hasReceived = false
        while let frame = state.wire.waiting.first {
            guard let kind = accepted(frame) else {
                _ = state.wire.next()
                continue
            }
            let size = bufferSize
            let write = Int(state.writePointer) % size
            let length = max(frame.count, 60) + 4
            // A header of four bytes, and the next frame begins at a word.
            let needed = (length + 4 + 3) & ~3
            let free = isBufferEmpty ? size : (size + readPlace - write) % size
            if free <= needed {
                raise(Cause.overflow)
                break
            }
            _ = state.wire.next()
            // Its status and length.
            put(EthernetCheck.packet(frame, header: UInt32(1 | kind) | UInt32(length) << 16), at: write)
            state.writePointer = UInt16(truncatingIfNeeded: (write + needed) % size)
            hasReceived = true
        }
        if hasReceived { raise(Cause.received) }
    }

    /// Into the ring; at its end a packet goes on behind it (WRAP), or at the start.
    private func put(_ bytes: [UInt8], at write: Int) {
        let base = UInt64(state.receiveStart)
        let room = bufferSize - write
        let first = state.receiveControl & 0x80 != 0 ? bytes.count : min(room, bytes.count)
        bytes.withUnsafeBytes { buffer in
            memory.write(base &+ UInt64(write), from: UnsafeRawBufferPointer(rebasing: buffer[..<first]))
            if first < bytes.count { memory.write(base, from: UnsafeRawBufferPointer(rebasing: buffer[first...])) }
        }
    }

    /// The card's filters: the bit of the header's status that says why a frame comes in; nil: it does not.
    private func accepted(_ frame: [UInt8]) -> UInt16? {
        let control = state.receiveControl
        if frame[0] & 1 == 0 {
            if frame[..<6].elementsEqual(state.address) { return control & 3 != 0 ? 1 << 14 : nil }
            return control & 1 != 0 ? 0 : nil
        }
        if frame[..<6].allSatisfy({ $0 == 0xFF }) { return control & 9 != 0 ? 1 << 13 : nil }
        // The hash: the six highest bits of the address's CRC.
        let crc = EthernetCheck.crc(frame[..<6])
        let index = Int(crc >> 26)
        let isWanted = control & 4 != 0 && state.multicast[index / 8] >> UInt8(index & 7) & 1 != 0
        return isWanted || control & 1 != 0 ? 1 << 15 : nil
    }
}
