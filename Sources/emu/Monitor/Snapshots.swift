import Foundation
import Machine
import MachineState

/// States of a live machine that its user wants to come back to (`savevm`, `loadvm`), in memory, for as long as the run lasts.
/// A run that is recorded has no need of them, and must not go back: its recording goes forward only.
final class Snapshots {
    private struct Snapshot {
        let moment: (position: Position, time: VirtualTime)
        let sections: [[UInt8]]
        /// Pages that are not all zero, by number.
        let pages: [Int: [UInt8]]
    }

    static let reasonAgainst =
        "a run that is recorded is not saved: emu replay FILE --until POSITION --live goes live again from any position"
    private static let pageSize = 4096

    private let machine: PCMachine
    /// The run is recorded.
    private let isRecorded: Bool
    private var snapshots: [String: Snapshot] = [:]

    init(_ machine: PCMachine, isRecorded: Bool) {
        self.machine = machine
        self.isRecorded = isRecorded
    }

    private func check() throws {
        if isRecorded { throw MonitorError(Self.reasonAgainst) }
        if machine.board == nil {
            throw MonitorError("the devices are outside (--boundary=devices): a machine without them cannot be saved")
        }
        if !machine.canSaveDisks {
            throw MonitorError("changes of disks that are in files (--overlay, --writable) cannot be saved: without these options they are in memory")
        }
    }

    func save(_ name: String) throws {
        try check()
        // Overlays give their contents page by page from now on.
        machine.takeTouchedPages { _ in }
        var pages: [Int: [UInt8]] = [:]
        for number in 0..<machine.pageCount {
            let bytes = UnsafeRawBufferPointer(start: machine.page(number), count: Self.pageSize)
            if bytes.contains(where: { $0 != 0 }) { pages[number] = Array(bytes) }
        }
        let moment = machine.moment
        snapshots[name] = Snapshot(
            moment: (moment.position, moment.time), sections: machine.saveState(), pages: pages)
    }

    /// Gives the nanoseconds by which the machine's clock has gone back.
    func load(_ name: String) throws -> UInt64 {
        try check()
        guard let snapshot = snapshots[name] else { throw MonitorError("there is no snapshot “\(name)”: info snapshots lists them") }
        let now = machine.moment.time
        let zeros = [UInt8](repeating: 0, count: Self.pageSize)
        let count = max(machine.pageCount, (snapshot.pages.keys.max() ?? 0) + 1)
        for number in 0..<count {
            (snapshot.pages[number] ?? zeros).withUnsafeBytes { machine.replacePage(number, from: $0.baseAddress!) }
        }
        guard machine.loadState(snapshot.sections) else { throw MonitorError("the snapshot “\(name)” does not fit the machine") }
        return now > snapshot.moment.time ? now - snapshot.moment.time : 0
    }

    func delete(_ name: String) throws {
        guard snapshots.removeValue(forKey: name) != nil else { throw MonitorError("there is no snapshot “\(name)”") }
    }

    /// A line each, the oldest first.
    var list: String {
        let sorted = snapshots.sorted { ($0.value.moment.position, $0.key) < ($1.value.moment.position, $1.key) }
        if sorted.isEmpty { return "there is no snapshot" }
        return sorted.map { name, snapshot in
            "\(name): position \(snapshot.moment.position), \(Message.seconds(snapshot.moment.time)) virtual, "
                + "\(snapshot.pages.count * Self.pageSize) bytes of memory"
        }.joined(separator: "\n")
    }
}
