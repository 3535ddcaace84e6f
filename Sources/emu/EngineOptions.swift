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

    @Flag(name: .customLong("perf-map"), help: "Write /tmp/perf-PID.map, so that 'perf report' names generated code.")
    var perfMap = false

    /// What is measured only on demand, on a new machine.
    func prepare(_ machine: PCMachine) {
        if stats { machine.cpu.measureTime() }
        guard perfMap else { return }
        if let path = machine.cpu.writePerfMap() {
            Message.say("names of generated code go to \(path)")
        } else {
            Message.say("--perf-map: nothing is written: no generated code, or /tmp cannot be written")
        }
    }

    /// Prints the statistics if they were asked for.
    /// - Parameter seconds: the run's host time.
    func report(_ machine: PCMachine, seconds: Double) {
        guard stats else { return }
        for line in machine.cpu.statistics(seconds: seconds) { Message.say(line) }
    }
}
