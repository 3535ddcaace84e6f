import Testing

@testable import DeviceBus
@testable import Devices

struct PIC8259Tests {
    private let board = FakeBoard()
    private let pic: PIC8259

    init() {
        pic = board.add(PIC8259())
        let board = board
        pic.interruptOutput = { board.setInput(0, $0) }
        // ICW1...ICW4 as a BIOS writes them: vectors 0x20 and 0x28.
        for (port, value) in [(0x20, 0x11), (0xA0, 0x11), (0x21, 0x20), (0xA1, 0x28), (0x21, 4), (0xA1, 2), (0x21, 1), (0xA1, 1)] {
            board.out(UInt64(port), UInt64(value))
        }
    }

    @Test func higherPriorityInterruptsLower() {
        pic.setInput(4, true)
        #expect(board.levels[0])
        #expect(pic.acknowledge() == 0x24)
        #expect(!board.levels[0])
        pic.setInput(6, true)
        #expect(!board.levels[0], "IRQ 6 is below IRQ 4, which is in service")
        pic.setInput(1, true)
        #expect(pic.acknowledge() == 0x21)
        board.out(0x20, 0x20)
        board.out(0x20, 0x20)
        #expect(pic.acknowledge() == 0x26)
    }

    @Test func secondChipComesThroughInput2() {
        pic.setInput(10, true)
        #expect(pic.acknowledge() == 0x2A)
        board.out(0x20, 0x0B)
        #expect(board.in(0x20) == 4)
        // Both chips need an end of interrupt.
        board.out(0xA0, 0x20)
        pic.setInput(12, true)
        #expect(!board.levels[0])
        board.out(0x20, 0x20)
        #expect(pic.acknowledge() == 0x2C)
    }

    @Test func maskedAndVanishedRequests() {
        board.out(0x21, 0x10)
        pic.setInput(4, true)
        #expect(!board.levels[0])
        board.out(0x21, 0)
        #expect(board.levels[0])
        pic.setInput(4, false)
        #expect(!board.levels[0])
        #expect(pic.acknowledge() == 0x27, "spurious")
        board.out(0x20, 0x0B)
        #expect(board.in(0x20) == 0, "a spurious interrupt is not in service")
    }

    @Test func levelTriggeredInputsComeAgain() {
        board.out(0x4D1, 0x02)
        pic.setInput(9, true)
        #expect(pic.acknowledge() == 0x29)
        board.out(0xA0, 0x20)
        board.out(0x20, 0x20)
        #expect(board.levels[0])
        #expect(pic.acknowledge() == 0x29)
    }

    @Test func rotationMakesTheServedInputLast() {
        pic.setInput(3, true)
        _ = pic.acknowledge()
        board.out(0x20, 0xA0)
        pic.setInput(3, false)
        pic.setInput(3, true)
        pic.setInput(4, true)
        #expect(pic.acknowledge() == 0x24)
    }

    @Test func pollAcknowledges() {
        pic.setInput(5, true)
        board.out(0x20, 0x0C)
        #expect(board.in(0x20) == 0x85)
        board.out(0x20, 0x0B)
        #expect(board.in(0x20) == 0x20)
    }
}

struct LocalAPICTests {
    private final class Pins: CPUPins {
        var line = false
        var nmis = 0
        func setInterruptLine(_ level: Bool) { line = level }
        func raiseNMI() { nmis += 1 }
        func requestReset() {}
        func powerOff(code: UInt64?) {}
        func setA20(_ enabled: Bool) {}
        func setShadow(_ control: UInt64) {}
        func setVideoBase(_ base: UInt64) {}
    }
    private let pins = Pins()
    private let scheduler = Scheduler()
    private let bus = Bus()
    private let lapic: LocalAPIC
    private let pic = PIC8259()
    private let ioAPIC = IOAPIC()
    private let base: UInt64 = 0xFEE0_0000

    init() {
        lapic = LocalAPIC(scheduler: scheduler, pins: pins)
        for device in [lapic, pic, ioAPIC] as [any Device] {
            scheduler.register(device)
            bus.attach(device)
        }
        lapic.attach(pic: pic, ioAPIC: ioAPIC)
        write(0xF0, 0x1FF)
    }
    private func write(_ offset: UInt64, _ value: UInt64) { bus.write(.memory, base + offset, width: 4, value: value) }
    private func read(_ offset: UInt64) -> UInt64 { bus.read(.memory, base + offset, width: 4) }
    private func redirect(_ input: UInt64, _ low: UInt64) {
        bus.write(.memory, 0xFEC0_0000, width: 4, value: 0x10 + input * 2)
        bus.write(.memory, 0xFEC0_0010, width: 4, value: low)
    }

    @Test func prioritiesFollowTheClasses() {
        lapic.accept(0x41, isLevel: false)
        #expect(lapic.acknowledge() == 0x41)
        lapic.accept(0x45, isLevel: false)
        #expect(!pins.line, "same class as the one in service")
        lapic.accept(0x51, isLevel: false)
        #expect(pins.line)
        #expect(lapic.acknowledge() == 0x51)
        write(0xB0, 0)
        write(0xB0, 0)
        #expect(lapic.acknowledge() == 0x45)
    }

    @Test func taskPriorityHoldsBack() {
        write(0x80, 0x60)
        lapic.accept(0x62, isLevel: false)
        #expect(!pins.line)
        #expect(read(0xA0) == 0x60)
        write(0x80, 0x50)
        #expect(pins.line)
    }

    @Test func timerCountsDownOnceOrAgain() {
        write(0x3E0, 0xB)
        write(0x320, 0x30)
        write(0x380, 1000)
        scheduler.now = 400
        #expect(read(0x390) == 600)
        scheduler.now = 1000
        scheduler.fireDue()
        #expect(lapic.acknowledge() == 0x30)
        #expect(read(0x390) == 0)
        #expect(scheduler.nextDeadline == .max)
        write(0xB0, 0)
        write(0x320, 0x2_0031)
        write(0x380, 2000)
        for period in 1...3 as ClosedRange<UInt64> {
            scheduler.now = 1000 + period * 2000
            scheduler.fireDue()
            #expect(lapic.acknowledge() == 0x31)
            write(0xB0, 0)
        }
    }

    @Test func levelInterruptComesAgainAfterItsEnd() {
        redirect(10, 0x8000 | 0x55)
        ioAPIC.setInput(10, true)
        #expect(lapic.acknowledge() == 0x55)
        #expect(!pins.line)
        write(0xB0, 0)
        #expect(pins.line, "the line is still high")
        #expect(lapic.acknowledge() == 0x55)
        ioAPIC.setInput(10, false)
        write(0xB0, 0)
        #expect(!pins.line)
    }

    @Test func picIsHeardThroughLINT0() {
        for (port, value) in [(0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x21, 0)] {
            bus.write(.port, UInt64(port), width: 1, value: UInt64(value))
        }
        pic.setInput(3, true)
        #expect(!pins.line, "LINT0 is masked after a reset")
        write(0x350, 0x700)
        #expect(pins.line)
        #expect(lapic.acknowledge() == 0x23)
        #expect(lapic.acknowledge() == 0xFF, "nothing left: the spurious vector")
    }

    @Test func selfInterruptAndNMI() {
        write(0x300, 0x4_0077)
        #expect(lapic.acknowledge() == 0x77)
        write(0x310, 0)
        write(0x300, 0x400)
        #expect(pins.nmis == 1)
        write(0x300, 0x4_0008)
        write(0x280, 0)
        #expect(read(0x280) == 1 << 5, "an illegal vector was sent")
    }
}

struct TimeChipTests {
    private let board = FakeBoard()

    @Test func pitMode2InterruptsEachPeriod() {
        _ = board.add(PIT8254(irq: board.line(0), scheduler: board.scheduler))
        board.out(0x43, 0x34)
        board.out(0x40, 0xA9)
        board.out(0x40, 0x04)
        // 1193 ticks are 999.85 µs: 100 of them within 100 ms.
        board.advance(100_000_000)
        #expect(board.edges[0] == 100 || board.edges[0] == 101)
        board.out(0x43, 0)
        let count = board.in(0x40) | board.in(0x40) << 8
        #expect(1...1193 ~= count)
        board.out(0x43, 0xE2)
        #expect(board.in(0x40) & 0x3F == 0x34)
    }

    @Test func pitMode0EndsOnce() {
        _ = board.add(PIT8254(irq: board.line(0), scheduler: board.scheduler))
        board.out(0x43, 0x30)
        board.out(0x40, 100)
        board.out(0x40, 0)
        #expect(!board.levels[0])
        board.advance(80_000)
        #expect(!board.levels[0])
        board.advance(10_000)
        #expect(board.levels[0])
        board.advance(1_000_000_000)
        #expect(board.edges[0] == 1)
    }

    @Test func pitCounter2IsGatedByPort61() {
        _ = board.add(PIT8254(irq: board.line(0), scheduler: board.scheduler))
        board.out(0x43, 0xB0)
        board.out(0x42, 0xFF)
        board.out(0x42, 0xFF)
        board.advance(100_000_000)
        #expect(board.in(0x61) & 0x20 == 0, "the gate is closed")
        board.out(0x61, 1)
        board.advance(54_000_000)
        #expect(board.in(0x61) & 0x20 == 0)
        board.advance(2_000_000)
        #expect(board.in(0x61) & 0x20 != 0)
    }

    private func cmos(_ index: UInt64) -> UInt64 {
        board.out(0x70, index)
        return board.in(0x71)
    }
    private func setCMOS(_ index: UInt64, _ value: UInt64) {
        board.out(0x70, index)
        board.out(0x71, value)
    }

    @Test func rtcKeepsTheCalendar() {
        // 2024-02-28 23:59:58 UTC, a Wednesday.
        _ = board.add(RTC146818(irq: board.line(8), scheduler: board.scheduler, unixTime: 1_709_164_798))
        #expect([9, 8, 7, 6, 4, 2, 0].map(cmos) == [0x24, 0x02, 0x28, 4, 0x23, 0x59, 0x58])
        #expect(cmos(0x32) == 0x20)
        board.advance(2_000_000_000)
        #expect([8, 7, 6, 4, 2, 0].map(cmos) == [0x02, 0x29, 5, 0, 0, 0])
        setCMOS(0x0B, 0x06)
        #expect([9, 7].map(cmos) == [24, 29])
    }

    @Test func rtcCanBeSet() {
        _ = board.add(RTC146818(irq: board.line(8), scheduler: board.scheduler, unixTime: 0))
        setCMOS(0x0B, 0x82)
        for (index, value) in [(9, 0x99), (8, 0x12), (7, 0x31), (4, 0x23), (2, 0x59), (0, 0x59), (0x32, 0x19)] {
            setCMOS(UInt64(index), UInt64(value))
        }
        board.advance(5_000_000_000)
        #expect(cmos(0) == 0x59, "SET holds the time")
        setCMOS(0x0B, 0x02)
        board.advance(1_000_000_000)
        #expect([0x32, 9, 8, 7, 4].map(cmos) == [0x20, 0x00, 0x01, 0x01, 0])
    }

    @Test func rtcInterrupts() {
        _ = board.add(RTC146818(irq: board.line(8), scheduler: board.scheduler, unixTime: 1_709_164_798))
        // Alarm at 23:59:59, whatever the hour and minute.
        setCMOS(1, 0x59)
        setCMOS(3, 0xC0)
        setCMOS(5, 0xC0)
        setCMOS(0x0B, 0x22)
        board.advance(1_000_000_000)
        #expect(board.levels[8])
        #expect(cmos(0x0C) == 0xB0)
        #expect(!board.levels[8])
        // 1024 Hz.
        setCMOS(0x0B, 0x42)
        let before = board.edges[8]
        for _ in 0..<1024 {
            board.advance(976_563)
            _ = cmos(0x0C)
        }
        #expect(board.edges[8] - before >= 1023)
    }

    @Test func powerManagement() {
        let pm = board.add(ACPIPM(sci: board.line(9), scheduler: board.scheduler, pins: board))
        board.out(0xB2, 0xF1)
        #expect(board.in(0xB004, 2) & 1 == 1)
        board.out(0xB002, 0x100, 2)
        pm.pressPowerButton()
        #expect(board.levels[9])
        board.out(0xB000, 0x100, 2)
        #expect(!board.levels[9])
        let start = board.in(0xB008, 4)
        board.advance(1_000_000_000)
        #expect(board.in(0xB008, 4) - start == 3_579_545)
        board.out(0xB004, 0x2001, 2)
        #expect(board.powerOffCodes.count == 1)
        pm.writeResetControl(2)
        pm.writeResetControl(6)
        #expect(board.resets == 1)
    }
}
