/// The 256 words that a drive says of itself (ATA/ATAPI-7, 6.16 and 6.17): what all of ours have in common.
struct ATAIdentity {
    var words = [UInt16](repeating: 0, count: 256)

    /// - Parameters:
    ///   - serial: at most 20 characters.
    ///   - model: at most 40 characters.
    init(serial: String, model: String) {
        put(serial, 10..<20)
        put("1.0", 23..<27)
        put(model, 27..<47)
        // DMA, LBA, IORDY.
        words[49] = 0x0B00
        words[50] = 0x4000
        // Words 64...70 and 88 are valid; PIO mode 2; multiword DMA modes 0...2.
        words[51] = 0x0200
        words[53] = 0x0006
        words[63] = 0x0007
        words[64] = 0x0003
        for index in 65...68 { words[index] = 120 }
        // ATA-4 to ATA-7.
        words[80] = 0x00F0
        for index in [82, 83, 84, 85, 87] { words[index] = 0x4000 }
        words[88] = 0x003F
    }

    /// A hard disk of so many sectors: its sizes, 48-bit addresses, write cache, look-ahead and flushes.
    mutating func describeDisk(capacity: UInt64) {
        words[0] = 0x0040
        words[1] = UInt16(min(capacity / (16 * 63), 16383))
        words[3] = 16
        words[6] = 63
        words[47] = 0x8010
        let lba28 = min(capacity, 0x0FFF_FFFF)
        words[60] = UInt16(truncatingIfNeeded: lba28)
        words[61] = UInt16(truncatingIfNeeded: lba28 >> 16)
        words[82] |= 0x0060
        words[83] |= 0x3400
        words[86] = 0x3400
        for index in 0..<4 { words[100 + index] = UInt16(truncatingIfNeeded: capacity >> UInt64(index * 16)) }
    }

    /// Characters two a word, the first in the high byte, filled up with blanks.
    private mutating func put(_ text: String, _ range: Range<Int>) {
        var characters = Array(text.utf8.prefix(range.count * 2))
        characters += [UInt8](repeating: 0x20, count: range.count * 2 - characters.count)
        for (index, word) in range.enumerated() {
            words[word] = UInt16(characters[index * 2]) << 8 | UInt16(characters[index * 2 + 1])
        }
    }
}
