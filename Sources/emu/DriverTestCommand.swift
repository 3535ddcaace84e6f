import ArgumentParser
import Boundary
import Foundation
import Machine
import MachineState
import Replay
import Trace

/// `emu driver-test`: a driver against a recorded device.
struct DriverTestCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "driver-test", abstract: "Run a kernel, the recorded one or a changed one, against the recorded side of one device.",
        discussion: """
            The machine of a recording of --boundary=devices runs again, live, but one of its PCI devices does what it did in
            the recording, as the driver comes to the same places. Says where the driver departs, and goes on while it can. Rounds of
            polling, times and addresses of buffers may differ. Exits with 1 if the driver departs.
            """)

    @Argument(help: "The recording.")
    var file: String
    @Option(help: ArgumentHelp("The device, by its name in the trace.", valueName: "name"))
    var device: String
    @Option(help: ArgumentHelp("Run this kernel instead.", valueName: "file"))
    var withKernel: String?
    @Option(help: ArgumentHelp("Use this initial RAM disk instead: with a changed module, for one.", valueName: "file"))
    var withInitrd: String?
    @Option(help: ArgumentHelp("The kernel's command line instead.", valueName: "text"))
    var withAppend: String?
    @Option(help: ArgumentHelp("Stop at this position; without it the run may take twice as long as the recording.", valueName: "position"))
    var until: UInt64?
    @Flag(help: "Show the serial console.")
    var console = false
    @Option(help: "The most departures to show.")
    var show = 20
    @OptionGroup var symbols: SymbolOptions
    @OptionGroup var images: ImageOptions
    @OptionGroup var engine: EngineOptions

    func run() throws {
        let table = try symbols.table()
        let trace = try TraceReader(path: file, symbols: table)
        let header = trace.reader.header
        guard trace.map.deviceNames.contains(device) else {
            throw UserError("--device \(device): there is no such device; there are \(trace.map.deviceNames.sorted().joined(separator: ", "))")
        }
        guard trace.map.canBeReplaced(device) else {
            throw UserError("--device \(device): only the IDE controller and PCI devices with a slot of their own can be taken out")
        }
        if header.image(MachineSetup.snapshotRole) != nil { throw UserError("\(file): does not begin at power-on") }
        var setup = try MachineSetup(header: header, recording: file, replacements: images.replacements)
        if let withKernel { try setup.replace("kernel", withKernel) }
        if let withInitrd { try setup.replace("initrd", withInitrd) }
        if let withAppend { setup.configuration.commandLine = withAppend }

        let recorded = try RecordedDevice(trace, device: device)
        let media = setup.media
        let link = RecordedDeviceLink(recorded) { origin, buffer in
            guard let disk = media.first(where: { $0.number == origin.image }) else { return false }
            disk.readFile(origin.offset, buffer)
            return true
        }
        let live = LiveBoundary(pace: .free)
        HostConnections.connectCommon(live)
        if console { live.register(source: Channel.serial0.rawValue, name: "serial0", sink: StandardOutput()) }
        let plane = DevicePlane(
            configuration: setup.configuration, memoryMap: try MemoryMap(size: setup.configuration.memory), clock: .virtual,
            media: media, substitutes: [device: link], host: live)
        plane.shift = setup.configuration.clockShift
        link.moment = { [unowned plane] in plane.now }
        let machine = try PCMachine(configuration: setup.configuration, image: try setup.bootImage(), door: plane, engine: engine.engine)
        plane.insideMemory = machine
        let chunks = trace.reader.chunks
        let end = try chunks.isEmpty ? 0 : trace.reader.events(inChunk: chunks.count - 1).last?.position ?? 0
        let limit = until ?? end &* 2 &+ 1_000_000_000
        var outcome = PCMachine.Outcome.positionReached
        while case .positionReached = outcome, machine.cpu.position < limit {
            outcome = try machine.run(until: min(limit, machine.cpu.position + 100_000_000))
        }
        for disk in media { disk.finish() }
        tell(link, table, outcome, machine)
        if link.departureCount > 0 { throw ExitCode(1) }
    }

    private func tell(_ link: RecordedDeviceLink, _ table: SymbolTable, _ outcome: PCMachine.Outcome, _ machine: PCMachine) {
        print("\(Message.describe(outcome)) at position \(machine.cpu.position)")
        print("\(device): \(link.agreeing) accesses agree, \(link.departureCount) departures, \(link.remaining + link.leftOut) recorded accesses not made")
        for (number, departure) in link.departures.prefix(max(show, 0)).enumerated() {
            let place = departure.event.map { "event \($0), position \(departure.recorded ?? 0)" } ?? "the end"
            let pc = departure.moment.pc
            let symbol = table.name(pc).map { " \($0)" } ?? ""
            let code = pc == 0 ? "" : " pc=0x\(String(pc, radix: 16))\(symbol)"
            print("\(number == 0 ? "the first: " : "  ")now position \(departure.moment.position)\(code): \(departure.text) (\(place))")
        }
        if link.departureCount > show { print("  … \(link.departureCount - show) more") }
    }
}

/// The guest's console, as it comes.
private final class StandardOutput: HostSink {
    func send(_ bytes: [UInt8]) { try? FileHandle.standardOutput.write(contentsOf: Data(bytes)) }
    func ask(_ question: UInt32) -> UInt64 { 0 }
}
