import ArgumentParser
import Boundary
import Foundation
import Machine
import MachineState
import Passthrough
import Replay

/// Options of a replay that goes live.
struct LiveOptions: ParsableArguments {
    @Flag(help: "From --until on, go live: the guest runs on with the terminal as its console. Recordings with --boundary=inputs only.")
    var live = false
    @Option(help: ArgumentHelp("With --live: record the whole run, what was replayed and what follows.", valueName: "file"))
    var record: String?
    @Option(help: ArgumentHelp("With --live: the serial console: stdio, file:PATH, pty, tcp:HOST:PORT or none.", valueName: "backend"))
    var serial = SerialOption.stdio
    @Option(help: ArgumentHelp("With --live: drive the guest by a script.", valueName: "file"))
    var script: String?
    @Option(help: "With --live: how idle time passes.")
    var pace = RunCommand.PaceOption.realtime

    func validate() throws {
        if record != nil, !live { throw ValidationError("--record needs --live") }
        if script != nil, !live { throw ValidationError("--script needs --live") }
    }
}

/// Takes a replay over: from a place of the recording on, the run is a new one.
struct GoLive {
    let session: ReplaySession
    let options: LiveOptions

    init(_ session: ReplaySession, _ options: LiveOptions) {
        self.session = session
        self.options = options
    }

    /// Says why a recording cannot go live, if so.
    static func check(_ session: ReplaySession) throws {
        let reader = session.reader
        guard reader.header.boundary == .inputs else {
            throw UserError(
                "\(reader.path): cannot go live: it was recorded with --boundary=devices, and holds what the devices did, "
                    + "not the devices. Recordings with --boundary=inputs can")
        }
    }

    /// From where the timeline's cursor is.
    func run(_ timeline: Timeline) throws {
        let reader = session.reader
        let script = try options.script.map { path in
            guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
                throw UserError("--script \(path): there is no such text file")
            }
            return (try Script(text: text, name: path), path)
        }
        if timeline.isAtEnd { throw UserError("\(reader.path): the recording ends at \(timeline.place): say where to go live with --until") }
        let machine = session.machine
        let live = LiveBoundary(pace: options.pace == .free ? .free : .realTime, origin: machine.moment)
        var door: any HostBoundary = live
        var recorder: RecordingBoundary?
        if let path = options.record {
            var header = reader.header
            header.settings.removeAll { $0.name.hasPrefix("parent.") }
            header.settings.append(LogHeader.Setting("parent.digest", try digest(reader.path)))
            header.settings.append(LogHeader.Setting("parent.position", "\(timeline.place)"))
            let boundary = try RecordingBoundary(
                wrapping: live, continuing: session.door, writer: try LogWriter(path: path, header: header), header: header)
            boundary.memory = machine
            recorder = boundary
            door = boundary
        }
        machine.replaceDoor(door)
        let runner = script.map { ScriptRunner(script: $0.0, name: $0.1, door: live) }
        let backend = try makeBackend(live)
        live.register(source: Channel.serial0.rawValue, name: "serial0", sink: LiveSink(backend, runner))
        backend.start(receive: { live.push(source: Channel.serial0.rawValue, bytes: $0) }, closed: {})
        runner?.start()
        Message.say("live from position \(timeline.place)")
        let outcome = try drive(machine, recorder)
        Terminal.restore()
        Message.say("\(Message.describe(outcome)) after \(machine.cpu.position) instructions")
        if let path = options.record { Message.say("recorded to \(path): \(Message.fileSize(path)) bytes") }
        if let failure = runner?.failure { throw UserError(failure) }
    }

    private func drive(_ machine: PCMachine, _ recorder: RecordingBoundary?) throws -> PCMachine.Outcome {
        while true {
            let outcome = try machine.run(until: machine.cpu.position + 100_000_000)
            if let failure = recorder?.failure { throw failure }
            if case .ended = outcome { return outcome }
        }
    }

    private func makeBackend(_ live: LiveBoundary) throws -> any SerialBackend {
        switch options.serial {
        case .stdio: return TerminalBackend(reads: options.script == nil, quit: { live.requestQuit() })
        case .file(let path): return try FileBackend(path: path)
        case .pty:
            let pty = try PtyBackend()
            Message.say("serial console on \(pty.name)")
            return pty
        case .tcp(let host, let port): return try TCPBackend(host: host, port: port)
        case .none: return NullBackend()
        }
    }

    private func digest(_ path: String) throws -> String {
        guard let data = FileManager.default.contents(atPath: path) else { throw UserError("\(path): cannot be read") }
        return SHA256.hex([UInt8](data))
    }
}

/// Serial output to its backend, and to the script that listens.
private final class LiveSink: HostSink {
    private let backend: any SerialBackend
    private let runner: ScriptRunner?
    init(_ backend: any SerialBackend, _ runner: ScriptRunner?) {
        self.backend = backend
        self.runner = runner
    }
    func send(_ bytes: [UInt8]) {
        backend.send(bytes)
        runner?.heard(bytes)
    }
    func ask(_ question: UInt32) -> UInt64 { 0 }
}
