import MachineState

/// The deadlines of all devices, in virtual time, and the devices' only clock.
///
/// Entries that are due at the same time fire in the order they were set: the order is part of the state.
package final class Scheduler {
    private struct Entry {
        var deadline: VirtualTime
        var order: UInt64
        var device: Int
        var timer: Int
    }

    /// The present virtual time in nanoseconds: set by whoever owns the clock before devices run.
    package var now: VirtualTime = 0
    private var entries: [Entry] = []
    private var nextOrder: UInt64 = 0
    private var devices: [any Device] = []
    /// The earliest deadline, or `.max`.
    package private(set) var nextDeadline: VirtualTime = .max

    package init() {}

    /// Makes a device known. Devices are named by their place in this order in snapshots.
    package func register(_ device: any Device) { devices.append(device) }

    /// Sets timer number `timer` of `device` to fire at `deadline` (not before the present), replacing what was set.
    package func schedule(_ device: any Device, timer: Int, at deadline: VirtualTime) {
        guard let index = devices.firstIndex(where: { $0 === device }) else {
            preconditionFailure("\(device.name) is not registered with the scheduler")
        }
        entries.removeAll { $0.device == index && $0.timer == timer }
        entries.append(Entry(deadline: max(deadline, now), order: nextOrder, device: index, timer: timer))
        nextOrder += 1
        update()
    }

    /// Takes a timer back. Nothing happens when it is not set.
    package func cancel(_ device: any Device, timer: Int) {
        entries.removeAll { devices[$0.device] === device && $0.timer == timer }
        update()
    }

    /// Fires everything due at or before `now`, in order.
    package func fireDue() {
        while nextDeadline <= now {
            let index = entries.indices.min { earlier(entries[$0], entries[$1]) }!
            let entry = entries.remove(at: index)
            update()
            devices[entry.device].timerFired(entry.timer)
        }
    }

    private func earlier(_ a: Entry, _ b: Entry) -> Bool { (a.deadline, a.order) < (b.deadline, b.order) }
    private func update() { nextDeadline = entries.reduce(.max) { min($0, $1.deadline) } }

    package func visitState(_ visitor: inout StateVisitor) {
        visitor.field("now", &now)
        visitor.field("nextOrder", &nextOrder)
        visitor.list("entries", &entries, make: { Entry(deadline: 0, order: 0, device: 0, timer: 0) }) { entry, visitor in
            visitor.field("deadline", &entry.deadline)
            visitor.field("order", &entry.order)
            visitor.field("device", &entry.device)
            visitor.field("timer", &entry.timer)
        }
        if visitor.mode == .load {
            if entries.contains(where: { !devices.indices.contains($0.device) }) {
                visitor.fail("a timer of an unknown device")
                entries = []
            }
            update()
        }
    }
}
