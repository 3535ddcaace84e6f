import Foundation
import MachineState
import Testing

@testable import Boundary
@testable import Machine
@testable import Replay

@Suite(.serialized) struct TravelSearchTests {
    private static let isGuestHere = Guest.shared != nil
    private static let comment: Comment = "no guest: run scripts/test, which fetches it"

    @Test func expressionsAreRead() throws {
        let all = try StopExpression.parse("exec 0x1000, write 0x2000:4, read 8192, vector 14, port 0x3f8:8, mmio 0xfee00000")
        #expect(all.breakpoints == [0x1000])
        #expect(all.watches == [
            WatchRange(start: 0x2000, length: 4, kind: .write), WatchRange(start: 8192, length: 8, kind: .read),
        ])
        #expect(all.vectors == [14])
        #expect(all.devices == [
            DeviceRange(isPort: true, start: 0x3F8, length: 8), DeviceRange(isPort: false, start: 0xFEE0_0000, length: 1),
        ])
        #expect(try StopExpression.parse("interrupt,exception").vectors.count == 256)
        for wrong in ["", "exec", "exec x", "write 1:0", "vector 256", "port", "jump 3", "write 1:2:3", ","] {
            #expect(throws: LogError.self) { try StopExpression.parse(wrong) }
        }
    }

    /// What the console shows is found forwards and backwards, at both boundaries.
    @Test(.enabled(if: isGuestHere, comment), arguments: BoundaryKind.allCases)
    func textIsFound(boundary: BoundaryKind) throws {
        let run = try #require(RecordedRun.of(boundary))
        let (timeline, _) = try run.timeline()
        let transcript = try #require(timeline.door.transcript)
        let prompt = Array("emu# ".utf8)
        #expect(try timeline.runForward(toText: prompt) == .reached)
        let first = timeline.place
        #expect(transcript.bytes.prefix(transcript.count).suffix(5).elementsEqual(prompt))
        _ = try timeline.stepBackward()
        #expect(transcript.count < transcript.bytes.count)
        _ = try timeline.stepForward()
        #expect(try timeline.runForward(toText: Array("\r\n42\r\n".utf8)) == .reached)
        let answer = timeline.place
        #expect(answer > first)
        #expect(try timeline.runForward(toText: Array("no such text".utf8)) == .end(.poweredOff))
        #expect(try timeline.runBackward(toText: Array("\r\n42\r\n".utf8)) == .reached)
        #expect(timeline.place == answer)
        #expect(try timeline.runBackward(toText: prompt) == .reached)
        #expect(timeline.place == first)
        #expect(try timeline.runBackward(toText: Array("no such text".utf8)) == .start)
    }

    /// Accesses to the serial port: the same ones forwards and backwards, and at the devices boundary the log's.
    @Test(.enabled(if: isGuestHere, comment), arguments: BoundaryKind.allCases)
    func deviceAccessesAreFound(boundary: BoundaryKind) throws {
        let run = try #require(RecordedRun.of(boundary))
        let (timeline, _) = try run.timeline()
        _ = try timeline.runForward(toText: Array("emu# ".utf8))
        var conditions = StopConditions()
        conditions.devices = [DeviceRange(isPort: true, start: 0x3F8, length: 8)]
        var forwards: [DeviceAccess] = []
        while forwards.count < 40, case .device(let access) = try timeline.runForward(conditions: conditions) {
            forwards.append(access)
        }
        #expect(forwards.count == 40)
        if boundary == .devices {
            var logged: [UInt64] = []
            try timeline.door.reader.forEachEvent { _, event in
                let isPort = event.kind == .portRead || event.kind == .portWrite
                if isPort, event.address >> 3 == 0x3F8 >> 3, event.position >= forwards[0].by.position {
                    logged.append(event.position)
                }
                return logged.count < 40
            }
            #expect(logged == forwards.map(\.by.position))
        }
        for access in forwards.reversed() {
            #expect(try timeline.runBackward(conditions: conditions) == .device(access))
            #expect(timeline.place == access.by)
        }
    }

    /// A run taken over from the middle of another is recorded whole, and replays; it may go elsewhere.
    @Test(.enabled(if: isGuestHere, comment), arguments: [0, 1] as [UInt32])
    func aReplayGoesLive(phase: UInt32) throws {
        let run = try #require(RecordedRun.inputs)
        let (timeline, machine) = try run.timeline()
        _ = try timeline.runForward(toText: Array("emu# ".utf8))
        if phase > 0 {
            // Right after a delivery.
            var conditions = StopConditions()
            conditions.vectors = Set(0...255)
            _ = try timeline.runBackward(conditions: conditions)
            #expect(timeline.place.phase > 0)
        }
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("emu-\(UUID().uuidString).emurec").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        let header = timeline.door.reader.header
        let live = LiveBoundary(pace: .free, origin: machine.moment)
        // After a delivery the first prompt is still to come: what waits already answers it.
        let typist = Typist((phase > 0 ? [""] : []) + ["echo $((7*8))\n", "poweroff -f\n"], live)
        live.register(source: Channel.serial0.rawValue, name: "serial0", sink: typist)
        // Input that waits already when the run is taken over.
        live.push(source: Channel.serial0.rawValue, bytes: Array("echo early\n".utf8))
        let recorder = try RecordingBoundary(
            wrapping: live, continuing: timeline.door, writer: try LogWriter(path: path, header: header), header: header)
        recorder.memory = machine
        machine.replaceDoor(recorder)
        #expect(try machine.run(until: machine.cpu.position + 500_000_000) == .ended(.poweredOff, code: nil), "\(typist.console)")
        #expect(typist.console.contains("56"))
        #expect(typist.console.contains("early"))

        let door = ReplayBoundary(reader: try LogReader(path: path))
        let replayed = try PCMachine(configuration: run.configuration, image: run.image, door: door)
        door.memory = replayed
        #expect(try replayed.run(until: .max) == .ended(.poweredOff, code: nil))
        #expect(replayed.digests() == machine.digests())
        #expect(door.endReason == .poweredOff)
    }
}
