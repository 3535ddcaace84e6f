import CZstd

/// What the parts of a recording take in the file.
package struct LogSizes: Sendable {
    /// A column of the chunks: bytes before compression, and bytes after it if each chunk's column is compressed alone.
    package struct Column: Sendable {
        package var name: String
        package var raw: UInt64
        package var compressed: UInt64
    }
    /// In the file's order; the last is the payload: contents of DMA and blocks, inputs, digests, frames.
    package var columns: [Column] = []
    /// Bytes of the file.
    package var file: UInt64
    /// What contents of DMA and blocks, inputs, digests and frames take.
    package var payload: UInt64 = 0

    /// The file without what its payload takes: what the transactions themselves cost, with headers and index. Columns that are
    /// compressed together cost less than each alone: not less than the others take alone.
    package var beyondPayload: UInt64 { max(file > payload ? file - payload : 0, others) }
    /// What columns without payload take, each alone.
    var others: UInt64 = 0
}

extension LogReader {
    /// Looks at all chunks; one is in memory at a time.
    package func sizes() throws(LogError) -> LogSizes {
        let kinds = ChunkColumn.all(version: version)
        var sizes = LogSizes(columns: kinds.map { LogSizes.Column(name: "\($0)", raw: 0, compressed: 0) }, file: fileSize)
        let context = ZSTD_createCCtx()
        defer { ZSTD_freeCCtx(context) }
        for chunk in chunks {
            let raw = try rawBytes(of: chunk)
            let ownFrame = Self.lastFrame(try compressedBytes(of: chunk))
            var offset = 0
            for (index, kind) in kinds.enumerated() {
                guard offset + 4 <= raw.count else { throw LogError("\(path): a column is missing") }
                let length = Int(LogLayout.get32(raw, offset))
                offset += 4
                guard length <= raw.count - offset else { throw LogError("\(path): a column is longer than its chunk") }
                var compressed = Self.compressedSize(raw[offset..<offset + length], context)
                if kind == .payload, let ownFrame { compressed = ownFrame }
                sizes.columns[index].raw += UInt64(length)
                sizes.columns[index].compressed += compressed
                if kind.isPayload { sizes.payload += compressed } else { sizes.others += compressed }
                offset += length
            }
        }
        return sizes
    }

    /// Bytes of a chunk's second zstd frame, which is its payload's; nil if it has one only.
    private static func lastFrame(_ compressed: [UInt8]) -> UInt64? {
        let first = compressed.withUnsafeBytes { ZSTD_findFrameCompressedSize($0.baseAddress, $0.count) }
        return ZSTD_isError(first) == 0 && first < compressed.count ? UInt64(compressed.count - first) : nil
    }

    /// As a recording compresses it; nothing for nothing.
    private static func compressedSize(_ bytes: ArraySlice<UInt8>, _ context: OpaquePointer?) -> UInt64 {
        if bytes.isEmpty { return 0 }
        var buffer = [UInt8](repeating: 0, count: ZSTD_compressBound(bytes.count))
        let level: Int32 = bytes.count >= ChunkCompression.large ? ChunkCompression.quickLevel : ChunkCompression.level
        let size = bytes.withUnsafeBytes { bytes in
            buffer.withUnsafeMutableBytes {
                ZSTD_compressCCtx(context, $0.baseAddress, $0.count, bytes.baseAddress, bytes.count, level)
            }
        }
        return ZSTD_isError(size) == 0 ? UInt64(size) : UInt64(bytes.count)
    }
}
