import Boundary
import Glibc
import Synchronization

/// What a serial port leads to on the host. Output is written at once; input comes from a thread.
package protocol SerialBackend: HostSink {
    /// Starts delivering input: `receive` is called from any thread, and `carrier` when whoever was at the far end has gone, or
    /// is there again.
    func start(receive: @escaping @Sendable ([UInt8]) -> Void, carrier: @escaping @Sendable () -> Void)
}

extension SerialBackend {
    package func ask(_ question: UInt32) -> UInt64 { 0 }
}

/// Why a backend cannot be opened: one sentence that names the option.
package struct BackendError: Error, Sendable, CustomStringConvertible {
    package let description: String
    package init(_ description: String) { self.description = description }
    static func system(_ what: String) -> BackendError { BackendError("\(what): \(String(cString: strerror(errno)))") }
}

/// Reads a descriptor on a thread of its own until it ends, and says so.
private func pump(
    _ descriptor: Int32, _ receive: @escaping @Sendable ([UInt8]) -> Void, _ closed: @escaping @Sendable () -> Void = {}
) {
    BackgroundThread.start {
        while let bytes = readSome(descriptor) { receive(bytes) }
        closed()
    }
}

/// No input, output dropped.
package final class NullBackend: SerialBackend {
    package init() {}
    package func send(_ bytes: [UInt8]) {}
    package func start(receive: @escaping @Sendable ([UInt8]) -> Void, carrier: @escaping @Sendable () -> Void) {}
}

/// Output to a file, no input.
package final class FileBackend: SerialBackend {
    private let descriptor: Int32
    /// - Parameter option: what the path follows in a message.
    package init(path: String, option: String = "--serial file:") throws {
        descriptor = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0o644)
        if descriptor < 0 { throw BackendError.system("\(option)\(path): cannot be created") }
    }
    deinit { close(descriptor) }
    package func send(_ bytes: [UInt8]) { _ = writeAll(descriptor, bytes) }
    package func start(receive: @escaping @Sendable ([UInt8]) -> Void, carrier: @escaping @Sendable () -> Void) {}
}

/// The terminal. Ctrl-a is the escape: `Ctrl-a x` quits, `Ctrl-a h` lists keys, `Ctrl-a Ctrl-a` sends Ctrl-a.
package final class TerminalBackend: SerialBackend {
    private let quit: @Sendable () -> Void
    private let reads: Bool

    /// - Parameters:
    ///   - reads: standard input goes to the guest.
    ///   - quit: called when the user wants to leave.
    package init(reads: Bool, quit: @escaping @Sendable () -> Void) {
        self.reads = reads
        self.quit = quit
    }

    package func send(_ bytes: [UInt8]) { _ = writeAll(STDOUT_FILENO, bytes) }

    package func start(receive: @escaping @Sendable ([UInt8]) -> Void, carrier: @escaping @Sendable () -> Void) {
        guard reads else { return }
        Terminal.makeRaw()
        let isTerminal = Terminal.isInteractive
        let escaped = Mutex(false)
        pump(
            STDIN_FILENO,
            { [quit] bytes in
                if !isTerminal { return receive(bytes) }
                var plain: [UInt8] = []
                escaped.withLock { escaped in
                    for byte in bytes {
                        if !escaped {
                            if byte == 1 { escaped = true } else { plain.append(byte) }
                            continue
                        }
                        escaped = false
                        switch byte {
                        case 1: plain.append(1)
                        case UInt8(ascii: "x"): quit()
                        case UInt8(ascii: "h"), UInt8(ascii: "?"):
                            _ = writeAll(
                                STDERR_FILENO,
                                Array("\r\nCtrl-a x  quit\r\nCtrl-a h  this list\r\nCtrl-a Ctrl-a  send Ctrl-a\r\n".utf8))
                        default: plain.append(byte)
                        }
                    }
                }
                if !plain.isEmpty { receive(plain) }
            })
    }
}

/// A pseudo terminal; its name is printed.
package final class PtyBackend: SerialBackend {
    private let descriptor: Int32
    /// Such as /dev/pts/3.
    package let name: String

    /// - Parameter option: what asks for it, in messages.
    package init(option: String = "--serial") throws {
        // The Linux way, by ioctl: TIOCSPTLCK unlocks, TIOCGPTN tells the number (ioctl_tty(2)).
        descriptor = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)
        var unlocked: Int32 = 0
        var number: UInt32 = 0
        guard descriptor >= 0, ioctl(descriptor, 0x4004_5431, &unlocked) == 0, ioctl(descriptor, 0x8004_5430, &number) == 0
        else { throw BackendError.system("\(option) pty: cannot be opened") }
        name = "/dev/pts/\(number)"
        var mode = termios()
        if tcgetattr(descriptor, &mode) == 0 {
            cfmakeraw(&mode)
            tcsetattr(descriptor, TCSANOW, &mode)
        }
        _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
    }
    deinit { close(descriptor) }

    /// Nobody may be listening: what does not fit is dropped.
    package func send(_ bytes: [UInt8]) { _ = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) } }

    package func start(receive: @escaping @Sendable ([UInt8]) -> Void, carrier: @escaping @Sendable () -> Void) {
        let descriptor = self.descriptor
        BackgroundThread.start {
            // A pty without a partner reports an error; one may come again. Before the first one comes, nobody has gone.
            var hasPartner = false
            var isGone = false
            while true {
                var buffer = [UInt8](repeating: 0, count: 4096)
                let count = buffer.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, 4096) }
                if count > 0 || count < 0 && errno == EAGAIN {
                    hasPartner = true
                    if isGone { carrier() }
                    isGone = false
                    if count > 0 { receive(Array(buffer[..<count])) } else { usleep(20_000) }
                } else {
                    if hasPartner, !isGone {
                        isGone = true
                        carrier()
                    }
                    usleep(20_000)
                }
            }
        }
    }
}

/// A connection to a listening peer, by TCP or by a UNIX socket.
package final class SocketBackend: SerialBackend {
    private let descriptor: Int32

    /// - Parameters:
    ///   - path: of a UNIX socket, 107 bytes at most.
    ///   - option: what asks for it, in messages.
    package init(path: String, option: String = "--serial") throws {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8.prefix($0.count - 1))) }
        descriptor = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        let code = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
        }
        guard descriptor >= 0, code == 0 else {
            let problem = BackendError.system("\(option) unix:\(path)")
            close(descriptor)
            throw problem
        }
        signal(SIGPIPE, SIG_IGN)
    }

    package init(host: String, port: UInt16, option: String = "--serial") throws {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        let code = getaddrinfo(host, String(port), &hints, &list)
        guard code == 0 else {
            throw BackendError("\(option) tcp:\(host):\(port): \(String(cString: gai_strerror(code)))")
        }
        defer { freeaddrinfo(list) }
        var next = list
        while let info = next {
            let socket = Glibc.socket(info.pointee.ai_family, info.pointee.ai_socktype, info.pointee.ai_protocol)
            if socket >= 0 {
                if connect(socket, info.pointee.ai_addr, info.pointee.ai_addrlen) == 0 {
                    descriptor = socket
                    signal(SIGPIPE, SIG_IGN)
                    return
                }
                close(socket)
            }
            next = info.pointee.ai_next
        }
        throw BackendError.system("\(option) tcp:\(host):\(port): nobody is listening")
    }
    deinit { close(descriptor) }

    package func send(_ bytes: [UInt8]) { _ = writeAll(descriptor, bytes) }
    package func start(receive: @escaping @Sendable ([UInt8]) -> Void, carrier: @escaping @Sendable () -> Void) {
        pump(descriptor, receive, carrier)
    }
}
