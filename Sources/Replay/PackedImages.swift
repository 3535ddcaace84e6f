import CZstd
import MachineState

/// Images inside a recording, between its last chunk and its index (`docs/log-format.md`): pieces of 4 MiB, each one zstd
/// frame; pieces of zeros are left out.
package enum PackedImages {
    static let magic: UInt32 = 0x4741_4D49  // "IMAG"
    static let pieceSize = 4 << 20
    /// Magic, compressed length, raw length, checksum, number of the image, offset in it, checksum of these.
    static let headerSize = 32
    private static let level: Int32 = 9

    /// A piece as it stands in the file.
    struct Piece {
        var place: UInt64
        var compressedSize: Int
        var rawSize: Int
        var checksum: UInt32
        var image: Int
        var offset: UInt64

        var header: [UInt8] {
            var bytes: [UInt8] = []
            LogLayout.put32(PackedImages.magic, &bytes)
            LogLayout.put32(UInt32(compressedSize), &bytes)
            LogLayout.put32(UInt32(rawSize), &bytes)
            LogLayout.put32(checksum, &bytes)
            LogLayout.put32(UInt32(image), &bytes)
            LogLayout.put64(offset, &bytes)
            LogLayout.put32(CRC32C.checksum(bytes), &bytes)
            return bytes
        }

        init(place: UInt64, compressedSize: Int, rawSize: Int, checksum: UInt32, image: Int, offset: UInt64) {
            self.place = place
            self.compressedSize = compressedSize
            self.rawSize = rawSize
            self.checksum = checksum
            self.image = image
            self.offset = offset
        }

        /// Nil: not a whole, undamaged header.
        init?(_ bytes: [UInt8], at place: UInt64) {
            guard bytes.count == PackedImages.headerSize, LogLayout.get32(bytes, 0) == PackedImages.magic,
                LogLayout.get32(bytes, 28) == CRC32C.checksum(bytes[..<28])
            else { return nil }
            self.init(
                place: place, compressedSize: Int(LogLayout.get32(bytes, 4)), rawSize: Int(LogLayout.get32(bytes, 8)),
                checksum: LogLayout.get32(bytes, 12), image: Int(LogLayout.get32(bytes, 16)), offset: LogLayout.get64(bytes, 20))
            guard rawSize <= PackedImages.pieceSize, compressedSize <= 2 * PackedImages.pieceSize else { return nil }
        }
    }

    /// Writes a copy of a whole recording with its images.
    /// - Parameters:
    ///   - images: where the header's images are, by number.
    ///   - poll: called now and then with the bytes that have been read.
    package static func write(
        _ path: String, copying reader: LogReader, images: [String], poll: (UInt64) -> Void = { _ in }
    ) throws(LogError) {
        guard reader.isComplete else {
            throw LogError("\(reader.path): ends early (\(reader.endsEarly ?? "")): only a whole recording can be packed")
        }
        let output = try LogFile.create(path)
        var place: UInt64 = 0
        // Header and chunks as they are.
        while place < reader.eventsEnd {
            let count = Int(min(reader.eventsEnd - place, UInt64(pieceSize)))
            guard let bytes = try reader.bytes(at: place, count: count) else {
                throw LogError("\(reader.path): cannot be read at byte \(place)")
            }
            try output.append(bytes)
            place += UInt64(count)
        }
        var read: UInt64 = 0
        for (number, image) in images.enumerated() {
            let input = try LogFile.read(image)
            let size = input.size
            var hash = SHA256()
            var offset: UInt64 = 0
            while offset < size {
                let count = Int(min(size - offset, UInt64(pieceSize)))
                guard let raw = try input.read(at: offset, count: count) else { throw LogError("\(image): has become shorter") }
                raw.withUnsafeBytes { hash.update($0) }
                if raw.contains(where: { $0 != 0 }) {
                    var compressed = [UInt8](repeating: 0, count: ZSTD_compressBound(count))
                    let length = ZSTD_compress(&compressed, compressed.count, raw, count, level)
                    if ZSTD_isError(length) != 0 { throw LogError("\(path): zstd cannot compress a piece of \(image)") }
                    compressed.removeLast(compressed.count - length)
                    let piece = Piece(
                        place: place, compressedSize: length, rawSize: count, checksum: CRC32C.checksum(compressed),
                        image: number, offset: offset)
                    try output.append(piece.header + compressed)
                    place += UInt64(headerSize + length)
                }
                offset += UInt64(count)
                read += UInt64(count)
                poll(read)
            }
            guard size == reader.header.images[number].size, hash.finish() == reader.header.images[number].digest else {
                throw LogError("\(image): is not the recorded \(reader.header.images[number].role)")
            }
        }
        try output.append(LogWriter.ending(reader.chunks, at: place))
    }

    /// Which of the header's images are inside.
    package static func numbers(in reader: LogReader) throws(LogError) -> Set<Int> {
        var found: Set<Int> = []
        try forEachPiece(in: reader) { found.insert($0.image) }
        return found
    }

    /// Writes image number `number` to a file, and checks that it is the recorded one.
    package static func extract(_ number: Int, of reader: LogReader, to path: String) throws(LogError) {
        let image = reader.header.images[number]
        var pieces: [Piece] = []
        try forEachPiece(in: reader) { if $0.image == number { pieces.append($0) } }
        let output = try LogFile.create(path)
        var hash = SHA256()
        var done: UInt64 = 0
        func put(_ bytes: [UInt8]) throws(LogError) {
            bytes.withUnsafeBytes { hash.update($0) }
            try output.append(bytes)
            done += UInt64(bytes.count)
        }
        func zeros(to end: UInt64) throws(LogError) {
            while done < end { try put([UInt8](repeating: 0, count: Int(min(end - done, UInt64(pieceSize))))) }
        }
        let damaged = LogError("\(reader.path): the packed \(image.role) is damaged")
        for piece in pieces {
            guard piece.offset >= done, piece.offset <= image.size, UInt64(piece.rawSize) <= image.size - piece.offset else {
                throw damaged
            }
            try zeros(to: piece.offset)
            guard let compressed = try reader.bytes(at: piece.place + UInt64(headerSize), count: piece.compressedSize),
                CRC32C.checksum(compressed) == piece.checksum
            else { throw damaged }
            var raw = [UInt8](repeating: 0, count: piece.rawSize)
            let length = ZSTD_decompress(&raw, raw.count, compressed, compressed.count)
            guard ZSTD_isError(length) == 0, length == raw.count else { throw damaged }
            try put(raw)
        }
        try zeros(to: image.size)
        guard hash.finish() == image.digest else { throw damaged }
    }

    private static func forEachPiece(in reader: LogReader, _ body: (Piece) -> Void) throws(LogError) {
        guard reader.isComplete else { return }
        var place = reader.eventsEnd
        while let bytes = try reader.bytes(at: place, count: headerSize), let piece = Piece(bytes, at: place) {
            if reader.header.images.indices.contains(piece.image) { body(piece) }
            place += UInt64(headerSize + piece.compressedSize)
        }
    }
}
