import DeviceBus
import MachineState

/// A console (Virtual I/O Device 1.1, 5.3) with one port: Linux's hvc0.
package final class VirtioConsole: VirtioFunction, HostReceiver {
    /// Everything the guest can observe.
    package struct State {
        /// Bytes from the host that wait for a buffer.
        package var input: [UInt8] = []
        package init() {}
        package mutating func visit(_ visitor: inout StateVisitor) { visitor.field("input", &input) }
    }

    private enum Queue {
        static let receive = 0
        static let transmit = 1
    }
    /// The most bytes that wait; more are lost.
    private static let inputLimit = 1 << 16
    /// The most bytes of a transmitted buffer that go out in one piece.
    private static let pieceSize = 4096

    package let kind = VirtioKind(identifier: 3, legacyDevice: 0x1003, classCode: 0x078000)
    package let features: UInt64 = 0
    package let queueSizes: [UInt16] = [64, 64]
    /// Columns, rows, ports, emergency write: none of them is offered.
    package let configurationBytes = [UInt8](repeating: 0, count: 12)
    package private(set) var state = State()
    private let channel: any HostChannel
    /// Set by whoever makes both.
    package unowned(unsafe) var transport: (any VirtioTransport)!

    package init(channel: any HostChannel) { self.channel = channel }

    package func writeConfiguration(_ offset: Int, _ value: UInt8) {}
    package var request: String { "console" }
    package func reset() { state = State() }
    package func visitState(_ visitor: inout StateVisitor) { state.visit(&visitor) }

    package func receive(_ bytes: [UInt8]) {
        state.input += bytes.prefix(max(0, Self.inputLimit - state.input.count))
        transport.schedule(timer: Queue.receive, after: 1_000)
    }

    package func notified(queue: Int) { transport.schedule(timer: queue, after: 1_000) }

    package func timerFired(_ timer: Int) {
        if timer == Queue.receive { return fillBuffers() }
        // A driver whose rings lie on one another can make chains without end.
        for _ in 0..<queueSizes[Queue.transmit] {
            guard let chain = transport.next(queue: Queue.transmit) else { return }
            // No console says more than a megabyte at once; that bounds the time a bad driver can take.
            let count = min(chain.readable.length, 1 << 20)
            for offset in stride(from: 0, to: count, by: Self.pieceSize) {
                channel.send(transport.read(chain, from: offset, count: min(Self.pieceSize, count - offset)))
            }
            transport.push(queue: Queue.transmit, chain, written: 0)
        }
        transport.schedule(timer: Queue.transmit, after: 10_000)
    }

    private func fillBuffers() {
        for _ in 0..<queueSizes[Queue.receive] {
            guard !state.input.isEmpty, let chain = transport.next(queue: Queue.receive) else { return }
            let count = min(chain.writable.length, state.input.count)
            transport.write(chain, Array(state.input[..<count]), at: 0) { _, _ in nil }
            state.input.removeFirst(count)
            transport.push(queue: Queue.receive, chain, written: count)
        }
        transport.schedule(timer: Queue.receive, after: 10_000)
    }
}
