import DeviceBus
import Devices
import Machine
import MachineState

/// `info`: what a person wants to see of the machine.
enum MonitorInformation {
    static func text(_ what: String, _ monitor: MachineMonitor) throws -> String {
        switch what {
        case "status":
            let moment = monitor.machine.moment
            return "VM status: \(monitor.isStopped ? "paused" : "running"), position \(moment.position), "
                + "\(Message.seconds(moment.time)) virtual"
        case "registers": return registers(monitor.machine)
        case "block": return blocks(monitor.disks)
        case "pic": return try state(["pic", "ioapic", "lapic"], monitor)
        case "irq": return try state(["pic", "lapic"], monitor)
        case "pci": return try pci(board(monitor))
        case "mtree": return try tree(board(monitor))
        case "snapshots": return monitor.snapshots.list
        default: throw MonitorError("info registers|pic|irq|pci|mtree|block|snapshots|status")
        }
    }

    private static func board(_ monitor: MachineMonitor) throws -> PCBoard {
        guard let board = monitor.board else { throw MonitorError("there are no devices here") }
        return board
    }

    private static func hex(_ value: UInt64, _ digits: Int) -> String {
        let text = String(value, radix: 16)
        return String(repeating: "0", count: max(digits - text.count, 0)) + text
    }

    private static func registers(_ machine: PCMachine) -> String {
        let architecture = machine.architectureNow
        let values = machine.registerValues(of: architecture)
        var lines: [String] = []
        var offset = 0
        for register in machine.registers(of: architecture) {
            let bytes = (register.bits + 7) / 8
            if offset + bytes > values.count { break }
            let digits = values[offset..<offset + bytes].reversed().map { hex(UInt64($0), 2) }.joined()
            lines.append("\(register.name) \(digits)")
            offset += bytes
        }
        return lines.joined(separator: "\n")
    }

    private static func blocks(_ disks: [DriveFile]) -> String {
        if disks.isEmpty { return "no drive has a medium" }
        return disks.map { disk in
            let kind = disk.image.isReadOnly ? "read-only" : disk.image.isWritten ? "written" : "not written, changes in an overlay"
            return "\(disk.settings.role) (\(disk.settings.interface.rawValue)): \(disk.image.path), \(disk.image.size) bytes, \(kind)"
        }.joined(separator: "\n")
    }

    /// Every field of some chips.
    private static func state(_ names: [String], _ monitor: MachineMonitor) throws -> String {
        var lines: [String] = []
        for device in try board(monitor).devices where names.contains(device.name) {
            var visitor = StateVisitor(.describe)
            visitor.group(device.name) { device.visitState(&$0) }
            lines += visitor.entries.map { "\($0.name) = \($0.value)" }
        }
        return lines.joined(separator: "\n")
    }

    private static func pci(_ board: PCBoard) -> String {
        board.pciHost.functions.map { address, function in
            let configuration = function.configuration
            let vendor = hex(UInt64(configuration.read(0, width: 2)), 4)
            let device = hex(UInt64(configuration.read(2, width: 2)), 4)
            var line = "0:\(address.slot).\(address.function) \(function.name) \(vendor):\(device), class \(hex(UInt64(configuration.read(8, width: 4) >> 8), 6))"
            if configuration.read(0x3D, width: 1) != 0 { line += ", IRQ \(configuration.read(0x3C, width: 1))" }
            for (index, bar) in configuration.baseAddresses.enumerated() {
                guard let bar else { continue }
                let place = configuration.base(index).map { "0x" + hex($0, 4) } ?? "off"
                line += "\n    BAR\(index): \(bar.space == .port ? "ports" : "memory") \(place), \(bar.size) bytes"
            }
            return line
        }.joined(separator: "\n")
    }

    private static func tree(_ board: PCBoard) -> String {
        var lines: [String] = []
        for space in [Region.Space.memory, .port] {
            lines.append(space == .memory ? "memory:" : "ports:")
            let regions = board.bus.devices.flatMap { device in
                device.regions.filter { $0.space == space && $0.size > 0 }.map { ($0, device.name) }
            }
            for (region, name) in regions.sorted(by: { ($0.0.base, $0.1) < ($1.0.base, $1.1) }) {
                let digits = space == .memory ? 16 : 4
                lines.append("  \(hex(region.base, digits))-\(hex(region.base + region.size - 1, digits)) \(name)")
            }
        }
        return lines.joined(separator: "\n")
    }
}
