import DeviceBus
import MachineState

/// A buffer that the driver has made available: pieces of RAM the device reads, and pieces it writes.
package struct VirtioChain {
    /// A piece of RAM.
    package struct Segment {
        package var address: UInt64
        /// Bytes, more than 0.
        package var length: UInt32
    }

    /// The number of its first descriptor, for the used ring.
    package var head: UInt16 = 0
    package var readable: [Segment] = []
    package var writable: [Segment] = []

    package init() {}

    package mutating func visit(_ visitor: inout StateVisitor) {
        visitor.field("head", &head)
        func visitSegments(_ name: String, _ segments: inout [Segment], _ visitor: inout StateVisitor) {
            visitor.list(name, &segments, make: { Segment(address: 0, length: 0) }) { segment, visitor in
                visitor.field("address", &segment.address)
                visitor.field("length", &segment.length)
            }
        }
        visitSegments("readable", &readable, &visitor)
        visitSegments("writable", &writable, &visitor)
    }

    /// Bytes that the device may read. Less than 2^32: a queue gives no other chains.
    package var readableLength: Int { readable.reduce(0) { $0 + Int($1.length) } }
    /// Bytes that the device may write.
    package var writableLength: Int { writable.reduce(0) { $0 + Int($1.length) } }

    /// Reads `count` bytes of the readable pieces from `offset` on; fewer, if they end before.
    package func read(from offset: Int, count: Int, _ memory: any DMAPort) -> [UInt8] {
        let available = max(0, min(count, readableLength - offset))
        var bytes = [UInt8](repeating: 0, count: available)
        bytes.withUnsafeMutableBytes { buffer in
            Self.forEach(readable, offset, available) { address, done, length in
                memory.read(address, into: UnsafeMutableRawBufferPointer(rebasing: buffer[done..<done + length]))
            }
        }
        return bytes
    }

    /// Writes bytes to the writable pieces from `offset` on, as far as they go. Returns the count of bytes.
    /// - Parameter origin: where `count` bytes from an offset in `bytes` on come from, if from a disk image.
    @discardableResult
    package func write(
        _ bytes: [UInt8], at offset: Int, _ memory: any DMAPort, origin: (Int, Int) -> ImageOrigin? = { _, _ in nil }
    ) -> Int {
        let room = max(0, min(bytes.count, writableLength - offset))
        bytes.withUnsafeBytes { buffer in
            Self.forEach(writable, offset, room) { address, done, length in
                memory.write(
                    address, from: UnsafeRawBufferPointer(rebasing: buffer[done..<done + length]),
                    origin: origin(done, length))
            }
        }
        return room
    }

    /// The parts of `count` bytes from `offset` on that lie in one piece each: address, bytes before, bytes.
    private static func forEach(_ segments: [Segment], _ offset: Int, _ count: Int, _ body: (UInt64, Int, Int) -> Void) {
        var skip = offset
        var done = 0
        for segment in segments where done < count {
            let length = Int(segment.length)
            if skip >= length {
                skip -= length
                continue
            }
            let part = min(length - skip, count - done)
            body(segment.address &+ UInt64(skip), done, part)
            done += part
            skip = 0
        }
    }
}
