import DeviceBus
import MachineState

/// Function 1 of Intel's 82371SB (PIIX3, datasheet 290550): two IDE channels at the ISA addresses, with bus masters.
///
/// As a host receiver it is told of failures of the host's files: a drive's number (0...3) in one byte; and of discs that
/// are changed: the number with bit 7 set, then which disc, `IDEDrive.noDisc` for none.
package final class PIIX3IDE: PCIFunction, HostReceiver, BlockDevicePort {
    /// Everything the guest can observe beside the drives.
    package struct State {
        package var configuration = PIIX3IDE.makeConfiguration()
        package var primary = IDEChannel.State()
        package var secondary = IDEChannel.State()

        package init() {}
    }

    private enum Place: Int { case command0, control0, command1, control1, busMaster }
    private static let status = "ERR IDX CORR DRQ DSC DF DRDY BSY"
    private static let masterStatus = "ACTIVE ERROR IRQ -:2 DMA0 DMA1"
    private static let controlRegisters = [
        RegisterName(0, "ALTSTATUS/CONTROL", fields: status, written: "- NIEN SRST -:4 HOB"),
    ]
    private static let commandRegisters = [
        RegisterName(0, "DATA"),
        RegisterName(1, "ERROR/FEATURES", fields: "AMNF TK0NF ABRT MCR IDNF MC UNC ICRC", written: ""),
        RegisterName(2, "COUNT"),
        RegisterName(3, "LBALOW"),
        RegisterName(4, "LBAMID"), RegisterName(5, "LBAHIGH"),
        RegisterName(6, "DEVICE", fields: "HEAD:4 DEV - LBA"),
        RegisterName(7, "STATUS/COMMAND", fields: status, written: ""),
    ]
    private static let busMasterRegisters = [
        RegisterName(0, "BMICP", fields: "START -:2 TOMEM"), RegisterName(2, "BMISP", fields: masterStatus),
        RegisterName(4, "BMIDTPP", length: 4, contents: .address),
        RegisterName(8, "BMICS", fields: "START -:2 TOMEM"), RegisterName(10, "BMISS", fields: masterStatus),
        RegisterName(12, "BMIDTPS", length: 4, contents: .address),
    ]

    package let name = "piix3-ide"
    package var regions: [Region] {
        [
            Region(.port, base: 0x1F0, size: 8, registers: Self.commandRegisters),
            Region(.port, base: 0x3F6, size: 1, registers: Self.controlRegisters),
            Region(.port, base: 0x170, size: 8, registers: Self.commandRegisters),
            Region(.port, base: 0x376, size: 1, registers: Self.controlRegisters),
            configuration.region(4, registers: Self.busMasterRegisters),
        ]
    }
    package var configuration = PIIX3IDE.makeConfiguration()
    package var state: State {
        var state = State()
        state.configuration = configuration
        state.primary = channels[0].state
        state.secondary = channels[1].state
        return state
    }
    /// Primary and secondary.
    package let channels: [IDEChannel]
    private let lines: [IRQLine]
    /// Carries the device out instead of the channels. Its regions are those of this device from `standInRegion` on, its pins'
    /// vectors the channels. Set before the machine runs.
    package var standIn: (any ForeignDeviceLink)?
    package static let standInRegion = 16

    /// - Parameters:
    ///   - drives: primary 0 and 1, secondary 0 and 1.
    ///   - primary: ISA interrupt 14.
    ///   - secondary: ISA interrupt 15.
    package init(
        drives: [IDEDrive?], primary: IRQLine, secondary: IRQLine, memory: any DMAPort, scheduler: Scheduler
    ) {
        lines = [primary, secondary]
        let timers = TimerEnd(scheduler)
        channels = [primary, secondary].enumerated().map { number, irq in
            let pair = (0..<2).map { index in
                drives.indices.contains(number * 2 + index) ? drives[number * 2 + index] : nil
            }
            return IDEChannel(drives: pair, irq: irq, memory: memory) { drive, delay in
                timers.set(number * 2 + drive, delay)
            }
        }
        timers.device = self
    }

    /// The way from a channel to the scheduler, which wants the device.
    private final class TimerEnd {
        private let scheduler: Scheduler
        unowned(unsafe) var device: PIIX3IDE?
        init(_ scheduler: Scheduler) { self.scheduler = scheduler }
        func set(_ timer: Int, _ delay: VirtualTime?) {
            guard let device else { return }
            if let delay {
                scheduler.schedule(device, timer: timer, at: scheduler.now &+ delay)
            } else {
                scheduler.cancel(device, timer: timer)
            }
        }
    }

    /// What the bus master writes RAM for, in words; nil: it does not.
    package var request: String? {
        for (name, channel) in zip(["primary", "secondary"], channels) {
            if let request = channel.request { return "\(name), \(request)" }
        }
        return nil
    }

    /// Another number for each other request.
    package var requestKey: UInt64 { channels[0].stores &+ channels[1].stores }

    package func visitState(_ visitor: inout StateVisitor) {
        visitor.group("configuration") { configuration.visit(&$0) }
        visitor.group("primary") { channels[0].visit(&$0) }
        visitor.group("secondary") { channels[1].visit(&$0) }
    }

    package func reset() {
        configuration.reset()
        for channel in channels { channel.reset() }
    }

    package func timerFired(_ timer: Int) { channels[timer >> 1 & 1].drives[timer & 1]?.timerFired() }

    package func receive(_ bytes: [UInt8]) {
        guard let first = bytes.first, first & 0x7F < 4 else { return }
        let drive = first & 0x7F
        if first & 0x80 != 0 {
            if bytes.count > 1 { channels[Int(drive >> 1)].drives[Int(drive & 1)]?.change(disc: bytes[1]) }
            return
        }
        channels[Int(drive >> 1)].drives[Int(drive & 1)]?.hostFailed()
    }

    package func configurationWritten(_ offset: Int, width: Int) {}

    /// The channel's ports are decoded: PCICMD bit 0 and IDETIM bit 15.
    private func isDecoded(_ channel: Int) -> Bool {
        configuration.command & 1 != 0 && configuration.read(0x40 + channel * 2, width: 2) & 0x8000 != 0
    }

    /// Lets the stand-in do what it wants by itself. Between two instructions.
    package func pollStandIn() {
        standIn?.poll { [lines] _, channel in
            // The interrupts are edges.
            lines[channel & 1].set(false)
            lines[channel & 1].set(true)
        }
    }

    package func read(region: Int, offset: UInt64, width: Int) -> UInt64 {
        if let standIn {
            // Reading the status takes the interrupt back.
            let isStatus = offset == 7 && (region == Place.command0.rawValue || region == Place.command1.rawValue)
            if isStatus { lines[region / 2].set(false) }
            return standIn.read(region: Self.standInRegion + region, offset: offset, width: width) ?? .max
        }
        switch Place(rawValue: region) {
        case .command0, .command1:
            let channel = region / 2
            guard isDecoded(channel) else { return width >= 8 ? .max : (1 << UInt64(width * 8)) - 1 }
            return channels[channel].read(offset, width: width)
        case .control0, .control1:
            let channel = region / 2
            return isDecoded(channel) ? UInt64(channels[channel].readAlternateStatus()) : 0xFF
        case .busMaster:
            return ByteLanes.read(offset, width) { channels[Int($0 >> 3 & 1)].readBusMaster($0 & 7) }
        case nil: return 0
        }
    }

    package func readBlock(
        region: Int, offset: UInt64, width: Int, into buffer: UnsafeMutableRawBufferPointer
    ) -> ImageOrigin? {
        if let standIn, standIn.readBlock(region: Self.standInRegion + region, offset: offset, width: width, into: buffer) { return nil }
        let isCommand = standIn == nil && (region == Place.command0.rawValue || region == Place.command1.rawValue)
        if isCommand, offset == 0, isDecoded(region / 2), let drive = channels[region / 2].selected {
            return drive.readBlock(min(width, 4), into: buffer)
        }
        BlockPort.fill(buffer, width: width) { read(region: region, offset: offset, width: width) }
        return nil
    }

    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {
        if let standIn { return standIn.write(region: Self.standInRegion + region, offset: offset, width: width, value: value) }
        switch Place(rawValue: region) {
        case .command0, .command1:
            if isDecoded(region / 2) { channels[region / 2].write(offset, width: width, value: value) }
        case .control0, .control1:
            if isDecoded(region / 2) { channels[region / 2].writeControl(UInt8(truncatingIfNeeded: value)) }
        case .busMaster:
            ByteLanes.write(offset, width, value) { channels[Int($0 >> 3 & 1)].writeBusMaster($0 & 7, $1) }
        case nil: break
        }
    }

    /// Software finds the channels at work, as firmware leaves them: for kernels that are entered without firmware.
    package func enableAsFirmwareDoes() {
        configuration.write(0x40, width: 4, 0x8000_8000)
        configuration.write(0x20, width: 4, 0xC000)
        configuration.write(0x04, width: 2, 5)
    }

    private static func makeConfiguration() -> PCIConfiguration {
        var configuration = PCIConfiguration(vendor: 0x8086, device: 0x7010, classCode: 0x010180)
        configuration.allowWrites(0x04, width: 2, mask: 0x0005)
        configuration.preset(0x06, width: 2, 0x0280)
        configuration.setBaseAddress(4, .port, size: 16, region: Place.busMaster.rawValue)
        // IDETIM of both channels, SIDETIM.
        configuration.allowWrites(0x40, width: 4, mask: 0xFFFF_FFFF)
        configuration.allowWrites(0x44, width: 1, mask: 0xFF)
        return configuration
    }
}
