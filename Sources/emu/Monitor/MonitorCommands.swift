import DeviceBus
import Devices
import Foundation
import Machine
import MachineState

/// People's commands: the names are QEMU's.
enum MonitorCommands {
    private struct Command: Sendable {
        let names: [String]
        let usage: String
        let help: String
        let run: @Sendable (_ words: [String], MachineMonitor) throws -> String
    }

    private static let commands: [Command] = [
        Command(names: ["help", "?"], usage: "help", help: "this list") { _, _ in
            commands.map { "\($0.usage) -- \($0.help)" }.joined(separator: "\n")
        },
        Command(names: ["info"], usage: "info registers|pic|irq|pci|mtree|block|snapshots|status", help: "show something of the machine") {
            words, monitor in
            guard words.count == 2 else { throw MonitorError("info registers|pic|irq|pci|mtree|block|snapshots|status") }
            return try MonitorInformation.text(words[1], monitor)
        },
        Command(names: ["stop", "s"], usage: "stop", help: "stop the machine") { _, monitor in
            try monitor.stop()
            return ""
        },
        Command(names: ["cont", "c"], usage: "cont", help: "let it go on") { _, monitor in
            try monitor.go()
            return ""
        },
        Command(names: ["sendkey"], usage: "sendkey KEYS", help: "press keys, such as ret or ctrl-alt-delete") { words, monitor in
            guard words.count >= 2, let keys = KeyCode.combination(words[1]) else {
                throw MonitorError("sendkey KEYS: there is no key “\(words.dropFirst().first ?? "")”")
            }
            monitor.input.stroke(keys)
            return ""
        },
        Command(names: ["mouse_move"], usage: "mouse_move DX DY [DZ]", help: "move the mouse") { words, monitor in
            let numbers = words.dropFirst().compactMap { Int($0) }
            guard numbers.count == words.count - 1, (2...3).contains(numbers.count) else {
                throw MonitorError("mouse_move DX DY [DZ]: numbers")
            }
            monitor.input.moveMouse(dx: numbers[0], dy: numbers[1], dz: numbers.count > 2 ? numbers[2] : 0)
            return ""
        },
        Command(names: ["mouse_button"], usage: "mouse_button STATE", help: "buttons that are down: 1 left, 2 middle, 4 right") {
            words, monitor in
            guard words.count == 2, let state = UInt8(words[1]), state < 8 else { throw MonitorError("mouse_button STATE: 0 to 7") }
            // QEMU's order is left, middle, right; the message's is left, right, middle.
            monitor.input.setButtons(state & 1 | (state & 2) << 1 | (state & 4) >> 1)
            return ""
        },
        Command(names: ["screendump"], usage: "screendump FILE", help: "save the screen as a PNG file") { words, monitor in
            guard words.count == 2 else { throw MonitorError("screendump FILE") }
            try monitor.screendump(words[1])
            return ""
        },
        Command(names: ["system_powerdown"], usage: "system_powerdown", help: "press the power button") { _, monitor in
            monitor.input.press(.powerButton)
            return ""
        },
        Command(names: ["system_reset"], usage: "system_reset", help: "press the reset button") { _, monitor in
            monitor.input.press(.resetButton)
            return ""
        },
        Command(names: ["nmi"], usage: "nmi", help: "raise a non-maskable interrupt") { _, monitor in
            monitor.input.press(.nmiButton)
            return ""
        },
        Command(names: ["change"], usage: "change cdrom FILE", help: "put one of the discs of --cdrom into the drive") {
            words, monitor in
            guard words.count == 3, words[1] == "cdrom" else { throw MonitorError("change cdrom FILE") }
            try monitor.change(disc: words[2])
            return ""
        },
        Command(names: ["eject"], usage: "eject cdrom", help: "take the disc out") { words, monitor in
            guard words.count == 2, words[1] == "cdrom" else { throw MonitorError("eject cdrom") }
            try monitor.change(disc: nil)
            return ""
        },
        Command(names: ["savevm"], usage: "savevm NAME", help: "keep the machine's state in memory, if the run is not recorded") {
            words, monitor in
            guard words.count == 2 else { throw MonitorError("savevm NAME") }
            try monitor.snapshots.save(words[1])
            return ""
        },
        Command(names: ["loadvm"], usage: "loadvm NAME", help: "put the machine back into that state") { words, monitor in
            guard words.count == 2 else { throw MonitorError("loadvm NAME") }
            try monitor.load(snapshot: words[1])
            return ""
        },
        Command(names: ["delvm"], usage: "delvm NAME", help: "forget that state") { words, monitor in
            guard words.count == 2 else { throw MonitorError("delvm NAME") }
            try monitor.snapshots.delete(words[1])
            return ""
        },
        Command(names: ["quit", "q"], usage: "quit", help: "end the run") { _, monitor in
            monitor.quit()
            return ""
        },
    ]

    static func carryOut(_ line: String, _ monitor: MachineMonitor) throws -> String {
        let words = line.split(whereSeparator: \.isWhitespace).map(String.init)
        guard let name = words.first else { return "" }
        guard let command = commands.first(where: { $0.names.contains(name) }) else {
            throw MonitorError("unknown command “\(name)”: help lists them")
        }
        return try command.run(words, monitor)
    }
}
