import MachineState

/// Sectors on their way between a medium and guest RAM, in pieces that take virtual time: what drives with scatter-gather
/// lists have in common. Part of their `State`.
package struct BlockTransfer {
    package enum Direction: UInt8, Sendable {
        case none = 0
        /// From the medium to RAM.
        case read = 1
        case write = 2
    }
    /// How the end of a piece's time left things.
    package enum Progress: Sendable {
        /// Another piece follows: `startPiece` is due.
        case more
        case done
        /// The host could not read or write.
        case failed
    }

    package var direction = Direction.none
    /// The next sector, and how many are left.
    package var sector: UInt64 = 0
    package var remaining: UInt64 = 0
    /// Bytes of the RAM's buffer that are done.
    package var done: UInt64 = 0
    /// The piece that is on its way.
    package var buffer: [UInt8] = []
    package var hasFailed = false
    /// Behind the last sector that was accessed: a transfer from here needs no seek.
    package var head: UInt64 = 0

    /// The largest piece that moves in one go, in sectors: 512 KiB.
    private static let pieceSize: UInt64 = 1024

    package init() {}

    package mutating func visit(_ visitor: inout StateVisitor) {
        visitor.field("direction", &direction)
        visitor.field("sector", &sector)
        visitor.field("remaining", &remaining)
        visitor.field("done", &done)
        visitor.field("buffer", &buffer)
        visitor.field("hasFailed", &hasFailed)
        visitor.field("head", &head)
    }

    /// Begins a transfer of `count` sectors; they must be on the medium.
    mutating func start(_ direction: Direction, sector: UInt64, count: UInt64) {
        self.direction = direction
        self.sector = sector
        remaining = count
        done = 0
        hasFailed = false
    }

    /// Ends a transfer, whatever its state.
    mutating func stop() {
        let head = self.head
        self = BlockTransfer()
        self.head = head
    }

    /// The host could not do what it was asked for. Comes as an input, before the end of the piece's time.
    mutating func fail() {
        hasFailed = true
        // What could not be read is the same at a replay, where it can.
        for index in buffer.indices { buffer[index] = 0 }
    }

    /// Begins a piece. Returns what it takes in virtual time: a model of a quick disk, 60 µs for a seek, 256 MB/s.
    /// - Parameter fetch: the bytes to be written: where in RAM's buffer, and how many.
    mutating func startPiece(_ medium: any BlockMedium, fetch: (Int, Int) -> [UInt8]) -> VirtualTime {
        let count = min(remaining, Self.pieceSize)
        let bytes = Int(count) * 512
        if direction == .read {
            buffer = [UInt8](repeating: 0, count: bytes)
            buffer.withUnsafeMutableBytes { medium.read(sector: sector, into: $0) }
        } else {
            buffer = fetch(Int(clamping: done), bytes)
            // A guest may change its descriptors meanwhile: what is missing is zero.
            if buffer.count < bytes { buffer += [UInt8](repeating: 0, count: bytes - buffer.count) }
            buffer.withUnsafeBytes { medium.prepare(sector: sector, from: $0) }
        }
        return 10_000 + (sector == head ? 0 : 60_000) + count * 2_000
    }

    /// The piece's time is over.
    /// - Parameter store: puts bytes into RAM's buffer, at an offset; its last argument says where a part of the bytes
    ///   (offset, count) comes from.
    mutating func endPiece(
        _ medium: any BlockMedium, store: ([UInt8], Int, (Int, Int) -> ImageOrigin?) -> Void
    ) -> Progress {
        let count = UInt64(buffer.count / 512)
        // A snapshot may be damaged: the piece must still be on the disk, and in the request.
        guard !hasFailed, count > 0, count <= remaining, sector <= medium.sectorCount,
            count <= medium.sectorCount - sector
        else { return .failed }
        if direction == .read {
            let first = sector * 512
            store(buffer, Int(clamping: done)) { offset, count in
                let place = first + UInt64(offset)
                let last = (place + UInt64(max(count, 1)) - 1) / 512
                return medium.origin(sector: place / 512, count: Int(last - place / 512) + 1)?
                    .advanced(by: Int(place % 512))
            }
        } else {
            buffer.withUnsafeBytes { medium.write(sector: sector, from: $0) }
        }
        sector += count
        remaining -= count
        done &+= UInt64(buffer.count)
        head = sector
        buffer = []
        return remaining > 0 ? .more : .done
    }
}
