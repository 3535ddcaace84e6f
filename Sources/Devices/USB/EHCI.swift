import DeviceBus
import MachineState

/// A USB 2.0 controller: Intel's 82801DB (ICH4, datasheet 290744; Enhanced Host Controller Interface 1.0), for devices of
/// high speed. Slower ones answer at the ports of `companions`, when the driver gives their port away.
///
/// A look at the schedules every 125 µs of virtual time in which there is something to do, and every millisecond otherwise.
/// Not there: split transfers, as there are no hubs, and 64-bit addresses.
package final class EHCI: PCIFunction {
    /// Everything the guest can observe, beside the devices at the ports.
    package struct State {
        package var configuration = EHCI.makeConfiguration()
        package var command: UInt32 = EHCI.commandAtReset
        /// USBSTS, without the bits that follow from what goes on.
        package var status: UInt32 = 0
        package var interrupts: UInt32 = 0
        /// FRINDEX is `frame` plus the micro-frames since `since`, while it runs.
        package var frame: UInt32 = 0
        package var since: VirtualTime = 0
        package var periodicBase: UInt32 = 0
        package var asyncAddress: UInt32 = 0
        package var configureFlag: UInt32 = 0
        /// PORTSC.
        package var ports: [UInt32]
        /// The devices, as the controller sees them.
        package var wires: [USBWire]
        /// The last frame whose periodic schedule was looked at, and more than any when there is none.
        package var lastFrame: UInt32 = .max
        /// The next look; `.max` for none.
        package var due: VirtualTime = .max
        /// Looks in which nothing was done.
        package var idleLooks: UInt32 = 0

        package init(ports: Int) {
            self.ports = [UInt32](repeating: EHCI.PortBit.power, count: ports)
            wires = (0..<ports).map { _ in USBWire() }
        }

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.group("configuration") { configuration.visit(&$0) }
            visitor.field("command", &command)
            visitor.field("status", &status)
            visitor.field("interrupts", &interrupts)
            visitor.field("frame", &frame)
            visitor.field("since", &since)
            visitor.field("periodicBase", &periodicBase)
            visitor.field("asyncAddress", &asyncAddress)
            visitor.field("configureFlag", &configureFlag)
            let count = ports.count
            visitor.field("ports", &ports)
            visitor.list("wires", &wires, make: { USBWire() }) { $0.visit(&$1) }
            visitor.field("lastFrame", &lastFrame)
            visitor.field("due", &due)
            visitor.field("idleLooks", &idleLooks)
            if visitor.mode == .load, ports.count != count || wires.count != count {
                visitor.fail("another number of ports")
                ports = [UInt32](repeating: EHCI.PortBit.power, count: count)
                wires = (0..<count).map { _ in USBWire() }
            }
        }
    }

    enum CommandBit {
        static let run: UInt32 = 1
        static let reset: UInt32 = 2
        static let periodic: UInt32 = 16
        static let async: UInt32 = 32
        static let doorbell: UInt32 = 64
    }
    enum StatusBit {
        static let interrupt: UInt32 = 1
        static let error: UInt32 = 2
        static let portChange: UInt32 = 4
        static let rollover: UInt32 = 8
        static let hostError: UInt32 = 16
        static let advance: UInt32 = 32
        static let halted: UInt32 = 1 << 12
        static let periodic: UInt32 = 1 << 14
        static let async: UInt32 = 1 << 15
    }
    enum PortBit {
        static let connected: UInt32 = 1
        static let connectChange: UInt32 = 2
        static let enabled: UInt32 = 4
        static let enableChange: UInt32 = 8
        static let overChange: UInt32 = 32
        static let resume: UInt32 = 64
        static let suspended: UInt32 = 128
        static let reset: UInt32 = 256
        static let lineK: UInt32 = 1 << 10
        static let lineJ: UInt32 = 2 << 10
        static let power: UInt32 = 1 << 12
        static let owner: UInt32 = 1 << 13
        static let wake: UInt32 = 7 << 20
        static let changes: UInt32 = connectChange | enableChange | overChange
    }
    static let commandAtReset: UInt32 = 0x0008_0000
    static let microframe: VirtualTime = 125_000
    /// Looks with nothing to do, after which they become rare: then the next one is after a millisecond.
    static let mostIdleLooks: UInt32 = 16
    static let lookTimer = 0
    private static let capabilityLength = 0x20
    private static let memorySize: UInt32 = 0x1000
    private static let portRegisters = 0x64

    package let name: String
    /// At the ports; none where there is nothing.
    package let devices: [(any USBDevice)?]
    package internal(set) var state: State
    package var configuration: PCIConfiguration {
        get { state.configuration }
        set { state.configuration = newValue }
    }
    package var regions: [Region] { [configuration.region(0, registers: names)] }
    private let names: [RegisterName]
    private let irq: IRQLine
    let memory: any DMAPort
    let scheduler: Scheduler
    /// Sees transfers, for captures.
    package var tap: USBTap?
    /// The controllers whose ports are these ones' when they are given away: two each, in their order.
    package var companions: [UHCI] = []

    /// - Parameters:
    ///   - devices: at the ports, of any speed but super speed.
    ///   - irq: the pin D of its slot.
    package init(name: String, devices: [any USBDevice], irq: IRQLine, memory: any DMAPort, scheduler: Scheduler) {
        self.name = name
        self.irq = irq
        self.memory = memory
        self.scheduler = scheduler
        let count = Self.portCount(devices.count)
        self.devices = (0..<count).map { devices.indices.contains($0) ? devices[$0] : nil }
        let registers: [(UInt64, String)] = [
            (0x00, "CAPLENGTH"), (0x04, "HCSPARAMS"), (0x08, "HCCPARAMS"), (0x20, "USBCMD"), (0x24, "USBSTS"), (0x28, "USBINTR"),
            (0x2C, "FRINDEX"), (0x30, "CTRLDSSEGMENT"), (0x34, "PERIODICLISTBASE"), (0x38, "ASYNCLISTADDR"), (0x60, "CONFIGFLAG"),
        ]
        names = registers.map { offset, name in
            RegisterName(offset, name, length: 4, contents: name.contains("LIST") ? .address : .value)
        } + (0..<count).map { RegisterName(UInt64(Self.portRegisters + $0 * 4), "PORTSC\($0 + 1)", length: 4) }
        state = State(ports: count)
        for device in devices { device.port = self }
    }

    /// Ports come in pairs, as companions have them.
    package static func portCount(_ devices: Int) -> Int { min(max((devices + 1) & ~1, 4), 14) }

    static func makeConfiguration() -> PCIConfiguration {
        var configuration = PCIConfiguration(
            vendor: 0x8086, device: 0x24CD, revision: 2, classCode: 0x0C0320, subsystemVendor: 0x8086, subsystem: 0x24CD,
            interruptPin: 4)
        configuration.setBaseAddress(0, .memory, size: memorySize, region: 0)
        // Serial bus release number: 2.0; frame length adjustment.
        configuration.preset(0x60, width: 2, 0x2020)
        configuration.allowWrites(0x61, width: 1, mask: 0x3F)
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
        scheduler.cancel(self, timer: Self.lookTimer)
        for number in devices.indices { state.wires[number].reset(devices[number]) }
        var new = State(ports: devices.count)
        new.configuration = state.configuration
        state = new
        for number in devices.indices { connect(number) }
        updatePin()
        for companion in companions { companion.routesChanged() }
    }

    package func configurationWritten(_ offset: Int, width: Int) { updatePin() }

    // MARK: Interrupts

    func raise(_ bits: UInt32) {
        state.status |= bits
        updatePin()
    }
    private func updatePin() {
        irq.set(state.status & state.interrupts & 0x3F != 0 && configuration.allowsInterruptPin)
    }

    // MARK: Ports

    /// This controller has the port, and not a companion.
    func owns(_ number: Int) -> Bool { state.configureFlag & 1 != 0 && state.ports[number] & PortBit.owner == 0 }

    /// A companion has the port: it sees what is there.
    package func isGivenAway(_ number: Int) -> Bool { state.ports.indices.contains(number) && !owns(number) }

    private func attached(_ number: Int) -> (any USBDevice)? {
        guard let device = devices[number], device.isAttached, device.speed != .superSpeed else { return nil }
        return device
    }
    /// The device at a port that this controller has, if it can speak to it.
    func device(at number: Int) -> (any USBDevice)? { attached(number).flatMap { owns(number) && $0.speed == .high ? $0 : nil } }

    /// Sets a port up by what is there, or seems to be.
    private func connect(_ number: Int) {
        let old = state.ports[number]
        var port = old & ~(PortBit.connected | PortBit.lineK | PortBit.lineJ)
        if owns(number), let device = attached(number) {
            port |= PortBit.connected
            if port & PortBit.enabled == 0 { port |= device.speed == .low ? PortBit.lineK : PortBit.lineJ }
        } else {
            if old & PortBit.enabled != 0 { port = port & ~(PortBit.enabled | PortBit.suspended) | PortBit.enableChange }
        }
        if (port ^ old) & PortBit.connected != 0 { port |= PortBit.connectChange }
        // A companion's port that is empty comes back.
        if attached(number) == nil { port &= ~PortBit.owner }
        state.ports[number] = port
        if port & ~old & PortBit.changes != 0 { raise(StatusBit.portChange) }
    }

    private func writePort(_ number: Int, _ value: UInt32) {
        let old = state.ports[number]
        var port = old & ~(value & PortBit.changes)
        if value & PortBit.enabled == 0 { port &= ~PortBit.enabled }
        let kept = PortBit.wake | PortBit.suspended | PortBit.resume | PortBit.reset | PortBit.owner
        port = port & ~kept | value & kept
        if port & PortBit.enabled == 0 { port &= ~PortBit.suspended }
        // The end of a resume.
        if old & PortBit.resume != 0, port & PortBit.resume == 0 { port &= ~PortBit.suspended }
        if port & PortBit.reset != 0 {
            port &= ~(PortBit.enabled | PortBit.suspended)
            if old & PortBit.reset == 0, owns(number) { resetDevice(number) }
        } else if old & PortBit.reset != 0, owns(number), let device = attached(number) {
            // After the reset a fast device's port is enabled; a slow one's stays as it is.
            if device.speed == .high { port = port & ~(PortBit.lineK | PortBit.lineJ) | PortBit.enabled }
        }
        state.ports[number] = port
        if (port ^ old) & PortBit.owner != 0 { routeChanged(number) }
    }

    private func resetDevice(_ number: Int) {
        state.wires[number].reset(devices[number])
        attached(number)?.reset()
    }

    private func routeChanged(_ number: Int) {
        state.wires[number].reset(devices[number])
        connect(number)
        for companion in companions { companion.routesChanged() }
    }

    // MARK: Time

    /// FRINDEX as it is now: 14 bits of micro-frames.
    var frameIndex: UInt32 {
        guard state.command & CommandBit.run != 0 else { return state.frame }
        return (state.frame &+ UInt32(truncatingIfNeeded: (scheduler.now &- state.since) / Self.microframe)) & 0x3FFF
    }
    private func setFrameIndex(_ value: UInt32) {
        state.frame = value & 0x3FFF
        state.since = scheduler.now
    }

    /// Looks at the schedules at `time` at the latest.
    func look(at time: VirtualTime) {
        guard state.command & CommandBit.run != 0 else { return }
        if time >= state.due { return }
        state.due = time
        scheduler.schedule(self, timer: Self.lookTimer, at: time)
    }

    package func timerFired(_ timer: Int) {
        state.due = .max
        guard state.command & CommandBit.run != 0 else { return }
        if state.command & CommandBit.doorbell != 0 {
            state.command &= ~CommandBit.doorbell
            raise(StatusBit.advance)
        }
        let isScheduled = state.command & (CommandBit.periodic | CommandBit.async) != 0
        guard isScheduled, configuration.isBusMaster else { return }
        let next = serveSchedules()
        if state.command & CommandBit.run != 0 { look(at: max(next, scheduler.now &+ 1000)) }
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
        switch offset {
        case 0x00: return 0x0100_0000 | UInt32(Self.capabilityLength)
        // Companions and their ports, ports.
        case 0x04: return UInt32(companions.count) << 12 | (companions.isEmpty ? 0 : 2 << 8) | UInt32(devices.count)
        // A frame's isochronous transfers are read at once (bits 7 to 4).
        case 0x08: return 0x80
        case 0x20: return state.command
        case 0x24:
            var status = state.status
            if state.command & CommandBit.run == 0 { return status | StatusBit.halted }
            if state.command & CommandBit.periodic != 0 { status |= StatusBit.periodic }
            if state.command & CommandBit.async != 0 { status |= StatusBit.async }
            return status
        case 0x28: return state.interrupts
        case 0x2C: return frameIndex
        case 0x34: return state.periodicBase
        case 0x38: return state.asyncAddress
        case 0x60: return state.configureFlag
        case Self.portRegisters..<Self.portRegisters + devices.count * 4: return state.ports[(offset - Self.portRegisters) / 4]
        default: return 0
        }
    }

    private func setRegister(_ offset: Int, _ value: UInt32) {
        switch offset {
        case 0x20: writeCommand(value)
        case 0x24:
            state.status &= ~(value & 0x3F)
            updatePin()
        case 0x28:
            state.interrupts = value & 0x3F
            updatePin()
        case 0x2C: if state.command & CommandBit.run == 0 { setFrameIndex(value) }
        case 0x34: state.periodicBase = value & ~0xFFF
        case 0x38: state.asyncAddress = value & ~31
        case 0x60:
            let old = state.configureFlag
            state.configureFlag = value & 1
            if old == state.configureFlag { return }
            // All ports are this controller's, or the companions'.
            for number in devices.indices {
                state.ports[number] &= ~PortBit.owner
                routeChanged(number)
            }
        case Self.portRegisters..<Self.portRegisters + devices.count * 4: writePort((offset - Self.portRegisters) / 4, value)
        default: break
        }
    }

    private func writeCommand(_ value: UInt32) {
        if value & CommandBit.reset != 0 { return resetController() }
        let index = frameIndex
        let started = value & ~state.command & (CommandBit.run | CommandBit.periodic | CommandBit.async | CommandBit.doorbell)
        if (value ^ state.command) & CommandBit.run != 0 { setFrameIndex(index) }
        state.command = value & 0x00FF_0071 | state.command & value & CommandBit.doorbell
        if state.command & CommandBit.run == 0 {
            state.command &= ~CommandBit.doorbell
            state.due = .max
            scheduler.cancel(self, timer: Self.lookTimer)
        } else if started != 0 {
            state.idleLooks = 0
            look(at: scheduler.now &+ 10_000)
        }
    }
}

extension EHCI: USBController {}

extension EHCI: USBPort {
    package func wake(_ device: any USBDevice, endpoint: UInt8) {
        guard let number = devices.firstIndex(where: { $0 === device }) else { return }
        if !owns(number) { return }
        state.idleLooks = 0
        look(at: scheduler.now &+ 10_000)
    }

    package func attachmentChanged(_ device: any USBDevice) {
        guard let number = devices.firstIndex(where: { $0 === device }) else { return }
        state.wires[number].reset(device)
        connect(number)
        for companion in companions { companion.routesChanged() }
    }
}
