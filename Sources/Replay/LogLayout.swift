/// Fixed parts of the file. All numbers are little endian. `docs/log-format.md` describes them for other readers.
enum LogLayout {
    /// A PNG-like signature: a transfer that mangles line ends breaks it.
    static let magic: [UInt8] = [0x89, 0x45, 0x4D, 0x55, 0x0D, 0x0A, 0x1A, 0x0A]
    static let chunkMagic: UInt32 = 0x4B4E_4843  // "CHNK"
    static let indexMagic: UInt32 = 0x5844_4E49  // "INDX"
    static let footerMagic: UInt32 = 0x444E_4545  // "EEND"
    /// Magic, compressed length, raw length, checksum, event count, reserved, first event, first position, skipped.
    static let chunkHeaderSize = 48
    /// Offset of the index, checksum of it, magic.
    static let footerSize = 16
    /// No chunk is larger before compression; bounds what a damaged file can ask for.
    static let maxChunk = 64 << 20
    static let maxHeader = 1 << 20

    static func put32(_ value: UInt32, _ bytes: inout [UInt8]) {
        for shift in stride(from: UInt32(0), to: 32, by: 8) { bytes.append(UInt8(truncatingIfNeeded: value >> shift)) }
    }
    static func put64(_ value: UInt64, _ bytes: inout [UInt8]) {
        for shift in stride(from: UInt64(0), to: 64, by: 8) { bytes.append(UInt8(truncatingIfNeeded: value >> shift)) }
    }
    static func get32(_ bytes: [UInt8], _ offset: Int) -> UInt32 {
        (0..<4).reduce(0) { $0 | UInt32(bytes[offset + $1]) << UInt32($1 * 8) }
    }
    static func get64(_ bytes: [UInt8], _ offset: Int) -> UInt64 {
        (0..<8).reduce(0) { $0 | UInt64(bytes[offset + $1]) << UInt64($1 * 8) }
    }
}

/// Where a chunk is and what it holds.
package struct ChunkInfo: Sendable, Equatable {
    /// Of its header in the file.
    package var offset: UInt64
    package var compressedSize: UInt32
    package var rawSize: UInt32
    package var checksum: UInt32
    package var eventCount: UInt32
    package var firstEvent: UInt64
    package var firstPosition: UInt64
    package var firstSkipped: UInt64

    var header: [UInt8] {
        var bytes: [UInt8] = []
        LogLayout.put32(LogLayout.chunkMagic, &bytes)
        LogLayout.put32(compressedSize, &bytes)
        LogLayout.put32(rawSize, &bytes)
        LogLayout.put32(checksum, &bytes)
        LogLayout.put32(eventCount, &bytes)
        LogLayout.put64(firstEvent, &bytes)
        LogLayout.put64(firstPosition, &bytes)
        LogLayout.put64(firstSkipped, &bytes)
        // The header's own checksum: a scan must not follow a damaged length.
        LogLayout.put32(CRC32C.checksum(bytes), &bytes)
        return bytes
    }

    /// Nil: not a whole, undamaged chunk header.
    init?(_ bytes: [UInt8], at offset: UInt64) {
        guard bytes.count == LogLayout.chunkHeaderSize, LogLayout.get32(bytes, 0) == LogLayout.chunkMagic,
            LogLayout.get32(bytes, 44) == CRC32C.checksum(bytes[..<44])
        else { return nil }
        self.offset = offset
        compressedSize = LogLayout.get32(bytes, 4)
        rawSize = LogLayout.get32(bytes, 8)
        checksum = LogLayout.get32(bytes, 12)
        eventCount = LogLayout.get32(bytes, 16)
        firstEvent = LogLayout.get64(bytes, 20)
        firstPosition = LogLayout.get64(bytes, 28)
        firstSkipped = LogLayout.get64(bytes, 36)
        guard rawSize <= LogLayout.maxChunk, compressedSize <= LogLayout.maxChunk, eventCount <= rawSize else { return nil }
    }

    init(offset: UInt64, compressed: ArraySlice<UInt8>, rawSize: Int, encoder: ChunkEncoder, firstEvent: UInt64) {
        self.offset = offset
        compressedSize = UInt32(compressed.count)
        self.rawSize = UInt32(rawSize)
        checksum = CRC32C.checksum(compressed)
        eventCount = UInt32(encoder.count)
        self.firstEvent = firstEvent
        firstPosition = encoder.firstPosition
        firstSkipped = encoder.firstSkipped
    }
}
