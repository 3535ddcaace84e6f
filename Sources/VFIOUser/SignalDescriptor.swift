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

/// A detached thread.
package enum HostThread {
    private final class Body {
        let run: () -> Void
        init(_ run: @escaping () -> Void) { self.run = run }
    }

    package static func start(_ body: @escaping @Sendable () -> Void) throws {
        var thread = pthread_t()
        let argument = Unmanaged.passRetained(Body(body))
        let code = pthread_create(
            &thread, nil,
            { argument in
                Unmanaged<Body>.fromOpaque(argument!).takeRetainedValue().run()
                return nil
            }, argument.toOpaque())
        guard code == 0 else {
            argument.release()
            throw VFIOUserError("no thread could be started: \(String(cString: strerror(code)))")
        }
        pthread_detach(thread)
    }
}
