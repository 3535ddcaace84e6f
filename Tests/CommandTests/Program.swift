import Foundation

/// The built program, run as a user runs it.
enum Program {
    struct Result {
        var status: Int32
        var output: String
        var errors: String
    }

    /// `EMU_TEST_BINARY`, which `scripts/test` sets; else the program beside the tests.
    static let path: String? = {
        if let path = ProcessInfo.processInfo.environment["EMU_TEST_BINARY"] { return path }
        let beside = Bundle.main.bundleURL.appendingPathComponent("emu").path
        return FileManager.default.isExecutableFile(atPath: beside) ? beside : nil
    }()

    static func start(_ arguments: [String]) throws -> (process: Process, output: Pipe, errors: Pipe) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: path ?? "/nonexistent")
        process.arguments = arguments
        let output = Pipe()
        let errors = Pipe()
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = output
        process.standardError = errors
        try process.run()
        return (process, output, errors)
    }

    /// Runs to the end. What it prints must fit the pipes' buffers: these runs say little.
    static func run(_ arguments: String...) throws -> Result { try run(arguments) }
    static func run(_ arguments: [String]) throws -> Result {
        let (process, output, errors) = try start(arguments)
        let text = output.fileHandleForReading.readDataToEndOfFile()
        let messages = errors.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return Result(
            status: process.terminationReason == .uncaughtSignal ? -1 : process.terminationStatus,
            output: String(decoding: text, as: UTF8.self), errors: String(decoding: messages, as: UTF8.self))
    }
}

/// A directory that goes away with the test.
final class Scratch {
    let url = FileManager.default.temporaryDirectory.appendingPathComponent("emu-\(UUID().uuidString)")
    init() throws { try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true) }
    deinit { try? FileManager.default.removeItem(at: url) }

    func path(_ name: String) -> String { url.appendingPathComponent(name).path }
    func write(_ name: String, _ bytes: [UInt8]) throws -> String {
        try Data(bytes).write(to: url.appendingPathComponent(name))
        return path(name)
    }
    func read(_ name: String) throws -> [UInt8] { [UInt8](try Data(contentsOf: url.appendingPathComponent(name))) }
}

extension Program {
    /// The SHA-256 of a file, in hexadecimal digits.
    static func digest(_ path: String) throws -> String {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/sha256sum")
        process.arguments = [path]
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let text = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return String(decoding: text.prefix(64), as: UTF8.self)
    }
}
