import Boundary
import MachineState

/// What a recording starts with: all that is needed to build the same machine again.
package struct LogHeader: Sendable, Equatable {
    /// The version this program writes, and the newest it reads.
    package static let formatVersion: UInt32 = 2

    /// A file that must be the same at replay.
    package struct Image: Sendable, Equatable {
        /// "kernel", "initrd", …
        package var role: String
        /// Where it was when recorded: a hint only.
        package var path: String
        package var size: UInt64
        /// SHA-256, 64 hexadecimal digits.
        package var digest: String
        package init(role: String, path: String, size: UInt64, digest: String) {
            self.role = role
            self.path = path
            self.size = size
            self.digest = digest
        }
    }

    /// A setting of the machine, as text.
    package struct Setting: Sendable, Equatable {
        package var name: String
        package var value: String
        package init(_ name: String, _ value: String) {
            self.name = name
            self.value = value
        }
    }

    package var boundary: BoundaryKind
    /// See `VirtualClock.shift`.
    package var clockShift: UInt8
    /// Instructions between digests.
    package var digestInterval: Position
    /// The guest's date at power-on, seconds since 1970.
    package var date: UInt64
    /// The machine, in a fixed order.
    package var settings: [Setting]
    package var images: [Image]

    package init(
        boundary: BoundaryKind, clockShift: UInt8, digestInterval: Position, date: UInt64, settings: [Setting],
        images: [Image]
    ) {
        self.boundary = boundary
        self.clockShift = clockShift
        self.digestInterval = digestInterval
        self.date = date
        self.settings = settings
        self.images = images
    }

    package func setting(_ name: String) -> String? { settings.first { $0.name == name }?.value }
    package func image(_ role: String) -> Image? { images.first { $0.role == role } }

    /// The first position after `position` that a digest is due at; never, if there are none.
    func nextDigest(after position: Position) -> Position {
        if digestInterval == 0 { return .max }
        let (next, isBeyond) = (position / digestInterval + 1).multipliedReportingOverflow(by: digestInterval)
        return isBeyond ? .max : next
    }

    mutating func visit(_ visitor: inout StateVisitor) {
        visitor.field("boundary", &boundary)
        visitor.field("clockShift", &clockShift)
        visitor.field("digestInterval", &digestInterval)
        visitor.field("date", &date)
        visitor.list("settings", &settings, make: { Setting("", "") }) { setting, visitor in
            visitor.field("name", &setting.name)
            visitor.field("value", &setting.value)
        }
        visitor.list("images", &images, make: { Image(role: "", path: "", size: 0, digest: "") }) { image, visitor in
            visitor.field("role", &image.role)
            visitor.field("path", &image.path)
            visitor.field("size", &image.size)
            visitor.field("digest", &image.digest)
        }
    }
}
