import DeviceBus
import Devices
import Testing

struct VGATests {
    let board = FakeBoard()
    let chip: VGA

    init() { chip = board.add(VGA(scheduler: board.scheduler)) }

    func poke(_ address: UInt64, _ value: UInt64, _ width: Int = 1) {
        board.bus.write(.memory, address, width: width, value: value)
    }
    func peek(_ address: UInt64, _ width: Int = 1) -> UInt64 { board.bus.read(.memory, address, width: width) }
    func sequencer(_ index: UInt64, _ value: UInt64) { board.out(0x3C4, value << 8 | index, 2) }
    func graphics(_ index: UInt64, _ value: UInt64) { board.out(0x3CE, value << 8 | index, 2) }
    func crt(_ index: UInt64, _ value: UInt64) { board.out(0x3D4, value << 8 | index, 2) }
    /// Planar 640 x 480 access at 0xA0000.
    func planar() {
        sequencer(4, 6)
        graphics(5, 0)
        graphics(6, 5)
        sequencer(2, 15)
        graphics(8, 0xFF)
    }

    @Test func codePageIsComplete() {
        #expect(CodePage437.characters.count == 256)
        #expect(CodePage437.characters[0x41] == "A" && CodePage437.characters[0x7E] == "~")
        #expect(CodePage437.characters[0x80] == "Ç" && CodePage437.characters[0xDB] == "█")
        #expect(CodePage437.characters[0xB0] == "░" && CodePage437.characters[0xE1] == "ß")
        #expect(CodePage437.characters[0x1F] == "▼" && CodePage437.characters[0x7F] == "⌂")
    }

    @Test func textAfterReset() {
        #expect(chip.textSize?.columns == 80 && chip.textSize?.rows == 25)
        #expect(chip.text() == [String](repeating: "", count: 25))
        let before = chip.textDigest
        for (index, byte) in "Hello".utf8.enumerated() {
            poke(0xB8000 + 160 + UInt64(index) * 2, UInt64(byte) | 0x1F00, 2)
        }
        #expect(chip.text()[1] == "Hello")
        #expect(chip.textDigest != before)
        #expect(peek(0xB80A0, 4) == 0x1F65_1F48)
        #expect(chip.cell(0, 1) == 0x1F48)
        #expect(peek(0xA0000) == 0xFF, "the window is at 0xB8000")
    }

    @Test func scrollingAndCursor() {
        poke(0xB8000 + 80 * 2 * 3, 0x58)
        crt(0x0C, 0)
        crt(0x0D, 240)
        #expect(chip.text()[0] == "X")
        crt(0x0E, 0)
        crt(0x0F, 240 + 85 - 256 + 256 - 240)
        crt(0x0D, 0)
        #expect(chip.textCursor?.column == 5 && chip.textCursor?.row == 1)
        crt(0x0A, 0x20)
        #expect(chip.textCursor == nil)
        graphics(6, 5)
        #expect(chip.text().isEmpty)
    }

    @Test func attributeFlipFlopAndProtection() {
        _ = board.in(0x3DA)
        board.out(0x3C0, 0x31)
        board.out(0x3C0, 0x05)
        #expect(board.in(0x3C0) == 0x31)
        #expect(board.in(0x3C1) == 0x05)
        board.out(0x3C0, 0x21)
        board.out(0x3C0, 0x3F)
        #expect(board.in(0x3C1) == 0x01, "the palette is in use")
        board.out(0x3D4, 0)
        let total = board.in(0x3D5)
        board.out(0x3D5, 0x11)
        #expect(board.in(0x3D5) == total, "the timing is protected")
        crt(0x11, 0x0E)
        board.out(0x3D4, 0)
        board.out(0x3D5, 0x11)
        #expect(board.in(0x3D5) == 0x11)
    }

    @Test func monochromePorts() {
        #expect(board.in(0x3B4) == 0xFF)
        board.out(0x3C2, 0x66)
        #expect(board.in(0x3D4) == 0xFF)
        board.out(0x3B4, 0x0E)
        #expect(board.in(0x3B4) == 0x0E)
        #expect(board.in(0x3CC) == 0x66)
    }

    @Test func dac() {
        board.out(0x3C8, 5)
        for value in [1, 2, 3, 0x44, 5, 6] as [UInt64] { board.out(0x3C9, value) }
        board.out(0x3C7, 5)
        #expect(board.in(0x3C7) == 3)
        #expect((0..<6).map { _ in board.in(0x3C9) } == [1, 2, 3, 4, 5, 6])
    }

    @Test func writeModes() {
        planar()
        poke(0xA0000, 0xA5)
        #expect((0..<4).map { chip.videoByte($0) } == [0xA5, 0xA5, 0xA5, 0xA5])
        sequencer(2, 2)
        poke(0xA0000, 0x00)
        #expect((0..<4).map { chip.videoByte($0) } == [0xA5, 0, 0xA5, 0xA5])
        sequencer(2, 15)
        // Write mode 1 copies the latches.
        _ = peek(0xA0000)
        graphics(5, 1)
        poke(0xA0001, 0xFF)
        #expect((4..<8).map { chip.videoByte($0) } == [0xA5, 0, 0xA5, 0xA5])
        // Write mode 2 paints a colour through the bit mask.
        graphics(5, 2)
        graphics(8, 0x0F)
        poke(0xA0000, 0x02)
        #expect((0..<4).map { chip.videoByte($0) } == [0xA0, 0x0F, 0xA0, 0xA0])
        // Write mode 3: the written byte is a mask for the set/reset colour.
        graphics(5, 3)
        graphics(8, 0xFF)
        graphics(0, 5)
        _ = peek(0xA0001)
        poke(0xA0001, 0x81)
        #expect((4..<8).map { chip.videoByte($0) } == [0xA5, 0, 0xA5, 0x24])
        // Set/reset, rotation and exclusive or.
        graphics(5, 0)
        graphics(0, 8)
        graphics(1, 8)
        graphics(3, 0x18 | 4)
        _ = peek(0xA0000)
        poke(0xA0000, 0x0F)
        #expect((0..<4).map { chip.videoByte($0) } == [0x50, 0xFF, 0x50, 0x5F])
    }

    @Test func readModes() {
        planar()
        for plane in 0..<4 as Range<UInt64> {
            sequencer(2, 1 << plane)
            poke(0xA0010, 0x11 << plane)
        }
        for plane in 0..<4 as Range<UInt64> {
            graphics(4, plane)
            #expect(peek(0xA0010) == 0x11 << plane)
        }
        graphics(5, 8)
        graphics(7, 15)
        graphics(2, 1)
        #expect(peek(0xA0010) == 0x11, "pixels of colour 1")
        graphics(7, 0)
        #expect(peek(0xA0010) == 0xFF, "nothing matters")
    }

    @Test func chain4() {
        sequencer(4, 0x0E)
        graphics(5, 0x40)
        graphics(6, 5)
        sequencer(2, 15)
        poke(0xA0004, 0x4433_2211, 4)
        #expect(peek(0xA0004, 4) == 0x4433_2211)
        #expect((16..<20).map { chip.videoByte($0) } == [0x11, 0x22, 0x33, 0x44])
    }

    @Test func retraceComesSeventyTimesASecond() {
        var retraces = 0
        var was = true
        for _ in 0..<100_000 {
            board.advance(10_000)
            let status = board.in(0x3DA)
            let isRetrace = status & 8 != 0
            if isRetrace { #expect(status & 1 == 1) }
            if isRetrace, !was { retraces += 1 }
            was = isRetrace
        }
        #expect((69...71).contains(retraces))
    }
}
