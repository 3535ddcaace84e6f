import Boundary
import Devices
import MachineState

/// What a PC is made of. Part of every recording's header.
package struct PCConfiguration: Sendable, Equatable {
    /// RAM in bytes: 16 MiB to 8 GiB, a multiple of 4096.
    package var memory: UInt64 = 256 << 20
    /// Where the line between inside and outside runs.
    package var boundary: BoundaryKind = .inputs
    /// One instruction takes `1 << clockShift` nanoseconds of virtual time (0...10).
    package var clockShift: UInt8 = 1
    /// The real-time clock's date at power-on, seconds since 1970.
    package var date: UInt64 = 0
    /// The kernel's command line.
    package var commandLine = ""
    /// Enter a Linux kernel by its 32-bit entry though it has a 64-bit one.
    package var entersIn32Bits = false
    /// A reset ends the run instead of booting again.
    package var endsAtReset = true

    /// The CPU starts in firmware, which finds the hardware as it is after power-on; nil for a kernel that is entered
    /// directly.
    package var firmware: FirmwareSettings?
    /// In the order of their numbers.
    package var drives: [DriveSettings] = []
    /// In the order of their slots.
    package var devices: [OptionalDevice] = []
    /// At most four, on the channels net0...net3.
    package var networkCards: [NetworkCardSettings] = []
    package var usb = USBSettings()
    /// Devices that are carried out elsewhere; only at the devices cut.
    package var foreignDevices: [ForeignDeviceSettings] = []

    package init() {}
}

/// Channels between devices and their backends. The raw values are in recordings.
package enum Channel: UInt16, Sendable, CaseIterable {
    case serial0 = 1
    case debugConsole = 2
    case keyboard = 3
    case mouse = 4
    case serial1 = 5
    case powerButton = 6
    /// Failures of the host's files: a drive's number.
    case disk = 7
    /// Random numbers of the host.
    case entropy = 8
    /// The virtio console.
    case virtioConsole = 9
    case resetButton = 10
    /// A non-maskable interrupt by the user.
    case nmiButton = 11
    case parallel0 = 12
    /// A crash of the guest's kernel.
    case panic = 13
    /// Frames of the network cards.
    case net0 = 14
    case net1 = 15
    case net2 = 16
    case net3 = 17
    /// Devices connected by USB.
    case usb0 = 32
    case usb1 = 33
    case usb2 = 34
    case usb3 = 35
    case usb4 = 36
    case usb5 = 37
    case usb6 = 38
    case usb7 = 39
    /// Sound, both ways.
    case audio = 40

    /// The network cards' channels, in the order of the cards.
    package static let network: [Channel] = [.net0, .net1, .net2, .net3]
    /// The USB devices' channels, in the order of the devices.
    package static let usb: [Channel] = [.usb0, .usb1, .usb2, .usb3, .usb4, .usb5, .usb6, .usb7]

    /// The name that users see.
    package var name: String {
        switch self {
        case .serial0: "serial0"
        case .debugConsole: "debugcon"
        case .keyboard: "keyboard"
        case .mouse: "mouse"
        case .serial1: "serial1"
        case .powerButton: "power-button"
        case .disk: "disk"
        case .resetButton: "reset-button"
        case .nmiButton: "nmi-button"
        case .parallel0: "parallel0"
        case .panic: "panic"
        case .entropy: "entropy"
        case .virtioConsole: "virtio-console"
        case .net0: "net0"
        case .net1: "net1"
        case .net2: "net2"
        case .net3: "net3"
        case .audio: "audio"
        case .usb0, .usb1, .usb2, .usb3, .usb4, .usb5, .usb6, .usb7: "usb\(rawValue - Channel.usb0.rawValue)"
        }
    }
}

/// Devices that a machine has if the user wants them. The raw values are in recordings and on the command line.
package enum OptionalDevice: String, Sendable, CaseIterable {
    /// A virtio source of random numbers.
    case virtioEntropy = "virtio-rng"
    /// A virtio console, Linux's hvc0.
    case virtioConsole = "virtio-console"
    /// Intel's AC '97 sound.
    case ac97
    /// Intel's High Definition Audio.
    case hda
}

extension PCConfiguration {
    /// Sound cards, of which a machine has one at most, because they share a channel.
    package var soundCardCount: Int { devices.count { $0 == .ac97 || $0 == .hda } + usb.devices.count { $0 == .audio } }
}
