import ArgumentParser
import Boundary
import Devices
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
    @Option(help: ArgumentHelp("After going live: the serial console: stdio, file:PATH, pty, tcp:HOST:PORT, unix:PATH or none.", valueName: "backend"))
    var serial = SerialOption.stdio
    @Option(help: ArgumentHelp("After going live: drive the guest by a script.", valueName: "file"))
    var script: String?
    @Option(help: "After going live: how idle time passes.")
    var pace = RunCommand.PaceOption.realtime

    @Option(
        help: ArgumentHelp("After going live: type this on the serial console; \\n is the return key.", valueName: "text"),
        transform: { $0.replacingOccurrences(of: "\\n", with: "\n") })
    var type: String?

    var settings: GoLive.Settings { GoLive.Settings(serial: serial, script: script, type: type, pace: pace) }

    func validate() throws {
        if record != nil, !live { throw ValidationError("--record needs --live") }
    }
}

/// Takes a replay over: from a place of the recording on, the run is a new one.
struct GoLive {
    /// What stands behind the new door.
    struct Settings {
        var serial: SerialOption
        var script: String?
        var type: String?
        var pace: RunCommand.PaceOption
    }

    let session: ReplaySession
    let options: Settings

    init(_ session: ReplaySession, _ options: Settings) {
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
        if reader.header.setting("logged") != nil {
            throw UserError("\(reader.path): cannot go live: it has only those parts of a disk (log=data) that were read")
        }
    }

    /// A run that has been taken over.
    struct Branch {
        var run: LiveRun
        var door: LiveBoundary
        var runner: ScriptRunner?
        /// Where it is recorded.
        var path: String?
    }

    /// Puts a living door in the place of the log's, where the timeline's cursor is. Changes made there stay, and are the
    /// first thing that the new recording has of its own.
    func takeOver(_ timeline: Timeline, recordingTo path: String?) throws -> Branch {
        let reader = session.reader
        try Self.check(session)
        let script = try options.script.map { path in
            guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
                throw UserError("--script \(path): there is no such text file")
            }
            return (try Script(text: text, name: path), path)
        }
        if timeline.isAtEnd {
            throw UserError("\(reader.path): the recording ends at \(timeline.place): there is nothing to go on with")
        }
        let machine = session.machine
        let live = LiveBoundary(pace: options.pace == .free ? .free : .realTime, origin: machine.moment)
        // All that can fail comes before anything is changed.
        let backend = try options.serial.backend(readsTerminal: options.script == nil, quit: { live.requestQuit() })
        var recorder: RecordingBoundary?
        if let path {
            if Message.sameFile(path, reader.path) { throw UserError("\(path): is the recording itself") }
            var header = reader.header
            header.settings.removeAll { $0.name.hasPrefix("parent.") }
            header.settings.append(LogHeader.Setting("parent.digest", try digest(reader.path)))
            header.settings.append(LogHeader.Setting("parent.position", "\(timeline.place)"))
            let boundary = try RecordingBoundary(
                wrapping: live, continuing: session.door, writer: try LogWriter(path: path, header: header), header: header)
            boundary.memory = machine
            for edit in timeline.edits { boundary.note(edit, at: machine.moment) }
            recorder = boundary
        }
        machine.replaceDoor(recorder ?? live)
        let looks = ScreenLooks(machine, live)
        let runner = script.map { ScriptRunner(script: $0.0, name: $0.1, door: live, screen: looks) }
        HostConnections.connectCommon(live)
        // What was at the other end of the recorded cables is gone.
        for channel in Channel.network { live.push(source: channel.rawValue, bytes: [0]) }
        // So are the host's USB devices.
        for (channel, device) in zip(Channel.usb, session.machine.configuration.usb.devices) where device == .host {
            live.push(source: channel.rawValue, bytes: USBHostMessage.detached)
        }
        live.register(source: Channel.serial0.rawValue, name: "serial0", sink: TeeSink(backend, runner))
        HostConnections.start(live, .serial0, backend)
        if let text = options.type { live.push(source: Channel.serial0.rawValue, bytes: Array(text.utf8)) }
        runner?.start()
        let run = LiveRun(machine: machine, door: live, recorder: recorder)
        run.serve = { looks.serve() }
        return Branch(run: run, door: live, runner: runner, path: path)
    }

    /// From where the timeline's cursor is, to the run's end.
    func run(_ timeline: Timeline, recordingTo path: String?) throws {
        let branch = try takeOver(timeline, recordingTo: path)
        Message.say("live from position \(timeline.place)")
        _ = try branch.run.run(conditions: StopConditions(), wantsPause: { false })
        try finish(branch)
    }

    /// What there is to say after the end.
    func finish(_ branch: Branch) throws {
        Terminal.restore()
        let machine = session.machine
        Message.say("\(Message.describe(try machine.run(until: 0))) after \(machine.cpu.position) instructions")
        if let path = branch.path { Message.say("recorded to \(path): \(Message.fileSize(path)) bytes") }
        if let failure = branch.runner?.failure { throw UserError(failure) }
    }

    private func digest(_ path: String) throws -> String {
        guard let data = FileManager.default.contents(atPath: path) else { throw UserError("\(path): cannot be read") }
        return SHA256.hex([UInt8](data))
    }
}
