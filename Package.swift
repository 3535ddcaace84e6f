// swift-tools-version: 6.2
import PackageDescription

/// Settings of every target: warnings are errors, so that `swift build` stays clean.
let common: [SwiftSetting] = [
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
]

/// Targets on the guest's hot path. They are optimised in debug builds too: an unoptimised
/// interpreter boots nothing in a sensible time, and tests boot real kernels.
let hot: [SwiftSetting] =
    common + [
        .unsafeFlags(["-O", "-enforce-exclusivity=unchecked", "-cross-module-optimization"])
    ]

let package = Package(
    name: "emu",
    products: [.executable(name: "emu", targets: ["emu"])],
    // What a person does not need to run the main job: `swift build --traits VNC,SDL,Slirp,Pcap,USB`.
    traits: [
        .trait(name: "VNC", description: "--display vnc=…, by libvncserver, which is under the GPL: so is the program then"),
        .trait(name: "Slirp", description: "--net user, a network behind the program's own sockets, by libslirp"),
        .trait(name: "Pcap", description: "--net pcap:…, interfaces of the host, by libpcap"),
        .trait(name: "USB", description: "--usb host:…, USB devices of the host, by libusb"),
        .trait(name: "NBD", description: "--disk …,format=qcow2 and other formats of QEMU, by libnbd and a qemu-nbd"),
        .trait(name: "SDL", description: "--display sdl, a window, --audio sdl and --microphone sdl, by SDL 2"),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    ],
    targets: [
        // C libraries and the few lines that Swift cannot say.
        .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
        .systemLibrary(name: "CVNC", pkgConfig: "libvncserver", providers: [.apt(["libvncserver-dev"])]),
        .systemLibrary(name: "CSDL", pkgConfig: "sdl2", providers: [.apt(["libsdl2-dev"])]),
        .systemLibrary(name: "CSlirp", pkgConfig: "slirp", providers: [.apt(["libslirp-dev"])]),
        .systemLibrary(name: "CPcap", pkgConfig: "libpcap", providers: [.apt(["libpcap-dev"])]),
        .systemLibrary(name: "CUSB", pkgConfig: "libusb-1.0", providers: [.apt(["libusb-1.0-0-dev"])]),
        .systemLibrary(name: "CNBD", pkgConfig: "libnbd", providers: [.apt(["libnbd-dev"])]),
        .target(name: "CHostOracle", path: "Tests/CHostOracle"),

        // Bottom up: nothing imports a target that is listed below it.
        .target(name: "MachineState", swiftSettings: hot),
        .target(name: "CHost"),
        .target(name: "CPUCore", dependencies: ["MachineState", "CHost"], swiftSettings: hot),
        .target(name: "DeviceBus", dependencies: ["MachineState"], swiftSettings: hot),
        .target(name: "Boundary", dependencies: ["MachineState", "CHost"], swiftSettings: hot),
        .target(name: "GuestX86", dependencies: ["CPUCore", "MachineState", "CHost"], swiftSettings: hot),
        .target(name: "Devices", dependencies: ["DeviceBus", "MachineState"], swiftSettings: hot),
        .target(name: "Replay", dependencies: ["Boundary", "MachineState", "CHost", "CZstd"], swiftSettings: hot),
        .target(name: "GDBStub", dependencies: ["Replay", "Boundary", "MachineState"], swiftSettings: common),
        .target(
            name: "Passthrough",
            dependencies: [
                "Boundary", "MachineState", .target(name: "CSlirp", condition: .when(traits: ["Slirp"])),
                .target(name: "CPcap", condition: .when(traits: ["Pcap"])),
                .target(name: "CUSB", condition: .when(traits: ["USB"])),
                .target(name: "CNBD", condition: .when(traits: ["NBD"])),
                .target(name: "CSDL", condition: .when(traits: ["SDL"])),
            ],
            swiftSettings: common),
        .target(
            name: "VFIOUser", dependencies: ["Boundary", "Devices", "DeviceBus", "MachineState", "CHost"], swiftSettings: common),
        .target(
            name: "Machine",
            dependencies: ["GuestX86", "VFIOUser", "Devices", "Boundary", "CPUCore", "DeviceBus", "MachineState"],
            swiftSettings: hot),
        .target(
            name: "Trace",
            dependencies: ["Machine", "Replay", "Devices", "Boundary", "DeviceBus", "MachineState"], swiftSettings: hot),
        .executableTarget(
            name: "emu",
            dependencies: [
                "GDBStub", "Trace", "Machine", "Replay", "Passthrough", "VFIOUser", "Boundary", "Devices", "DeviceBus", "GuestX86", "CPUCore",
                "MachineState",
                .target(name: "CVNC", condition: .when(traits: ["VNC"])),
                .target(name: "CSDL", condition: .when(traits: ["SDL"])),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: common),

        .target(
            name: "TestSupport",
            dependencies: ["Machine", "GuestX86", "Devices", "DeviceBus", "CPUCore", "Boundary", "MachineState"],
            path: "Tests/TestSupport", swiftSettings: common),
        .testTarget(name: "CPUCoreTests", dependencies: ["CPUCore", "MachineState"], swiftSettings: common),
        .testTarget(
            name: "GuestX86Tests", dependencies: ["TestSupport", "GuestX86", "CPUCore", "MachineState", "CHostOracle"],
            swiftSettings: common),
        .testTarget(
            name: "DeviceTests", dependencies: ["TestSupport", "VFIOUser", "Boundary", "Devices", "DeviceBus", "MachineState"],
            swiftSettings: common),
        .testTarget(
            name: "ReplayTests", dependencies: ["Replay", "Boundary", "MachineState"], swiftSettings: common),
        // They run the program that is built beside them.
        .testTarget(name: "CommandTests", dependencies: ["TestSupport", "emu"], swiftSettings: common),
        .testTarget(
            name: "MachineTests",
            dependencies: [
                "TestSupport", "GDBStub", "Trace", "Machine", "Replay", "Boundary", "Passthrough", "DeviceBus", "CPUCore",
                "MachineState",
            ],
            swiftSettings: common),
    ],
    swiftLanguageModes: [.v6]
)
