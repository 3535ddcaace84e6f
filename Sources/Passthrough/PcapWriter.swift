import Glibc
import Synchronization

/// A capture in the classic pcap format (draft-ietf-opsawg-pcap) with times in nanoseconds, being written.
package final class PcapWriter: Sendable {
    /// The link type of Linux's usbmon, with headers of 64 bytes.
    package static let usbmon: UInt32 = 220

    private struct Shared {
        var waiting: [UInt8]
        var count = 0
        var isBroken = false
    }
    private static let bufferSize = 1 << 16
    private let descriptor: Int32
    private let shared: Mutex<Shared>

    package init(path: String, link: UInt32) throws {
        descriptor = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0o644)
        if descriptor < 0 { throw BackendError.system("\(path): cannot be created") }
        shared = Mutex(Shared(waiting: [0xA1B2_3C4D, 4 << 16 | 2, 0, 0, 1 << 24, link].flatMap(Self.word)))
    }
    deinit {
        flush()
        close(descriptor)
    }

    /// Records so far.
    package var count: Int { shared.withLock { $0.count } }

    private static func word(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> UInt32($0 * 8)) } }

    /// - Parameter time: ns.
    package func append(_ record: [UInt8], time: UInt64) {
        let seconds = UInt32(truncatingIfNeeded: time / 1_000_000_000)
        let length = Self.word(UInt32(truncatingIfNeeded: record.count))
        let head = Self.word(seconds) + Self.word(UInt32(time % 1_000_000_000)) + length + length
        shared.withLock { shared in
            shared.waiting += head + record
            shared.count += 1
            if shared.waiting.count >= Self.bufferSize { write(&shared) }
        }
    }

    /// Writes what waits. False: the host could not, now or before.
    @discardableResult
    package func flush() -> Bool {
        shared.withLock { shared in
            write(&shared)
            return !shared.isBroken
        }
    }
    private func write(_ shared: inout Shared) {
        if !writeAll(descriptor, shared.waiting) { shared.isBroken = true }
        shared.waiting = []
    }
}
