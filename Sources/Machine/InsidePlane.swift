import Boundary
import DeviceBus
import Devices
import MachineState

/// The devices of a machine that has them inside, as the outside of a devices cut: so that what would cross there can be
/// recorded while the machine runs at the inputs cut. Changes nothing in the machine.
final class InsidePlane: HostBoundary {
    private unowned let board: PCBoard
    private unowned let bus: Bus
    private unowned let scheduler: Scheduler
    /// What the CPU's pins have seen since the last moment.
    let pins = QueuedPins()
    /// Where the present idle time ends.
    var idleEnd: VirtualTime = .max

    init(board: PCBoard, bus: Bus, scheduler: Scheduler) {
        self.board = board
        self.bus = bus
        self.scheduler = scheduler
    }

    func horizon(after now: Moment) -> Position { .max }
    func nextInput(at now: Moment) throws(Divergence) -> TimedInput? { pins.take().map { TimedInput($0, at: now) } }
    func idle(at now: Moment, until deadline: VirtualTime) throws(Divergence) -> VirtualTime { idleEnd }
    func endRequested(at now: Moment) -> EndReason? { nil }

    func ask(_ question: Question, at now: Moment) throws(Divergence) -> UInt64 {
        scheduler.now = now.time
        switch question {
        case .portRead(let port, let width): return bus.read(.port, UInt64(port), width: Int(width))
        case .memoryRead(let address, let width): return bus.read(.memory, address, width: Int(width))
        case .interruptAcknowledge: return UInt64(board.localAPIC.acknowledge())
        case .host: return 0
        }
    }
    func askBlock(
        port: UInt16, width: UInt8, into buffer: UnsafeMutableRawBufferPointer, at now: Moment
    ) throws(Divergence) -> ImageOrigin? {
        scheduler.now = now.time
        return bus.readBlock(UInt64(port), width: Int(width), into: buffer)
    }
    func send(_ effect: Effect, at now: Moment) throws(Divergence) {
        scheduler.now = now.time
        switch effect {
        case .portWrite(let port, let width, let value): bus.write(.port, UInt64(port), width: Int(width), value: value)
        case .memoryWrite(let address, let width, let value): bus.write(.memory, address, width: Int(width), value: value)
        case .host: break
        }
    }
    func busMaster(isWriting: Bool) -> BusMasterName? { board.masters.active(isWriting: isWriting) }
    func busMasterKey(isWriting: Bool) -> UInt64? { board.masters.activeKey(isWriting: isWriting) }
    func nextDigest(after position: Position) -> Position { .max }
    func checkpoint(_ digests: [PartDigest], at now: Moment) throws(Divergence) {}
    func end(_ reason: EndReason, _ digests: [PartDigest], at now: Moment) throws(Divergence) {}
}

/// A door that what crosses a second cut is recorded at.
package typealias MirrorDoor = HostBoundary & InsideMemory

extension PCMachine {
    /// From now on, which must be the power-on of a machine at the inputs cut, what would cross the devices cut goes
    /// through a second door: `make` gets the devices' side of it.
    package func mirrorDevices(_ make: (any HostBoundary) throws -> any MirrorDoor) rethrows {
        guard let plane = makeInsidePlane() else { return }
        mirror = Mirror(plane: plane, door: try make(plane))
    }

    /// A second door and what is behind it.
    struct Mirror {
        let plane: InsidePlane
        let door: any MirrorDoor
    }
}
