import ArgumentParser
import Boundary
import Foundation
import GDBStub
import Machine
import MachineState
import Replay

/// HOST:PORT, :PORT or PORT; `,nowait` at the end: a live run does not wait for gdb.
struct GDBAddress: ExpressibleByArgument {
    var host: String
    var port: UInt16
    var waits = true

    init?(argument: String) {
        var argument = argument
        if argument.hasSuffix(",nowait") {
            argument.removeLast(",nowait".count)
            waits = false
        }
        let colon = argument.lastIndex(of: ":")
        guard let port = UInt16(colon.map { argument[argument.index(after: $0)...] } ?? argument[...]) else { return nil }
        self.port = port
        let host = colon.map { String(argument[..<$0]) } ?? ""
        self.host = host == "localhost" ? "" : host
    }

    func listen() throws -> GDBServer {
        do { return try GDBServer(host: host, port: port) } catch { throw UserError("--gdb: \(error)") }
    }
}

/// What all commands that travel on a recording share.
struct TravelOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Memory for checkpoints: MiB, or with K, M or G.", valueName: "size"))
    var checkpointMemory = MemoryOption(bytes: 2 << 30)
    @OptionGroup var target: GDBTargetOptions
}

/// Serves gdb on a recording.
struct DebugServer {
    let session: ReplaySession
    let options: TravelOptions
    let timeline: Timeline

    init(_ session: ReplaySession, _ options: TravelOptions, usesIndex: Bool = true) throws {
        self.session = session
        self.options = options
        session.door.transcript = Transcript(source: Channel.serial0.rawValue, port: 0x3F8)
        timeline = try Timeline(
            machine: session.machine, door: session.door, memoryLimit: Int(options.checkpointMemory.bytes))
        if !usesIndex { return }
        let index = session.reader.path + ".index"
        timeline.onIndexFailure = {
            Message.say("\($0.description): it is not used any more; “emu index \(session.reader.path)” makes it again")
        }
        do {
            if FileManager.default.fileExists(atPath: index), try !timeline.useIndex(index) {
                Message.say("\(index): is for another recording or version of this program; “emu index” makes it again")
            }
        } catch {
            Message.say("\(error.description): it is made again, which takes a replay")
            do { _ = try timeline.writeIndex(index) } catch let failure as LogError {
                // Without an index all works, but slower.
                Message.say(failure.description)
            }
            _ = try timeline.seek(to: timeline.startPlace)
        }
    }

    /// Goes to where the options say. Nil: they say nothing.
    func go(until: Position?, text: String?) throws -> TimelineStop? {
        var stop: TimelineStop?
        if let until { stop = try timeline.seek(to: Place(until)) }
        if let text {
            stop = try timeline.runForward(toText: Array(text.utf8))
            if case .end? = stop { throw UserError("\(session.reader.path): the console never shows “\(text)”") }
        }
        return stop
    }

    /// Serves debuggers until one wants the program to end, or the run that it has become is over.
    ///
    /// - Parameter goesLive: at once, before the first debugger comes.
    func serve(_ address: GDBAddress, _ golive: GoLive, goesLive: Bool, recordingTo path: String?) throws {
        let server = try address.listen()
        Message.say("waiting for gdb: target remote \(address.host.isEmpty ? "" : address.host):\(server.port)")
        try serve(server, golive, branch: goesLive ? try golive.takeOver(timeline, recordingTo: path) : nil) {
            _ = try server.waitForDebugger(milliseconds: 200)
            return true
        }
    }

    /// - Parameter isWanted: waits a little while for a debugger; false when none will come any more.
    func serve(_ server: GDBServer, _ golive: GoLive, branch first: GoLive.Branch? = nil, isWanted: () throws -> Bool) throws {
        let taken = Taken()
        taken.branch = first
        while taken.branch == nil {
            guard try isWanted() else { return }
            guard try server.waitForDebugger(milliseconds: 0) else { continue }
            let ending = try server.serve {
                let session = makeSession(.recording(timeline), options.target)
                session.goLive = { timeline, path in
                    let branch = try golive.takeOver(timeline, recordingTo: path)
                    taken.branch = branch
                    return branch.run
                }
                return session
            }
            if ending == .killed {
                if let branch = taken.branch { try branch.run.quit() }
                break
            }
        }
        guard let branch = taken.branch else { return }
        try LiveDebugger(run: branch.run, door: branch.door, server: server).drive(holds: first != nil) {
            makeSession(.live(branch.run), options.target)
        }
        try golive.finish(branch)
    }

    /// What a session's going live leaves behind.
    private final class Taken { var branch: GoLive.Branch? }

    private func makeSession(_ ground: GDBSession.Ground, _ target: GDBTargetOptions) -> GDBSession {
        target.session(ground, session.machine, session.reader.header)
    }
}

/// How gdb sees the processor.
struct GDBTargetOptions: ParsableArguments {
    @Option(help: ArgumentHelp("What gdb is told the processor is: i386 or x86-64. Without it, what it is then.", valueName: "name"))
    var gdbArchitecture: String?

    func validate() throws {
        if let gdbArchitecture, !["i386", "x86-64"].contains(gdbArchitecture) {
            throw ValidationError("--gdb-architecture is i386 or x86-64, not \(gdbArchitecture)")
        }
    }

    func session(_ ground: GDBSession.Ground, _ machine: PCMachine, _ header: LogHeader?) -> GDBSession {
        let architecture =
            switch gdbArchitecture {
            case "i386": "i386"
            case "x86-64": "i386:x86-64"
            default: machine.architectureNow
            }
        let monitor = Monitor(
            describeEvent: { number, event in header.map { EventText.line(number, event, $0) } ?? "" },
            saveScreen: { path in
                try Screenshot.save(machine.vga, output: path, text: false)
                return "saved to \(path)"
            })
        return GDBSession(ground, target: machine, monitor: monitor, architecture: architecture)
    }
}
