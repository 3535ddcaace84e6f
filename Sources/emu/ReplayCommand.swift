import ArgumentParser
import Boundary
import CPUCore
import Foundation
import Machine
import MachineState
import Passthrough
import Replay

/// What `replay` and `verify` share: a machine driven by a recording.
struct ReplaySession {
    let reader: LogReader
    let door: ReplayBoundary
    let machine: PCMachine
    private let hostFailures: Failures

    /// The header's setting that says which devices a recording has alone: it can be looked at, but not replayed.
    static let partSetting = "devices-only"

    /// What the host's files failed with: a replay cannot go on then.
    private final class Failures { var text: String? }

    init(file: String, replacements: [String: String], engine: EngineKind) throws {
        reader = try LogReader(path: file)
        if let names = reader.header.setting(Self.partSetting) {
            throw UserError("\(file): has only what \(names) and its driver say to each other: for trace and diff, not for a replay")
        }
        let setup = try MachineSetup(header: reader.header, recording: file, replacements: replacements)
        door = ReplayBoundary(reader: reader, names: EventText.place)
        let media = setup.media
        machine = try PCMachine(
            configuration: setup.configuration, image: try setup.bootImage(),
            media: setup.configuration.boundary == .inputs ? media : [], door: door, engine: engine)
        let failures = Failures()
        for disk in media { disk.onFailure = { failures.text = "disk \(disk.number): \($0)" } }
        hostFailures = failures
        door.readImage = { origin, buffer in
            guard let disk = media.first(where: { $0.number == origin.image }) else { return false }
            disk.readFile(origin.offset, buffer)
            return failures.text == nil
        }
        door.memory = machine
        if let snapshot = try setup.snapshot(file), !snapshot.restore(machine, door) {
            throw UserError("\(file): was cut by another version of this program, whose machine this one cannot continue")
        }
        if let reason = reader.endsEarly {
            Message.say("\(file): the recording ends early (\(reason)): it is replayed up to its last whole chunk")
        }
    }

    /// Runs to the end or to `until`. Progress goes to the terminal when it takes long.
    func run(until: Position?) throws -> PCMachine.Outcome {
        let progress = Progress(total: reader.chunks.last?.firstPosition ?? 0)
        defer { progress.clear() }
        while true {
            let next = min(until ?? .max, machine.cpu.position + 20_000_000)
            let outcome = try machine.run(until: next)
            if let damage = door.damage { throw damage }
            if let failure = hostFailures.text { throw UserError(failure) }
            guard case .positionReached = outcome else { return outcome }
            if machine.cpu.position >= until ?? .max { return outcome }
            progress.show(machine.cpu.position)
        }
    }

    var summary: String {
        "\(machine.cpu.position) instructions, \(Message.seconds(machine.moment.time)) virtual, "
            + "\(door.eventNumber) events, \(door.digestsChecked) digests agree"
    }
}

struct ImageOptions: ParsableArguments {
    @Option(help: ArgumentHelp("The recorded kernel, if it is not where it was.", valueName: "file"))
    var kernel: String?
    @Option(help: ArgumentHelp("The recorded initial RAM disk, if it is not where it was.", valueName: "file"))
    var initrd: String?

    @Option(help: ArgumentHelp("A recorded disk image, if it is not where it was; as often as there are.", valueName: "file"))
    var disk: [String] = []
    @Option(help: ArgumentHelp("A recorded CD-ROM, if it is not where it was; as often as there are.", valueName: "file"))
    var cdrom: [String] = []

    @Option(help: ArgumentHelp("A recorded floppy disk, if it is not where it was; as often as there are.", valueName: "file"))
    var floppy: [String] = []

    @Option(help: ArgumentHelp("The recorded BIOS, if it is not where it was.", valueName: "file"))
    var bios: String?
    @Option(help: ArgumentHelp("The recorded VGA BIOS, if it is not where it was.", valueName: "file"))
    var vgabios: String?

    var replacements: [String: String] {
        var paths: [String: String] = [:]
        if let bios { paths["bios"] = bios }
        if let vgabios { paths["vgabios"] = vgabios }
        // By their order in the header: see `MachineSetup`.
        for (index, path) in disk.enumerated() { paths["disk#\(index)"] = path }
        for (index, path) in floppy.enumerated() { paths["floppy#\(index)"] = path }
        for (index, path) in cdrom.enumerated() { paths["cdrom#\(index)"] = path }
        if let kernel { paths["kernel"] = kernel }
        if let initrd { paths["initrd"] = initrd }
        return paths
    }
}

/// `emu replay`: shows the same console output again.
struct ReplayCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "replay", abstract: "Replay a recording; shows the serial console's output again.")

    @Argument(help: "The recording.")
    var file: String
    @Option(help: ArgumentHelp("Stop at this position (instructions since power-on).", valueName: "position"))
    var until: UInt64?
    @Option(help: ArgumentHelp("Stop when the console has shown this text.", valueName: "text"))
    var untilText: String?
    @Option(help: ArgumentHelp("Wait for gdb at this address: [HOST]:PORT.", valueName: "address"))
    var gdb: GDBAddress?
    @OptionGroup var travel: TravelOptions
    @OptionGroup var live: LiveOptions
    @OptionGroup var images: ImageOptions
    @OptionGroup var engine: EngineOptions

    func run() throws {
        let session = try ReplaySession(file: file, replacements: images.replacements, engine: engine.engine)
        if live.live || gdb != nil || untilText != nil {
            if live.live { try GoLive.check(session) }
            let server = try DebugServer(session, travel)
            let started = ContinuousClock.now
            _ = try server.go(until: until, text: untilText)
            if live.live || gdb == nil, let transcript = session.door.transcript {
                FileHandle.standardOutput.write(Data(transcript.bytes.prefix(transcript.count)))
            }
            let golive = GoLive(session, live.settings)
            if live.live, gdb == nil { return try golive.run(server.timeline, recordingTo: live.record) }
            if let gdb { return try server.serve(gdb, golive, goesLive: live.live, recordingTo: live.record) }
            let elapsed = Message.decimal((ContinuousClock.now - started).seconds)
            return Message.say("stopped at position \(server.timeline.place); \(session.summary); \(elapsed) s")
        }
        session.door.onSend = { source, bytes in
            if source == Channel.serial0.rawValue { FileHandle.standardOutput.write(Data(bytes)) }
        }
        showDevicesConsole(session)
        engine.prepare(session.machine)
        let started = ContinuousClock.now
        let outcome = try session.run(until: until)
        let elapsed = (ContinuousClock.now - started).seconds
        engine.report(session.machine, seconds: elapsed)
        Message.say("\(Message.describe(outcome)): \(session.summary); \(Message.decimal(elapsed)) s")
    }
}

/// At the devices boundary the console is what is written to the serial port's data register.
private func showDevicesConsole(_ session: ReplaySession) {
    guard session.reader.header.boundary == .devices else { return }
    var isDivisor = false
    session.door.onPortWrite = { port, value in
        // Bit 7 of the line control register turns the data register into a divisor.
        if port == 0x3FB { isDivisor = value & 0x80 != 0 }
        if port == 0x3F8, !isDivisor { FileHandle.standardOutput.write(Data([UInt8(truncatingIfNeeded: value)])) }
    }
}

/// `emu verify`: silent; the exit status tells.
struct VerifyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "verify", abstract: "Replay silently and check every digest; exits with 1 at the first divergence.")

    @Argument(help: "The recordings.")
    var files: [String]
    @Flag(help: "Go on where a digest differs, and name each one that does: what differs may be gone, or become more.")
    var all = false
    @Option(help: ArgumentHelp("Stop at many random places, as a live run does: it must make no difference.", valueName: "seed"))
    var stutter: UInt64?
    @OptionGroup var images: ImageOptions
    @OptionGroup var engine: EngineOptions

    func run() throws {
        var failed = false
        for file in files {
            do {
                let session = try ReplaySession(file: file, replacements: images.replacements, engine: engine.engine)
                session.machine.stutter = stutter.map { SplitMix(state: $0) }
                var differences = 0
                if all {
                    session.door.onDifference = {
                        differences += 1
                        print("\(file): DIVERGED: \($0)")
                    }
                }
                _ = try session.run(until: nil)
                if differences == 0 {
                    print("\(file): OK: \(session.summary)")
                } else {
                    print("\(file): \(differences) digests differ: \(session.summary)")
                    failed = true
                }
            } catch let divergence as Divergence {
                print("\(file): DIVERGED: \(divergence)")
                failed = true
            } catch let error as LogError {
                print("\(file): FAILED: \(error)")
                failed = true
            } catch let error as UserError {
                print("\(file): FAILED: \(error)")
                failed = true
            }
        }
        if failed { throw ExitCode(1) }
    }
}

/// A line on the terminal for what takes longer than a second.
final class Progress {
    private let total: Position
    private let started = ContinuousClock.now
    private var shown = false

    init(total: Position) { self.total = total }

    func show(_ position: Position) {
        guard isatty(STDERR_FILENO) == 1, isatty(STDOUT_FILENO) == 0, ContinuousClock.now - started > .seconds(1) else { return }
        shown = true
        let share = total > 0 ? " (\(min(position * 100 / total, 100)) %)" : ""
        FileHandle.standardError.write(Data("\remu: position \(position)\(share) ".utf8))
    }
    func clear() {
        if shown { FileHandle.standardError.write(Data("\r\u{1B}[K".utf8)) }
    }
}
