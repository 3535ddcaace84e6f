import Glibc

/// A file by descriptor, with errors as sentences.
final class LogFile {
    let path: String
    private let descriptor: Int32

    private init(_ path: String, _ descriptor: Int32) {
        self.path = path
        self.descriptor = descriptor
    }
    deinit { close(descriptor) }

    static func create(_ path: String) throws(LogError) -> LogFile {
        let descriptor = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw LogError("\(path): cannot be created: \(reason)") }
        return LogFile(path, descriptor)
    }

    static func read(_ path: String) throws(LogError) -> LogFile {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw LogError("\(path): cannot be opened: \(reason)") }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            close(descriptor)
            throw LogError("\(path): is not a file")
        }
        return LogFile(path, descriptor)
    }

    private static var reason: String { String(cString: strerror(errno)) }

    var size: UInt64 {
        var status = stat()
        return fstat(descriptor, &status) == 0 ? UInt64(status.st_size) : 0
    }

    func append(_ bytes: [UInt8]) throws(LogError) { try append(bytes[...]) }
    func append(_ bytes: ArraySlice<UInt8>) throws(LogError) {
        var done = 0
        while done < bytes.count {
            let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress! + done, bytes.count - done) }
            if count < 0 {
                if errno == EINTR { continue }
                throw LogError(
                    "\(path): cannot be written: \(Self.reason); what was recorded until then is whole and can be replayed")
            }
            done += count
        }
    }

    /// Exactly `count` bytes, or nil when the file ends before.
    func read(at offset: UInt64, count: Int) throws(LogError) -> [UInt8]? {
        guard offset <= UInt64(Int64.max) else { return nil }
        var bytes = [UInt8](repeating: 0, count: count)
        var done = 0
        while done < count {
            let got = bytes.withUnsafeMutableBytes {
                pread(descriptor, $0.baseAddress! + done, count - done, off_t(offset) + off_t(done))
            }
            if got < 0 {
                if errno == EINTR { continue }
                throw LogError("\(path): cannot be read at byte \(offset): \(Self.reason)")
            }
            if got == 0 { return nil }
            done += got
        }
        return bytes
    }
}
