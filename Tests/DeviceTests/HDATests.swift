import DeviceBus
import MachineState
import Testing

@testable import Devices

/// Intel's HDA, driven as its driver does.
struct HDATests {
    private static let base: UInt64 = 0xE000_0000
    /// Stream 0 is the first in, 4 the first out.
    private static func stream(_ number: UInt64) -> UInt64 { base + 0x80 + number * 0x20 }

    private final class Stage {
        let board = FakeBoard()
        let messages = SoundMessages()
        let card: HDA

        init(isReady: Bool = true) {
            let host = board.add(PCIHost(bus: board.bus))
            card = board.add(
                HDA(name: "hda", irq: board.line(9), messages: board, memory: board, scheduler: board.scheduler, channel: messages))
            host.add(card, at: PCIAddress(slot: 4))
            card.reset()
            configure(0x10, HDATests.base)
            configure(0x04, 6)
            if isReady {
                write(0x08, 1, 4)
                board.advance(600_000)
            }
        }
        func configure(_ register: UInt64, _ value: UInt64) {
            board.out(0xCF8, 0x8000_2000 | register, 4)
            board.out(0xCFC, value, 4)
        }
        func read(_ register: UInt64, _ width: Int) -> UInt64 { board.bus.read(.memory, HDATests.base + register, width: width) }
        func write(_ register: UInt64, _ value: UInt64, _ width: Int) {
            board.bus.write(.memory, HDATests.base + register, width: width, value: value)
        }
        /// A command to the codec by the immediate registers.
        @discardableResult
        func command(_ node: UInt64, _ verb: UInt64) -> UInt64 {
            write(0x60, node << 20 | verb, 4)
            write(0x68, 3, 2)
            return read(0x68, 2) == 2 ? read(0x64, 4) : .max
        }
        /// Entry `number` of a list at 0x1000.
        func describe(_ number: Int, _ address: Int, bytes: Int, interrupts: Bool) {
            put(0x1000 + number * 16, UInt64(address), 8)
            put(0x1008 + number * 16, UInt64(bytes) | (interrupts ? 1 << 32 : 0), 8)
        }
        func put(_ address: Int, _ value: UInt64, _ width: Int) {
            for lane in 0..<width { board.ram[address + lane] = UInt8(truncatingIfNeeded: value >> UInt64(lane * 8)) }
        }
        func get(_ address: Int, _ width: Int) -> UInt64 {
            (0..<width).reduce(0) { $0 | UInt64(board.ram[address + $1]) << UInt64($1 * 8) }
        }
        /// Sets stream `number` up with the list at 0x1000 of two entries, but does not start it.
        func prepare(_ number: UInt64, tag: UInt64, bytes: Int, format: UInt64 = 0x0011) {
            let place = 0x80 + number * 0x20
            write(place, 1, 1)
            #expect(read(place, 1) == 1)
            write(place, 0, 1)
            write(place + 2, tag << 4, 1)
            write(place + 8, UInt64(bytes), 4)
            write(place + 0xC, 1, 2)
            write(place + 0x12, format, 2)
            write(place + 0x18, 0x1000, 4)
            write(place + 0x1C, 0, 4)
        }
    }

    @Test func resetAndArrivalOfTheCodec() {
        let stage = Stage(isReady: false)
        #expect(stage.read(0, 4) == 0x0100_4401 && stage.read(8, 4) == 0)
        stage.write(0x20, 0xC000_0000, 4)
        #expect(stage.read(0x20, 4) == 0, "nothing is written in reset")
        stage.write(0x0C, 1, 2)
        stage.write(8, 1, 4)
        stage.write(0x20, 0xC000_0000, 4)
        #expect(stage.read(8, 4) == 1 && stage.read(0x0E, 2) == 0 && !stage.board.levels[9])
        stage.board.advance(600_000)
        #expect(stage.read(0x0E, 2) == 1 && stage.board.levels[9] && stage.read(0x24, 4) == 0xC000_0000)
        stage.write(0x0E, 7, 2)
        #expect(stage.read(0x0E, 2) == 0 && !stage.board.levels[9])
        #expect(stage.read(0x30, 4) == 600_000 * 24 / 1000 && stage.read(0x2030, 4) == stage.read(0x30, 4))
        stage.write(0x40, 0x12345, 4)
        stage.write(8, 0, 4)
        #expect(stage.read(0x40, 4) == 0 && stage.read(0x20, 4) == 0 && stage.read(0x0C, 2) == 1)
    }

    @Test func theCodecTellsAboutItself() {
        let stage = Stage()
        func parameter(_ node: UInt64, _ number: UInt64) -> UInt64 { stage.command(node, 0xF0000 | number) }
        #expect(parameter(0, 0) == 0x1AF4_0022 && parameter(0, 4) == 0x0001_0001)
        #expect(parameter(1, 5) == 1 && parameter(1, 4) == 0x0002_0004)
        #expect((2...5).map { parameter($0, 9) >> 20 } == [0, 1, 4, 4], "DAC, ADC, two pins")
        #expect(parameter(2, 0x0A) == 0x0002_0060 && parameter(2, 0x12) == 0x8003_4A4A && parameter(3, 0x0D) == 0x8003_4A4A)
        #expect(parameter(4, 0x0C) == 0x10 && parameter(5, 0x0C) == 0x20)
        #expect(parameter(4, 0x0E) == 1 && stage.command(4, 0xF0200) == 2 && stage.command(3, 0xF0200) == 5)
        #expect(stage.command(4, 0xF1C00) == 0x0101_4110)
        // Amplifiers: both sides, or one.
        stage.command(2, 0x3B010)
        #expect(stage.command(2, 0xBA000) == 0x10 && stage.command(2, 0xB8000) == 0x10)
        stage.command(2, 0x39085)
        #expect(stage.command(2, 0xBA000) == 0x10 && stage.command(2, 0xB8000) == 0x85 && stage.command(2, 0xB0000) == 0)
        stage.command(3, 0x37000)
        #expect(stage.command(3, 0xB2000) == 0)
        stage.command(4, 0x70740)
        stage.command(2, 0x70503)
        #expect(stage.command(4, 0xF0700) == 0x40 && stage.command(2, 0xF0500) == 0x33)
        stage.command(4, 0x71CFF)
        stage.command(1, 0x7FF00)
        #expect(stage.command(4, 0xF0700) == 0 && stage.command(2, 0xBA000) == 0x4A && stage.command(4, 0xF1C00) == 0x0101_41FF)
        // There is nobody else.
        stage.write(0x60, 0x100F_0000, 4)
        stage.write(0x68, 3, 2)
        #expect(stage.read(0x68, 2) == 0)
    }

    @Test func commandsByRings() {
        let stage = Stage()
        stage.put(0x2004, 0x000F_0000, 4)
        stage.put(0x2008, 0x200F_0000, 4)
        stage.put(0x200C, 0x001F_0005, 4)
        for (register, value, width) in [
            (0x40, 0x2000, 4), (0x50, 0x3000, 4), (0x4A, 0x8000, 2), (0x4A, 0, 2), (0x58, 0x8000, 2), (0x5A, 2, 2), (0x5C, 3, 1), (0x4C, 2, 1),
            (0x20, 0xC000_0000, 4),
        ] as [(UInt64, UInt64, Int)] { stage.write(register, value, width) }
        #expect(stage.read(0x4E, 1) == 0x42 && stage.read(0x4A, 2) == 0)
        stage.write(0x48, 3, 2)
        stage.board.advance(21_000)
        #expect(stage.get(0x3008, 8) == 0x1AF4_0022 && stage.read(0x58, 2) == 1 && !stage.board.levels[9])
        stage.board.advance(21_000)
        #expect(stage.read(0x58, 2) == 1 && stage.read(0x5D, 1) == 1 && stage.board.levels[9], "a frame without a response")
        stage.write(0x5D, 5, 1)
        #expect(!stage.board.levels[9])
        stage.board.advance(21_000)
        #expect(stage.get(0x3010, 8) == 1 && stage.read(0x4A, 2) == 3 && stage.board.levels[9])
    }

    @Test func samplesGoOutAtTheirRate() {
        let stage = Stage()
        let bytes = (0..<4096).map { UInt8(truncatingIfNeeded: $0 &* 13) }
        stage.board.ram.replaceSubrange(0x2000..<0x3000, with: bytes)
        stage.describe(0, 0x2000, bytes: 1920, interrupts: true)
        stage.describe(1, 0x2000 + 1920, bytes: 1920, interrupts: false)
        stage.prepare(4, tag: 5, bytes: 3840)
        stage.command(2, 0x20011)
        stage.command(2, 0x70650)
        stage.write(0x70, 0x4001, 4)
        stage.write(0x20, 0x8000_0010, 4)
        // Held until all that shall begin together is ready.
        stage.write(0x34, 0x10, 4)
        stage.write(0x100, 0x0E, 1)
        stage.board.advance(1_000_000)
        #expect(stage.read(0x103, 1) == 0x20 && stage.read(0x104, 4) == 0 && stage.messages.samples.isEmpty)
        stage.write(0x34, 0, 4)
        // 480 frames of 4 bytes take 10 ms.
        stage.board.advance(5_000_000)
        #expect(stage.read(0x104, 4) == 960 && stage.read(0x2104, 4) == 960 && stage.messages.samples == Array(bytes[..<960]))
        #expect(stage.get(0x4020, 4) == 960, "in RAM too")
        #expect(!stage.board.levels[9])
        stage.board.advance(5_000_001)
        #expect(stage.read(0x103, 1) == 0x24 && stage.board.levels[9] && stage.read(0x24, 4) == 0x8000_0010)
        stage.write(0x103, 0x1C, 1)
        #expect(!stage.board.levels[9] && stage.read(0x24, 4) == 0)
        stage.board.advance(10_000_000)
        #expect(stage.read(0x103, 1) == 0x20 && stage.read(0x104, 4) == 0, "the second entry says nothing, and it begins anew")
        #expect(stage.messages.samples == Array(bytes[..<3840]) && stage.messages.sent.allSatisfy { $0[1...4] == [0x80, 0xBB, 0, 0] })
        stage.write(0x100, 0, 1)
        stage.board.advance(10_000_000)
        #expect(stage.messages.samples.count == 3840)
        // Another stream than the converter's is not heard.
        stage.command(2, 0x70660)
        stage.write(0x100, 2, 1)
        stage.board.advance(10_000_000)
        #expect(stage.read(0x104, 4) == 1920 && stage.messages.samples.count == 3840)
    }

    @Test func messagesInsteadOfThePin() {
        let stage = Stage()
        stage.configure(0x64, 0xFEE0_0000)
        stage.configure(0x6C, 0x41)
        stage.configure(0x60, 0x0001_0000)
        stage.describe(0, 0x2000, bytes: 192, interrupts: true)
        stage.describe(1, 0x2100, bytes: 192, interrupts: true)
        stage.prepare(4, tag: 1, bytes: 384)
        stage.write(0x20, 0x8000_0010, 4)
        stage.write(0x100, 0x06, 1)
        stage.board.advance(1_000_001)
        #expect(stage.board.messages.map { $0.1 } == [0x41] && !stage.board.levels[9])
        stage.board.advance(1_000_001)
        #expect(stage.board.messages.count == 2, "once more, though nobody has looked")
    }

    @Test func aRecordingIsWhatCameIn() {
        let stage = Stage()
        stage.card.receive([1, 2, 3, 4])
        stage.describe(0, 0x2000, bytes: 16, interrupts: true)
        stage.describe(1, 0x2100, bytes: 16, interrupts: false)
        stage.prepare(0, tag: 1, bytes: 32, format: 0x4011)
        stage.command(3, 0x24011)
        stage.write(0x80, 2, 1)
        #expect(stage.messages.sent.isEmpty, "the converter has no stream")
        stage.write(0x80, 0, 1)
        stage.command(3, 0x70610)
        stage.write(0x80, 2, 1)
        #expect(stage.messages.sent == [[2, 0x44, 0xAC, 0, 0]], "44100 frames a second")
        let bytes = (1...24).map { UInt8($0) }
        stage.card.receive(bytes + [99])
        // 8 frames.
        stage.board.advance(182_000)
        #expect(Array(stage.board.ram[0x2000..<0x2010]) == Array(bytes[..<16]), "not what came before")
        #expect(Array(stage.board.ram[0x2100..<0x2110]) == Array(bytes[16...]) + [UInt8](repeating: 0, count: 8))
        #expect(stage.read(0x83, 1) == 0x24)
        stage.write(0x80, 0, 1)
        #expect(stage.messages.sent.last == [3, 0x44, 0xAC, 0, 0])
    }

    @Test func aListOfNothingEndsTheStream() {
        let stage = Stage()
        stage.prepare(4, tag: 1, bytes: 0)
        stage.write(0x20, 0x8000_0010, 4)
        stage.write(0x100, 0x1E, 1)
        stage.board.advance(1_000_000)
        #expect(stage.read(0x103, 1) == 0x10 && stage.read(0x100, 1) == 0x1C && stage.board.levels[9])
    }

    @Test func formats() {
        #expect(HDAFormat(0x0011).rate == 48_000 && HDAFormat(0x4011).rate == 44_100 && HDAFormat(0x0811).rate == 96_000)
        #expect(HDAFormat(0x4111).rate == 22_050 && HDAFormat(0x0011).frameSize == 4 && HDAFormat(0x0037).frameSize == 32)
        #expect(HDAFormat(0x0011).isPlayable && HDAFormat(0x4011).isPlayable && !HDAFormat(0x0010).isPlayable && !HDAFormat(0x0811).isPlayable)
    }

    @Test func stateIsVisitedAsAWhole() {
        let stage = Stage()
        stage.describe(0, 0x2000, bytes: 400, interrupts: false)
        stage.describe(1, 0x2200, bytes: 400, interrupts: true)
        stage.prepare(4, tag: 1, bytes: 800)
        stage.write(0x100, 2, 1)
        stage.board.advance(1_500_000)
        StateChecks.loads(stage.card) { Stage(isReady: false).card }
        StateChecks.namesEachField(of: stage.card.state, stage.card.visitState)
        var (stream, ring, codec) = (HDAStream(), HDA.Ring(), HDACodec())
        StateChecks.namesEachField(of: stream) { stream.visit(&$0) }
        StateChecks.namesEachField(of: ring) { ring.visit(&$0) }
        StateChecks.namesEachField(of: codec) { codec.visit(&$0) }
        StateChecks.namesEachField(of: codec.output) { codec.output.visit(&$0) }
        StateChecks.namesEachField(of: codec.lineOut) { codec.lineOut.visit(&$0) }
    }

    @Test func registersHaveNames() {
        let places = HDA.registers.map(\.offset)
        #expect(places == places.sorted())
        let stage = Stage()
        #expect(stage.card.regions[0].registerName(at: 0x83) == "SD0STS" && stage.card.regions[0].registerName(at: 0x2104) == "SD4LPIBA")
        let control = stage.card.regions[0].register(at: 0x100)
        #expect(control?.describe(0x50_0006, isWrite: true) == "RUN IOCE STRM=5")
    }

    @Test(arguments: 0..<20 as Range<UInt64>) func anyDriver(seed: UInt64) {
        var random = TestRandom(seed)
        let stage = Stage()
        for _ in 0..<2000 {
            switch random.below(10) {
            case 0...1: stage.write(UInt64(random.below(0x180)), random.next(), [1, 2, 4, 8][random.below(4)])
            case 2: stage.write(0x80 + UInt64(random.below(8)) * 0x20, UInt64(random.below(4)) << 20 | 0x1E, 3)
            case 3: _ = stage.read(UInt64(random.below(0x3FF8)), [1, 2, 4, 8][random.below(4)])
            case 4: stage.card.receive(random.bytes(random.below(2000)))
            case 5: stage.command(UInt64(random.below(8)), random.next() & 0xF_FFFF)
            case 6:
                // Lists of random entries, some of them short, and command rings of random bytes.
                stage.board.ram.replaceSubrange(0x1000..<0x2000, with: random.bytes(0x1000))
                for entry in 0..<256 where random.below(4) > 0 {
                    stage.put(0x1000 + entry * 16, UInt64(random.below(0x1_1000)), 8)
                    stage.put(0x1008 + entry * 16, UInt64(random.below(64)) | UInt64(random.below(2)) << 32, 8)
                }
            case 7:
                let place = 0x80 + UInt64(random.below(8)) * 0x20
                stage.write(place, 1, 1)
                stage.write(place, 0, 1)
                stage.write(place + 0x18, 0x1000, 8)
                stage.write(place + 0xC, UInt64(random.below(256)), 4)
                stage.write(place + 0x12, random.next(), 2)
                stage.write(0x08, 1, 4)
                stage.write(0x70, UInt64(random.below(0x1_2000)), 8)
            case 8:
                stage.write(0x40, 0x1000, 8)
                stage.write(0x50, UInt64(random.below(0x1_2000)), 8)
                stage.write(0x4C, 2, 1)
                stage.write(0x5C, 3, 1)
                stage.write(0x48, random.next() & 0xFF, 4)
            default: stage.board.advance(UInt64(random.below(3_000_000)))
            }
        }
        StateChecks.survivesDamage(stage.card, &random) { random in
            _ = stage.read(0x104, 4)
            stage.write(0x08, 1, 4)
            stage.write(0x100, 2, 1)
            stage.write(0x48, random.next(), 4)
            stage.board.advance(1_000_000)
        }
    }
}
