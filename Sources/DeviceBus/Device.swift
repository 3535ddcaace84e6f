import MachineState

/// A range of ports or addresses that a device answers at.
package struct Region: Sendable {
    package enum Space: UInt8, Sendable { case port = 0, memory = 1 }
    package var space: Space
    /// First port or physical address.
    package var base: UInt64
    /// Bytes.
    package var size: UInt64
    /// Register names, in order of their offsets; may be empty.
    package var registers: [RegisterName]

    package init(_ space: Space, base: UInt64, size: UInt64, registers: [RegisterName] = []) {
        self.space = space
        self.base = base
        self.size = size
        self.registers = registers
    }

    /// The register that `offset` lies in, or nil when none is declared there.
    package func register(at offset: UInt64) -> RegisterName? {
        registers.last { $0.offset <= offset && offset < $0.offset + $0.length }
    }

    /// The name of the register at `offset`, or nil when it has none.
    package func registerName(at offset: UInt64) -> String? {
        guard let register = register(at: offset) else { return nil }
        return register.length > 1 && offset != register.offset ? "\(register.name)+\(offset - register.offset)" : register.name
    }
}

/// A chip on the bus. No member has a default: a device that forgets its state does not compile.
///
/// Devices are single threaded and deterministic: they know virtual time (`Scheduler`), their wiring (`IRQLine`,
/// `DMAPort`) and a `HostChannel`, and nothing else of the world.
package protocol Device: AnyObject {
    /// Unique in a machine, such as "serial0"; stable between versions, because recordings hold it.
    var name: String { get }
    /// Where it answers after a reset, in a fixed order: `read` and `write` get the index.
    var regions: [Region] { get }
    /// Reads `width` bytes (1, 2, 4 or 8) at `offset` of region number `region`. The range lies within the region.
    func read(region: Int, offset: UInt64, width: Int) -> UInt64
    /// Writes the low `width` bytes of `value`.
    func write(region: Int, offset: UInt64, width: Int, value: UInt64)
    /// A deadline set with `Scheduler.schedule` has come.
    func timerFired(_ timer: Int)
    /// Back to the state after power-on. Outputs (interrupt lines, timers) are set too.
    func reset()
    /// Saves, loads, digests or describes all that the guest can observe. Calls no other device.
    func visitState(_ visitor: inout StateVisitor)
}

/// A device with a data port that is read in blocks (`REP INSW`).
package protocol BlockDevicePort: Device {
    /// As many reads of `width` bytes at `offset` as fill `buffer`. Returns which part of a disk image the bytes are, if
    /// they are one.
    func readBlock(region: Int, offset: UInt64, width: Int, into buffer: UnsafeMutableRawBufferPointer) -> ImageOrigin?
}

/// Blocks read element by element.
package enum BlockPort {
    /// Fills `buffer` with values of `width` bytes, little-endian.
    package static func fill(_ buffer: UnsafeMutableRawBufferPointer, width: Int, _ read: () -> UInt64) {
        for offset in stride(from: 0, through: buffer.count - width, by: width) {
            let value = read()
            for lane in 0..<width { buffer[offset + lane] = UInt8(truncatingIfNeeded: value >> UInt64(lane * 8)) }
        }
    }
}
