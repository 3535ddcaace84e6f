/// A BIOS image as what a machine starts with.
package enum FirmwareImage {
    /// - Parameter bytes: of the ROM: 128 KiB to 16 MiB, whole pages.
    package static func bootImage(_ bytes: [UInt8]) throws(BootError) -> BootImage {
        guard bytes.count >= 0x2_0000, bytes.count <= 0x100_0000, bytes.count % 4096 == 0 else {
            throw BootError("a BIOS image has 128 KiB to 16 MiB in whole pages, not \(bytes.count) bytes")
        }
        var image = BootImage(blobs: [], state: BootState(mode: .reset, entry: 0, stack: 0))
        image.rom = bytes
        return image
    }

    /// The name by which SeaBIOS finds the option ROM of the board's video adapter (1234:1111).
    package static let videoROM = "pci1234,1111.rom"
}
