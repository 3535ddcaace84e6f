import Devices
import Foundation
import Machine

/// QEMU's machine protocol, as far as scripts need it: a JSON object a line (QEMU's docs/interop/qmp-spec.rst).
enum QMP {
    static let greeting = text(["QMP": ["version": ["qemu": ["major": 0, "minor": 0, "micro": 0], "package": "emu"], "capabilities": [String]()] as [String: Any]])

    static func event(_ name: String) -> String {
        let now = Date().timeIntervalSince1970
        let seconds = now.rounded(.down)
        return text([
            "event": name,
            "timestamp": ["seconds": Int(seconds), "microseconds": Int((now - seconds) * 1e6)],
        ])
    }

    private struct Failure: Error {
        var kind = "GenericError"
        let text: String
    }

    private static let commands: [String: @Sendable ([String: Any], MachineMonitor) throws -> Any] = [
        "query-status": { _, monitor in
            ["status": monitor.isStopped ? "paused" : "running", "running": !monitor.isStopped]
        },
        "query-version": { _, _ in ["qemu": ["major": 0, "minor": 0, "micro": 0], "package": "emu"] as [String: Any] },
        "query-name": { _, _ in [String: Any]() },
        "query-block": { _, monitor in
            monitor.disks.map { disk in
                [
                    "device": disk.settings.role, "locked": false, "removable": disk.settings.kind == .cdrom,
                    "inserted": ["file": disk.image.path, "ro": disk.image.isReadOnly, "drv": "raw"],
                ] as [String: Any]
            }
        },
        "query-commands": { _, _ in names.map { ["name": $0] } },
        "stop": { _, monitor in
            try monitor.stop()
            return [String: Any]()
        },
        "cont": { _, monitor in
            try monitor.go()
            return [String: Any]()
        },
        "quit": { _, monitor in
            monitor.quit()
            return [String: Any]()
        },
        "system_powerdown": { _, monitor in press(.powerButton, monitor) },
        "system_reset": { _, monitor in press(.resetButton, monitor) },
        "inject-nmi": { _, monitor in press(.nmiButton, monitor) },
        "send-key": sendKey,
        "input-send-event": sendEvents,
        "screendump": { arguments, monitor in
            guard let path = arguments["filename"] as? String else { throw Failure(text: "screendump needs a filename") }
            try monitor.screendump(path)
            return [String: Any]()
        },
        "eject": { _, monitor in
            try monitor.change(disc: nil)
            return [String: Any]()
        },
        "blockdev-change-medium": { arguments, monitor in
            guard let path = arguments["filename"] as? String else { throw Failure(text: "there is no filename") }
            try monitor.change(disc: path)
            return [String: Any]()
        },
        "human-monitor-command": { arguments, monitor in
            guard let line = arguments["command-line"] as? String else { throw Failure(text: "there is no command-line") }
            do { return try MonitorCommands.carryOut(line, monitor) } catch { return "\(error)\n" }
        },
    ]
    private static var names: [String] { (commands.keys + ["qmp_capabilities"]).sorted() }

    private static func press(_ button: Channel, _ monitor: MachineMonitor) -> Any {
        monitor.input.press(button)
        return [String: Any]()
    }

    /// Keys that go down together: `{"keys": [{"type": "qcode", "data": "ctrl"}, …]}`.
    @Sendable private static func sendKey(_ arguments: [String: Any], _ monitor: MachineMonitor) throws -> Any {
        guard let list = arguments["keys"] as? [[String: Any]] else { throw Failure(text: "send-key needs keys") }
        monitor.input.stroke(try list.map(key))
        return [String: Any]()
    }

    private static func key(_ value: [String: Any]) throws -> KeyCode {
        guard let name = value["data"] as? String, let key = KeyCode(name: name) else {
            throw Failure(text: "there is no key “\(value["data"] ?? "")”")
        }
        return key
    }

    /// Keys, buttons and motions, one after the other.
    @Sendable private static func sendEvents(_ arguments: [String: Any], _ monitor: MachineMonitor) throws -> Any {
        guard let events = arguments["events"] as? [[String: Any]] else { throw Failure(text: "input-send-event needs events") }
        var dx = 0
        var dy = 0
        for event in events {
            guard let data = event["data"] as? [String: Any] else { throw Failure(text: "an event needs data") }
            switch event["type"] as? String {
            case "key":
                guard let value = data["key"] as? [String: Any], let down = data["down"] as? Bool else {
                    throw Failure(text: "a key event needs key and down")
                }
                monitor.input.key(try key(value), isRelease: !down)
            case "rel":
                guard let value = data["value"] as? Int else { throw Failure(text: "a motion needs a value") }
                if data["axis"] as? String == "x" { dx += value } else { dy += value }
            case "btn":
                let bits: [String: UInt8] = ["left": 1, "right": 2, "middle": 4]
                guard let name = data["button"] as? String, let bit = bits[name], let down = data["down"] as? Bool else {
                    throw Failure(text: "a button event needs button and down")
                }
                monitor.input.setButton(bit, isDown: down)
            default: throw Failure(text: "there are events of type key, rel and btn")
            }
        }
        if dx != 0 || dy != 0 { monitor.input.moveMouse(dx: dx, dy: dy) }
        return [String: Any]()
    }

    /// The answer to a line; nil for an empty one.
    /// - Parameters:
    ///   - isReady: the peer has ended the negotiation.
    ///   - makeReady: it does so now.
    static func answer(_ line: String, _ monitor: MachineMonitor, isReady: Bool, _ makeReady: () -> Void) -> String? {
        if line.allSatisfy(\.isWhitespace) { return nil }
        var identifier: Any?
        do {
            guard let object = try? JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any] else {
                throw Failure(text: "JSON parse error")
            }
            identifier = object["id"]
            guard let name = object["execute"] as? String else { throw Failure(text: "QMP input lacks member 'execute'") }
            let arguments = object["arguments"] as? [String: Any] ?? [:]
            if name == "qmp_capabilities" {
                makeReady()
                return text(reply("return", [String: Any](), identifier))
            }
            guard isReady else {
                throw Failure(kind: "CommandNotFound", text: "Expecting capabilities negotiation with 'qmp_capabilities'")
            }
            guard let command = commands[name] else {
                throw Failure(kind: "CommandNotFound", text: "The command \(name) has not been found")
            }
            return text(reply("return", try command(arguments, monitor), identifier))
        } catch {
            let failure = error as? Failure ?? Failure(text: "\(error)")
            return text(reply("error", ["class": failure.kind, "desc": failure.text], identifier))
        }
    }

    private static func reply(_ key: String, _ value: Any, _ identifier: Any?) -> [String: Any] {
        var reply = [key: value]
        if let identifier { reply["id"] = identifier }
        return reply
    }

    private static func text(_ object: [String: Any]) -> String {
        let options: JSONSerialization.WritingOptions = [.sortedKeys, .withoutEscapingSlashes]
        guard let data = try? JSONSerialization.data(withJSONObject: object, options: options) else { return "{}" }
        return String(decoding: data, as: UTF8.self)
    }
}
