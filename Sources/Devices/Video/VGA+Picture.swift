import MachineState

/// What the monitor shows: pixels in rows, top left first, each 0x00RRGGBB.
package struct Picture: Sendable, Equatable {
    package let width: Int
    package let height: Int
    package var pixels: [UInt32]

    package init(width: Int, height: Int) {
        self.width = width
        self.height = height
        pixels = [UInt32](repeating: 0, count: width * height)
    }
}

/// The screen as a picture. Nothing the guest can observe changes.
extension VGA {
    /// The picture that is displayed now: black while the display is off.
    package func picture() -> Picture {
        if state.dispi.isEnabled, state.dispi.width > 0, state.dispi.height > 0 { return linearPicture() }
        let isOn = state.attributeIndex & 0x20 != 0 && state.sequencer[1] & 0x20 == 0
        if state.graphics[6] & 1 == 0 { return textPicture(isOn: isOn) }
        return graphicsPicture(isOn: isOn)
    }

    // MARK: Colours

    /// An entry of the DAC as a pixel.
    private func colour(_ index: Int) -> UInt32 {
        let entry = (index & Int(state.dacMask)) * 3
        func scale(_ value: UInt8) -> UInt32 {
            let wide = UInt32(value)
            // 6 bits become 8, so that 63 becomes 255.
            return state.dispi.hasWideDAC ? wide : (wide & 0x3F) << 2 | (wide & 0x3F) >> 4
        }
        return scale(state.dac[entry]) << 16 | scale(state.dac[entry + 1]) << 8 | scale(state.dac[entry + 2])
    }

    /// The pixel of an attribute (0...15) by the palette (Technical Reference, attribute controller).
    private func paletteColour(_ attribute: Int) -> UInt32 {
        let internalPalette = Int(state.attribute[attribute & 15] & 0x3F)
        let select = Int(state.attribute[20])
        if state.attribute[16] & 0x80 != 0 { return colour((select & 15) << 4 | internalPalette & 15) }
        return colour((select & 12) << 4 | internalPalette)
    }

    // MARK: Geometry

    private var crtLines: Int {
        let overflow = Int(state.crt[7])
        return (Int(state.crt[0x12]) | (overflow >> 1 & 1) << 8 | (overflow >> 6 & 1) << 9) + 1
    }
    /// The scan line at which the address counter begins anew.
    private var lineCompare: Int {
        Int(state.crt[0x18]) | Int(state.crt[7] >> 4 & 1) << 8 | Int(state.crt[9] >> 6 & 1) << 9
    }
    private var startCounter: Int { Int(state.crt[0x0C]) << 8 + Int(state.crt[0x0D]) }
    private var counterPitch: Int { Int(state.crt[0x13]) * 2 }

    // MARK: Modes

    private func textPicture(isOn: Bool) -> Picture {
        guard let size = textSize else { return Picture(width: 1, height: 1) }
        let cellHeight = Int(state.crt[9] & 0x1F) + 1
        let cellWidth = state.sequencer[1] & 1 != 0 ? 8 : 9
        var picture = Picture(width: size.columns * cellWidth, height: size.rows * cellHeight)
        guard isOn else { return picture }
        let colours = (0..<16).map(paletteColour)
        let blinks = state.attribute[16] & 8 != 0
        let extendsLines = state.attribute[16] & 4 != 0
        let cursor = textCursor
        let cursorLines = Int(state.crt[0x0A] & 0x1F)...max(Int(state.crt[0x0A] & 0x1F), Int(state.crt[0x0B] & 0x1F))
        // Two fonts, which bit 3 of the attribute tells apart when they differ.
        let fonts = [font(state.sequencer[3] & 3, state.sequencer[3] >> 4 & 1), font(state.sequencer[3] >> 2 & 3, state.sequencer[3] >> 5 & 1)]
        for row in 0..<size.rows {
            for column in 0..<size.columns {
                let cell = Int(cell(column, row))
                let character = cell & 0xFF
                let attribute = cell >> 8
                let foreground = colours[attribute & 15]
                let background = colours[attribute >> 4 & (blinks ? 7 : 15)]
                let glyph = fonts[fonts[0] == fonts[1] || attribute & 8 == 0 ? 0 : 1] + character * 32
                let hasCursor = cursor.map { $0.column == column && $0.row == row } ?? false
                for line in 0..<cellHeight {
                    var bits = Int(planes(at: glyph + line) >> 16 & 0xFF) << 1
                    // Line drawing characters fill the ninth column with their eighth.
                    if extendsLines, (0xC0...0xDF).contains(character) { bits |= bits >> 1 & 1 }
                    if hasCursor, cursorLines.contains(line) { bits = 0x1FF }
                    let start = (row * cellHeight + line) * picture.width + column * cellWidth
                    for dot in 0..<cellWidth {
                        picture.pixels[start + dot] = bits >> (8 - dot) & 1 != 0 ? foreground : background
                    }
                }
            }
        }
        return picture
    }

    /// The offset in plane 2 of font number `low` + 4 * `high`.
    private func font(_ low: UInt8, _ high: UInt8) -> Int { Int(low) << 14 + Int(high) << 13 }

    private func graphicsPicture(isOn: Bool) -> Picture {
        let repeats = Int(state.crt[9] & 0x1F) + 1
        let isDoubled = state.crt[9] & 0x80 != 0
        let characters = Int(state.crt[1]) + 1
        let is256 = state.graphics[5] & 0x40 != 0
        let width = characters * (is256 ? 4 : 8)
        let lineHeight = repeats * (isDoubled ? 2 : 1)
        let lines = max(crtLines / lineHeight, 1)
        var picture = Picture(width: width, height: lines)
        guard isOn else { return picture }
        let colours = is256 ? (0..<256).map(colour) : (0..<16).map(paletteColour)
        let enabled = Int(state.attribute[18] & 15)
        let isPaired = state.graphics[5] & 0x20 != 0
        let panning = Int(state.attribute[19] & 7)
        for line in 0..<lines {
            let scan = line * lineHeight
            let isBelow = scan > lineCompare
            let first = isBelow ? (scan - lineCompare - 1) / lineHeight : line
            let start = (isBelow ? 0 : startCounter) + first * counterPitch
            let shift = isBelow && state.attribute[16] & 0x20 != 0 ? 0 : panning
            for x in 0..<width {
                var pixel: UInt32
                if is256 {
                    let dot = x + shift / 2
                    let data = planes(at: address(start + dot / 4, line))
                    pixel = data >> UInt32(dot % 4 * 8) & 0xFF
                    picture.pixels[line * width + x] = colours[Int(pixel)]
                    continue
                }
                let dot = x + shift
                let data = planes(at: address(start + dot / 8, line))
                if isPaired {
                    // CGA's four colours: planes 0 and 1 take turns, two bits a pixel.
                    let lane = UInt32(dot % 8 / 4)
                    pixel = data >> (lane * 8 + UInt32(6 - dot % 4 * 2)) & 3
                    pixel |= (data >> (lane * 8 + 16 + UInt32(6 - dot % 4 * 2)) & 3) << 2
                } else {
                    let bit = UInt32(7 - dot % 8)
                    pixel = data >> bit & 1 | (data >> (8 + bit) & 1) << 1 | (data >> (16 + bit) & 1) << 2
                        | (data >> (24 + bit) & 1) << 3
                }
                picture.pixels[line * width + x] = colours[Int(pixel) & enabled]
            }
        }
        return picture
    }

    /// From the address counter to the planes, with the row scan counter in its place for CGA and Hercules modes.
    private func address(_ counter: Int, _ line: Int) -> Int {
        var address: Int
        if state.crt[0x14] & 0x40 != 0 {
            address = counter << 2 | counter >> 14 & 3
        } else if state.crt[0x17] & 0x40 != 0 {
            address = counter
        } else {
            address = counter << 1 | counter >> (state.crt[0x17] & 0x20 != 0 ? 15 : 13) & 1
        }
        if state.crt[0x17] & 1 == 0 { address = address & ~0x2000 | (line & 1) << 13 }
        return address
    }

    /// A mode of the DISPI extension.
    private func linearPicture() -> Picture {
        let dispi = state.dispi
        var picture = Picture(width: Int(dispi.width), height: Int(dispi.height))
        let pitch = dispi.pitch
        let colours = (0..<256).map(colour)
        let planeColours = (0..<16).map(paletteColour)
        for y in 0..<picture.height {
            let line = (y + Int(dispi.offsetY)) * pitch
            for x in 0..<picture.width {
                let column = x + Int(dispi.offsetX)
                let pixel: UInt32
                switch dispi.depth {
                case 4:
                    let data = planes(at: y * pitch / 4 + column / 8)
                    let bit = UInt32(7 - column % 8)
                    let index = data >> bit & 1 | (data >> (8 + bit) & 1) << 1 | (data >> (16 + bit) & 1) << 2
                        | (data >> (24 + bit) & 1) << 3
                    pixel = planeColours[Int(index)]
                case 8: pixel = colours[Int(memory.load(line + column, as: UInt8.self))]
                case 15:
                    let value = UInt32(UInt16(littleEndian: memory.load(line + column * 2, as: UInt16.self)))
                    pixel = Self.widen(value >> 10, 5) << 16 | Self.widen(value >> 5, 5) << 8 | Self.widen(value, 5)
                case 16:
                    let value = UInt32(UInt16(littleEndian: memory.load(line + column * 2, as: UInt16.self)))
                    pixel = Self.widen(value >> 11, 5) << 16 | Self.widen(value >> 5, 6) << 8 | Self.widen(value, 5)
                case 24:
                    let place = line + column * 3
                    pixel = UInt32(memory.load(place, as: UInt8.self)) | UInt32(memory.load(place + 1, as: UInt8.self)) << 8
                        | UInt32(memory.load(place + 2, as: UInt8.self)) << 16
                default: pixel = UInt32(littleEndian: memory.load(line + column * 4, as: UInt32.self)) & 0xFF_FFFF
                }
                picture.pixels[y * picture.width + x] = pixel
            }
        }
        return picture
    }

    /// The low `bits` (5 or 6) bits of a value, as 8 bits.
    private static func widen(_ value: UInt32, _ bits: UInt32) -> UInt32 {
        let low = value & (1 << bits - 1)
        return low << (8 - bits) | low >> (2 * bits - 8)
    }
}
