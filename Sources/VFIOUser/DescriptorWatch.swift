import Glibc
import Synchronization

/// Watches descriptors while nobody reads them: a thread tells when there is something, once for each time it is asked to.
///
/// The descriptors are read by the machine's thread only. While that runs it looks for itself; before it sleeps it arms the watch.
final class DescriptorWatch: Sendable {
    /// Has the descriptors.
    private let inner: Int32
    /// Has the inner one, and fires once.
    private let outer: Int32
    private let stopper: [Int32]
    private let isStopped = Atomic<Bool>(false)
    private let isStarted = Atomic<Bool>(false)
    private static let once = UInt32(1 << 30)

    init() throws {
        inner = epoll_create1(Int32(EPOLL_CLOEXEC.rawValue))
        outer = epoll_create1(Int32(EPOLL_CLOEXEC.rawValue))
        var ends: [Int32] = [-1, -1]
        guard inner >= 0, outer >= 0, pipe2(&ends, O_CLOEXEC | O_NONBLOCK) == 0 else {
            throw VFIOUserError("no descriptors left: \(String(cString: strerror(errno)))")
        }
        stopper = ends
        Self.control(outer, EPOLL_CTL_ADD, inner, Self.once)
        Self.control(outer, EPOLL_CTL_ADD, ends[0], EPOLLIN.rawValue)
    }
    deinit {
        for descriptor in [inner, outer] + stopper { close(descriptor) }
    }

    private static func control(_ epoll: Int32, _ operation: Int32, _ descriptor: Int32, _ events: UInt32) {
        var event = epoll_event()
        event.events = events
        event.data.fd = descriptor
        epoll_ctl(epoll, operation, descriptor, &event)
    }

    func add(_ descriptor: Int32) { Self.control(inner, EPOLL_CTL_ADD, descriptor, EPOLLIN.rawValue) }
    func remove(_ descriptor: Int32) { Self.control(inner, EPOLL_CTL_DEL, descriptor, 0) }
    /// Tells of what is there or comes next.
    func arm() { Self.control(outer, EPOLL_CTL_MOD, inner, Self.once | EPOLLIN.rawValue) }

    func start(_ nudge: @escaping @Sendable () -> Void) {
        if isStarted.exchange(true, ordering: .relaxed) { return }
        var thread = pthread_t()
        let argument = Unmanaged.passRetained(Body(self, nudge)).toOpaque()
        let code = pthread_create(
            &thread, nil,
            { argument in
                Unmanaged<Body>.fromOpaque(argument!).takeRetainedValue().run()
                return nil
            }, argument)
        if code == 0 { pthread_detach(thread) }
    }
    func stop() {
        if isStopped.exchange(true, ordering: .relaxed) { return }
        var byte: UInt8 = 0
        _ = write(stopper[1], &byte, 1)
    }

    private final class Body: Sendable {
        let watch: DescriptorWatch
        let nudge: @Sendable () -> Void
        init(_ watch: DescriptorWatch, _ nudge: @escaping @Sendable () -> Void) {
            self.watch = watch
            self.nudge = nudge
        }
        func run() {
            while !watch.isStopped.load(ordering: .relaxed) {
                var event = epoll_event()
                if epoll_wait(watch.outer, &event, 1, -1) == 1, event.data.fd == watch.inner { nudge() }
            }
        }
    }

    /// There is something to read at any of the descriptors.
    var isAnything: Bool {
        var event = epoll_event()
        return epoll_wait(inner, &event, 1, 0) > 0
    }

    /// There is something to read, now or within so many microseconds.
    func isReadable(_ descriptor: Int32, microseconds: Int) -> Bool {
        var poller = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        var limit = timespec(tv_sec: 0, tv_nsec: microseconds * 1000)
        return ppoll(&poller, 1, &limit, nil) > 0
    }
}
