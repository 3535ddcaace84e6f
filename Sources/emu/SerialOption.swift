import ArgumentParser
import Passthrough

/// `--serial`: where the guest's first serial port leads.
enum SerialOption: ExpressibleByArgument, Equatable {
    case stdio
    case file(String)
    case pty
    case tcp(host: String, port: UInt16)
    case unix(String)
    case none

    init?(argument: String) {
        switch argument {
        case "stdio": self = .stdio
        case "pty": self = .pty
        case "none": self = .none
        default:
            if argument.hasPrefix("file:"), argument.count > 5 {
                self = .file(String(argument.dropFirst(5)))
            } else if argument.hasPrefix("unix:"), (6...112).contains(argument.utf8.count) {
                self = .unix(String(argument.dropFirst(5)))
            } else if argument.hasPrefix("tcp:") {
                let parts = argument.dropFirst(4).split(separator: ":", omittingEmptySubsequences: false)
                guard parts.count == 2, let port = UInt16(parts[1]) else { return nil }
                self = .tcp(host: parts[0].isEmpty ? "127.0.0.1" : String(parts[0]), port: port)
            } else {
                return nil
            }
        }
    }

    var defaultValueDescription: String { "stdio" }

    /// Opens what it leads to.
    /// - Parameters:
    ///   - readsTerminal: what is typed to a terminal goes to the guest; false when a script types.
    ///   - option: what asked for it, in messages.
    ///   - quit: the terminal's user wants to end the run.
    func backend(_ option: String = "--serial", readsTerminal: Bool, quit: @escaping @Sendable () -> Void) throws -> any SerialBackend {
        switch self {
        case .stdio: return TerminalBackend(reads: readsTerminal, quit: quit)
        case .file(let path): return try FileBackend(path: path, option: "\(option) file:")
        case .pty:
            let pty = try PtyBackend(option: option)
            Message.say(option == "--serial" ? "serial console on \(pty.name)" : "\(option) is \(pty.name)")
            return pty
        case .tcp(let host, let port): return try SocketBackend(host: host, port: port, option: option)
        case .unix(let path): return try SocketBackend(path: path, option: option)
        case .none: return NullBackend()
        }
    }
}

/// `--memory`: MiB, or a number with K, M or G.
struct MemoryOption: ExpressibleByArgument, Equatable {
    /// Bytes.
    var bytes: UInt64

    init(bytes: UInt64) { self.bytes = bytes }
    init?(argument: String) {
        var digits = argument
        var unit: UInt64 = 1 << 20
        if let last = argument.last, let known = ["K": 1 << 10, "M": 1 << 20, "G": 1 << 30][last.uppercased()] {
            unit = UInt64(known)
            digits.removeLast()
        }
        guard let number = UInt64(digits), number > 0, number <= 1 << 40 else { return nil }
        bytes = number * unit
    }

    var defaultValueDescription: String { "\(bytes >> 20)M" }
}
