import ArgumentParser
import Boundary
import Foundation
import Machine
import Replay

/// `emu convert`: the devices recording of a run that was recorded at the inputs boundary.
struct ConvertCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "convert", abstract: "Replay a recording of --boundary=inputs, and record the same run as --boundary=devices would have.",
        discussion: "One records cheaply, and analyses richly: the new recording has every transaction, and emu trace reads it.")

    enum Target: String, ExpressibleByArgument { case devices }

    @Argument(help: "The recording.")
    var file: String
    @Option(help: "The boundary of the new recording.")
    var to: Target
    @Option(name: .shortAndLong, help: ArgumentHelp("The new recording.", valueName: "file"))
    var output: String
    @OptionGroup var images: ImageOptions
    @OptionGroup var engine: EngineOptions

    func run() throws {
        let session = try ReplaySession(file: file, replacements: images.replacements, engine: engine.engine)
        var header = session.reader.header
        guard header.boundary == .inputs else { throw UserError("\(file): is a recording of --boundary=devices already") }
        header.boundary = .devices
        try Message.refuseExisting(output)
        let writer = try LogWriter(path: output, header: header)
        var recorder: RecordingBoundary?
        session.machine.mirrorDevices { plane in
            let door = RecordingBoundary(wrapping: plane, writer: writer, header: header)
            door.memory = session.machine
            recorder = door
            return door
        }
        guard let recorder else { throw UserError("\(file): the machine has no devices inside") }
        let networks = Set(Channel.network.map(\.rawValue))
        session.door.onCrossing = { isOut, source, bytes, time in
            // One byte is the link's state.
            if networks.contains(source), bytes.count > 1 { recorder.note(frame: bytes, source: source, isOut: isOut, time: time) }
        }
        _ = try session.run(until: nil)
        if let failure = recorder.failure { throw failure }
        // A recording that was cut off is converted up to there.
        if session.reader.endsEarly != nil { writer.finish() }
        Message.say("\(output): \(session.summary); \(Message.fileSize(output)) bytes")
    }
}
