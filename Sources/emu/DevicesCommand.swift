import ArgumentParser
import Passthrough

/// `emu devices`: what of the host can be given to a guest.
struct DevicesCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "devices", abstract: "List the host's USB devices, for --usb host:…")

    func run() throws {
        #if USB
        let devices = try LibUSBDevice.list()
        if devices.isEmpty { Message.say("the host has no USB devices, or no /dev/bus/usb") }
        let speeds: [UInt8: String] = [1: "full speed", 2: "low speed", 3: "high speed", 4: "super speed"]
        for device in devices {
            let classes = device.classes.map(Self.name).joined(separator: ", ")
            print(
                "host:\(USBHostPlace.product(vendor: device.vendor, product: device.product).text)",
                "host:\(USBHostPlace.address(bus: device.bus, address: device.address).text)", speeds[device.speed] ?? "?", classes,
                device.text, separator: "  ")
            if let problem = device.problem { print("    \(problem)") }
        }
        #else
        throw UserError("emu devices: this program was built without it: swift build --traits USB (needs libusb-1.0-0-dev)")
        #endif
    }

    /// A class by its number (usb.org, defined class codes).
    private static func name(_ code: UInt8) -> String {
        switch code {
        case 1: "audio"
        case 2: "communication"
        case 3: "human interface"
        case 6: "image"
        case 7: "printer"
        case 8: "storage"
        case 9: "hub"
        case 10: "data"
        case 11: "smart card"
        case 14: "video"
        case 0xE0: "wireless"
        case 0xEF: "miscellaneous"
        case 0xFF: "vendor"
        default: "class \(code)"
        }
    }
}
