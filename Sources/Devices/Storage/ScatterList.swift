import DeviceBus
import MachineState

/// Pieces of guest RAM that make up one buffer, as a bus master's descriptors name them.
package struct ScatterList {
    /// A piece of RAM.
    package struct Segment {
        package var address: UInt64
        /// Bytes, more than 0.
        package var length: UInt32
    }

    package var segments: [Segment] = []

    package init() {}

    package mutating func visit(_ visitor: inout StateVisitor) {
        visitor.list("segments", &segments, make: { Segment(address: 0, length: 0) }) { segment, visitor in
            visitor.field("address", &segment.address)
            visitor.field("length", &segment.length)
        }
    }

    /// Bytes of all pieces.
    package var length: Int { segments.reduce(0) { $0 + Int($1.length) } }
    package var isEmpty: Bool { segments.isEmpty }

    /// Appends a piece; one of no bytes is left out.
    package mutating func append(_ address: UInt64, _ length: UInt32) {
        if length > 0 { segments.append(Segment(address: address, length: length)) }
    }

    /// Reads `count` bytes from `offset` on; fewer, if the pieces end before.
    package func read(from offset: Int, count: Int, _ memory: any DMAPort) -> [UInt8] {
        let available = max(0, min(count, length - offset))
        var bytes = [UInt8](repeating: 0, count: available)
        bytes.withUnsafeMutableBytes { buffer in
            forEach(offset, available) { address, done, length in
                memory.read(address, into: UnsafeMutableRawBufferPointer(rebasing: buffer[done..<done + length]))
            }
        }
        return bytes
    }

    /// Writes bytes from `offset` on, as far as the pieces go. Returns the count of bytes.
    /// - Parameter origin: where `count` bytes from an offset in `bytes` on come from, if from a disk image.
    @discardableResult
    package func write(
        _ bytes: [UInt8], at offset: Int, _ memory: any DMAPort, origin: (Int, Int) -> ImageOrigin? = { _, _ in nil }
    ) -> Int {
        let room = max(0, min(bytes.count, length - offset))
        bytes.withUnsafeBytes { buffer in
            forEach(offset, room) { address, done, length in
                memory.write(
                    address, from: UnsafeRawBufferPointer(rebasing: buffer[done..<done + length]),
                    origin: origin(done, length))
            }
        }
        return room
    }

    /// The parts of `count` bytes from `offset` on that lie in one piece each: address, bytes before, bytes.
    private func forEach(_ offset: Int, _ count: Int, _ body: (UInt64, Int, Int) -> Void) {
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
