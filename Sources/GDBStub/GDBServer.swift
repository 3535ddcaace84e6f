import Glibc

/// A TCP socket for one debugger at a time. Everything happens on the caller's thread.
package final class GDBServer {
    package struct Failure: Error, CustomStringConvertible {
        package let description: String
    }
    /// How serving a debugger ended.
    package enum Ending: Sendable, Equatable {
        /// It has gone; another one may come.
        case detached
        /// It wants the program to end.
        case killed
    }

    /// Called again and again while nothing comes from the debugger.
    package var whileWaiting: (() -> Void)?
    private let listener: Int32
    /// The port it listens at.
    package let port: UInt16

    /// - Parameters:
    ///   - host: an IPv4 address, empty for 127.0.0.1 only.
    ///   - port: 0 for any that is free.
    package init(host: String, port: UInt16) throws {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw Failure(description: "no socket: \(String(cString: strerror(errno)))") }
        var one: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<Int32>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        guard inet_pton(AF_INET, host.isEmpty ? "127.0.0.1" : host, &address.sin_addr) == 1 else {
            close(descriptor)
            throw Failure(description: "\(host) is not an IPv4 address")
        }
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let bound = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, length) }
        }
        guard bound == 0, listen(descriptor, 1) == 0 else {
            let reason = String(cString: strerror(errno))
            close(descriptor)
            throw Failure(description: "port \(port): \(reason)")
        }
        _ = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
        }
        listener = descriptor
        self.port = UInt16(bigEndian: address.sin_port)
    }

    deinit { close(listener) }

    /// True when a debugger is at the door.
    package func waitForDebugger(milliseconds: Int32) throws -> Bool {
        var poll = pollfd(fd: listener, events: Int16(POLLIN), revents: 0)
        let count = Glibc.poll(&poll, 1, milliseconds)
        if count < 0, errno != EINTR { throw Failure(description: "poll: \(String(cString: strerror(errno)))") }
        return count > 0
    }

    /// Watches for a debugger to come, while the caller's thread runs the guest. Gives what ends the watch.
    package func watch(_ found: @escaping @Sendable () -> Void) -> () -> Void {
        let watch = SocketWatch(listener, found: found)
        return { watch.end() }
    }

    /// Waits for a debugger and serves it until it goes.
    package func serve(_ makeSession: () -> GDBSession) throws -> Ending {
        var peer: Int32 = -1
        repeat { peer = accept(listener, nil, nil) } while peer < 0 && errno == EINTR
        guard peer >= 0 else { throw Failure(description: "accept: \(String(cString: strerror(errno)))") }
        defer { close(peer) }
        var one: Int32 = 1
        setsockopt(peer, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
        let connection = Connection(peer, whileWaiting)
        let session = makeSession()
        let wanted = session.wantsInterrupt
        session.wantsInterrupt = { [unowned session] in
            connection.hasInterrupt(keepsAlive: session.isCommandRunning) || wanted()
        }
        session.watch = { found in
            let watch = SocketWatch(peer, found: found)
            return { watch.end() }
        }
        session.say = { connection.say($0) }
        return connection.run(session)
    }

    /// One debugger.
    private final class Connection {
        private let descriptor: Int32
        private var reader = PacketReader()
        private var items: [PacketReader.Item] = []
        private var last: [UInt8] = []
        private var isOpen = true
        private var lastSent = ContinuousClock.now
        private let whileWaiting: (() -> Void)?

        init(_ descriptor: Int32, _ whileWaiting: (() -> Void)?) {
            self.descriptor = descriptor
            self.whileWaiting = whileWaiting
        }

        func run(_ session: GDBSession) -> Ending {
            while true {
                while items.isEmpty, isOpen { receive(waits: true) }
                if items.isEmpty { return .detached }
                switch items.removeFirst() {
                case .interrupt, .acknowledged: break
                case .refused: if !session.isQuiet { send(last) }
                case .damaged: if !session.isQuiet { send([UInt8(ascii: "-")]) }
                case .packet(let packet):
                    // A debugger that is tired of waiting refuses what has not come yet: not the reply before.
                    last = []
                    if !session.isQuiet { send([UInt8(ascii: "+")]) }
                    lastSent = .now
                    switch session.handle(packet) {
                    case .text(let text): reply(Array(text.utf8))
                    case .binary(let bytes): reply(bytes)
                    case .silence: break
                    case .last(let text, let ends):
                        if !text.isEmpty { reply(Array(text.utf8)) }
                        return ends ? .killed : .detached
                    }
                }
            }
        }

        /// Ctrl-C has come, or the debugger has gone. `keepsAlive`: it waits for a command's output, and is told now and
        /// then that there will be some.
        func hasInterrupt(keepsAlive: Bool) -> Bool {
            if keepsAlive, ContinuousClock.now - lastSent > .seconds(1) { send(PacketReader.frame([UInt8(ascii: "O")])) }
            receive(waits: false)
            if let index = items.firstIndex(of: .interrupt) {
                items.remove(at: index)
                return true
            }
            return !isOpen
        }

        /// Text for the debugger's user, while the debugger waits for a stop or a command's end.
        func say(_ text: String) { send(PacketReader.frame([UInt8(ascii: "O")] + Hex.text(text.utf8.prefix(0x3000)).utf8)) }

        private func reply(_ body: [UInt8]) {
            last = PacketReader.frame(body)
            send(last)
        }

        private func receive(waits: Bool) {
            var poll = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            var count: Int32
            repeat {
                if waits { whileWaiting?() }
                count = Glibc.poll(&poll, 1, waits ? (whileWaiting == nil ? -1 : 50) : 0)
            } while waits && count == 0
            guard count > 0 else { return }
            var buffer = [UInt8](repeating: 0, count: 4096)
            let received = recv(descriptor, &buffer, buffer.count, 0)
            if received < 0, errno == EINTR { return }
            if received <= 0 {
                isOpen = false
                return
            }
            for byte in buffer[..<received] {
                if let item = reader.feed(byte) { items.append(item) }
            }
        }

        private func send(_ bytes: [UInt8]) {
            lastSent = .now
            var done = 0
            while done < bytes.count {
                let count = bytes.withUnsafeBytes {
                    Glibc.send(descriptor, $0.baseAddress! + done, bytes.count - done, Int32(MSG_NOSIGNAL))
                }
                if count < 0, errno == EINTR { continue }
                if count <= 0 {
                    isOpen = false
                    return
                }
                done += count
            }
        }
    }
}
