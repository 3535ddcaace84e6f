import Glibc
import Synchronization

/// A sound file (RIFF WAVE), 16-bit PCM, being written: two channels, at the rate of the first samples.
package final class WAVWriter: Sendable {
    private struct Shared {
        var rate: UInt32 = 0
        var count: UInt32 = 0
        var isBroken = false
    }
    private let descriptor: Int32
    private let shared = Mutex(Shared())

    package init(path: String) throws {
        descriptor = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0o644)
        if descriptor < 0 { throw BackendError.system("\(path): cannot be created") }
        _ = writeAll(descriptor, Self.header(rate: 48_000, count: 0))
    }
    deinit {
        finish()
        close(descriptor)
    }

    /// Bytes of samples so far.
    package var count: Int { Int(shared.withLock { $0.count }) }

    private static func header(rate: UInt32, count: UInt32) -> [UInt8] {
        var bytes: [UInt8] = []
        func put(_ value: UInt32, _ width: Int) {
            for lane in 0..<width { bytes.append(UInt8(truncatingIfNeeded: value >> UInt32(lane * 8))) }
        }
        bytes += Array("RIFF".utf8)
        put(count &+ 36, 4)
        bytes += Array("WAVEfmt ".utf8)
        for (value, width) in [(16, 4), (1, 2), (2, 2), (rate, 4), (rate &* 4, 4), (4, 2), (16, 2)] as [(UInt32, Int)] { put(value, width) }
        bytes += Array("data".utf8)
        put(count, 4)
        return bytes
    }

    /// Takes frames of two samples each. Those at another rate than the first ones are converted, sample by sample.
    package func append(_ frames: ArraySlice<UInt8>, rate: UInt32) {
        shared.withLock { shared in
            if shared.rate == 0 { shared.rate = rate }
            var bytes = Array(frames)
            if rate != shared.rate, rate > 0 {
                let count = bytes.count / 4
                let wanted = Int(UInt64(count) * UInt64(shared.rate) / UInt64(rate))
                bytes = (0..<wanted).flatMap { index -> ArraySlice<UInt8> in
                    let place = min(Int(UInt64(index) * UInt64(rate) / UInt64(shared.rate)), count - 1) * 4
                    return bytes[place..<place + 4]
                }
            }
            if !writeAll(descriptor, bytes) { shared.isBroken = true }
            shared.count &+= UInt32(truncatingIfNeeded: bytes.count)
        }
    }

    /// Writes the header anew. False: the host could not write.
    @discardableResult
    package func finish() -> Bool {
        shared.withLock { shared in
            let header = Self.header(rate: shared.rate == 0 ? 48_000 : shared.rate, count: shared.count)
            return pwrite(descriptor, header, header.count, 0) == header.count && !shared.isBroken
        }
    }
}

/// A sound file (RIFF WAVE) of 16-bit PCM, one or two channels.
package struct WAVFile: Sendable {
    package let rate: UInt32
    /// Frames of two samples.
    package let frames: [UInt8]

    /// - Parameter name: what messages begin with.
    package init(bytes: [UInt8], name: String) throws {
        func number(_ place: Int, _ width: Int) -> Int { (0..<width).reduce(0) { $0 | Int(bytes[place + $1]) << ($1 * 8) } }
        guard bytes.count >= 12, Array(bytes[..<4]) == Array("RIFF".utf8), Array(bytes[8..<12]) == Array("WAVE".utf8) else {
            throw BackendError("\(name): this is no WAV file")
        }
        var (rate, channels) = (0, 0)
        var place = 12
        while place + 8 <= bytes.count {
            let kind = String(decoding: bytes[place..<place + 4], as: UTF8.self)
            let count = min(number(place + 4, 4), bytes.count - place - 8)
            if kind == "fmt ", count >= 16 {
                channels = number(place + 10, 2)
                rate = number(place + 12, 4)
                guard number(place + 8, 2) == 1 || number(place + 8, 2) == 0xFFFE, number(place + 22, 2) == 16, channels == 1 || channels == 2,
                    (8_000...48_000).contains(rate)
                else { throw BackendError("\(name): only 16-bit PCM of one or two channels at 8 to 48 kHz is played") }
            }
            if kind == "data" {
                guard rate > 0 else { break }
                let data = bytes[place + 8..<place + 8 + count]
                self.rate = UInt32(rate)
                if channels == 2 {
                    frames = Array(data.prefix(data.count & ~3))
                } else {
                    var both: [UInt8] = []
                    var sample = data.startIndex
                    while sample + 1 < data.endIndex {
                        for _ in 0..<2 { both += data[sample...sample + 1] }
                        sample += 2
                    }
                    frames = both
                }
                return
            }
            place += 8 + (count + 1) & ~1
        }
        throw BackendError("\(name): it has no samples")
    }

    package init(path: String, option: String) throws {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        if descriptor < 0 { throw BackendError.system("\(option)\(path)") }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        while let piece = readSome(descriptor) { bytes += piece }
        try self.init(bytes: bytes, name: "\(option)\(path)")
    }
}
