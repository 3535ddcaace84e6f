import ArgumentParser
import Devices
import Foundation
import Machine
import MachineState
import Replay

/// `emu screenshot`: what a recording's screen shows at a position.
struct ScreenshotCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "screenshot", abstract: "Replay a recording to a position and save what the screen shows then.")

    @Argument(help: "The recording.")
    var file: String
    @Option(help: ArgumentHelp(
        "The position (instructions since power-on); more than once for more pictures. (default: the end)", valueName: "position"))
    var at: [UInt64] = []
    @Option(name: .shortAndLong, help: ArgumentHelp(
        "The picture: a PNG file, or NAME.txt for a screen of text; of several positions, a directory for POSITION.png each.", valueName: "file"))
    var output: String?
    @Flag(help: "Print a text screen as text.")
    var text = false
    @OptionGroup var images: ImageOptions
    @OptionGroup var engine: EngineOptions

    func validate() throws {
        if output == nil, !text { throw ValidationError("give --output FILE, or --text, or both") }
    }

    func run() throws {
        let session = try ReplaySession(file: file, replacements: images.replacements, engine: engine.engine)
        if at.count > 1, let output {
            do { try FileManager.default.createDirectory(atPath: output, withIntermediateDirectories: true) } catch {
                throw UserError("--output \(output): cannot be made a directory")
            }
        }
        for position in at.isEmpty ? [nil] : at.sorted().map(Optional.some) {
            let outcome = try session.run(until: position)
            if let position, session.machine.cpu.position < position {
                Message.say("\(file): \(Message.describe(outcome)) at position \(session.machine.cpu.position), before \(position)")
            }
            var place = output
            if at.count > 1, let output, let position { place = "\(output)/\(position).png" }
            try Screenshot.save(session.machine.vga, output: place, text: text)
        }
    }
}

/// The screen, to a file or as text.
enum Screenshot {
    static func save(_ vga: VGA, output: String?, text: Bool) throws {
        if text { for line in vga.text() { print(line) } }
        guard let output else { return }
        // A name that ends so asks for a text screen's text.
        let bytes = output.hasSuffix(".txt")
            ? Array(vga.text().map { $0 + "\n" }.joined().utf8) : PNGFile.bytes(vga.picture())
        do { try Data(bytes).write(to: URL(fileURLWithPath: output)) } catch {
            throw UserError("--output \(output): cannot be written")
        }
    }
}
