import Foundation
import MachineState
import Replay

/// A query in several processes: each searches a part of the recording, and the answers come in their order.
struct ParallelQuery {
    let command: QueryCommand
    let session: ReplaySession

    func run() throws {
        // Without an index: the last chunk's beginning is near the end, and what follows belongs to the last part.
        let end = try lengthFromIndex() ?? session.reader.chunks.last?.firstPosition ?? 0
        let whole = max(min(command.to ?? .max, end), command.from) - command.from
        var parts: [(process: Process, output: URL)] = []
        for number in 0..<command.jobs {
            let from = command.from + whole / UInt64(command.jobs) * UInt64(number)
            let to = number + 1 < command.jobs ? command.from + whole / UInt64(command.jobs) * UInt64(number + 1) : command.to
            parts.append(try start(from, to))
        }
        var left = command.count ?? .max
        var failed = false
        for part in parts {
            part.process.waitUntilExit()
            if part.process.terminationStatus != 0 { failed = true }
            let text = (try? String(contentsOf: part.output, encoding: .utf8)) ?? ""
            try? FileManager.default.removeItem(at: part.output)
            for line in text.split(separator: "\n") where left > 0 {
                print(line)
                left -= 1
            }
        }
        if failed { throw UserError("\(command.file): a part of the search has failed") }
    }

    /// Where the recording ends, if an index says so.
    private func lengthFromIndex() throws -> Position? {
        try DebugServer(session, command.travel).timeline.endPlace?.position
    }

    private func start(_ from: Position, _ to: Position?) throws -> (process: Process, output: URL) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        var arguments = Array(CommandLine.arguments[1...])
        // What this part has of its own comes last, in the place of what was given.
        for name in ["--jobs", "--from", "--to"] {
            while let index = arguments.firstIndex(where: { $0 == name || $0.hasPrefix(name + "=") }) {
                arguments.removeSubrange(index..<min(index + (arguments[index] == name ? 2 : 1), arguments.count))
            }
        }
        arguments += ["--from", "\(from)"]
        if let to { arguments += ["--to", "\(to)"] }
        process.arguments = arguments
        let output = FileManager.default.temporaryDirectory.appendingPathComponent("emu-\(UUID().uuidString).query")
        guard FileManager.default.createFile(atPath: output.path, contents: nil),
            let handle = FileHandle(forWritingAtPath: output.path)
        else { throw UserError("\(output.path): cannot be created") }
        process.standardOutput = handle
        process.standardInput = FileHandle.nullDevice
        try process.run()
        return (process, output)
    }
}
