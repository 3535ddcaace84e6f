import DeviceBus
import MachineState

/// The 256 bytes of configuration space of a PCI function with header type 0 (PCI Local Bus 2.1, chapter 6).
///
/// Kept in the function's `State`; what can be written is fixed by the function when it makes it.
package struct PCIConfiguration {
    /// What a base address register asks for.
    package struct BaseAddress {
        package var space: Region.Space
        /// Bytes, a power of two: at least 4 ports or 16 bytes of memory.
        package var size: UInt32
        /// Memory without side effects.
        package var isPrefetchable: Bool
        /// The index in the function's `regions` that moves with this register.
        package var region: Int
    }

    /// The registers of a function with header type 0 (PCI Local Bus 2.1, 6.1).
    package static let registers = [
        RegisterName(0x00, "VENDOR", length: 2), RegisterName(0x02, "DEVICE", length: 2),
        RegisterName(0x04, "COMMAND", length: 2), RegisterName(0x06, "STATUS", length: 2),
        RegisterName(0x08, "REVISION"),
        RegisterName(0x09, "CLASS", length: 3), RegisterName(0x0C, "CACHE-LINE"), RegisterName(0x0D, "LATENCY"),
        RegisterName(0x0E, "HEADER"), RegisterName(0x0F, "BIST"), RegisterName(0x10, "BAR0", length: 4),
        RegisterName(0x14, "BAR1", length: 4), RegisterName(0x18, "BAR2", length: 4),
        RegisterName(0x1C, "BAR3", length: 4),
        RegisterName(0x20, "BAR4", length: 4), RegisterName(0x24, "BAR5", length: 4),
        RegisterName(0x28, "CARDBUS", length: 4),
        RegisterName(0x2C, "SUBSYSTEM-VENDOR", length: 2), RegisterName(0x2E, "SUBSYSTEM", length: 2),
        RegisterName(0x30, "ROM", length: 4), RegisterName(0x34, "CAPABILITIES"), RegisterName(0x3C, "INTERRUPT-LINE"),
        RegisterName(0x3D, "INTERRUPT-PIN"), RegisterName(0x3E, "MIN-GRANT"), RegisterName(0x3F, "MAX-LATENCY"),
    ]

    /// The registers as they read.
    package private(set) var bytes = [UInt8](repeating: 0, count: 256)
    /// Bits that software may change.
    private var writable = [UInt8](repeating: 0, count: 256)
    /// Bits that a written 1 clears.
    private var clearable = [UInt8](repeating: 0, count: 256)
    /// Base address registers 0...5.
    package private(set) var baseAddresses = [BaseAddress?](repeating: nil, count: 6)
    /// Bytes of the expansion ROM, a power of two; 0: there is none.
    package private(set) var romSize: UInt32 = 0
    private var initial = [UInt8](repeating: 0, count: 256)

    /// - Parameters:
    ///   - classCode: class, subclass and programming interface, 24 bits.
    ///   - interruptPin: 1...4 for INTA...INTD, 0 for none.
    package init(
        vendor: UInt16, device: UInt16, revision: UInt8 = 0, classCode: UInt32, subsystemVendor: UInt16 = 0,
        subsystem: UInt16 = 0, interruptPin: UInt8 = 0, isMultifunction: Bool = false
    ) {
        preset(0x00, width: 2, UInt32(vendor))
        preset(0x02, width: 2, UInt32(device))
        preset(0x08, width: 4, classCode << 8 | UInt32(revision))
        preset(0x0E, width: 1, isMultifunction ? 0x80 : 0)
        preset(0x2C, width: 2, UInt32(subsystemVendor))
        preset(0x2E, width: 2, UInt32(subsystem))
        preset(0x3D, width: 1, UInt32(interruptPin))
        // Command: I/O, memory, bus master, parity, SERR, interrupt disable.
        allowWrites(0x04, width: 2, mask: 0x0547)
        // Status: the error bits.
        allowClearing(0x06, width: 2, mask: 0xF900)
        allowWrites(0x0C, width: 2, mask: 0xFFFF)
        allowWrites(0x3C, width: 1, mask: 0xFF)
    }

    // MARK: Making one

    /// Sets a register's value after power-on, little-endian, and now.
    package mutating func preset(_ offset: Int, width: Int, _ value: UInt32) {
        for lane in 0..<width {
            initial[offset + lane] = UInt8(truncatingIfNeeded: value >> UInt32(lane * 8))
            bytes[offset + lane] = initial[offset + lane]
        }
    }

    /// Lets software change the bits of `mask`.
    package mutating func allowWrites(_ offset: Int, width: Int, mask: UInt32) {
        for lane in 0..<width { writable[offset + lane] = UInt8(truncatingIfNeeded: mask >> UInt32(lane * 8)) }
    }

    /// Lets software clear the bits of `mask` by writing ones.
    package mutating func allowClearing(_ offset: Int, width: Int, mask: UInt32) {
        for lane in 0..<width { clearable[offset + lane] = UInt8(truncatingIfNeeded: mask >> UInt32(lane * 8)) }
    }

    /// Gives base address register `index` (0...5) to region number `region` of the function.
    package mutating func setBaseAddress(
        _ index: Int, _ space: Region.Space, size: UInt32, region: Int, isPrefetchable: Bool = false
    ) {
        precondition(size >= (space == .port ? 4 : 16) && size & (size - 1) == 0, "a BAR's size is a power of two")
        baseAddresses[index] = BaseAddress(space: space, size: size, isPrefetchable: isPrefetchable, region: region)
        preset(0x10 + index * 4, width: 4, space == .port ? 1 : (isPrefetchable ? 8 : 0))
        allowWrites(0x10 + index * 4, width: 4, mask: ~(size - 1) & (space == .port ? ~3 : ~15))
    }

    /// Gives the function an expansion ROM of `size` bytes, a power of two of 2048 at least.
    package mutating func setROM(size: UInt32) {
        precondition(size >= 2048 && size & (size - 1) == 0, "a ROM's size is a power of two")
        romSize = size
        allowWrites(0x30, width: 4, mask: ~(size - 1) | 1)
    }

    /// Puts a capability (PCI 2.2, 6.7) at `offset`, in front of those that are there: its ID, then the link, then
    /// `body`. What software may write in it is allowed apart.
    package mutating func addCapability(_ identifier: UInt8, at offset: Int, _ body: [UInt8]) {
        preset(offset, width: 1, UInt32(identifier))
        preset(offset + 1, width: 1, UInt32(initial[0x34]))
        for (index, byte) in body.enumerated() { preset(offset + 2 + index, width: 1, UInt32(byte)) }
        preset(0x34, width: 1, UInt32(offset))
        // Status: there is a list.
        preset(0x06, width: 1, UInt32(initial[0x06] | 0x10))
    }

    // MARK: Use

    /// Back to the values after power-on.
    package mutating func reset() { bytes = initial }

    /// The register of `width` bytes (1, 2 or 4) at `offset`, little-endian. Beyond the space: 0.
    package func read(_ offset: Int, width: Int) -> UInt32 {
        var value: UInt32 = 0
        for lane in 0..<width where bytes.indices.contains(offset + lane) {
            value |= UInt32(bytes[offset + lane]) << UInt32(lane * 8)
        }
        return value
    }

    /// A write by software: only what may be changed changes.
    package mutating func write(_ offset: Int, width: Int, _ value: UInt32) {
        for lane in 0..<width where bytes.indices.contains(offset + lane) {
            let index = offset + lane
            let byte = UInt8(truncatingIfNeeded: value >> UInt32(lane * 8))
            bytes[index] = bytes[index] & ~writable[index] & ~(clearable[index] & byte) | byte & writable[index]
        }
    }

    /// A change by the function itself, such as a status bit.
    package mutating func set(_ offset: Int, width: Int, _ value: UInt32) {
        for lane in 0..<width { bytes[offset + lane] = UInt8(truncatingIfNeeded: value >> UInt32(lane * 8)) }
    }

    /// The function is not there any more: all registers read as ones.
    package mutating func vanish() { bytes = [UInt8](repeating: 0xFF, count: 256) }

    /// Command register: bit 0 I/O, bit 1 memory, bit 2 bus master, bit 10 interrupts off.
    package var command: UInt16 { UInt16(truncatingIfNeeded: read(4, width: 2)) }
    /// The function may use its interrupt pin.
    package var allowsInterruptPin: Bool { command & 0x400 == 0 }
    /// The function may read and write RAM.
    package var isBusMaster: Bool { command & 4 != 0 }

    /// Where base address register `index` is now: nil when decoding is off, or while it is being sized.
    package func base(_ index: Int) -> UInt64? {
        guard let bar = baseAddresses[index], command & (bar.space == .port ? 1 : 2) != 0 else { return nil }
        let base = UInt64(read(0x10 + index * 4, width: 4) & ~(bar.size &- 1) & (bar.space == .port ? ~3 : ~15))
        let end = base + UInt64(bar.size)
        // Address 0 means unset; all ones means that software asks for the size.
        guard base != 0, end <= (bar.space == .port ? 0x1_0000 : 0xFFFF_FFFF) else { return nil }
        return base
    }

    /// Where the expansion ROM is now: nil when it is not decoded, or while it is being sized.
    package var romBase: UInt64? {
        let register = read(0x30, width: 4)
        guard romSize > 0, command & 2 != 0, register & 1 != 0 else { return nil }
        let base = UInt64(register & ~(romSize - 1))
        return base != 0 && base + UInt64(romSize) <= 0xFFFF_FFFF ? base : nil
    }

    /// The region of base address register `index` as `Device.regions` must give it: empty while it is not decoded.
    package func region(_ index: Int, registers: [RegisterName] = []) -> Region {
        guard let bar = baseAddresses[index] else { return Region(.memory, base: 0, size: 0) }
        let base = base(index)
        return Region(bar.space, base: base ?? 0, size: base == nil ? 0 : UInt64(bar.size), registers: registers)
    }

    package mutating func visit(_ visitor: inout StateVisitor) {
        visitor.field("bytes", &bytes)
        if visitor.mode == .load, bytes.count != 256 {
            visitor.fail("a PCI function has 256 bytes of configuration space")
            reset()
        }
    }
}
