import MachineState
import Replay

/// One step of what a driver and its device say to each other, as far as two runs should have it alike.
package struct TraceStep: Sendable {
    /// What is compared.
    package let key: UInt64
    package let number: UInt64
    package let position: Position
    /// Index of the site; -1 for DMA.
    package let site: Int32
    package let value: UInt64
    /// Accesses that it stands for: rounds of polling are one step.
    package var count: UInt32
}

/// What a trace says of each device, for a comparison: rounds of polling are one step; values that are times or addresses
/// of buffers do not count, nor where in RAM a bus master reads and writes.
package struct TraceSteps {
    package private(set) var devices: [String: [TraceStep]] = [:]

    /// Reads the whole trace, or a part.
    package init(_ trace: TraceReader, _ filter: TraceFilter) throws {
        var names: [String] = []
        var numbers: [String: Int] = [:]
        var lists: [[TraceStep]] = []
        var keys: [(device: Int, key: UInt64, ignoresValue: Bool, isRead: Bool)] = []
        var generation = 0
        func device(_ name: String) -> Int {
            if let known = numbers[name] { return known }
            numbers[name] = names.count
            names.append(name)
            lists.append([])
            return names.count - 1
        }
        try trace.forEach(filter) { item in
            let event = item.event
            if item.site >= 0 {
                if generation != trace.siteGeneration {
                    generation = trace.siteGeneration
                    keys = []
                }
                while keys.count <= item.site {
                    let site = trace.sites[keys.count]
                    var digest = StateDigest()
                    Array(site.place.utf8).withUnsafeBytes { digest.mix(bytes: $0) }
                    digest.mix(UInt64(site.kind.rawValue) << 8 | UInt64(site.width))
                    keys.append((device(site.device), digest.value, site.contents != .value, !site.isWrite))
                }
                let known = keys[item.site]
                var digest = StateDigest()
                digest.mix(known.key)
                if event.kind == .portBlock || event.kind == .portImage {
                    digest.mix(UInt64(event.blockLength))
                } else if !known.ignoresValue {
                    digest.mix(event.value)
                }
                let step = TraceStep(
                    key: digest.value, number: item.number, position: event.position, site: Int32(item.site),
                    value: event.value, count: 1)
                Self.append(step, to: &lists[known.device], isRead: known.isRead) { keys[Int($0)].key == known.key }
            } else if event.kind.isDMA {
                var digest = StateDigest()
                digest.mix(event.kind == .dmaRead ? 1 : 2)
                let length = event.kind == .dmaImage ? UInt64(event.width) : UInt64(event.bytes.count)
                digest.mix(length)
                let step = TraceStep(
                    key: digest.value, number: item.number, position: event.position, site: -1, value: length, count: 1)
                let number = device(item.master?.device ?? "dma")
                Self.append(step, to: &lists[number], isRead: event.kind == .dmaRead) { _ in false }
            }
            return true
        }
        for (name, number) in numbers { devices[name] = lists[number] }
    }

    /// A read of what the step before has read is polling: the last value counts. The same holds for a loop over two registers.
    private static func append(_ step: TraceStep, to list: inout [TraceStep], isRead: Bool, isSame: (Int32) -> Bool) {
        if isRead, let last = list.last, last.site >= 0 ? isSame(last.site) : last.key == step.key {
            var merged = step
            merged.count = last.count &+ 1
            list[list.count - 1] = merged
            return
        }
        if isRead, list.count >= 3 {
            let (a, b, c) = (list[list.count - 3], list[list.count - 2], list[list.count - 1])
            // a b a b: the second round takes the place of the first.
            if b.key == step.key, a.key == c.key, a.site >= 0, b.site >= 0 {
                list.removeLast(2)
                list[list.count - 1] = c
                var merged = step
                merged.count = b.count &+ 1
                list.append(merged)
                return
            }
        }
        list.append(step)
    }
}

/// Where two lists of steps differ.
package struct TraceDifference: Sendable {
    package let device: String
    package let first: Range<Int>
    package let second: Range<Int>
}

/// Aligns two traces, device by device.
package enum TraceDiff {
    /// So many steps alike are a place to go on from.
    private static let anchor = 6
    private static let windows = [64, 512, 4096, 65536, 1 << 24]

    /// The stretches that differ, in order.
    package static func compare(_ device: String, _ a: [TraceStep], _ b: [TraceStep]) -> [TraceDifference] {
        var found: [TraceDifference] = []
        var i = 0
        var j = 0
        while i < a.count || j < b.count {
            if i < a.count, j < b.count, a[i].key == b[j].key {
                i += 1
                j += 1
                continue
            }
            let (nextI, nextJ) = resume(a, i, b, j)
            found.append(TraceDifference(device: device, first: i..<nextI, second: j..<nextJ))
            i = nextI
            j = nextJ
        }
        return found
    }

    /// The nearest places behind `i` and `j` from which both go on alike.
    private static func resume(_ a: [TraceStep], _ i: Int, _ b: [TraceStep], _ j: Int) -> (Int, Int) {
        for window in windows {
            let endA = min(a.count, i + window)
            let endB = min(b.count, j + window)
            var places: [UInt64: Int] = [:]
            for place in stride(from: endB - anchor, through: j, by: -1) { places[mark(b, place)] = place }
            var best: (Int, Int)?
            for place in i..<max(i, endA - anchor + 1) {
                if let best, place - i >= best.0 - i + best.1 - j { break }
                guard let other = places[mark(a, place)], isAlike(a, place, b, other) else { continue }
                if best.map({ place - i + other - j < $0.0 - i + $0.1 - j }) ?? true { best = (place, other) }
            }
            if let best { return best }
            if endA == a.count, endB == b.count { break }
        }
        // What is left is too short for an anchor: its common end.
        var tail = 0
        while tail < a.count - i, tail < b.count - j, tail < anchor, a[a.count - 1 - tail].key == b[b.count - 1 - tail].key {
            tail += 1
        }
        return (a.count - tail, b.count - tail)
    }

    private static func mark(_ list: [TraceStep], _ place: Int) -> UInt64 {
        var value: UInt64 = 0
        for index in place..<place + anchor { value = (value << 7 | value >> 57) ^ list[index].key &* 0x9E37_79B9_7F4A_7C15 }
        return value
    }
    private static func isAlike(_ a: [TraceStep], _ i: Int, _ b: [TraceStep], _ j: Int) -> Bool {
        (0..<anchor).allSatisfy { a[i + $0].key == b[j + $0].key }
    }
}
