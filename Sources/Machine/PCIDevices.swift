import DeviceBus
import Devices
import MachineState

/// The PC's PCI devices that a configuration may have or not, from slot 4 on, and who among them gets which input.
final class PCIDevices {
    /// What is plugged in.
    private(set) var functions: [any PCIFunction] = []
    private var places: [PCIAddress] = []
    /// Expansion ROMs, by their functions' places.
    private var roms: [PCIAddress: OptionROM] = [:]
    private var nextSlot = firstSlot
    /// What is told of failures of the host's files, by drive number.
    private var drives: [Int: any HostReceiver] = [:]
    private(set) var console: VirtioConsole?
    /// In the order of their channels.
    private(set) var networkCards: [any NetworkCard] = []
    /// What gets the input of USB devices, in the order of their channels.
    private(set) var usbReceivers: [any HostReceiver] = []
    private(set) var usbControllers: [any USBController] = []
    private(set) var sound: AC97?
    private let piix3: PIIX3
    private let host: PCIHost
    private let messages: any MessageSink
    /// A device's own way to RAM, by its name.
    private let memory: (String) -> BusMasterPort
    private let scheduler: Scheduler
    private static let firstSlot = 4

    init(
        _ configuration: PCConfiguration, media: [DiskImage], host: PCIHost, piix3: PIIX3, messages: any MessageSink,
        memory: @escaping (String) -> BusMasterPort, scheduler: Scheduler, channel: (Channel) -> any HostChannel
    ) {
        self.host = host
        self.piix3 = piix3
        self.messages = messages
        self.memory = memory
        self.scheduler = scheduler
        addAHCI(configuration, media)
        for drive in configuration.drives where drive.interface == .virtio || drive.interface == .virtioLegacy {
            guard let medium = media.first(where: { Int($0.number) == drive.number }) else { continue }
            let block = VirtioBlock(medium: medium, serial: drive.serial)
            drives[drive.number] = block
            block.transport = addVirtio(block, isModern: drive.interface == .virtio)
        }
        for device in configuration.devices {
            switch device {
            case .virtioEntropy:
                let entropy = VirtioEntropy(channel: channel(.entropy))
                entropy.transport = addVirtio(entropy)
            case .virtioConsole:
                let console = VirtioConsole(channel: channel(.virtioConsole))
                console.transport = addVirtio(console)
                self.console = console
            case .ac97:
                let port = memory("ac97")
                port.request = { "recorded samples" }
                let card = AC97(
                    name: "ac97", irq: irq(PCIAddress(slot: nextSlot)), memory: port,
                    scheduler: scheduler, channel: channel(.audio))
                add(card)
                sound = card
            }
        }
        for (card, host) in zip(configuration.networkCards, Channel.network) {
            switch card.model {
            case .virtio:
                let network = VirtioNetwork(address: card.address, channel: channel(host))
                network.transport = addVirtio(network)
                networkCards.append(network)
                addROM(card, configuration, host.name)
            case .e1000, .rtl8139:
                let slot = nextSlot
                let name = "\(card.model.rawValue)-\(slot)"
                let port = memory(name)
                port.request = { "a frame" }
                let irq = irq(PCIAddress(slot: slot))
                let network: any PCIFunction & NetworkCard =
                    card.model == .e1000
                    ? E1000(
                        name: name, address: card.address, irq: irq, memory: port, scheduler: scheduler, channel: channel(host))
                    : RTL8139(
                        name: name, address: card.address, irq: irq, memory: port, scheduler: scheduler, channel: channel(host))
                add(network)
                networkCards.append(network)
                addROM(card, configuration, host.name)
            }
        }
        addUSB(configuration, media, channel)
    }

    /// The expansion ROM of the card that was added last, if there is a file for its model.
    private func addROM(_ card: NetworkCardSettings, _ configuration: PCConfiguration, _ name: String) {
        guard let bytes = configuration.firmware?.networkROMs[card.model.rawValue], let function = functions.last, let place = places.last
        else { return }
        let identifiers = function.configuration.read(0, width: 4)
        roms[place] = OptionROM(
            name: name, bytes: bytes, vendor: UInt16(truncatingIfNeeded: identifiers), device: UInt16(truncatingIfNeeded: identifiers >> 16))
    }

    private func addUSB(_ configuration: PCConfiguration, _ media: [DiskImage], _ channel: (Channel) -> any HostChannel) {
        let settings = configuration.usb
        // A controller of USB 2.0 alone has no use for slower devices.
        let speed = settings.controller == .ehci ? USBSpeed.high : .full
        var devices: [any USBDevice] = []
        for (kind, host) in zip(settings.devices, Channel.usb) {
            func add(_ function: any USBFunction & HostReceiver) {
                devices.append(USBBuiltIn(function, speed: speed))
                usbReceivers.append(function)
            }
            switch kind {
            case .keyboard: add(USBKeyboard())
            case .mouse: add(USBPointer(isTablet: false))
            case .tablet: add(USBPointer(isTablet: true))
            case .serial: add(USBSerial(channel: channel(host)))
            case .host:
                let device = USBHostDevice(channel: channel(host))
                devices.append(device)
                usbReceivers.append(device)
            }
        }
        for drive in configuration.drives where drive.interface == .usb {
            guard let medium = media.first(where: { Int($0.number) == drive.number }) else { continue }
            let isHighSpeed = settings.controller != .uhci
            let disk = USBStorage(medium: medium, serial: drive.serial, isHighSpeed: isHighSpeed)
            devices.append(USBBuiltIn(disk, speed: isHighSpeed ? .high : .full))
            drives[drive.number] = disk
        }
        if devices.isEmpty { return }
        switch settings.controller {
        case .xhci:
            let controller = XHCI(
                name: "xhci", devices: devices, irq: irq(PCIAddress(slot: nextSlot)), messages: messages, memory: usbPort("xhci"),
                scheduler: scheduler)
            add(controller)
            usbControllers = [controller]
        case .uhci: addUHCI(devices)
        case .ehci: addEHCI(devices)
        }
    }

    private func usbPort(_ name: String) -> BusMasterPort {
        let port = memory(name)
        port.request = { "a USB transfer" }
        return port
    }

    /// Two devices each: the first controller is the PIIX3's, further ones are cards.
    private func addUHCI(_ devices: [any USBDevice]) {
        for first in stride(from: 0, to: devices.count, by: UHCI.portCount) {
            let role = first == 0 ? UHCI.Role.piix3 : .card
            let place = first == 0 ? PCIAddress(slot: 1, function: 2) : PCIAddress(slot: nextSlot)
            let name = first == 0 ? "uhci" : "uhci\(first / UHCI.portCount)"
            let controller = UHCI(
                name: name, devices: Array(devices[first..<min(first + UHCI.portCount, devices.count)]), role: role, firstPort: first,
                irq: irq(place, pin: role.interruptPin), memory: usbPort(name), scheduler: scheduler)
            if first == 0 { add(controller, at: place) } else { add(controller) }
            usbControllers.append(controller)
        }
    }

    /// One card: companions for slow devices of the host are its first functions, EHCI its last.
    private func addEHCI(_ devices: [any USBDevice]) {
        let slot = nextSlot
        let place = PCIAddress(slot: slot, function: 7)
        let controller = EHCI(
            name: "ehci", devices: devices, irq: irq(place, pin: 4), memory: usbPort("ehci"), scheduler: scheduler)
        for (function, first) in stride(from: 0, to: EHCI.portCount(devices.count), by: UHCI.portCount).enumerated() {
            let role = UHCI.Role.companion(function: function)
            let name = "uhci\(function + 1)"
            let companion = UHCI(
                name: name, devices: Array(devices.dropFirst(first).prefix(UHCI.portCount)), role: role, owner: controller, firstPort: first,
                irq: irq(PCIAddress(slot: slot, function: function), pin: role.interruptPin), memory: usbPort(name),
                scheduler: scheduler)
            controller.companions.append(companion)
            add(companion, at: PCIAddress(slot: slot, function: function))
        }
        add(controller, at: place)
        nextSlot += 1
        usbControllers = controller.companions + [controller]
    }

    private func addAHCI(_ configuration: PCConfiguration, _ media: [DiskImage]) {
        let disks = configuration.drives.filter { $0.interface == .ahci }
        if disks.isEmpty { return }
        let slot = nextSlot
        let numbers = Array(DriveInterface.ahci.numbers)
        let port = memory("ahci")
        let controller = AHCI(
            name: "ahci", media: numbers.map { number in media.first { Int($0.number) == number } },
            serials: numbers.map { number in disks.first { $0.number == number }?.serial ?? "" },
            irq: irq(PCIAddress(slot: slot)), messages: messages, memory: port,
            scheduler: scheduler)
        port.request = { [unowned controller] in controller.request }
        add(controller)
        for (port, number) in numbers.enumerated() { drives[number] = AHCIFailure(port: controller.ports[port]) }
    }

    private final class AHCIFailure: HostReceiver {
        private let port: AHCIPort
        init(port: AHCIPort) { self.port = port }
        func receive(_ bytes: [UInt8]) { port.hostFailed() }
    }

    /// A function in the next slot.
    private func add(_ function: any PCIFunction) {
        add(function, at: PCIAddress(slot: nextSlot))
        nextSlot += 1
    }
    private func add(_ function: any PCIFunction, at place: PCIAddress) {
        functions.append(function)
        places.append(place)
    }
    private func irq(_ place: PCIAddress, pin: Int = 1) -> IRQLine { IRQLine(piix3, place.interruptInput(pin: pin)) }

    private func addVirtio(_ function: any VirtioFunction, isModern: Bool = true) -> VirtioPCI {
        let slot = nextSlot
        let port = memory("virtio\(slot)")
        let device = VirtioPCI(
            name: "virtio\(slot)", function: function,
            irq: irq(PCIAddress(slot: slot)), messages: messages, memory: port,
            scheduler: scheduler, isModern: isModern)
        port.request = { [unowned device] in device.request }
        add(device)
        return device
    }

    /// Plugs the functions in: after they are on the bus.
    func plugIn() {
        for (function, place) in zip(functions, places) { host.add(function, at: place, rom: roms[place]) }
    }

    /// The receiver of failures of the host's files: a drive's number in one byte.
    func failures(ide: PIIX3IDE, floppy: FloppyController) -> any HostReceiver {
        var drives = self.drives
        for number in DriveInterface.floppy.numbers { drives[number] = floppy }
        return DriveFailures(ide: ide, drives: drives)
    }

    private final class DriveFailures: HostReceiver {
        private let ide: PIIX3IDE
        private let drives: [Int: any HostReceiver]
        init(ide: PIIX3IDE, drives: [Int: any HostReceiver]) {
            self.ide = ide
            self.drives = drives
        }
        func receive(_ bytes: [UInt8]) {
            guard let number = bytes.first else { return }
            if let drive = drives[Int(number)] { drive.receive(bytes) } else { ide.receive(bytes) }
        }
    }
}
