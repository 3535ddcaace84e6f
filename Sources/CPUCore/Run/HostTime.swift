import Glibc

/// The host's monotonic clock, for statistics only: nothing that the guest sees may depend on it.
package enum HostTime {
    /// Nanoseconds.
    package static var now: UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }
}
