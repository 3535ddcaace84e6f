import DeviceBus
import MachineState

/// A USB device of the host, as the machine sees it: transfers go out through its channel, and completions are inputs. So a
/// replay needs no device. One transfer is under way at an endpoint, and waits there until its completion has come in.
///
/// Isochronous packets keep no driver waiting: those to the device are done when they have gone out, and of those from it
/// `streamDepth` are under way ahead of the driver, from its first one on until it chooses another setting.
package final class USBHostDevice: USBDevice, HostReceiver {
    package struct State {
        package var isAttached = false
        package var speed = USBSpeed.high
        /// The number of the next request.
        package var next: UInt32 = 1
        /// Transfers that the host has, and completions that nobody has taken.
        package var pending: [Pending] = []
        /// Isochronous packets to the device that were lost because too many were under way.
        package var lost: UInt64 = 0

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("isAttached", &isAttached)
            visitor.field("speed", &speed)
            visitor.field("next", &next)
            visitor.list("pending", &pending, make: { Pending() }) { $0.visit(&$1) }
            visitor.field("lost", &lost)
        }
    }

    /// One at an endpoint at most, but for isochronous ones.
    package struct Pending {
        package var number: UInt32 = 0
        /// As in `USBTransfer`; endpoint 0 is one for both directions.
        package var endpoint: UInt8 = 0
        /// Isochronous.
        package var isStream = false
        package var isDone = false
        /// As in `USBHostMessage`.
        package var status: UInt8 = 0
        package var data: [UInt8] = []

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("number", &number)
            visitor.field("endpoint", &endpoint)
            visitor.field("isStream", &isStream)
            visitor.field("isDone", &isDone)
            visitor.field("status", &status)
            visitor.field("data", &data)
        }
    }

    /// Packets of an isochronous endpoint that are under way or not taken yet: from the device, and to it at most.
    private static let streamDepth = 16, mostOut = 64
    package private(set) var state = State()
    package weak var port: (any USBPort)?
    private let channel: any HostChannel

    package init(channel: any HostChannel) { self.channel = channel }

    package var isAttached: Bool { state.isAttached }
    package var speed: USBSpeed { state.speed }
    package func visit(_ visitor: inout StateVisitor) { state.visit(&visitor) }

    private func place(_ endpoint: UInt8) -> Int? {
        state.pending.firstIndex { $0.endpoint == endpoint || endpoint & 15 == 0 && $0.endpoint & 15 == 0 }
    }

    package func carryOut(_ transfer: USBTransfer) -> USBOutcome {
        // The host's device has an address already.
        if let setup = transfer.setup, setup.type == 0, setup.request == 5 { return .done([]) }
        if transfer.kind == .isochronous { return stream(transfer) }
        // Another configuration (type 0, request 9) or setting (1, 11): what streams ends.
        if let setup = transfer.setup, setup.type == 0 && setup.request == 9 || setup.type == 1 && setup.request == 11 {
            for pending in state.pending where pending.isStream && !pending.isDone { channel.send(USBHostMessage.cancel(pending.number)) }
            state.pending.removeAll { $0.isStream }
        }
        if let index = place(transfer.endpoint) {
            guard state.pending[index].isDone else { return .waiting }
            return take(index)
        }
        submit(transfer)
        return .waiting
    }

    private func submit(_ transfer: USBTransfer) {
        let number = state.next
        state.next &+= 1
        state.pending.append(Pending(number: number, endpoint: transfer.endpoint, isStream: transfer.kind == .isochronous))
        channel.send(USBHostMessage.submit(number, transfer))
    }

    private func take(_ index: Int) -> USBOutcome {
        let pending = state.pending.remove(at: index)
        switch pending.status {
        case USBHostMessage.done: return .done(pending.endpoint & 0x80 != 0 ? pending.data : [])
        case USBHostMessage.stall: return .stall
        default: return .failed
        }
    }

    private func stream(_ transfer: USBTransfer) -> USBOutcome {
        let count = state.pending.count { $0.endpoint == transfer.endpoint }
        if !transfer.isIn {
            if count < Self.mostOut { submit(transfer) } else { state.lost &+= 1 }
            return .done([])
        }
        for _ in count..<max(Self.streamDepth, count) { submit(transfer) }
        guard let first = place(transfer.endpoint), state.pending[first].isDone else { return .waiting }
        let outcome = take(first)
        submit(transfer)
        return outcome
    }

    package func cancel(endpoint: UInt8) {
        while let index = place(endpoint) {
            let pending = state.pending.remove(at: index)
            if !pending.isDone { channel.send(USBHostMessage.cancel(pending.number)) }
        }
    }

    package func reset() {
        for pending in state.pending where !pending.isDone { channel.send(USBHostMessage.cancel(pending.number)) }
        state.pending = []
        if state.isAttached { channel.send(USBHostMessage.reset) }
    }

    package func receive(_ bytes: [UInt8]) {
        switch USBHostMessage.Arrival(bytes) {
        case .attached(let speed):
            if state.isAttached { return }
            state.isAttached = true
            state.speed = speed
            port?.attachmentChanged(self)
        case .detached:
            if !state.isAttached { return }
            state.isAttached = false
            port?.attachmentChanged(self)
            state.pending = []
        case .completed(let number, let status, let data):
            guard let index = state.pending.firstIndex(where: { $0.number == number && !$0.isDone }) else { return }
            if state.pending[index].isStream, state.pending[index].endpoint & 0x80 == 0 {
                // Nobody takes it.
                state.pending.remove(at: index)
                return
            }
            state.pending[index].isDone = true
            state.pending[index].status = status
            state.pending[index].data = data
            port?.wake(self, endpoint: state.pending[index].endpoint)
        case nil: break
        }
    }
}

/// Messages between a host's USB device and the machine, as they cross the boundary. Numbers are little-endian.
///
/// | first byte | out | |
/// |---|---|---|
/// | 1 | submit: number (4 bytes), kind, endpoint, setup (8 bytes), length (4 bytes), data | |
/// | 2 | cancel: number | no completion comes |
/// | 3 | reset | |
///
/// | first byte | in | |
/// |---|---|---|
/// | 1 | attached: speed | |
/// | 2 | detached | |
/// | 3 | completed: number, status (0 done, 1 stall, 2 failed), data | |
package enum USBHostMessage {
    package static let done: UInt8 = 0
    package static let stall: UInt8 = 1
    package static let failed: UInt8 = 2

    package enum Arrival: Equatable {
        case attached(USBSpeed)
        case detached
        case completed(number: UInt32, status: UInt8, data: [UInt8])

        /// Nil for bytes that are no message.
        package init?(_ bytes: [UInt8]) {
            switch (bytes.first, bytes.count) {
            case (1, 2):
                guard let speed = USBSpeed(rawValue: bytes[1]) else { return nil }
                self = .attached(speed)
            case (2, 1): self = .detached
            case (3, 6...): self = .completed(number: USBHostMessage.number(bytes, 1), status: bytes[5], data: Array(bytes[6...]))
            default: return nil
            }
        }
    }

    private static func number(_ bytes: [UInt8], _ place: Int) -> UInt32 {
        (0..<4).reduce(0) { $0 | UInt32(bytes[place + $1]) << UInt32($1 * 8) }
    }
    private static func word(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> UInt32($0 * 8)) } }

    static func submit(_ number: UInt32, _ transfer: USBTransfer) -> [UInt8] {
        [1] + word(number) + [transfer.kind.rawValue, transfer.endpoint] + (transfer.setup?.bytes ?? [UInt8](repeating: 0, count: 8))
            + word(UInt32(transfer.length)) + transfer.data
    }
    static func cancel(_ number: UInt32) -> [UInt8] { [2] + word(number) }
    static let reset: [UInt8] = [3]

    // MARK: The host's side

    /// What the machine wants of the host's device.
    package enum Request: Equatable {
        case submit(number: UInt32, USBTransfer)
        case cancel(number: UInt32)
        case reset
    }

    /// Nil for bytes that are no message.
    package static func request(_ bytes: [UInt8]) -> Request? {
        switch (bytes.first, bytes.count) {
        case (1, 19...):
            guard let kind = USBTransfer.Kind(rawValue: bytes[5]) else { return nil }
            return .submit(
                number: number(bytes, 1),
                USBTransfer(
                    kind, endpoint: bytes[6], setup: kind == .control ? USBSetup(Array(bytes[7..<15])) : nil,
                    data: Array(bytes[19...]), length: Int(number(bytes, 15))))
        case (2, 5): return .cancel(number: number(bytes, 1))
        case (3, 1): return .reset
        default: return nil
        }
    }

    package static func attached(_ speed: USBSpeed) -> [UInt8] { [1, speed.rawValue] }
    package static let detached: [UInt8] = [2]
    package static func completed(_ number: UInt32, _ status: UInt8, _ data: [UInt8] = []) -> [UInt8] {
        [3] + word(number) + [status] + data
    }
}
