import DeviceBus
import Devices
import MachineState

/// The PC's PCI devices that a configuration may have or not, from slot 4 on, and who among them gets which input.
final class PCIDevices {
    /// In the order of their slots.
    private(set) var functions: [any PCIFunction] = []
    /// What is told of failures of the host's files, by drive number.
    private var drives: [Int: any HostReceiver] = [:]
    private(set) var console: VirtioConsole?
    /// In the order of their channels.
    private(set) var networkCards: [any NetworkCard] = []
    /// What gets the input of USB devices, in the order of their channels.
    private(set) var usbReceivers: [any HostReceiver] = []
    private(set) var xhci: XHCI?
    private(set) var sound: AC97?
    /// What is carried out elsewhere.
    private(set) var foreign: [ForeignFunction] = []
    private let piix3: PIIX3
    private let host: PCIHost
    private let messages: any MessageSink
    /// A device's own way to RAM, by its name.
    private let memory: (String) -> BusMasterPort
    private let scheduler: Scheduler
    private static let firstSlot = 4

    init(
        _ configuration: PCConfiguration, media: [DiskImage], links: [any ForeignDeviceLink], host: PCIHost, piix3: PIIX3,
        messages: any MessageSink,
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
                let slot = nextSlot
                let port = memory("ac97")
                port.request = { "recorded samples" }
                let card = AC97(
                    name: "ac97", irq: IRQLine(piix3, PCIAddress(slot: slot).interruptInput(pin: 1)), memory: port,
                    scheduler: scheduler, channel: channel(.audio))
                functions.append(card)
                sound = card
            }
        }
        for (card, host) in zip(configuration.networkCards, Channel.network) {
            switch card.model {
            case .virtio:
                let network = VirtioNetwork(address: card.address, channel: channel(host))
                network.transport = addVirtio(network)
                networkCards.append(network)
            case .e1000, .rtl8139:
                let slot = nextSlot
                let name = "\(card.model.rawValue)-\(slot)"
                let port = memory(name)
                port.request = { "a frame" }
                let irq = IRQLine(piix3, PCIAddress(slot: slot).interruptInput(pin: 1))
                let network: any PCIFunction & NetworkCard =
                    card.model == .e1000
                    ? E1000(
                        name: name, address: card.address, irq: irq, memory: port, scheduler: scheduler, channel: channel(host))
                    : RTL8139(
                        name: name, address: card.address, irq: irq, memory: port, scheduler: scheduler, channel: channel(host))
                functions.append(network)
                networkCards.append(network)
            }
        }
        addUSB(configuration, media, channel)
        for (number, settings) in configuration.foreignDevices.enumerated() {
            let slot = nextSlot
            let name = "vfio\(slot)"
            let function = ForeignFunction(
                name: name, settings: settings, irq: IRQLine(piix3, PCIAddress(slot: slot).interruptInput(pin: 1)),
                messages: messages, memory: memory(name), link: number < links.count ? links[number] : nil)
            functions.append(function)
            foreign.append(function)
        }
    }

    private func addUSB(_ configuration: PCConfiguration, _ media: [DiskImage], _ channel: (Channel) -> any HostChannel) {
        var devices: [any USBDevice] = []
        for (kind, host) in zip(configuration.usb.devices, Channel.usb) {
            func add(_ function: any USBFunction & HostReceiver) {
                devices.append(USBBuiltIn(function, speed: .full))
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
            let disk = USBStorage(medium: medium, serial: drive.serial, isHighSpeed: true)
            devices.append(USBBuiltIn(disk, speed: .high))
            drives[drive.number] = disk
        }
        if devices.isEmpty { return }
        let slot = nextSlot
        let port = memory("xhci")
        port.request = { "a USB transfer" }
        let controller = XHCI(
            name: "xhci", devices: devices, irq: IRQLine(piix3, PCIAddress(slot: slot).interruptInput(pin: 1)), messages: messages,
            memory: port, scheduler: scheduler)
        functions.append(controller)
        xhci = controller
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
            irq: IRQLine(piix3, PCIAddress(slot: slot).interruptInput(pin: 1)), messages: messages, memory: port,
            scheduler: scheduler)
        port.request = { [unowned controller] in controller.request }
        functions.append(controller)
        for (port, number) in numbers.enumerated() { drives[number] = AHCIFailure(port: controller.ports[port]) }
    }

    private final class AHCIFailure: HostReceiver {
        private let port: AHCIPort
        init(port: AHCIPort) { self.port = port }
        func receive(_ bytes: [UInt8]) { port.hostFailed() }
    }

    private var nextSlot: Int { Self.firstSlot + functions.count }

    private func addVirtio(_ function: any VirtioFunction, isModern: Bool = true) -> VirtioPCI {
        let slot = nextSlot
        let port = memory("virtio\(slot)")
        let device = VirtioPCI(
            name: "virtio\(slot)", function: function,
            irq: IRQLine(piix3, PCIAddress(slot: slot).interruptInput(pin: 1)), messages: messages, memory: port,
            scheduler: scheduler, isModern: isModern)
        port.request = { [unowned device] in device.request }
        functions.append(device)
        return device
    }

    /// Plugs the functions in: after they are on the bus.
    func plugIn() {
        for (index, function) in functions.enumerated() { host.add(function, at: PCIAddress(slot: Self.firstSlot + index)) }
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
