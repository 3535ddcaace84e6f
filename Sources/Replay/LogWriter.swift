import MachineState

/// Writes a recording: appended chunk by chunk, so that what is written stays good whatever happens afterwards.
package final class LogWriter {
    /// Events and bytes at which a chunk is closed.
    private static let maxEvents = 65_536
    private static let maxBytes = 4 << 20
    /// The same for all payload, which may be in the chunk once and in its events more often.
    private static let maxPayload = 16 << 20
    /// A partial chunk is closed when it has waited so long.
    private static let maxAge = Duration.seconds(2)

    package let path: String
    private let store: ChunkStore
    private var encoder: ChunkEncoder
    /// Chunks that have been closed.
    package private(set) var chunkCount = 0
    private var opened = ContinuousClock.now
    package private(set) var eventCount: UInt64 = 0
    /// What went wrong; nothing is written any more.
    package var failure: LogError? { store.failure }

    /// Creates the file and writes its header.
    package init(path: String, header: LogHeader) throws(LogError) {
        self.path = path
        let file = try LogFile.create(path)
        var header = header
        var visitor = StateVisitor(.save)
        header.visit(&visitor)
        var bytes = LogLayout.magic
        LogLayout.put32(LogHeader.formatVersion, &bytes)
        LogLayout.put32(UInt32(visitor.bytes.count), &bytes)
        LogLayout.put32(CRC32C.checksum(visitor.bytes), &bytes)
        bytes += visitor.bytes
        try file.append(bytes)
        // At the devices cut traffic comes faster than thorough levels work.
        encoder = ChunkEncoder(clockShift: header.clockShift)
        store = ChunkStore(
            file, offset: UInt64(bytes.count), clockShift: header.clockShift, isThorough: header.boundary == .inputs)
    }

    package func append(_ event: LogEvent) {
        event.bytes.withUnsafeBytes { append(event, payload: $0) }
    }

    /// An event whose bytes are `payload`; it has none itself.
    package func append(_ event: LogEvent, payload: UnsafeRawBufferPointer) {
        if encoder.count == 0 { opened = .now }
        encoder.append(event, payload: payload)
        eventCount += 1
        if encoder.count >= Self.maxEvents || encoder.size >= Self.maxBytes || encoder.payloadSize >= Self.maxPayload {
            closeChunk()
        }
    }

    /// Closes the chunk if it has been open for long. Called every few milliseconds.
    package func flushIfOld() {
        if encoder.count > 0, ContinuousClock.now - opened > Self.maxAge { closeChunk() }
    }

    /// Writes what is left, the index and the footer.
    package func finish() {
        closeChunk()
        store.finish()
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
        if encoder.count == 0 { return }
        encoder = store.store(encoder, firstEvent: eventCount - UInt64(encoder.count))
        chunkCount += 1
    }
}
