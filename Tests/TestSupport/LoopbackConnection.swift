import Foundation

/// A connection to a port of the loopback interface.
package final class LoopbackConnection {
    package let descriptor: Int32
    private var isOpen = true

    /// - Parameter seconds: how long it waits for bytes.
    /// - Throws: `POSIXError`: nobody listens there.
    package init(_ port: UInt16, seconds: Int = 30) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
        guard result == 0 else { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EIO) }
        var limit = timeval(tv_sec: seconds, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    }
    deinit { hangUp() }

    package func hangUp() {
        if isOpen { close(descriptor) }
        isOpen = false
    }

    /// Sends all of it, or as much as the other end takes before it goes.
    package func send(_ bytes: [UInt8]) {
        var done = 0
        while done < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress! + done, bytes.count - done, Int32(MSG_NOSIGNAL))
            }
            if count <= 0 { return }
            done += count
        }
    }
    package func send(_ text: String) { send(Array(text.utf8)) }

    /// What comes next, at most `count` bytes; empty at the end, or when nothing comes.
    package func receive(_ count: Int = 4096) -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: count)
        let got = recv(descriptor, &buffer, count, 0)
        return Array(buffer.prefix(max(got, 0)))
    }

    /// What comes up to `end` and a little more, or until nothing comes any more.
    package func receive(until end: String) -> String {
        var text = ""
        while !text.contains(end) {
            let bytes = receive()
            if bytes.isEmpty { break }
            text += String(decoding: bytes, as: UTF8.self)
        }
        return text
    }
}
