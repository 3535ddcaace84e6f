import ArgumentParser
import Passthrough

/// Options about the monitor.
struct MonitorOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Commands about the machine while it runs (help lists them): stdio, unix:PATH or tcp:HOST:PORT.", valueName: "place"))
    var monitor: MonitorPlace?
    @Option(help: ArgumentHelp("The same for programs, as QEMU's machine protocol: unix:PATH or tcp:HOST:PORT.", valueName: "place"))
    var qmp: MonitorPlace?

    func validate() throws {
        if qmp?.place == .stdio { throw ValidationError("--qmp is unix:PATH or tcp:HOST:PORT") }
    }
}

/// Where a monitor listens.
struct MonitorPlace: ExpressibleByArgument {
    let place: LineServer.Place

    init?(argument: String) {
        if argument == "stdio" {
            place = .stdio
        } else if argument.hasPrefix("unix:"), argument.count > 5 {
            place = .unix(String(argument.dropFirst(5)))
        } else if argument.hasPrefix("tcp:") {
            let parts = argument.dropFirst(4).split(separator: ":", omittingEmptySubsequences: false)
            guard parts.count == 2, let port = UInt16(parts[1]) else { return nil }
            place = .tcp(host: String(parts[0]), port: port)
        } else {
            return nil
        }
    }
}
