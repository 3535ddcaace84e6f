import Foundation
import MachineState
import Testing

@testable import Boundary
@testable import Machine
@testable import Replay

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
            boundary: boundary, clockShift: 3, digestInterval: 5_000_000, date: configuration.date, settings: [], images: [])

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

        // In one go, and stopped all the time: then blocks begin and end elsewhere.
        for stutter in [nil, SplitMix(state: 1), SplitMix(state: 2)] {
            let reader = try LogReader(path: path)
            #expect(reader.isComplete)
            let door = ReplayBoundary(reader: reader)
            let replayed = try PCMachine(configuration: configuration, image: image, door: door)
            door.memory = replayed
            replayed.stutter = stutter
            // At the devices boundary a replay has no device but the video adapter.
            #expect((replayed.board == nil) == (boundary == .devices))
            #expect(try replayed.run(until: .max) == outcome)
            #expect(replayed.cpu.position == machine.cpu.position)
            #expect(replayed.digests() == machine.digests())
            #expect(door.digestsChecked > 50)
            #expect(door.endReason == .poweredOff)
        }
    }
}
