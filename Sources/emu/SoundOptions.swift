import ArgumentParser
import Boundary
import Machine
import Passthrough
import Replay
import Synchronization

/// Options of `run` about sound.
struct SoundOptions: ParsableArguments {
    @Option(help: ArgumentHelp("A sound card (AC '97, or what --device hda or --usb audio says), and where its sound goes: wav:FILE, sdl (the host's sound card; in builds with --traits SDL) or none.", valueName: "backend"))
    var audio: AudioOption?
    @Option(help: ArgumentHelp("What the sound card records: wav:FILE, from its start whenever the guest begins to record, or sdl (the host's microphone; in builds with --traits SDL).", valueName: "backend"))
    var microphone: AudioOption?

    /// The machine has a sound card.
    var isGiven: Bool { audio != nil || microphone != nil }
}

enum AudioOption: ExpressibleByArgument, Equatable {
    case none
    case wav(String)
    case sdl

    init?(argument: String) {
        if argument == "none" {
            self = .none
        } else if argument == "sdl" {
            self = .sdl
        } else {
            guard argument.hasPrefix("wav:"), argument.utf8.count > 4 else { return nil }
            self = .wav(String(argument.dropFirst(4)))
        }
    }
}

/// What is at the ends of the sound card's cables.
final class SoundConnection: HostSink {
    private enum Microphone {
        case none
        case file(WAVFile)
        #if SDL
        case card(SDLMicrophone)
        #endif
    }
    private let output: (any SoundOutput)?
    private let input: Microphone
    private let live: LiveBoundary
    /// Counts recordings: what feeds an older one ends.
    private let recording = Mutex(0)
    private static let source = Channel.audio.rawValue

    /// - Parameter hasWindow: the screen is in a window of SDL's.
    init(_ options: SoundOptions, _ live: LiveBoundary, hasWindow: Bool) throws {
        self.live = live
        switch options.audio {
        case .wav(let path): output = try WAVWriter(path: path)
        case .sdl:
            #if SDL
            output = try SDLPlayer(hasWindow: hasWindow) { Message.say($0) }
            #else
            throw UserError("--audio sdl: this program was built without it: swift build --traits SDL (needs libsdl2-dev)")
            #endif
        case .some(.none), nil: output = nil
        }
        switch options.microphone {
        case .wav(let path): input = .file(try WAVFile(path: path, option: "--microphone wav:"))
        case .sdl:
            #if SDL
            input = .card(try SDLMicrophone(hasWindow: hasWindow) { Message.say($0) })
            #else
            throw UserError("--microphone sdl: this program was built without it: swift build --traits SDL (needs libsdl2-dev)")
            #endif
        case .some(.none), nil: input = .none
        }
        live.register(source: Self.source, name: Channel.audio.name, sink: self)
    }

    /// The log of a recording at the devices boundary gets a note of all sound, for `emu export`.
    func note(in recorder: RecordingBoundary) {
        let target = Recorder(boundary: recorder)
        live.watch(source: Self.source) { isOut, bytes, time in
            if isOut, bytes.first == 1 { target.boundary.note(frame: bytes, source: Self.source, isOut: true, time: time) }
        }
    }
    /// Taps are called on the machine's thread, as the recorder is.
    private struct Recorder: @unchecked Sendable { let boundary: RecordingBoundary }

    func ask(_ question: UInt32) -> UInt64 { 0 }

    func send(_ bytes: [UInt8]) {
        guard let rate = SoundMessage.rate(bytes) else { return }
        switch bytes[0] {
        case 1: output?.play(bytes[5...], rate: rate)
        case 2: feed(rate)
        default: stop()
        }
    }

    private func stop() {
        recording.withLock { $0 += 1 }
        #if SDL
        if case .card(let microphone) = input { microphone.stop() }
        #endif
    }

    private func feed(_ rate: UInt32) {
        switch input {
        case .none: break
        case .file(let file): feed(file, rate)
        #if SDL
        case .card(let microphone):
            // What the microphone hears is input at the moment at which the host has it.
            let lead = Mutex(MicrophoneLead(rate: rate, now: live.virtualTime))
            microphone.start(rate: rate) { [live] frames in
                let now = live.virtualTime
                if lead.withLock({ $0.accepts(frames.count / 4, now: now) }) { live.push(source: Self.source, bytes: Array(frames)) }
            }
        #endif
        }
    }

    /// Gives the file in pieces of 10 ms, three of them in advance.
    private func feed(_ input: WAVFile, _ rate: UInt32) {
        let mine = recording.withLock { recording -> Int in
            recording += 1
            return recording
        }
        let start = live.virtualTime
        let piece = Int(rate / 100)
        let total = Int(UInt64(input.frames.count / 4) * UInt64(rate) / UInt64(input.rate))
        let counter = Counter()
        live.push(source: Self.source) { [self] in
            let index = counter.next()
            guard recording.withLock({ $0 }) == mine, index * piece < total else { return nil }
            var bytes: [UInt8] = []
            for frame in index * piece..<min((index + 1) * piece, total) {
                let place = Int(UInt64(frame) * UInt64(input.rate) / UInt64(rate)) * 4
                bytes += input.frames[place..<place + 4]
            }
            return (bytes, start + UInt64(max(index - 2, 0)) * 10_000_000)
        }
    }

    private final class Counter: Sendable {
        private let value = Mutex(0)
        func next() -> Int {
            value.withLock { value in
                defer { value += 1 }
                return value
            }
        }
    }

    /// After the run.
    func finish() throws {
        #if SDL
        if case .card(let microphone) = input { microphone.finish() }
        #endif
        if let output, !output.finish() { throw UserError("--audio wav: the file cannot be written") }
    }
}

/// Messages of the sound card's channel (see `AC97`).
enum SoundMessage {
    /// The rate in a message, frames a second.
    static func rate(_ bytes: [UInt8]) -> UInt32? {
        guard bytes.count >= 5 else { return nil }
        return (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[1 + $1]) << UInt32($1 * 8) }
    }
}
