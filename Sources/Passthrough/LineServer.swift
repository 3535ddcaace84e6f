import Boundary
import Glibc
import Synchronization

/// Lines of text from people or programs: on standard input, or on a socket that several may connect to.
package final class LineServer: Sendable {
    /// Where it listens.
    package enum Place: Sendable, Equatable {
        case stdio
        /// A Unix socket; a stale one is replaced.
        case unix(String)
        /// An IPv4 address and a port.
        case tcp(host: String, port: UInt16)
    }

    /// Who has said something, and can be answered.
    package struct Peer: Sendable {
        /// Unique in the run.
        package let number: Int
        fileprivate let descriptor: Int32
        /// Sends text as it is. Lost when the peer has gone.
        package func send(_ text: String) { _ = writeAll(descriptor, Array(text.utf8)) }
    }

    private struct Shared {
        var peers: [Peer] = []
        var count = 0
    }
    private let shared = Mutex(Shared())
    private let listener: Int32
    private let option: String
    /// No line is longer: what comes then closes the connection.
    private static let longestLine = 1 << 20

    /// - Parameter option: the option's name, for messages.
    package init(_ place: Place, option: String) throws {
        self.option = option
        switch place {
        case .stdio: listener = -1
        case .unix(let path): listener = try Self.listen(unix: path, option)
        case .tcp(let host, let port): listener = try Self.listen(host, port, option)
        }
        signal(SIGPIPE, SIG_IGN)
    }

    private static func listen(unix path: String, _ option: String) throws -> Int32 {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let room = MemoryLayout.size(ofValue: address.sun_path)
        guard path.utf8.count < room else { throw BackendError("\(option) unix:\(path): the path is too long") }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8) + [0]) }
        // Only a socket is taken away.
        var status = stat()
        if lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK { unlink(path) }
        let length = socklen_t(MemoryLayout<sockaddr_un>.size)
        let isBound = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, length) }
        }
        guard isBound == 0, Glibc.listen(descriptor, 4) == 0 else { throw BackendError.system("\(option) unix:\(path)") }
        return descriptor
    }

    private static func listen(_ host: String, _ port: UInt16, _ option: String) throws -> Int32 {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var one: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<Int32>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        guard inet_pton(AF_INET, host.isEmpty ? "127.0.0.1" : host, &address.sin_addr) == 1 else {
            throw BackendError("\(option) tcp:\(host):\(port): \(host) is not an IPv4 address")
        }
        let length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isBound = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, length) }
        }
        guard isBound == 0, Glibc.listen(descriptor, 4) == 0 else {
            throw BackendError.system("\(option) tcp:\(host):\(port)")
        }
        return descriptor
    }

    /// Begins to listen.
    /// - Parameters:
    ///   - joined: a peer has come. From any thread, as the others.
    ///   - received: a line without its end.
    ///   - left: the peer has gone.
    package func start(
        joined: @escaping @Sendable (Peer) -> Void, received: @escaping @Sendable (Peer, String) -> Void,
        left: @escaping @Sendable (Peer) -> Void
    ) {
        if listener < 0 { return serve(STDIN_FILENO, STDOUT_FILENO, joined, received, left) }
        BackgroundThread.start { [self] in
            while true {
                let descriptor = accept(listener, nil, nil)
                if descriptor < 0 {
                    if errno == EINTR || errno == ECONNABORTED { continue }
                    return
                }
                serve(descriptor, descriptor, joined, received, left)
            }
        }
    }

    private func serve(
        _ input: Int32, _ output: Int32, _ joined: @escaping @Sendable (Peer) -> Void,
        _ received: @escaping @Sendable (Peer, String) -> Void, _ left: @escaping @Sendable (Peer) -> Void
    ) {
        let peer = shared.withLock { shared -> Peer in
            shared.count += 1
            let peer = Peer(number: shared.count, descriptor: output)
            shared.peers.append(peer)
            return peer
        }
        BackgroundThread.start { [self] in
            joined(peer)
            var line: [UInt8] = []
            reading: while let bytes = readSome(input) {
                for byte in bytes {
                    if byte == 10 {
                        if line.last == 13 { line.removeLast() }
                        received(peer, String(decoding: line, as: UTF8.self))
                        line = []
                    } else {
                        line.append(byte)
                        if line.count > Self.longestLine { break reading }
                    }
                }
            }
            shared.withLock { $0.peers.removeAll { $0.number == peer.number } }
            left(peer)
            if input != STDIN_FILENO { close(input) }
        }
    }

    /// Sends text to all who are connected.
    package func broadcast(_ text: String) {
        for peer in shared.withLock({ $0.peers }) { peer.send(text) }
    }
}
