import Boundary
import Glibc

/// A raw image's file. It is locked against other machines that would change it, or that it would change.
final class FileSource: DiskSource {
    let size: UInt64
    private let file: Int32

    init(path: String, isWritable: Bool) throws(DiskError) {
        file = open(path, (isWritable ? O_RDWR : O_RDONLY) | O_CLOEXEC)
        guard file >= 0 else { throw DiskError("\(path): cannot be opened: \(DiskError.reason())") }
        let end = lseek(file, 0, SEEK_END)
        size = UInt64(max(end, 0))
        if flock(file, (isWritable ? LOCK_EX : LOCK_SH) | LOCK_NB) != 0 {
            throw DiskError("\(path): another machine is writing it, or uses it while this one wants to write")
        }
        guard end >= 0 else { throw DiskError("\(path): cannot be read: \(DiskError.reason())") }
        guard end > 0 else { throw DiskError("\(path): is empty") }
    }

    deinit { if file >= 0 { close(file) } }

    func read(_ offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) -> String? {
        var done = 0
        while done < buffer.count {
            let count = pread(file, buffer.baseAddress! + done, buffer.count - done, off_t(offset) + off_t(done))
            if count < 0, errno == EINTR { continue }
            if count <= 0 {
                let reason = count < 0 ? DiskError.reason() : "it has become shorter"
                UnsafeMutableRawBufferPointer(rebasing: buffer[done...]).initializeMemory(as: UInt8.self, repeating: 0)
                return "cannot be read at offset \(offset + UInt64(done)): \(reason)"
            }
            done += count
        }
        return nil
    }

    func write(_ offset: UInt64, from buffer: UnsafeRawBufferPointer) -> String? {
        pwrite(file, buffer.baseAddress, buffer.count, off_t(offset)) == buffer.count
            ? nil : "cannot be written: \(DiskError.reason())"
    }

    func flush() -> String? { fdatasync(file) == 0 ? nil : "cannot be flushed: \(DiskError.reason())" }
}
