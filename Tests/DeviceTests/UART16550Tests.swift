import DeviceBus
import Devices
import Testing

struct UART16550Tests {
    let board = FakeBoard()
    let chip: UART16550

    init() {
        chip = board.add(
            UART16550(name: "serial0", base: 0x3F8, irq: board.line(4), scheduler: board.scheduler, channel: board))
        // 115200 baud, 8 data bits, DTR, RTS and OUT2.
        board.out(0x3FB, 0x80)
        board.out(0x3F8, 1)
        board.out(0x3F9, 0)
        board.out(0x3FB, 3)
        board.out(0x3FC, 0x0B)
    }

    /// One character at 115200 baud: 86.8 microseconds.
    let characterTime: UInt64 = 86_806

    @Test func divisorIsBehindTheLatchBit() {
        board.out(0x3FB, 0x83)
        #expect(board.in(0x3F8) == 1)
        #expect(board.in(0x3F8, 2) == 0x0001)
        board.out(0x3FB, 3)
        #expect(board.in(0x3F9) == 0)
    }

    @Test func sendsAtOnce() {
        for byte in "emu".utf8 {
            #expect(board.in(0x3FD) & 0x60 == 0x60)
            board.out(0x3F8, UInt64(byte))
        }
        #expect(board.sent == Array("emu".utf8))
    }

    @Test func transmitterInterruptComesBackWithEachByte() {
        board.out(0x3F9, 2)
        #expect(board.levels[4])
        #expect(board.in(0x3FA) & 0x0F == 2)
        #expect(!board.levels[4], "reading IIR takes the interrupt")
        #expect(board.in(0x3FA) & 0x0F == 1)
        board.out(0x3F8, 0x41)
        #expect(board.levels[4])
        board.out(0x3F8, 0x42)
        #expect(board.edges[4] == 3, "each byte makes an edge")
    }

    /// The far end goes after what it has said has been heard, and comes back.
    @Test func theCarrierGoesAndComes() {
        board.out(0x3F9, 8)
        #expect(board.in(0x3FE) == 0xB0)
        chip.receive([7])
        chip.receive([])
        #expect(board.in(0x3FE) == 0xB0, "a byte is on its way")
        board.advance(characterTime)
        #expect(board.in(0x3F8) == 7 && board.levels[4] && board.in(0x3FA) & 0x0F == 0)
        #expect(board.in(0x3FE) == 0x1A && !board.levels[4], "DCD and DSR have gone, CTS stays")
        #expect(board.in(0x3FE) == 0x10)
        // Loopback and back.
        board.out(0x3FC, 0x1F)
        #expect(board.in(0x3FE) & 0xF0 == 0xF0)
        board.out(0x3FC, 0x0B)
        #expect(board.in(0x3FE) & 0xF0 == 0x10)
        chip.reset()
        #expect(board.in(0x3FE) == 0x10, "a reset brings nobody back")
        chip.receive([])
        #expect(board.in(0x3FE) == 0xBA)
    }

    @Test func receivesAtTheProgrammedRate() {
        chip.receive([1, 2])
        #expect(board.in(0x3FD) & 1 == 0)
        board.advance(characterTime)
        #expect(board.in(0x3FD) & 1 == 1)
        #expect(board.in(0x3F8) == 1)
        #expect(board.in(0x3FD) & 1 == 0)
        board.advance(characterTime)
        #expect(board.in(0x3F8) == 2)
    }

    @Test func withoutFIFOTheNextCharacterWaits() {
        chip.receive([1, 2, 3])
        board.advance(characterTime * 10)
        for expected in 1...3 as ClosedRange<UInt64> {
            #expect(board.in(0x3F8) == expected)
            board.advance(characterTime)
        }
        #expect(board.in(0x3FD) & 2 == 0, "no overrun: the far end waits")
    }

    @Test func triggerLevelAndTimeout() {
        board.out(0x3FA, 0x81)
        board.out(0x3F9, 1)
        chip.receive(Array(1...10))
        board.advance(characterTime * 7)
        #expect(!board.levels[4])
        board.advance(characterTime)
        #expect(board.in(0x3FA) == 0xC4, "eight characters are there")
        for _ in 0..<3 { _ = board.in(0x3F8) }
        #expect(!board.levels[4])
        board.advance(characterTime * 2)
        #expect(!board.levels[4])
        board.advance(characterTime * 5)
        #expect(board.in(0x3FA) == 0xCC, "nothing has moved for four characters")
        _ = board.in(0x3F8)
        #expect(board.in(0x3FA) == 0xC1)
    }

    @Test func loopbackOverrunAndPriorities() {
        board.out(0x3FA, 0x07)
        board.out(0x3FC, 0x1B)
        for byte in 0..<17 { board.out(0x3F8, UInt64(byte)) }
        #expect(board.sent.isEmpty)
        board.out(0x3F9, 0x0F)
        #expect(board.in(0x3FA) & 0x0F == 6, "line status first")
        #expect(board.in(0x3FD) & 3 == 3)
        #expect(board.in(0x3FD) & 3 == 1)
        #expect(board.in(0x3FA) & 0x0F == 4)
        for expected in 0..<16 as Range<UInt64> { #expect(board.in(0x3F8) == expected) }
        #expect(board.in(0x3FA) & 0x0F == 2)
        #expect(board.in(0x3FE) >> 4 == 0b1011, "OUT2 is DCD, RTS is CTS, DTR is DSR")
    }

    @Test func out2GatesTheInterrupt() {
        board.out(0x3F9, 2)
        #expect(board.levels[4])
        board.out(0x3FC, 0x03)
        #expect(!board.levels[4])
    }

    @Test func inboxIsBounded() {
        chip.receive([UInt8](repeating: 1, count: 100_000))
        #expect(chip.state.inbox.count == UART16550.inboxLimit)
    }
}
