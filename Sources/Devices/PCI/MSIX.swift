import DeviceBus
import MachineState

/// The vectors of a function with MSI-X (PCI 3.0, 6.8.2): a table of messages in memory, and what is pending. Part of
/// the function's `State`; the capability is in its configuration space.
package struct MSIX {
    /// Offset of the pending bits behind the table's start; the table has at most 128 entries.
    package static let pendingOffset: UInt64 = 0x800
    /// The value of a vector register that means none.
    package static let noVector: UInt16 = 0xFFFF

    /// Four words an entry: address low and high, data, control (bit 0 masks).
    package private(set) var table: [UInt32]
    /// A bit for each vector whose message waits.
    package private(set) var pending: [UInt32]

    /// - Parameter count: vectors, 1...128.
    package init(count: Int) {
        precondition((1...128).contains(count))
        table = (0..<count * 4).map { $0 & 3 == 3 ? 1 : 0 }
        pending = [UInt32](repeating: 0, count: (count + 31) / 32)
    }

    package var count: Int { table.count / 4 }

    package mutating func visit(_ visitor: inout StateVisitor) {
        let fresh = MSIX(count: count)
        visitor.field("table", &table)
        visitor.field("pending", &pending)
        if visitor.mode == .load, table.count != fresh.table.count || pending.count != fresh.pending.count {
            visitor.fail("another number of MSI-X vectors")
            self = fresh
        }
    }

    /// The capability, its table and pending bits in base address register `bar`.
    package static func addCapability(
        to configuration: inout PCIConfiguration, at offset: Int, vectors: Int, bar: UInt8
    ) {
        let last = UInt16(vectors - 1)
        configuration.addCapability(
            0x11, at: offset,
            [UInt8(last & 0xFF), UInt8(last >> 8), bar, 0, 0, 0, bar, UInt8(pendingOffset >> 8), 0, 0])
        // Bit 15 enables, bit 14 masks all.
        configuration.allowWrites(offset + 2, width: 2, mask: 0xC000)
    }

    // MARK: Registers in memory

    /// One byte of table or pending bits.
    package func read(_ offset: UInt64) -> UInt8 {
        let shift = UInt32(offset & 3) * 8
        let word = Int(offset >> 2)
        if offset < Self.pendingOffset { return word < table.count ? UInt8(truncatingIfNeeded: table[word] >> shift) : 0 }
        let bits = word - Int(Self.pendingOffset >> 2)
        return bits < pending.count ? UInt8(truncatingIfNeeded: pending[bits] >> shift) : 0
    }

    /// Writes a byte of the table; the pending bits are read only. `deliverPending` is due afterwards.
    package mutating func write(_ offset: UInt64, _ value: UInt8) {
        let word = Int(offset >> 2)
        guard offset < Self.pendingOffset, word < table.count else { return }
        let shift = UInt32(offset & 3) * 8
        let merged = table[word] & ~(0xFF << shift) | UInt32(value) << shift
        table[word] = word & 3 == 3 ? merged & 1 : (word & 3 == 0 ? merged & ~3 : merged)
    }

    // MARK: Messages

    /// The function has something to say by `vector`.
    /// - Parameter control: the capability's control word.
    package mutating func send(_ vector: UInt16, control: UInt16, to sink: any MessageSink) {
        guard Int(vector) < count else { return }
        let index = Int(vector)
        if control & 0x4000 != 0 || table[index * 4 + 3] & 1 != 0 {
            pending[index / 32] |= 1 << UInt32(index & 31)
            return
        }
        pending[index / 32] &= ~(1 << UInt32(index & 31))
        sink.deliver(
            address: UInt64(table[index * 4 + 1]) << 32 | UInt64(table[index * 4]), data: table[index * 4 + 2])
    }

    /// Masks may have gone: sends what has waited.
    package mutating func deliverPending(control: UInt16, to sink: any MessageSink) {
        guard control & 0xC000 == 0x8000 else { return }
        for (index, bits) in pending.enumerated() where bits != 0 {
            for bit in 0..<32 where bits >> UInt32(bit) & 1 != 0 {
                send(UInt16(truncatingIfNeeded: index * 32 + bit), control: control, to: sink)
            }
        }
    }
}
