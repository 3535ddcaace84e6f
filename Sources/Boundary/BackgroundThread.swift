import Glibc

/// A detached thread. Host threads hand over through `LiveBoundary` only.
package enum BackgroundThread {
    private final class Body {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    /// - Parameter isPatient: where processors are few the others come first: niceness 10, which on Linux is a thread's own.
    package static func start(isPatient: Bool = false, _ body: @escaping @Sendable () -> Void) {
        var thread = pthread_t()
        let argument = Unmanaged.passRetained(
            Body {
                if isPatient { setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, 10) }
                body()
            }
        ).toOpaque()
        let code = pthread_create(
            &thread, nil,
            { argument in
                Unmanaged<Body>.fromOpaque(argument!).takeRetainedValue().run()
                return nil
            }, argument)
        precondition(code == 0, "no thread could be started")
        pthread_detach(thread)
    }
}
