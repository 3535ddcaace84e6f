import Synchronization

/// Sound between the machine, which never waits, and the host's sound card, which takes it at a pace of its own. Frames are four bytes:
/// two samples of 16 bits.
///
/// What does not fit is lost, and where nothing is left there is silence: for the host only, the machine sees neither. After silence
/// some frames are gathered first, so that one late piece makes one gap and not many.
package final class SampleRing: Sendable {
    private struct Shared {
        var bytes: [UInt8]
        /// Where the first byte is, and how many there are.
        var start = 0
        var count = 0
        var isGathering = true
        /// How often something was asked for since there is something again.
        var asked = 0
        var isEnded = false
        var lost: UInt64 = 0
    }
    /// Frames a second.
    package let rate: UInt32
    /// Bytes that are gathered after silence.
    private let gathered: Int
    /// A few frames that nothing follows are not kept back: after so many looks they go.
    private static let mostAsked = 4
    private let shared: Mutex<Shared>

    /// - Parameters:
    ///   - rate: frames a second, 1 or more.
    ///   - capacity: in frames; half a second when not given.
    ///   - gathered: in frames; 60 ms when not given.
    package init(rate: UInt32, capacity: Int? = nil, gathered: Int? = nil) {
        self.rate = max(rate, 1)
        let capacity = max(capacity ?? Int(self.rate) / 2, 1)
        self.gathered = min(max(gathered ?? Int(self.rate) * 6 / 100, 1), capacity) * 4
        shared = Mutex(Shared(bytes: [UInt8](repeating: 0, count: capacity * 4)))
    }

    /// Takes whole frames, as many as fit; a rest of less than four bytes is dropped.
    package func put(_ frames: ArraySlice<UInt8>) {
        shared.withLock { shared in
            let size = shared.bytes.count
            let whole = frames.count & ~3
            let fits = min(whole, size - shared.count)
            shared.lost &+= UInt64((whole - fits) / 4)
            frames.withUnsafeBytes { source in
                let place = (shared.start + shared.count) % size
                let first = min(fits, size - place)
                shared.bytes.withUnsafeMutableBytes { target in
                    target[place..<place + first].copyBytes(from: source[..<first])
                    target[..<(fits - first)].copyBytes(from: source[first..<fits])
                }
            }
            shared.count += fits
        }
    }

    /// Fills `buffer` with what comes next, and then with silence.
    package func take(into buffer: UnsafeMutableRawBufferPointer) {
        let filled = shared.withLock { shared -> Int in
            if shared.isGathering {
                if shared.count > 0 { shared.asked += 1 }
                let isEnough = shared.count >= gathered || shared.isEnded || shared.asked >= Self.mostAsked
                guard shared.count > 0, isEnough else { return 0 }
                shared.isGathering = false
            }
            let size = shared.bytes.count
            let wanted = min(buffer.count & ~3, shared.count)
            let first = min(wanted, size - shared.start)
            shared.bytes.withUnsafeBytes { source in
                buffer[..<first].copyBytes(from: source[shared.start..<shared.start + first])
                buffer[first..<wanted].copyBytes(from: source[..<(wanted - first)])
            }
            shared.start = (shared.start + wanted) % size
            shared.count -= wanted
            if wanted < buffer.count {
                shared.isGathering = true
                shared.asked = 0
            }
            return wanted
        }
        UnsafeMutableRawBufferPointer(rebasing: buffer[filled...]).initializeMemory(as: UInt8.self, repeating: 0)
    }

    /// Nothing more comes: what is left need not wait for more.
    package func end() { shared.withLock { $0.isEnded = true } }
    /// Nothing more comes, and nothing is left.
    package var isOver: Bool { shared.withLock { $0.isEnded && $0.count == 0 } }
    /// Frames that did not fit.
    package var lost: UInt64 { shared.withLock { $0.lost } }
}

/// How far a microphone is ahead of a guest whose virtual time is slower than the host's clock. What is too far ahead is dropped before
/// it becomes input: a guest that is late would hear everything later and later.
package struct MicrophoneLead: Sendable {
    private let rate: UInt32
    private let most: UInt64
    private var lead: UInt64 = 0
    private var last: UInt64

    /// - Parameters:
    ///   - rate: frames a second, 1 or more.
    ///   - now: virtual time, ns.
    ///   - most: frames; a quarter of a second when not given.
    package init(rate: UInt32, now: UInt64, most: UInt64? = nil) {
        self.rate = max(rate, 1)
        self.most = most ?? UInt64(self.rate) / 4
        last = now
    }

    /// Whether `count` frames that come at the virtual time `now` are for the guest.
    package mutating func accepts(_ count: Int, now: UInt64) -> Bool {
        // Whole frames of the time that has gone by; the rest of it counts the next time.
        let passed = now > last ? min(now - last, 1_000_000_000_000) : 0
        let frames = passed * UInt64(rate) / 1_000_000_000
        if frames >= lead {
            (lead, last) = (0, max(last, now))
        } else {
            lead -= frames
            last += frames * 1_000_000_000 / UInt64(rate)
        }
        if lead + UInt64(max(count, 0)) > most { return false }
        lead += UInt64(max(count, 0))
        return true
    }
}
