import ArgumentParser
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
            """,
        version: "0.1.0",
        subcommands: [
            RunCommand.self, ReplayCommand.self, VerifyCommand.self, InfoCommand.self, LogCommand.self,
            IndexCommand.self, QueryCommand.self, WhoWroteCommand.self, DebugCommand.self, BenchCommand.self,
            ScreenshotCommand.self, MovieCommand.self, ExportCommand.self, OverlayCommand.self,
        ],
        defaultSubcommand: RunCommand.self)
}
