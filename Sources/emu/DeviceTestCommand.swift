import ArgumentParser
import Boundary
import Machine
import Replay
import Trace

/// `emu device-test`: this version's devices against the recorded ones.
struct DeviceTestCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "device-test", abstract: "Feed a recording's CPU side to fresh devices, and compare what they do with what was recorded.",
        discussion: """
            For recordings of --boundary=devices (emu convert makes one) with devices on the virtual clock. What came from the
            host, such as keys and console input, is not in such a recording (but frames are): where it mattered, devices depart. Exits with 1 if any does.
            """)

    @Argument(help: "The recording.")
    var file: String
    @Option(help: ArgumentHelp("Only this device, by its name in the trace, or “interrupts”, “DMA” or “clock”; as often as wanted.", valueName: "name"))
    var device: [String] = []
    @Option(help: "The most departures to show.")
    var show = 20
    @OptionGroup var images: ImageOptions

    func run() throws {
        let trace = try TraceReader(path: file)
        if let names = trace.reader.header.setting(ReplaySession.partSetting) {
            throw UserError("\(file): has only what \(names) and its driver say to each other: the devices' other input is missing")
        }
        let setup = try MachineSetup(header: trace.reader.header, recording: file, replacements: images.replacements)
        let names = trace.map.deviceNames + ["interrupts", "DMA", "clock"]
        for name in device where !names.contains(name) {
            throw UserError("--device \(name): there is no such device; there are \(names.sorted().joined(separator: ", "))")
        }
        let test = try DeviceTest(trace, configuration: setup.configuration, media: setup.media)
        try test.run()
        func isMeant(_ name: String) -> Bool { device.isEmpty || device.contains(name) }
        let all = Set(test.compared.keys).union(test.counts.keys).filter(isMeant).sorted()
        for name in all { print("\(name): \(test.compared[name] ?? 0) compared, \(test.counts[name] ?? 0) depart") }
        let shown = test.departures.filter { isMeant($0.device) }
        for departure in shown.prefix(max(show, 0)) {
            print("event \(departure.event), position \(departure.position): \(departure.device): \(departure.text)")
        }
        if all.contains(where: { test.counts[$0] ?? 0 > 0 }) { throw ExitCode(1) }
    }
}
