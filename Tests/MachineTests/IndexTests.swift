import Foundation
import MachineState
import Testing

@testable import Boundary
@testable import Machine
@testable import Replay

@Suite(.serialized) struct IndexTests {
    private static let isGuestHere = Guest.shared != nil
    private static let comment: Comment = "no guest: run scripts/test, which fetches it"

    private func temporary() -> String {
        FileManager.default.temporaryDirectory.appendingPathComponent("emu-\(UUID().uuidString).index").path
    }

    /// With an index the replay jumps to the same states as without, and never executes what lies before.
    @Test(.enabled(if: isGuestHere, comment), arguments: BoundaryKind.allCases)
    func jumpsByIndexAreExact(boundary: BoundaryKind) throws {
        let run = try #require(RecordedRun.of(boundary))
        let path = temporary()
        defer { try? FileManager.default.removeItem(atPath: path) }
        let (first, firstMachine) = try run.timeline()
        let size = try first.writeIndex(path)
        let written = try #require(FileManager.default.contents(atPath: path))
        #expect(UInt64(written.count) == size)
        let end = try #require(first.endPlace)

        let (second, secondMachine) = try run.timeline()
        #expect(try second.useIndex(path))
        #expect(second.endPlace == end)
        #expect(second.checkpointCount > 2)
        var generator = TestGenerator(seed: 5)
        for _ in 0..<6 {
            let goal = Place(generator.next() % end.position)
            _ = try first.seek(to: goal)
            _ = try second.seek(to: goal)
            #expect(first.place == second.place)
            #expect(firstMachine.digests() == secondMachine.digests())
            _ = try second.stepBackward()
            _ = try first.stepBackward()
            #expect(first.place == second.place)
            #expect(firstMachine.digests() == secondMachine.digests())
        }
        #expect(try second.seek(to: .never) == .end(.poweredOff))
        #expect(try first.seek(to: .never) == .end(.poweredOff))
        #expect(firstMachine.digests() == secondMachine.digests())
        // The console is known without a replay.
        #expect(second.door.transcript?.bytes == first.door.transcript?.bytes)
    }

    /// An index of another recording is left alone.
    @Test(.enabled(if: isGuestHere, comment))
    func anotherRecordingsIndexIsNotUsed() throws {
        let path = temporary()
        defer { try? FileManager.default.removeItem(atPath: path) }
        let (one, _) = try #require(RecordedRun.inputs).timeline()
        _ = try one.writeIndex(path)
        let (other, _) = try #require(RecordedRun.devices).timeline()
        #expect(try !other.useIndex(path))
        #expect(other.checkpointCount == 1)
        #expect(try !other.useIndex(path + ".absent"))
    }

    /// A damaged index is refused when it is opened, or dropped when the damaged part is needed; states are never wrong.
    @Test(.enabled(if: isGuestHere, comment))
    func aDamagedIndexIsNotUsed() throws {
        let run = try #require(RecordedRun.inputs)
        let path = temporary()
        defer { try? FileManager.default.removeItem(atPath: path) }
        let (good, goodMachine) = try run.timeline()
        _ = try good.writeIndex(path)
        let bytes = [UInt8](try #require(FileManager.default.contents(atPath: path)))
        let goal = Place(try #require(good.endPlace).position - 1_000_000)
        _ = try good.seek(to: goal)
        let expected = goodMachine.digests()
        var generator = TestGenerator(seed: 6)
        var refused = 0
        var dropped = 0
        for round in 0..<24 {
            var damaged = bytes
            switch round % 4 {
            case 0: damaged.removeLast(Int(generator.next() % UInt64(bytes.count)))
            case 1: damaged[bytes.count - 1 - Int(generator.next() % 4096)] ^= UInt8(1 + generator.next() % 255)
            default: for _ in 0..<200 { damaged[Int(generator.next() % UInt64(bytes.count))] ^= 0x55 }
            }
            try Data(damaged).write(to: URL(fileURLWithPath: path))
            let (timeline, machine) = try run.timeline()
            timeline.onIndexFailure = { _ in dropped += 1 }
            do {
                _ = try timeline.useIndex(path)
                _ = try timeline.seek(to: .never)
                _ = try timeline.seek(to: goal)
                #expect(timeline.place == goal)
                #expect(machine.digests() == expected)
                let here = timeline.place
                _ = try timeline.stepBackward()
                _ = try timeline.stepForward()
                #expect(timeline.place == here)
                #expect(machine.digests() == expected)
            } catch let error as LogError {
                refused += 1
                #expect(error.description.contains("damaged"))
            }
        }
        #expect(refused > 4)
        #expect(dropped > 0)
    }
}
