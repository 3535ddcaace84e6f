import DeviceBus
import Devices
import MachineState
import Testing

/// A PCI card with a port BAR and a memory BAR, which answers with its name's first letter.
private final class Card: PCIFunction {
    let name: String
    var configuration: PCIConfiguration
    var regions: [Region] { [configuration.region(0), configuration.region(1)] }
    init(_ name: String) {
        self.name = name
        configuration = PCIConfiguration(vendor: 0x1234, device: 0x5678, classCode: 0x020000, interruptPin: 1)
        configuration.setBaseAddress(0, .port, size: 32, region: 0)
        configuration.setBaseAddress(1, .memory, size: 0x2000, region: 1)
    }
    func configurationWritten(_ offset: Int, width: Int) {}
    func read(region: Int, offset: UInt64, width: Int) -> UInt64 { UInt64(name.utf8.first!) }
    func write(region: Int, offset: UInt64, width: Int, value: UInt64) {}
    func timerFired(_ timer: Int) {}
    func reset() { configuration.reset() }
    func visitState(_ visitor: inout StateVisitor) { configuration.visit(&visitor) }
}

struct PCITests {
    let board = FakeBoard()
    let host: PCIHost
    let bridge: PIIX3
    private let card: Card
    private let other: Card

    init() {
        host = board.add(PCIHost(bus: board.bus))
        bridge = board.add(PIIX3(isaLines: (0..<16).map(board.line), apicLines: (16..<20).map(board.line)))
        card = board.add(Card("a"))
        other = board.add(Card("b"))
        _ = board.add(DMA8237(memory: board))
        host.add(bridge, at: PCIAddress(slot: 1))
        host.add(board.add(PIIX4Power()), at: PCIAddress(slot: 1, function: 3))
        host.add(card, at: PCIAddress(slot: 3))
        host.add(other, at: PCIAddress(slot: 4))
    }

    func select(_ slot: UInt64, _ register: UInt64, function: UInt64 = 0, bus: UInt64 = 0) {
        board.out(0xCF8, 0x8000_0000 | bus << 16 | slot << 11 | function << 8 | register & 0xFC, 4)
    }
    func read(_ slot: UInt64, _ register: UInt64, _ width: Int = 4, function: UInt64 = 0) -> UInt64 {
        select(slot, register, function: function)
        return board.in(0xCFC | register & 3, width)
    }
    func write(_ slot: UInt64, _ register: UInt64, _ value: UInt64, _ width: Int = 4, function: UInt64 = 0) {
        select(slot, register, function: function)
        board.out(0xCFC | register & 3, value, width)
    }

    /// An expansion ROM is sized, mapped where its register says while both bits allow it, and has the function's identifiers.
    @Test func anExpansionROM() {
        var image = [UInt8](repeating: 0, count: 3000)
        image.replaceSubrange(0..<3, with: [0x55, 0xAA, 6])
        image[0x18] = 0x1C
        image.replaceSubrange(0x1C..<0x24, with: Array("PCIR".utf8) + [0xF4, 0x1A, 0x41, 0x10])
        let third = board.add(Card("c"))
        host.add(
            third, at: PCIAddress(slot: 5), rom: OptionROM(name: "c", bytes: image, vendor: 0x1234, device: 0x5678))
        func at(_ place: UInt64) -> UInt64 { board.bus.read(.memory, 0xE000_0000 + place, width: 1) }
        write(5, 0x30, 0xFFFF_FFFE)
        #expect(read(5, 0x30) == 0xFFFF_F000, "4 KiB")
        write(5, 0x30, 0xE000_0001)
        #expect(at(0) == 0xFF, "memory is not decoded yet")
        write(5, 4, 2, 2)
        #expect(at(0) == 0x55 && at(1) == 0xAA && at(0xFFF) == 0xFF)
        #expect(board.bus.read(.memory, 0xE000_0020, width: 4) == 0x5678_1234)
        // The sum of all bytes is what it was.
        #expect((0..<3000).reduce(UInt8(0)) { $0 &+ UInt8(at($1)) } == image.reduce(0, &+))
        board.bus.write(.memory, 0xE000_0000, width: 1, value: 0)
        #expect(at(0) == 0x55)
        write(5, 0x30, 0xE000_0000)
        #expect(at(0) == 0xFF)
        #expect(read(4, 0x30) == 0)
        write(4, 0x30, 0xFFFF_FFFF)
        #expect(read(4, 0x30) == 0, "another function has none")
        // What is no image stays as it is.
        #expect(OptionROM(name: "d", bytes: [1, 2], vendor: 1, device: 2).read(region: 0, offset: 0, width: 2) == 0x0201)
        #expect(OptionROM(name: "e", bytes: [], vendor: 1, device: 2).size == 2048)
    }

    @Test func enumeration() {
        #expect(read(0, 0) == 0x1237_8086)
        #expect(read(1, 0) == 0x7000_8086)
        #expect(read(1, 0x0E, 1) == 0x80)
        #expect(read(1, 0, function: 3) == 0x7113_8086)
        #expect(read(1, 0x40, function: 3) == 0xB001)
        #expect(read(1, 0x3C, 2, function: 3) == 0x0109)
        #expect(read(2, 0) == 0xFFFF_FFFF)
        #expect(read(0, 2, 2) == 0x1237)
        select(0, 0, bus: 1)
        #expect(board.in(0xCFC, 4) == 0xFFFF_FFFF)
        board.out(0xCF8, 0, 4)
        #expect(board.in(0xCFC, 4) == 0xFFFF_FFFF)
        write(0, 0, 0)
        #expect(read(0, 0) == 0x1237_8086, "identifiers cannot be written")
        write(0, 0x59, 0x30, 1)
        #expect(read(0, 0x59, 1) == 0x30, "PAM0 is stored")
    }

    @Test func resetControlIsForwarded() {
        var written: [UInt8] = []
        host.resetControl = PCIHost.ResetControl(read: { 0x5A }, write: { written.append($0) })
        board.out(0xCF9, 6)
        #expect(written == [6])
        #expect(board.in(0xCF9) == 0x5A)
        board.out(0xCF8, 0x8000_0000, 4)
        #expect(written == [6])
        #expect(board.in(0xCF8, 4) == 0x8000_0000)
    }

    @Test func baseAddresses() {
        write(3, 0x10, 0xFFFF_FFFF)
        #expect(read(3, 0x10) == 0xFFFF_FFE1)
        write(3, 0x14, 0xFFFF_FFFF)
        #expect(read(3, 0x14) == 0xFFFF_E000)
        write(3, 0x10, 0xC000)
        #expect(board.in(0xC000) == 0xFF)
        write(3, 4, 1, 2)
        #expect(board.in(0xC000) == 0x61)
        #expect(board.in(0xC01F) == 0x61)
        #expect(board.in(0xC020) == 0xFF)
        write(3, 0x10, 0xD000)
        #expect(board.in(0xC000) == 0xFF && board.in(0xD000) == 0x61)
        write(3, 0x14, 0xE000_0000)
        write(3, 4, 3, 2)
        #expect(board.bus.read(.memory, 0xE000_1FFF, width: 1) == 0x61)
        host.reset()
        #expect(board.in(0xD000) == 0xFF)
    }

    @Test func overlappingBaseAddressesDoNoHarm() {
        for slot in [UInt64(3), 4] {
            write(slot, 0x10, 0xC000)
            write(slot, 4, 1, 2)
        }
        #expect(board.in(0xC000) == 0x61)
        write(3, 0x10, 0xC0, 4)
        #expect(board.in(0xC0) != 0x61, "the DMA controller is there")
        #expect(board.in(0xC000) == 0x62)
        write(3, 0x10, 0xCE0, 4)
        #expect(read(0, 0) == 0x1237_8086)
        write(3, 0x10, 0xFFE0, 4)
        #expect(board.in(0xFFFF) == 0x61)
        var random = TestRandom(5)
        for _ in 0..<5000 {
            write(UInt64(3 + random.below(2)), UInt64(random.below(16) * 4), random.next() & 0xFFFF_FFFF)
            if random.below(4) == 0 { write(3, 0x14, UInt64(random.below(4)) << 12) }
        }
    }

    @Test func mappingFollowsASnapshot() {
        write(3, 0x10, 0xC000)
        write(3, 4, 1, 2)
        var saved = StateVisitor(.save)
        card.visitState(&saved)
        write(3, 4, 0, 2)
        #expect(board.in(0xC000) == 0xFF)
        var loading = StateVisitor(loading: saved.bytes)
        card.visitState(&loading)
        host.updateMappings()
        #expect(board.in(0xC000) == 0x61)
    }

    @Test func interruptRouting() {
        let inputA = PCIAddress(slot: 1).interruptInput(pin: 1)
        let inputB = PCIAddress(slot: 4).interruptInput(pin: 2)
        #expect(PCIInterruptRouter.line(slot: 4, pin: 1) == 0)
        bridge.setInput(inputA, true)
        #expect(board.levels[16] && !board.levels[11])
        write(1, 0x60, 0x0B, 1)
        #expect(board.levels[11])
        bridge.setInput(inputB, true)
        bridge.setInput(inputA, false)
        #expect(board.levels[11], "the line is shared")
        write(1, 0x60, 0x0A, 1)
        #expect(!board.levels[11] && board.levels[10])
        write(1, 0x60, 0x80, 1)
        #expect(!board.levels[10] && board.levels[16])
        bridge.setInput(inputB, false)
        #expect(!board.levels[16])
    }

    @Test func shadowRegistersAreTold() {
        var told: [UInt64] = []
        host.shadowChanged = { told.append($0) }
        write(0, 0x59, 0x30, 1)
        write(0, 0x5A, 0x3333, 2)
        write(0, 0x5C, 0x3333_3333, 4)
        #expect(told == [0x30, 0x33_3330, PCIHost.openShadow])
        host.reset()
        #expect(told.last == 0)
        host.openShadowAsFirmwareDoes()
        #expect(told.last == PCIHost.openShadow)
    }

    @Test func powerManagementMoves() {
        let pm = board.add(ACPIPM(sci: board.line(9), scheduler: board.scheduler, pins: board))
        let power = PIIX4Power()
        power.baseChanged = { [board] in pm.move(to: $0, on: board.bus) }
        #expect(board.in(0xB004, 2) == 0)
        board.out(0xB004, 1, 2)
        power.configuration.write(0x40, width: 4, 0x601)
        power.configurationWritten(0x40, width: 4)
        #expect(board.in(0xB004, 2) == 0xFFFF && board.in(0x604, 2) == 1)
        power.configuration.write(0x80, width: 1, 0)
        power.configurationWritten(0x80, width: 1)
        #expect(board.in(0x604, 2) == 0xFFFF)
        // Onto another chip: it is not there.
        power.configuration.write(0x80, width: 1, 1)
        power.configuration.write(0x40, width: 4, 0xCC0)
        power.configurationWritten(0x40, width: 4)
        #expect(board.in(0xCC4, 2) == 0xFFFF && read(0, 0) == 0x1237_8086)
        power.reset()
        #expect(board.in(0xB004, 2) == 1)
    }

    @Test func theFrameBufferMoves() {
        let vga = board.add(VGAFunction(pins: board))
        host.add(vga, at: PCIAddress(slot: 2))
        write(2, 0x10, 0xFD00_0000)
        #expect(board.videoBase == 0)
        write(2, 4, 2, 2)
        #expect(board.videoBase == 0xFD00_0000)
        write(2, 0x10, 0xFFFF_FFFF)
        #expect(read(2, 0x10) == 0xFF00_0008)
        host.reset()
        vga.reset()
        #expect(board.videoBase == 0)
    }
}
