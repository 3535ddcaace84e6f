import ArgumentParser
import Foundation
import GDBStub
import Replay

/// `emu debug`: gdb on a recording, connected.
struct DebugCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "debug", abstract: "Start gdb on a recording.",
        discussion: "gdb's own commands work, reverse-stepi and reverse-continue too; “monitor help” lists what else there is.")

    @Argument(help: "The recording.")
    var file: String
    @Argument(help: "A kernel with symbols (vmlinux).")
    var symbols: String?
    @Option(help: ArgumentHelp("Start at this position.", valueName: "position"))
    var until: UInt64?
    @Option(help: ArgumentHelp("Start where the console has shown this text.", valueName: "text"))
    var untilText: String?
    @Option(help: ArgumentHelp("The gdb to start.", valueName: "program"))
    var gdbProgram = "gdb"
    @Option(name: .customLong("gdb-argument"), help: ArgumentHelp("One more argument for gdb; may be repeated.", valueName: "text"))
    var gdbArguments: [String] = []
    @Option(help: ArgumentHelp("After “monitor golive”: the serial console: file:PATH, pty, tcp:HOST:PORT, unix:PATH or none.", valueName: "backend"))
    var serial = SerialOption.none
    @Option(help: "After “monitor golive”: how idle time passes.")
    var pace = RunCommand.PaceOption.realtime
    @OptionGroup var travel: TravelOptions
    @OptionGroup var images: ImageOptions
    @OptionGroup var engine: EngineOptions

    func run() throws {
        let session = try ReplaySession(file: file, replacements: images.replacements, engine: engine.engine)
        let server = try DebugServer(session, travel)
        _ = try server.go(until: until, text: untilText)
        let socket: GDBServer
        do { socket = try GDBServer(host: "", port: 0) } catch { throw UserError("\(error)") }
        let commands = FileManager.default.temporaryDirectory.appendingPathComponent("emu-\(UUID().uuidString).gdb").path
        do { try Self.commands.write(toFile: commands, atomically: true, encoding: .utf8) } catch {
            throw UserError("\(commands): cannot be written")
        }
        defer { try? FileManager.default.removeItem(atPath: commands) }
        let arguments =
            [gdbProgram, "-q", "-ix", commands, "-ex", "target remote 127.0.0.1:\(socket.port)"] + gdbArguments
            + (symbols.map { [$0] } ?? [])
        // Not by `Process`: gdb is to stay in the terminal's foreground.
        var child = pid_t()
        var words = arguments.map { strdup($0) } + [nil]
        defer { for word in words { free(word) } }
        // Whatever signals are blocked here, none are for gdb.
        var attributes = posix_spawnattr_t()
        var signals = sigset_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        let result = posix_spawnp(&child, gdbProgram, nil, &attributes, &words, environ)
        guard result == 0 else {
            throw UserError("\(gdbProgram) cannot be started: \(String(cString: strerror(result))); --gdb-program says which")
        }
        // Ctrl-C is for gdb, which asks us to stop.
        signal(SIGINT, SIG_IGN)
        var status: Int32 = 0
        // gdb may go and come again, until it ends.
        var isRunning = true
        let settings = GoLive.Settings(serial: serial, script: nil, type: nil, pace: pace)
        try server.serve(socket, GoLive(session, settings)) {
            if waitpid(child, &status, WNOHANG) != 0 {
                isRunning = false
                return false
            }
            _ = try socket.waitForDebugger(milliseconds: 200)
            return true
        }
        if isRunning { _ = waitpid(child, &status, 0) }
    }

    /// gdb is made to look again after each `monitor` command: it cannot know which of them move.
    private static let commands = """
        set confirm off
        set stack-cache off
        set code-cache off
        define hookpost-monitor
        maintenance flush register-cache
        end

        """
}
