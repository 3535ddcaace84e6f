/// What the board tells firmware.
package struct FirmwareSettings: Sendable, Equatable {
    /// A file in fw_cfg.
    package struct File: Sendable, Equatable {
        package var name: String
        package var bytes: [UInt8]
        package init(name: String, bytes: [UInt8]) {
            self.name = name
            self.bytes = bytes
        }
    }

    /// What to boot from first, second and third, half a byte each, the first in the lowest: 1 floppy, 2 hard disk,
    /// 3 CD-ROM, 4 network.
    package var bootOrder: UInt16 = 0x132
    /// Further files, such as option ROMs.
    package var files: [File] = []
    /// Expansion ROMs of network cards, by the cards' models: what boots from the network.
    package var networkROMs: [String: [UInt8]] = [:]
    package init() {}

    /// From letters as BIOS users know them: a floppy, c hard disk, d CD-ROM, n network. The others follow, but for
    /// the network. Nil for other letters.
    package static func bootOrder(_ letters: String) -> UInt16? {
        var order: [UInt16] = []
        for letter in letters {
            guard let value = ["a": 1, "c": 2, "d": 3, "n": 4][letter] as UInt16?, !order.contains(value) else { return nil }
            order.append(value)
        }
        for value in [2, 3, 1] as [UInt16] where !order.contains(value) { order.append(value) }
        return order[0] | order[1] << 4 | order[2] << 8
    }
}
