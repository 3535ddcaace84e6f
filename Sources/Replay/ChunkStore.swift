import Boundary
import CZstd
import Synchronization

/// Compresses chunks and appends them to a recording's file, on a thread of its own: the machine does not wait for it.
///
/// A chunk that has been handed over is in the file at the latest when `finish` returns, or when the store is gone.
final class ChunkStore {
    private let worker: Worker
    private let clockShift: UInt8
    private var isStarted = false

    /// - Parameters:
    ///   - offset: where the first chunk goes.
    ///   - isThorough: much payload is worth some time if it gets smaller.
    ///   - clockShift: see `LogHeader`.
    init(_ file: LogFile, offset: UInt64, clockShift: UInt8, isThorough: Bool = false) {
        self.clockShift = clockShift
        worker = Worker(file, offset: offset, isThorough: isThorough)
    }
    deinit { worker.drain() }

    /// What went wrong; nothing is written any more.
    var failure: LogError? { worker.hasFailed.load(ordering: .acquiring) ? worker.shared.with { $0.failure } : nil }

    /// Takes a chunk, and gives an empty encoder for the next one.
    func store(_ encoder: ChunkEncoder, firstEvent: UInt64) -> ChunkEncoder {
        if !isStarted {
            isStarted = true
            // The thread keeps the worker; the store's end ends the thread.
            BackgroundThread.start(isPatient: true) { [worker] in while worker.work() {} }
        }
        return worker.shared.wait { [clockShift] shared in
            if shared.waiting.count >= Worker.mostWaiting { return nil }
            shared.waiting.append(ChunkJob(encoder: encoder, firstEvent: firstEvent))
            return shared.spare.popLast() ?? ChunkEncoder(clockShift: clockShift)
        }
    }

    /// Waits until everything is in the file, and writes index and footer.
    func finish() {
        worker.drain()
        if failure == nil { worker.finish() }
    }
}

/// How hard zstd tries.
enum ChunkCompression {
    static let level: Int32 = 9
    /// Much payload is a frame of its own. It may be data that nothing can make smaller (a download): a quick level finds
    /// out, and trying harder would only cost time. At the devices cut it has to do: traffic comes faster than thorough levels
    /// work.
    static let quickLevel: Int32 = 1
    /// What this level makes smaller by less than a sixteenth, in samples, is data that has been compressed, and is passed on
    /// by `storeLevel`, which looks at next to nothing.
    static let hastyLevel: Int32 = -5
    static let storeLevel: Int32 = -131_072
    /// So many samples of so many bytes.
    static let samples = 4
    static let sampleSize = 32 << 10
    /// Bytes that are much.
    static let large = 128 << 10
}

/// A chunk on its way into the file.
private struct ChunkJob {
    let encoder: ChunkEncoder
    /// The number of its first event in the recording.
    let firstEvent: UInt64
}

/// What a store and its thread have together.
private final class Worker: @unchecked Sendable {
    struct Shared {
        var waiting: [ChunkJob] = []
        /// The thread has taken a chunk that is not in the file yet.
        var isBusy = false
        /// Nothing comes any more.
        var isClosed = false
        /// Encoders that have done their work, empty again, with the memory they had.
        var spare: [ChunkEncoder] = []
        var failure: LogError?
    }
    /// Chunks that wait at most; then who has one more waits too.
    static let mostWaiting = 4

    let shared = Monitor(Shared())
    let hasFailed = Atomic<Bool>(false)
    // The thread's, and after it has ended the store's.
    private let isThorough: Bool
    private let file: LogFile
    private var offset: UInt64
    private var chunks: [ChunkInfo] = []
    private var raw: [UInt8] = []
    private var compressed: [UInt8] = []
    private let context = ZSTD_createCCtx()

    init(_ file: LogFile, offset: UInt64, isThorough: Bool) {
        self.isThorough = isThorough
        self.file = file
        self.offset = offset
    }
    deinit { ZSTD_freeCCtx(context) }

    /// Nothing comes any more; waits until what has come is in the file.
    func drain() {
        shared.wait { shared -> Void? in
            shared.isClosed = true
            return shared.waiting.isEmpty && !shared.isBusy ? () : nil
        }
    }

    /// Does the next chunk. False: there is none, and there will not be one.
    func work() -> Bool {
        let next = shared.wait { shared -> ChunkJob?? in
            if shared.waiting.isEmpty { return shared.isClosed ? .some(nil) : nil }
            shared.isBusy = true
            return shared.waiting.removeFirst()
        }
        guard let job = next else { return false }
        if !hasFailed.load(ordering: .relaxed) {
            do { try append(job.encoder, job.firstEvent) } catch { fail(error) }
        }
        job.encoder.clear()
        shared.with {
            $0.spare.append(job.encoder)
            $0.isBusy = false
        }
        return true
    }

    private func fail(_ error: LogError) {
        shared.with { $0.failure = error }
        hasFailed.store(true, ordering: .releasing)
    }

    private func append(_ encoder: ChunkEncoder, _ firstEvent: UInt64) throws(LogError) {
        raw.removeAll(keepingCapacity: true)
        let payload = encoder.payload
        let isLarge = payload.count >= ChunkCompression.large
        if isLarge { encoder.encodeStructure(into: &raw) } else { encoder.encode(into: &raw) }
        var size = try raw.withUnsafeBufferPointer { (raw) throws(LogError) in try compress(raw, ChunkCompression.level, at: 0) }
        if isLarge { size = try appendFrame(payload, at: size) }
        let info = ChunkInfo(
            offset: offset, compressed: compressed[..<size], rawSize: raw.count + (isLarge ? payload.count : 0), encoder: encoder,
            firstEvent: firstEvent)
        try write(info.header[...])
        try write(compressed[..<size])
        chunks.append(info)
    }

    /// Compresses much payload behind what is there, as a frame of its own; returns where it ends.
    private func appendFrame(_ payload: UnsafeBufferPointer<UInt8>, at start: Int) throws(LogError) -> Int {
        var samples = 0
        for number in 0..<ChunkCompression.samples {
            let from = payload.count / ChunkCompression.samples * number
            let sample = UnsafeBufferPointer(rebasing: payload[from..<min(from + ChunkCompression.sampleSize, payload.count)])
            samples += try compress(sample, ChunkCompression.hastyLevel, at: start) - start
        }
        if samples > ChunkCompression.samples * ChunkCompression.sampleSize / 16 * 15 {
            return try compress(payload, ChunkCompression.storeLevel, at: start)
        }
        let end = try compress(payload, ChunkCompression.quickLevel, at: start)
        if !isThorough || end - start > payload.count / 8 * 7 { return end }
        return try compress(payload, ChunkCompression.level, at: start)
    }

    /// Writes a frame at `start` of `compressed`; returns where it ends.
    private func compress(_ bytes: UnsafeBufferPointer<UInt8>, _ level: Int32, at start: Int) throws(LogError) -> Int {
        let bound = start + ZSTD_compressBound(bytes.count)
        if compressed.count < bound { compressed += [UInt8](repeating: 0, count: bound - compressed.count) }
        let size = compressed.withUnsafeMutableBytes {
            ZSTD_compressCCtx(context, $0.baseAddress! + start, $0.count - start, bytes.baseAddress, bytes.count, level)
        }
        if ZSTD_isError(size) != 0 {
            throw LogError("\(file.path): zstd cannot compress a chunk: \(String(cString: ZSTD_getErrorName(size)))")
        }
        return start + size
    }

    /// Writes index and footer.
    func finish() {
        do { try write(LogWriter.ending(chunks, at: offset)[...]) } catch { fail(error) }
    }

    private func write(_ bytes: ArraySlice<UInt8>) throws(LogError) {
        try file.append(bytes)
        offset += UInt64(bytes.count)
    }
}
