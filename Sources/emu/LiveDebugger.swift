import Boundary
import GDBStub
import MachineState
import Replay

/// A live run with a door for debuggers: they come, stop it, and go, and it runs on.
struct LiveDebugger {
    let run: LiveRun
    let door: LiveBoundary
    let server: GDBServer

    /// Runs the guest to its end.
    ///
    /// - Parameters:
    ///   - holds: the guest stands still until a debugger has come.
    ///   - makeSession: for each debugger.
    func drive(holds: Bool, _ makeSession: () -> GDBSession) throws {
        var isHeld = holds
        while run.endReason == nil {
            if isHeld {
                door.holdClock()
                while try !server.waitForDebugger(milliseconds: 50) {
                    run.serve()
                    if door.quitRequested {
                        try run.quit()
                        return
                    }
                }
            } else {
                let stop = try run.run(
                    conditions: StopConditions(), watch: server.watch,
                    wantsPause: { (try? server.waitForDebugger(milliseconds: 0)) ?? false })
                guard case .interrupted = stop else { return }
            }
            isHeld = false
            if try server.serve(makeSession) == .killed { try run.quit() }
        }
    }
}
