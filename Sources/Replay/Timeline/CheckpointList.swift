import Boundary
import MachineState

/// Checkpoints in the order of their places, never more than fit the memory: the ones that help least go first.
struct CheckpointList {
    private(set) var all: [Checkpoint] = []
    /// Bytes that all checkpoints together may take.
    let memoryLimit: Int
    static let maxCount = 4000

    init(memoryLimit: Int) { self.memoryLimit = memoryLimit }

    /// The index of the first checkpoint that is not before `place`.
    private func index(_ place: Place) -> Int {
        var low = 0
        var high = all.count
        while low < high {
            let middle = (low + high) / 2
            if all[middle].place < place { low = middle + 1 } else { high = middle }
        }
        return low
    }

    func last(before place: Place) -> Checkpoint? {
        let index = index(place)
        return index > 0 ? all[index - 1] : nil
    }
    func last(atOrBefore place: Place) -> Checkpoint? {
        let index = index(place)
        if index < all.count, all[index].place == place { return all[index] }
        return index > 0 ? all[index - 1] : nil
    }
    /// The last one that `isBefore` holds for; it must hold for a beginning of the list.
    func last(where isBefore: (Checkpoint) -> Bool) -> Checkpoint? {
        var low = 0
        var high = all.count
        while low < high {
            let middle = (low + high) / 2
            if isBefore(all[middle]) { low = middle + 1 } else { high = middle }
        }
        return low > 0 ? all[low - 1] : nil
    }

    /// Adds one, then drops others as long as `bytes` is too much.
    mutating func add(_ checkpoint: Checkpoint, cursor: Position, bytes: () -> Int) {
        let index = index(checkpoint.place)
        if index < all.count, all[index].place == checkpoint.place { return }
        all.insert(checkpoint, at: index)
        while all.count > 2, all.count > Self.maxCount || bytes() > memoryLimit, dropLeastUseful(cursor: cursor) {}
    }

    /// Forgets all but the first.
    mutating func keepFirst() { all.removeSubrange(1...) }

    /// Adds those of an index.
    mutating func add(filed: [Checkpoint]) {
        for checkpoint in filed {
            let index = index(checkpoint.place)
            if index < all.count, all[index].place == checkpoint.place { continue }
            all.insert(checkpoint, at: index)
        }
    }

    /// Near the cursor checkpoints are dense, far away they may be sparse: the one goes whose absence makes a gap that
    /// is smallest in proportion to its distance. The first one stays, and those that take no memory. False: none left.
    private mutating func dropLeastUseful(cursor: Position) -> Bool {
        var victim = 0
        var least = Double.infinity
        for index in 1..<all.count where !all[index].isFiled {
            let before = all[index - 1].place.position
            let after = index + 1 < all.count ? all[index + 1].place.position : all[index].place.position
            let place = all[index].place.position
            let distance = place > cursor ? (place - cursor) * 2 : cursor - place
            let score = (Double(after - before) + 1) / (Double(distance) + 64)
            if score < least {
                least = score
                victim = index
            }
        }
        if victim == 0 { return false }
        all.remove(at: victim)
        return true
    }
}
