import DeviceBus
import MachineState

/// A split virtqueue (Virtual I/O Device 1.1, 2.6): a table of descriptors, the driver's ring of available chains, the
/// device's ring of used ones, all in guest RAM. Part of the transport's `State`.
package struct VirtioQueue {
    /// What the driver has for the device.
    package enum Next {
        case nothing
        case chain(VirtioChain)
        /// The rings make no sense: the device needs a reset.
        case broken
    }

    private enum Flag {
        static let next: UInt16 = 1
        static let write: UInt16 = 2
        static let indirect: UInt16 = 4
    }
    /// The most descriptors in one indirect table.
    private static let indirectLimit = 1024

    /// Entries: a power of two.
    package var size: UInt16
    package var isEnabled = false
    /// Physical addresses of the three parts.
    package var descriptors: UInt64 = 0
    package var available: UInt64 = 0
    package var used: UInt64 = 0
    /// The MSI-X vector, or `MSIX.noVector`.
    package var vector = MSIX.noVector
    /// The index of the next available entry, and of the next used one. They run through all 16 bits.
    package var nextAvailable: UInt16 = 0
    package var nextUsed: UInt16 = 0

    package init(size: UInt16) { self.size = size }

    package mutating func visit(_ visitor: inout StateVisitor) {
        visitor.field("size", &size)
        visitor.field("isEnabled", &isEnabled)
        visitor.field("descriptors", &descriptors)
        visitor.field("available", &available)
        visitor.field("used", &used)
        visitor.field("vector", &vector)
        visitor.field("nextAvailable", &nextAvailable)
        visitor.field("nextUsed", &nextUsed)
        if visitor.mode == .load, !Self.isValid(size: size) {
            visitor.fail("a queue of \(size) entries")
            self = VirtioQueue(size: 1)
        }
    }

    /// A queue has 1...32768 entries, a power of two.
    package static func isValid(size: UInt16) -> Bool { size > 0 && size & (size - 1) == 0 }

    /// Where the parts are for a driver of the legacy interface, which gives the first page only (2.6.2).
    mutating func placeAsLegacy(page: UInt32) {
        descriptors = UInt64(page) << 12
        available = descriptors + 16 * UInt64(size)
        used = (available + 6 + 2 * UInt64(size) + 4095) & ~4095
        isEnabled = page != 0
    }

    // MARK: The driver's side

    /// Takes the next chain that the driver has made available.
    package mutating func next(_ memory: any DMAPort) -> Next {
        guard isEnabled else { return .nothing }
        let waiting = Self.word(memory, available &+ 2) &- nextAvailable
        if waiting == 0 { return .nothing }
        // More than fit: the ring is not one.
        if waiting > size { return .broken }
        let head = Self.word(memory, available &+ 4 &+ 2 &* UInt64(nextAvailable & (size - 1)))
        guard head < size, let chain = chain(head, memory) else { return .broken }
        nextAvailable &+= 1
        return .chain(chain)
    }

    /// Follows a chain; nil for one that loops, leads out of its table, or is in a wrong order.
    private func chain(_ head: UInt16, _ memory: any DMAPort) -> VirtioChain? {
        var chain = VirtioChain()
        chain.head = head
        var table = descriptors
        var entries = Int(size)
        var index = Int(head)
        var left = entries
        var total: UInt64 = 0
        var isIndirect = false
        while true {
            // A chain longer than its table visits a descriptor twice.
            guard left > 0, index < entries else { return nil }
            left -= 1
            var raw: (UInt64, UInt64) = (0, 0)
            withUnsafeMutableBytes(of: &raw) { memory.read(table &+ 16 &* UInt64(index), into: $0) }
            let address = UInt64(littleEndian: raw.0)
            let second = UInt64(littleEndian: raw.1)
            let length = UInt32(truncatingIfNeeded: second)
            let flags = UInt16(truncatingIfNeeded: second >> 32)
            if flags & Flag.indirect != 0 {
                let count = Int(length / 16)
                guard !isIndirect, flags & Flag.next == 0, length % 16 == 0, count > 0, count <= Self.indirectLimit else {
                    return nil
                }
                isIndirect = true
                table = address
                entries = count
                left = count
                index = 0
                continue
            }
            total += UInt64(length)
            guard total < 1 << 32 else { return nil }
            if flags & Flag.write != 0 {
                chain.writable.append(address, length)
            } else {
                // What the device reads comes first.
                guard chain.writable.isEmpty else { return nil }
                chain.readable.append(address, length)
            }
            if flags & Flag.next == 0 { return chain }
            index = Int(UInt16(truncatingIfNeeded: second >> 48))
        }
    }

    // MARK: The device's side

    /// Gives a chain back, with the count of bytes that were written to it.
    package mutating func push(_ chain: VirtioChain, written: Int, _ memory: any DMAPort) {
        let entry = UInt64(chain.head) | UInt64(UInt32(truncatingIfNeeded: written)) << 32
        withUnsafeBytes(of: entry.littleEndian) {
            memory.write(used &+ 4 &+ 8 &* UInt64(nextUsed & (size - 1)), from: $0)
        }
        nextUsed &+= 1
        withUnsafeBytes(of: nextUsed.littleEndian) { memory.write(used &+ 2, from: $0) }
    }

    /// The driver wants to be told of used chains.
    package func wantsInterrupt(_ memory: any DMAPort) -> Bool { Self.word(memory, available) & 1 == 0 }

    private static func word(_ memory: any DMAPort, _ address: UInt64) -> UInt16 {
        var word: UInt16 = 0
        withUnsafeMutableBytes(of: &word) { memory.read(address, into: $0) }
        return UInt16(littleEndian: word)
    }
}
