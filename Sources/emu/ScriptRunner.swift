import Boundary
import Devices
import Foundation
import Machine
import Passthrough
import Synchronization

/// Carries out a script beside a running machine. What it types is input like any other.
final class ScriptRunner: Sendable {
    private struct Console {
        var text: [UInt8] = []
    }
    private let script: Script
    private let name: String
    private let door: LiveBoundary
    private let screen: ScreenLooks
    private let console = Mutex(Console())
    private let failed = Mutex<String?>(nil)

    private let keyboard: Channel

    /// - Parameter keyboard: where keys go.
    init(script: Script, name: String, door: LiveBoundary, screen: ScreenLooks, keyboard: Channel = .keyboard) {
        self.screen = screen
        self.keyboard = keyboard
        self.script = script
        self.name = name
        self.door = door
    }

    /// What went wrong, if the script failed.
    var failure: String? { failed.withLock { $0 } }

    /// The guest's console has said something.
    func heard(_ bytes: [UInt8]) { console.withLock { $0.text += bytes } }

    func start() {
        BackgroundThread.start { [self] in
            var due: UInt64 = 0
            for (line, command) in script.commands {
                if let reason = carryOut(command, &due) {
                    failed.withLock { $0 = "\(name):\(line): \(reason)" }
                    door.requestQuit()
                    return
                }
            }
        }
    }

    /// A reason when it failed. `due` is the virtual time before which nothing is let in: virtual sleeps move it, and
    /// the machine skips idle time up to it.
    private func carryOut(_ command: Script.Command, _ due: inout UInt64) -> String? {
        switch command {
        case .wait(let text, let timeout):
            let wanted = Array(text.utf8)
            let end = Date(timeIntervalSinceNow: timeout)
            while Date() < end {
                if door.quitRequested { return nil }
                let found = console.withLock { console -> Bool in
                    guard let index = Self.find(wanted, in: console.text) else { return false }
                    console.text.removeFirst(index + wanted.count)
                    return true
                }
                if found { return nil }
                usleep(2_000)
            }
            return "“\(text)” has not come out of the console within \(timeout) seconds"
        case .waitScreen(let text, let timeout):
            let end = Date(timeIntervalSinceNow: timeout)
            while Date() < end {
                guard let lines = screen.look({ vga, _ in vga.text() }) else { return nil }
                if lines.contains(where: { $0.contains(text) }) { return nil }
                usleep(20_000)
            }
            return "“\(text)” has not come on the screen within \(timeout) seconds"
        case .screenshot(let path):
            // A virtual sleep before it is over when the machine's clock says so.
            while door.virtualTime < due, !door.quitRequested { usleep(2_000) }
            let result = screen.look { vga, position -> String? in
                do { try Screenshot.save(vga, output: path, text: false) } catch { return "\(error)" }
                Message.say("screenshot \(path) at position \(position)")
                return nil
            }
            return result ?? nil
        case .type(let text): door.push(source: Channel.serial0.rawValue, bytes: Array(text.utf8), due: due)
        case .key(let keys): door.push(source: keyboard.rawValue, bytes: KeyMessage.stroke(keys), due: due)
        case .sleep(let seconds, false): usleep(UInt32(min(seconds, 4000) * 1e6))
        case .sleep(let seconds, true): due = max(due, door.virtualTime) + UInt64(seconds * 1e9)
        case .powerButton: door.push(source: Channel.powerButton.rawValue, bytes: [1], due: due)
        case .nmiButton: door.push(source: Channel.nmiButton.rawValue, bytes: [1], due: due)
        case .quit: door.requestQuit(due: due)
        }
        return nil
    }

    private static func find(_ wanted: [UInt8], in text: [UInt8]) -> Int? {
        guard !wanted.isEmpty, text.count >= wanted.count else { return wanted.isEmpty ? 0 : nil }
        return (0...text.count - wanted.count).first { text[$0..<$0 + wanted.count].elementsEqual(wanted) }
    }
}
