import DeviceBus
import MachineState

/// A network card (Virtual I/O Device 1.1, 5.1): one queue in each direction, and nothing that would change a frame: no
/// checksums, no segmentation, no merged buffers, no control queue.
package final class VirtioNetwork: VirtioFunction, NetworkCard {
    /// Everything the guest can observe.
    package struct State {
        /// The address that the configuration shows: six bytes. Drivers of the legacy interface may change it.
        package var address: [UInt8]
        package var wire = NetworkWire()
        /// The transmit queue is looked at soon.
        package var isTransmitting = false

        package init(_ address: EthernetAddress) { self.address = address.bytes }

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("address", &address)
            visitor.group("wire") { wire.visit(&$0) }
            visitor.field("isTransmitting", &isTransmitting)
            if visitor.mode == .load, address.count != 6 {
                visitor.fail("an Ethernet address of \(address.count) bytes")
                address = [UInt8](repeating: 0, count: 6)
            }
        }
    }

    private enum Feature {
        static let address: UInt64 = 1 << 5
        static let status: UInt64 = 1 << 16
        static let version1: UInt64 = 1 << 32
    }
    private enum Queue {
        static let receive = 0
        static let transmit = 1
    }
    /// From a notification to the first frame on the cable, ns: a driver's further frames go with it.
    private static let transmitDelay: VirtualTime = 2_000

    package let kind = VirtioKind(identifier: 1, legacyDevice: 0x1000, classCode: 0x020000)
    package let features = Feature.address | Feature.status
    package let queueSizes: [UInt16] = [256, 256]
    package private(set) var state: State
    private let address: EthernetAddress
    private let channel: any HostChannel
    /// Set by whoever makes both.
    package unowned(unsafe) var transport: (any VirtioTransport)!

    package init(address: EthernetAddress, channel: any HostChannel) {
        self.address = address
        self.channel = channel
        state = State(address)
    }

    package var isLinkUp: Bool { state.wire.isLinkUp }
    package var request: String { "a frame" }

    /// Address, status (bit 0: the link is up), and the number of queue pairs, which is not offered.
    package var configurationBytes: [UInt8] { state.address + [isLinkUp ? 1 : 0, 0, 1, 0] }

    /// Only the legacy interface lets drivers set the address (5.1.4.3).
    package func writeConfiguration(_ offset: Int, _ value: UInt8) {
        if state.address.indices.contains(offset), transport.agreedFeatures & Feature.version1 == 0 {
            state.address[offset] = value
        }
    }

    /// The cable stays as it is.
    package func reset() {
        var wire = state.wire
        wire.empty()
        state = State(address)
        state.wire = wire
    }

    package func visitState(_ visitor: inout StateVisitor) { state.visit(&visitor) }

    package func receive(_ bytes: [UInt8]) {
        switch state.wire.receive(bytes) {
        case .frame: fillBuffers()
        case .link: transport.configurationChanged()
        case .nothing: break
        }
    }

    package func notified(queue: Int) {
        if queue == Queue.receive { return fillBuffers() }
        // Not later for every further notification.
        if queue != Queue.transmit || state.isTransmitting { return }
        state.isTransmitting = true
        transport.schedule(timer: Queue.transmit, after: Self.transmitDelay)
    }

    package func timerFired(_ timer: Int) {
        if timer == Queue.receive { return fillBuffers() }
        state.isTransmitting = false
        for _ in 0..<queueSizes[Queue.transmit] {
            guard let chain = transport.next(queue: Queue.transmit) else { return }
            let length = chain.readable.length - headerSize
            guard length >= 0 else { return transport.fail() }
            // A frame that is none goes nowhere, but its buffer goes back.
            if state.wire.canSend(length) { channel.send(transport.read(chain, from: headerSize, count: length)) }
            transport.push(queue: Queue.transmit, chain, written: 0)
        }
        // A driver whose rings lie on one another can make chains without end.
        state.isTransmitting = true
        transport.schedule(timer: Queue.transmit, after: 10_000)
    }

    /// Before every frame (5.1.6): of the modern interface with the number of buffers, which is always 1.
    private var headerSize: Int { transport.agreedFeatures & Feature.version1 != 0 ? 12 : 10 }

    private func fillBuffers() {
        for _ in 0..<queueSizes[Queue.receive] {
            guard !state.wire.waiting.isEmpty, let chain = transport.next(queue: Queue.receive),
                let frame = state.wire.next()
            else { return }
            var bytes = [UInt8](repeating: 0, count: headerSize)
            if bytes.count == 12 { bytes[10] = 1 }
            bytes += frame
            // A driver gives room for any frame (5.1.6.3.1).
            guard chain.writable.length >= bytes.count else { return transport.fail() }
            transport.write(chain, bytes, at: 0) { _, _ in nil }
            transport.push(queue: Queue.receive, chain, written: bytes.count)
        }
        transport.schedule(timer: Queue.receive, after: 10_000)
    }
}
