import DeviceBus
import Devices
import MachineState

/// All devices of the PC but the video adapter, and their wiring: an i440FX/PIIX3 board as Linux and SeaBIOS know it.
///
/// It does not know on which side of the boundary it stands: in an inputs machine it is inside, in a devices machine
/// it is the outside's device plane.
package final class PCBoard {
    package let bus: Bus
    package let scheduler: Scheduler
    package let pic: PIC8259
    package let localAPIC: LocalAPIC
    package let ioAPIC: IOAPIC
    package let pit: PIT8254
    package let rtc: RTC146818
    package let pm: ACPIPM
    package let serial0: UART16550
    package let serial1: UART16550
    package let ps2: I8042
    package let fwCfg: FwCfg
    package let pciHost: PCIHost
    package let ide: PIIX3IDE
    /// Who of the devices writes RAM.
    package let masters = BusMasters()
    /// In the order of reset, digest and snapshot.
    package let devices: [any Device]
    /// PCI devices that the configuration may have or not.
    private let pciDevices: PCIDevices
    private let diskFailures: any HostReceiver
    private let resetButton: Button
    private let nmiButton: Button
    private let interruptLines: ISALines
    private let hasFirmware: Bool

    /// Wired but not yet reset: `reset()` drives lines, which must lead somewhere by then.
    /// - Parameters:
    ///   - bus: where the devices answer.
    ///   - scheduler: their clock.
    ///   - pins: the CPU's pins.
    ///   - memory: guest RAM for bus masters.
    ///   - configuration: what the board has. With firmware, that sets the chips up; without, they are left as it does.
    ///   - media: the drives' images.
    ///   - links: to the configuration's foreign devices; without them nobody is there.
    ///   - threading: PCI devices that can have one get a thread of their own.
    ///   - substitutes: instead of PCI devices of these names.
    ///   - channel: the way to the backend of each channel.
    package init(
        bus: Bus, scheduler: Scheduler, pins: any CPUPins, memory: any DMAPort, memoryMap: MemoryMap,
        configuration: PCConfiguration, media: [DiskImage] = [], links: [any ForeignDeviceLink] = [],
        threading: DeviceThreading? = nil, substitutes: [String: any ForeignDeviceLink] = [:], channel: (Channel) -> any HostChannel
    ) {
        self.bus = bus
        self.scheduler = scheduler
        resetButton = Button { [unowned pins] in pins.requestReset() }
        nmiButton = Button { [unowned pins] in pins.raiseNMI() }
        hasFirmware = configuration.firmware != nil
        localAPIC = LocalAPIC(scheduler: scheduler, pins: pins)
        pic = PIC8259()
        ioAPIC = IOAPIC()
        let lines = ISALines(pic: pic, ioAPIC: ioAPIC)
        interruptLines = lines
        func isa(_ number: Int) -> IRQLine { IRQLine(lines, number) }

        // The HPET can take the places of these two.
        let hpet = HPET(timer: isa(0), clock: isa(8), ioAPIC: ioAPIC, scheduler: scheduler)
        pit = PIT8254(irq: IRQLine(hpet, 0), scheduler: scheduler)
        rtc = RTC146818(irq: IRQLine(hpet, 1), scheduler: scheduler, unixTime: configuration.date)
        pm = ACPIPM(sci: isa(9), scheduler: scheduler, pins: pins)
        serial0 = UART16550(
            name: "serial0", base: 0x3F8, irq: isa(4), scheduler: scheduler, channel: channel(.serial0))
        serial1 = UART16550(
            name: "serial1", base: 0x2F8, irq: isa(3), scheduler: scheduler, channel: channel(.serial1))
        ps2 = I8042(keyboardIRQ: isa(1), mouseIRQ: isa(12), scheduler: scheduler, pins: pins)
        let fwCfgPort = BusMasterPort("fw_cfg", memory, masters)
        fwCfg = FwCfg(memory: fwCfgPort)
        fwCfgPort.request = { [unowned fwCfg] in fwCfg.request }
        fwCfgPort.requestKey = { [unowned fwCfg] in fwCfg.requestKey }
        pciHost = PCIHost(bus: bus)
        let piix3 = PIIX3(
            isaLines: (0..<16).map(isa), apicLines: (16..<20).map { [ioAPIC] in IRQLine(ioAPIC, $0) })
        let idePort = BusMasterPort("piix3-ide", memory, masters)
        ide = PIIX3IDE(
            drives: DriveSettings.ideDrives(configuration.drives, media), primary: isa(14), secondary: isa(15),
            memory: idePort, scheduler: scheduler)
        idePort.request = { [unowned ide] in ide.request }
        idePort.requestKey = { [unowned ide] in ide.requestKey }
        if let link = substitutes[ide.name] {
            ide.standIn = link
            link.memory = idePort
        }
        let piix4 = PIIX4Power()
        let vga = VGAFunction(pins: pins)
        let system = SystemPorts(pins: pins, channel: channel(.debugConsole))
        let parallel = ParallelPort(
            name: "parallel0", base: 0x378, irq: isa(7), scheduler: scheduler, channel: channel(.parallel0))
        let panic = PanicPort(channel: channel(.panic))
        let dma = DMA8237(memory: BusMasterPort("dma8237, for the floppy controller", memory, masters))
        let floppies = DriveInterface.floppy.numbers.map { number in media.first { Int($0.number) == number } }
        let floppy = FloppyController(media: floppies, irq: isa(6), dma: dma, scheduler: scheduler)
        let pciDevices = PCIDevices(
            configuration, media: media, links: links, threading: threading, substitutes: substitutes, host: pciHost, piix3: piix3, messages: localAPIC,
            memory: { [masters] in BusMasterPort($0, memory, masters) },
            scheduler: scheduler, channel: channel)
        self.pciDevices = pciDevices
        diskFailures = pciDevices.failures(ide: ide, floppy: floppy)
        devices = [
            localAPIC, pic, ioAPIC, pit, rtc, pm, serial0, serial1, ps2, fwCfg, system, dma, pciHost, piix3, ide, piix4,
            vga, floppy, hpet,
            parallel, panic,
        ] + pciDevices.functions + media

        localAPIC.attach(pic: pic, ioAPIC: ioAPIC)
        for device in devices {
            scheduler.register(device)
            bus.attach(device)
        }
        pciHost.add(piix3, at: PCIAddress(slot: 1))
        pciHost.add(ide, at: PCIAddress(slot: 1, function: 1))
        pciHost.add(vga, at: PCIAddress(slot: 2))
        pciHost.shadowChanged = { pins.setShadow($0) }
        pciHost.add(piix4, at: PCIAddress(slot: 1, function: 3))
        pciDevices.plugIn()
        pciHost.resetControl = PCIHost.ResetControl(
            read: { [pm] in pm.resetControl }, write: { [pm] in pm.writeResetControl($0) })
        piix4.baseChanged = { [pm] in pm.move(to: $0, on: bus) }
        pciHost.mappingsChanged = { [pm] in pm.updateMapping(on: bus) }
        describe(memoryMap)
        describe(floppies)
        if let firmware = configuration.firmware { describe(firmware, memoryMap) }
    }

    /// What firmware finds in fw_cfg and CMOS.
    private func describe(_ firmware: FirmwareSettings, _ map: MemoryMap) {
        let order = firmware.bootOrder
        // SeaBIOS: three half bytes, the first to boot from in the lowest; 1 floppy, 2 hard disk, 3 CD-ROM.
        rtc.setCMOS(0x3D, UInt8(truncatingIfNeeded: order))
        rtc.setCMOS(0x38, UInt8(truncatingIfNeeded: order >> 8) << 4 | 1)
        for file in FirmwareTables.files(map) + firmware.files { fwCfg.add(file: file.name, data: file.bytes) }
    }

    /// CMOS says which floppy drives there are: types in half bytes, the count in the equipment byte.
    private func describe(_ floppies: [DiskImage?]) {
        let types = floppies.map { $0.flatMap { FloppyController.Geometry(sectors: $0.sectorCount)?.type } ?? 0 }
        rtc.setCMOS(0x10, types[0] << 4 | types[1])
        if types[0] != 0 { rtc.setCMOS(0x14, 0x07 | (types[1] != 0 ? 0x40 : 0)) }
    }

    /// CMOS and fw_cfg say how much RAM there is.
    private func describe(_ map: MemoryMap) {
        let extended = min((map.lowEnd - 0x10_0000) / 1024, 0xFC00)
        let above16 = map.lowEnd > 16 << 20 ? (map.lowEnd - (16 << 20)) >> 16 : 0
        let high = map.highSize >> 16
        let cells: [(Int, UInt64)] = [
            (0x15, 640), (0x16, 640 >> 8), (0x17, extended), (0x18, extended >> 8), (0x30, extended),
            (0x31, extended >> 8), (0x34, above16), (0x35, above16 >> 8), (0x5B, high), (0x5C, high >> 8),
            (0x5D, high >> 16), (0x5F, 0), (0x14, 0x06),
        ]
        for (index, value) in cells { rtc.setCMOS(index, UInt8(truncatingIfNeeded: value)) }
        fwCfg.add(key: FwCfg.Key.ramSize, data: (0..<8).map { UInt8(truncatingIfNeeded: map.size >> UInt64($0 * 8)) })
        fwCfg.add(key: FwCfg.Key.cpuCount, data: [1, 0])
        fwCfg.add(key: FwCfg.Key.maximumCPUs, data: [1, 0])
        fwCfg.add(file: "etc/e820", data: map.e820)
    }

    package func reset() {
        for device in devices { device.reset() }
        if hasFirmware { return }
        pciHost.openShadowAsFirmwareDoes()
        // Kernels are entered without firmware: the local APIC is left as firmware leaves it, in virtual-wire mode
        // (MultiProcessor Specification 3.6.2.2): enabled, the 8259A on LINT0, NMI on LINT1.
        for (register, value) in [(0xF0, 0x1FF), (0x350, 0x700), (0x360, 0x400)] as [(UInt64, UInt64)] {
            bus.write(.memory, 0xFEE0_0000 + register, width: 4, value: value)
        }
        ide.enableAsFirmwareDoes()
        pciHost.updateMappings()
    }

    /// The ways to devices that are carried out elsewhere.
    package var links: [any ForeignDeviceLink] { pciDevices.links + (ide.standIn.map { [$0] } ?? []) }
    /// When the next of them has something to do; `.max`: that is not known.
    package var nextForeignDeadline: VirtualTime { links.reduce(.max) { min($0, $1.nextDue) } }
    /// The machine has ended: whatever is carried out elsewhere ends too.
    package func finish() { pciDevices.finish() }

    /// Lets devices that are carried out elsewhere do what they want by themselves. Between two instructions.
    package func pollForeignDevices() {
        for function in pciDevices.foreign { function.poll() }
        ide.pollStandIn()
    }

    /// Lets `deliver` see USB transfers, as records of usbmon; false: there is no controller.
    package func tapUSB(_ deliver: @escaping (USBRecord, VirtualTime) -> Void) -> Bool {
        pciDevices.tapUSB(deliver)
    }

    /// What receives the input of a channel; nil for channels that only send.
    package func receiver(_ channel: Channel) -> (any HostReceiver)? {
        switch channel {
        case .serial0: serial0
        case .serial1: serial1
        case .keyboard: ps2.keyboardReceiver
        case .mouse: ps2.mouseReceiver
        case .powerButton: pm
        case .disk: diskFailures
        case .resetButton: resetButton
        case .nmiButton: nmiButton
        case .virtioConsole: pciDevices.console
        case .net0, .net1, .net2, .net3:
            Channel.network.firstIndex(of: channel).flatMap { number in
                pciDevices.networkCards.indices.contains(number) ? pciDevices.networkCards[number] : nil
            }
        case .usb0, .usb1, .usb2, .usb3, .usb4, .usb5, .usb6, .usb7:
            Channel.usb.firstIndex(of: channel).flatMap { number in
                pciDevices.usbReceivers.indices.contains(number) ? pciDevices.usbReceivers[number] : nil
            }
        case .audio: pciDevices.sound
        case .debugConsole, .entropy, .parallel0, .panic: nil
        }
    }
}

/// Any input is a press.
private final class Button: HostReceiver {
    private let press: () -> Void
    init(_ press: @escaping () -> Void) { self.press = press }
    func receive(_ bytes: [UInt8]) { press() }
}

/// ISA interrupts go to both controllers: 8259A input n, and I/O APIC input n, but for the timer, which is input 2.
private final class ISALines: InterruptSink {
    let pic: PIC8259
    let ioAPIC: IOAPIC

    init(pic: PIC8259, ioAPIC: IOAPIC) {
        self.pic = pic
        self.ioAPIC = ioAPIC
    }

    func setInput(_ input: Int, _ level: Bool) {
        pic.setInput(input, level)
        ioAPIC.setInput(input == 0 ? 2 : input, level)
    }
}
