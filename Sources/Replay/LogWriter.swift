import CZstd
import MachineState

/// Writes a recording: appended chunk by chunk, so that what is written stays good whatever happens afterwards.
package final class LogWriter {
    /// Events and bytes at which a chunk is closed.
    private static let maxEvents = 65_536
    private static let maxBytes = 4 << 20
    /// A partial chunk is closed when it has waited so long.
    private static let maxAge = Duration.seconds(2)
    private static let level: Int32 = 9
    /// What is large may be data that nothing can make smaller (a download): a quick level finds out, and trying harder
    /// would stop the machine for nothing.
    private static let quickLevel: Int32 = 1
    private static let large = 256 << 10

    private let file: LogFile
    private var encoder = ChunkEncoder()
    private var chunks: [ChunkInfo] = []
    private var offset: UInt64
    private var opened = ContinuousClock.now
    package private(set) var eventCount: UInt64 = 0
    /// What went wrong; nothing is written any more.
    package private(set) var failure: LogError?

    /// Creates the file and writes its header.
    package init(path: String, header: LogHeader) throws(LogError) {
        file = try LogFile.create(path)
        var header = header
        var visitor = StateVisitor(.save)
        header.visit(&visitor)
        var bytes = LogLayout.magic
        LogLayout.put32(LogHeader.formatVersion, &bytes)
        LogLayout.put32(UInt32(visitor.bytes.count), &bytes)
        LogLayout.put32(CRC32C.checksum(visitor.bytes), &bytes)
        bytes += visitor.bytes
        try file.append(bytes)
        offset = UInt64(bytes.count)
    }

    package var path: String { file.path }
    /// Chunks that have been closed.
    package var chunkCount: Int { chunks.count }

    package func append(_ event: LogEvent) {
        if failure != nil { return }
        if encoder.count == 0 { opened = .now }
        encoder.append(event)
        eventCount += 1
        if encoder.count >= Self.maxEvents || encoder.size >= Self.maxBytes { closeChunk() }
    }

    /// Closes the chunk if it has been open for long. Called every few milliseconds.
    package func flushIfOld() {
        if encoder.count > 0, ContinuousClock.now - opened > Self.maxAge { closeChunk() }
    }

    /// Writes what is left, the index and the footer.
    package func finish() {
        closeChunk()
        write(Self.ending(chunks, at: offset))
    }

    /// Index and footer of a file whose index lies at `offset`.
    static func ending(_ chunks: [ChunkInfo], at offset: UInt64) -> [UInt8] {
        var index: [UInt8] = []
        LogLayout.put32(LogLayout.indexMagic, &index)
        LogLayout.put32(UInt32(chunks.count), &index)
        for chunk in chunks {
            LogLayout.put64(chunk.offset, &index)
            index += chunk.header
        }
        var footer: [UInt8] = []
        LogLayout.put64(offset, &footer)
        LogLayout.put32(CRC32C.checksum(index), &footer)
        LogLayout.put32(LogLayout.footerMagic, &footer)
        return index + footer
    }

    private func closeChunk() {
        if encoder.count == 0 || failure != nil { return }
        let raw = encoder.encoded()
        var compressed = [UInt8](repeating: 0, count: ZSTD_compressBound(raw.count))
        var size = 0
        if raw.count >= Self.large { size = ZSTD_compress(&compressed, compressed.count, raw, raw.count, Self.quickLevel) }
        // An error is a number beyond any size.
        if raw.count < Self.large || ZSTD_isError(size) != 0 || size < raw.count / 8 * 7 {
            size = ZSTD_compress(&compressed, compressed.count, raw, raw.count, Self.level)
        }
        if ZSTD_isError(size) != 0 {
            failure = LogError("\(file.path): zstd cannot compress a chunk: \(String(cString: ZSTD_getErrorName(size)))")
            return
        }
        compressed.removeLast(compressed.count - size)
        let info = ChunkInfo(
            offset: offset, compressed: compressed, rawSize: raw.count, encoder: encoder,
            firstEvent: eventCount - UInt64(encoder.count))
        write(info.header + compressed)
        chunks.append(info)
        encoder = ChunkEncoder()
    }

    private func write(_ bytes: [UInt8]) {
        if failure != nil { return }
        do {
            try file.append(bytes)
            offset += UInt64(bytes.count)
        } catch { failure = error }
    }
}
