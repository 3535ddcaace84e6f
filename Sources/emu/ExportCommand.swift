import ArgumentParser
import Boundary
import Devices
import Machine
import MachineState
import Passthrough
import Replay

/// `emu export`: what is in a recording, as files of other programs.
struct ExportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export", abstract: "Write a recording's network or USB traffic, or its sound, as a file of other programs.",
        discussion: """
            Times are virtual, in nanoseconds since power-on. A recording at the inputs boundary is replayed for it: what the
            guest sent is not in the log. One at the devices boundary is only read.
            """)

    @Argument(help: "The recording.")
    var file: String
    @Option(help: ArgumentHelp("The frames of all network cards, an interface for each: a pcapng file.", valueName: "file"))
    var pcapng: String?
    @Option(help: ArgumentHelp("The transfers at the USB controller, as Linux's usbmon has them: a pcap file.", valueName: "file"))
    var usbmon: String?
    @Option(help: ArgumentHelp("What the sound card has played: a WAV file.", valueName: "file"))
    var wav: String?
    @OptionGroup var images: ImageOptions
    @OptionGroup var engine: EngineOptions

    func validate() throws {
        if pcapng == nil, usbmon == nil, wav == nil { throw ValidationError("give --pcapng, --usbmon or --wav") }
    }

    func run() throws {
        let reader = try LogReader(path: file)
        let network = try pcapng.map { try networkFile(reader, $0) }
        let usb = try usbmon.map { path -> PcapWriter in
            let hasDisk = [DriveSettings](text: reader.header.setting("drives") ?? "")?.contains { $0.interface == .usb } ?? false
            if reader.header.setting("usb") == nil, !hasDisk { throw UserError("\(file): the recorded machine has no USB device") }
            return try PcapWriter(path: path, link: PcapWriter.usbmon)
        }
        let sound = try wav.map { path -> WAVWriter in
            guard try PCConfiguration(header: reader.header, recording: file).soundCardCount > 0 else {
                throw UserError("\(file): the recorded machine has no sound card")
            }
            return try WAVWriter(path: path)
        }
        func play(_ isOut: Bool, _ source: UInt16, _ bytes: [UInt8]) {
            guard let sound, isOut, source == Channel.audio.rawValue, bytes.first == 1, let rate = SoundMessage.rate(bytes) else { return }
            sound.append(bytes[5...], rate: rate)
        }
        if reader.header.boundary == .devices {
            // The disks' images are needed only if the log refers to them.
            var session: ReplaySession?
            func data(_ origin: ImageOrigin, _ count: Int) throws -> [UInt8] {
                let opened = try session ?? ReplaySession(file: file, replacements: images.replacements, engine: engine.engine)
                session = opened
                var bytes = [UInt8](repeating: 0, count: count)
                guard bytes.withUnsafeMutableBytes({ opened.door.readImage(origin, $0) }) else {
                    throw UserError("\(file): refers to a disk image that cannot be read")
                }
                return bytes
            }
            try reader.forEachEvent { _, event in
                guard event.kind == .frame else { return true }
                let source = UInt16(truncatingIfNeeded: event.address)
                if source == USBSettings.captureSource {
                    usb?.append(event.bytes, time: event.value)
                } else if source == USBSettings.referenceSource {
                    guard let usb, let (record, length) = USBRecord.referred(event.bytes), let origin = record.origin else { return true }
                    usb.append(record.header + (try data(origin, length)), time: event.value)
                } else {
                    network?.append(event.width != 0, source, event.bytes, event.value)
                    play(event.width != 0, source, event.bytes)
                }
                return true
            }
        } else {
            let session = try ReplaySession(file: file, replacements: images.replacements, engine: engine.engine)
            session.door.onCrossing = { isOut, source, bytes, time in
                network?.append(isOut, source, bytes, time)
                play(isOut, source, bytes)
            }
            if let usb { _ = session.machine.board?.tapUSB { usb.append($0.bytes, time: $1) } }
            _ = try session.run(until: nil)
        }
        if let network, let pcapng {
            guard network.output.flush() else { throw UserError("\(pcapng): cannot be written") }
            Message.say("\(pcapng): \(network.count) frames")
        }
        if let sound, let wav {
            guard sound.finish() else { throw UserError("\(wav): cannot be written") }
            Message.say("\(wav): \(sound.count) bytes of sound")
        }
        if let usb, let usbmon {
            guard usb.flush() else { throw UserError("\(usbmon): cannot be written") }
            Message.say("\(usbmon): \(usb.count) records")
        }
    }

    /// The file of the network's frames, and which channel is which interface.
    private final class NetworkFile {
        let output: PcapngFile
        private let numbers: [UInt16: Int]
        private(set) var count = 0

        init(_ path: String, _ channels: [Channel]) throws {
            output = try PcapngFile(path: path, interfaces: channels.map(\.name))
            numbers = Dictionary(uniqueKeysWithValues: channels.enumerated().map { ($1.rawValue, $0) })
        }

        func append(_ isOut: Bool, _ source: UInt16, _ bytes: [UInt8], _ time: UInt64) {
            // One byte is the link's state.
            guard let number = numbers[source], bytes.count > 1 else { return }
            output.append(bytes, interface: number, isOut: isOut, time: time)
            count += 1
        }
    }

    private func networkFile(_ reader: LogReader, _ path: String) throws -> NetworkFile {
        guard let cards = [NetworkCardSettings](text: reader.header.setting("net") ?? ""), !cards.isEmpty else {
            throw UserError("\(file): the recorded machine has no network card")
        }
        return try NetworkFile(path, Array(Channel.network.prefix(cards.count)))
    }
}
