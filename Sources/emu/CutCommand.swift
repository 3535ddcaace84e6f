import ArgumentParser
import Boundary
import Foundation
import MachineState
import Replay
import Trace

/// `emu cut`: a part of a recording, as a recording.
struct CutCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cut", abstract: "Make a recording of a part of another one, with the machine as it was at its beginning and all it needs inside.",
        discussion: """
            For bug reports and tests: all commands work with it. Kernel and initial RAM disk are not in it, but what of them was in
            memory is. It can be replayed by versions of this program whose machine has the same state.
            """)

    @Argument(help: "The recording.")
    var file: String
    @Option(help: ArgumentHelp("Where it begins (instructions since power-on).", valueName: "position"))
    var from: UInt64
    @Option(help: ArgumentHelp("Where it ends; without it, where the recording does.", valueName: "position"))
    var to: UInt64?
    @Option(name: .shortAndLong, help: ArgumentHelp("The new recording.", valueName: "file"))
    var output: String
    @OptionGroup var travel: TravelOptions
    @OptionGroup var images: ImageOptions
    @OptionGroup var engine: EngineOptions

    func run() throws {
        if let to, to <= from { throw UserError("--to \(to): is not behind --from \(from)") }
        let session = try ReplaySession(file: file, replacements: images.replacements, engine: engine.engine)
        // The beginning is an image like kernel and disks, and so is the new recording packed: from two files that go again.
        let snapshotPath = output + ".snapshot"
        let eventsPath = output + ".events"
        try Message.refuseExisting(output, snapshotPath, eventsPath)
        let timeline = try DebugServer(session, travel).timeline
        try seek(timeline, from, "--from")
        let snapshot = MachineSnapshot(of: session.machine, door: session.door)
        let start = timeline.place
        let first = session.door.eventNumber
        var digests: [PartDigest]?
        if let to {
            try seek(timeline, to, "--to")
            digests = session.machine.digests()
        } else {
            _ = try timeline.seek(to: .never)
            guard session.door.endReason != nil else { throw UserError("\(file): ends early: give --to") }
        }

        defer { for path in [snapshotPath, eventsPath] { try? FileManager.default.removeItem(atPath: path) } }
        let bytes = snapshot.bytes
        guard FileManager.default.createFile(atPath: snapshotPath, contents: Data(bytes)) else {
            throw UserError("\(snapshotPath): cannot be written")
        }
        var header = session.reader.header
        let paths = try MachineSetup.paths(of: header, recording: file, replacements: images.replacements)
        var kept: [(image: LogHeader.Image, path: String)] = []
        let restarts = header.setting("reset") == "reboot"
        for (image, path) in zip(header.images, paths) where isNeeded(image.role, header.boundary, restarts) { kept.append((image, path)) }
        let image = LogHeader.Image(
            role: MachineSetup.snapshotRole, path: URL(fileURLWithPath: output).lastPathComponent + ".snapshot",
            size: UInt64(bytes.count), digest: SHA256.hex(bytes))
        kept.append((image, snapshotPath))
        header.images = kept.map(\.image)
        header.settings.removeAll { [TraceReader.setUpSetting, "cut.from"].contains($0.name) }
        header.settings.append(LogHeader.Setting("cut.from", String(start.position)))
        if header.boundary == .devices {
            header.settings.append(
                LogHeader.Setting(TraceReader.setUpSetting, try TraceReader(path: file).setUp(before: start.position)))
        }
        let writer = try LogWriter(path: eventsPath, header: header)
        try session.door.write(from: first, to: writer, endingAt: session.machine.moment, digests)
        do { try PackedImages.write(output, copying: LogReader(path: eventsPath), images: kept.map(\.path)) } catch {
            try? FileManager.default.removeItem(atPath: output)
            throw error
        }
        Message.say(
            "\(output): from position \(start.position) to \(timeline.place.position), \(session.door.eventNumber - first) events, "
                + "\(Message.fileSize(output)) bytes")
    }

    /// To a place before which nothing has been delivered at its position: a recording can begin and end there.
    private func seek(_ timeline: Timeline, _ position: UInt64, _ option: String) throws {
        _ = try timeline.seek(to: Place(position))
        while !timeline.isAtEnd, timeline.place.phase > 0 || timeline.machine.isIdle { _ = try timeline.stepForward() }
        if timeline.isAtEnd { throw UserError("\(option) \(position): the recording ends before, at \(timeline.place.position)") }
    }

    /// With the devices outside, what the log had of disks is in the new one in full.
    private func isNeeded(_ role: String, _ boundary: BoundaryKind, _ restarts: Bool) -> Bool {
        switch role {
        case "kernel", "initrd": restarts
        case "bios", "vgabios": true
        case MachineSetup.snapshotRole: false
        default: boundary == .inputs
        }
    }
}
