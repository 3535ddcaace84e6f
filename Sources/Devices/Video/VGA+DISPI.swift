import MachineState

/// Registers of the Bochs VBE interface ("VBE Display Interface", version 5).
package struct VGADispi {
    package var index: UInt16 = 0
    /// 0xB0C0...0xB0C5: software tries which versions it may set.
    package var version: UInt16 = 0xB0C5
    /// Pixels; bits a pixel: 4, 8, 15, 16, 24 or 32.
    package var width: UInt16 = 0
    package var height: UInt16 = 0
    package var depth: UInt16 = 8
    /// Bit 0: in use. Bit 1: reads tell the limits. Bit 5: 8-bit DAC. Bit 6: frame buffer. Bit 7: memory is not cleared.
    package var enable: UInt16 = 0
    /// The 64 KiB that the window at 0xA0000 shows.
    package var bank: UInt16 = 0
    /// Pixels from one line to the next, and where the screen begins.
    package var virtualWidth: UInt16 = 0
    package var offsetX: UInt16 = 0
    package var offsetY: UInt16 = 0

    package init() {}

    package mutating func visit(_ visitor: inout StateVisitor) {
        visitor.field("index", &index)
        visitor.field("version", &version)
        visitor.field("width", &width)
        visitor.field("height", &height)
        visitor.field("depth", &depth)
        visitor.field("enable", &enable)
        visitor.field("bank", &bank)
        visitor.field("virtualWidth", &virtualWidth)
        visitor.field("offsetX", &offsetX)
        visitor.field("offsetY", &offsetY)
    }

    /// The largest picture.
    static let maximum = (width: UInt16(2560), height: UInt16(1600), depth: UInt16(32))

    package var isEnabled: Bool { enable & 1 != 0 }
    package var hasWideDAC: Bool { enable & 0x20 != 0 }
    /// Bytes from one line to the next.
    package var pitch: Int {
        let pixels = Int(max(virtualWidth, width))
        return depth == 4 ? pixels / 2 : pixels * ((Int(depth) + 7) / 8)
    }
}

extension VGA {
    /// Where an access to the window at 0xA0000 lands in the memory while the extension is in use. Mode 4 bits deep is
    /// planar, as mode 12h.
    func linearPlace(_ offset: UInt64) -> Int? {
        guard state.dispi.isEnabled, state.dispi.depth != 4 else { return nil }
        return Int(state.dispi.bank) << 16 + Int(offset & 0xFFFF)
    }

    func readDispi(_ offset: UInt64) -> UInt16 {
        let dispi = state.dispi
        if offset == 0 { return dispi.index }
        let tellsLimits = dispi.enable & 2 != 0
        switch dispi.index {
        case 0: return dispi.version
        case 1: return tellsLimits ? VGADispi.maximum.width : dispi.width
        case 2: return tellsLimits ? VGADispi.maximum.height : dispi.height
        case 3: return tellsLimits ? VGADispi.maximum.depth : dispi.depth
        case 4: return dispi.enable
        case 5: return dispi.bank
        case 6: return max(dispi.virtualWidth, dispi.width)
        case 7: return UInt16(clamping: dispi.pitch == 0 ? 0 : memory.count / dispi.pitch)
        case 8: return dispi.offsetX
        case 9: return dispi.offsetY
        // Units of 64 KiB.
        case 10: return UInt16(clamping: memory.count >> 16)
        default: return 0
        }
    }

    func writeDispi(_ offset: UInt64, _ value: UInt16) {
        if offset == 0 {
            state.dispi.index = value
            return
        }
        switch state.dispi.index {
        case 0: if (0xB0C0...0xB0C5).contains(value) { state.dispi.version = value }
        case 1: if !state.dispi.isEnabled, value <= VGADispi.maximum.width { state.dispi.width = value & ~7 }
        case 2: if !state.dispi.isEnabled, value <= VGADispi.maximum.height { state.dispi.height = value }
        case 3:
            let depth = value == 0 ? 8 : value
            if !state.dispi.isEnabled, [4, 8, 15, 16, 24, 32].contains(depth) { state.dispi.depth = depth }
        case 4: writeEnable(value)
        case 5: state.dispi.bank = value & UInt16(memory.count >> 16 - 1)
        case 6: if value >= state.dispi.width, value <= 4096 { state.dispi.virtualWidth = value & ~7 }
        case 8: state.dispi.offsetX = value
        case 9: state.dispi.offsetY = value
        default: break
        }
    }

    private func writeEnable(_ value: UInt16) {
        let starts = value & 1 != 0 && !state.dispi.isEnabled
        state.dispi.enable = value & 0xE3
        guard starts else { return }
        state.dispi.virtualWidth = state.dispi.width
        state.dispi.offsetX = 0
        state.dispi.offsetY = 0
        state.dispi.bank = 0
        if value & 0x80 == 0 {
            let bytes = min(state.dispi.pitch * Int(state.dispi.height) * (state.dispi.depth == 4 ? 4 : 1), memory.count)
            for offset in stride(from: 0, to: bytes & ~7, by: 8) { memory.store(UInt64(0), at: offset, as: UInt64.self) }
        }
    }

    /// A byte of the memory, for tests and tools.
    package func videoByte(_ offset: Int) -> UInt8 { memory.load(offset, as: UInt8.self) }
}
