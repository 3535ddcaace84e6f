import ArgumentParser
import Boundary
import Devices
import Machine
import Passthrough

/// Options about devices that a machine may have or not, and about where channels lead.
struct DeviceOptions: ParsableArguments {
    @Option(help: ArgumentHelp("A device: virtio-rng, virtio-console, ac97, hda, or vfio-user:SOCKET for a PCI device in another process (with --boundary=devices). More than once for more.", valueName: "name"))
    var device: [DeviceOption] = []
    @Option(help: ArgumentHelp("The second serial port: file:PATH, pty, tcp:HOST:PORT, unix:PATH or none.", valueName: "backend"))
    var serial2 = SerialOption.none
    @Option(help: ArgumentHelp("What the guest prints on the parallel port goes to this file.", valueName: "file"))
    var parallel: String?
    @Option(help: ArgumentHelp("The virtio console: stdio, file:PATH, pty, tcp:HOST:PORT, unix:PATH or none.", valueName: "backend"))
    var virtioConsole = SerialOption.none

    func validate() throws {
        for (index, name) in device.enumerated() where device[..<index].contains(name) {
            throw ValidationError("--device \(name.text) can be given once")
        }
        if virtioConsole != .none, !device.contains(.model(.virtioConsole)) {
            throw ValidationError("--virtio-console needs --device virtio-console")
        }
        if foreign.count > [ForeignDeviceSettings].most {
            throw ValidationError("--device vfio-user:… can be given \([ForeignDeviceSettings].most) times at most")
        }
    }

    /// Devices that this program has.
    var models: [OptionalDevice] {
        device.compactMap { if case .model(let model) = $0 { model } else { nil } }
    }
    /// Sockets of devices in other processes.
    var foreign: [String] {
        device.compactMap { if case .vfioUser(let path) = $0 { path } else { nil } }
    }
}

/// `--device NAME`.
enum DeviceOption: ExpressibleByArgument, Equatable {
    case model(OptionalDevice)
    case vfioUser(String)

    init?(argument: String) {
        if let model = OptionalDevice(rawValue: argument) {
            self = .model(model)
        } else if argument.hasPrefix("vfio-user:"), argument.count > 10 {
            self = .vfioUser(String(argument.dropFirst(10)))
        } else {
            return nil
        }
    }

    var text: String {
        switch self {
        case .model(let model): model.rawValue
        case .vfioUser(let path): "vfio-user:\(path)"
        }
    }
}

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
