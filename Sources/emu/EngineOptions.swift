import ArgumentParser
import CPUCore
import Foundation
import GuestX86
import Machine

extension EngineKind: ExpressibleByArgument {}

/// How the CPU's code is executed: of no influence on what happens.
struct EngineOptions: ParsableArguments {
    @Option(help: "What executes the guest's code: generated code (x64) or the portable interpreter.")
    var engine = EngineKind.best
    @Flag(help: "Print what the CPU engine did when the run ends.")
    var stats = false

    /// Prints the statistics if they were asked for.
    /// - Parameter seconds: the run's host time.
    func report(_ machine: PCMachine, seconds: Double) {
        guard stats else { return }
        for line in machine.cpu.statistics(seconds: seconds) { Message.say(line) }
    }
}
