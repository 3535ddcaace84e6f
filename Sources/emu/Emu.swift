import ArgumentParser
import Glibc
import Passthrough

/// The program.
@main
struct Emu: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "emu",
        abstract: "Boots an operating system, records the run, and replays it bit for bit.",
        discussion: """
            Run and record, with only the outside world's input in the log:
              emu --boundary=inputs --record boot.emurec --kernel vmlinuz --initrd initrd.gz --append console=ttyS0
            The same with every transaction between CPU and devices in the log:
              emu --boundary=devices --record boot.emurec --kernel vmlinuz --initrd initrd.gz --append console=ttyS0
            Replay, check, and look:
              emu replay boot.emurec
              emu verify boot.emurec
              emu info boot.emurec
              emu log boot.emurec
            What drivers and devices say to each other:
              emu trace boot.emurec --device serial0 --symbols vmlinux
              emu trace boot.emurec --summary
            """,
        version: "0.1.0",
        subcommands: [
            RunCommand.self, ReplayCommand.self, VerifyCommand.self, InfoCommand.self, LogCommand.self,
            IndexCommand.self, QueryCommand.self, WhoWroteCommand.self, DebugCommand.self, BenchCommand.self,
            ScreenshotCommand.self, MovieCommand.self, ExportCommand.self, DevicesCommand.self, OverlayCommand.self,
            VFIOUserDeviceCommand.self, TraceCommand.self, DiffCommand.self, ConvertCommand.self, DeviceTestCommand.self, DriverTestCommand.self, PackCommand.self, CutCommand.self,
        ],
        defaultSubcommand: RunCommand.self)

    static func main() {
        // Whoever starts the program may do so from a thread that blocks signals, which is inherited: it must still be
        // possible to end it.
        var signals = sigset_t()
        sigemptyset(&signals)
        for number in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] { sigaddset(&signals, number) }
        sigprocmask(SIG_UNBLOCK, &signals, nil)
        main(nil)
    }
}
