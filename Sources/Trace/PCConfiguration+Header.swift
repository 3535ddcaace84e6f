import Devices
import Machine
import Replay

extension PCConfiguration {
    /// The recorded machine, as the header names it; without its firmware's files.
    package init(header: LogHeader, recording: String) throws(LogError) {
        func setting(_ name: String) throws(LogError) -> String {
            guard let value = header.setting(name) else { throw LogError("\(recording): the header has no setting “\(name)”") }
            return value
        }
        self.init()
        let machine = try setting("machine")
        guard machine == "pc" else {
            throw LogError("\(recording): needs a machine “\(machine)”, which this version does not have")
        }
        guard let memory = UInt64(try setting("memory")) else { throw LogError("\(recording): the memory size is damaged") }
        self.memory = memory
        boundary = header.boundary
        clockShift = header.clockShift
        date = header.date
        commandLine = try setting("append")
        entersIn32Bits = try setting("entry") == "32"
        endsAtReset = try setting("reset") == "end"
        guard let drives = [DriveSettings](text: header.setting("drives") ?? "") else {
            throw LogError("\(recording): the list of drives is damaged")
        }
        self.drives = drives
        for name in (header.setting("devices") ?? "").split(separator: ",") {
            guard let device = OptionalDevice(rawValue: String(name)) else {
                throw LogError("\(recording): needs a device “\(name)”, which this version does not have")
            }
            devices.append(device)
        }
        guard let cards = [NetworkCardSettings](text: header.setting("net") ?? "") else {
            throw LogError("\(recording): needs network cards that this version does not have: \(header.setting("net") ?? "")")
        }
        networkCards = cards
        guard let usb = USBSettings(text: header.setting("usb") ?? "") else {
            throw LogError("\(recording): needs USB devices that this version does not have: \(header.setting("usb") ?? "")")
        }
        self.usb = usb
        guard let foreign = [ForeignDeviceSettings](text: header.setting("foreign") ?? "") else {
            throw LogError("\(recording): the description of a device in another process is damaged")
        }
        foreignDevices = foreign
        if header.image("bios") != nil { firmware = FirmwareSettings() }
    }
}
