import DeviceBus
import MachineState

/// The card's EEPROM of 64 words, which drivers read by its wires (EECD) or by EERD.
package struct E1000EEPROM {
    private enum Wire {
        static let clock: UInt32 = 1
        static let select: UInt32 = 2
        static let dataIn: UInt32 = 4
        static let dataOut: UInt32 = 8
        static let request: UInt32 = 0x40
        static let grant: UInt32 = 0x80
        static let present: UInt32 = 0x100
    }
    private var words: [UInt16]
    /// The wires that the driver moves.
    private var wires: UInt32 = 0
    /// Bits that have come in since the chip was selected: a start bit, two of an operation, six of an address.
    private var command: UInt32 = 0
    private var bits: UInt8 = 0
    /// Rises of the clock since it reads: the first one gives the word's highest bit.
    private var clocks: UInt16 = 0
    private var isReading = false

    /// Another card's, with 64 words.
    init(words: [UInt16]) { self.words = words }

    init(_ address: EthernetAddress) {
        words = [UInt16](repeating: 0, count: 64)
        for index in 0..<3 { words[index] = UInt16(address.bytes[index * 2]) | UInt16(address.bytes[index * 2 + 1]) << 8 }
        // Compatibility; initialisation control 1; subsystem, device, vendor; initialisation control 2 (5.6).
        for (index, value) in [(3, 0x0B20), (0x0A, 0x640B), (0x0B, 0x001E), (0x0C, 0x8086), (0x0D, 0x100E), (0x0E, 0x8086), (0x0F, 0x3040)] as [(Int, UInt16)] {
            words[index] = value
        }
        // The sum of all words is 0xBABA.
        words[63] = words[..<63].reduce(0xBABA) { $0 &- $1 }
    }

    mutating func visit(_ visitor: inout StateVisitor) {
        visitor.field("words", &words)
        visitor.field("wires", &wires)
        visitor.field("command", &command)
        visitor.field("bits", &bits)
        visitor.field("clocks", &clocks)
        visitor.field("isReading", &isReading)
        if visitor.mode == .load, words.count != 64 {
            visitor.fail("an EEPROM of \(words.count) words")
            words = [UInt16](repeating: 0, count: 64)
        }
    }

    /// EECD as it reads.
    var control: UInt32 {
        var value = wires | Wire.present
        if wires & Wire.request != 0 { value |= Wire.grant }
        // Between commands the chip says that it is ready; before the first bit of a word, 0.
        if !isReading { return value | Wire.dataOut }
        guard clocks > 0 else { return value }
        let place = Int(command & 63) * 16 + Int(clocks - 1)
        let isSet = words[place / 16 & 63] >> UInt16(15 - place % 16) & 1 != 0
        return isSet ? value | Wire.dataOut : value
    }

    /// The driver moves the wires: bits go in, and out, when the clock rises.
    mutating func write(_ value: UInt32) {
        let old = wires
        wires = value & (Wire.clock | Wire.select | Wire.dataIn | Wire.request | 0x30)
        if wires & Wire.select == 0 {
            (command, bits, isReading) = (0, 0, false)
            return
        }
        guard wires & Wire.clock != 0, old & Wire.clock == 0, old & Wire.select != 0 else { return }
        if isReading {
            clocks &+= 1
        } else if bits < 9 {
            command = command << 1 | (wires & Wire.dataIn != 0 ? 1 : 0)
            // Nothing counts before the start bit.
            if command != 0 { bits += 1 }
            if bits == 9, command >> 6 & 7 == 6 {
                isReading = true
                clocks = 0
            }
        }
    }
    /// EERD: start in bit 0, the word's number in bits 15...8; then done in bit 4 and the word in bits 31...16.
    func read(_ value: UInt32) -> UInt32 {
        if value & 1 == 0 { return value }
        return UInt32(words[Int(value >> 8 & 63)]) << 16 | value & 0xFF00 | 0x10
    }
}

/// The card's PHY, as Marvell's 88E1011: its registers by MDIC (13.4.19), with a link of 1000 Mb/s in full duplex.
package struct E1000PHY {
    private var registers: [UInt16]

    init() {
        registers = [UInt16](repeating: 0, count: 32)
        // Control, identifier, what both ends can, 1000BASE-T control and status.
        for (index, value) in [(0, 0x1140), (2, 0x0141), (3, 0x0C20), (4, 0x0DE1), (5, 0x45E1), (6, 0x0001), (9, 0x0E00), (10, 0x3C00), (15, 0x3000), (16, 0x0360), (20, 0x0D60)] as [(Int, UInt16)] {
            registers[index] = value
        }
    }

    mutating func visit(_ visitor: inout StateVisitor) {
        visitor.field("registers", &registers)
        if visitor.mode == .load, registers.count != 32 {
            visitor.fail("a PHY of \(registers.count) registers")
            self = E1000PHY()
        }
    }

    /// MDIC: data, register in bits 20...16, PHY in 25...21 (there is number 1), operation in 27...26 (1 write, 2 read); then
    /// done in bit 28, or an error in bit 30 too.
    mutating func access(_ value: UInt32, isLinkUp: Bool) -> UInt32 {
        let number = Int(value >> 16 & 31)
        guard value >> 21 & 31 == 1 else { return value & 0x0FFF_FFFF | 1 << 28 | 1 << 30 }
        switch value >> 26 & 3 {
        case 1:
            let data = UInt16(truncatingIfNeeded: value)
            switch number {
            // A reset and a restart of negotiation are over at once.
            case 0: registers[0] = data & ~0x8200
            case 1, 2, 3, 5, 6, 10, 15, 17: break
            default: registers[number] = data
            }
            return value & 0x0FFF_FFFF | 1 << 28
        case 2:
            let data: UInt16
            switch number {
            // Status: what it can, negotiation done, the link.
            case 1: data = 0x7949 | (isLinkUp ? 0x24 : 0)
            // Marvell's status: 1000 Mb/s, full duplex, resolved, the link.
            case 17: data = isLinkUp ? 0xAC00 : 0x8000
            default: data = registers[number]
            }
            return value & 0x0FFF_0000 | UInt32(data) | 1 << 28
        default: return value & 0x0FFF_FFFF | 1 << 28
        }
    }
}

/// Ethernet's check sequence: CRC-32 (IEEE 802.3, 3.2.9).
enum EthernetCheck {
    private static let check = ReflectedCRC(polynomial: 0xEDB8_8320)

    /// The CRC with the highest bit first, as multicast filters take it.
    static func crc(_ bytes: ArraySlice<UInt8>) -> UInt32 {
        var value: UInt32 = .max
        for byte in bytes {
            for bit in 0..<8 as Range<UInt32> {
                let isOdd = value >> 31 ^ UInt32(byte) >> bit & 1
                value = isOdd != 0 ? value << 1 ^ 0x04C1_1DB7 : value << 1
            }
        }
        return value
    }

    /// A frame as the cable has it: with `header` before it, 60 bytes at least, and its check sequence if that is wanted.
    static func packet(_ frame: [UInt8], header: UInt32? = nil, hasSequence: Bool = true) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(max(frame.count, 60) + 8)
        func put(_ value: UInt32) { withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) } }
        if let header { put(header) }
        bytes += frame
        if frame.count < 60 { bytes += [UInt8](repeating: 0, count: 60 - frame.count) }
        if hasSequence {
            let start = header == nil ? 0 : 4
            put(bytes.withUnsafeBytes { check.checksum(UnsafeRawBufferPointer(rebasing: $0[start...])) })
        }
        return bytes
    }
}
