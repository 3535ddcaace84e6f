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
            With --device only what that device and its driver say to each other is kept, and interrupts: for trace and diff.
            """)

    @Argument(help: "The recording.")
    var file: String
    @Option(help: ArgumentHelp("Where it begins (instructions since power-on).", valueName: "position"))
    var from: UInt64
    @Option(help: ArgumentHelp("Where it ends; without it, where the recording does.", valueName: "position"))
    var to: UInt64?
    @Option(help: ArgumentHelp("Keep only this device, by its name in the trace; as often as wanted. The part cannot be replayed.", valueName: "name"))
    var device: [String] = []
    @Option(name: .shortAndLong, help: ArgumentHelp("The new recording.", valueName: "file"))
    var output: String
    @OptionGroup var travel: TravelOptions
    @OptionGroup var images: ImageOptions
    @OptionGroup var engine: EngineOptions

    func run() throws {
        if let to, to <= from { throw UserError("--to \(to): is not behind --from \(from)") }
        if !device.isEmpty { return try cutDevices() }
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

    /// What some devices and their drivers say to each other. Nothing is replayed for it.
    private func cutDevices() throws {
        if Message.sameFile(file, output) { throw UserError("\(output): is the recording itself") }
        let trace = try TraceReader(path: file)
        let names = trace.map.deviceNames
        for name in device where !names.contains(name) {
            throw UserError("--device \(name): there is no such device; there are \(names.sorted().joined(separator: ", "))")
        }
        var filter = TraceFilter()
        filter.kinds = Set(TraceKind.allCases)
        filter.from = from
        filter.to = to ?? .max
        var header = trace.reader.header
        header.images = []
        header.settings.removeAll { [TraceReader.setUpSetting, "cut.from", ReplaySession.partSetting].contains($0.name) }
        header.settings += [
            LogHeader.Setting("cut.from", String(from)), LogHeader.Setting(ReplaySession.partSetting, device.joined(separator: ",")),
            LogHeader.Setting(TraceReader.setUpSetting, try trace.setUp(before: from)),
        ]
        let writer = try LogWriter(path: output, header: header)
        var count = 0
        // Each chunk can be read without the others: who a bus master is, is said again.
        var noted: (text: String, chunk: Int)?
        try trace.forEach(filter) { item in
            switch TraceKind(item.event.kind) {
            case .pio, .mmio:
                // Where devices are is said to the host bridge.
                let name = trace.sites[item.site].device
                guard device.contains(name) || name == "pci" else { return true }
            case .dma:
                guard let master = item.master, device.contains(master.device) else { return true }
                while noted?.text != master.text || noted?.chunk != writer.chunkCount, writer.failure == nil {
                    noted = (master.text, writer.chunkCount)
                    var note = LogEvent(.busMaster, position: item.event.position)
                    note.skipped = item.event.skipped
                    note.within = item.event.within
                    note.bytes = Array(master.text.utf8)
                    writer.append(note)
                }
            case .irq: break
            case .other: guard item.event.kind == .end || item.event.kind == .reset else { return true }
            }
            writer.append(item.event)
            count += 1
            return writer.failure == nil
        }
        writer.finish()
        if let failure = writer.failure { throw failure }
        Message.say("\(output): \(count) events of \(device.joined(separator: ", ")), \(Message.fileSize(output)) bytes")
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
