import ArgumentParser
import Boundary
import Foundation
import GDBStub
import Machine
import MachineState
import Replay

/// HOST:PORT, :PORT or PORT.
struct GDBAddress: ExpressibleByArgument {
    var host: String
    var port: UInt16

    init?(argument: String) {
        let colon = argument.lastIndex(of: ":")
        guard let port = UInt16(colon.map { argument[argument.index(after: $0)...] } ?? argument[...]) else { return nil }
        self.port = port
        let host = colon.map { String(argument[..<$0]) } ?? ""
        self.host = host == "localhost" ? "" : host
    }
    init(host: String, port: UInt16) {
        self.host = host
        self.port = port
    }
}

/// What all commands that travel on a recording share.
struct TravelOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Memory for checkpoints: MiB, or with K, M or G.", valueName: "size"))
    var checkpointMemory = MemoryOption(bytes: 2 << 30)
    @Option(help: ArgumentHelp("What gdb is told the processor is: i386 or x86-64. Without it, what it is then.", valueName: "name"))
    var gdbArchitecture: String?

    func validate() throws {
        if let gdbArchitecture, !["i386", "x86-64"].contains(gdbArchitecture) {
            throw ValidationError("--gdb-architecture is i386 or x86-64, not \(gdbArchitecture)")
        }
    }
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
        do {
            if FileManager.default.fileExists(atPath: index), try !timeline.useIndex(index) {
                Message.say("\(index): is for another recording or version of this program; “emu index” makes it again")
            }
        } catch { Message.say(error.description) }
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

    func serve(_ address: GDBAddress) throws {
        let server: GDBServer
        do { server = try GDBServer(host: address.host, port: address.port) } catch { throw UserError("--gdb: \(error)") }
        Message.say("waiting for gdb: target remote \(address.host.isEmpty ? "" : address.host):\(server.port)")
        while try server.serve(makeSession) == .detached {}
    }

    func makeSession() -> GDBSession {
        let header = session.reader.header
        let architecture =
            switch options.gdbArchitecture {
            case "i386": "i386"
            case "x86-64": "i386:x86-64"
            default: session.machine.architectureNow
            }
        return GDBSession(
            timeline: timeline, target: session.machine,
            monitor: Monitor(describeEvent: { EventText.line($0, $1, header) }), architecture: architecture)
    }
}
