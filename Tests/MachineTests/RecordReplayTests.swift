import Foundation
import MachineState
import Testing

@testable import Boundary
@testable import Machine
@testable import Replay

/// A real guest: Debian's cloud kernel and a busybox shell. `scripts/test` says where they are.
private struct Guest {
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

    func image(_ configuration: PCConfiguration) throws -> BootImage {
        let map = try MemoryMap(size: configuration.memory)
        let tables = ACPITables(memory: map)
        var image = try LinuxLoader(
            kernel: kernel, initrd: initrd, commandLine: configuration.commandLine, memory: map, acpiRoot: tables.root,
            entry: .long64
        ).load()
        image.blobs += tables.blobs
        return image
    }
}

/// What the guest's console says, and what is typed to it: at random host times.
private final class Typist: HostSink, @unchecked Sendable {
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

@Suite(.serialized) struct RecordReplayTests {
    private static let isGuestHere = Guest.shared != nil

    /// Boots, types at random host times, powers off; replays; everything must be equal.
    @Test(
        .enabled(if: isGuestHere, "no guest: run scripts/test, which fetches it"),
        arguments: [
            (BoundaryKind.inputs, DevicePlane.Clock.virtual), (.devices, .virtual), (.devices, .host),
        ])
    func replayIsBitExact(boundary: BoundaryKind, clock: DevicePlane.Clock) throws {
        let guest = try #require(Guest.shared)
        var configuration = PCConfiguration()
        configuration.boundary = boundary
        configuration.memory = 128 << 20
        configuration.date = 1_700_000_000
        configuration.commandLine = "console=ttyS0 panic=-1 quiet"
        let image = try guest.image(configuration)
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("emu-\(UUID().uuidString).emurec").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        let header = LogHeader(
            boundary: boundary, clockShift: 3, digestInterval: 50_000_000, date: configuration.date, settings: [], images: [])

        let live = LiveBoundary(pace: .free)
        let typist = Typist(["echo $((6*7))\n", "cat /proc/interrupts\n", "poweroff -f\n"], live)
        live.register(source: Channel.serial0.rawValue, name: "serial0", sink: typist)
        var inner: any HostBoundary = live
        var plane: DevicePlane?
        if boundary == .devices {
            let devices = DevicePlane(
                configuration: configuration, memoryMap: try MemoryMap(size: configuration.memory), clock: clock, host: live)
            plane = devices
            inner = devices
        }
        let recorder = RecordingBoundary(wrapping: inner, writer: try LogWriter(path: path, header: header), header: header)
        let machine = try PCMachine(configuration: configuration, image: image, door: recorder)
        recorder.memory = machine
        plane?.insideMemory = recorder
        let outcome = try machine.run(until: 20_000_000_000)
        #expect(outcome == .ended(.poweredOff, code: nil))
        #expect(typist.console.contains("\r\n42\r\n"))

        let reader = try LogReader(path: path)
        #expect(reader.isComplete)
        let door = ReplayBoundary(reader: reader)
        let replayed = try PCMachine(configuration: configuration, image: image, door: door)
        door.memory = replayed
        // At the devices boundary a replay has no device but the video adapter.
        #expect((replayed.board == nil) == (boundary == .devices))
        #expect(try replayed.run(until: .max) == outcome)
        #expect(replayed.cpu.position == machine.cpu.position)
        #expect(replayed.digests() == machine.digests())
        #expect(door.digestsChecked > 5)
        #expect(door.endReason == .poweredOff)
    }
}
