import ArgumentParser
import Devices
import Foundation
import Machine
import MachineState
import Replay

/// `emu movie`: what a recording's screen shows from beginning to end.
struct MovieCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "movie", abstract: "Replay a recording and save what the screen shows as a film.",
        discussion: """
            An output that ends in .mp4, .gif or another of ffmpeg's endings is made by ffmpeg, which must be installed. Any \
            other is a directory that gets a PNG file for each picture that differs from the one before; the file's name is \
            its virtual time in milliseconds.
            """)

    @Argument(help: "The recording.")
    var file: String
    @Option(name: .shortAndLong, help: ArgumentHelp("The film, or a directory.", valueName: "path"))
    var output: String
    @Option(help: ArgumentHelp("Pictures a second of virtual time (1 to 60).", valueName: "n"))
    var rate = 10
    @OptionGroup var images: ImageOptions
    @OptionGroup var engine: EngineOptions

    func validate() throws {
        if !(1...60).contains(rate) { throw ValidationError("--rate is 1 to 60, not \(rate)") }
    }

    func run() throws {
        let session = try ReplaySession(file: file, replacements: images.replacements, engine: engine.engine)
        let machine = session.machine
        let isFilm = !(output as NSString).pathExtension.isEmpty
        let film = isFilm ? try FilmWriter(output, rate: rate) : nil
        if !isFilm { try FileManager.default.createDirectory(atPath: output, withIntermediateDirectories: true) }
        let interval = 1_000_000_000 / UInt64(rate)
        var next: UInt64 = 0
        var last: Picture?
        var count = 0
        // So many instructions take a picture's time while the processor runs; idle time passes in none, so that a guest
        // that waits much needs shorter steps.
        let step = min(max(interval >> UInt64(machine.configuration.clockShift), 1), 500_000)
        while true {
            let outcome = try session.run(until: machine.cpu.position + step)
            let time = machine.moment.time
            var isEnd = false
            if case .ended = outcome { isEnd = true }
            if time >= next || isEnd {
                let picture = machine.vga.picture()
                if let film {
                    // A time in which nothing was executed is as many equal pictures; more than a second of it is cut.
                    let missed = min((max(time, next) - next) / interval + 1, UInt64(rate))
                    for _ in 0..<missed { try film.add(picture) }
                    count += Int(missed)
                } else if picture != last {
                    let name = String(format: "%010llu.png", time / 1_000_000)
                    try Screenshot.save(machine.vga, output: output + "/" + name, text: false)
                    count += 1
                }
                last = picture
                next = (time / interval + 1) * interval
            }
            if isEnd { break }
        }
        try film?.finish()
        Message.say("\(output): \(count) pictures of \(Message.seconds(machine.moment.time)) virtual time")
    }
}

/// Pictures on their way to ffmpeg, as raw frames of one size: smaller ones get a black rim.
private final class FilmWriter {
    private let process = Process()
    private let pipe = Pipe()
    private let path: String
    private static let width = 1024
    private static let height = 768

    init(_ path: String, rate: Int) throws {
        self.path = path
        let places = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":").map { "\($0)/ffmpeg" }
        guard let program = places.first(where: { FileManager.default.isExecutableFile(atPath: $0) }) else {
            throw UserError("\(path): ffmpeg makes films, and is not installed (Debian's package ffmpeg); a directory gets PNG files without it")
        }
        signal(SIGPIPE, SIG_IGN)
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = [
            "-y", "-loglevel", "error", "-f", "rawvideo", "-pixel_format", "bgr0", "-video_size",
            "\(Self.width)x\(Self.height)", "-framerate", "\(rate)", "-i", "-",
        ] + (path.hasSuffix(".mp4") ? ["-pix_fmt", "yuv420p"] : []) + [path]
        process.standardInput = pipe
        try process.run()
    }

    func add(_ picture: Picture) throws {
        var frame = [UInt32](repeating: 0, count: Self.width * Self.height)
        let columns = min(picture.width, Self.width)
        for y in 0..<min(picture.height, Self.height) {
            for x in 0..<columns { frame[y * Self.width + x] = picture.pixels[y * picture.width + x].littleEndian }
        }
        let data = frame.withUnsafeBytes { Data($0) }
        do { try pipe.fileHandleForWriting.write(contentsOf: data) } catch { throw UserError("\(path): ffmpeg has ended early") }
    }

    func finish() throws {
        try pipe.fileHandleForWriting.close()
        process.waitUntilExit()
        if process.terminationStatus != 0 { throw UserError("\(path): ffmpeg has failed") }
    }
}
