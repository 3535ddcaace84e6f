import ArgumentParser
import Boundary
import Foundation
import MachineState
import Replay

/// `emu bench`: how long travelling takes. Prints one line a measurement: name, then milliseconds of the host's clock, then
/// those of the processor, which say more while others use the host too.
struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench", abstract: "Measure travelling on a recording: seeks, steps back, running back.", shouldDisplay: false)

    @Argument(help: "The recording.")
    var file: String
    @Option(help: "How many of each.")
    var count = 100
    @OptionGroup var travel: TravelOptions
    @OptionGroup var images: ImageOptions
    @OptionGroup var engine: EngineOptions

    func run() throws {
        let session = try ReplaySession(file: file, replacements: images.replacements, engine: engine.engine)
        let clock = ContinuousClock()
        func measure(_ body: () throws -> Void) rethrows -> Time {
            let before = Self.processorTime
            let wall = try clock.measure { try body() }.seconds * 1000
            return Time(wall: wall, processor: (Self.processorTime - before) * 1000)
        }
        func report(_ name: String, _ times: [Time]) {
            func line(_ values: [Double]) -> String {
                let sorted = values.sorted()
                func part(_ share: Double) -> String {
                    sorted.isEmpty ? "-" : String(format: "%.2f", sorted[min(Int(Double(sorted.count) * share), sorted.count - 1)])
                }
                return "median \(part(0.5)) ms, 99 % \(part(0.99)) ms, most \(part(1)) ms"
            }
            say("\(name): \(line(times.map(\.wall))) (\(times.count) times); processor: \(line(times.map(\.processor)))")
        }
        var timeline: Timeline?
        let opening = try measure { timeline = try DebugServer(session, travel).timeline }
        guard let timeline else { return }
        report("open", [opening])
        report("from there to the end", [try measure { _ = try timeline.seek(to: .never) }])
        let end = timeline.place.position
        say(
            "recording: \(end) instructions, \(timeline.machine.virtualTime / 1_000_000_000) s virtual, "
                + "\(timeline.checkpointCount) checkpoints, \(timeline.checkpointBytes >> 20) MiB")
        var generator = SplitMix(state: 42)
        let seeks = try (0..<count).map { _ in
            let goal = generator.next() % end
            return (goal, try measure { _ = try timeline.seek(to: Place(goal)) })
        }
        report("seek", seeks.map(\.1))
        if let slowest = seeks.max(by: { $0.1.processor < $1.1.processor }) { say("the slowest to position \(slowest.0)") }
        var first: [Time] = []
        var row: [Time] = []
        for _ in 0..<count {
            _ = try timeline.seek(to: Place(generator.next() % end))
            first.append(try measure { _ = try timeline.stepBackward() })
            for _ in 0..<20 { row.append(try measure { _ = try timeline.stepBackward() }) }
        }
        report("reverse-stepi after a seek", first)
        report("reverse-stepi, 20 in a row", row)
        // The whole recording backwards, with conditions that nothing meets.
        func back(_ name: String, _ change: (inout StopConditions) -> Void) throws {
            var conditions = StopConditions()
            change(&conditions)
            _ = try timeline.seek(to: .never)
            report("\(name) that nothing hits, over everything", [try measure { _ = try timeline.runBackward(conditions: conditions) }])
        }
        try back("breakpoint") { $0.breakpoints = [0x1234_5678_9ABC] }
        try back("watch") { $0.watches = [WatchRange(start: 0x1234_5678_9000, length: 8, kind: .write)] }
        try back("rwatch") { $0.watches = [WatchRange(start: 0x1234_5678_9000, length: 8, kind: .read)] }
        try back("port") { $0.devices = [DeviceRange(isPort: true, start: 0x1234, length: 1)] }
        try lastWriters(timeline, end, &generator)
        say("now \(timeline.checkpointCount) checkpoints, \(timeline.checkpointBytes >> 20) MiB; \(memory)")
    }

    /// From the end back to the last writers of memory that Linux (without address randomisation) sees at its direct map.
    private func lastWriters(_ timeline: Timeline, _ end: Position, _ generator: inout SplitMix) throws {
        var lines: [(distance: Position, seconds: Double, processor: Double)] = []
        let clock = ContinuousClock()
        for _ in 0..<count {
            let physical = generator.next() % UInt64(timeline.machine.pageCount) * 4096 + 8 * (generator.next() % 512)
            var conditions = StopConditions()
            conditions.watches = [WatchRange(start: 0xFFFF_8880_0000_0000 + physical, length: 8, kind: .write)]
            _ = try timeline.seek(to: .never)
            var stop = TimelineStop.start
            let before = Self.processorTime
            let time = try clock.measure { stop = try timeline.runBackward(conditions: conditions) }
            if case .watch = stop {
                lines.append((end - timeline.place.position, time.seconds, Self.processorTime - before))
            }
        }
        let far = lines.filter { $0.distance > 500_000_000 }
        for line in far.sorted(by: { $0.distance < $1.distance }).prefix(12) {
            say(String(format: "reverse-continue to a watch %.2f * 10^9 instructions back: %.0f ms; processor: %.0f ms",
                Double(line.distance) / 1e9, line.seconds * 1000, line.processor * 1000))
        }
        // About one billion instructions back, as the goal has it.
        let near = far.filter { $0.distance < 1_500_000_000 }
        if !near.isEmpty {
            say(String(format: "of these, up to 1.5 * 10^9 back: %d, at most %.0f ms; processor: %.0f ms", near.count,
                (near.map(\.seconds).max() ?? 0) * 1000, (near.map(\.processor).max() ?? 0) * 1000))
        }
        if far.isEmpty { say("no last writer far enough back was found") }
    }

    private struct Time {
        var wall: Double
        var processor: Double
    }
    /// Seconds that the program's threads have used.
    private static var processorTime: Double {
        var time = timespec()
        return clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) == 0 ? Double(time.tv_sec) + Double(time.tv_nsec) / 1e9 : 0
    }

    /// At once, also into a file.
    private func say(_ line: String) { FileHandle.standardOutput.write(Data((line + "\n").utf8)) }

    private var memory: String {
        let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
        return status.split(separator: "\n").filter { $0.hasPrefix("VmHWM") || $0.hasPrefix("VmRSS") }
            .map { $0.split(separator: "\t").joined(separator: " ") }.joined(separator: ", ")
    }
}
