import CHost
import Glibc
import Synchronization

/// Wakes one waiting thread, so that a signal before the wait is not lost. A pipe does it, and only when somebody waits.
final class WakeUp: Sendable {
    private enum State { static let none: UInt8 = 0, signalled: UInt8 = 1, waiting: UInt8 = 2 }
    private let state = Atomic<UInt8>(State.none)
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

    /// From any thread.
    func signal() {
        guard state.exchange(State.signalled, ordering: .acquiringAndReleasing) == State.waiting else { return }
        // A full pipe is a signal already.
        var byte: UInt8 = 1
        _ = write(writer, &byte, 1)
    }

    /// Returns after a signal, or after `nanoseconds` at the latest. One thread waits at a time.
    func wait(nanoseconds: UInt64) {
        let (waits, _) = state.compareExchange(
            expected: State.none, desired: State.waiting, ordering: .acquiringAndReleasing)
        if waits {
            if chost_readable([reader], 1, nanoseconds) != 0 {
                var bytes: UInt64 = 0
                _ = read(reader, &bytes, 8)
            }
        }
        // Who signals just now has left what the caller looks for; the byte ends a later wait early, which does no harm.
        _ = state.exchange(State.none, ordering: .acquiringAndReleasing)
    }
}
