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
            After each there may be a condition, as in C, on registers and memory:
              exec ADDRESS if rax == 0x10 && *(u32 *)(rsi + 8) > 5
            """)

    @Argument(help: "The recording.")
    var file: String
    @Option(name: .customLong("expr"), help: ArgumentHelp("What to look for.", valueName: "expression"))
    var expression: String?
    @Option(help: ArgumentHelp("What the console shows.", valueName: "text"))
    var text: String?
    @Option(help: ArgumentHelp("From this position on.", valueName: "position"))
    var from: UInt64 = 0
    @Option(help: ArgumentHelp("Before this position.", valueName: "position"))
    var to: UInt64?
    @Option(help: ArgumentHelp("At most so many.", valueName: "n"))
    var count: Int?
    @Flag(help: "From the end backwards: the last one first.")
    var last = false
    @Flag(help: "One JSON object a line.")
    var json = false
    @Option(help: ArgumentHelp("Show these registers too, with commas between them.", valueName: "names"))
    var registers: String?
    @Option(help: ArgumentHelp("Search in so many processes at once. Each wants an index (“emu index”).", valueName: "n"))
    var jobs = 1
    @OptionGroup var travel: TravelOptions
    @OptionGroup var images: ImageOptions
    @OptionGroup var engine: EngineOptions

    func validate() throws {
        if (expression == nil) == (text == nil) { throw ValidationError("give one of --expr and --text") }
        if let to, to < from { throw ValidationError("--to \(to) is before --from \(from)") }
        if jobs < 1 || jobs > 64 { throw ValidationError("--jobs is 1 to 64, not \(jobs)") }
        if jobs > 1, last || text != nil { throw ValidationError("--jobs goes with --expr, and not with --last") }
    }

    func run() throws {
        let query: StopQuery?
        do { query = try expression.map { try StopQuery($0) } } catch { throw UserError("--expr: \(error)") }
        let session = try ReplaySession(file: file, replacements: images.replacements, engine: engine.engine)
        let scope = session.machine.conditionScope
        do { try query?.check(scope) } catch { throw UserError("--expr: \(error)") }
        let names = (registers ?? "").split(separator: ",").map(String.init)
        for name in names where scope.register(name) == nil { throw UserError("--registers: there is no register “\(name)”") }
        if jobs > 1 { return try ParallelQuery(command: self, session: session).run() }
        let timeline = try DebugServer(session, travel).timeline
        _ = try timeline.seek(to: last ? to.map { Place($0) } ?? .never : Place(from))
        var left = count ?? .max
        var isFirst = true
        func accept(_ stop: TravelStop) -> Bool { query?.accepts(stop, scope) ?? true }
        while left > 0 {
            let stop: TimelineStop
            if let query {
                // The place at the start counts.
                stop =
                    last
                    ? try timeline.runBackward(conditions: query.conditions, accept: accept)
                    : try timeline.runForward(
                        to: to.map { Place($0) } ?? .never, conditions: query.conditions, stopsAtStart: isFirst,
                        accept: accept)
            } else {
                let bytes = Array((text ?? "").utf8)
                stop = last ? try timeline.runBackward(toText: bytes) : try timeline.runForward(toText: bytes)
            }
            isFirst = false
            switch stop {
            case .start, .end, .interrupted: return
            case .reached where query != nil: return
            default: break
            }
            let place = timeline.place
            if place.position < from || place.position > to ?? .max { return }
            show(stop, timeline, names.map { ($0, scope.register($0) ?? 0) })
            left -= 1
        }
    }

    private func show(_ stop: TimelineStop, _ timeline: Timeline, _ registers: [(String, UInt64)]) {
        func hex(_ value: UInt64) -> String { "0x" + String(value, radix: 16) }
        let machine = timeline.machine
        let what = expression == nil ? "console “\(text ?? "")”" : stop.text
        if !json {
            let values = registers.map { " \($0)=\(hex($1))" }.joined()
            print("\(machine.place) \(machine.virtualTime) pc=\(hex(machine.programCounter))\(values) \(what)")
            return
        }
        var fields = [
            "\"position\":\(machine.place.position)", "\"phase\":\(machine.place.phase)",
            "\"time\":\(machine.virtualTime)", "\"pc\":\"\(hex(machine.programCounter))\"",
        ]
        switch stop {
        case .breakpoint(let address): fields.append("\"what\":\"exec\",\"address\":\"\(hex(address))\"")
        case .watch(let range, let address, let by, let pc, let dma):
            fields.append("\"what\":\"\(range.kind)\",\"address\":\"\(hex(address))\",\"by\":\"\(by)\"")
            fields.append(dma.map { "\"dma\":\"\($0)\"" } ?? "\"writer\":\"\(hex(pc))\"")
        case .delivered(let vector): fields.append("\"what\":\"vector\",\"vector\":\(vector)")
        case .device(let access):
            fields.append("\"what\":\"\(access.isPort ? "port" : "mmio")-\(access.isWrite ? "write" : "read")\"")
            fields.append("\"address\":\"\(hex(access.address))\",\"width\":\(access.width)")
            fields.append("\"value\":\"\(hex(access.value))\",\"by\":\"\(access.by)\"")
        default: fields.append("\"what\":\"text\"")
        }
        if !registers.isEmpty {
            fields.append("\"registers\":{" + registers.map { "\"\($0)\":\"\(hex($1))\"" }.joined(separator: ",") + "}")
        }
        print("{\(fields.joined(separator: ","))}")
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
