import ArgumentParser
import Boundary
import Foundation
import MachineState
import Replay

/// `emu query`: where in a recording something happens.
struct QueryCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "query", abstract: "Say where in a recording something happens, one line each: position, time, PC, what.",
        discussion: """
            An expression has alternatives with commas between them:
              exec ADDRESS            an instruction at this linear address is next
              write ADDRESS[:LENGTH]  memory at these linear addresses is written; also read, access
              vector NUMBER           an interrupt or exception with this vector is delivered
              interrupt, exception    vectors 32 to 255, vectors 0 to 31
              port NUMBER[:LENGTH]    a port is read or written
              mmio ADDRESS[:LENGTH]   a device is read or written at these physical addresses
            """)

    @Argument(help: "The recording.")
    var file: String
    @Option(name: .customLong("expr"), help: ArgumentHelp("What to look for.", valueName: "expression"))
    var expression: String?
    @Option(help: ArgumentHelp("What the console shows.", valueName: "text"))
    var text: String?
    @Option(help: ArgumentHelp("From this position on.", valueName: "position"))
    var from: UInt64 = 0
    @Option(help: ArgumentHelp("Up to this position.", valueName: "position"))
    var to: UInt64?
    @Option(help: ArgumentHelp("At most so many.", valueName: "n"))
    var count: Int?
    @Flag(help: "From the end backwards: the last one first.")
    var last = false
    @OptionGroup var travel: TravelOptions
    @OptionGroup var images: ImageOptions
    @OptionGroup var engine: EngineOptions

    func validate() throws {
        if (expression == nil) == (text == nil) { throw ValidationError("give one of --expr and --text") }
    }

    func run() throws {
        let conditions: StopConditions?
        do { conditions = try expression.map { try StopExpression.parse($0) } } catch { throw UserError("--expr: \(error)") }
        let session = try ReplaySession(file: file, replacements: images.replacements, engine: engine.engine)
        let timeline = try DebugServer(session, travel).timeline
        _ = try timeline.seek(to: last ? to.map { Place($0) } ?? .never : Place(from))
        var left = count ?? .max
        // The place at the start counts.
        while left > 0 {
            let stop: TimelineStop
            if let conditions {
                stop =
                    last
                    ? try timeline.runBackward(conditions: conditions)
                    : try timeline.runForward(to: to.map { Place($0) } ?? .never, conditions: conditions)
            } else {
                let bytes = Array((text ?? "").utf8)
                stop = last ? try timeline.runBackward(toText: bytes) : try timeline.runForward(toText: bytes)
            }
            switch stop {
            case .start, .end, .interrupted: return
            case .reached where conditions != nil: return
            default: break
            }
            let place = timeline.place
            if place.position < from || place.position > to ?? .max { return }
            let what = conditions == nil ? "console “\(text ?? "")”" : stop.text
            print("\(place) \(timeline.machine.virtualTime) pc=0x\(String(timeline.machine.programCounter, radix: 16)) \(what)")
            left -= 1
        }
    }
}

/// `emu who-wrote`: the last instruction that wrote somewhere.
struct WhoWroteCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "who-wrote", abstract: "Say which instruction wrote memory last.")

    @Argument(help: "The recording.")
    var file: String
    @Argument(help: "ADDRESS or ADDRESS:LENGTH, linear.")
    var address: String
    @Option(help: ArgumentHelp("Before this position; else before the end.", valueName: "position"))
    var before: UInt64?
    @OptionGroup var travel: TravelOptions
    @OptionGroup var images: ImageOptions
    @OptionGroup var engine: EngineOptions

    func run() throws {
        let conditions: StopConditions
        do { conditions = try StopExpression.parse("write \(address)") } catch { throw UserError("\(error)") }
        let session = try ReplaySession(file: file, replacements: images.replacements, engine: engine.engine)
        let timeline = try DebugServer(session, travel).timeline
        _ = try timeline.seek(to: before.map { Place($0) } ?? .never)
        let stop = try timeline.runBackward(conditions: conditions)
        guard case .watch = stop else { throw UserError("nothing has written there") }
        print(stop.text)
    }
}
