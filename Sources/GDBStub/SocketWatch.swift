import Glibc

/// Waits on a thread of its own until a socket has something to read, while the caller's thread runs the guest.
final class SocketWatch {
    /// What the thread needs; it is gone before the watch ends.
    private final class Work: Sendable {
        let descriptor: Int32
        let stop: Int32
        let found: @Sendable () -> Void
        init(_ descriptor: Int32, _ stop: Int32, _ found: @escaping @Sendable () -> Void) {
            self.descriptor = descriptor
            self.stop = stop
            self.found = found
        }
    }

    private var thread = pthread_t()
    private var isRunning = false
    private var ends: [Int32] = [-1, -1]

    /// - Parameter found: called once, from the watch's thread. Without threads to be had it is called at once: looking
    ///   for nothing costs little.
    init(_ descriptor: Int32, found: @escaping @Sendable () -> Void) {
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends) == 0 else {
            found()
            return
        }
        let work = Unmanaged.passRetained(Work(descriptor, ends[0], found))
        let result = pthread_create(&thread, nil, { argument in
            guard let argument else { return nil }
            let work = Unmanaged<Work>.fromOpaque(argument).takeRetainedValue()
            var polls = [
                pollfd(fd: work.descriptor, events: Int16(POLLIN), revents: 0),
                pollfd(fd: work.stop, events: Int16(POLLIN), revents: 0),
            ]
            while Glibc.poll(&polls, 2, -1) < 0, errno == EINTR {}
            if polls[0].revents != 0 { work.found() }
            return nil
        }, work.toOpaque())
        if result == 0 {
            isRunning = true
        } else {
            work.release()
            found()
        }
    }

    /// Ends the watch. Afterwards `found` is not called any more.
    func end() {
        if isRunning {
            var byte: UInt8 = 0
            _ = write(ends[1], &byte, 1)
            pthread_join(thread, nil)
            isRunning = false
        }
        for end in ends where end >= 0 { close(end) }
        ends = [-1, -1]
    }

    deinit { end() }
}
