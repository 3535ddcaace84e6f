import CHost
import Glibc

/// Messages over a connected Unix socket. One thread at a time uses it.
package final class VFIOUserSocket {
    package let descriptor: Int32
    private var nextIdentifier: UInt16 = 0
    /// How long the other side may take to go on with what it has begun, seconds.
    private static let patience = 10

    /// Takes over a connected socket.
    package init(_ descriptor: Int32) {
        self.descriptor = descriptor
        var limit = timeval(tv_sec: Self.patience, tv_usec: 0)
        let size = socklen_t(MemoryLayout<timeval>.size)
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, size)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, size)
    }
    deinit { Glibc.close(descriptor) }

    package static func connect(_ path: String) throws -> VFIOUserSocket {
        let descriptor = try socket(path)
        let result = try withAddress(path) { Glibc.connect(descriptor, $0, $1) }
        guard result == 0 else {
            let reason = String(cString: strerror(errno))
            Glibc.close(descriptor)
            throw VFIOUserError(reason)
        }
        return VFIOUserSocket(descriptor)
    }

    /// A socket that others connect to; one that is left from before is taken away.
    package static func listen(_ path: String) throws -> Int32 {
        let descriptor = try socket(path)
        var status = stat()
        if lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK { unlink(path) }
        guard try withAddress(path, { bind(descriptor, $0, $1) }) == 0, Glibc.listen(descriptor, 1) == 0 else {
            let reason = String(cString: strerror(errno))
            Glibc.close(descriptor)
            throw VFIOUserError(reason)
        }
        return descriptor
    }

    private static func socket(_ path: String) throws -> Int32 {
        let descriptor = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        if descriptor < 0 { throw VFIOUserError(String(cString: strerror(errno))) }
        return descriptor
    }

    private static func withAddress(_ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) throws -> Int32 {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        guard path.utf8.count < MemoryLayout.size(ofValue: address.sun_path) else { throw VFIOUserError("the path is too long") }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8) + [0]) }
        return withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
        }
    }

    /// Two ends of a connection.
    package static func pair() throws -> (VFIOUserSocket, VFIOUserSocket) {
        var ends: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends) == 0 else {
            throw VFIOUserError(String(cString: strerror(errno)))
        }
        return (VFIOUserSocket(ends[0]), VFIOUserSocket(ends[1]))
    }

    /// Ends the connection, for both sides.
    package func close() { shutdown(descriptor, Int32(SHUT_RDWR)) }

    /// The number of the next command.
    package func identifier() -> UInt16 {
        nextIdentifier &+= 1
        return nextIdentifier
    }

    package func send(_ message: VFIOUserMessage) throws {
        let bytes = message.bytes
        var done = 0
        while done < bytes.count {
            let count = bytes.withUnsafeBytes {
                chost_send_descriptors(
                    descriptor, $0.baseAddress! + done, bytes.count - done, message.descriptors,
                    done == 0 ? message.descriptors.count : 0)
            }
            if count < 0 {
                if errno == EINTR { continue }
                throw VFIOUserError(errno == EAGAIN ? "it takes no messages" : "it is gone (\(String(cString: strerror(errno))))")
            }
            done += count
        }
    }

    /// The next message; nil when none begins within so many milliseconds (-1: however long it takes).
    package func receive(milliseconds: Int32) throws -> VFIOUserMessage? {
        var poller = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        let ready = poll(&poller, 1, milliseconds)
        if ready <= 0 { return nil }
        var descriptors: [Int32] = []
        do {
            var message = try VFIOUserMessage(header: try receive(VFIOUser.headerSize, &descriptors))
            message.body = try receive(message.bodySize, &descriptors)
            message.descriptors = descriptors
            return message
        } catch {
            for descriptor in descriptors { Glibc.close(descriptor) }
            throw error
        }
    }

    private func receive(_ count: Int, _ descriptors: inout [Int32]) throws -> [UInt8] {
        var failure: VFIOUserError?
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            filled = 0
            var come = [Int32](repeating: -1, count: 16)
            while filled < count {
                var number = come.count
                let length = chost_receive_descriptors(descriptor, buffer.baseAddress! + filled, count - filled, &come, &number)
                if length < 0, errno == EINTR { continue }
                if length <= 0 {
                    failure = VFIOUserError(
                        length == 0 ? "it is gone" : errno == EAGAIN ? "it stops within a message" : String(cString: strerror(errno)))
                    return
                }
                descriptors += come[..<number]
                filled += length
            }
        }
        if let failure { throw failure }
        return bytes
    }
}
