import Boundary
import MachineState
import Replay

/// One debugger's conversation about a recording or a live run: packets in, replies out. Knows no socket.
package final class GDBSession {
    package enum Reply: Sendable, Equatable {
        case text(String)
        case binary([UInt8])
        /// No reply.
        case silence
        /// Reply, then the debugger is gone; the program goes on (`false`) or ends (`true`).
        case last(String, ends: Bool)
    }

    /// What the debugger moves on.
    package enum Ground {
        case recording(Timeline)
        case live(LiveRun)
    }

    package private(set) var ground: Ground
    let target: any DebugTarget
    let monitor: Monitor
    /// The architecture that gdb has been told.
    let architecture: String
    let registers: [DebugRegister]
    private(set) var conditions = StopConditions()
    /// Packets that set the same breakpoint twice must be undone twice: gdb does not.
    private var softBreakpoints: Set<UInt64> = []
    private var hardBreakpoints: Set<UInt64> = []
    private var reportsBreakpointKind = false
    private var lastStop = "T05thread:01;"
    /// Acknowledgements are off.
    package private(set) var isQuiet = false
    /// `m` reads physical memory.
    private(set) var isPhysical = false
    /// A `monitor` command is being carried out.
    package private(set) var isCommandRunning = false
    /// Asked during long runs: has the debugger sent Ctrl-C?
    package var wantsInterrupt: () -> Bool = { false }
    /// Begins to watch for something from the debugger, beside a live run; gives what ends the watch.
    package var watch: (@escaping @Sendable () -> Void) -> (() -> Void) = { _ in {} }
    /// Shows text to the debugger's user; only while a stop or a command's end is waited for.
    package var say: (String) -> Void = { _ in }
    /// Takes the recording over at the cursor, and records the branch to a file if one is named.
    package var goLive: (Timeline, _ recordingTo: String?) throws -> LiveRun = { _, _ in
        throw LogError("going live is not possible here")
    }

    /// - Parameter architecture: gdb's name of one of the target's architectures.
    package init(_ ground: Ground, target: any DebugTarget, monitor: Monitor, architecture: String) {
        self.ground = ground
        self.target = target
        self.monitor = monitor
        self.architecture = architecture
        registers = target.registers(of: architecture)
    }

    /// The answer to one packet. An empty text says that the packet is not known.
    package func handle(_ packet: [UInt8]) -> Reply {
        let text = String(decoding: packet, as: UTF8.self)
        guard let first = packet.first else { return .text("") }
        let rest = text.dropFirst()
        do {
            switch first {
            case UInt8(ascii: "?"): return .text(lastStop)
            case UInt8(ascii: "q"): return query(text)
            case UInt8(ascii: "Q"): return set(text)
            case UInt8(ascii: "v"): return try verbose(text)
            case UInt8(ascii: "H"), UInt8(ascii: "T"): return .text("OK")
            case UInt8(ascii: "g"): return .text(Hex.text(target.registerValues(of: architecture)))
            case UInt8(ascii: "p"): return readRegister(rest)
            case UInt8(ascii: "m"): return readMemory(rest, isBinary: false)
            case UInt8(ascii: "x"): return readMemory(rest, isBinary: true)
            case UInt8(ascii: "G"): return try writeRegisters(rest)
            case UInt8(ascii: "P"): return try writeRegister(rest)
            case UInt8(ascii: "M"): return try writeMemory(packet, isBinary: false)
            case UInt8(ascii: "X"): return try writeMemory(packet, isBinary: true)
            case UInt8(ascii: "c"), UInt8(ascii: "C"): return try go(forward: true)
            case UInt8(ascii: "s"), UInt8(ascii: "S"): return try step(forward: true)
            case UInt8(ascii: "b"):
                switch text {
                case "bc": return try go(forward: false)
                case "bs": return try step(forward: false)
                default: return .text("")
                }
            case UInt8(ascii: "Z"): return setPoint(rest, true)
            case UInt8(ascii: "z"): return setPoint(rest, false)
            case UInt8(ascii: "D"): return .last("OK", ends: false)
            case UInt8(ascii: "k"): return .last("", ends: true)
            default: return .text("")
            }
        } catch {
            lastStop = "T05thread:01;"
            return .text("E." + String(describing: error).split(separator: "\n").joined(separator: " "))
        }
    }

    // MARK: Queries

    private func query(_ text: String) -> Reply {
        let name = text.prefix { $0 != ":" && $0 != "," && $0 != ";" }
        switch name {
        case "qSupported":
            reportsBreakpointKind = text.contains("swbreak+") && text.contains("hwbreak+")
            return .text(
                "PacketSize=8000;qXfer:features:read+;qXfer:memory-map:read+;QStartNoAckMode+;"
                    + (isLive ? "" : "ReverseStep+;ReverseContinue+;")
                    + "vContSupported+;swbreak+;hwbreak+;binary-upload+")
        case "qC": return .text("QC01")
        case "qfThreadInfo": return .text("m01")
        case "qsThreadInfo": return .text("l")
        case "qAttached": return .text("1")
        case "qSymbol": return .text("OK")
        case "qThreadExtraInfo":
            return .text(Hex.text("position \(machine.place)".utf8))
        case "qXfer": return transfer(text)
        case "qRcmd":
            guard let bytes = Hex.bytes(text.dropFirst("qRcmd,".count)) else { return .text("E01") }
            return command(String(decoding: bytes, as: UTF8.self))
        case "qqemu.PhyMemMode": return .text(isPhysical ? "1" : "0")
        default: return .text("")
        }
    }

    private func set(_ text: String) -> Reply {
        switch text {
        case "QStartNoAckMode":
            isQuiet = true
            return .text("OK")
        case "Qqemu.PhyMemMode:0", "Qqemu.PhyMemMode:1":
            isPhysical = text.hasSuffix("1")
            return .text("OK")
        default: return .text("")
        }
    }

    /// qXfer:object:read:annex:offset,length
    private func transfer(_ text: String) -> Reply {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 5, parts[2] == "read" else { return .text("") }
        let document: String
        switch (parts[1], parts[3]) {
        case ("features", "target.xml"): document = TargetDescription.xml(architecture, registers)
        case ("memory-map", ""): document = TargetDescription.memoryMap
        default: return .text("E00")
        }
        let range = parts[4].split(separator: ",")
        guard range.count == 2, let offset = Hex.number(range[0]), let length = Hex.number(range[1]) else {
            return .text("E01")
        }
        let bytes = Array(document.utf8)
        guard offset < UInt64(bytes.count) else { return .text("l") }
        let start = Int(offset)
        let count = Int(min(length, UInt64(bytes.count - start), 0x4000))
        let mark: UInt8 = start + count < bytes.count ? UInt8(ascii: "m") : UInt8(ascii: "l")
        return .binary([mark] + bytes[start..<start + count])
    }

    // MARK: Registers and memory

    private func readRegister(_ text: Substring) -> Reply {
        guard let number = Hex.number(text), number < UInt64(registers.count) else { return .text("E01") }
        let index = Int(number)
        let offset = registers[..<index].reduce(0) { $0 + $1.bits / 8 }
        let values = target.registerValues(of: architecture)
        return .text(Hex.text(values[offset..<offset + registers[index].bits / 8]))
    }

    private func readMemory(_ text: Substring, isBinary: Bool) -> Reply {
        let parts = text.split(separator: ",", omittingEmptySubsequences: false)
        guard parts.count == 2, let address = Hex.number(parts[0]), let length = Hex.number(parts[1]) else {
            return .text("E01")
        }
        var count = Int(min(length, 0x3F00))
        if count == 0 { return isBinary ? .binary([UInt8(ascii: "b")]) : .text("") }
        // As much as is there: gdb asks again for the rest, and learns that it is not.
        if target.readMemory(address, count: count, isPhysical: isPhysical) == nil {
            count = min(count, Int(4096 - (address & 4095)))
            while count < Int(min(length, 0x3F00)),
                target.readMemory(address, count: count, isPhysical: isPhysical) != nil
            {
                let next = min(count + 4096, Int(min(length, 0x3F00)))
                if target.readMemory(address, count: next, isPhysical: isPhysical) == nil { break }
                count = next
            }
        }
        guard let bytes = target.readMemory(address, count: count, isPhysical: isPhysical) else { return .text("E14") }
        return isBinary ? .binary([UInt8(ascii: "b")] + bytes) : .text(Hex.text(bytes))
    }

    // MARK: Breakpoints

    /// Z or z: type,address,kind
    private func setPoint(_ text: Substring, _ isSet: Bool) -> Reply {
        let parts = text.prefix { $0 != ";" }.split(separator: ",", omittingEmptySubsequences: false)
        guard parts.count == 3, let address = Hex.number(parts[1]), let kind = Hex.number(parts[2]) else {
            return .text("E01")
        }
        switch parts[0] {
        case "0", "1":
            if parts[0] == "0" {
                if isSet { softBreakpoints.insert(address) } else { softBreakpoints.remove(address) }
            } else {
                if isSet { hardBreakpoints.insert(address) } else { hardBreakpoints.remove(address) }
            }
            conditions.breakpoints = softBreakpoints.union(hardBreakpoints)
        case "2", "3", "4":
            let kinds: [WatchRange.Kind] = [.write, .read, .access]
            guard kind > 0, kind <= 1 << 20, let digit = Int(parts[0]) else { return .text("E01") }
            let range = WatchRange(start: address, length: kind, kind: kinds[digit - 2])
            conditions.watches.removeAll { $0 == range }
            if isSet { conditions.watches.append(range) }
        default: return .text("")
        }
        return .text("OK")
    }

    // MARK: Travelling

    private func verbose(_ text: String) throws -> Reply {
        if text == "vMustReplyEmpty" { return .text("") }
        if text == "vCont?" { return .text("vCont;c;C;s;S") }
        if text.hasPrefix("vKill") { return .last("OK", ends: true) }
        guard text.hasPrefix("vCont;"), let action = text.dropFirst(6).first else { return .text("") }
        switch action {
        case "c", "C": return try go(forward: true)
        case "s", "S": return try step(forward: true)
        default: return .text("")
        }
    }

    private func go(forward: Bool) throws -> Reply {
        switch ground {
        case .live(let run):
            if !forward { return onlyForward() }
            return report(try run.run(conditions: conditions, watch: watch, wantsPause: wantsInterrupt))
        case .recording(let timeline):
            tellDiscarded(timeline)
            let stop =
                forward
                ? try timeline.runForward(conditions: conditions, poll: wantsInterrupt)
                : try timeline.runBackward(conditions: conditions, poll: wantsInterrupt)
            return report(stop)
        }
    }

    private func step(forward: Bool) throws -> Reply {
        switch ground {
        case .live(let run):
            if !forward { return onlyForward() }
            return report(try run.step(watch: watch, wantsPause: wantsInterrupt))
        case .recording(let timeline):
            tellDiscarded(timeline)
            return report(forward ? try timeline.stepForward() : try timeline.stepBackward())
        }
    }

    /// A live run has no way back: its first place is here.
    private func onlyForward() -> Reply {
        say("A live run only goes forward.\n")
        return report(.start)
    }

    /// Before a move on a recording.
    private func tellDiscarded(_ timeline: Timeline) {
        if !timeline.edits.isEmpty { say("The changes made here are gone: a recording cannot be changed.\n") }
    }

    private func report(_ stop: TimelineStop) -> Reply {
        var text = "T05"
        switch stop {
        case .reached, .delivered, .device: break
        case .breakpoint(let address):
            if reportsBreakpointKind { text += softBreakpoints.contains(address) ? "swbreak:;" : "hwbreak:;" }
        case .watch(let range, let address, _, _, _):
            let name =
                switch range.kind {
                case .write: "watch"
                case .read: "rwatch"
                case .access: "awatch"
                }
            text += "\(name):\(String(address, radix: 16));"
        case .start: text += "replaylog:begin;"
        case .end where isLive:
            lastStop = "W00"
            return .last(lastStop, ends: true)
        case .end: text += "replaylog:end;"
        case .interrupted: text = "T02"
        }
        lastStop = text + "thread:01;"
        return .text(lastStop)
    }

    // MARK: Commands

    var isLive: Bool {
        if case .live = ground { return true }
        return false
    }
    var machine: any LiveMachine {
        switch ground {
        case .recording(let timeline): timeline.machine
        case .live(let run): run.machine
        }
    }

    /// The live run that the recording has become.
    func replaceGround(by run: LiveRun) { ground = .live(run) }

    private func command(_ line: String) -> Reply {
        isCommandRunning = true
        defer { isCommandRunning = false }
        let output = monitor.run(line, self)
        lastStop = "T05thread:01;"
        return output.isEmpty ? .text("OK") : .text(Hex.text(output.utf8.prefix(0x3000)))
    }
}
