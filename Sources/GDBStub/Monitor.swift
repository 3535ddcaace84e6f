import Boundary
import MachineState
import Replay

/// The commands behind gdb's `monitor`.
package final class Monitor {
    private let describeEvent: (UInt64, LogEvent) -> String
    private let saveScreen: (String) throws -> String

    /// - Parameters:
    ///   - describeEvent: an event and its number as a line of text.
    ///   - saveScreen: writes what the screen shows to a file; gives a sentence about it.
    package init(
        describeEvent: @escaping (UInt64, LogEvent) -> String,
        saveScreen: @escaping (String) throws -> String = { _ in "there is no screen here" }
    ) {
        self.describeEvent = describeEvent
        self.saveScreen = saveScreen
    }

    static let help = """
        when                      where the cursor is
        registers [all]           the processor's registers; all: everything that it remembers
        devices [NAME]            the devices inside, or one's state
        screenshot FILE.png       what the screen shows
        On a recording:
        seek POSITION             go to a position; also seek time NANOSECONDS, seek event NUMBER
        goto start|end            go to the recording's start or end
        checkpoint                how many checkpoints there are, and how much memory they take
        events [COUNT]            the next events of the log
        who-wrote ADDRESS[:LENGTH]   go back to the instruction that wrote there last
        next WHAT                 go on to where something happens: exec A, write A:N, read A:N, access A:N, vector N,
                                  interrupt, exception, port N, mmio A:N; commas between alternatives; if CONDITION
        previous WHAT             the same, back
        find TEXT, rfind TEXT     go on, or back, to where the console has shown a text
        golive [FILE]             from here on the run is a new one, with changes made here; FILE: record it all
        After what moves, gdb must look again: maintenance flush register-cache. “emu debug” sees to that.

        """

    /// Runs a command line; gives what is to be shown.
    func run(_ line: String, _ session: GDBSession) -> String {
        let words = line.split(separator: " ").map(String.init)
        do {
            switch words.first {
            case nil, "help"?: return Self.help
            case "when"?: return when(session)
            case "registers"?: return registers(words, session)
            case "devices"?:
                guard words.count > 1 else { return session.target.partNames.joined(separator: "\n") + "\n" }
                let fields = session.target.describeState(words[1] + ".")
                if fields.isEmpty { return "there is no device \(words[1]) inside; “devices” lists them\n" }
                return fields.map { "\($0.name) \($0.value)\n" }.joined()
            case "screenshot"?:
                let path = words.dropFirst().joined(separator: " ")
                if path.isEmpty { return "screenshot FILE.png\n" }
                return try saveScreen(path) + "\n"
            default: break
            }
            switch session.ground {
            case .recording(let timeline): return try travel(words, timeline, session)
            case .live: return "\(words[0]): not on a live run; “help” lists what there is\n"
            }
        } catch { return "\(error)\n" }
    }

    /// What only a recording can do.
    private func travel(_ words: [String], _ timeline: Timeline, _ session: GDBSession) throws -> String {
        switch words[0] {
        case "seek": return try seek(words, timeline, session)
        case "goto":
            switch words.dropFirst().first {
            case "start"?: _ = try timeline.seek(to: timeline.startPlace)
            case "end"?: _ = try timeline.seek(to: .never, poll: session.wantsInterrupt)
            default: return "goto start or goto end\n"
            }
            return when(session)
        case "checkpoint", "checkpoints":
            return "\(timeline.checkpointCount) checkpoints, \(timeline.checkpointBytes >> 20) MiB\n"
        case "events": return try events(words, timeline)
        case "who-wrote": return try whoWrote(words, timeline, session)
        case "next", "previous":
            let query = try StopQuery(words.dropFirst().joined(separator: " "))
            let scope = session.target.conditionScope
            try query.check(scope)
            func accept(_ stop: TravelStop) -> Bool { query.accepts(stop, scope) }
            let stop =
                words[0] == "next"
                ? try timeline.runForward(conditions: query.conditions, accept: accept, poll: session.wantsInterrupt)
                : try timeline.runBackward(conditions: query.conditions, accept: accept, poll: session.wantsInterrupt)
            return stop.text + "\n" + when(session)
        case "find", "rfind":
            let text = Array(words.dropFirst().joined(separator: " ").utf8)
            if text.isEmpty { return "find TEXT, rfind TEXT\n" }
            let stop =
                words[0] == "find"
                ? try timeline.runForward(toText: text, poll: session.wantsInterrupt)
                : try timeline.runBackward(toText: text, poll: session.wantsInterrupt)
            return (stop == .reached ? "" : "the console does not show it up to \(stop.text)\n") + when(session)
        case "golive":
            let path = words.dropFirst().joined(separator: " ")
            let run = try session.goLive(timeline, path.isEmpty ? nil : path)
            session.replaceGround(by: run)
            return "live from position \(run.place)" + (path.isEmpty ? "" : ", recording to \(path)") + "\n"
        default: return "unknown command \(words[0]); “help” lists them\n"
        }
    }

    private func when(_ session: GDBSession) -> String {
        let machine = session.machine
        var text = "position \(machine.place), time \(machine.virtualTime) ns"
        if case .recording(let timeline) = session.ground { text += ", event \(timeline.door.eventNumber)" }
        text += ", pc 0x\(String(machine.programCounter, radix: 16))"
        switch session.ground {
        case .recording(let timeline):
            if let reason = timeline.endReason { text += ", the end (\(reason))" }
            if !timeline.edits.isEmpty { text += ", with \(timeline.edits.count) changes made here" }
        case .live: text += machine.isIdle ? ", live, halted" : ", live"
        }
        return text + "\n"
    }

    /// The registers as gdb knows them, without floating point and vectors, in hexadecimal.
    private func registers(_ words: [String], _ session: GDBSession) -> String {
        if words.count > 1 { return session.target.describeState("cpu.").map { "\($0.name.dropFirst(4)) \($0.value)\n" }.joined() }
        let values = session.target.registerValues(of: session.architecture)
        var offset = 0
        var text = ""
        for register in session.registers {
            let next = offset + register.bits / 8
            if register.bits <= 64, next <= values.count {
                let value = Hex.text(values[offset..<next].reversed())
                text += "\(register.name) 0x\(value)\n"
            }
            offset = next
        }
        return text
    }

    private func seek(_ words: [String], _ timeline: Timeline, _ session: GDBSession) throws -> String {
        let usage = "seek POSITION, seek time NANOSECONDS or seek event NUMBER\n"
        guard words.count > 1, let last = words.last, let number = Self.number(last) else { return usage }
        switch (words.count, words[1]) {
        case (2, _): _ = try timeline.seek(to: Self.place(last) ?? Place(number), poll: session.wantsInterrupt)
        case (3, "time"): _ = try timeline.seek(toTime: number, poll: session.wantsInterrupt)
        case (3, "event"): _ = try timeline.seek(toEvent: number, poll: session.wantsInterrupt)
        default: return usage
        }
        return when(session)
    }

    private func events(_ words: [String], _ timeline: Timeline) throws -> String {
        let count = words.count > 1 ? Self.number(words[1]) ?? 10 : 10
        var lines = ""
        let first = timeline.door.eventNumber
        try timeline.door.reader.forEachEvent(from: first) { number, event in
            if number >= first &+ min(count, 1000) { return false }
            lines += describeEvent(number, event) + "\n"
            return true
        }
        return lines
    }

    private func whoWrote(_ words: [String], _ timeline: Timeline, _ session: GDBSession) throws -> String {
        let parts = (words.dropFirst().first ?? "").split(separator: ":").map(String.init)
        guard let first = parts.first, let address = Self.number(first), parts.count <= 2,
            let length = parts.count == 2 ? Self.number(parts[1]) : 8, length > 0, length <= 1 << 20
        else { return "who-wrote ADDRESS[:LENGTH]\n" }
        var conditions = StopConditions()
        conditions.watches = [WatchRange(start: address, length: length, kind: .write)]
        switch try timeline.runBackward(conditions: conditions, poll: session.wantsInterrupt) {
        case .watch(_, let at, let by, let pc, let dma):
            let who = dma ?? "the instruction at pc 0x\(String(pc, radix: 16))"
            return "0x\(String(at, radix: 16)) is written by \(who), position \(by); the cursor is before it\n"
        case .interrupted: return "interrupted; the cursor is at \(timeline.place)\n"
        default: return "nothing has written there since the start\n"
        }
    }

    /// Decimal, or hexadecimal with 0x. A place's phase is left out.
    static func number(_ text: String) -> UInt64? {
        if text.hasPrefix("0x") { return Hex.number(text.dropFirst(2)) }
        return UInt64(text.prefix { $0 != "+" })
    }

    /// POSITION+PHASE
    static func place(_ text: String) -> Place? {
        let parts = text.split(separator: "+", omittingEmptySubsequences: false)
        guard parts.count == 2, let position = UInt64(parts[0]), let phase = UInt32(parts[1]) else { return nil }
        return Place(position, phase: phase)
    }
}
