import DeviceBus
import Devices
import Machine
import MachineState
import Replay

/// One PCI device's side of a recording of the devices boundary, as a sequence: what the driver did to it, and what it did.
package struct RecordedDevice {
    /// An access of the driver.
    package struct Access: Sendable {
        /// Number of the base address register; of a device with fixed addresses its region, from `PIIX3IDE.standInRegion` on.
        package var bar: Int
        package var offset: UInt64
        package var width: Int
        package var isWrite: Bool
        package var value: UInt64
        /// What a read of a whole block gave.
        package var block: Block?
        /// Nil when it has no name.
        package var register: RegisterPlace?
    }
    /// The data of a block read.
    package enum Block: Sendable {
        case bytes([UInt8])
        case image(ImageOrigin, count: Int)
    }
    /// What a register is called, and what its value is.
    package struct RegisterPlace: Sendable {
        package var name: String
        package var holdsAddress: Bool
        package var holdsTime: Bool
    }
    package enum Step: Sendable {
        case access(Access)
        case readMemory(address: UInt64, bytes: [UInt8])
        case writeMemory(address: UInt64, bytes: [UInt8])
        /// The data are part of a disk image.
        case writeImage(address: UInt64, count: Int, origin: ImageOrigin)
        case interrupt(ForeignInterrupt, Int)
    }
    package struct Event: Sendable {
        /// Number in the log.
        package var number: UInt64
        package var position: Position
        package var time: VirtualTime
        package var step: Step
    }

    package let name: String
    package let settings: ForeignDeviceSettings
    /// It answers at fixed addresses: the IDE controller.
    package let isFixed: Bool
    /// The device's regions, as `Access.bar` counts them.
    private var regions: [Int: Region] = [:]
    package private(set) var events: [Event] = []
    /// Accesses among them.
    package private(set) var accessCount = 0

    /// Reads a whole recording.
    package init(_ trace: TraceReader, device name: String) throws {
        guard let function = trace.map.device(name) as? any PCIFunction, let address = trace.map.address(of: name),
            let settings = ForeignDeviceSettings(of: function)
        else { throw LogError("\(name) is no PCI device that can be taken out") }
        self.name = name
        self.settings = settings
        let messages = settings.messages
        isFixed = !trace.map.isInSlot(name)
        var vectors = InterruptVectors(messages, isFixed ? [14, 15] : [16 + PCIInterruptRouter.line(slot: address.slot, pin: 0)], isFixed: isFixed)
        let bars = function.configuration.baseAddresses
        for (number, region) in function.regions.enumerated() {
            let bar = isFixed ? PIIX3IDE.standInRegion + number : bars.firstIndex { $0?.region == number }
            if let bar { regions[bar] = region }
        }
        try trace.forEach { item in
            let event = item.event
            var step: Step?
            if item.site >= 0 {
                let site = trace.sites[item.site]
                vectors.follow(event, selector: trace.map.selector(site.isPort ? .port : .memory, event.address))
                let found = isFixed ? PIIX3IDE.standInRegion + site.region : bars.firstIndex { $0?.region == site.region }
                guard site.device == name, let bar = found else { return true }
                let offset = event.address &- site.base
                if messages.contains(bar: bar, offset: offset) {
                    vectors.followTable(event, offset: offset)
                } else {
                    let place = site.register.map {
                        RegisterPlace(name: $0, holdsAddress: site.contents == .address, holdsTime: site.contents == .time)
                    }
                    step = .access(
                        Access(
                            bar: bar, offset: offset, width: site.width, isWrite: site.isWrite, value: event.value, block: Self.block(event),
                            register: place))
                    accessCount += 1
                }
            } else if event.kind.isDMA {
                guard item.master?.device == name else { return true }
                switch event.kind {
                case .dmaRead: step = .readMemory(address: event.address, bytes: event.bytes)
                case .dmaWrite: step = .writeMemory(address: event.address, bytes: event.bytes)
                case .dmaImage:
                    let origin = ImageOrigin(image: UInt8(truncatingIfNeeded: event.pc), offset: event.value)
                    step = .writeImage(address: event.address, count: Int(min(event.width, 1 << 20)), origin: origin)
                default: break
                }
            } else if event.kind == .interruptAcknowledge, let (kind, vector) = vectors.source(event.value, function) {
                step = .interrupt(kind, vector)
            }
            if let step { events.append(Event(number: item.number, position: event.position, time: item.time, step: step)) }
            return true
        }
    }

    /// What a register is called that the recording does not have.
    package func register(_ bar: Int, _ offset: UInt64, isWrite: Bool) -> RegisterPlace? {
        guard let register = regions[bar]?.register(at: offset) else { return nil }
        return RegisterPlace(
            name: String(register.name(isWrite: isWrite)), holdsAddress: register.contents == .address, holdsTime: register.contents == .time)
    }

    private static func block(_ event: LogEvent) -> Block? {
        switch event.kind {
        case .portBlock: .bytes(event.bytes)
        case .portImage:
            .image(
                ImageOrigin(image: UInt8(truncatingIfNeeded: event.value >> 56), offset: event.value & (1 << 56 - 1)), count: event.blockLength)
        default: nil
        }
    }
}

/// Which interrupt vectors are a device's: as the driver and the system have set the controllers up.
private struct InterruptVectors {
    private let messages: ForeignDeviceSettings.Messages
    /// Data words of the table of MSI-X.
    private var table: [Int: UInt64] = [:]
    /// The I/O APIC's vectors by input; its inputs for our pins.
    private var redirections: [Int: UInt64] = [:]
    private let inputs: [Int]
    /// The pins are ISA interrupts of the same numbers as the inputs.
    private let isFixed: Bool
    /// First vectors of the two 8259A, and whether their next word is that.
    private var bases: [UInt64] = [0, 0]
    private var expectsBase = [false, false]

    init(_ messages: ForeignDeviceSettings.Messages, _ inputs: [Int], isFixed: Bool) {
        self.messages = messages
        self.inputs = inputs
        self.isFixed = isFixed
    }

    mutating func follow(_ event: LogEvent, selector: UInt64) {
        if event.kind == .memoryWrite, event.address == 0xFEC0_0010, (0x10..<0x40).contains(selector), selector & 1 == 0 {
            redirections[Int(selector - 0x10) / 2] = event.value & 0xFF
        }
        guard event.kind == .portWrite else { return }
        for (chip, port) in [UInt64(0x20), 0xA0].enumerated() {
            if event.address == port, event.value & 0x10 != 0 {
                expectsBase[chip] = true
            } else if event.address == port + 1, expectsBase[chip] {
                expectsBase[chip] = false
                bases[chip] = event.value & 0xF8
            }
        }
    }

    mutating func followTable(_ event: LogEvent, offset: UInt64) {
        guard event.kind == .memoryWrite, let start = messages.table?.range.lowerBound, offset >= start else { return }
        let place = offset - start
        if place & 15 == 8 { table[Int(place / 16)] = event.value & 0xFF }
    }

    /// Whose interrupt a vector is, if it is the device's.
    func source(_ vector: UInt64, _ function: any PCIFunction) -> (ForeignInterrupt, Int)? {
        let configuration = function.configuration
        if messages.msix != 0, configuration.read(messages.msix + 2, width: 2) & 0x8000 != 0 {
            return table.filter { $0.value == vector }.keys.min().map { (.msix, $0) }
        }
        if messages.msi != 0, configuration.read(messages.msi + 2, width: 1) & 1 != 0 {
            let isWide = configuration.read(messages.msi + 2, width: 1) & 0x80 != 0
            let data = UInt64(configuration.read(messages.msi + (isWide ? 12 : 8), width: 2)) & 0xFF
            let count = UInt64(1) << UInt64(configuration.read(messages.msi + 2, width: 1) >> 4 & 7)
            return (data..<data + count).contains(vector) ? (.msi, Int(vector - data)) : nil
        }
        for (pin, input) in inputs.enumerated() {
            if redirections[input] == vector { return (.pin, pin) }
            let irq = isFixed ? UInt64(input) : UInt64(configuration.read(0x3C, width: 1))
            if irq > 0, irq < 16, vector == bases[Int(irq / 8)] + irq % 8, bases[Int(irq / 8)] != 0 { return (.pin, pin) }
        }
        return nil
    }
}
