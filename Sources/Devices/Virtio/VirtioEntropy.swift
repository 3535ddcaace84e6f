import DeviceBus
import MachineState

/// A source of random numbers (Virtual I/O Device 1.1, 5.4). They are the host's: each is an answer to a question through
/// the channel, and so in a recording.
package final class VirtioEntropy: VirtioFunction {
    /// Everything the guest can observe.
    package struct State {
        /// Random bytes given so far.
        package var given: UInt64 = 0
        package init() {}
        package mutating func visit(_ visitor: inout StateVisitor) { visitor.field("given", &given) }
    }

    /// The most bytes a request gets: a guest that asks for more asks again.
    private static let mostBytes = 256

    package let kind = VirtioKind(identifier: 4, legacyDevice: 0x1005, classCode: 0x00FF00)
    package let features: UInt64 = 0
    package let queueSizes: [UInt16] = [64]
    package let configurationBytes: [UInt8] = []
    package private(set) var state = State()
    private let channel: any HostChannel
    /// Set by whoever makes both.
    package unowned(unsafe) var transport: (any VirtioTransport)!

    package init(channel: any HostChannel) { self.channel = channel }

    package func writeConfiguration(_ offset: Int, _ value: UInt8) {}
    package var request: String { "random bytes" }
    package func reset() { state = State() }
    package func visitState(_ visitor: inout StateVisitor) { state.visit(&visitor) }
    package func notified(queue: Int) { transport.schedule(timer: 0, after: 10_000) }

    package func timerFired(_ timer: Int) {
        // A driver whose rings lie on one another can make chains without end.
        for _ in 0..<queueSizes[0] {
            guard let chain = transport.next(queue: 0) else { return }
            let count = min(chain.writable.length, Self.mostBytes)
            var bytes: [UInt8] = []
            while bytes.count < count {
                let value = channel.ask(0)
                for lane in 0..<min(8, count - bytes.count) {
                    bytes.append(UInt8(truncatingIfNeeded: value >> UInt64(lane * 8)))
                }
            }
            state.given &+= UInt64(count)
            transport.write(chain, bytes, at: 0) { _, _ in nil }
            transport.push(queue: 0, chain, written: count)
        }
        transport.schedule(timer: 0, after: 10_000)
    }
}
