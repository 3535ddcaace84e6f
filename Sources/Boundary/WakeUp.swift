import Glibc

/// Wakes one waiting thread, through a pipe, so that a signal before the wait is not lost.
final class WakeUp: Sendable {
    private let reader: Int32
    private let writer: Int32

    init() {
        var ends: [Int32] = [-1, -1]
        precondition(pipe(&ends) == 0, "no file descriptors left for a pipe")
        for end in ends {
            _ = fcntl(end, F_SETFL, O_NONBLOCK)
            _ = fcntl(end, F_SETFD, FD_CLOEXEC)
        }
        reader = ends[0]
        writer = ends[1]
    }
    deinit {
        close(reader)
        close(writer)
    }

    func signal() {
        // A full pipe is a signal already.
        var byte: UInt8 = 1
        _ = write(writer, &byte, 1)
    }

    /// Returns after a signal, or after `nanoseconds` at the latest.
    func wait(nanoseconds: UInt64) {
        var poller = pollfd(fd: reader, events: Int16(POLLIN), revents: 0)
        let milliseconds = nanoseconds / 1_000_000
        if poll(&poller, 1, Int32(min(milliseconds, 60_000))) > 0 {
            var bytes = [UInt8](repeating: 0, count: 256)
            _ = read(reader, &bytes, 256)
        } else if milliseconds == 0 {
            usleep(UInt32(nanoseconds / 1000))
        }
    }
}
