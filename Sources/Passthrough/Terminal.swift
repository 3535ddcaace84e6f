import Glibc
import Synchronization

/// The terminal in raw mode. The old mode comes back on every way out: `restore()`, exit, and fatal signals.
package enum Terminal {
    /// What to restore, for the signal handler; written once before the handlers are set.
    private static let saved = Mutex<termios?>(nil)

    /// True when standard input is a terminal.
    package static var isInteractive: Bool { isatty(STDIN_FILENO) == 1 }

    /// Switches standard input to raw mode: every key goes to the guest. Nothing happens when it is not a terminal.
    package static func makeRaw() {
        guard isInteractive else { return }
        var mode = termios()
        guard tcgetattr(STDIN_FILENO, &mode) == 0 else { return }
        let old = mode
        let isFirst = saved.withLock { saved -> Bool in
            if saved != nil { return false }
            saved = old
            return true
        }
        guard isFirst else { return }
        cfmakeraw(&mode)
        tcsetattr(STDIN_FILENO, TCSANOW, &mode)
        atexit { Terminal.restore() }
        for number in [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGSEGV, SIGABRT, SIGBUS, SIGILL, SIGTRAP] {
            var action = sigaction()
            action.__sigaction_handler.sa_handler = { number in
                Terminal.restore()
                signal(number, SIG_DFL)
                raise(number)
            }
            sigaction(number, &action, nil)
        }
    }

    /// Puts the old mode back. May be called more than once.
    package static func restore() {
        // A signal may come while the lock is held: then the holder restores.
        _ = saved.withLockIfAvailable { saved in
            if var mode = saved { tcsetattr(STDIN_FILENO, TCSANOW, &mode) }
            saved = nil
        }
    }
}
