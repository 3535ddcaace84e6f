import ArgumentParser
import Boundary
import Foundation
import Machine
import MachineState
import Passthrough
import Replay
import VFIOUser

/// `emu run`, the default: boots a machine, and records it if asked to.
struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "run", abstract: "Boot a machine; with --boundary, record the run.",
        discussion: """
            The terminal is the guest's serial console: Ctrl-a x quits, Ctrl-a h lists keys.
            A script (--script) has one command a line: wait "TEXT" [SECONDS] (for the serial console), wait-screen "TEXT"
            [SECONDS] (for a screen of text), type "TEXT\\n", key ctrl-alt-delete, sleep SECONDS [host|virtual],
            screenshot FILE, poweroff (the power button), nmi, quit.
            """)

    enum BoundaryOption: String, ExpressibleByArgument, CaseIterable { case inputs, devices }
    enum DeviceClock: String, ExpressibleByArgument, CaseIterable { case virtual, host }
    enum PaceOption: String, ExpressibleByArgument, CaseIterable { case realtime, free }

    @Option(help: "Record, with the line between inside and outside here: inputs or devices.")
    var boundary: BoundaryOption?
    @Option(help: ArgumentHelp("The recording. Without it a name is chosen.", valueName: "file"))
    var record: String?
    @Flag(help: "With --boundary: draw the line there, but record nothing.")
    var noRecord = false
    @Option(help: ArgumentHelp("A Linux kernel (bzImage) or a multiboot ELF kernel, entered without firmware.", valueName: "file"))
    var kernel: String?
    @Option(help: ArgumentHelp("Its initial RAM disk, or a multiboot module.", valueName: "file"))
    var initrd: String?
    @Option(help: ArgumentHelp("The kernel's command line.", valueName: "text"))
    var append = ""
    @OptionGroup var disks: DiskOptions
    @OptionGroup var firmware: FirmwareOptions
    @OptionGroup var devices: DeviceOptions
    @OptionGroup var network: NetworkOptions
    @OptionGroup var usb: USBOptions
    @OptionGroup var sound: SoundOptions
    @OptionGroup var monitoring: MonitorOptions
    @Option(help: ArgumentHelp("The guest's screen: none, vnc=HOST:N[,PASSWORD] or sdl.", valueName: "display"))
    var display = DisplayOption.none
    @Option(help: ArgumentHelp("RAM: MiB, or with K, M or G; 16M to 8G.", valueName: "size"))
    var memory = MemoryOption(bytes: 256 << 20)
    @Option(help: ArgumentHelp("The serial console: stdio, file:PATH, pty, tcp:HOST:PORT, unix:PATH or none.", valueName: "backend"))
    var serial = SerialOption.stdio
    @Option(help: ArgumentHelp("Where the debug console (ports 0xE9 and 0x402) goes: a file.", valueName: "file"))
    var debugcon: String?
    @Option(help: ArgumentHelp("Drive the guest by a script.", valueName: "file"))
    var script: String?
    @Option(help: "At the devices boundary: what the devices take for time.")
    var deviceClock = DeviceClock.virtual
    @Flag(help: "At the devices boundary: disk controllers, network cards and virtio devices run on threads of their own, with the host's clock.")
    var deviceThreads = false
    @Option(help: "How idle time passes: with the host's clock, or skipped at once.")
    var pace = PaceOption.realtime
    @Option(help: ArgumentHelp("One instruction takes 2^N ns of virtual time (0 to 10).", valueName: "n"))
    var clockShift: UInt8 = 1
    @Option(help: ArgumentHelp("Date at power-on: utc, localtime, seconds since 1970, or a date as 2026-01-31T12:00:00.", valueName: "date"))
    var rtc = "utc"
    @Option(help: ArgumentHelp("Instructions between digests in the recording.", valueName: "n"))
    var digestInterval: UInt64 = 500_000_000
    @Flag(help: "Use a Linux kernel's 32-bit entry.")
    var entry32 = false
    @Flag(help: "A reset boots again instead of ending the run.")
    var reboot = false
    @Option(help: ArgumentHelp("Save what the screen shows at the end of the run: a PNG file, or NAME.txt for a screen of text.", valueName: "file"))
    var screenshot: String?
    @Option(help: ArgumentHelp("End the run at this position.", valueName: "position"))
    var until: UInt64?
    @Option(help: ArgumentHelp("Wait for gdb at this address, [HOST]:PORT; with “,nowait” at the end it may come later.", valueName: "address"))
    var gdb: GDBAddress?
    @OptionGroup var gdbTarget: GDBTargetOptions
    @OptionGroup var engine: EngineOptions

    func validate() throws {
        if record != nil, boundary == nil { throw ValidationError("--record needs --boundary=inputs or --boundary=devices") }
        if gdb != nil, until != nil { throw ValidationError("--gdb and --until exclude each other: a debugger can stop anywhere") }
        if record != nil, noRecord { throw ValidationError("--record and --no-record exclude each other") }
        if !devices.foreign.isEmpty, boundary != .devices {
            throw ValidationError("--device vfio-user:… needs --boundary=devices: what another process does is not inside")
        }
        if deviceThreads, boundary != .devices { throw ValidationError("--device-threads needs --boundary=devices") }
        if deviceClock == .host, boundary != .devices { throw ValidationError("--device-clock=host needs --boundary=devices") }
        if kernel == nil, disks.isEmpty, !firmware.bootsFromNetwork { throw ValidationError("there is nothing to boot: give --kernel, --disk, --cdrom, --floppy, or --boot n with --net") }
        if kernel == nil, initrd != nil || !append.isEmpty {
            throw ValidationError("--initrd and --append go with --kernel")
        }
        if monitoring.monitor?.place == .stdio, serial == .stdio {
            throw ValidationError("--monitor stdio takes the terminal: send the serial console elsewhere, as with --serial none")
        }
        if kernel != nil, firmware.isGiven { throw ValidationError("--kernel starts without firmware: no --bios, --vgabios or --boot") }
        if clockShift > 10 { throw ValidationError("--clock-shift is 0 to 10, not \(clockShift)") }
        if digestInterval < 1000 { throw ValidationError("--digest-interval is 1000 at least, not \(digestInterval)") }
        if memory.bytes < 16 << 20 || memory.bytes > 8 << 30 || memory.bytes % 4096 != 0 {
            throw ValidationError("--memory is 16M to 8G in whole pages, not \(memory.bytes) bytes")
        }
    }

    func run() throws {
        var configuration = PCConfiguration()
        configuration.memory = memory.bytes
        configuration.boundary = boundary == .devices ? .devices : .inputs
        configuration.clockShift = clockShift
        configuration.date = try date()
        configuration.commandLine = append
        configuration.entersIn32Bits = entry32
        configuration.endsAtReset = !reboot
        configuration.devices = devices.models
        let links = try foreignDevices()
        configuration.foreignDevices = links.map(\.settings)
        configuration.networkCards = network.cards
        configuration.usb = usb.settings
        if configuration.soundCardCount > 1 { throw UserError("a machine has one sound card: --device ac97, --device hda or --usb audio") }
        if sound.isGiven, configuration.soundCardCount == 0 { configuration.devices.append(.ac97) }
        var paths: [String: String] = [:]
        if let kernel {
            paths["kernel"] = kernel
            paths["initrd"] = initrd
        } else {
            paths = try firmware.paths(configuration.networkCards)
        }
        let setup = try MachineSetup(
            configuration: configuration, paths: paths, drives: try disks.images(), bootOrder: firmware.order)
        configuration = setup.configuration
        if boundary == .inputs, !noRecord { try checkDisks(setup) }
        let image = try setup.bootImage()
        let parsed = try script.map { path -> (Script, String) in
            guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
                throw UserError("--script \(path): there is no such text file")
            }
            return (try Script(text: text, name: path), path)
        }

        let live = LiveBoundary(pace: pace == .free && links.isEmpty && !deviceThreads ? .free : .realTime)
        for disk in setup.media { report(disk, to: live) }
        defer { for disk in setup.media { disk.finish() } }
        var door: any HostBoundary = live
        var plane: DevicePlane?
        defer { plane?.finish() }
        if configuration.boundary == .devices {
            let devices = DevicePlane(
                configuration: configuration, memoryMap: try MemoryMap(size: memory.bytes),
                clock: deviceClock == .host ? .host : .virtual, media: setup.media, links: links,
                threading: deviceThreads ? try threading(live) : nil, host: live)
            devices.shift = clockShift
            if engine.stats { devices.accessCounts = [:] }
            plane = devices
            door = devices
        }
        var recorder: RecordingBoundary?
        var file: String?
        if boundary != nil, !noRecord {
            let path = record ?? defaultName()
            let header = try setup.header(digestInterval: digestInterval)
            let boundary = RecordingBoundary(
                wrapping: door, writer: try LogWriter(path: path, header: header), header: header)
            recorder = boundary
            door = boundary
            file = path
            if record == nil { Message.say("recording to \(path)") }
        }
        let machine = try PCMachine(
            configuration: configuration, image: image,
            media: configuration.boundary == .inputs ? setup.media : [], door: door, engine: engine.engine)
        let connections = try NetworkConnections(network.net, live)
        let speaker = try SoundConnection(sound, live, hasWindow: display == .sdl)
        if let recorder, configuration.boundary == .devices { speaker.note(in: recorder) }
        if let recorder, configuration.boundary == .devices { connections.note(in: recorder) }
        if let recorder, let board = plane?.board {
            _ = board.tapUSB { [unowned recorder] in
                // What is in a disk's image is named, as DMA is.
                let reference = $0.reference
                let source = reference == nil ? USBSettings.captureSource : USBSettings.referenceSource
                recorder.note(frame: reference ?? $0.bytes, source: source, isOut: false, time: $1)
            }
        }
        engine.prepare(machine)
        plane?.insideMemory = recorder ?? machine as any InsideMemory
        recorder?.memory = machine
        let server = try gdb?.listen()
        if let gdb, let server {
            let verb = gdb.waits ? "waiting for gdb" : "gdb may come"
            Message.say("\(verb): target remote \(gdb.host.isEmpty ? "" : gdb.host):\(server.port)")
        }
        let looks = ScreenLooks(machine, live)
        let input = HostInput(live, configuration.usb)
        let runner = parsed.map {
            ScriptRunner(script: $0.0, name: $0.1, door: live, screen: looks, keyboard: input.keyboard)
        }
        let buses = try USBConnections(usb.usb, live, readsTerminal: script == nil)
        try connect(live, runner)
        runner?.start()
        connections.start()
        buses.start()

        let monitor = try MachineMonitor(
            monitoring, machine: machine, board: machine.board ?? plane?.board, disks: setup.drives, live: live, input: input,
            isRecorded: recorder != nil)

        let refresher = try display.open(input, quit: { live.requestQuit() }).map {
            DisplayRefresher($0, vga: machine.vga, live: live)
        }
        monitor.whileStopped = { refresher?.refreshIfDue() }

        let started = ContinuousClock.now
        let outcome: PCMachine.Outcome
        if let gdb, let server {
            let run = LiveRun(machine: machine, door: live, recorder: recorder)
            monitor.isDebugged = true
            run.serve = {
                monitor.serve()
                refresher?.refreshIfDue()
                looks.serve()
            }
            server.whileWaiting = run.serve
            try LiveDebugger(run: run, door: live, server: server).drive(holds: gdb.waits) {
                gdbTarget.session(.live(run), machine, nil)
            }
            outcome = try machine.run(until: 0)
        } else {
            outcome = try drive(machine, recorder, monitor, refresher, looks)
        }
        monitor.finish()
        try connections.finish()
        try speaker.finish()
        let elapsed = ContinuousClock.now - started
        Terminal.restore()
        engine.report(machine, seconds: elapsed.seconds)
        for (name, count) in (plane?.accessCounts ?? [:]).sorted(by: { $0.key < $1.key }) { Message.say("accesses to \(name): \(count)") }
        let rate = Double(machine.cpu.position) / elapsed.seconds / 1e6
        Message.say(
            "\(Message.describe(outcome)) after \(machine.cpu.position) instructions, "
                + "\(Message.seconds(machine.moment.time)) virtual, \(Message.decimal(elapsed.seconds)) s host "
                + "(\(Message.decimal(rate)) million instructions a second)")
        if let file { Message.say("recorded to \(file): \(Message.fileSize(file)) bytes") }
        if let screenshot { try Screenshot.save(machine.vga, output: screenshot, text: false) }
        if let failure = runner?.failure { throw UserError(failure) }
        if case .ended(.shutdown, _) = outcome { throw ExitCode(3) }
        if case .ended(.poweredOff, let code?) = outcome {
            // As QEMU's isa-debug-exit: never 0.
            throw ExitCode(Int32(truncatingIfNeeded: code << 1 | 1))
        }
    }

    /// A replay starts with the images as they are named in the header.
    private func checkDisks(_ setup: MachineSetup) throws {
        if setup.media.contains(where: { $0.isWritten && !$0.isLogged }) {
            throw UserError(
                "--writable and a recording at the inputs exclude each other: a replay needs the image as it was; use --overlay, or log=data")
        }
        if setup.media.contains(where: \.hasChanges) {
            throw UserError("--overlay: a recording at the inputs starts with an empty overlay; this one has changes in it")
        }
    }

    /// Failures of the host's files reach the user, and the guest as errors of the drive.
    private func report(_ disk: DiskImage, to live: LiveBoundary) {
        let number = disk.number
        if disk.isLogged { live.register(disk: number) { [reader = LiveDisk(disk)] in reader.image.readSource($0, $1) } }
        disk.onFailure = { text in
            Message.say("disk \(number): \(text)")
            live.push(source: Channel.disk.rawValue, bytes: [number])
        }
    }

    private func drive(
        _ machine: PCMachine, _ recorder: RecordingBoundary?, _ monitor: MachineMonitor, _ refresher: DisplayRefresher?,
        _ looks: ScreenLooks
    ) throws -> PCMachine.Outcome {
        while true {
            monitor.serve()
            looks.serve()
            refresher?.refreshIfDue()
            if let failure = recorder?.failure { throw failure }
            let next = min(until ?? .max, machine.cpu.position + 100_000_000)
            let outcome = try machine.run(until: next)
            if case .positionReached = outcome {
                if machine.cpu.position >= until ?? .max { return try machine.end(.positionReached) }
                continue
            }
            if let failure = recorder?.failure { throw failure }
            return outcome
        }
    }

    private func connect(_ live: LiveBoundary, _ runner: ScriptRunner?) throws {
        if let debugcon {
            live.register(
                source: Channel.debugConsole.rawValue, name: Channel.debugConsole.name,
                sink: TeeSink(try FileBackend(path: debugcon, option: "--debugcon "), nil))
        }
        HostConnections.connectCommon(live)
        if devices.serial2 != .none {
            let second = try devices.serial2.backend("--serial2", readsTerminal: script == nil, quit: { live.requestQuit() })
            HostConnections.connect(live, .serial1, second)
        }
        if let parallel = devices.parallel { HostConnections.connect(live, .parallel0, try FileBackend(path: parallel, option: "--parallel ")) }
        if devices.models.contains(.virtioConsole) {
            let console = try devices.virtioConsole.backend("--virtio-console", readsTerminal: script == nil, quit: { live.requestQuit() })
            HostConnections.connect(live, .virtioConsole, console)
        }
        let backend = try serial.backend(readsTerminal: script == nil, quit: { live.requestQuit() })
        live.register(source: Channel.serial0.rawValue, name: "serial0", sink: TeeSink(backend, runner))
        HostConnections.start(live, .serial0, backend)
    }

    /// Connects to the devices in other processes.
    private func foreignDevices() throws -> [VFIOUserClient] {
        let ranges = try MemoryMap(size: memory.bytes).ranges
        return try devices.foreign.map { path in
            do {
                return try VFIOUserClient(try VFIOUserSocket.connect(path), ranges: ranges) {
                    Message.say("--device vfio-user:\(path): \($0)")
                }
            } catch { throw UserError("--device vfio-user:\(path): \(error)") }
        }
    }

    /// What devices on threads of their own need.
    private func threading(_ live: LiveBoundary) throws -> DeviceThreading {
        DeviceThreading(
            memoryMap: try MemoryMap(size: memory.bytes),
            ask: { channel, question in
                let nowhere = Moment(position: 0, time: 0)
                return (try? live.ask(.host(source: channel, question: question), at: nowhere)) ?? 0
            },
            report: { Message.say($0) })
    }

    private func date() throws -> UInt64 {
        let now = Date().timeIntervalSince1970
        switch rtc {
        case "utc": return UInt64(max(now, 0))
        case "localtime": return UInt64(max(now + Double(TimeZone.current.secondsFromGMT()), 0))
        default:
            if let seconds = UInt64(rtc), seconds < 1 << 40 { return seconds }
            let format = DateFormatter()
            format.locale = Locale(identifier: "en_US_POSIX")
            format.timeZone = TimeZone(identifier: "UTC")
            format.dateFormat = rtc.contains("T") ? "yyyy-MM-dd'T'HH:mm:ss" : "yyyy-MM-dd"
            guard let date = format.date(from: rtc), date.timeIntervalSince1970 >= 0 else {
                throw ValidationError("--rtc is utc, localtime, seconds since 1970 or a date as 2026-01-31T12:00:00, not “\(rtc)”")
            }
            return UInt64(date.timeIntervalSince1970)
        }
    }

    /// A name that is not taken yet.
    private func defaultName() -> String {
        for number in 1... {
            let name = "emu-\(number).emurec"
            if !FileManager.default.fileExists(atPath: name) { return name }
        }
        return "emu.emurec"
    }
}

/// A disk that is read on the machine's thread only, as all of them are.
private struct LiveDisk: @unchecked Sendable {
    let image: DiskImage
    init(_ image: DiskImage) { self.image = image }
}

/// Serial output to its backend, and to the script that listens.
final class TeeSink: HostSink {
    private let backend: any SerialBackend
    private let runner: ScriptRunner?
    init(_ backend: any SerialBackend, _ runner: ScriptRunner?) {
        self.backend = backend
        self.runner = runner
    }
    func send(_ bytes: [UInt8]) {
        backend.send(bytes)
        runner?.heard(bytes)
    }
    func ask(_ question: UInt32) -> UInt64 { 0 }
}
