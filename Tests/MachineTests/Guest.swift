import Foundation
import MachineState

@testable import Boundary
@testable import CPUCore
@testable import Machine
@testable import Replay

/// A real guest: Debian's cloud kernel and a busybox shell. `scripts/test` says where they are.
struct Guest {
    let kernel: [UInt8]
    let initrd: [UInt8]

    static let shared: Guest? = {
        let environment = ProcessInfo.processInfo.environment
        guard let kernel = environment["EMU_TEST_KERNEL"], let initrd = environment["EMU_TEST_INITRD"],
            let kernelData = FileManager.default.contents(atPath: kernel),
            let initrdData = FileManager.default.contents(atPath: initrd)
        else { return nil }
        return Guest(kernel: [UInt8](kernelData), initrd: [UInt8](initrdData))
    }()

    /// The same for i386: the installer's kernel, which runs as far as it likes.
    static let shared32: Guest? = {
        let environment = ProcessInfo.processInfo.environment
        guard let kernel = environment["EMU_TEST_KERNEL32"], let initrd = environment["EMU_TEST_INITRD32"],
            let kernelData = FileManager.default.contents(atPath: kernel),
            let initrdData = FileManager.default.contents(atPath: initrd)
        else { return nil }
        return Guest(kernel: [UInt8](kernelData), initrd: [UInt8](initrdData))
    }()

    func image(_ configuration: PCConfiguration) throws -> BootImage {
        let map = try MemoryMap(size: configuration.memory)
        let tables = ACPITables(memory: map)
        var image = try LinuxLoader(
            kernel: kernel, initrd: initrd, commandLine: configuration.commandLine, memory: map, acpiRoot: tables.root,
            entry: configuration.entersIn32Bits ? .protected32 : .long64
        ).load()
        image.blobs += tables.blobs
        return image
    }
}

/// What the guest's console says, and what is typed to it: at random host times.
final class Typist: HostSink, @unchecked Sendable {
    private let lock = NSLock()
    private var text: [UInt8] = []
    private var typed = 0
    private let lines: [String]
    private let door: LiveBoundary

    init(_ lines: [String], _ door: LiveBoundary) {
        self.lines = lines
        self.door = door
    }
    var console: String { lock.withLock { String(decoding: text, as: UTF8.self) } }

    func send(_ bytes: [UInt8]) {
        lock.withLock {
            text += bytes
            guard typed < lines.count, text.suffix(5).elementsEqual(Array("emu# ".utf8)) else { return }
            let line = lines[typed]
            typed += 1
            Thread.detachNewThread { [door] in
                for byte in line.utf8 {
                    usleep(UInt32.random(in: 0...15_000))
                    door.push(source: Channel.serial0.rawValue, bytes: [byte])
                }
            }
        }
    }
    func ask(_ question: UInt32) -> UInt64 { 0 }
}

/// A recording of a short session on the guest's console, made once for each boundary.
final class RecordedRun: Sendable {
    let path: String
    let configuration: PCConfiguration
    let image: BootImage

    static let inputs: RecordedRun? = try? RecordedRun(.inputs)
    static let devices: RecordedRun? = try? RecordedRun(.devices)
    static func of(_ boundary: BoundaryKind) -> RecordedRun? { boundary == .inputs ? inputs : devices }
    /// The i386 guest, up to a place in its boot.
    static let inputs32: RecordedRun? = try? RecordedRun(.inputs, bits: 32)
    static let devices32: RecordedRun? = try? RecordedRun(.devices, bits: 32)

    private init?(_ boundary: BoundaryKind, bits: Int = 64) throws {
        guard let guest = bits == 64 ? Guest.shared : Guest.shared32 else { return nil }
        var configuration = PCConfiguration()
        configuration.boundary = boundary
        configuration.memory = bits == 64 ? 128 << 20 : 512 << 20
        configuration.date = 1_700_000_000
        configuration.commandLine = "console=ttyS0 panic=-1 quiet"
        configuration.entersIn32Bits = bits == 32
        self.configuration = configuration
        image = try guest.image(configuration)
        path = FileManager.default.temporaryDirectory.appendingPathComponent("emu-\(UUID().uuidString).emurec").path
        let header = LogHeader(
            boundary: boundary, clockShift: 3, digestInterval: 50_000_000, date: configuration.date, settings: [],
            images: [])
        let live = LiveBoundary(pace: .free)
        live.register(
            source: Channel.serial0.rawValue, name: "serial0", sink: Typist(["echo $((6*7))\n", "poweroff -f\n"], live))
        var inner: any HostBoundary = live
        var plane: DevicePlane?
        if boundary == .devices {
            let devices = DevicePlane(
                configuration: configuration, memoryMap: try MemoryMap(size: configuration.memory), clock: .virtual,
                host: live)
            plane = devices
            inner = devices
        }
        let recorder = RecordingBoundary(
            wrapping: inner, writer: try LogWriter(path: path, header: header), header: header)
        let machine = try PCMachine(configuration: configuration, image: image, door: recorder)
        recorder.memory = machine
        plane?.insideMemory = recorder
        _ = try machine.run(until: bits == 64 ? 20_000_000_000 : 3_000_000_000)
        if bits == 32 { _ = try machine.end(.positionReached) }
    }

    /// A replay at its beginning.
    func replay(engine: EngineKind = .best) throws -> (machine: PCMachine, door: ReplayBoundary) {
        let door = ReplayBoundary(reader: try LogReader(path: path))
        let machine = try PCMachine(configuration: configuration, image: image, door: door, engine: engine)
        door.memory = machine
        door.transcript = Transcript(source: Channel.serial0.rawValue, port: 0x3F8)
        return (machine, door)
    }
    func timeline(
        memoryLimit: Int = 1 << 30, engine: EngineKind = .best
    ) throws -> (timeline: Timeline, machine: PCMachine) {
        let (machine, door) = try replay(engine: engine)
        return (try Timeline(machine: machine, door: door, memoryLimit: memoryLimit), machine)
    }
}
