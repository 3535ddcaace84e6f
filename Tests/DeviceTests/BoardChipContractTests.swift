import DeviceBus
import Devices
import MachineState
import Testing

/// What holds for every chip of this half of the board, whatever it does.
struct BoardChipContractTests {
    /// A chip on a board of its own, and how input reaches it from the host.
    struct Rig {
        let board: FakeBoard
        let device: any Device
        var state: () -> Any
        var receivers: [any HostReceiver] = []
        /// The most bytes of an input.
        var inputSize = 14
    }

    enum Chip: String, CaseIterable, CustomTestStringConvertible {
        case uart, ps2, system, dma, fwCfg, pciHost, piix3, ide, piix4, vga, pic, lapic, ioAPIC, pit, rtc, pm
        case virtioBlock, virtioLegacy, virtioEntropy, virtioConsole, virtioNetwork, e1000, ahci, floppy, hpet, parallel, panic
        /// A battery keeps the clock's date; the I/O APIC's inputs are wires, which a reset does not move; nor does it plug
        /// cables in.
        static let forgetful = allCases.filter { ![.rtc, .ioAPIC, .hpet, .virtioNetwork, .e1000].contains($0) }
        /// What uses RAM by itself.
        static let masters: [Chip] = [
            .dma, .fwCfg, .ide, .virtioBlock, .virtioLegacy, .virtioEntropy, .virtioConsole, .virtioNetwork, .e1000, .ahci, .floppy,
        ]
        var testDescription: String { rawValue }

        private static func virtio(_ board: FakeBoard, _ function: any VirtioFunction, isModern: Bool = true) -> VirtioPCI {
            let host = board.add(PCIHost(bus: board.bus))
            let chip = board.add(
                VirtioPCI(
                    name: "virtio", function: function, irq: board.line(10), messages: board, memory: board,
                    scheduler: board.scheduler, isModern: isModern))
            host.add(chip, at: PCIAddress(slot: 4))
            return chip
        }

        func make() -> Rig {
            let board = FakeBoard()
            switch self {
            case .uart:
                let chip = board.add(
                    UART16550(
                        name: "serial0", base: 0x3F8, irq: board.line(4), scheduler: board.scheduler, channel: board))
                return Rig(board: board, device: chip, state: { chip.state }, receivers: [chip])
            case .ps2:
                let chip = board.add(
                    I8042(
                        keyboardIRQ: board.line(1), mouseIRQ: board.line(12), scheduler: board.scheduler, pins: board))
                return Rig(
                    board: board, device: chip, state: { chip.state },
                    receivers: [chip.keyboardReceiver, chip.mouseReceiver])
            case .system:
                let chip = board.add(SystemPorts(pins: board, channel: board))
                return Rig(board: board, device: chip, state: { chip.state })
            case .dma:
                let chip = board.add(DMA8237(memory: board))
                return Rig(board: board, device: chip, state: { chip.state })
            case .fwCfg:
                let chip = FwCfg(memory: board)
                chip.add(file: "etc/test", data: Array(0..<200))
                return Rig(board: board, device: board.add(chip), state: { chip.state })
            case .pciHost:
                let chip = board.add(PCIHost(bus: board.bus))
                return Rig(board: board, device: chip, state: { chip.state })
            case .piix3:
                let host = board.add(PCIHost(bus: board.bus))
                let chip = board.add(PIIX3(isaLines: (0..<16).map(board.line), apicLines: (16..<20).map(board.line)))
                host.add(chip, at: PCIAddress(slot: 1))
                return Rig(board: board, device: chip, state: { chip.state })
            case .ide:
                let host = board.add(PCIHost(bus: board.bus))
                let drives: [IDEDrive?] = [
                    IDEDrive(kind: .disk, medium: MemoryMedium(sectors: 3000), serial: "1"), nil,
                    IDEDrive(kind: .cdrom, medium: MemoryMedium(sectors: 400, isReadOnly: true), serial: "2"),
                    IDEDrive(kind: .cdrom, medium: nil, serial: "3"),
                ]
                let chip = board.add(
                    PIIX3IDE(
                        drives: drives, primary: board.line(14), secondary: board.line(15), memory: board,
                        scheduler: board.scheduler))
                host.add(chip, at: PCIAddress(slot: 1, function: 1))
                return Rig(board: board, device: chip, state: { chip.state }, receivers: [chip])
            case .piix4:
                let chip = board.add(PIIX4Power())
                return Rig(board: board, device: chip, state: { chip.state })
            case .vga:
                let chip = board.add(VGA(scheduler: board.scheduler, memory: VideoMemory(count: 1 << 18)))
                return Rig(board: board, device: chip, state: { chip.state })
            case .pic:
                let chip = board.add(PIC8259())
                chip.interruptOutput = { board.setInput(0, $0) }
                return Rig(board: board, device: chip, state: { chip.state })
            case .lapic:
                let chip = board.add(LocalAPIC(scheduler: board.scheduler, pins: board))
                return Rig(board: board, device: chip, state: { chip.state })
            case .ioAPIC:
                let chip = board.add(IOAPIC())
                return Rig(board: board, device: chip, state: { chip.state })
            case .pit:
                let chip = board.add(PIT8254(irq: board.line(0), scheduler: board.scheduler))
                return Rig(board: board, device: chip, state: { chip.state })
            case .rtc:
                let chip = board.add(
                    RTC146818(irq: board.line(8), scheduler: board.scheduler, unixTime: 1_700_000_000))
                return Rig(board: board, device: chip, state: { chip.state })
            case .virtioNetwork:
                let card = VirtioNetwork(address: EthernetAddress(card: 0), channel: board)
                let chip = Self.virtio(board, card)
                card.transport = chip
                return Rig(board: board, device: chip, state: { chip.state }, receivers: [card], inputSize: 80)
            case .e1000:
                let host = board.add(PCIHost(bus: board.bus))
                let chip = board.add(
                    E1000(
                        name: "e1000", address: EthernetAddress(card: 0), irq: board.line(10), memory: board,
                        scheduler: board.scheduler, channel: board))
                host.add(chip, at: PCIAddress(slot: 4))
                return Rig(board: board, device: chip, state: { chip.state }, receivers: [chip], inputSize: 80)
            case .virtioBlock, .virtioLegacy:
                let block = VirtioBlock(medium: MemoryMedium(sectors: 3000), serial: "1")
                let chip = Self.virtio(board, block, isModern: self == .virtioBlock)
                block.transport = chip
                return Rig(board: board, device: chip, state: { chip.state }, receivers: [block])
            case .virtioEntropy:
                let entropy = VirtioEntropy(channel: board)
                let chip = Self.virtio(board, entropy)
                entropy.transport = chip
                return Rig(board: board, device: chip, state: { chip.state })
            case .virtioConsole:
                let console = VirtioConsole(channel: board)
                let chip = Self.virtio(board, console)
                console.transport = chip
                return Rig(board: board, device: chip, state: { chip.state }, receivers: [console])
            case .floppy:
                let dma = board.add(DMA8237(memory: board))
                let chip = board.add(
                    FloppyController(
                        media: [MemoryMedium(sectors: 2880), nil], irq: board.line(6), dma: dma, scheduler: board.scheduler))
                return Rig(board: board, device: chip, state: { chip.state }, receivers: [chip])
            case .hpet:
                let chip = board.add(
                    HPET(timer: board.line(0), clock: board.line(8), ioAPIC: board, scheduler: board.scheduler))
                return Rig(board: board, device: chip, state: { chip.state })
            case .parallel:
                let chip = board.add(
                    ParallelPort(name: "parallel0", base: 0x378, irq: board.line(7), scheduler: board.scheduler, channel: board))
                return Rig(board: board, device: chip, state: { chip.state })
            case .panic:
                let chip = board.add(PanicPort(channel: board))
                return Rig(board: board, device: chip, state: { chip.state })
            case .ahci:
                let host = board.add(PCIHost(bus: board.bus))
                let chip = board.add(
                    AHCI(
                        name: "ahci", media: [MemoryMedium(sectors: 3000), nil, MemoryMedium(sectors: 10)],
                        serials: ["1", "", "2"], irq: board.line(10), messages: board, memory: board,
                        scheduler: board.scheduler))
                host.add(chip, at: PCIAddress(slot: 4))
                return Rig(board: board, device: chip, state: { chip.state })
            case .pm:
                let chip = board.add(ACPIPM(sci: board.line(9), scheduler: board.scheduler, pins: board))
                return Rig(board: board, device: chip, state: { chip.state }, receivers: [chip])
            }
        }
    }

    @Test func visitsEachFieldOfPartsOfDisks() {
        var block = VirtioBlock.State()
        StateChecks.namesEachField(of: block) { block.visit(&$0) }
        var entropy = VirtioEntropy.State()
        StateChecks.namesEachField(of: entropy) { entropy.visit(&$0) }
        var console = VirtioConsole.State()
        StateChecks.namesEachField(of: console) { console.visit(&$0) }
        var queue = VirtioQueue(size: 8)
        StateChecks.namesEachField(of: queue) { queue.visit(&$0) }
        var port = AHCIPort.State()
        StateChecks.namesEachField(of: port) { port.visit(&$0) }
        var transfer = BlockTransfer()
        StateChecks.namesEachField(of: transfer) { transfer.visit(&$0) }
        var chain = VirtioChain()
        StateChecks.namesEachField(of: chain) { chain.visit(&$0) }
    }

    @Test(arguments: Chip.allCases)
    func visitsEachFieldOfItsState(chip: Chip) {
        let rig = chip.make()
        // The adapter's own memory is visited after its registers.
        var memory = chip == .vga ? ["memory"] : []
        // And the device behind a transport.
        if rig.device is VirtioPCI { memory.append("function") }
        StateChecks.namesEachField(of: rig.state(), further: memory, rig.device.visitState)
    }

    @Test func visitsEachFieldOfKeyboardAndMouse() {
        var keyboard = PS2Keyboard()
        StateChecks.namesEachField(of: keyboard) { keyboard.visit(&$0) }
        var mouse = PS2Mouse()
        StateChecks.namesEachField(of: mouse) { mouse.visit(&$0) }
        var controller = DMA8237.Controller()
        StateChecks.namesEachField(of: controller) { controller.visit(&$0) }
    }

    @Test(arguments: Chip.allCases, [1, 2, 3])
    func goesOnFromASnapshotAsIfNothingHadHappened(chip: Chip, seed: UInt64) {
        let first = chip.make()
        var random = TestRandom(seed)
        _ = Self.traffic(on: first, &random, steps: 1500)

        let second = chip.make()
        Self.copy(first, to: second)
        #expect(Self.digest(first) == Self.digest(second))

        var otherRandom = random
        first.board.sent = []
        second.board.sent = []
        #expect(
            Self.traffic(on: first, &random, steps: 1500) == Self.traffic(on: second, &otherRandom, steps: 1500))
        #expect(first.board.sent == second.board.sent)
        #expect(Self.digest(first) == Self.digest(second))
    }

    @Test(arguments: Chip.forgetful)
    func resetForgetsEverything(chip: Chip) {
        let rig = chip.make()
        var random = TestRandom(7)
        _ = Self.traffic(on: rig, &random, steps: 1000)
        rig.device.reset()
        var fresh = StateVisitor(.digest)
        var used = StateVisitor(.digest)
        chip.make().device.visitState(&fresh)
        rig.device.visitState(&used)
        #expect(fresh.digest.value == used.digest.value)
        #expect(!rig.board.levels.contains(true))
    }

    @Test(arguments: Chip.allCases)
    func refusesDamagedSnapshots(chip: Chip) {
        let rig = chip.make()
        var random = TestRandom(11)
        _ = Self.traffic(on: rig, &random, steps: 300)
        var saved = StateVisitor(.save)
        rig.device.visitState(&saved)
        for round in 0..<(chip == .vga ? 30 : 300) {
            var bytes = saved.bytes
            if round % 2 == 0 {
                bytes = Array(bytes.prefix(random.below(bytes.count)))
            } else {
                for _ in 0..<4 { bytes[random.below(min(bytes.count, 600))] = UInt8(random.below(256)) }
            }
            let victim = chip.make()
            var visitor = StateVisitor(loading: bytes)
            victim.device.visitState(&visitor)
            if round % 2 == 0 { #expect(visitor.failure != nil) }
            _ = Self.traffic(on: victim, &random, steps: 60)
        }
    }

    /// Descriptors of any contents: addresses outside RAM, chains that bite their tails, no lengths. Whatever the chip makes of
    /// them, it comes to an end of it, and two of them make the same.
    @Test(arguments: Chip.masters, 1...8)
    func survivesAnyContentsOfRAM(chip: Chip, seed: UInt64) {
        func run() -> ([UInt64], UInt64) {
            let rig = chip.make()
            var random = TestRandom(seed &* 0x1234_5677)
            var results: [UInt64] = []
            for _ in 0..<12 {
                Self.fill(&rig.board.ram, &random)
                if let function = rig.device as? any PCIFunction {
                    // Memory, ports and bus mastering on; where the registers are does not matter here.
                    function.configuration.write(4, width: 2, 7)
                    function.configurationWritten(4, width: 2)
                }
                Self.ring(rig, &random)
                results += Self.traffic(on: rig, &random, steps: 100)
                rig.board.advance(3_000_000)
            }
            return (results, Self.digest(rig))
        }
        let first = run()
        let second = run()
        #expect(first == second)
    }

    /// RAM as a hostile driver leaves it.
    private static func fill(_ ram: inout [UInt8], _ random: inout TestRandom) {
        let style = random.below(4)
        for place in stride(from: 0, to: ram.count, by: 8) {
            let value: UInt64 =
                switch style {
                // Anything; places in RAM, with small lengths; small numbers, as indices are; mostly nothing.
                case 0: random.next()
                case 1: UInt64(random.below(ram.count / 16) * 16) | (random.below(2) == 0 ? 0 : UInt64(random.below(4096)) << 32)
                case 2: UInt64(random.below(9)) | UInt64(random.below(9)) << 16 | UInt64(random.below(9)) << 32
                default: random.below(8) == 0 ? random.next() : 0
                }
            for lane in 0..<8 { ram[place + lane] = UInt8(truncatingIfNeeded: value >> UInt64(lane * 8)) }
        }
    }

    /// Addresses in RAM to all registers that may be one, then everything else that starts a chip.
    private static func ring(_ rig: Rig, _ random: inout TestRandom) {
        for (number, region) in rig.device.regions.enumerated() where region.size >= 4 {
            for _ in 0..<64 {
                let offset = UInt64(random.below(Int(clamping: region.size / 4))) * 4
                let value = random.below(2) == 0 ? UInt64(random.below(64) * 1024) : random.next() & 0xFFFF_FFFF
                rig.device.write(region: number, offset: offset, width: 4, value: value)
            }
        }
    }

    // MARK: Traffic

    private static func digest(_ rig: Rig) -> UInt64 {
        var visitor = StateVisitor(.digest)
        rig.device.visitState(&visitor)
        rig.board.scheduler.visitState(&visitor)
        return visitor.digest.value
    }

    private static func copy(_ from: Rig, to: Rig) {
        var saved = StateVisitor(.save)
        from.device.visitState(&saved)
        from.board.scheduler.visitState(&saved)
        var loading = StateVisitor(loading: saved.bytes)
        to.device.visitState(&loading)
        to.board.scheduler.visitState(&loading)
        #expect(loading.isComplete)
        // What the chip's neighbours hold.
        to.board.levels = from.board.levels
        to.board.ram = from.board.ram
    }

    /// Random accesses, inputs and time. The results, and the interrupt levels after each step.
    private static func traffic(on rig: Rig, _ random: inout TestRandom, steps: Int) -> [UInt64] {
        var results: [UInt64] = []
        let board = rig.board
        for _ in 0..<steps {
            let kind = random.below(16)
            let regions = rig.device.regions
            if kind == 0 {
                board.advance(random.next() % 5_000_000)
            } else if kind == 1, !rig.receivers.isEmpty {
                var bytes = random.bytes(1 + random.below(rig.inputSize))
                bytes[0] = UInt8(random.below(3))
                rig.receivers[random.below(rig.receivers.count)].receive(bytes)
            } else if let function = rig.device as? any PCIFunction, kind < 9 {
                let width = 1 << random.below(3)
                let offset = random.below(256 / width) * width
                if kind < 5 {
                    function.configuration.write(offset, width: width, UInt32(truncatingIfNeeded: random.next()))
                    function.configurationWritten(offset, width: width)
                } else {
                    results.append(UInt64(function.configuration.read(offset, width: width)))
                }
            } else if let sink = rig.device as? any InterruptSink, regions.isEmpty || kind < 6 {
                sink.setInput(random.below(128), random.below(2) == 0)
            } else if !regions.isEmpty {
                let number = random.below(regions.count)
                let region = regions[number]
                var width = 1 << random.below(4)
                while UInt64(width) > region.size { width /= 2 }
                let offset = random.next() % (region.size - UInt64(width) + 1)
                if kind % 2 == 0 {
                    results.append(rig.device.read(region: number, offset: offset, width: width))
                } else {
                    let value = random.below(3) == 0 ? random.next() : UInt64(random.below(256))
                    rig.device.write(region: number, offset: offset, width: width, value: value)
                }
            }
            results.append(board.levels.reduce(0) { $0 << 1 | ($1 ? 1 : 0) })
        }
        return results
    }
}
