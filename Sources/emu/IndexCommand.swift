import ArgumentParser
import Foundation
import Replay

/// `emu index`: replays once and keeps checkpoints beside the recording.
struct IndexCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "index", abstract: "Replay a recording once and keep checkpoints in FILE.index: jumping anywhere is quick then.")

    @Argument(help: "The recordings.")
    var files: [String]
    @OptionGroup var travel: TravelOptions
    @OptionGroup var images: ImageOptions
    @OptionGroup var engine: EngineOptions

    func run() throws {
        for file in files {
            let session = try ReplaySession(file: file, replacements: images.replacements, engine: engine.engine)
            let timeline = try DebugServer(session, travel, usesIndex: false).timeline
            let progress = Progress(total: session.reader.chunks.last?.firstPosition ?? 0)
            let size = try timeline.writeIndex(file + ".index", poll: {
                progress.show(timeline.place.position)
                return false
            })
            progress.clear()
            print("\(file).index: \(size) bytes, \(session.summary)")
        }
    }
}
