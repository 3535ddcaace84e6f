import MachineState

/// How fast a device signals. The raw values are those of xHCI's port registers (xHCI 1.1, 7.2.2.1.1).
package enum USBSpeed: UInt8, Sendable {
    case full = 1
    case low = 2
    case high = 3
    case superSpeed = 4

    /// What a byte of bulk data takes, ns: about what real devices reach.
    var nanosecondsPerByte: VirtualTime {
        switch self {
        case .low: 10_000
        case .full: 800
        case .high: 20
        case .superSpeed: 3
        }
    }
}

/// A setup packet (USB 2.0, 9.3).
package struct USBSetup: Sendable, Equatable {
    /// Bit 7: to the host; bits 6...5: standard, class, vendor; bits 4...0: device, interface, endpoint.
    package var type: UInt8
    package var request: UInt8
    package var value: UInt16
    package var index: UInt16
    package var length: UInt16

    package init(type: UInt8, request: UInt8, value: UInt16 = 0, index: UInt16 = 0, length: UInt16 = 0) {
        self.type = type
        self.request = request
        self.value = value
        self.index = index
        self.length = length
    }

    /// - Parameter bytes: eight.
    package init(_ bytes: [UInt8]) {
        func word(_ place: Int) -> UInt16 {
            bytes.indices.contains(place + 1) ? UInt16(bytes[place]) | UInt16(bytes[place + 1]) << 8 : 0
        }
        self.init(
            type: bytes.first ?? 0, request: bytes.count > 1 ? bytes[1] : 0, value: word(2), index: word(4), length: word(6))
    }

    package var bytes: [UInt8] { [type, request] + [value, index, length].flatMap { [UInt8($0 & 0xFF), UInt8($0 >> 8)] } }
    package var isIn: Bool { type & 0x80 != 0 }
    var isStandard: Bool { type & 0x60 == 0 }
}

/// A transfer between a controller's driver and an endpoint, with all of its data.
package struct USBTransfer: Sendable, Equatable {
    /// The raw values are those of endpoint descriptors (USB 2.0, 9.6.6).
    package enum Kind: UInt8, Sendable { case control = 0, isochronous = 1, bulk = 2, interrupt = 3 }
    package var kind: Kind
    /// The endpoint's number in bits 3...0; bit 7: to the host.
    package var endpoint: UInt8
    /// Of a control transfer.
    package var setup: USBSetup?
    /// To the device.
    package var data: [UInt8]
    /// The most bytes that the device may give.
    package var length: Int

    package init(_ kind: Kind, endpoint: UInt8, setup: USBSetup? = nil, data: [UInt8] = [], length: Int = 0) {
        self.kind = kind
        self.endpoint = endpoint
        self.setup = setup
        self.data = data
        self.length = length
    }
    package var isIn: Bool { endpoint & 0x80 != 0 }
}

/// What becomes of a transfer.
package enum USBOutcome: Sendable, Equatable {
    /// It is over; to the host: its data, which may be less than what was asked for.
    case done([UInt8])
    /// The device has nothing yet, or no room: the same transfer is offered again when the device has woken its endpoint. Of an
    /// isochronous transfer a controller may make an empty one instead.
    case waiting
    /// The same transfer is offered again after so many nanoseconds.
    case later(VirtualTime)
    case stall
    /// The device did not answer, or what came was damaged.
    case failed
}

/// A device at the end of a USB cable.
package protocol USBDevice: AnyObject {
    /// The device is there. One of the host's can come and go.
    var isAttached: Bool { get }
    var speed: USBSpeed { get }
    /// Where it says that something has changed; set by whoever has the port.
    var port: (any USBPort)? { get set }
    /// What an endpoint other than 0 is, as far as this is known: older controllers cannot tell bulk and interrupt transfers
    /// apart.
    func kind(of endpoint: UInt8) -> USBTransfer.Kind
    /// Where in a disk's image the data comes from that the last transfer of an endpoint other than 0 has given, if it is there
    /// unchanged. No part of the state: it is asked for at once.
    var dataOrigin: ImageOrigin? { get }
    /// A transfer from the controller. The address is the controller's business.
    func carryOut(_ transfer: USBTransfer) -> USBOutcome
    /// The transfer that waits at an endpoint (as in `USBTransfer`) is not offered again.
    func cancel(endpoint: UInt8)
    /// The port resets the device: it has no configuration then.
    func reset()
    /// The state that the guest can observe.
    func visit(_ visitor: inout StateVisitor)
}

extension USBDevice {
    package func kind(of endpoint: UInt8) -> USBTransfer.Kind { .bulk }
    package var dataOrigin: ImageOrigin? { nil }
}

/// A controller's port, as its device sees it.
package protocol USBPort: AnyObject {
    /// A transfer that waits at `endpoint` (as in `USBTransfer`) may be offered again.
    func wake(_ device: any USBDevice, endpoint: UInt8)
    /// `isAttached` has changed.
    func attachmentChanged(_ device: any USBDevice)
}
