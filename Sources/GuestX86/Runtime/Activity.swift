import CPUCore
import MachineState

/// Notes what is executed, written and delivered, for `ActivitySummary`. Only slow paths come here: before a stretch
/// begins the jump cache and the TLBs' rights to write are emptied, so that the first use of anything in it takes one.
package struct ActivityTrace {
    let bits: UnsafeMutablePointer<UInt64>
    var isOn = false

    init() {
        bits = .allocate(capacity: ActivitySummary.words)
        bits.initialize(repeating: 0, count: ActivitySummary.words)
    }

    @inline(__always)
    func executed(_ linear: UInt64, _ length: UInt64) {
        var line = linear >> 6
        let last = (linear &+ max(length, 1) &- 1) >> 6
        while true {
            let slot = ActivitySummary.slot(line)
            bits[slot >> 6] |= 1 << UInt64(slot & 63)
            if line == last { return }
            line = (line &+ 1) & (.max >> 6)
        }
    }
    @inline(__always)
    func written(_ linear: UInt64) {
        let slot = ActivitySummary.slot(linear >> 12)
        bits[ActivitySummary.filterWords + (slot >> 6)] |= 1 << UInt64(slot & 63)
    }
    @inline(__always)
    func delivered(_ vector: UInt8) {
        bits[ActivitySummary.vectors + Int(vector >> 6)] |= 1 << UInt64(vector & 63)
    }
    func writtenByDMA() { bits[ActivitySummary.dma] = 1 }
}

extension X86CPU {
    /// What has happened since the last call; a new stretch begins.
    package func takeActivity() -> ActivitySummary {
        let summary = ActivitySummary(UnsafePointer(activity.bits))
        activity.bits.update(repeating: 0, count: ActivitySummary.words)
        #if arch(x86_64)
            if !activity.isOn, let generator {
                generator.stopLinking()
                blocks.flushAll()
            }
        #endif
        activity.isOn = true
        blocks.clearJumpCache()
        supervisorTLB.protectAll()
        userTLB.protectAll()
        return summary
    }
}
