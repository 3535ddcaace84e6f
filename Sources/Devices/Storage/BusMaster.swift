import DeviceBus
import MachineState

/// The bus master of one IDE channel (Programming Interface for Bus Master IDE Controller 1.0; 82371SB, 2.7).
///
/// It walks a table of physical region descriptors: an address (32 bits) and a count of bytes (16 bits, 0 for 64 KiB),
/// the last one marked by bit 31 of its second word.
package struct BusMaster {
    /// Bit 0 starts, bit 3 says that RAM is written.
    package var command: UInt8 = 0
    /// Bit 0 active, bit 1 error, bit 2 interrupt; bits 5 and 6 are software's.
    package var status: UInt8 = 0
    /// Where the table starts.
    package var table: UInt32 = 0
    /// The next descriptor.
    package var next: UInt32 = 0
    /// The present region: where it goes on, and how much of it is left.
    package var address: UInt32 = 0
    package var left: UInt32 = 0
    /// The present region is the last one.
    package var isLast = false

    package init() {}

    package mutating func visit(_ visitor: inout StateVisitor) {
        visitor.field("command", &command)
        visitor.field("status", &status)
        visitor.field("table", &table)
        visitor.field("next", &next)
        visitor.field("address", &address)
        visitor.field("left", &left)
        visitor.field("isLast", &isLast)
    }

    package var isActive: Bool { status & 1 != 0 }

    package mutating func start() {
        next = table
        left = 0
        isLast = false
        status |= 1
    }

    mutating func stop() { status &= ~1 }

    /// Makes `left` more than 0; false when the table has ended.
    private mutating func advance(_ memory: any DMAPort) -> Bool {
        if left > 0 { return true }
        if isLast {
            stop()
            return false
        }
        var descriptor: UInt64 = 0
        withUnsafeMutableBytes(of: &descriptor) { memory.read(UInt64(next), into: $0) }
        descriptor = UInt64(littleEndian: descriptor)
        next &+= 8
        address = UInt32(truncatingIfNeeded: descriptor) & ~1
        let count = UInt32(truncatingIfNeeded: descriptor >> 32) & 0xFFFE
        left = count == 0 ? 0x1_0000 : count
        isLast = descriptor >> 63 != 0
        return true
    }

    /// Stores bytes of a buffer into RAM, as many as the table has room for.
    /// - Parameter origin: where bytes of the buffer (offset, count) come from, if from a disk image.
    /// - Returns: how many.
    package mutating func store(
        _ buffer: [UInt8], from start: Int, memory: any DMAPort, origin: (Int, Int) -> ImageOrigin?
    ) -> Int {
        var offset = start
        while offset < buffer.count, advance(memory) {
            let count = min(buffer.count - offset, Int(left))
            let origin = origin(offset, count)
            buffer.withUnsafeBytes {
                memory.write(
                    UInt64(address), from: UnsafeRawBufferPointer(rebasing: $0[offset..<offset + count]), origin: origin)
            }
            take(count)
            offset += count
        }
        endIfLast()
        return offset - start
    }

    /// Fills a buffer from RAM, as far as the table goes. Returns the count of bytes.
    package mutating func fetch(_ buffer: inout [UInt8], from start: Int, memory: any DMAPort) -> Int {
        var offset = start
        while offset < buffer.count, advance(memory) {
            let count = min(buffer.count - offset, Int(left))
            buffer.withUnsafeMutableBytes {
                memory.read(UInt64(address), into: UnsafeMutableRawBufferPointer(rebasing: $0[offset..<offset + count]))
            }
            take(count)
            offset += count
        }
        endIfLast()
        return offset - start
    }

    private mutating func take(_ count: Int) {
        address &+= UInt32(count)
        left -= UInt32(count)
    }

    /// The last region is used up: the bus master stops by itself.
    private mutating func endIfLast() {
        if isLast, left == 0 { stop() }
    }
}
