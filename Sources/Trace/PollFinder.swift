/// Finds loops in which a driver reads one register, or a few in turn, until something changes.
struct PollFinder {
    /// A loop that has come to its end.
    struct Loop: Equatable {
        /// The sites that were accessed in turn.
        var sites: [Int]
        /// Rounds, all that were seen.
        var rounds: Int
        /// The last value of the first site.
        var value: UInt64
    }
    /// Rounds from which on it is a loop.
    static let leastRounds = 4
    private static let longest = 4

    private var history: [(site: Int, value: UInt64)] = []
    private var period = 0
    private var length = 0
    /// How often a site has read more, or less, than the round before.
    private var rises = 0
    private var falls = 0

    /// The next access; nil for what interrupts a loop. Gives a loop that has ended before it.
    mutating func next(_ access: (site: Int, value: UInt64)?) -> Loop? {
        guard let access else { return finish() }
        if period > 0, history[history.count - period].site == access.site {
            if length % period == 0 {
                let before = history[history.count - period].value
                if access.value > before { rises += 1 } else if access.value < before { falls += 1 }
            }
            remember(access)
            length += 1
            return nil
        }
        let ended = period > 0 ? finish() : nil
        remember(access)
        // The shortest period that the last accesses have.
        for candidate in 1...Self.longest where history.count >= candidate * 2 {
            let tail = history.suffix(candidate * 2).map(\.site)
            if Array(tail.prefix(candidate)) == Array(tail.suffix(candidate)) {
                period = candidate
                length = candidate * 2
                break
            }
        }
        return ended
    }

    /// The loop that goes on, as the trace ends or something else comes.
    mutating func finish() -> Loop? {
        defer {
            history.removeAll(keepingCapacity: true)
            period = 0
            length = 0
            rises = 0
            falls = 0
        }
        guard period > 0, length / period >= Self.leastRounds else { return nil }
        // Data that goes up and down is being fetched, not polled.
        let rounds = length / period
        if rises > rounds / 8, falls > rounds / 8 { return nil }
        return Loop(
            sites: history.suffix(period).map(\.site), rounds: length / period, value: history[history.count - period].value)
    }

    private mutating func remember(_ access: (site: Int, value: UInt64)) {
        if history.count >= Self.longest * 8 { history.removeFirst(history.count - Self.longest * 2) }
        history.append(access)
    }
}
