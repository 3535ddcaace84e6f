import DeviceBus
import MachineState

/// A serial ATA controller as in Intel's ICH9 (AHCI 1.3.1): six ports with disks, 32 commands each, carried out one
/// after the other.
package final class AHCI: PCIFunction {
    package static let portCount = 6

    /// Everything the guest can observe, beside the ports.
    package struct State {
        package var configuration = AHCI.makeConfiguration()
        /// GHC: bit 1 interrupts; bit 31, AHCI mode, is always on.
        package var globalControl: UInt32 = 1 << 31
        /// IS: a bit for each port.
        package var interruptStatus: UInt32 = 0
        package var ports = (0..<AHCI.portCount).map { _ in AHCIPort.State() }

        package init() {}
    }

    private enum Register {
        static let capabilities: UInt64 = 0x00
        static let globalControl: UInt64 = 0x04
        static let interruptStatus: UInt64 = 0x08
        static let portsImplemented: UInt64 = 0x0C
        static let version: UInt64 = 0x10
        static let ports: UInt64 = 0x100
    }
    /// S64A, queued commands, AHCI only, 1.5 Gb/s, 32 slots, command list override, six ports.
    private static let capabilities: UInt32 = 1 << 31 | 1 << 30 | 1 << 24 | 1 << 18 | 1 << 20 | 31 << 8 | UInt32(portCount - 1)

    package let name: String
    private static let registers: [RegisterName] = {
        let ports = (0..<portCount).flatMap { port in
            AHCIPort.registerNames.map { register in
                RegisterName(
                    Register.ports + UInt64(port) * 0x80 + register.offset, "P\(port)\(register.name)", length: 4,
                    fields: register.fields, contents: register.offset < 0x10 ? .address : .value)
            }
        }
        return [
            RegisterName(
                0, "CAP", length: 4,
                fields: "NP:5 SXS EMS CCCS NCS:5 PSC SSC PMD FBSS SPM SAM - ISS:4 SCLO SAL SALP SSS SMPS SSNTF SNCQ S64A"),
            RegisterName(4, "GHC", length: 4, fields: "HR IE MRSM -:28 AE"), RegisterName(8, "IS", length: 4),
            RegisterName(12, "PI", length: 4), RegisterName(16, "VS", length: 4),
        ] + ports
    }()
    package var regions: [Region] { [configuration.region(5, registers: Self.registers)] }
    package var configuration = AHCI.makeConfiguration()
    private var globalControl: UInt32 = 1 << 31
    private var interruptStatus: UInt32 = 0
    package let ports: [AHCIPort]
    package var state: State {
        var state = State()
        state.configuration = configuration
        state.globalControl = globalControl
        state.interruptStatus = interruptStatus
        state.ports = ports.map(\.state)
        return state
    }
    private static let message = MSI(at: 0x80)
    private let irq: IRQLine
    private let sink: any MessageSink
    private let scheduler: Scheduler

    /// - Parameters:
    ///   - media: of the ports, from port 0 on; nil for a port without a drive.
    ///   - serials: for IDENTIFY, at most 20 characters each.
    ///   - irq: the pin INTA of its slot.
    package init(
        name: String, media: [(any BlockMedium)?], serials: [String], irq: IRQLine, messages: any MessageSink,
        memory: any DMAPort, scheduler: Scheduler
    ) {
        self.name = name
        self.irq = irq
        sink = messages
        self.scheduler = scheduler
        ports = (0..<Self.portCount).map { number in
            AHCIPort(
                medium: media.indices.contains(number) ? media[number] : nil,
                serial: serials.indices.contains(number) ? serials[number] : "", memory: memory)
        }
        for (number, port) in ports.enumerated() {
            port.timer = { [unowned(unsafe) self] delay in
                if let delay {
                    self.scheduler.schedule(self, timer: number, at: self.scheduler.now &+ delay)
                } else {
                    self.scheduler.cancel(self, timer: number)
                }
            }
            port.interruptChanged = { [unowned(unsafe) self] in portInterrupts(number) }
        }
    }

    /// The commands that are being carried out, in words.
    package var request: String? {
        let all = ports.enumerated().compactMap { number, port in port.request.map { "port \(number) \($0)" } }
        return all.isEmpty ? nil : all.joined(separator: "; ")
    }

    /// Another number for each other request.
    package var requestKey: UInt64 { ports.reduce(0) { $0 &+ $1.moves } }

    package func visitState(_ visitor: inout StateVisitor) {
        visitor.group("configuration") { configuration.visit(&$0) }
        visitor.field("globalControl", &globalControl)
        visitor.field("interruptStatus", &interruptStatus)
        for (number, port) in ports.enumerated() { visitor.group("ports[\(number)]") { port.state.visit(&$0) } }
    }

    package func reset() {
        configuration.reset()
        resetController()
    }

    private func resetController() {
        globalControl = 1 << 31
        interruptStatus = 0
        for port in ports { port.reset() }
        updatePin()
    }

    package func timerFired(_ timer: Int) { if ports.indices.contains(timer) { ports[timer].timerFired() } }
    package func configurationWritten(_ offset: Int, width: Int) { updatePin() }

    // MARK: Interrupts

    private func portInterrupts(_ number: Int) {
        guard ports[number].interrupts else { return }
        let isNew = interruptStatus >> UInt32(number) & 1 == 0
        interruptStatus |= 1 << UInt32(number)
        if isNew, globalControl & 2 != 0, Self.message.isEnabled(configuration) {
            Self.message.send(configuration, to: sink)
        }
        updatePin()
    }

    private func updatePin() {
        let isActive = globalControl & 2 != 0 && interruptStatus != 0 && !Self.message.isEnabled(configuration)
        irq.set(isActive && configuration.allowsInterruptPin)
    }

    // MARK: Registers: of 32 bits; a narrower write changes its part

    package func read(region: Int, offset: UInt64, width: Int) -> UInt64 {
        ByteLanes.read(offset, width) { UInt8(truncatingIfNeeded: register($0 & ~3) >> UInt32(($0 & 3) * 8)) }
    }

    private func register(_ offset: UInt64) -> UInt32 {
        switch offset {
        case Register.capabilities: return Self.capabilities
        case Register.globalControl: return globalControl
        case Register.interruptStatus: return interruptStatus
        case Register.portsImplemented: return 1 << UInt32(Self.portCount) - 1
        case Register.version: return 0x0001_0300
        default:
            guard let (port, register) = port(offset) else { return 0 }
            return port.read(register)
        }
    }

    private func port(_ offset: UInt64) -> (AHCIPort, UInt64)? {
        guard offset >= Register.ports else { return nil }
        let number = Int((offset - Register.ports) / 0x80)
        return number < ports.count ? (ports[number], offset & 0x7F) : nil
    }

    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {
        var offset = offset
        var value = value
        var left = width
        while left > 0 {
            let lane = Int(offset & 3)
            let count = min(4 - lane, left)
            let mask = UInt32(truncatingIfNeeded: (UInt64(1) << UInt64(count * 8) - 1) << UInt64(lane * 8))
            writeRegister(offset & ~3, UInt32(truncatingIfNeeded: value << UInt64(lane * 8)) & mask, mask)
            offset += UInt64(count)
            value >>= UInt64(count * 8)
            left -= count
        }
    }

    /// - Parameter mask: the bits that are written.
    private func writeRegister(_ offset: UInt64, _ value: UInt32, _ mask: UInt32) {
        switch offset {
        case Register.globalControl:
            if value & 1 != 0 { return resetController() }
            globalControl = 1 << 31 | (value | globalControl & ~mask) & 2
        case Register.interruptStatus:
            interruptStatus &= ~value
            // A port whose status is still set interrupts again.
            for number in ports.indices { portInterrupts(number) }
        default:
            if let (port, register) = port(offset) { port.write(register, value, mask, isEnabled: configuration.isBusMaster) }
        }
        updatePin()
    }

    private static func makeConfiguration() -> PCIConfiguration {
        var configuration = PCIConfiguration(
            vendor: 0x8086, device: 0x2922, revision: 2, classCode: 0x010601, subsystemVendor: 0x1AF4,
            subsystem: 0x1100, interruptPin: 1)
        configuration.setBaseAddress(5, .memory, size: 0x1000, region: 0)
        message.addCapability(to: &configuration)
        return configuration
    }
}
