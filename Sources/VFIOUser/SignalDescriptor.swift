import CHost
import Glibc

/// An event descriptor: readable after a signal, until it is cleared.
package final class SignalDescriptor: Sendable {
    package let descriptor: Int32

    package init() throws {
        descriptor = chost_eventfd()
        if descriptor < 0 { throw VFIOUserError("no more event descriptors: \(String(cString: strerror(errno)))") }
    }
    deinit { close(descriptor) }

    package func signal() {
        var one: UInt64 = 1
        _ = write(descriptor, &one, 8)
    }
    /// True: there was a signal.
    @discardableResult
    package func clear() -> Bool {
        var count: UInt64 = 0
        return read(descriptor, &count, 8) == 8
    }
}
