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
        HostConnections.connectCommon(live)
        let backend = try options.serial.backend(readsTerminal: options.script == nil, quit: { live.requestQuit() })
        live.register(source: Channel.serial0.rawValue, name: "serial0", sink: TeeSink(backend, runner))
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

    private func digest(_ path: String) throws -> String {
        guard let data = FileManager.default.contents(atPath: path) else { throw UserError("\(path): cannot be read") }
        return SHA256.hex([UInt8](data))
    }
}
