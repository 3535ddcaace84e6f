import Devices

/// A drive of the PC, as the configuration names it.
package struct DriveSettings: Sendable, Equatable {
    /// 0, 1: primary channel; 2, 3: secondary channel.
    package var number: Int
    package var kind: IDEDrive.Kind
    /// There is a disk, or a disc in the drive.
    package var hasMedium: Bool
    package init(number: Int, kind: IDEDrive.Kind, hasMedium: Bool = true) {
        self.number = number
        self.kind = kind
        self.hasMedium = hasMedium
    }

    /// The role of the image in a recording's header.
    package var role: String { (kind == .disk ? "disk" : "cdrom") + String(number) }

    /// The drives of a list of images, by number.
    static func drives(_ settings: [DriveSettings], _ images: [DiskImage]) -> [IDEDrive?] {
        (0..<4).map { number in
            settings.first { $0.number == number }.map { drive in
                IDEDrive(
                    kind: drive.kind, medium: images.first { Int($0.number) == number }, serial: "EMU0000\(number + 1)")
            }
        }
    }
}
