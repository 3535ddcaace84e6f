import ArgumentParser
import Boundary
import Machine
import Passthrough

/// Options about devices that a machine may have or not, and about where channels lead.
struct DeviceOptions: ParsableArguments {
    @Option(help: ArgumentHelp("A device: virtio-rng, virtio-console or ac97. More than once for more.", valueName: "name"))
    var device: [OptionalDevice] = []
    @Option(help: ArgumentHelp("The second serial port: file:PATH, pty, tcp:HOST:PORT, unix:PATH or none.", valueName: "backend"))
    var serial2 = SerialOption.none
    @Option(help: ArgumentHelp("What the guest prints on the parallel port goes to this file.", valueName: "file"))
    var parallel: String?
    @Option(help: ArgumentHelp("The virtio console: stdio, file:PATH, pty, tcp:HOST:PORT, unix:PATH or none.", valueName: "backend"))
    var virtioConsole = SerialOption.none

    func validate() throws {
        for (index, name) in device.enumerated() where device[..<index].contains(name) {
            throw ValidationError("--device \(name.rawValue) can be given once")
        }
        if virtioConsole != .none, !device.contains(.virtioConsole) {
            throw ValidationError("--virtio-console needs --device virtio-console")
        }
    }
}

extension OptionalDevice: ExpressibleByArgument {}

/// Joins channels and what they lead to on the host, for every live run.
enum HostConnections {
    static func connect(_ live: LiveBoundary, _ channel: Channel, _ backend: any SerialBackend) {
        live.register(source: channel.rawValue, name: channel.name, sink: backend)
        start(live, channel, backend)
    }

    /// Lets a backend deliver to a channel.
    static func start(_ live: LiveBoundary, _ channel: Channel, _ backend: any SerialBackend) {
        backend.start(
            receive: { live.push(source: channel.rawValue, bytes: $0) },
            // The carrier has changed.
            carrier: { live.push(source: channel.rawValue, bytes: []) })
    }

    /// What every live run has, whatever its options.
    static func connectCommon(_ live: LiveBoundary) {
        live.register(source: Channel.panic.rawValue, name: Channel.panic.name, sink: PanicMessage())
        live.register(source: Channel.entropy.rawValue, name: Channel.entropy.name, sink: HostEntropy())
    }
}

/// Tells the user of a crash of the guest's kernel.
final class PanicMessage: HostSink {
    func send(_ bytes: [UInt8]) {
        for byte in bytes { Message.say(byte & 1 != 0 ? "the guest's kernel has panicked" : "the guest has loaded its crash kernel") }
    }
    func ask(_ question: UInt32) -> UInt64 { 0 }
}

/// The host's random numbers.
final class HostEntropy: HostSink {
    func send(_ bytes: [UInt8]) {}
    func ask(_ question: UInt32) -> UInt64 { UInt64.random(in: .min ... .max) }
}
