import Foundation
import Glibc
import TestSupport

/// A server of one file, on a port of the loopback interface, until it is closed.
final class HTTPServer: Sendable {
    let port: UInt16
    private let listener: Int32

    /// - Parameter isIPv6: at ::1, where the host has that.
    init(_ file: [UInt8], isIPv6: Bool = false) throws {
        let listener = socket(isIPv6 ? AF_INET6 : AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        let found = isIPv6 ? Self.listenIPv6(listener) : Self.listenIPv4(listener)
        guard let found else {
            Glibc.close(listener)
            throw POSIXError(.EADDRNOTAVAIL)
        }
        port = found
        self.listener = listener
        Thread.detachNewThread {
            while true {
                let peer = accept(listener, nil, nil)
                if peer < 0 { return }
                var request = [UInt8](repeating: 0, count: 4096)
                _ = recv(peer, &request, request.count, 0)
                let reply = Array("HTTP/1.0 200 OK\r\nContent-Length: \(file.count)\r\n\r\n".utf8) + file
                var done = 0
                while done < reply.count {
                    let count = reply.withUnsafeBytes {
                        Glibc.send(peer, $0.baseAddress! + done, reply.count - done, Int32(truncatingIfNeeded: MSG_NOSIGNAL))
                    }
                    if count <= 0 { break }
                    done += count
                }
                Glibc.close(peer)
            }
        }
    }

    private static func listenIPv4(_ listener: Int32) -> UInt16? {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        inet_pton(AF_INET, "127.0.0.1", &address.sin_addr)
        return listenAt(listener, &address) ? UInt16(bigEndian: address.sin_port) : nil
    }
    private static func listenIPv6(_ listener: Int32) -> UInt16? {
        var address = sockaddr_in6()
        address.sin6_family = sa_family_t(AF_INET6)
        inet_pton(AF_INET6, "::1", &address.sin6_addr)
        return listenAt(listener, &address) ? UInt16(bigEndian: address.sin6_port) : nil
    }
    /// `address` has the port afterwards.
    private static func listenAt<Address>(_ listener: Int32, _ address: inout Address) -> Bool {
        var length = socklen_t(MemoryLayout<Address>.size)
        return withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { place in
                bind(listener, place, length) == 0 && listen(listener, 4) == 0 && getsockname(listener, place, &length) == 0
            }
        }
    }

    func close() {
        shutdown(listener, Int32(SHUT_RDWR))
        Glibc.close(listener)
    }

    /// What somebody who listens on a port of the loopback interface says, up to `count` bytes.
    static func fetch(port: UInt16, count: Int) throws -> [UInt8] {
        let peer = try LoopbackConnection(port, seconds: 60)
        var bytes: [UInt8] = []
        while bytes.count < count {
            let more = peer.receive(65536)
            if more.isEmpty { break }
            bytes += more
        }
        return bytes
    }
}
