/// A key going down or up, as it crosses the boundary: two bytes, little-endian. Bit 15 is set for a release, bits 7...0
/// are the `KeyCode`; the others are 0.
package struct KeyMessage: Sendable, Equatable {
    package var key: KeyCode
    package var isRelease: Bool

    package init(_ key: KeyCode, isRelease: Bool = false) {
        self.key = key
        self.isRelease = isRelease
    }

    package var bytes: [UInt8] { [key.rawValue, isRelease ? 0x80 : 0] }

    /// All messages in `bytes`; a lone byte at the end and unknown bits are ignored.
    package static func decode(_ bytes: [UInt8]) -> [KeyMessage] {
        stride(from: 0, to: bytes.count - 1, by: 2).map { index in
            KeyMessage(KeyCode(rawValue: bytes[index]), isRelease: bytes[index + 1] & 0x80 != 0)
        }
    }

    /// The bytes that press `keys` in order and release them in the opposite order.
    package static func stroke(_ keys: [KeyCode]) -> [UInt8] {
        keys.flatMap { KeyMessage($0).bytes } + keys.reversed().flatMap { KeyMessage($0, isRelease: true).bytes }
    }
}

/// A change of the mouse, as it crosses the boundary: seven bytes.
///
/// | byte | |
/// |---|---|
/// | 0 | kind: 1, relative motion; 2, a place on the screen |
/// | 1, 2 | dx, signed, little-endian, right is positive; or x, 0 (left) to 32767 (right) |
/// | 3, 4 | dy, signed, little-endian, down is positive; or y, 0 (top) to 32767 (bottom) |
/// | 5 | dz, signed, the wheel towards the user is positive |
/// | 6 | buttons that are down now: bit 0 left, bit 1 right, bit 2 middle |
package struct MouseMessage: Sendable, Equatable {
    package static let size = 7
    /// A place instead of a motion.
    package var isAbsolute: Bool
    package var dx: Int16
    package var dy: Int16
    package var dz: Int8
    package var buttons: UInt8

    package init(dx: Int16 = 0, dy: Int16 = 0, dz: Int8 = 0, buttons: UInt8 = 0, isAbsolute: Bool = false) {
        self.isAbsolute = isAbsolute
        self.dx = dx
        self.dy = dy
        self.dz = dz
        self.buttons = buttons
    }

    package var bytes: [UInt8] {
        let x = UInt16(bitPattern: dx)
        let y = UInt16(bitPattern: dy)
        return [isAbsolute ? 2 : 1, UInt8(x & 0xFF), UInt8(x >> 8), UInt8(y & 0xFF), UInt8(y >> 8), UInt8(bitPattern: dz), buttons]
    }

    /// All messages in `bytes`, up to the first that is incomplete or of an unknown kind.
    package static func decode(_ bytes: [UInt8]) -> [MouseMessage] {
        var messages: [MouseMessage] = []
        var index = 0
        while index + size <= bytes.count, bytes[index] == 1 || bytes[index] == 2 {
            messages.append(
                MouseMessage(
                    dx: Int16(bitPattern: UInt16(bytes[index + 1]) | UInt16(bytes[index + 2]) << 8),
                    dy: Int16(bitPattern: UInt16(bytes[index + 3]) | UInt16(bytes[index + 4]) << 8),
                    dz: Int8(bitPattern: bytes[index + 5]), buttons: bytes[index + 6], isAbsolute: bytes[index] == 2))
            index += size
        }
        return messages
    }
}
