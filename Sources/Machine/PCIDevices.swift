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
    private(set) var console: (any HostReceiver)?
    /// In the order of their channels.
    private(set) var networkCards: [any HostReceiver] = []
    /// What gets the input of USB devices, in the order of their channels.
    private(set) var usbReceivers: [any HostReceiver] = []
    private var usbControllers: [any USBController] = []
    /// The thread of the controller, if it has one.
    private var usbThread: DeviceThread?
    private(set) var sound: (any HostReceiver)?
    /// What is carried out elsewhere.
    private(set) var foreign: [ForeignFunction] = []
    /// The ways there.
    private(set) var links: [any ForeignDeviceLink] = []
    private var threads: [DeviceThread] = []
    /// Devices get threads of their own.
    private let threading: DeviceThreading?
    /// What is carried out elsewhere instead of by its model, by name.
    private let substitutes: [String: any ForeignDeviceLink]
    private let piix3: PIIX3
    private let host: PCIHost
    private let messages: any MessageSink
    /// A device's own way to RAM, by its name.
    private let memory: (String) -> BusMasterPort
    private let scheduler: Scheduler
    static let firstSlot = 4

    init(
        _ configuration: PCConfiguration, media: [DiskImage], links: [any ForeignDeviceLink], threading: DeviceThreading?,
        substitutes: [String: any ForeignDeviceLink], host: PCIHost, piix3: PIIX3, messages: any MessageSink,
        memory: @escaping (String) -> BusMasterPort, scheduler: Scheduler, channel: (Channel) -> any HostChannel
    ) {
        self.threading = threading
        self.substitutes = substitutes
        self.host = host
        self.piix3 = piix3
        self.messages = messages
        self.memory = memory
        self.scheduler = scheduler
        addAHCI(configuration, media)
        for drive in configuration.drives where drive.interface == .virtio || drive.interface == .virtioLegacy {
            guard let medium = media.first(where: { Int($0.number) == drive.number }) else { continue }
            let place = place([])
            let block = VirtioBlock(medium: medium, serial: drive.serial)
            drives[drive.number] = place.receiver(block)
            addVirtio(block, place, isModern: drive.interface == .virtio) { block.transport = $0 }
        }
        for device in configuration.devices {
            switch device {
            case .virtioEntropy:
                let place = place([(.entropy, channel(.entropy))])
                let entropy = VirtioEntropy(channel: place.channels[0])
                addVirtio(entropy, place) { entropy.transport = $0 }
            case .virtioConsole:
                let place = place([(.virtioConsole, channel(.virtioConsole))])
                let console = VirtioConsole(channel: place.channels[0])
                self.console = place.receiver(console)
                addVirtio(console, place) { console.transport = $0 }
            case .ac97:
                let place = place([(.audio, channel(.audio))])
                let port = place.memory("ac97")
                port.request = { "recorded samples" }
                let card = AC97(
                    name: "ac97", irq: place.irq, memory: port, scheduler: place.scheduler, channel: place.channels[0])
                sound = place.receiver(card)
                add(card, place)
            case .hda:
                let place = place([(.audio, channel(.audio))])
                let port = place.memory("hda")
                port.request = { "recorded samples" }
                let card = HDA(
                    name: "hda", irq: place.irq, messages: place.messages, memory: port, scheduler: place.scheduler,
                    channel: place.channels[0])
                sound = place.receiver(card)
                add(card, place)
            }
        }
        for (card, host) in zip(configuration.networkCards, Channel.network) {
            switch card.model {
            case .virtio:
                let place = place([(host, channel(host))])
                let network = VirtioNetwork(address: card.address, channel: place.channels[0])
                networkCards.append(place.receiver(network))
                addVirtio(network, place) { network.transport = $0 }
                addROM(card, configuration, host.name)
            case .e1000, .rtl8139:
                let place = place([(host, channel(host))])
                let name = "\(card.model.rawValue)-\(nextSlot)"
                let port = place.memory(name)
                port.request = { "a frame" }
                let network: any PCIFunction & NetworkCard =
                    card.model == .e1000
                    ? E1000(
                        name: name, address: card.address, irq: place.irq, memory: port, scheduler: place.scheduler,
                        channel: place.channels[0])
                    : RTL8139(
                        name: name, address: card.address, irq: place.irq, memory: port, scheduler: place.scheduler,
                        channel: place.channels[0])
                networkCards.append(place.receiver(network))
                add(network, place)
                addROM(card, configuration, host.name)
            }
        }
        addUSB(configuration, media, channel)
        for (number, settings) in configuration.foreignDevices.enumerated() {
            add("vfio\(nextSlot)", settings, number < links.count ? links[number] : nil)
        }
    }

    /// A device that is carried out elsewhere, in the next slot.
    private func add(_ name: String, _ settings: ForeignDeviceSettings, _ link: (any ForeignDeviceLink)?) {
        let function = ForeignFunction(
            name: name, settings: settings, irq: nextPin, messages: messages, memory: memory(name), link: link)
        addNext(function)
        foreign.append(function)
        if let link { links.append(link) }
    }

    /// What a device in the next slot is connected to: the board, or a thread of its own.
    private struct Place {
        let irq: IRQLine
        let messages: any MessageSink
        let memory: (String) -> BusMasterPort
        let scheduler: Scheduler
        let channels: [any HostChannel]
        /// The real channels.
        let outlets: [any HostChannel]
        let thread: DeviceThread?

        /// Whoever gives a device its input gives it here.
        func receiver(_ receiver: any HostReceiver) -> any HostReceiver { thread?.receiver(receiver) ?? receiver }
    }

    private func place(_ channels: [(channel: Channel, outlet: any HostChannel)]) -> Place {
        let outlets = channels.map(\.outlet)
        guard let thread = newThread() else { return place(onBoard: outlets) }
        let server = thread.server
        return Place(
            irq: IRQLine(server, 0), messages: server, memory: { BusMasterPort($0, server, BusMasters()) }, scheduler: server.scheduler,
            channels: channels.enumerated().map { thread.channel($0, $1.channel) }, outlets: outlets, thread: thread)
    }

    /// Nil: devices have no threads, or there is none left, and then the user is told that the board itself runs the device.
    private func newThread() -> DeviceThread? {
        guard let threading else { return nil }
        do {
            return try DeviceThread(threading)
        } catch {
            threading.report("a device gets no thread of its own: \(error)")
            return nil
        }
    }

    private func place(onBoard outlets: [any HostChannel]) -> Place {
        Place(irq: nextPin, messages: messages, memory: memory, scheduler: scheduler, channels: outlets, outlets: outlets, thread: nil)
    }

    /// Puts a device that was made for the board into the next slot.
    private func insert(_ function: any PCIFunction) {
        if let link = substitutes[function.name], let settings = ForeignDeviceSettings(of: function) {
            add(function.name, settings, link)
        } else {
            addNext(function)
        }
    }

    /// Puts a device that was made for `place` into the next slot.
    private func add(_ function: any PCIFunction, _ place: Place) {
        guard let thread = place.thread else { return insert(function) }
        do {
            let client = try thread.start(function, outlets: place.outlets)
            threads.append(thread)
            add(function.name, client.settings, client)
        } catch {
            threading?.report("\(function.name) gets no thread: \(error)")
        }
    }

    /// The machine has ended: no thread is at work any more.
    func finish() {
        for link in links { link.close() }
        for thread in threads { thread.finish() }
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
        let disks = configuration.drives.filter { $0.interface == .usb }
        if settings.devices.isEmpty, disks.isEmpty { return }
        // A sound card has the channel of sound cards.
        let hosts = zip(settings.devices, Channel.usb).map { $0 == .audio ? .audio : $1 }
        // Older controllers are several functions that share their ports: they stay on the machine's thread.
        let place = settings.controller == .xhci ? place(hosts.map { ($0, channel($0)) }) : place(onBoard: hosts.map(channel))
        // A controller of USB 2.0 alone has no use for slower devices.
        let speed = settings.controller == .ehci ? USBSpeed.high : .full
        var devices: [any USBDevice] = []
        for (kind, host) in zip(settings.devices, place.channels) {
            func add(_ function: any USBFunction & HostReceiver) {
                devices.append(USBBuiltIn(function, speed: speed))
                usbReceivers.append(place.receiver(function))
            }
            switch kind {
            case .keyboard: add(USBKeyboard())
            case .mouse: add(USBPointer(isTablet: false))
            case .tablet: add(USBPointer(isTablet: true))
            case .serial: add(USBSerial(channel: host))
            case .audio:
                add(USBAudio(channel: host))
                sound = usbReceivers.last
            case .host:
                let device = USBHostDevice(channel: host)
                devices.append(device)
                usbReceivers.append(place.receiver(device))
            }
        }
        for drive in disks {
            guard let medium = media.first(where: { Int($0.number) == drive.number }) else { continue }
            let isHighSpeed = settings.controller != .uhci
            let disk = USBStorage(medium: medium, serial: drive.serial, isHighSpeed: isHighSpeed)
            devices.append(USBBuiltIn(disk, speed: isHighSpeed ? .high : .full))
            drives[drive.number] = place.receiver(disk)
        }
        if devices.isEmpty { return }
        switch settings.controller {
        case .xhci:
            let port = place.memory("xhci")
            port.request = { "a USB transfer" }
            let controller = XHCI(
                name: "xhci", devices: devices, irq: place.irq, messages: place.messages, memory: port, scheduler: place.scheduler)
            usbControllers = [controller]
            usbThread = place.thread
            add(controller, place)
        case .uhci: addUHCI(devices)
        case .ehci: addEHCI(devices)
        }
    }

    /// Lets `deliver` see USB transfers, as records of usbmon; false: there is no controller.
    func tapUSB(_ deliver: @escaping (USBRecord, VirtualTime) -> Void) -> Bool {
        if let usbThread, let controller = usbControllers.first {
            usbThread.tap(controller) { [scheduler] in deliver($0, scheduler.now) }
            return true
        }
        // Ports of all controllers have different numbers: to a capture they are one bus.
        let tap = USBTap(bus: 1, scheduler: scheduler, deliver: deliver)
        for controller in usbControllers { controller.tap = tap }
        return !usbControllers.isEmpty
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
            if first == 0 { add(controller, at: place) } else { insert(controller) }
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
        let place = place([])
        let numbers = Array(DriveInterface.ahci.numbers)
        let port = place.memory("ahci")
        let controller = AHCI(
            name: "ahci", media: numbers.map { number in media.first { Int($0.number) == number } },
            serials: numbers.map { number in disks.first { $0.number == number }?.serial ?? "" },
            irq: place.irq, messages: place.messages, memory: port, scheduler: place.scheduler)
        port.request = { [unowned controller] in controller.request }
        port.requestKey = { [unowned controller] in controller.requestKey }
        for (port, number) in numbers.enumerated() { drives[number] = place.receiver(AHCIFailure(port: controller.ports[port])) }
        add(controller, place)
    }

    private final class AHCIFailure: HostReceiver {
        private let port: AHCIPort
        init(port: AHCIPort) { self.port = port }
        func receive(_ bytes: [UInt8]) { port.hostFailed() }
    }

    private var nextPin: IRQLine { irq(PCIAddress(slot: nextSlot)) }
    private func irq(_ place: PCIAddress, pin: Int = 1) -> IRQLine { IRQLine(piix3, place.interruptInput(pin: pin)) }
    private func add(_ function: any PCIFunction, at place: PCIAddress) {
        functions.append(function)
        places.append(place)
    }
    private func addNext(_ function: any PCIFunction) {
        add(function, at: PCIAddress(slot: nextSlot))
        nextSlot += 1
    }

    /// Puts a virtio device that was made for `place` into the next slot. `join` tells it of its transport.
    private func addVirtio(
        _ function: any VirtioFunction, _ place: Place, isModern: Bool = true, _ join: (VirtioPCI) -> Void
    ) {
        let name = "virtio\(nextSlot)"
        let port = place.memory(name)
        let device = VirtioPCI(
            name: name, function: function, irq: place.irq, messages: place.messages, memory: port, scheduler: place.scheduler,
            isModern: isModern)
        port.request = { [unowned device] in device.request }
        port.requestKey = { [unowned device] in device.requestKey }
        join(device)
        add(device, place)
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
