import Boundary
import Passthrough
import Synchronization

/// Commands on their way from the threads that read them to the machine's thread, which alone may look at the machine.
final class MonitorQueue: Sendable {
    struct Request: Sendable {
        let peer: LineServer.Peer
        let text: String
        let isQMP: Bool
    }

    private let requests = Mutex<[Request]>([])
    private let live: LiveBoundary

    init(_ live: LiveBoundary) { self.live = live }

    func add(_ request: Request) {
        requests.withLock { $0.append(request) }
        live.requestControl()
    }

    func take() -> Request? { requests.withLock { $0.isEmpty ? nil : $0.removeFirst() } }
}
