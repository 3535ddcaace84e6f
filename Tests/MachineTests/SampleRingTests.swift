import Passthrough
import Synchronization
import Testing

/// What is between the guest's sound card and the host's.
struct SampleRingTests {
    private static func take(_ ring: SampleRing, _ count: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0xAA, count: count)
        bytes.withUnsafeMutableBytes { ring.take(into: $0) }
        return bytes
    }
    private static func frames(_ range: Range<Int>) -> [UInt8] {
        range.flatMap { frame in (0..<4).map { UInt8(truncatingIfNeeded: (frame &* 4 + $0) % 251 + 1) } }
    }

    /// All sizes, round the ring's end many times: the order is kept, and silence comes only where nothing is left.
    @Test func everyFrameInItsOrder() {
        let ring = SampleRing(rate: 48_000, capacity: 37, gathered: 1)
        var (given, taken) = (0, 0)
        for step in 0..<2000 {
            let count = step % 23
            ring.put(Self.frames(given..<given + count)[...])
            given += count
            let wanted = (step * 7) % 29
            let known = min(wanted, given - taken)
            #expect(Self.take(ring, wanted * 4) == Self.frames(taken..<taken + known) + [UInt8](repeating: 0, count: (wanted - known) * 4))
            taken += known
            if given - taken + 23 > 37 {
                #expect(Self.take(ring, (given - taken) * 4) == Self.frames(taken..<given))
                taken = given
            }
        }
        #expect(ring.lost == 0)
        #expect(taken > 10_000)
    }

    @Test func whatDoesNotFitIsLost() {
        let ring = SampleRing(rate: 48_000, capacity: 8, gathered: 1)
        ring.put(Self.frames(0..<6)[...])
        ring.put(Self.frames(6..<12)[...])
        #expect(ring.lost == 4)
        #expect(Self.take(ring, 48) == Self.frames(0..<8) + [UInt8](repeating: 0, count: 16))
        // A frame that is not whole is none.
        ring.put(Self.frames(0..<2).prefix(7))
        #expect(Self.take(ring, 8) == Self.frames(0..<1) + [0, 0, 0, 0])
    }

    /// After silence some is gathered; a few frames alone are not kept for ever, nor is the rest at the end.
    @Test func gathersAfterSilence() {
        let ring = SampleRing(rate: 48_000, capacity: 100, gathered: 10)
        ring.put(Self.frames(0..<9)[...])
        #expect(Self.take(ring, 16) == [UInt8](repeating: 0, count: 16))
        ring.put(Self.frames(9..<10)[...])
        #expect(Self.take(ring, 16) == Self.frames(0..<4))
        #expect(Self.take(ring, 40) == Self.frames(4..<10) + [UInt8](repeating: 0, count: 16))
        ring.put(Self.frames(0..<1)[...])
        var looks = 0
        while Self.take(ring, 4) == [0, 0, 0, 0], looks < 10 { looks += 1 }
        #expect(looks == 3)
        _ = Self.take(ring, 4)
        ring.put(Self.frames(0..<3)[...])
        #expect(!ring.isOver)
        ring.end()
        #expect(Self.take(ring, 12) == Self.frames(0..<3))
        #expect(ring.isOver)
    }

    private final class Count: Sendable { let value = Atomic<Int>(0) }

    /// One thread puts, another takes: nothing is lost or mixed up.
    @Test func twoThreads() async {
        let ring = SampleRing(rate: 48_000, capacity: 1000, gathered: 1)
        let total = 100_000
        let taken = Count()
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                var given = 0
                while given < total {
                    // As much as fits for certain.
                    let count = min(1000 - (given - taken.value.load(ordering: .acquiring)), 77, total - given)
                    if count == 0 {
                        await Task.yield()
                        continue
                    }
                    ring.put(Self.frames(given..<given + count)[...])
                    given += count
                }
            }
            group.addTask {
                var all: [UInt8] = []
                while all.count < total * 4 {
                    // No frame here is silent.
                    let bytes = Self.take(ring, 256)
                    let silence = bytes.firstIndex(of: 0) ?? bytes.count
                    all += bytes[..<silence]
                    taken.value.store(all.count / 4, ordering: .releasing)
                    if silence == 0 { await Task.yield() }
                }
                #expect(all == Self.frames(0..<total))
            }
        }
        #expect(ring.lost == 0)
    }

    /// A guest that is late is not given more than a quarter of a second in advance; one in time gets everything.
    @Test func microphoneLead() {
        var inTime = MicrophoneLead(rate: 48_000, now: 5)
        let lost = (0..<1000).filter { !inTime.accepts(480, now: 5 + UInt64($0) * 10_000_000) }
        #expect(lost.isEmpty)
        var late = MicrophoneLead(rate: 48_000, now: 0)
        let accepted = (0..<1000).filter { late.accepts(480, now: UInt64($0) * 5_000_000) }.count
        // Five seconds go by for the guest: so many, and a quarter of a second.
        #expect((524...526).contains(accepted))
        // After a long silence nothing is owed.
        let isTooMuch = !late.accepts(480 * 40, now: .max)
        let isAccepted = late.accepts(480, now: .max)
        #expect(isTooMuch && isAccepted)
    }
}
