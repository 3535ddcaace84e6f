import Glibc

/// Writes all of `bytes`, through interruptions and short writes. False: the descriptor is broken; `errno` says how.
func writeAll(_ descriptor: Int32, _ bytes: [UInt8]) -> Bool {
    var done = 0
    while done < bytes.count {
        let count = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress! + done, bytes.count - done) }
        if count < 0 {
            if errno == EINTR { continue }
            if errno == EAGAIN {
                var poller = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                poll(&poller, 1, 1000)
                continue
            }
            return false
        }
        done += count
    }
    return true
}

/// Reads what there is, up to 4096 bytes; nil at the end of the file or when the descriptor is broken.
func readSome(_ descriptor: Int32) -> [UInt8]? {
    var buffer = [UInt8](repeating: 0, count: 4096)
    while true {
        let count = buffer.withUnsafeMutableBytes { read(descriptor, $0.baseAddress!, 4096) }
        if count > 0 { return Array(buffer[..<count]) }
        if count < 0, errno == EINTR || errno == EAGAIN {
            var poller = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            poll(&poller, 1, 1000)
            continue
        }
        return nil
    }
}
