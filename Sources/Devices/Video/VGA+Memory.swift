/// The CPU's side of the video memory: address modes, latches, read modes and write modes.
extension VGA {
    /// Where a CPU access lands.
    private struct Place {
        /// Offset within each plane, 0...0xFFFF.
        let offset: Int
        /// The plane a read takes (read mode 0).
        let plane: Int
        /// The planes the address lets a write reach.
        let planes: UInt8
    }

    /// - Parameter offset: from 0xA0000.
    private func place(_ offset: UInt64, forWrite: Bool) -> Place? {
        // Miscellaneous output bit 1: the CPU reaches video memory at all.
        guard state.isEnabled, state.miscOutput & 2 != 0 else { return nil }
        let window: Range<UInt64>
        switch state.graphics[6] >> 2 & 3 {
        case 0: window = 0..<0x2_0000
        case 1: window = 0..<0x1_0000
        case 2: window = 0x1_0000..<0x1_8000
        default: window = 0x1_8000..<0x2_0000
        }
        guard window.contains(offset) else { return nil }
        let address = Int(offset - window.lowerBound) & 0xFFFF
        if state.sequencer[4] & 8 != 0 {
            // Chain 4: the low two bits choose the plane.
            return Place(offset: address & ~3, plane: address & 3, planes: 1 << UInt8(address & 3))
        }
        let isOddEven = forWrite ? state.sequencer[4] & 4 == 0 : state.graphics[5] & 0x10 != 0
        if isOddEven {
            return Place(
                offset: address & ~1, plane: Int(state.graphics[4] & 2) | address & 1,
                planes: address & 1 != 0 ? 0b1010 : 0b0101)
        }
        return Place(offset: address, plane: Int(state.graphics[4] & 3), planes: 0b1111)
    }

    func readMemory(_ offset: UInt64) -> UInt8 {
        guard let place = place(offset, forWrite: false) else { return 0xFF }
        state.latches = planes(at: place.offset)
        if state.graphics[5] & 8 == 0 {
            return UInt8(truncatingIfNeeded: state.latches >> UInt32(place.plane * 8))
        }
        // Read mode 1: a bit is set where all planes that matter have the colour asked for.
        let care = Self.spread(state.graphics[7])
        let different = (state.latches ^ Self.spread(state.graphics[2])) & care
        let any = different | different >> 16
        return ~UInt8(truncatingIfNeeded: any | any >> 8)
    }

    func writeMemory(_ offset: UInt64, _ value: UInt8) {
        guard let place = place(offset, forWrite: true) else { return }
        let mapMask = Self.spread(state.sequencer[2] & place.planes)
        if mapMask == 0 { return }
        let rotation = state.graphics[3] & 7
        let rotated = value >> rotation | value << ((8 - rotation) & 7)
        var data: UInt32
        var bitMask = state.graphics[8]
        switch state.graphics[5] & 3 {
        case 0:
            let enable = Self.spread(state.graphics[1])
            data = Self.repeated(rotation == 0 ? value : rotated) & ~enable | Self.spread(state.graphics[0]) & enable
        case 1:
            // The latches as they are: neither function nor bit mask applies.
            store(state.latches, mapMask, at: place.offset)
            return
        case 2: data = Self.spread(value & 15)
        default:
            data = Self.spread(state.graphics[0])
            bitMask &= rotation == 0 ? value : rotated
        }
        switch state.graphics[3] >> 3 & 3 {
        case 1: data &= state.latches
        case 2: data |= state.latches
        case 3: data ^= state.latches
        default: break
        }
        let mask = Self.repeated(bitMask)
        store(data & mask | state.latches & ~mask, mapMask, at: place.offset)
    }

    /// The four planes' bytes at `offset`, plane 0 in the low byte.
    func planes(at offset: Int) -> UInt32 {
        let index = (offset & 0xFFFF) * 4
        return UInt32(littleEndian: memory.load(index, as: UInt32.self))
    }

    private func store(_ data: UInt32, _ mask: UInt32, at offset: Int) {
        let index = (offset & 0xFFFF) * 4
        let merged = planes(at: offset) & ~mask | data & mask
        memory.store(merged.littleEndian, at: index, as: UInt32.self)
    }

    /// Bit n of `planes` becomes byte n: 0x00 or 0xFF.
    private static func spread(_ planes: UInt8) -> UInt32 {
        let bits = UInt32(planes)
        return (bits & 1 | (bits & 2) << 7 | (bits & 4) << 14 | (bits & 8) << 21) &* 0xFF
    }

    private static func repeated(_ byte: UInt8) -> UInt32 { UInt32(byte) &* 0x0101_0101 }
}
