import Synchronization

/// A debugger's wish that a live run stops soon. Set from any thread; looked at by the run loop and by whoever waits
/// for the host while the processor is idle.
package final class PauseSwitch: Sendable {
    private let isOn = Atomic<Bool>(false)

    package init() {}

    package var isRequested: Bool { isOn.load(ordering: .acquiring) }
    package func request() { isOn.store(true, ordering: .releasing) }
    package func clear() { isOn.store(false, ordering: .releasing) }
}
