import DeviceBus
import MachineState

/// A serial adapter of the communication class (CDC 1.2, PSTN 1.2: abstract control model), as drivers know without more.
package final class USBSerial: USBFunction, HostReceiver {
    package struct State {
        /// Rate, stop bits, parity and data bits as the host has set them: seven bytes, kept only.
        package var coding: [UInt8] = [0x00, 0xC2, 0x01, 0x00, 0, 0, 8]
        /// Bit 0 DTR, bit 1 RTS.
        package var lines: UInt8 = 0
        /// Bytes from outside that wait for the driver.
        package var waiting: [UInt8] = []
        /// Bytes that were lost because too many waited.
        package var lost: UInt64 = 0
        /// Somebody is at the far end.
        package var hasCarrier = true
        /// The driver has not been told of the carrier.
        package var hasNews = true

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("coding", &coding)
            visitor.field("lines", &lines)
            visitor.field("waiting", &waiting)
            visitor.field("lost", &lost)
            visitor.field("hasCarrier", &hasCarrier)
            visitor.field("hasNews", &hasNews)
        }
    }

    private static let mostWaiting = 1 << 16
    package private(set) var state = State()
    package var wake: (UInt8) -> Void = { _ in }
    private let channel: any HostChannel

    package init(channel: any HostChannel) { self.channel = channel }

    package var descriptors: USBDescriptors {
        // Header, call management, what it can (line coding and state), and which interfaces belong together.
        let functional: [UInt8] = [5, 0x24, 0, 0x10, 0x01, 5, 0x24, 1, 0, 1, 4, 0x24, 2, 2, 5, 0x24, 6, 0, 1]
        return USBDescriptors(
            vendor: 0x1D6B, product: 0x0130, classCode: 2, strings: ["emu", "USB serial adapter", "1"],
            interfaces: [
                .init(
                    number: 0, classCode: 2, subclass: 2, interfaceProtocol: 1, more: functional,
                    endpoints: [.init(address: 0x83, kind: .interrupt, size: 16, interval: 32)]),
                .init(
                    number: 1, classCode: 10, subclass: 0, interfaceProtocol: 0,
                    endpoints: [.init(address: 0x81, kind: .bulk, size: 64), .init(address: 0x02, kind: .bulk, size: 64)]),
            ])
    }

    package func visit(_ visitor: inout StateVisitor) { state.visit(&visitor) }
    /// Whoever is at the far end stays.
    package func reset() {
        let hasCarrier = state.hasCarrier
        state = State()
        state.hasCarrier = hasCarrier
    }
    package func cancel(endpoint: UInt8) {}

    /// Bytes from the host; none: the far end's carrier has changed.
    package func receive(_ bytes: [UInt8]) {
        if bytes.isEmpty {
            state.hasCarrier.toggle()
            state.hasNews = true
            return wake(0x83)
        }
        let room = max(Self.mostWaiting - state.waiting.count, 0)
        state.lost &+= UInt64(max(bytes.count - room, 0))
        state.waiting += bytes.prefix(room)
        wake(0x81)
    }

    package func carryOut(_ transfer: USBTransfer) -> USBOutcome {
        switch transfer.endpoint {
        case 0x02:
            if !transfer.data.isEmpty { channel.send(transfer.data) }
            return .done([])
        case 0x81:
            if state.waiting.isEmpty { return .waiting }
            let bytes = Array(state.waiting.prefix(transfer.length))
            state.waiting.removeFirst(bytes.count)
            if state.waiting.isEmpty, state.hasNews { wake(0x83) }
            return .done(bytes)
        case 0x83:
            // What came before is read first.
            if !state.hasNews || !state.waiting.isEmpty { return .waiting }
            state.hasNews = false
            // A change of the serial state (PSTN 1.2, 6.5.4): carrier and data set ready.
            return .done(Array([0xA1, 0x20, 0, 0, 0, 0, 2, 0, state.hasCarrier ? 3 : 0, 0].prefix(transfer.length)))
        default: return .stall
        }
    }

    package func control(_ setup: USBSetup, _ data: [UInt8]) -> USBOutcome {
        switch (setup.type, setup.request) {
        case (0x21, 0x20) where data.count == 7: state.coding = data
        case (0xA1, 0x21): return .done(state.coding)
        case (0x21, 0x22): state.lines = UInt8(setup.value & 3)
        // A break is nothing that a byte stream can carry.
        case (0x21, 0x23): break
        default: return .stall
        }
        return .done([])
    }
}
