import MachineState
import Testing

@testable import Boundary
@testable import Replay

/// Which checkpoints stay when memory is short.
@Suite struct CheckpointListTests {
    private let counter = PageCounter()
    private static let unit: Position = 16_000_000
    /// Bytes of one checkpoint here: 16 pages with what the allocator needs.
    private static let size = 16 * (StoredPage.size + 64)

    private func checkpoint(at position: Position) -> Checkpoint {
        let bytes = (0..<16 * StoredPage.size).map { UInt8(truncatingIfNeeded: UInt64($0) &+ position) }
        return Checkpoint(
            place: Place(position), time: position, event: 0, groups: [],
            sections: [PagedBytes(bytes, like: nil, counter)])
    }

    /// Gaps between neighbours may grow in proportion to the distance from the cursor, no faster.
    private func expectSpacing(_ list: CheckpointList, cursor: Position, share: Double) {
        for (one, other) in zip(list.all, list.all.dropFirst()) {
            let gap = Double(other.place.position - one.place.position)
            let before = cursor >= other.place.position
            let distance = Double(before ? cursor - one.place.position : other.place.position - cursor)
            #expect(gap <= share * distance + 2 * Double(Self.unit), "a gap of \(gap) at a distance of \(distance)")
        }
    }

    @Test func aLongPassKeepsWhatIsNearAndStaysWithinMemory() {
        var list = CheckpointList(memoryLimit: 100 * Self.size)
        for number in 0..<1500 as Range<Position> {
            let position = number * Self.unit
            list.add(checkpoint(at: position), cursor: position, bytes: { counter.bytes })
            #expect(counter.bytes <= list.memoryLimit)
        }
        let end = 1499 * Self.unit
        #expect(list.all.count <= 100 && list.all.count >= 90)
        #expect(list.all[0].place == Place(0))
        #expect(list.all.last?.place == Place(end))
        // Dense at the cursor, a few per doubling of the distance far away.
        #expect(list.last(before: Place(end))?.place == Place(end - Self.unit))
        expectSpacing(list, cursor: end, share: 0.25)
        var distance = 64 * Self.unit
        while distance < end {
            let count = list.all.count { end - $0.place.position >= distance / 2 && end - $0.place.position < distance }
            #expect((3...40).contains(count), "\(count) at a distance of \(distance)")
            distance *= 2
        }
    }

    @Test func whereTheCursorGoesItBecomesDense() {
        var list = CheckpointList(memoryLimit: 100 * Self.size)
        for number in 0..<1000 as Range<Position> {
            list.add(checkpoint(at: number * Self.unit), cursor: number * Self.unit, bytes: { counter.bytes })
        }
        let middle = 300 * Self.unit
        for step in 0..<60 as Range<Position> {
            let position = middle + step * 1000
            list.add(checkpoint(at: position), cursor: position, bytes: { counter.bytes })
            #expect(counter.bytes <= list.memoryLimit)
        }
        let cursor = middle + 59 * 1000
        #expect(list.all.count { $0.place.position > middle - Self.unit && $0.place.position <= cursor } >= 20)
        #expect(list.all[0].place == Place(0))
        // What lies ahead may be sparser: going back is what checkpoints are for.
        expectSpacing(list, cursor: cursor, share: 1.2)
    }

    /// Those of an index take no memory and always stay.
    @Test func filedOnesStay() {
        var list = CheckpointList(memoryLimit: 20 * Self.size)
        list.add(checkpoint(at: 0), cursor: 0, bytes: { counter.bytes })
        list.add(filed: (1..<50 as Range<Position>).map { number in
            Checkpoint(place: Place(number * 1_000_000), time: 0, event: 0, groups: [], sections: [], isFiled: true)
        })
        for number in 0..<200 as Range<Position> {
            list.add(checkpoint(at: 77 + number * 500_000), cursor: 0, bytes: { counter.bytes })
        }
        #expect(list.all.count(where: \.isFiled) == 49)
        #expect(counter.bytes <= list.memoryLimit)
        list.keepFirst()
        #expect(list.all.count == 1)
    }
}
