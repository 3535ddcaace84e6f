import DeviceBus
import Devices
import MachineState

/// Who answers where on a board, found on a board that is built for the purpose and never runs: the devices' own
/// declarations. What moves addresses (configuration space) and selects registers (index registers) must be told to
/// `follow`.
package final class BoardMap {
    /// A device's register at an address.
    package struct Place {
        /// The device's name.
        package let device: String
        /// The register and the byte in it; nil where none is declared.
        package let register: RegisterName?
        package let lane: UInt64
        /// What the index register has selected, such as "01.1 COMMAND"; nil where there is none.
        package let selected: String?
        /// Number of the region among the device's.
        package let region: Int
        /// First address and bytes of the region.
        package let base: UInt64
        package let size: UInt64

        /// The register's name for an access in one direction, with what is selected; nil when it has none.
        package func name(isWrite: Bool) -> String? {
            guard let register else { return nil }
            let name = String(register.name(isWrite: isWrite)) + (lane != 0 && register.length > 1 ? "+\(lane)" : "")
            return selected.map { "\(name)[\($0)]" } ?? name
        }
    }

    private let bus = Bus()
    // The board's parts hold each other without owning: keep them.
    private let scheduler = Scheduler()
    private let nothing = Nothing()
    private let board: PCBoard
    private let vga: VGA
    private var configurationAddress: UInt64 = 0
    private var cmosIndex: UInt64 = 0
    private var ioAPICIndex: UInt64 = 0
    /// Serial ports whose first two registers are the divisor now: bit 7 of LCR.
    private var hasDivisor: (first: Bool, second: Bool) = (false, false)
    /// Registers from description files, in the order of their offsets, by device and number of its region: instead of what
    /// the device declares.
    package var descriptions: [String: [Int: [RegisterName]]] = [:]
    /// Grows when addresses may mean something else than before.
    package private(set) var generation = 0

    private static let configurationData = UInt64(0xCFC)..<0xD00
    private static let cmosData: UInt64 = 0x71
    private static let ioAPIC: UInt64 = 0xFEC0_0000

    /// - Parameter configuration: what the board has. Its disks are stand-ins: no file is opened.
    package init(configuration: PCConfiguration = PCConfiguration()) {
        let nothing = self.nothing
        let media = configuration.drives.map { DiskImage(standingInFor: $0.number, isReadOnly: $0.kind == .cdrom) }
        board = PCBoard(
            bus: bus, scheduler: scheduler, pins: nothing, memory: nothing, memoryMap: .least,
            configuration: configuration, media: media, channel: { _ in nothing })
        vga = VGA(scheduler: scheduler)
        bus.attach(vga)
        board.reset()
    }

    /// The names of all devices.
    package var deviceNames: [String] { board.devices.map(\.name) + [vga.name] }

    /// The device itself: one that has never run.
    package func device(_ name: String) -> (any Device)? { bus.devices.first { $0.name == name } }

    /// Where a PCI device is; nil for others.
    package func address(of name: String) -> PCIAddress? { board.pciHost.functions.first { $0.function.name == name }?.address }
    /// A PCI device that the configuration may have or not.
    package func isInSlot(_ name: String) -> Bool { (address(of: name)?.slot ?? 0) >= PCIDevices.firstSlot }
    /// One that something else can stand for.
    package func canBeReplaced(_ name: String) -> Bool { isInSlot(name) || name == board.ide.name }

    package func place(_ space: Region.Space, _ address: UInt64) -> Place? {
        guard let target = bus.target(space, address) else { return nil }
        let region = target.device.regions[target.region]
        let register: RegisterName?
        if let described = descriptions[target.device.name]?[target.region] {
            register = Self.find(described, target.offset)
        } else {
            register = region.register(at: target.offset)
        }
        return Place(
            device: target.device.name, register: register, lane: register.map { target.offset - $0.offset } ?? 0,
            selected: selected(space, address), region: target.region, base: region.base, size: region.size)
    }

    /// The register that `offset` lies in, of registers in the order of their offsets; of several the last.
    private static func find(_ registers: [RegisterName], _ offset: UInt64) -> RegisterName? {
        var (low, high) = (0, registers.count)
        while low < high {
            let middle = (low + high) / 2
            if registers[middle].offset <= offset { low = middle + 1 } else { high = middle }
        }
        // Registers that lie on one another do so in few places.
        return registers[max(low - 8, 0)..<low].last { offset < $0.offset &+ $0.length }
    }

    /// What an index register says about an access there; 0 where there is none.
    package func selector(_ space: Region.Space, _ address: UInt64) -> UInt64 {
        switch space {
        case .port:
            if Self.configurationData.contains(address) { return configurationAddress }
            if address & ~0x101 == 0x2F8 { return isDivisor(address) ? 1 : 0 }
            return address == Self.cmosData ? cmosIndex : 0
        case .memory: return address & ~0xF == Self.ioAPIC | 0x10 ? ioAPICIndex : 0
        }
    }

    /// A write that may move or select something; others change nothing.
    package func follow(_ space: Region.Space, _ address: UInt64, width: Int, value: UInt64) {
        switch space {
        case .port:
            switch address {
            case 0xCF8 where width == 4:
                configurationAddress = value
                bus.write(.port, address, width: width, value: value)
            case 0xCFC..<0xD00:
                // An address of a function that is not there, or registers that move nothing, change nothing.
                bus.write(.port, address, width: width, value: value)
                generation &+= 1
            case 0x70: cmosIndex = value & 0x7F
            case 0x3FB: hasDivisor.first = value & 0x80 != 0
            case 0x2FB: hasDivisor.second = value & 0x80 != 0
            default: break
            }
        case .memory: if address == Self.ioAPIC { ioAPICIndex = value & 0xFF }
        }
    }

    /// The machine has been reset.
    package func reset() {
        board.reset()
        configurationAddress = 0
        hasDivisor = (false, false)
        generation &+= 1
    }

    /// The first two registers of a serial port, while they are its divisor.
    private func isDivisor(_ address: UInt64) -> Bool {
        address & ~1 == 0x3F8 && hasDivisor.first || address & ~1 == 0x2F8 && hasDivisor.second
    }

    private func selected(_ space: Region.Space, _ address: UInt64) -> String? {
        switch space {
        case .port:
            if Self.configurationData.contains(address) {
                let offset = Int(configurationAddress & 0xFC) + Int(address & 3)
                let slot = (configurationAddress >> 11) & 31
                let function = (configurationAddress >> 8) & 7
                let name = PCIConfiguration.registers.last { $0.offset <= offset && offset < Int($0.offset + $0.length) }
                let register = name.map { $0.name } ?? "0x" + String(offset, radix: 16)
                return "\(slot < 16 ? "0" : "")\(String(slot, radix: 16)).\(function) \(register)"
            }
            if isDivisor(address) { return address & 1 == 0 ? "DLL" : "DLM" }
            return address == Self.cmosData ? RTC146818.cellName(Int(cmosIndex)) : nil
        case .memory:
            guard address & ~0xF == Self.ioAPIC | 0x10 else { return nil }
            switch ioAPICIndex {
            case 0: return "ID"
            case 1: return "VERSION"
            case 2: return "ARBITRATION"
            case 0x10..<0x40: return "REDIRECTION\((ioAPICIndex - 0x10) / 2)\(ioAPICIndex & 1 == 0 ? "-LOW" : "-HIGH")"
            default: return "0x" + String(ioAPICIndex, radix: 16)
            }
        }
    }

    /// The end of all wires of a board that never runs.
    private final class Nothing: CPUPins, DMAPort, HostChannel {
        func setInterruptLine(_ level: Bool) {}
        func raiseNMI() {}
        func requestReset() {}
        func powerOff(code: UInt64?) {}
        func setA20(_ enabled: Bool) {}
        func setShadow(_ control: UInt64) {}
        func setVideoBase(_ base: UInt64) {}
        func read(_ address: UInt64, into buffer: UnsafeMutableRawBufferPointer) {}
        func write(_ address: UInt64, from buffer: UnsafeRawBufferPointer) {}
        func send(_ bytes: [UInt8]) {}
        func ask(_ question: UInt32) -> UInt64 { 0 }
    }
}

/// Names by address on a board as it is after power-on, for reports.
final class RegisterNames: @unchecked Sendable {
    /// Built once, read only.
    static let shared = RegisterNames()
    private let map = BoardMap()

    func lookUp(_ space: Region.Space, _ address: UInt64) -> (device: String, register: String?)? {
        guard let place = map.place(space, address) else { return nil }
        return (place.device, place.register.map { $0.length > 1 && place.lane != 0 ? "\($0.name)+\(place.lane)" : $0.name })
    }
}
