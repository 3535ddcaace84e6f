import Boundary
import GuestX86
import MachineState

extension PCMachine: LiveMachine {
    package var place: Place { Place(cpu.position, phase: cpu.phase) }
    package var virtualTime: VirtualTime { moment.time }
    package var programCounter: UInt64 { cpu.linearPC }

    package func travel(to target: Place, conditions: StopConditions, stopsAtStart: Bool) throws -> TravelStop {
        let debugger = cpu.debugger
        cpu.setDebug(
            breakpoints: Array(conditions.breakpoints),
            watches: conditions.watches.map {
                CPUDebugger.Watch(start: $0.start, length: $0.length, kind: CPUDebugger.AccessKind($0.kind))
            })
        var vectors = InlineArray<4, UInt64>(repeating: 0)
        for vector in conditions.vectors { vectors[Int(vector >> 6)] |= 1 << UInt64(vector & 63) }
        debugger.stopVectors = vectors
        deviceStops = conditions.devices
        deviceAccess = nil
        debugger.stopPhase = target.phase
        debugger.stopPosition = target.position
        debugger.clearPending()
        dmaWriter = nil
        let start = place
        debugger.skipPosition = stopsAtStart ? .max : start.position
        debugger.skipPhase = start.phase
        defer {
            debugger.stopPosition = .max
            debugger.stopVectors = InlineArray(repeating: 0)
            deviceStops = []
        }
        switch try run(until: .max) {
        case .ended(let reason, _): return .ended(reason)
        case .positionReached: settle()
        }
        switch debugger.stop {
        case .breakpoint(let address): return .breakpoint(address)
        case .delivered(let vector): return .delivered(vector)
        case .watch(let hit):
            let range = WatchRange(
                start: hit.watch.start, length: hit.watch.length, kind: WatchRange.Kind(hit.watch.kind))
            return .watch(
                range, address: hit.address, by: Place(hit.position, phase: hit.phase), pc: hit.pc,
                dma: hit.isDMA ? dmaWriter ?? "a bus master" : nil)
        case .requested: return deviceAccess.map { .device($0) } ?? .reached
        case .reached, nil: return .reached
        }
    }

    /// An access to a device is being made: the machine stops after it if it is asked for.
    func noteAccess(_ isPort: Bool, _ address: UInt64, _ width: Int, isWrite: Bool, _ value: UInt64) {
        let isMeant = deviceStops.contains {
            $0.isPort == isPort && address < $0.start &+ $0.length && $0.start < address &+ UInt64(width)
        }
        guard isMeant, deviceAccess == nil else { return }
        let position = cpu.exactPosition
        deviceAccess = DeviceAccess(
            isPort: isPort, address: address, width: width, isWrite: isWrite, value: value,
            by: Place(position, phase: cpu.debugger.phase(at: position)), pc: cpu.exactPC)
        cpu.debugger.requestStop()
    }

    /// A bus master has written RAM, and may have met a watch.
    func noteDMA() {
        guard let hit = cpu.debugger.pendingHit, hit.isDMA, dmaWriter == nil else { return }
        dmaWriter = board.map { $0.masters.lastWriter } ?? door.busMaster(isWriting: true)?.text
    }

    package func saveState() -> [[UInt8]] {
        var visitor = StateVisitor(.save)
        visitTravel(&visitor)
        var video = StateVisitor(.save)
        vga.visitState(&video)
        return [visitor.bytes, video.bytes]
    }

    package func loadState(_ sections: [[UInt8]]) -> Bool {
        guard sections.count == 2 else { return false }
        var visitor = StateVisitor(loading: sections[0])
        visitTravel(&visitor)
        var video = StateVisitor(loading: sections[1])
        vga.visitState(&video)
        forgetOutcome()
        return visitor.isComplete && video.isComplete
    }

    /// RAM, video memory and ROM; then the slots of the disks' overlays, one of each disk in turn.
    package var pageCount: Int {
        ram.pageCount + overlays.count * (overlays.lazy.map(\.slotCount).max() ?? 0)
    }
    private func slot(_ number: Int) -> (overlay: DiskOverlay, slot: Int)? {
        if number < ram.pageCount || overlays.isEmpty { return nil }
        let (slot, disk) = (number - ram.pageCount).quotientAndRemainder(dividingBy: overlays.count)
        return (overlays[disk], slot)
    }
    package func page(_ number: Int) -> UnsafeRawPointer {
        slot(number).map { $0.overlay.slot($0.slot) } ?? UnsafeRawPointer(ram.base + number * 4096)
    }
    package func takeTouchedPages(_ body: (Int) -> Void) {
        cpu.takeTouchedPages(body)
        for (disk, overlay) in overlays.enumerated() {
            overlay.isPaged = true
            overlay.takeTouchedSlots { body(ram.pageCount + $0 * overlays.count + disk) }
        }
    }
    package func replacePage(_ number: Int, from source: UnsafeRawPointer) {
        if let (overlay, slot) = slot(number) { return overlay.replaceSlot(slot, from: source) }
        if number < ram.pageCount { cpu.replace(page: number, from: source) }
    }
    package func takeActivity() -> ActivitySummary { cpu.takeActivity() }
    package func stateDigests() -> [PartDigest] { digests() }
}

extension CPUDebugger.AccessKind {
    fileprivate init(_ kind: WatchRange.Kind) {
        switch kind {
        case .write: self = .write
        case .read: self = .read
        case .access: self = .access
        }
    }
}
extension WatchRange.Kind {
    fileprivate init(_ kind: CPUDebugger.AccessKind) {
        switch kind {
        case .write: self = .write
        case .read: self = .read
        case .access: self = .access
        }
    }
}
