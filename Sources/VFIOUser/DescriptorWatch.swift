import Boundary
import CHost
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
    private let stopper: SignalDescriptor
    private let isStopped = Atomic<Bool>(false)
    private let isStarted = Atomic<Bool>(false)

    init() throws {
        inner = chost_watch()
        outer = chost_watch()
        stopper = try SignalDescriptor()
        guard inner >= 0, outer >= 0 else {
            throw VFIOUserError("no descriptors left: \(String(cString: strerror(errno)))")
        }
        chost_watch_add(outer, inner, 1)
        chost_watch_add(outer, stopper.descriptor, 0)
    }
    deinit {
        for descriptor in [inner, outer] { close(descriptor) }
    }

    func add(_ descriptor: Int32) { chost_watch_add(inner, descriptor, 0) }
    func remove(_ descriptor: Int32) { chost_watch_remove(inner, descriptor) }
    /// Tells of what is there or comes next.
    func arm() { chost_watch_arm(outer, inner) }

    func start(_ nudge: @escaping @Sendable () -> Void) {
        if isStarted.exchange(true, ordering: .relaxed) { return }
        BackgroundThread.start { [self] in
            while !isStopped.load(ordering: .relaxed) {
                if chost_watch_wait(outer, -1) == inner { nudge() }
            }
        }
    }
    func stop() {
        if isStopped.exchange(true, ordering: .relaxed) { return }
        stopper.signal()
    }

    /// There is something to read at any of the descriptors.
    var isAnything: Bool { chost_watch_wait(inner, 0) >= 0 }

    /// There is something to read, now or within so many microseconds.
    func isReadable(_ descriptor: Int32, microseconds: UInt64) -> Bool {
        chost_readable([descriptor], 1, microseconds * 1000) != 0
    }
}
