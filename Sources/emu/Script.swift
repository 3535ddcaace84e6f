import Devices
import Foundation

/// A script that drives a guest as `expect` would: one command a line, `#` starts a comment.
struct Script {
    enum Command: Equatable {
        /// Waits until the text has come out of the serial console since the last wait; fails after `timeout` seconds.
        case wait(String, timeout: Double)
        /// Waits until the text is on the screen, which must be in a text mode; fails after `timeout` seconds.
        case waitScreen(String, timeout: Double)
        /// Saves the screen as a PNG file, and says at which position.
        case screenshot(String)
        /// Types text on the serial console.
        case type(String)
        /// Presses a key combination on the PS/2 keyboard.
        case key([KeyCode])
        /// Waits in host time, or in virtual time. Seconds.
        case sleep(Double, isVirtual: Bool)
        /// Presses the power button.
        case powerButton
        /// Presses the NMI button.
        case nmiButton
        /// Ends the run.
        case quit
    }
    struct Failure: Error, CustomStringConvertible { let description: String }

    /// With line numbers, for messages.
    var commands: [(line: Int, command: Command)] = []

    init(text: String, name: String) throws {
        for (index, raw) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            let line = index + 1
            let words = try Self.words(String(raw), "\(name):\(line)")
            if words.isEmpty { continue }
            commands.append((line, try Self.command(words, "\(name):\(line)")))
        }
    }

    private static func command(_ words: [String], _ place: String) throws -> Command {
        func need(_ counts: ClosedRange<Int>, _ usage: String) throws {
            guard counts.contains(words.count - 1) else { throw Failure(description: "\(place): usage: \(usage)") }
        }
        func seconds(_ text: String) throws -> Double {
            guard let value = Double(text), value >= 0, value <= 1e6 else {
                throw Failure(description: "\(place): “\(text)” is not a number of seconds")
            }
            return value
        }
        switch words[0] {
        case "wait":
            try need(1...2, "wait \"TEXT\" [SECONDS]")
            return .wait(words[1], timeout: words.count > 2 ? try seconds(words[2]) : 600)
        case "wait-screen":
            try need(1...2, "wait-screen \"TEXT\" [SECONDS]")
            return .waitScreen(words[1], timeout: words.count > 2 ? try seconds(words[2]) : 600)
        case "screenshot":
            try need(1...1, "screenshot FILE")
            return .screenshot(words[1])
        case "type":
            try need(1...1, "type \"TEXT\"")
            return .type(words[1])
        case "key":
            try need(1...1, "key NAME, such as ret or ctrl-alt-delete")
            guard let keys = KeyCode.combination(words[1]) else {
                throw Failure(description: "\(place): there is no key “\(words[1])”")
            }
            return .key(keys)
        case "sleep":
            try need(1...2, "sleep SECONDS [host|virtual]")
            if words.count > 2, words[2] != "host", words[2] != "virtual" {
                throw Failure(description: "\(place): sleep takes host or virtual time, not “\(words[2])”")
            }
            return .sleep(try seconds(words[1]), isVirtual: words.count > 2 && words[2] == "virtual")
        case "poweroff":
            try need(0...0, "poweroff")
            return .powerButton
        case "nmi":
            try need(0...0, "nmi")
            return .nmiButton
        case "quit":
            try need(0...0, "quit")
            return .quit
        default: throw Failure(description: "\(place): unknown command “\(words[0])” (wait, wait-screen, type, key, sleep, screenshot, poweroff, nmi, quit)")
        }
    }

    /// Splits a line into words; double quotes hold a word together, with \n, \r, \t, \e, \" and \\ inside.
    private static func words(_ line: String, _ place: String) throws -> [String] {
        var words: [String] = []
        var characters = Array(line)[...]
        while let first = characters.first {
            if first == " " || first == "\t" || first == "\r" {
                characters.removeFirst()
            } else if first == "#" {
                break
            } else if first == "\"" {
                characters.removeFirst()
                var word = ""
                while true {
                    guard let next = characters.popFirst() else { throw Failure(description: "\(place): a quote is not closed") }
                    if next == "\"" { break }
                    if next != "\\" {
                        word.append(next)
                        continue
                    }
                    switch characters.popFirst() {
                    case "n": word.append("\n")
                    case "r": word.append("\r")
                    case "t": word.append("\t")
                    case "e": word.append("\u{1B}")
                    case "\"": word.append("\"")
                    case "\\": word.append("\\")
                    case let other: throw Failure(description: "\(place): unknown escape \\\(other.map(String.init) ?? "")")
                    }
                }
                words.append(word)
            } else {
                let end = characters.firstIndex { $0 == " " || $0 == "\t" } ?? characters.endIndex
                words.append(String(characters[..<end]))
                characters = characters[end...]
            }
        }
        return words
    }
}
