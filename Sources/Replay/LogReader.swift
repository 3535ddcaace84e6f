import CZstd
import MachineState

/// Reads a recording, chunk by chunk.
package final class LogReader {
    package let header: LogHeader
    /// Of the file's format.
    package let version: UInt32
    package let chunks: [ChunkInfo]
    /// The recording was closed properly: it has its index.
    package let isComplete: Bool
    /// For an incomplete file: why it ends where it does.
    package let endsEarly: String?
    private let file: LogFile
    private let headerEnd: UInt64

    package init(path: String) throws(LogError) {
        file = try LogFile.read(path)
        guard file.size > 0 else { throw LogError("\(path): is empty") }
        let start = LogLayout.magic.count + 12
        guard let bytes = try file.read(at: 0, count: start), Array(bytes[..<LogLayout.magic.count]) == LogLayout.magic
        else { throw LogError("\(path): is not a recording of emu") }
        version = LogLayout.get32(bytes, LogLayout.magic.count)
        guard version >= 1, version <= LogHeader.formatVersion else {
            throw LogError("\(path): has format version \(version); this program reads up to \(LogHeader.formatVersion)")
        }
        let length = Int(LogLayout.get32(bytes, LogLayout.magic.count + 4))
        guard length <= LogLayout.maxHeader, let body = try file.read(at: UInt64(start), count: length),
            CRC32C.checksum(body) == LogLayout.get32(bytes, LogLayout.magic.count + 8)
        else { throw LogError("\(path): the header is damaged") }
        var header = LogHeader(boundary: .inputs, clockShift: 0, digestInterval: 0, date: 0, settings: [], images: [])
        var visitor = StateVisitor(loading: body)
        header.visit(&visitor)
        guard visitor.isComplete, header.clockShift <= 10 else {
            throw LogError("\(path): the header is damaged: \(visitor.failure ?? "unknown contents")")
        }
        self.header = header
        headerEnd = UInt64(start + length)
        if let chunks = try Self.index(file) {
            self.chunks = chunks
            isComplete = true
            endsEarly = nil
        } else {
            let (chunks, reason) = try Self.scan(file, from: UInt64(start + length))
            self.chunks = chunks
            isComplete = false
            endsEarly = reason
        }
    }

    package var path: String { file.path }
    /// The byte after the last chunk.
    var eventsEnd: UInt64 {
        chunks.last.map { $0.offset + UInt64(LogLayout.chunkHeaderSize) + UInt64($0.compressedSize) } ?? headerEnd
    }
    /// The file's own bytes; nil behind its end.
    func bytes(at offset: UInt64, count: Int) throws(LogError) -> [UInt8]? { try file.read(at: offset, count: count) }
    package var fileSize: UInt64 { file.size }
    package var eventCount: UInt64 { chunks.reduce(0) { $0 + UInt64($1.eventCount) } }

    private static func index(_ file: LogFile) throws(LogError) -> [ChunkInfo]? {
        let size = file.size
        guard size >= UInt64(LogLayout.footerSize),
            let footer = try file.read(at: size - UInt64(LogLayout.footerSize), count: LogLayout.footerSize),
            LogLayout.get32(footer, 12) == LogLayout.footerMagic
        else { return nil }
        let offset = LogLayout.get64(footer, 0)
        guard offset < size - UInt64(LogLayout.footerSize) else { return nil }
        let length = size - UInt64(LogLayout.footerSize) - offset
        guard length >= 8, length <= UInt64(LogLayout.maxChunk), let index = try file.read(at: offset, count: Int(length)),
            LogLayout.get32(index, 0) == LogLayout.indexMagic, CRC32C.checksum(index) == LogLayout.get32(footer, 8)
        else { return nil }
        let count = Int(LogLayout.get32(index, 4))
        let entry = 8 + LogLayout.chunkHeaderSize
        guard index.count == 8 + count * entry else { return nil }
        var chunks: [ChunkInfo] = []
        for number in 0..<count {
            let at = 8 + number * entry
            guard let chunk = ChunkInfo(Array(index[at + 8..<at + entry]), at: LogLayout.get64(index, at)) else { return nil }
            chunks.append(chunk)
        }
        return chunks
    }

    /// Follows the chunks from the first one: for a recording without an index.
    private static func scan(_ file: LogFile, from start: UInt64) throws(LogError) -> ([ChunkInfo], String) {
        var chunks: [ChunkInfo] = []
        var offset = start
        let size = file.size
        while true {
            if offset == size { return (chunks, "it was not closed: the recorder was stopped") }
            guard let bytes = try file.read(at: offset, count: LogLayout.chunkHeaderSize) else {
                return (chunks, "it is cut off at byte \(size)")
            }
            if LogLayout.get32(bytes, 0) == LogLayout.indexMagic { return (chunks, "its index is damaged") }
            if LogLayout.get32(bytes, 0) == PackedImages.magic { return (chunks, "it is cut off in its images, or its index is damaged") }
            guard let chunk = ChunkInfo(bytes, at: offset) else {
                return (chunks, "it is damaged at byte \(offset)")
            }
            let end = offset + UInt64(LogLayout.chunkHeaderSize) + UInt64(chunk.compressedSize)
            guard end <= size else { return (chunks, "it is cut off at byte \(size), in the middle of a chunk") }
            chunks.append(chunk)
            offset = end
        }
    }

    /// The events of chunk number `number`.
    package func events(inChunk number: Int) throws(LogError) -> [LogEvent] {
        let chunk = chunks[number]
        let raw = try rawBytes(of: chunk)
        do {
            return try ChunkDecoder.decode(
                raw, version: version, clockShift: header.clockShift, count: Int(chunk.eventCount),
                firstPosition: chunk.firstPosition, firstSkipped: chunk.firstSkipped)
        } catch { throw LogError("\(path): the chunk at byte \(chunk.offset) is damaged: \(error.description)") }
    }

    /// A chunk's columns.
    func rawBytes(of chunk: ChunkInfo) throws(LogError) -> [UInt8] {
        let compressed = try compressedBytes(of: chunk)
        var raw = [UInt8](repeating: 0, count: Int(chunk.rawSize))
        let size = ZSTD_decompress(&raw, raw.count, compressed, compressed.count)
        guard ZSTD_isError(size) == 0, size == raw.count else {
            throw LogError("\(path): the chunk at byte \(chunk.offset) cannot be decompressed")
        }
        return raw
    }

    /// A chunk as it is in the file.
    func compressedBytes(of chunk: ChunkInfo) throws(LogError) -> [UInt8] {
        let place = "\(path): the chunk at byte \(chunk.offset)"
        guard
            let compressed = try file.read(
                at: chunk.offset + UInt64(LogLayout.chunkHeaderSize), count: Int(chunk.compressedSize)),
            CRC32C.checksum(compressed) == chunk.checksum
        else { throw LogError("\(place) is damaged: the checksum does not match") }
        return compressed
    }

    /// All events from number `first` on, in order; one chunk is in memory at a time. `body` returns false to stop.
    package func forEachEvent(from first: UInt64 = 0, _ body: (UInt64, LogEvent) throws -> Bool) throws {
        for number in chunks.indices where chunks[number].firstEvent &+ UInt64(chunks[number].eventCount) > first {
            var event = chunks[number].firstEvent
            for next in try events(inChunk: number) {
                if event >= first, !(try body(event, next)) { return }
                event += 1
            }
        }
    }
}

extension LogReader {
    /// The position of event number `event`; nil when there are not so many.
    package func position(ofEvent event: UInt64) throws(LogError) -> Position? {
        guard let chunk = chunks.lastIndex(where: { $0.firstEvent <= event }) else { return nil }
        let events = try events(inChunk: chunk)
        let index = event - chunks[chunk].firstEvent
        return index < UInt64(events.count) ? events[Int(index)].position : nil
    }
}

extension LogReader {
    /// A digest of what the recording contains, from its chunks' checksums: says quickly whether it is the same one.
    var contentsDigest: StateDigest {
        var digest = StateDigest()
        digest.mix(fileSize)
        digest.mix(UInt64(header.boundary.rawValue))
        digest.mix(header.date)
        for image in header.images { Array(image.digest.utf8).withUnsafeBytes { digest.mix(bytes: $0) } }
        for setting in header.settings { Array(setting.value.utf8).withUnsafeBytes { digest.mix(bytes: $0) } }
        for chunk in chunks {
            digest.mix(chunk.offset)
            digest.mix(UInt64(chunk.checksum))
        }
        return digest
    }
}
