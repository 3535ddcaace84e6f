import ArgumentParser
import Boundary
import Devices
import Machine
import Passthrough

/// Options of `run` about USB.
struct USBOptions: ParsableArguments {
    @Option(help: ArgumentHelp(
        "A USB device: keyboard, mouse, tablet, audio (a sound card, see --audio), serial=BACKEND (as --serial), or host:VENDOR:PRODUCT or host:BUS.ADDRESS, a device of the host (“emu devices” lists them; in builds with --traits USB). Up to eight times. Disks: --disk FILE,if=usb.",
        valueName: "device"))
    var usb: [USBOption] = []

    @Option(help: ArgumentHelp(
        "The controller that USB devices and disks are at: xhci (USB 3), ehci (USB 2; all built-in devices are of high speed) or uhci (USB 1.1; two devices each).",
        valueName: "name"))
    var usbController = USBSettings.Controller.xhci

    func validate() throws {
        if usb.count > USBSettings.most { throw ValidationError("--usb can be given \(USBSettings.most) times at most") }
    }

    var settings: USBSettings { USBSettings(controller: usbController, devices: usb.map(\.device)) }
}

extension USBSettings.Controller: ExpressibleByArgument {}

/// `--usb DEVICE`.
enum USBOption: ExpressibleByArgument, Equatable {
    /// A device that is part of the machine.
    case builtIn(USBSettings.Device)
    case serial(SerialOption)
    case host(USBHostPlace)

    init?(argument: String) {
        if argument.hasPrefix("serial=") {
            guard let option = SerialOption(argument: String(argument.dropFirst(7))) else { return nil }
            self = .serial(option)
        } else if argument.hasPrefix("host:") {
            guard let place = USBHostPlace(String(argument.dropFirst(5))) else { return nil }
            self = .host(place)
        } else {
            guard let device = USBSettings.Device(rawValue: argument), device != .host, device != .serial else { return nil }
            self = .builtIn(device)
        }
    }

    var device: USBSettings.Device {
        switch self {
        case .builtIn(let device): device
        case .serial: .serial
        case .host: .host
        }
    }
}

/// Joins the USB devices' channels and what they lead to.
struct USBConnections {
    private var links: [USBHostLink] = []

    init(_ options: [USBOption], _ live: LiveBoundary, readsTerminal: Bool) throws {
        for (option, channel) in zip(options, Channel.usb) {
            switch option {
            case .builtIn: break
            case .serial(let serial):
                HostConnections.connect(live, channel, try serial.backend("--usb serial", readsTerminal: readsTerminal, quit: { live.requestQuit() }))
            case .host(let place):
                #if USB
                let link = USBHostLink(try LibUSBDevice(place) { Message.say($0) }, live, channel)
                live.register(source: channel.rawValue, name: channel.name, sink: link)
                links.append(link)
                #else
                throw UserError("--usb host:\(place.text): this program was built without it: swift build --traits USB (needs libusb-1.0-0-dev)")
                #endif
            }
        }
    }

    func start() { for link in links { link.start() } }
}

/// Between a device of the host and the machine's channel.
final class USBHostLink: HostSink {
    private let device: any USBHostBackend
    private let live: LiveBoundary
    private let source: UInt16

    init(_ device: any USBHostBackend, _ live: LiveBoundary, _ channel: Channel) {
        self.device = device
        self.live = live
        source = channel.rawValue
    }

    func ask(_ question: UInt32) -> UInt64 { 0 }

    func send(_ bytes: [UInt8]) {
        switch USBHostMessage.request(bytes) {
        case .submit(let number, let transfer):
            device.submit(
                USBHostRequest(
                    number: number, kind: transfer.kind.rawValue, endpoint: transfer.endpoint, setup: transfer.setup?.bytes ?? [],
                    data: transfer.data, length: transfer.length))
        case .cancel(let number): device.cancel(number)
        case .reset: device.reset()
        case nil: break
        }
    }

    func start() {
        device.start { [live, source] event in
            switch event {
            case .attached(let speed):
                if let speed = USBSpeed(rawValue: speed) { live.push(source: source, bytes: USBHostMessage.attached(speed)) }
            case .detached: live.push(source: source, bytes: USBHostMessage.detached)
            case .done(let number, let data): live.push(source: source, bytes: USBHostMessage.completed(number, USBHostMessage.done, data))
            case .stalled(let number): live.push(source: source, bytes: USBHostMessage.completed(number, USBHostMessage.stall))
            case .failed(let number): live.push(source: source, bytes: USBHostMessage.completed(number, USBHostMessage.failed))
            }
        }
    }
}
