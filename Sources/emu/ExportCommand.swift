import ArgumentParser
import Boundary
import Machine
import Passthrough
import Replay

/// `emu export`: what is in a recording, as files of other programs.
struct ExportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export", abstract: "Write a recording's network traffic as a pcapng file.",
        discussion: """
            Times are virtual, in nanoseconds since power-on. A recording at the inputs boundary is replayed for it: what the
            guest sent is not in the log. One at the devices boundary is only read.
            """)

    @Argument(help: "The recording.")
    var file: String
    @Option(help: ArgumentHelp("The frames of all network cards, an interface for each.", valueName: "file"))
    var pcapng: String
    @OptionGroup var images: ImageOptions
    @OptionGroup var engine: EngineOptions

    func run() throws {
        let reader = try LogReader(path: file)
        guard let cards = [NetworkCardSettings](text: reader.header.setting("net") ?? ""), !cards.isEmpty else {
            throw UserError("\(file): the recorded machine has no network card")
        }
        let channels = Array(Channel.network.prefix(cards.count))
        let numbers = Dictionary(uniqueKeysWithValues: channels.enumerated().map { ($1.rawValue, $0) })
        let output = try PcapngFile(path: pcapng, interfaces: channels.map(\.name))
        var count = 0
        func append(_ isOut: Bool, _ source: UInt16, _ bytes: [UInt8], _ time: UInt64) {
            // One byte is the link's state.
            guard let number = numbers[source], bytes.count > 1 else { return }
            output.append(bytes, interface: number, isOut: isOut, time: time)
            count += 1
        }
        if reader.header.boundary == .devices {
            try reader.forEachEvent { _, event in
                if event.kind == .frame {
                    append(event.width != 0, UInt16(truncatingIfNeeded: event.address), event.bytes, event.value)
                }
                return true
            }
        } else {
            let session = try ReplaySession(file: file, replacements: images.replacements, engine: engine.engine)
            session.door.onCrossing = append
            _ = try session.run(until: nil)
        }
        guard output.flush() else { throw UserError("\(pcapng): cannot be written") }
        Message.say("\(pcapng): \(count) frames")
    }
}
