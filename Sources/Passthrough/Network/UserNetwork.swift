#if Slirp
import Boundary
import CSlirp
import Glibc
import Synchronization

/// A network of the guest's own behind the program's sockets, by libslirp: NAT for TCP, UDP and ICMP echo, a DHCP server,
/// the host's DNS server at 10.0.2.3, and a directory by TFTP. The guest is 10.0.2.15, the host 10.0.2.2.
/// With IPv6 a router advertises fec0::/64, of which guests make addresses of their own (RFC 4862); the host is fec0::2, DNS fec0::3.
///
/// libslirp runs on a thread of its own, which is the only one to call it. It needs no rights.
package final class UserNetwork: NetworkBackend {
    private struct Shared {
        /// Frames from the guest.
        var frames: [[UInt8]] = []
    }
    /// The most frames that wait for the thread; more are lost, and sent again by whoever cares.
    private static let mostWaiting = 4096
    private let shared = Mutex(Shared())
    /// A pipe that wakes the thread.
    private let wakeReader: Int32
    private let wakeWriter: Int32
    private let stack: Handle

    /// The stack is used before the thread starts, and then by the thread only.
    private struct Handle: @unchecked Sendable { let stack: SlirpStack }

    package init(_ options: UserNetworkOptions) throws {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw BackendError.system("--net user") }
        for end in ends {
            _ = fcntl(end, F_SETFL, O_NONBLOCK)
            _ = fcntl(end, F_SETFD, FD_CLOEXEC)
        }
        (wakeReader, wakeWriter) = (ends[0], ends[1])
        stack = Handle(stack: try SlirpStack(options))
    }

    package var isConnected: Bool { true }

    package func send(_ bytes: [UInt8]) {
        let isFirst = shared.withLock { shared -> Bool in
            if shared.frames.count < Self.mostWaiting { shared.frames.append(bytes) }
            return shared.frames.count == 1
        }
        if isFirst { _ = writeAll(wakeWriter, [0]) }
    }

    package func start(_ live: LiveBoundary, source: UInt16) {
        // The thread keeps the backend alive.
        BackgroundThread.start { [self] in
            stack.stack.deliver = { live.push(source: source, bytes: $0) }
            while true {
                stack.stack.wait(for: wakeReader)
                var bytes: (UInt64, UInt64) = (0, 0)
                while withUnsafeMutableBytes(of: &bytes, { read(wakeReader, $0.baseAddress, $0.count) }) > 0 {}
                let frames = shared.withLock { shared in
                    defer { shared.frames = [] }
                    return shared.frames
                }
                for frame in frames { stack.stack.input(frame) }
            }
        }
    }
}

/// An instance of libslirp, with the timers and the poll it wants of its user.
private final class SlirpStack {
    /// Gets frames for the guest.
    var deliver: ([UInt8]) -> Void = { _ in }
    private var slirp: OpaquePointer?
    private let callbacks = UnsafeMutablePointer<SlirpCb>.allocate(capacity: 1)
    private var descriptors: [pollfd] = []
    private var timers: [UnsafeMutablePointer<Timer>] = []

    private struct Timer {
        var identifier: SlirpTimerId
        var argument: UnsafeMutableRawPointer?
        /// Milliseconds of the host's clock.
        var due = Int64.max
    }

    init(_ options: UserNetworkOptions) throws {
        var status = stat()
        if let directory = options.directory, stat(directory, &status) != 0 || status.st_mode & S_IFMT != S_IFDIR {
            throw BackendError("--net user: tftp=\(directory): there is no such directory")
        }
        var configuration = SlirpConfig()
        configuration.version = 4
        configuration.in_enabled = true
        configuration.vnetwork = Self.address(10, 0, 2, 0)
        configuration.vnetmask = Self.address(255, 255, 255, 0)
        configuration.vhost = Self.address(10, 0, 2, 2)
        configuration.vdhcp_start = Self.address(10, 0, 2, 15)
        configuration.vnameserver = Self.address(10, 0, 2, 3)
        configuration.in6_enabled = options.hasIPv6
        configuration.vprefix_addr6 = Self.address6(0)
        configuration.vprefix_len = 64
        configuration.vhost6 = Self.address6(2)
        configuration.vnameserver6 = Self.address6(3)
        // The strings are the stack's, as long as the program.
        configuration.tftp_path = options.directory.flatMap { UnsafePointer(strdup($0)) }
        configuration.bootfile = options.bootFile.flatMap { UnsafePointer(strdup($0)) }
        callbacks.initialize(to: Self.makeCallbacks())
        let opaque = Unmanaged.passUnretained(self).toOpaque()
        // A stack lives as long as the program: nothing takes it down.
        slirp = slirp_new(&configuration, callbacks, opaque)
        if slirp == nil { throw BackendError("--net user: libslirp cannot be started") }
        for forward in options.forwards {
            let code = slirp_add_hostfwd(
                slirp, forward.isUDP ? 1 : 0, in_addr(s_addr: forward.hostAddress), Int32(forward.hostPort),
                in_addr(s_addr: forward.guestAddress), Int32(forward.guestPort))
            if code < 0 { throw BackendError.system("--net user: hostfwd=\(forward.text)") }
        }
    }

    private static func address(_ a: UInt32, _ b: UInt32, _ c: UInt32, _ d: UInt32) -> in_addr {
        in_addr(s_addr: (a << 24 | b << 16 | c << 8 | d).bigEndian)
    }

    /// fec0::N, in the network's order: site-local (RFC 3513), because the prefix is nobody else's business.
    private static func address6(_ last: UInt8) -> in6_addr {
        var address = in6_addr()
        withUnsafeMutableBytes(of: &address) { ($0[0], $0[1], $0[15]) = (0xFE, 0xC0, last) }
        return address
    }

    private static func of(_ opaque: UnsafeMutableRawPointer?) -> SlirpStack {
        Unmanaged<SlirpStack>.fromOpaque(opaque!).takeUnretainedValue()
    }

    private static var nanoseconds: Int64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }

    private static func makeCallbacks() -> SlirpCb {
        var callbacks = SlirpCb()
        callbacks.send_packet = { buffer, count, opaque in
            SlirpStack.of(opaque).deliver(Array(UnsafeRawBufferPointer(start: buffer, count: count)))
            return count
        }
        callbacks.guest_error = { _, _ in }
        callbacks.clock_get_ns = { _ in SlirpStack.nanoseconds }
        callbacks.timer_new_opaque = { identifier, argument, opaque in
            let timer = UnsafeMutablePointer<Timer>.allocate(capacity: 1)
            timer.initialize(to: Timer(identifier: identifier, argument: argument))
            SlirpStack.of(opaque).timers.append(timer)
            return UnsafeMutableRawPointer(timer)
        }
        callbacks.timer_free = { timer, opaque in
            guard let timer = timer?.assumingMemoryBound(to: Timer.self) else { return }
            SlirpStack.of(opaque).timers.removeAll { $0 == timer }
            timer.deallocate()
        }
        callbacks.timer_mod = { timer, due, _ in timer?.assumingMemoryBound(to: Timer.self).pointee.due = due }
        callbacks.register_poll_fd = { _, _ in }
        callbacks.unregister_poll_fd = { _, _ in }
        callbacks.notify = { _ in }
        callbacks.init_completed = { _, _ in }
        return callbacks
    }

    /// A frame from the guest.
    func input(_ frame: [UInt8]) {
        frame.withUnsafeBufferPointer { slirp_input(slirp, $0.baseAddress, Int32($0.count)) }
    }

    /// Sleeps until a socket, a timer or the descriptor `wake` has something, and handles the first two.
    func wait(for wake: Int32) {
        let opaque = Unmanaged.passUnretained(self).toOpaque()
        descriptors = [pollfd(fd: wake, events: Int16(POLLIN), revents: 0)]
        var timeout: UInt32 = 1000
        let now = Self.nanoseconds / 1_000_000
        for timer in timers where timer.pointee.due != .max {
            timeout = min(timeout, UInt32(clamping: max(timer.pointee.due - now, 0)))
        }
        slirp_pollfds_fill(
            slirp, &timeout,
            { descriptor, events, opaque in
                let stack = SlirpStack.of(opaque)
                stack.descriptors.append(pollfd(fd: descriptor, events: SlirpStack.host(events), revents: 0))
                return Int32(stack.descriptors.count - 1)
            }, opaque)
        let code = descriptors.withUnsafeMutableBufferPointer { poll($0.baseAddress, nfds_t($0.count), Int32(clamping: timeout)) }
        slirp_pollfds_poll(
            slirp, code < 0 ? 1 : 0,
            { index, opaque in
                let stack = SlirpStack.of(opaque)
                guard stack.descriptors.indices.contains(Int(index)) else { return 0 }
                return SlirpStack.slirp(stack.descriptors[Int(index)].revents)
            }, opaque)
        let later = Self.nanoseconds / 1_000_000
        for timer in timers where timer.pointee.due <= later {
            timer.pointee.due = .max
            slirp_handle_timer(slirp, timer.pointee.identifier, timer.pointee.argument)
        }
    }

    /// libslirp's bits and those of poll(2).
    private static let bits: [(Int32, Int32)] = [(1, POLLIN), (2, POLLOUT), (4, POLLPRI), (8, POLLERR), (16, POLLHUP)]
    /// Errors are told without being asked for.
    private static func host(_ events: Int32) -> Int16 {
        Int16(truncatingIfNeeded: bits.prefix(3).reduce(0) { events & $1.0 != 0 ? $0 | $1.1 : $0 })
    }
    private static func slirp(_ events: Int16) -> Int32 {
        bits.reduce(0) { Int32(events) & $1.1 != 0 ? $0 | $1.0 : $0 }
    }
}
#endif
