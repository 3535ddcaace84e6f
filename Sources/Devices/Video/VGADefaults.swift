/// Register values of BIOS mode 3, 80 x 25 text in colour (IBM VGA Technical Reference, "BIOS modes").
enum VGADefaults {
    static let miscOutput: UInt8 = 0x67
    static let sequencer: [UInt8] = [0x03, 0x00, 0x03, 0x00, 0x02, 0, 0, 0]
    static let graphics: [UInt8] = [0, 0, 0, 0, 0, 0x10, 0x0E, 0, 0xFF, 0, 0, 0, 0, 0, 0, 0]
    static let attribute: [UInt8] = [
        0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3A, 0x3B, 0x3C, 0x3D, 0x3E, 0x3F,
        0x0C, 0x00, 0x0F, 0x08, 0x00, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ]
    static let crtController: [UInt8] = [
        0x5F, 0x4F, 0x50, 0x82, 0x55, 0x81, 0xBF, 0x1F, 0x00, 0x4F, 0x0D, 0x0E, 0x00, 0x00, 0x00, 0x00,
        0x9C, 0x8E, 0x8F, 0x28, 0x1F, 0x96, 0xB9, 0xA3, 0xFF, 0, 0, 0, 0, 0, 0, 0,
    ]

    /// The 64 colours of the EGA, two bits for each primary, as 6-bit DAC entries; the other 192 entries are black.
    static let palette: [UInt8] = {
        var palette = [UInt8](repeating: 0, count: 768)
        for colour in 0..<64 {
            for (lane, bit) in [2, 1, 0].enumerated() {
                let strong = colour >> bit & 1
                let weak = colour >> (bit + 3) & 1
                palette[colour * 3 + lane] = UInt8(strong * 42 + weak * 21)
            }
        }
        return palette
    }()

    /// A cleared text page: blanks in grey on black, as the display controller reads it in word mode. So many words
    /// of 8 bytes, little endian.
    static let textWords = 0x4000
    static let textWord: UInt64 = 0x0720
}
