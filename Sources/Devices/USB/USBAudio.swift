import DeviceBus
import MachineState

/// A sound card of the audio class (USB Audio 1.0): 48 kHz, 16 bits, two channels, out and in, as drivers know without more.
///
/// Its channel's messages are those of `AC97`. A recording begins with the first packet that the driver asks for after it has chosen the
/// interface's setting with samples; until frames come in, but for `mostEmpty` packets at most, packets are empty.
package final class USBAudio: USBFunction, HostReceiver {
    package struct State {
        package var isRecording = false
        /// Packets that may still be empty.
        package var empty: UInt8 = 0
        /// Frames from outside that wait to be recorded.
        package var recorded: [UInt8] = []

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("isRecording", &isRecording)
            visitor.field("empty", &empty)
            visitor.field("recorded", &recorded)
        }
    }

    private static let rate: UInt32 = 48_000
    /// Bytes of a millisecond.
    private static let packet = 192
    private static let mostEmpty: UInt8 = 20
    /// The most bytes of a recording that wait: a second.
    private static let mostRecorded = 48_000 * 4
    private static let outInterface: UInt8 = 1, inInterface: UInt8 = 2
    package private(set) var state = State()
    package var wake: (UInt8) -> Void = { _ in }
    private let channel: any HostChannel

    package init(channel: any HostChannel) { self.channel = channel }

    package var descriptors: USBDescriptors {
        // Units (4.3.2): what comes by USB goes to a speaker, a microphone's sound goes out by USB.
        let units: [[UInt8]] = [
            [12, 0x24, 2, 1, 0x01, 0x01, 0, 2, 3, 0, 0, 0], [9, 0x24, 3, 2, 0x01, 0x03, 0, 1, 0],
            [12, 0x24, 2, 3, 0x01, 0x02, 0, 2, 3, 0, 0, 0], [9, 0x24, 3, 4, 0x01, 0x01, 0, 3, 0],
        ]
        let length = UInt8(units.joined().count + 10)
        let header: [UInt8] = [10, 0x24, 1, 0, 1, length, 0, 2, Self.outInterface, Self.inInterface]
        func stream(_ number: UInt8, unit: UInt8, _ endpoint: UInt8, _ synchronization: UInt8) -> [USBDescriptors.Interface] {
            // PCM of two channels, two bytes, 16 bits, one rate.
            let rate = (0..<3).map { UInt8(truncatingIfNeeded: Self.rate >> UInt32($0 * 8)) }
            let format: [UInt8] = [7, 0x24, 1, unit, 1, 1, 0] + [11, 0x24, 2, 1, 2, 2, 16, 1] + rate
            return [
                .init(number: number, classCode: 1, subclass: 2, interfaceProtocol: 0),
                .init(
                    number: number, alternate: 1, classCode: 1, subclass: 2, interfaceProtocol: 0, more: format,
                    endpoints: [
                        .init(
                            address: endpoint, kind: .isochronous, size: UInt16(Self.packet), interval: 1, synchronization: synchronization,
                            isAudio: true, more: [7, 0x25, 1, 0, 0, 0, 0])
                    ]),
            ]
        }
        return USBDescriptors(
            vendor: 0x1D6B, product: 0x0140, strings: ["emu", "USB audio", "1"],
            interfaces: [.init(number: 0, classCode: 1, subclass: 1, interfaceProtocol: 0, more: header + Array(units.joined()))]
                + stream(Self.outInterface, unit: 1, 0x01, 2) + stream(Self.inInterface, unit: 4, 0x82, 3))
    }

    package func visit(_ visitor: inout StateVisitor) { state.visit(&visitor) }
    package func reset() { endRecording() }
    package func cancel(endpoint: UInt8) {}
    package func choose(_ interface: UInt8, alternate: UInt8) { if interface == Self.inInterface { endRecording() } }

    /// Frames to be recorded; what comes while nothing records is lost, as are frames beyond a second.
    package func receive(_ bytes: [UInt8]) {
        guard state.isRecording else { return }
        let room = max(Self.mostRecorded - state.recorded.count, 0) & ~3
        state.recorded += bytes.prefix(min(room, bytes.count & ~3))
    }

    package func carryOut(_ transfer: USBTransfer) -> USBOutcome {
        switch transfer.endpoint {
        case 0x01:
            let frames = transfer.data.prefix(transfer.data.count & ~3)
            if !frames.isEmpty { tell(1, frames) }
            return .done([])
        case 0x82:
            if !state.isRecording {
                state = State(isRecording: true, empty: Self.mostEmpty)
                tell(2)
            }
            if state.recorded.isEmpty, state.empty > 0 {
                state.empty -= 1
                return .done([])
            }
            state.empty = 0
            let count = min(transfer.length & ~3, Self.packet)
            // Silence where nothing has come.
            let bytes = state.recorded.prefix(count) + [UInt8](repeating: 0, count: max(count - state.recorded.count, 0))
            state.recorded.removeFirst(min(count, state.recorded.count))
            return .done(Array(bytes))
        default: return .stall
        }
    }

    /// There is nothing to set: one rate, and no levels.
    package func control(_ setup: USBSetup, _ data: [UInt8]) -> USBOutcome { .stall }

    private func endRecording() {
        if state.isRecording { tell(3) }
        state = State()
    }

    private func tell(_ message: UInt8, _ samples: ArraySlice<UInt8> = []) {
        channel.send([message] + (0..<4).map { UInt8(truncatingIfNeeded: Self.rate >> UInt32($0 * 8)) } + samples)
    }
}
