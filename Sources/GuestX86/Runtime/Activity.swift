import CPUCore
import MachineState

/// Notes what is executed, written and delivered, for `ActivitySummary`. Only slow paths come here: before a stretch
/// begins the jump cache and the TLBs' rights to write are emptied, so that the first use of anything in it takes one.
package struct ActivityTrace {
    let bits: UnsafeMutablePointer<UInt64>
    /// Pages of code noted last, by the low bits of their numbers, and the lines that were: most look-ups repeat.
    private let pages: UnsafeMutablePointer<SIMD2<UInt64>>
    private static let pageSlots = 1024
    var isOn = false

    init() {
        bits = .allocate(capacity: ActivitySummary.words)
        bits.initialize(repeating: 0, count: ActivitySummary.words)
        pages = .allocate(capacity: Self.pageSlots)
        pages.initialize(repeating: .zero, count: Self.pageSlots)
    }
    func deallocate() {
        bits.deallocate()
        pages.deallocate()
    }
    func clear() {
        bits.update(repeating: 0, count: ActivitySummary.words)
        pages.update(repeating: .zero, count: Self.pageSlots)
    }

    /// Code in these 64-byte lines of a page may be executed, and its last instruction may reach into the next page.
    @inline(__always)
    func executed(page: UInt64, _ lines: UInt64) {
        let slot = pages + Int(page & UInt64(Self.pageSlots - 1))
        if slot.pointee.x == page, slot.pointee.y == lines { return }
        note(page, lines)
    }
    @inline(never)
    private func note(_ page: UInt64, _ lines: UInt64) {
        pages[Int(page & UInt64(Self.pageSlots - 1))] = SIMD2(page, lines)
        var left = lines
        while left != 0 {
            executed(page << 12 &+ UInt64(left.trailingZeroBitCount) << 6, 1)
            left &= left &- 1
        }
        if lines >> 63 != 0 { executed((page &+ 1) << 12, 1) }
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
        activity.clear()
        activity.isOn = true
        blocks.clearJumpCache()
        supervisorTLB.protectAll()
        userTLB.protectAll()
        return summary
    }
}
