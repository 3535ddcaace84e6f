import Boundary
import Devices
import Foundation
import Machine
import MachineState
import Synchronization

/// Looks at the screen of a running machine, from other threads. They are taken on the machine's thread, between two slices,
/// and a recording does not show them.
final class ScreenLooks: @unchecked Sendable {
    private let machine: PCMachine
    private let live: LiveBoundary
    private let waiting = Mutex<[@Sendable (VGA, Position) -> Void]>([])

    init(_ machine: PCMachine, _ live: LiveBoundary) {
        self.machine = machine
        self.live = live
        live.onWait { [unowned self] in serve() }
    }

    /// Takes the looks that wait. On the machine's thread.
    func serve() {
        let actions = waiting.withLock { waiting in
            defer { waiting = [] }
            return waiting
        }
        for action in actions { action(machine.vga, machine.cpu.position) }
    }

    /// Has `action` look at the screen, and waits for what it finds. Nil when the run ends before.
    func look<Found: Sendable>(_ action: @escaping @Sendable (VGA, Position) -> Found) -> Found? {
        let done = DispatchSemaphore(value: 0)
        let box = Box<Found>()
        waiting.withLock {
            $0.append { vga, position in
                let result = action(vga, position)
                box.found.withLock { $0 = result }
                done.signal()
            }
        }
        while !live.quitRequested {
            live.requestLook()
            if done.wait(timeout: .now() + .milliseconds(50)) == .success { return box.found.withLock { $0 } }
        }
        return nil
    }

    /// A place for a result that two threads know.
    private final class Box<Found: Sendable>: Sendable {
        let found = Mutex<Found?>(nil)
    }
}
