import MachineState

/// The screen as text.
extension VGA {
    /// The screen's size in characters: nil in a graphics mode. At most 256 columns and 128 rows.
    package var textSize: (columns: Int, rows: Int)? {
        if state.graphics[6] & 1 != 0 || state.dispi.isEnabled { return nil }
        let crt = state.crt
        let overflow = Int(crt[7])
        let lines = (Int(crt[0x12]) | (overflow >> 1 & 1) << 8 | (overflow >> 6 & 1) << 9) + 1
        let height = (Int(crt[9] & 0x1F) + 1) * (crt[9] & 0x80 != 0 ? 2 : 1)
        return (Int(crt[1]) + 1, min(lines / height, 128))
    }

    /// The cell at the place the cursor is: nil when it is off, not on the screen, or in a graphics mode.
    package var textCursor: (column: Int, row: Int)? {
        guard let size = textSize, state.crt[0x0A] & 0x20 == 0 else { return nil }
        let pitch = linePitch
        let distance = Int(state.crt[0x0E]) << 8 + Int(state.crt[0x0F]) - startAddress
        guard pitch > 0, distance >= 0, distance / pitch < size.rows, distance % pitch < size.columns else {
            return nil
        }
        return (distance % pitch, distance / pitch)
    }

    /// The lines of the screen, top first, without blanks at their ends. Empty in a graphics mode.
    package func text() -> [String] {
        guard let size = textSize else { return [] }
        return (0..<size.rows).map { row in
            var line = (0..<size.columns).map { CodePage437.characters[Int(cell($0, row) & 0xFF)] }
            while let last = line.last, last == " " || last == "\u{A0}" { line.removeLast() }
            return String(line)
        }
    }

    /// A digest of what `text` shows, with the attributes; equal screens have equal digests.
    package var textDigest: UInt64 {
        var digest = StateDigest()
        guard let size = textSize else { return digest.value }
        for row in 0..<size.rows {
            for column in 0..<size.columns { digest.mix(UInt64(cell(column, row))) }
        }
        return digest.value
    }

    /// The cell at a place of the screen: the character in the low byte, the attribute in the high one.
    package func cell(_ column: Int, _ row: Int) -> UInt16 {
        let counter = (startAddress + row * linePitch + column) & 0xFFFF
        return UInt16(truncatingIfNeeded: planes(at: displayAddress(counter)))
    }

    private var startAddress: Int { Int(state.crt[0x0C]) << 8 + Int(state.crt[0x0D]) }

    /// What the address counter gains from one row of characters to the next.
    private var linePitch: Int { Int(state.crt[0x13]) * 2 }

    /// From the address counter to the planes: byte, word or double word addresses (CRT mode control, underline).
    private func displayAddress(_ counter: Int) -> Int {
        if state.crt[0x14] & 0x40 != 0 { return counter << 2 | counter >> 14 & 3 }
        if state.crt[0x17] & 0x40 != 0 { return counter }
        return counter << 1 | counter >> (state.crt[0x17] & 0x20 != 0 ? 15 : 13) & 1
    }
}
