/// What is connected to the PC by USB, as the configuration names it, beside disks.
package struct USBSettings: Sendable, Equatable {
    /// The raw values are in recordings and on the command line.
    package enum Controller: String, Sendable, CaseIterable {
        /// USB 3 and 2.
        case xhci
        /// USB 2, with companions for slow devices of the host.
        case ehci
        /// USB 1: two devices each.
        case uhci
    }
    /// The raw values are in recordings and on the command line.
    package enum Device: String, Sendable, CaseIterable {
        case keyboard
        case mouse
        /// Tells places on the screen.
        case tablet
        /// A serial adapter.
        case serial
        /// A sound card.
        case audio
        /// A device of the host.
        case host
    }

    package var controller = Controller.xhci
    /// At most eight, on the channels usb0...usb7, in the order of the controller's ports.
    package var devices: [Device] = []

    package init(controller: Controller = .xhci, devices: [Device] = []) {
        self.controller = controller
        self.devices = devices
    }

    /// The source of usbmon's records among the notes of a log: no channel's number.
    package static let captureSource: UInt16 = 0x100
    /// The same, of records whose data is in a disk's image (`USBRecord.reference`).
    package static let referenceSource: UInt16 = 0x101

    /// The most devices that a machine has, disks apart.
    package static var most: Int { Channel.usb.count }

    /// As a setting in the header, such as "xhci:keyboard,tablet", and "uhci:" with disks alone; empty when nothing was
    /// asked for.
    package var text: String {
        devices.isEmpty && controller == .xhci ? "" : "\(controller.rawValue):" + devices.map(\.rawValue).joined(separator: ",")
    }

    /// Nil for a text that is not one.
    package init?(text: String) {
        if text.isEmpty { return }
        let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2, let controller = Controller(rawValue: String(parts[0])) else { return nil }
        self.controller = controller
        for name in parts[1].split(separator: ",") {
            guard let device = Device(rawValue: String(name)), devices.count < Self.most else { return nil }
            devices.append(device)
        }
    }
}
