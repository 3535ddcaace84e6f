import DeviceBus
import MachineState

/// A USB 1.1 controller: function 2 of Intel's 82371SB (PIIX3, datasheet 290550; UHCI Design Guide 1.1), with two ports.
///
/// Every millisecond of virtual time in which it runs, it goes through the frame's schedule once. Packets of one transfer
/// that follow one another in a queue are done at once, as far as the frame has room. Data toggles are not looked at.
package final class UHCI: PCIFunction {
    /// Everything the guest can observe, beside the devices at the ports.
    package struct State {
        package var configuration: PCIConfiguration
        package var command: UInt16 = 0
        /// USBSTS, without the bit that says that it has halted.
        package var status: UInt16 = 0
        package var interrupts: UInt16 = 0
        package var frame: UInt16 = 0
        package var base: UInt32 = 0
        package var modify: UInt8 = 64
        /// What set USBSTS bit 0: 1 a descriptor that asked for it, 2 a short packet.
        package var cause: UInt8 = 0
        package var isRunning = false
        /// The next frame's time.
        package var due: VirtualTime = 0
        /// PORTSC.
        package var ports: [UInt16]
        /// The devices, as the controller sees them.
        package var wires: [USBWire]

        package init(ports: Int, _ role: Role) {
            configuration = UHCI.makeConfiguration(role)
            self.ports = [UInt16](repeating: UHCI.PortBit.always, count: ports)
            wires = (0..<ports).map { _ in USBWire() }
        }

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.group("configuration") { configuration.visit(&$0) }
            visitor.field("command", &command)
            visitor.field("status", &status)
            visitor.field("interrupts", &interrupts)
            visitor.field("frame", &frame)
            visitor.field("base", &base)
            visitor.field("modify", &modify)
            visitor.field("cause", &cause)
            visitor.field("isRunning", &isRunning)
            visitor.field("due", &due)
            let count = ports.count
            visitor.field("ports", &ports)
            visitor.list("wires", &wires, make: { USBWire() }) { $0.visit(&$1) }
            if visitor.mode == .load, ports.count != count || wires.count != count {
                visitor.fail("another number of ports")
                ports = [UInt16](repeating: UHCI.PortBit.always, count: count)
                wires = (0..<count).map { _ in USBWire() }
            }
        }
    }

    enum CommandBit {
        static let run: UInt16 = 1
        static let reset: UInt16 = 2
        static let globalReset: UInt16 = 4
        static let suspend: UInt16 = 8
        static let resume: UInt16 = 16
    }
    enum StatusBit {
        static let interrupt: UInt16 = 1
        static let error: UInt16 = 2
        static let resume: UInt16 = 4
        static let hostError: UInt16 = 8
        static let processError: UInt16 = 16
        static let halted: UInt16 = 32
    }
    enum PortBit {
        static let connected: UInt16 = 1
        static let connectChange: UInt16 = 2
        static let enabled: UInt16 = 4
        static let enableChange: UInt16 = 8
        static let resume: UInt16 = 0x40
        static let always: UInt16 = 0x80
        static let lowSpeed: UInt16 = 0x100
        static let reset: UInt16 = 0x200
        static let suspended: UInt16 = 0x1000
        static let writable: UInt16 = enabled | resume | reset | suspended
    }
    /// Ports of a controller.
    package static let portCount = 2
    static let frameTime: VirtualTime = 1_000_000
    private static let frameTimer = 0
    private static let ioSize: UInt32 = 32

    package let name: String
    /// At the ports; none where there is nothing.
    package let devices: [(any USBDevice)?]
    package internal(set) var state: State
    package var configuration: PCIConfiguration {
        get { state.configuration }
        set { state.configuration = newValue }
    }
    private static let registers: [RegisterName] = [
        RegisterName(0x00, "USBCMD", length: 2, fields: "RS HCRESET GRESET EGSM FGR SWDBG CF MAXP"),
        RegisterName(0x02, "USBSTS", length: 2, fields: "USBINT ERROR RESUME HSE HCPE HALTED"),
        RegisterName(0x04, "USBINTR", length: 2, fields: "TIMEOUT RESUME IOC SHORT"), RegisterName(0x06, "FRNUM", length: 2),
        RegisterName(0x08, "FRBASEADD", length: 4, contents: .address), RegisterName(0x0C, "SOFMOD", length: 1),
        RegisterName(0x10, "PORTSC1", length: 2), RegisterName(0x12, "PORTSC2", length: 2),
    ]
    package var regions: [Region] { [configuration.region(4, registers: Self.registers)] }
    private let irq: IRQLine
    let memory: any DMAPort
    let scheduler: Scheduler
    /// Sees transfers, for captures; this controller's ports are numbered from `firstPort` on there.
    package var tap: USBTap?
    private let firstPort: Int
    /// What has the devices, if they are here only when it gives their ports away.
    private unowned(unsafe) let owner: EHCI?
    /// The place among the functions of a card, the interrupt pin, and whether there are further functions.
    private let role: Role

    /// What the controller is part of.
    package enum Role: Sendable {
        /// Function 2 of the PIIX3.
        case piix3
        /// A card of its own.
        case card
        /// Function `function` of a card with an EHCI controller.
        case companion(function: Int)

        /// Its number: 1 is INTA.
        package var interruptPin: Int {
            switch self {
            case .piix3: 4
            case .card: 1
            case .companion(let function): function % 3 + 1
            }
        }
    }

    /// - Parameters:
    ///   - devices: at most two, of full or low speed, or an owner's.
    ///   - owner: has the devices, and the ports as long as it wants them.
    ///   - firstPort: ports of other controllers before it.
    package init(
        name: String, devices: [any USBDevice], role: Role, owner: EHCI? = nil, firstPort: Int = 0, irq: IRQLine,
        memory: any DMAPort, scheduler: Scheduler
    ) {
        self.name = name
        self.role = role
        self.owner = owner
        self.firstPort = firstPort
        self.irq = irq
        self.memory = memory
        self.scheduler = scheduler
        self.devices = (0..<Self.portCount).map { devices.indices.contains($0) ? devices[$0] : nil }
        state = State(ports: Self.portCount, role)
        if owner == nil { for device in devices { device.port = self } }
    }

    static func makeConfiguration(_ role: Role) -> PCIConfiguration {
        var isMultifunction = false
        if case .companion(0) = role { isMultifunction = true }
        var configuration = PCIConfiguration(
            vendor: 0x8086, device: 0x7020, revision: 1, classCode: 0x0C0300, interruptPin: UInt8(role.interruptPin),
            isMultifunction: isMultifunction)
        configuration.setBaseAddress(4, .port, size: ioSize, region: 0)
        // Serial bus release number: 1.0. LEGSUP: interrupts go to PCI's pin.
        configuration.preset(0x60, width: 1, 0x10)
        configuration.preset(0xC0, width: 2, 0x2000)
        configuration.allowWrites(0xC0, width: 2, mask: 0x20BF)
        return configuration
    }

    package func visitState(_ visitor: inout StateVisitor) {
        state.visit(&visitor)
        if owner == nil { visitDevices(&visitor) }
    }

    package func reset() {
        state.configuration.reset()
        resetController()
        if owner == nil { resetDevices() }
    }

    private func resetController() {
        scheduler.cancel(self, timer: Self.frameTimer)
        for number in devices.indices { state.wires[number].reset(devices[number]) }
        var new = State(ports: devices.count, role)
        new.configuration = state.configuration
        state = new
        for number in devices.indices { connect(number) }
        updatePin()
    }

    package func configurationWritten(_ offset: Int, width: Int) { updatePin() }

    package func timerFired(_ timer: Int) {
        guard state.isRunning else { return }
        if state.command & CommandBit.suspend == 0 { serveFrame() }
        state.frame = (state.frame &+ 1) & 0x7FF
        state.due &+= Self.frameTime
        // Time that went by while it could not run is not made up for.
        if state.due <= scheduler.now { state.due = scheduler.now &+ Self.frameTime }
        scheduler.schedule(self, timer: Self.frameTimer, at: state.due)
    }

    // MARK: Interrupts

    func raise(_ bits: UInt16, cause: UInt8 = 0) {
        state.status |= bits
        state.cause |= cause
        updatePin()
    }

    private func updatePin() {
        let wanted = state.interrupts
        let hasEnded = state.status & StatusBit.interrupt != 0 && (state.cause & 1 != 0 && wanted & 4 != 0 || state.cause & 2 != 0 && wanted & 8 != 0)
        let hasFailed = state.status & StatusBit.error != 0 && wanted & 1 != 0
        let resumes = state.status & StatusBit.resume != 0 && wanted & 2 != 0
        let isBroken = state.status & (StatusBit.hostError | StatusBit.processError) != 0
        irq.set((hasEnded || hasFailed || resumes || isBroken) && configuration.allowsInterruptPin)
    }

    /// The controller's own error: it stops.
    func fail(_ bit: UInt16) {
        stop()
        state.command &= ~CommandBit.run
        raise(bit)
    }

    private func stop() {
        state.isRunning = false
        scheduler.cancel(self, timer: Self.frameTimer)
    }

    // MARK: Ports

    /// The device at port `number` (from 0 on), if it is there and slow enough.
    func device(at number: Int) -> (any USBDevice)? {
        guard let device = devices[number], device.isAttached, device.speed == .full || device.speed == .low,
            owner?.isGivenAway(firstPort + number) ?? true
        else { return nil }
        return device
    }

    private func connect(_ number: Int) {
        let old = state.ports[number]
        var port = old & ~(PortBit.connected | PortBit.lowSpeed)
        if let device = device(at: number) {
            port |= PortBit.connected | (device.speed == .low ? PortBit.lowSpeed : 0)
        } else {
            state.wires[number].reset(devices[number])
            port &= ~(PortBit.enabled | PortBit.suspended)
            if old & PortBit.enabled != 0 { port |= PortBit.enableChange }
        }
        if (port ^ old) & PortBit.connected != 0 {
            port |= PortBit.connectChange
            if state.command & CommandBit.suspend != 0 { raise(StatusBit.resume) }
        }
        state.ports[number] = port
    }

    private func writePort(_ number: Int, _ value: UInt16) {
        var port = state.ports[number]
        port &= ~(value & (PortBit.connectChange | PortBit.enableChange))
        let wasReset = port & PortBit.reset != 0
        port = port & ~PortBit.writable | value & PortBit.writable
        if port & PortBit.connected == 0 { port &= ~(PortBit.enabled | PortBit.suspended) }
        if port & PortBit.reset != 0 {
            port &= ~PortBit.enabled
            if !wasReset { resetDevice(number) }
        }
        state.ports[number] = port
    }

    private func resetDevice(_ number: Int) {
        state.wires[number].reset(devices[number])
        device(at: number)?.reset()
    }

    // MARK: Registers

    package func read(region: Int, offset: UInt64, width: Int) -> UInt64 {
        ByteLanes.read(offset, width) { lane in
            let (value, start) = self.register(Int(lane))
            return UInt8(truncatingIfNeeded: value >> UInt32((Int(lane) - start) * 8))
        }
    }

    /// The register that has a byte, and where it begins.
    private func register(_ offset: Int) -> (UInt32, Int) {
        switch offset {
        case 0x00...0x01: return (UInt32(state.command), 0x00)
        case 0x02...0x03: return (UInt32(state.status | (state.isRunning ? 0 : StatusBit.halted)), 0x02)
        case 0x04...0x05: return (UInt32(state.interrupts), 0x04)
        case 0x06...0x07: return (UInt32(state.frame), 0x06)
        case 0x08...0x0B: return (state.base, 0x08)
        case 0x0C: return (UInt32(state.modify), 0x0C)
        case 0x10..<0x10 + devices.count * 2: return (UInt32(state.ports[(offset - 0x10) / 2]), offset & ~1)
        // Drivers find out that there is no further port.
        case 0x10...0x1F: return (0xFFFF, offset & ~1)
        default: return (0, offset)
        }
    }

    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {
        let word = UInt16(truncatingIfNeeded: value)
        switch (offset, width) {
        case (0x08, 4): state.base = UInt32(truncatingIfNeeded: value) & ~0xFFF
        case (0x0C, 1): state.modify = UInt8(truncatingIfNeeded: value) & 0x7F
        case (_, 4) where offset & 3 == 0:
            write(region: region, offset: offset, width: 2, value: value & 0xFFFF)
            write(region: region, offset: offset + 2, width: 2, value: value >> 16 & 0xFFFF)
        case (0x00, 2): writeCommand(word)
        case (0x02, 2):
            state.status &= ~(word & 0x1F)
            if word & StatusBit.interrupt != 0 { state.cause = 0 }
            updatePin()
        case (0x04, 2):
            state.interrupts = word & 0xF
            updatePin()
        case (0x06, 2): if !state.isRunning { state.frame = word & 0x7FF }
        case (0x10..<0x10 + UInt64(devices.count) * 2, 2) where offset & 1 == 0: writePort(Int(offset - 0x10) / 2, word)
        default: break
        }
    }

    private func writeCommand(_ value: UInt16) {
        if value & CommandBit.reset != 0 { return resetController() }
        if value & ~state.command & CommandBit.globalReset != 0 {
            for number in devices.indices { resetDevice(number) }
        }
        state.command = value & 0xFD
        if value & CommandBit.run != 0, !state.isRunning {
            state.isRunning = true
            state.due = scheduler.now &+ Self.frameTime
            scheduler.schedule(self, timer: Self.frameTimer, at: state.due)
        } else if value & CommandBit.run == 0, state.isRunning {
            stop()
        }
    }

    /// The owner has given ports away or taken them back, or something has come or gone.
    func routesChanged() { for number in devices.indices { connect(number) } }

    /// A port's number in captures.
    func captureSlot(_ number: Int) -> Int { firstPort + number + 1 }
}

extension UHCI: USBController {}

extension UHCI: USBPort {
    /// Every frame offers again.
    package func wake(_ device: any USBDevice, endpoint: UInt8) {}

    package func attachmentChanged(_ device: any USBDevice) {
        guard let number = devices.firstIndex(where: { $0 === device }) else { return }
        state.wires[number].reset(device)
        connect(number)
    }
}
