/// A transfer for a device of the host.
package struct USBHostRequest: Sendable, Equatable {
    /// Names it in its completion.
    package var number: UInt32
    /// As in endpoint descriptors: 0 control, 1 isochronous, 2 bulk, 3 interrupt.
    package var kind: UInt8
    /// The endpoint's number; bit 7: to the host.
    package var endpoint: UInt8
    /// Eight bytes, of a control transfer.
    package var setup: [UInt8]
    /// To the device.
    package var data: [UInt8]
    /// The most bytes that may come.
    package var length: Int

    package init(number: UInt32, kind: UInt8, endpoint: UInt8, setup: [UInt8], data: [UInt8], length: Int) {
        self.number = number
        self.kind = kind
        self.endpoint = endpoint
        self.setup = setup
        self.data = data
        self.length = length
    }
}

/// What a device of the host has to tell.
package enum USBHostEvent: Sendable, Equatable {
    /// 1 full, 2 low, 3 high, 4 super speed.
    case attached(speed: UInt8)
    case detached
    /// With what came from the device.
    case done(number: UInt32, data: [UInt8])
    case stalled(number: UInt32)
    case failed(number: UInt32)
}

/// A device of the host. Called on the machine's thread.
package protocol USBHostBackend: AnyObject, Sendable {
    /// Begins to tell what happens, from any thread: once, before the run.
    func start(_ tell: @escaping @Sendable (USBHostEvent) -> Void)
    func submit(_ request: USBHostRequest)
    /// Nobody waits for a transfer any more: it is not told of.
    func cancel(_ number: UInt32)
    /// The port is reset.
    func reset()
}

/// Which of the host's devices: `VENDOR:PRODUCT` in hexadecimal digits, or `BUS.ADDRESS`.
package enum USBHostPlace: Sendable, Equatable {
    case product(vendor: UInt16, product: UInt16)
    case address(bus: UInt8, address: UInt8)

    /// Nil for a text that is not one.
    package init?(_ text: String) {
        let pair = text.split(separator: ":", omittingEmptySubsequences: false)
        if pair.count == 2 {
            guard pair.allSatisfy({ (1...4).contains($0.utf8.count) }), let vendor = UInt16(pair[0], radix: 16),
                let product = UInt16(pair[1], radix: 16)
            else { return nil }
            self = .product(vendor: vendor, product: product)
            return
        }
        let numbers = text.split(separator: ".", omittingEmptySubsequences: false)
        guard numbers.count == 2, let bus = UInt8(numbers[0]), let address = UInt8(numbers[1]) else { return nil }
        self = .address(bus: bus, address: address)
    }

    package var text: String {
        func hex(_ value: UInt16) -> String { String(repeating: "0", count: 4 - String(value, radix: 16).count) + String(value, radix: 16) }
        switch self {
        case .product(let vendor, let product): return "\(hex(vendor)):\(hex(product))"
        case .address(let bus, let address): return "\(bus).\(address)"
        }
    }
}
