import MachineState

/// A place in a run where the next thing would be to execute an instruction: interrupts have been taken, inputs let in.
///
/// The position alone does not name it: an instruction that faults is followed, at the same position, by its handler's
/// first instruction. `phase` counts the interrupts and exceptions that were delivered at the position. Places that
/// exist are passed in ascending order.
package struct Place: Hashable, Sendable, Comparable, CustomStringConvertible {
    package var position: Position
    package var phase: UInt32

    package init(_ position: Position, phase: UInt32 = 0) {
        self.position = position
        self.phase = phase
    }
    package static let start = Place(0)
    package static let never = Place(.max)

    package static func < (a: Place, b: Place) -> Bool { (a.position, a.phase) < (b.position, b.phase) }
    package var description: String { phase == 0 ? "\(position)" : "\(position)+\(phase)" }
}

/// Accesses to be reported, by linear address.
package struct WatchRange: Hashable, Sendable {
    package enum Kind: UInt8, Sendable { case write, read, access }
    package var start: UInt64
    /// Bytes, 1 or more.
    package var length: UInt64
    package var kind: Kind
    package init(start: UInt64, length: UInt64, kind: Kind) {
        self.start = start
        self.length = length
        self.kind = kind
    }
}

/// Accesses to devices to be reported, by port or physical address.
package struct DeviceRange: Hashable, Sendable {
    package var isPort: Bool
    package var start: UInt64
    /// 1 or more.
    package var length: UInt64
    package init(isPort: Bool, start: UInt64, length: UInt64) {
        self.isPort = isPort
        self.start = start
        self.length = length
    }
}

/// An access of the processor to a device.
package struct DeviceAccess: Hashable, Sendable {
    package var isPort: Bool
    package var address: UInt64
    /// Bytes.
    package var width: Int
    package var isWrite: Bool
    /// Read or written.
    package var value: UInt64
    /// The instruction that makes it.
    package var by: Place
    package var pc: UInt64
    package init(isPort: Bool, address: UInt64, width: Int, isWrite: Bool, value: UInt64, by: Place, pc: UInt64) {
        self.isPort = isPort
        self.address = address
        self.width = width
        self.isWrite = isWrite
        self.value = value
        self.by = by
        self.pc = pc
    }
}

/// What a debugger wants to be stopped for.
package struct StopConditions: Sendable, Equatable {
    /// Linear addresses of instructions.
    package var breakpoints: Set<UInt64> = []
    package var watches: [WatchRange] = []
    /// Vectors of interrupts and exceptions whose delivery stops.
    package var vectors: Set<UInt8> = []
    package var devices: [DeviceRange] = []
    package init() {}
    package var isEmpty: Bool { breakpoints.isEmpty && watches.isEmpty && vectors.isEmpty && devices.isEmpty }
}

/// Why `TravelMachine.travel` came back.
package enum TravelStop: Sendable, Equatable {
    /// The place asked for, or the first one after it.
    case reached
    /// An instruction with a breakpoint is next.
    case breakpoint(UInt64)
    /// The instruction before has accessed a watched address. `by` is the place of that instruction. `dma`: none has, but
    /// this bus master, as far as it is known.
    case watch(WatchRange, address: UInt64, by: Place, pc: UInt64, dma: String?)
    /// This vector has been delivered; its handler is next.
    case delivered(UInt8)
    /// The instruction before has accessed a device.
    case device(DeviceAccess)
    /// The run is over.
    case ended(EndReason)
}

/// A machine whose live run a debugger can stop.
package protocol LiveMachine: TravelMachine {
    /// Stops the run soon when it is requested. Nil: nobody will.
    var pauseSwitch: PauseSwitch? { get set }
    /// The present between two instructions.
    var moment: Moment { get }
    /// The processor waits for an interrupt: this is no place, and can be left only by one.
    var isIdle: Bool { get }
    /// Nothing comes in any more at the present moment, only later: what has been delivered in it cannot be said by
    /// position and time, by which a recording says where an input belongs.
    func holdInputs()
}

/// A machine that can be put back to where it was. What is behind the door is not part of it.
package protocol TravelMachine: AnyObject {
    var place: Place { get }
    /// Virtual time in nanoseconds.
    var virtualTime: VirtualTime { get }
    /// Linear address of the next instruction.
    var programCounter: UInt64 { get }

    /// Runs to the first place at or after `target`, or to the first that a condition names. A breakpoint at the place
    /// where it starts counts only if `stopsAtStart`.
    func travel(to target: Place, conditions: StopConditions, stopsAtStart: Bool) throws -> TravelStop

    /// Everything but RAM, in sections. Only at a place where `travel` has stopped, or before the first instruction.
    func saveState() -> [[UInt8]]
    /// Loads what `saveState` gave. False: it does not fit this machine, which must then not be used any more.
    func loadState(_ sections: [[UInt8]]) -> Bool

    /// RAM and what else is large, in pages of 4096 bytes. There may come to be more of them; what a page beyond the count
    /// holds does not matter.
    var pageCount: Int { get }
    func page(_ number: Int) -> UnsafeRawPointer
    /// Calls `body` for each page written since the last call.
    func takeTouchedPages(_ body: (Int) -> Void)
    /// Before `loadState`.
    func replacePage(_ number: Int, from source: UnsafeRawPointer)

    /// What has happened since the last call, or the last load.
    func takeActivity() -> ActivitySummary

    /// Changes memory or a register, at a place where `travel` has stopped.
    func edit(_ edit: Edit)

    /// Digests of all parts of the state.
    func stateDigests() -> [PartDigest]
}
