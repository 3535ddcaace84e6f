import Foundation

/// The far end of a serial line: a UNIX socket that one program connects to.
final class UnixServer {
    private let listener: Int32
    private var peer: Int32 = -1
    private(set) var heard = ""

    init(_ path: String) throws {
        listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8.prefix($0.count - 1))) }
        let code = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
        }
        guard code == 0, listen(listener, 1) == 0 else { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EIO) }
    }
    deinit {
        hangUp()
        close(listener)
    }

    /// Reads until a text has come. False: the other end has gone before, or nothing came for minutes.
    func hear(until text: String) -> Bool {
        let deadline = Date().addingTimeInterval(600)
        while !heard.contains(text), Date() < deadline {
            var poller = pollfd(fd: peer < 0 ? listener : peer, events: Int16(POLLIN), revents: 0)
            guard poll(&poller, 1, 1000) > 0 else { continue }
            if peer < 0 {
                peer = accept(listener, nil, nil)
                continue
            }
            var bytes = [UInt8](repeating: 0, count: 4096)
            let count = read(peer, &bytes, bytes.count)
            if count <= 0 { return false }
            heard += String(decoding: bytes[..<count], as: UTF8.self)
        }
        return heard.contains(text)
    }

    func say(_ text: String) {
        let bytes = Array(text.utf8)
        _ = write(peer, bytes, bytes.count)
    }

    func hangUp() {
        if peer >= 0 { close(peer) }
        peer = -1
    }
}

/// The far end of a pseudo terminal: whoever opens what the program has named.
final class TerminalPeer {
    private var descriptor: Int32 = -1
    private var heard = ""

    /// - Parameter path: such as /dev/pts/3.
    init(_ path: String) throws {
        descriptor = open(path, O_RDWR | O_NOCTTY)
        guard descriptor >= 0 else { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EIO) }
        var mode = termios()
        tcgetattr(descriptor, &mode)
        cfmakeraw(&mode)
        tcsetattr(descriptor, TCSANOW, &mode)
    }
    deinit { hangUp() }

    /// Reads until a text has come. False: nothing came for minutes.
    func hear(until text: String) -> Bool {
        let deadline = Date().addingTimeInterval(600)
        while !heard.contains(text), Date() < deadline {
            var poller = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            guard poll(&poller, 1, 1000) > 0 else { continue }
            var bytes = [UInt8](repeating: 0, count: 4096)
            let count = read(descriptor, &bytes, bytes.count)
            if count <= 0 { return false }
            heard += String(decoding: bytes[..<count], as: UTF8.self)
        }
        return heard.contains(text)
    }

    func say(_ text: String) {
        let bytes = Array(text.utf8)
        _ = write(descriptor, bytes, bytes.count)
    }

    func hangUp() {
        if descriptor >= 0 { close(descriptor) }
        descriptor = -1
    }
}
