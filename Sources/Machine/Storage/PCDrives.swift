import Devices

/// What a drive of the PC is connected to. The raw values are in recordings.
package enum DriveInterface: String, Sendable, CaseIterable {
    /// PIIX3 IDE: drives 0 and 1 on the primary channel, 2 and 3 on the secondary.
    case ide
    /// Ports 0...5 of an AHCI controller: drives 4...9.
    case ahci
    /// The floppy disk controller: drives 12 and 13 are A and B.
    case floppy
    /// A virtio block device each: drives 16...23.
    case virtio
    /// The same for drivers of the legacy interface only.
    case virtioLegacy = "virtio-legacy"

    /// A disk of its own at the USB controller each: drives 32...39.
    case usb

    /// Not in a drive yet: discs that may be put into the CD-ROM drive.
    case disc

    /// The numbers of its drives.
    package var numbers: ClosedRange<Int> {
        switch self {
        case .ide: 0...3
        case .ahci: 4...9
        case .floppy: 12...13
        case .disc: 24...31
        case .virtio, .virtioLegacy: 16...23
        case .usb: 32...39
        }
    }
}

/// A drive of the PC, as the configuration names it.
package struct DriveSettings: Sendable, Equatable {
    /// Where it is connected: see `DriveInterface`.
    package var number: Int
    package var kind: IDEDrive.Kind
    package var interface: DriveInterface
    package init(number: Int, kind: IDEDrive.Kind, interface: DriveInterface = .ide) {
        self.number = number
        self.kind = kind
        self.interface = interface
    }

    /// The role of the image in a recording's header.
    package var role: String { (interface == .floppy ? "floppy" : kind == .disk ? "disk" : "cdrom") + String(number) }

    /// What the guest sees as the drive's serial number.
    var serial: String { "EMU0000\(number + 1)" }

    /// The drives at the IDE channels, by number.
    static func ideDrives(_ settings: [DriveSettings], _ images: [DiskImage]) -> [IDEDrive?] {
        DriveInterface.ide.numbers.map { number in
            settings.first { $0.number == number && $0.interface == .ide }.map { drive in
                let others = drive.kind == .cdrom ? images.filter { DriveInterface.disc.numbers.contains(Int($0.number)) } : []
                return IDEDrive(
                    kind: drive.kind, medium: images.first { Int($0.number) == number }, serial: drive.serial, others: others)
            }
        }
    }
}

extension [DriveSettings] {
    /// As a setting in the header, such as "0:disk,2:cdrom,16:disk:virtio".
    package var text: String {
        map { drive in
            let place = drive.interface == .ide ? "" : ":\(drive.interface.rawValue)"
            return "\(drive.number):\(drive.kind == .disk ? "disk" : "cdrom")\(place)"
        }.joined(separator: ",")
    }

    /// Nil for a text that is not one.
    package init?(text: String) {
        self = []
        for part in text.split(separator: ",") {
            let fields = part.split(separator: ":")
            guard fields.count == 2 || fields.count == 3, let number = Int(fields[0]),
                let interface = fields.count == 2 ? .ide : DriveInterface(rawValue: String(fields[2])),
                interface.numbers.contains(number), fields[1] == "disk" || fields[1] == "cdrom"
            else { return nil }
            append(DriveSettings(number: number, kind: fields[1] == "disk" ? .disk : .cdrom, interface: interface))
        }
    }
}
