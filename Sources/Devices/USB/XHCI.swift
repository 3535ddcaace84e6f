import DeviceBus
import MachineState

/// An xHCI host controller (eXtensible Host Controller Interface for USB 1.1): one interrupter, no streams, no hubs, no
/// scratchpad, 32-byte contexts. The first half of its ports is USB 2, the second half USB 3.
///
/// A transfer takes virtual time by the device's speed; endpoints are served in the order of their slots and numbers.
package final class XHCI: PCIFunction {
    static let capabilityLength = 0x40
    static let slotCount = 16
    private static let runtime = 0x1000
    private static let doorbells = 0x2000
    private static let memorySize: UInt32 = 0x4000
    private static let portRegisters = 0x440
    private static let message = MSI(at: 0x70)
    /// From a doorbell to the first look, ns.
    static let doorbellDelay: VirtualTime = 1_000
    enum Timer { static let endpoints = 0, commands = 1 }
    enum CommandBit {
        static let run: UInt32 = 1
        static let reset: UInt32 = 2
        static let interrupts: UInt32 = 4
    }
    enum StatusBit {
        static let halted: UInt32 = 1
        static let hostError: UInt32 = 4
        static let event: UInt32 = 8
        static let portChange: UInt32 = 16
    }
    /// Events that wait when the ring is full; more are lost, and the controller says that it has failed.
    private static let mostWaiting = 2 * 4096

    package let name: String
    package private(set) var devices: [(any USBDevice)?]
    package internal(set) var state: State
    package var configuration: PCIConfiguration {
        get { state.configuration }
        set { state.configuration = newValue }
    }
    private static let registers: [(UInt64, String)] = [
        (0x00, "CAPLENGTH"), (0x04, "HCSPARAMS1"), (0x08, "HCSPARAMS2"), (0x0C, "HCSPARAMS3"), (0x10, "HCCPARAMS1"), (0x14, "DBOFF"),
        (0x18, "RTSOFF"), (0x40, "USBCMD"), (0x44, "USBSTS"), (0x48, "PAGESIZE"), (0x54, "DNCTRL"), (0x58, "CRCR"), (0x70, "DCBAAP"),
        (0x78, "CONFIG"), (0x1000, "MFINDEX"), (0x1020, "IMAN"), (0x1024, "IMOD"), (0x1028, "ERSTSZ"), (0x1030, "ERSTBA"),
        (0x1038, "ERDP"),
    ]
    private static let registerNames = registers.map { offset, name in
        RegisterName(offset, name, length: ["CRCR", "DCBAAP", "ERSTBA", "ERDP"].contains(name) ? 8 : 4)
    }
    package var regions: [Region] { [configuration.region(0, registers: names)] }
    private let names: [RegisterName]
    private let irq: IRQLine
    private let messages: any MessageSink
    let memory: any DMAPort
    let scheduler: Scheduler
    /// Sees transfers, for captures.
    package var tap: USBTap?

    /// - Parameters:
    ///   - devices: at the ports; a device faster than high speed goes to a USB 3 port, n elements further.
    ///   - irq: the pin INTA of its slot.
    package init(
        name: String, devices: [any USBDevice], irq: IRQLine, messages: any MessageSink, memory: any DMAPort, scheduler: Scheduler
    ) {
        self.name = name
        self.irq = irq
        self.messages = messages
        self.memory = memory
        self.scheduler = scheduler
        let half = max(devices.count, 4)
        self.devices = devices + [(any USBDevice)?](repeating: nil, count: half * 2 - devices.count)
        let ports = (0..<half * 2).map { RegisterName(UInt64(Self.portRegisters + $0 * 16), "PORTSC\($0 + 1)", length: 4) }
        let bells = (0...Self.slotCount).map { RegisterName(UInt64(Self.doorbells + $0 * 4), "DOORBELL\($0)", length: 4) }
        names = (Self.registerNames + ports + bells).sorted { $0.offset < $1.offset }
        state = State(ports: half * 2, slots: Self.slotCount)
        for device in devices { device.port = self }
    }

    static func makeConfiguration() -> PCIConfiguration {
        var configuration = PCIConfiguration(
            vendor: 0x1B36, device: 0x000D, revision: 1, classCode: 0x0C0330, subsystemVendor: 0x1AF4, subsystem: 0x1100,
            interruptPin: 1)
        configuration.setBaseAddress(0, .memory, size: memorySize, region: 0)
        // Serial bus release number: 3.0; frame length adjustment.
        configuration.preset(0x60, width: 2, 0x2030)
        message.addCapability(to: &configuration)
        return configuration
    }

    package func visitState(_ visitor: inout StateVisitor) {
        state.visit(&visitor)
        visitDevices(&visitor)
    }

    package func reset() {
        state.configuration.reset()
        resetController()
        resetDevices()
    }

    private func resetController() {
        scheduler.cancel(self, timer: Timer.endpoints)
        scheduler.cancel(self, timer: Timer.commands)
        for slot in 1...Self.slotCount { cancelAll(slot) }
        var new = State(ports: devices.count, slots: Self.slotCount)
        new.configuration = state.configuration
        state = new
        for number in state.ports.indices { connect(number) }
        updatePin()
    }

    package func configurationWritten(_ offset: Int, width: Int) { updatePin() }

    package func timerFired(_ timer: Int) {
        if timer == Timer.commands { runCommands() } else { serveEndpoints() }
    }

    // MARK: Ports

    private var half: Int { devices.count / 2 }
    /// The device that belongs to port `number` (from 0 on), and to the port of the other kind beside it.
    func anyDevice(at number: Int) -> (any USBDevice)? { devices.indices.contains(number) ? devices[number % half] : nil }
    /// The device at port `number`, if it is there and of that port's kind.
    func device(at number: Int) -> (any USBDevice)? {
        guard let device = anyDevice(at: number), device.isAttached else { return nil }
        return (device.speed == .superSpeed) == (number >= half) ? device : nil
    }

    /// Sets a port up by what is there.
    private func connect(_ number: Int) {
        let old = state.ports[number].status
        var status = old & (PortBit.wake | PortBit.changes) | PortBit.power
        if let device = device(at: number) {
            status |= PortBit.connected | UInt32(device.speed.rawValue) << 10
            // USB 3 links train by themselves; USB 2 ones wait for a reset.
            status |= device.speed == .superSpeed ? PortBit.enabled : 7 << 5
        } else {
            status |= 5 << 5
        }
        if (status ^ old) & PortBit.connected != 0 { status |= PortBit.connectChange }
        state.ports[number].status = status
        if (status & ~old) & PortBit.changes != 0 { portChanged(number) }
    }

    private func portChanged(_ number: Int) {
        if state.command & CommandBit.run == 0 { return }
        state.status |= StatusBit.portChange
        post(UInt64(number + 1) << 24, Code.success.rawValue << 24, BlockType.portEvent << 10)
    }

    private func writePort(_ number: Int, _ value: UInt32) {
        var status = state.ports[number].status
        status &= ~(value & PortBit.changes)
        if value & PortBit.enabled != 0 { status &= ~PortBit.enabled }
        status = status & ~PortBit.wake | value & PortBit.wake
        let before = status
        if value & PortBit.linkWrite != 0, value & PortBit.reset == 0 {
            let link = value >> 5 & 15
            let old = status >> 5 & 15
            if link == 3 || link == 15 || link == 0, status & PortBit.enabled != 0 {
                status = status & ~PortBit.linkMask | link << 5
                if link == 0, old == 3 || old == 15 { status |= PortBit.linkChange }
            }
        }
        if value & (PortBit.reset | PortBit.warmReset) != 0, let device = device(at: number) {
            for slot in state.slots.indices where Int(state.slots[slot].port) == number + 1 { cancelAll(slot + 1) }
            device.reset()
            status = status & ~(PortBit.linkMask | PortBit.speedMask) | PortBit.enabled | PortBit.resetChange
            status |= UInt32(device.speed.rawValue) << 10
            if value & PortBit.warmReset != 0 { status |= 1 << 19 }
        }
        state.ports[number].status = status
        if (status & ~before) & PortBit.changes != 0 { portChanged(number) }
    }

    // MARK: Events

    /// Puts an event on the ring, with the controller's cycle bit, and interrupts.
    /// - Parameter interrupts: false for one that waits for another's interrupt, if there is room for it.
    func post(_ parameter: UInt64, _ status: UInt32, _ control: UInt32, interrupts: Bool = true) {
        let rest = UInt64(control) << 32 | UInt64(status)
        if !state.interrupter.waiting.isEmpty || !put(parameter, rest, interrupts: interrupts) {
            if state.interrupter.waiting.count < Self.mostWaiting {
                state.interrupter.waiting += [parameter, rest]
            } else {
                state.status |= StatusBit.hostError
            }
        }
    }

    /// False: there is no room.
    private func put(_ parameter: UInt64, _ rest: UInt64, interrupts: Bool = true) -> Bool {
        guard configuration.isBusMaster, state.interrupter.size > 0 else { return true }
        let following = (state.interrupter.next &+ 1) % state.interrupter.size
        if (state.interrupter.dequeue & ~15) &- state.interrupter.base == UInt64(following) * 16 { return false }
        let cycle: UInt64 = state.interrupter.cycle ? 1 << 32 : 0
        let words = (parameter.littleEndian, ((rest & ~(1 << 32)) | cycle).littleEndian)
        withUnsafeBytes(of: words) { memory.write(state.interrupter.base &+ UInt64(state.interrupter.next) * 16, from: $0) }
        state.interrupter.next = following
        if following == 0 { state.interrupter.cycle.toggle() }
        // The handler is told once until it has caught up (event handler busy).
        if interrupts, state.interrupter.dequeue & 8 == 0 { interrupt() }
        return true
    }

    private func interrupt() {
        state.interrupter.dequeue |= 8
        state.interrupter.management |= 1
        state.status |= StatusBit.event
        if state.interrupter.management & 2 != 0, state.command & CommandBit.interrupts != 0, Self.message.isEnabled(configuration) {
            state.interrupter.management &= ~1
            Self.message.send(configuration, to: messages)
        }
        updatePin()
    }

    private func updatePin() {
        let isActive = state.interrupter.management & 3 == 3 && state.command & CommandBit.interrupts != 0
        irq.set(isActive && !Self.message.isEnabled(configuration) && configuration.allowsInterruptPin)
    }

    /// Software has made room in the event ring.
    private func dequeueMoved(_ value: UInt64) {
        let wasBusy = state.interrupter.dequeue & 8 & ~value
        state.interrupter.dequeue = value & ~8 | wasBusy
        while state.interrupter.waiting.count >= 2, put(state.interrupter.waiting[0], state.interrupter.waiting[1]) {
            state.interrupter.waiting.removeFirst(2)
        }
        let place = state.interrupter.base &+ UInt64(state.interrupter.next) * 16
        if state.interrupter.dequeue & 8 == 0, state.interrupter.size > 0, value & ~15 != place { interrupt() }
    }

    private func loadSegment() {
        var raw: (UInt64, UInt64) = (0, 0)
        if state.interrupter.segmentCount == 0 || !configuration.isBusMaster {
            state.interrupter.size = 0
            return
        }
        withUnsafeMutableBytes(of: &raw) { memory.read(state.interrupter.segmentTable & ~63, into: $0) }
        state.interrupter.base = UInt64(littleEndian: raw.0) & ~63
        let size = UInt32(UInt64(littleEndian: raw.1) & 0xFFFF)
        // Fewer than 16 are not allowed (6.5).
        state.interrupter.size = size >= 16 && size <= 4096 ? size : 0
        state.interrupter.next = 0
        state.interrupter.cycle = true
        state.interrupter.waiting = []
    }

    // MARK: Registers: of 32 bits

    package func read(region: Int, offset: UInt64, width: Int) -> UInt64 {
        ByteLanes.read(offset, width) { UInt8(truncatingIfNeeded: register(Int($0 & ~3)) >> UInt32(($0 & 3) * 8)) }
    }

    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {
        guard offset & 3 == 0, width >= 4 else { return }
        setRegister(Int(offset), UInt32(truncatingIfNeeded: value))
        if width == 8 { setRegister(Int(offset) + 4, UInt32(truncatingIfNeeded: value >> 32)) }
    }

    private func register(_ offset: Int) -> UInt32 {
        let ports = UInt32(devices.count)
        func low(_ value: UInt64) -> UInt32 { UInt32(truncatingIfNeeded: value) }
        switch offset {
        case 0x00: return 0x0100_0000 | UInt32(Self.capabilityLength)
        case 0x04: return ports << 24 | 1 << 8 | UInt32(Self.slotCount)
        case 0x08: return 0x0F
        // 64-bit addresses; extended capabilities at 0x20.
        case 0x10: return 0x0008_0001
        case 0x14: return UInt32(Self.doorbells)
        case 0x18: return UInt32(Self.runtime)
        // Supported protocols (7.2): USB 2.0 and USB 3.0, and their ports.
        case 0x20: return 0x0200_0402
        case 0x24, 0x34: return 0x2042_5355
        case 0x28: return (ports / 2) << 8 | 1
        case 0x30: return 0x0300_0002
        case 0x38: return (ports / 2) << 8 | (ports / 2 + 1)
        case 0x40: return state.command
        case 0x44: return state.status | (state.command & CommandBit.run == 0 ? StatusBit.halted : 0)
        case 0x48: return 1
        case 0x54: return state.notification
        case 0x58: return state.isCommandRingRunning ? 8 : 0
        case 0x70: return low(state.contexts)
        case 0x74: return low(state.contexts >> 32)
        case 0x78: return state.configure
        case Self.runtime: return low(scheduler.now / 125_000) & 0x3FFF
        case Self.runtime + 0x20: return state.interrupter.management
        case Self.runtime + 0x24: return state.interrupter.moderation
        case Self.runtime + 0x28: return state.interrupter.segmentCount
        case Self.runtime + 0x30: return low(state.interrupter.segmentTable)
        case Self.runtime + 0x34: return low(state.interrupter.segmentTable >> 32)
        case Self.runtime + 0x38: return low(state.interrupter.dequeue)
        case Self.runtime + 0x3C: return low(state.interrupter.dequeue >> 32)
        case Self.portRegisters..<Self.portRegisters + devices.count * 16:
            let port = state.ports[(offset - Self.portRegisters) / 16]
            return offset & 15 == 0 ? port.status : offset & 15 == 4 ? port.power : 0
        default: return 0
        }
    }

    private static func low(_ old: UInt64, _ value: UInt32) -> UInt64 { old & ~0xFFFF_FFFF | UInt64(value) }
    private static func high(_ old: UInt64, _ value: UInt32) -> UInt64 { old & 0xFFFF_FFFF | UInt64(value) << 32 }

    private func setRegister(_ offset: Int, _ value: UInt32) {
        switch offset {
        case 0x40: writeCommand(value)
        case 0x44: state.status &= ~(value & (StatusBit.hostError | StatusBit.event | StatusBit.portChange))
        case 0x54: state.notification = value & 0xFFFF
        case 0x58:
            if state.isCommandRingRunning {
                // Stop and abort: a command takes no time, so there is none to abort.
                if value & 6 != 0 {
                    state.isCommandRingRunning = false
                    post(state.commandRing, Code.ringStopped.rawValue << 24, BlockType.commandEvent << 10)
                }
                return
            }
            state.commandRing = Self.low(state.commandRing, value & ~63)
            state.commandCycle = value & 1 != 0
        case 0x5C: if !state.isCommandRingRunning { state.commandRing = Self.high(state.commandRing, value) }
        case 0x70: state.contexts = Self.low(state.contexts, value & ~63)
        case 0x74: state.contexts = Self.high(state.contexts, value)
        case 0x78: state.configure = value & 0x3FF
        case Self.runtime + 0x20:
            state.interrupter.management = value & 2 | state.interrupter.management & ~value & 1
            updatePin()
        case Self.runtime + 0x24: state.interrupter.moderation = value
        case Self.runtime + 0x28: state.interrupter.segmentCount = value & 0xFFFF
        case Self.runtime + 0x30: state.interrupter.segmentTable = Self.low(state.interrupter.segmentTable, value & ~63)
        case Self.runtime + 0x34:
            state.interrupter.segmentTable = Self.high(state.interrupter.segmentTable, value)
            loadSegment()
        // A pointer of 64 bits in two writes: events go by the low half, where rings are told apart from their ends.
        case Self.runtime + 0x38: dequeueMoved(Self.low(state.interrupter.dequeue, value))
        case Self.runtime + 0x3C: state.interrupter.dequeue = Self.high(state.interrupter.dequeue, value)
        case Self.portRegisters..<Self.portRegisters + devices.count * 16:
            let number = (offset - Self.portRegisters) / 16
            if offset & 15 == 0 { writePort(number, value) }
            if offset & 15 == 4 { state.ports[number].power = value }
        case Self.doorbells: ringCommands()
        case Self.doorbells + 4...Self.doorbells + Self.slotCount * 4:
            ring(slot: (offset - Self.doorbells) / 4, endpoint: Int(value & 0xFF))
        default: break
        }
    }

    private func writeCommand(_ value: UInt32) {
        if value & CommandBit.reset != 0 { return resetController() }
        let starts = value & ~state.command & CommandBit.run != 0
        state.command = value & 0x0C0D
        if state.command & CommandBit.run == 0 { state.isCommandRingRunning = false }
        if starts {
            for (number, port) in state.ports.enumerated() where port.status & PortBit.changes != 0 { portChanged(number) }
            scheduleEndpoints()
        }
        updatePin()
    }
}

extension XHCI: USBController {}

extension XHCI: USBPort {
    package func wake(_ device: any USBDevice, endpoint: UInt8) {
        guard let number = devices.firstIndex(where: { $0 === device }) else { return }
        let index = Int(endpoint & 15) * 2 + (endpoint & 0x80 != 0 ? 1 : 0)
        for slot in state.slots.indices where state.slots[slot].port != 0 && (Int(state.slots[slot].port) - 1) % half == number {
            state.slots[slot].ready |= 1 << UInt32(max(index, 1))
            // Endpoint 0 has one index for both directions.
            if endpoint & 15 == 0 { state.slots[slot].ready |= 2 }
        }
        scheduleEndpoints()
    }

    package func attachmentChanged(_ device: any USBDevice) {
        guard let number = devices.firstIndex(where: { $0 === device }) else { return }
        for port in [number, number + half] {
            for slot in state.slots.indices where Int(state.slots[slot].port) == port + 1 { cancelAll(slot + 1) }
            connect(port)
        }
    }
}
