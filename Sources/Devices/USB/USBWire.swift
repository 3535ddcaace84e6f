import MachineState

/// A device at a port of a controller that sees packets and not whole control transfers (UHCI, EHCI): it has an address, the
/// stages of control transfers are put together, and what an endpoint has been offered is remembered. Part of the
/// controller's state.
package struct USBWire {
    /// Where a control transfer is.
    private enum Stage: UInt8 { case none, input, output }

    /// An endpoint's transfer that the device has not done yet.
    package struct Offer {
        package var isUnderWay = false
        /// Where its first descriptor is: another one is another transfer.
        package var place: UInt64 = 0
        /// Its bytes.
        package var length: UInt32 = 0
        /// Not before this time.
        package var due: VirtualTime = 0

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("isUnderWay", &isUnderWay)
            visitor.field("place", &place)
            visitor.field("length", &length)
            visitor.field("due", &due)
        }
    }

    /// 0: none yet.
    package private(set) var address: UInt8 = 0
    private var stage = Stage.none
    /// The setup packet of a control transfer that goes on.
    private var setup: [UInt8] = []
    /// Of a control transfer: what has come from the driver, or what it has not taken yet.
    private var data: [UInt8] = []
    /// The device has given its answer.
    private var isAnswered = false
    /// By number, 16 for each direction: those to the device first. Endpoint 0 is one.
    package private(set) var offers = [Offer](repeating: Offer(), count: 32)
    private static let longest = 1 << 16

    package init() {}

    package mutating func visit(_ visitor: inout StateVisitor) {
        visitor.field("address", &address)
        visitor.field("stage", &stage)
        visitor.field("setup", &setup)
        visitor.field("data", &data)
        visitor.field("isAnswered", &isAnswered)
        visitor.list("offers", &offers, make: { Offer() }) { $0.visit(&$1) }
        if visitor.mode == .load, offers.count != 32 || data.count > Self.longest || stage != .none && setup.count != 8 {
            visitor.fail("a control transfer of another size")
            self = USBWire()
        }
    }

    private static func index(_ endpoint: UInt8) -> Int {
        endpoint & 15 == 0 ? 0 : Int(endpoint & 15) | (endpoint & 0x80 != 0 ? 16 : 0)
    }
    /// What an endpoint (as in `USBTransfer`) has been offered.
    package func offer(_ endpoint: UInt8) -> Offer { offers[Self.index(endpoint)] }

    /// The port resets the device, or it is gone: nothing waits.
    package mutating func reset(_ device: (any USBDevice)?) {
        for (number, offer) in offers.enumerated() where offer.isUnderWay {
            device?.cancel(endpoint: UInt8(number & 15) | (number > 15 ? 0x80 : 0))
        }
        self = USBWire()
    }

    /// A setup packet: a control transfer begins. It is always taken.
    package mutating func begin(_ packet: [UInt8], _ device: any USBDevice) {
        if offers[0].isUnderWay { device.cancel(endpoint: 0) }
        offers[0] = Offer()
        let setup = USBSetup(packet)
        self.setup = packet
        data = []
        isAnswered = false
        stage = setup.isIn && setup.length > 0 ? .input : .output
    }

    /// A transfer of another packet than setup: at endpoint 0, a part of the data stage or the status stage.
    /// - Parameters:
    ///   - place: its first descriptor's address.
    ///   - tap: sees what the device is offered for the first time, and what becomes of it.
    package mutating func carryOut(
        _ transfer: USBTransfer, at place: UInt64, _ device: any USBDevice, now: VirtualTime, tap: USBTap?, slot: Int
    ) -> USBOutcome {
        if transfer.endpoint & 15 == 0 { return control(transfer, at: place, device, now: now, tap: tap, slot: slot) }
        return offer(transfer, at: place, device, now: now, tap: tap, slot: slot)
    }

    /// An isochronous transfer is done in its frame or not at all: a device that has nothing gives nothing.
    package func carryOutNow(_ transfer: USBTransfer, _ device: any USBDevice, tap: USBTap?, slot: Int) -> USBOutcome {
        let index = Self.index(transfer.endpoint)
        tap?.submitted(transfer, slot: slot, endpoint: index)
        var outcome = device.carryOut(transfer)
        if outcome == .waiting || outcome.isLater { outcome = .done([]) }
        tap?.completed(transfer, outcome, slot: slot, endpoint: index)
        return outcome
    }

    /// An endpoint that has done a transfer gets the next one not before a time.
    package mutating func hold(_ endpoint: UInt8, until time: VirtualTime) { offers[Self.index(endpoint)].due = time }

    private mutating func offer(
        _ transfer: USBTransfer, at place: UInt64, _ device: any USBDevice, now: VirtualTime, tap: USBTap?, slot: Int
    ) -> USBOutcome {
        let index = Self.index(transfer.endpoint)
        if offers[index].isUnderWay, offers[index].place != place {
            // The driver has taken the other one away.
            device.cancel(endpoint: transfer.endpoint)
            offers[index] = Offer()
        }
        if offers[index].due > now { return .waiting }
        if !offers[index].isUnderWay { tap?.submitted(transfer, slot: slot, endpoint: index) }
        let outcome = device.carryOut(transfer)
        offers[index].place = place
        offers[index].length = UInt32(truncatingIfNeeded: max(transfer.length, transfer.data.count))
        switch outcome {
        case .waiting:
            offers[index].isUnderWay = true
            return .waiting
        case .later(let time):
            offers[index].isUnderWay = true
            offers[index].due = now &+ time
            return .waiting
        default:
            offers[index] = Offer()
            tap?.completed(transfer, outcome, slot: slot, endpoint: index, origin: index == 0 ? nil : device.dataOrigin)
            return outcome
        }
    }

    /// Data and status stages (USB 2.0, 8.5.3).
    private mutating func control(
        _ transfer: USBTransfer, at place: UInt64, _ device: any USBDevice, now: VirtualTime, tap: USBTap?, slot: Int
    ) -> USBOutcome {
        let packet = USBSetup(setup)
        switch (stage, transfer.isIn) {
        case (.none, _): return .stall
        case (.input, true):
            if !isAnswered {
                let whole = USBTransfer(.control, endpoint: 0x80, setup: packet, length: Int(packet.length))
                let outcome = offer(whole, at: place, device, now: now, tap: tap, slot: slot)
                guard case .done(let bytes) = outcome else { return end(outcome) }
                if bytes.count > Int(packet.length) { return end(.failed) }
                isAnswered = true
                data = bytes
            }
            let piece = Array(data.prefix(transfer.length))
            data.removeFirst(piece.count)
            return .done(piece)
        // The status stage, which may come before all data has been taken.
        case (.input, false): return isAnswered ? end(.done([])) : end(.stall)
        case (.output, false):
            let room = Int(packet.length) - data.count
            if transfer.data.count > room || packet.isIn { return end(.stall) }
            data += transfer.data
            return .done([])
        case (.output, true):
            if packet.type == 0, packet.request == 5 {
                address = UInt8(truncatingIfNeeded: packet.value & 0x7F)
                return end(.done([]))
            }
            let whole = USBTransfer(.control, endpoint: packet.isIn ? 0x80 : 0, setup: packet, data: data)
            let outcome = offer(whole, at: place, device, now: now, tap: tap, slot: slot)
            if case .done = outcome { return end(.done([])) }
            return end(outcome)
        }
    }

    /// Ends a control transfer, unless it goes on.
    private mutating func end(_ outcome: USBOutcome) -> USBOutcome {
        if outcome != .waiting { (stage, setup, data, isAnswered) = (.none, [], [], false) }
        return outcome
    }
}
