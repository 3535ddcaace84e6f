import DeviceBus
import Devices
import Testing

/// Graphics modes, the DISPI extension, and the picture of them all.
struct VGAPictureTests {
    let board = FakeBoard()
    let chip: VGA

    init() { chip = board.add(VGA(scheduler: board.scheduler)) }

    private func poke(_ address: UInt64, _ value: UInt64, _ width: Int = 1) {
        board.bus.write(.memory, address, width: width, value: value)
    }
    private func dispi(_ index: UInt64, _ value: UInt64) {
        board.out(0x1CE, index, 2)
        board.out(0x1CF, value, 2)
    }
    private func dispi(_ index: UInt64) -> UInt64 {
        board.out(0x1CE, index, 2)
        return board.in(0x1CF, 2)
    }
    private func mode(_ width: UInt64, _ height: UInt64, _ depth: UInt64, enable: UInt64 = 0x41) {
        dispi(4, 0)
        dispi(1, width)
        dispi(2, height)
        dispi(3, depth)
        dispi(4, enable)
    }
    /// The registers of a BIOS mode: miscellaneous output, sequencer 1...4, CRT controller, attribute 16...20, graphics.
    private func registers(
        misc: UInt64, sequencer: [UInt64], crt: [UInt64], attribute: [UInt64], graphics: [UInt64]
    ) {
        board.out(0x3C2, misc)
        for (index, value) in sequencer.enumerated() { board.out(0x3C4, value << 8 | UInt64(index + 1), 2) }
        board.out(0x3D4, 0x0011, 2)
        for (index, value) in crt.enumerated() { board.out(0x3D4, value << 8 | UInt64(index), 2) }
        for (index, value) in graphics.enumerated() { board.out(0x3CE, value << 8 | UInt64(index), 2) }
        _ = board.in(0x3DA)
        for (index, value) in attribute.enumerated() {
            board.out(0x3C0, UInt64(16 + index))
            board.out(0x3C0, value)
        }
        board.out(0x3C0, 0x20)
    }
    private func mode13() {
        registers(
            misc: 0x63, sequencer: [1, 0xF, 0, 0xE],
            crt: [
                0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0xBF, 0x1F, 0, 0x41, 0, 0, 0, 0, 0, 0, 0x9C, 0x8E, 0x8F, 0x28, 0x40, 0x96,
                0xB9, 0xA3, 0xFF,
            ], attribute: [0x41, 0, 0xF, 0, 0], graphics: [0, 0, 0, 0, 0, 0x40, 5, 0xF, 0xFF])
    }
    private func mode12() {
        registers(
            misc: 0xE3, sequencer: [1, 0xF, 0, 6],
            crt: [
                0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0x0B, 0x3E, 0, 0x40, 0, 0, 0, 0, 0, 0, 0xEA, 0x8C, 0xDF, 0x28, 0, 0xE7,
                0x04, 0xE3, 0xFF,
            ], attribute: [1, 0, 0xF, 0, 0], graphics: [0, 0, 0, 0, 0, 0, 5, 0xF, 0xFF])
    }
    private func dac(_ index: UInt64, _ colour: [UInt64]) {
        board.out(0x3C8, index)
        for lane in colour { board.out(0x3C9, lane) }
    }

    @Test func textWithAFont() {
        // The letter A in the font in plane 2: rows 1, 0x18, 2, 0x80.
        board.out(0x3C4, 0x0402, 2)
        board.out(0x3C4, 0x0604, 2)
        board.out(0x3CE, 0x0005, 2)
        board.out(0x3CE, 0x0406, 2)
        poke(0xA0000 + 0x41 * 32, 0x18)
        poke(0xA0000 + 0x41 * 32 + 1, 0x80)
        poke(0xA0000 + 0xC4 * 32 + 2, 0xFF)
        board.out(0x3C4, 0x0302, 2)
        board.out(0x3C4, 0x0204, 2)
        board.out(0x3CE, 0x1005, 2)
        board.out(0x3CE, 0x0E06, 2)
        poke(0xB8000, 0x1E41, 2)
        poke(0xB8002, 0x07C4, 2)
        board.out(0x3D4, 0x200A, 2)
        let picture = chip.picture()
        #expect(picture.width == 720 && picture.height == 400)
        let yellow: UInt32 = 0xFFFF55
        let blue: UInt32 = 0x0000AA
        #expect(Array(picture.pixels[0..<9]) == [blue, blue, blue, yellow, yellow, blue, blue, blue, blue])
        #expect(picture.pixels[720] == yellow)
        #expect(Array(picture.pixels[2 * 720 + 9..<2 * 720 + 18]) == [UInt32](repeating: 0xAAAAAA, count: 9), "nine dots")
        board.out(0x3D4, 0x0D0A, 2)
        #expect(chip.picture().pixels[13 * 720] == yellow, "the cursor")
        board.out(0x3C0, 0)
        #expect(chip.picture().pixels.allSatisfy { $0 == 0 }, "the display is off")
    }

    @Test func mode13AndX() {
        mode13()
        dac(5, [63, 0, 0])
        dac(6, [0, 63, 21])
        poke(0xA0000, 5)
        poke(0xA0000 + 321, 6)
        var picture = chip.picture()
        #expect(picture.width == 320 && picture.height == 200)
        #expect(picture.pixels[0] == 0xFF0000 && picture.pixels[321] == 0x00FF55)
        // Mode X: unchained, the four planes hold neighbouring pixels.
        board.out(0x3C4, 0x0604, 2)
        board.out(0x3D4, 0x0014, 2)
        board.out(0x3D4, 0xE317, 2)
        board.out(0x3C4, 0x0F02, 2)
        for offset in 0..<16_000 as Range<UInt64> { poke(0xA0000 + offset, 0) }
        board.out(0x3C4, 0x0402, 2)
        poke(0xA0000 + 80, 5)
        picture = chip.picture()
        #expect(picture.pixels[320 + 2] == 0xFF0000 && picture.pixels.count { $0 != 0 } == 1)
    }

    @Test func mode12IsPlanar() {
        mode12()
        board.out(0x3C4, 0x0C02, 2)
        poke(0xA0000 + 80 * 479 + 79, 1)
        board.out(0x3C4, 0x0102, 2)
        poke(0xA0000, 0x80)
        let picture = chip.picture()
        #expect(picture.width == 640 && picture.height == 480)
        #expect(picture.pixels[640 * 480 - 1] == 0xFF5555, "colour 12")
        #expect(picture.pixels[0] == 0x0000AA, "colour 1")
        // A split screen: from line 100 on, what is at address 0.
        board.out(0x3D4, 0x6418, 2)
        board.out(0x3D4, 0x2E07, 2)
        board.out(0x3D4, 0x0009, 2)
        #expect(chip.picture().pixels[101 * 640] == 0x0000AA)
    }

    @Test func dispiRegisters() {
        #expect(dispi(0) == 0xB0C5)
        dispi(0, 0xB0C0)
        #expect(dispi(0) == 0xB0C0, "software finds out by writing")
        dispi(0, 0x1234)
        #expect(dispi(0) == 0xB0C0)
        dispi(4, 2)
        #expect(dispi(1) == 2560 && dispi(2) == 1600 && dispi(3) == 32)
        #expect(dispi(10) == 256)
        mode(800, 600, 16)
        #expect(dispi(1) == 800 && dispi(6) == 800 && dispi(7) == UInt64((16 << 20) / 1600))
        dispi(1, 1024)
        #expect(dispi(1) == 800, "not while it is in use")
        mode(60000, 600, 17)
        #expect(dispi(1) == 800 && dispi(3) == 16)
    }

    @Test func linearModes() {
        mode(640, 480, 32)
        dispi(5, 1)
        // 0x10000 bytes on is line 25, pixel 384.
        poke(0xA0000, 0x0012_3456, 4)
        var picture = chip.picture()
        #expect(picture.width == 640 && picture.height == 480)
        #expect(picture.pixels[25 * 640 + 384] == 0x123456)
        dispi(8, 384)
        dispi(9, 25)
        dispi(6, 1024)
        mode(640, 480, 32, enable: 0xC1)
        dispi(9, 25)
        dispi(8, 384)
        #expect(chip.picture().pixels[0] == 0x123456, "the memory was not cleared")
        mode(640, 480, 32)
        #expect(chip.picture().pixels.allSatisfy { $0 == 0 })

        for (depth, value, width, pixel) in [
            (16, 0xF800, 2, 0xFF0000), (16, 0x07E0, 2, 0x00FF00), (15, 0x001F, 2, 0x0000FF), (24, 0x0A0B0C, 4, 0x0A0B0C),
        ] as [(UInt64, UInt64, Int, UInt32)] {
            mode(640, 480, depth)
            poke(0xA0000, value, width)
            #expect(chip.picture().pixels[0] == pixel)
        }
        mode(640, 480, 8, enable: 0x61)
        dac(7, [0x80, 0x40, 0x20])
        poke(0xA0000, 7)
        picture = chip.picture()
        #expect(picture.pixels[0] == 0x804020, "an 8-bit DAC")
    }

    /// Whatever the registers say, there is a picture.
    @Test(arguments: [1, 2, 3] as [UInt64])
    func randomRegisters(seed: UInt64) {
        var random = TestRandom(seed)
        for _ in 0..<40 {
            for _ in 0..<200 {
                let port = [0x3C0, 0x3C2, 0x3C4, 0x3CE, 0x3D4, 0x1CE, 0x1CF, 0x1CF][random.below(8)] as UInt64
                board.out(port, port == 0x1CE ? UInt64(random.below(12)) : random.next() & 0xFFFF, port == 0x3C0 ? 1 : 2)
            }
            dispi(4, 0)
            dispi(1, UInt64(random.below(400)))
            dispi(2, UInt64(random.below(200)))
            dispi(4, UInt64(random.below(256)))
            board.out(0x3C0, 0x20)
            let picture = chip.picture()
            #expect(picture.pixels.count == picture.width * picture.height)
            poke(0xA0000 + random.next() % 0x20000, random.next() & 0xFF)
        }
    }
}
