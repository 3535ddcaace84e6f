import ArgumentParser
import Boundary
import Foundation
import MachineState
import Replay

/// `emu bench`: how long travelling takes. Prints one line a measurement: name, then milliseconds.
struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench", abstract: "Measure travelling on a recording: seeks, steps back, running back.", shouldDisplay: false)

    @Argument(help: "The recording.")
    var file: String
    @Option(help: "How many of each.")
    var count = 30
    @OptionGroup var travel: TravelOptions
    @OptionGroup var images: ImageOptions
    @OptionGroup var engine: EngineOptions

    func run() throws {
        let session = try ReplaySession(file: file, replacements: images.replacements, engine: engine.engine)
        let clock = ContinuousClock()
        func measure(_ body: () throws -> Void) rethrows -> Double {
            try clock.measure { try body() }.seconds * 1000
        }
        func report(_ name: String, _ times: [Double]) {
            let sorted = times.sorted()
            func part(_ share: Double) -> String { String(format: "%.3f", sorted[min(Int(Double(sorted.count) * share), sorted.count - 1)]) }
            print("\(name): median \(part(0.5)) ms, 90 % \(part(0.9)) ms, most \(part(1)) ms (\(times.count) times)")
        }
        var timeline: Timeline?
        let opening = try measure { timeline = try DebugServer(session, travel).timeline }
        guard let timeline else { return }
        report("open", [opening])
        report("first replay to the end", [try measure { _ = try timeline.seek(to: .never) }])
        let end = timeline.place.position
        print("recording: \(end) instructions, \(timeline.checkpointCount) checkpoints, \(timeline.checkpointBytes >> 20) MiB")
        var generator = SplitMix(state: 42)
        report("seek", try (0..<count).map { _ in
            let goal = Place(generator.next() % end)
            return try measure { _ = try timeline.seek(to: goal) }
        })
        var first: [Double] = []
        var row: [Double] = []
        for _ in 0..<count {
            _ = try timeline.seek(to: Place(generator.next() % end))
            first.append(try measure { _ = try timeline.stepBackward() })
            for _ in 0..<20 { row.append(try measure { _ = try timeline.stepBackward() }) }
        }
        report("reverse-stepi after a seek", first)
        report("reverse-stepi, 20 in a row", row)
        // The whole recording backwards, with a breakpoint and a watch that nothing hits.
        var conditions = StopConditions()
        conditions.breakpoints = [0x1234_5678_9ABC]
        _ = try timeline.seek(to: .never)
        report("reverse-continue over \(end) instructions, breakpoint", [try measure { _ = try timeline.runBackward(conditions: conditions) }])
        conditions = StopConditions()
        conditions.watches = [WatchRange(start: 0x1234_5678_9000, length: 8, kind: .write)]
        _ = try timeline.seek(to: .never)
        report("reverse-continue over \(end) instructions, watch", [try measure { _ = try timeline.runBackward(conditions: conditions) }])
        // A breakpoint at an instruction that is executed often: the last execution is near.
        _ = try timeline.seek(to: Place(end / 2))
        conditions = StopConditions()
        conditions.breakpoints = [timeline.machine.programCounter]
        _ = try timeline.seek(to: .never)
        report("reverse-continue to a hit", [try measure { _ = try timeline.runBackward(conditions: conditions) }])
        print("now \(timeline.checkpointCount) checkpoints, \(timeline.checkpointBytes >> 20) MiB")
    }
}

/// Numbers that are the same in every run.
private struct SplitMix {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var x = state
        x = (x ^ (x >> 30)) &* 0xBF58_476D_1CE4_E5B9
        x = (x ^ (x >> 27)) &* 0x94D0_49BB_1331_11EB
        return x ^ (x >> 31)
    }
}
