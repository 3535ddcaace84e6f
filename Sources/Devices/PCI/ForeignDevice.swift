import DeviceBus

/// What is known of a PCI device that is carried out elsewhere: in another process, or on a thread of its own. Part of a
/// recording's header, so that a trace knows what answers where.
package struct ForeignDeviceSettings: Sendable, Equatable {
    /// One of the six base address registers.
    package struct BaseAddress: Sendable, Equatable {
        package var index: Int
        package var space: Region.Space
        /// Bytes that answer. What the register asks for is the next power of two.
        package var size: UInt64
    }

    /// The 256 bytes of configuration space after a reset.
    package var configuration: [UInt8]
    package var baseAddresses: [BaseAddress]

    /// No register asks for more, in bytes: they all have to fit below 4 GiB, beside the RAM.
    package static let largest: UInt64 = 256 << 20

    /// Nil for what is no PCI function with header type 0, or asks for more than there is.
    package init?(configuration: [UInt8], sizes: [UInt64]) {
        guard configuration.count == 256, sizes.count <= 6, configuration[0x0E] & 0x7F == 0 else { return nil }
        // A function that is not there reads as ones.
        guard configuration[0] != 0xFF || configuration[1] != 0xFF else { return nil }
        self.configuration = configuration
        baseAddresses = []
        var index = 0
        while index < sizes.count {
            let low = configuration[0x10 + index * 4]
            let space: Region.Space = low & 1 != 0 ? .port : .memory
            if sizes[index] > 0 {
                guard sizes[index] <= (space == .port ? 0x1000 : Self.largest) else { return nil }
                baseAddresses.append(BaseAddress(index: index, space: space, size: sizes[index]))
            }
            // A 64-bit register takes the place of two.
            index += space == .memory && low & 6 == 4 ? 2 : 1
        }
    }

    /// Such as "86801010…:20000/0/40": configuration space, then the sizes of base address registers, in hexadecimal digits.
    package var text: String {
        let sizes = (0..<6).map { number in String(baseAddresses.first { $0.index == number }?.size ?? 0, radix: 16) }
        let digits = Array("0123456789abcdef")
        let bytes = String(configuration.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] })
        return bytes + ":" + sizes.joined(separator: "/")
    }

    /// Nil for a text that is not one.
    package init?(text: String) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2 else { return nil }
        let digits = parts[0].compactMap(\.hexDigitValue)
        guard digits.count == 512, parts[0].count == 512 else { return nil }
        let words = parts[1].split(separator: "/", omittingEmptySubsequences: false)
        let sizes = words.compactMap { UInt64($0, radix: 16) }
        guard sizes.count == words.count else { return nil }
        self.init(configuration: (0..<256).map { UInt8(digits[$0 * 2] << 4 | digits[$0 * 2 + 1]) }, sizes: sizes)
    }
}

extension [ForeignDeviceSettings] {
    /// The most that a machine has.
    package static var most: Int { 4 }
    package var text: String { map(\.text).joined(separator: ",") }
    /// Nil for a text that is not one.
    package init?(text: String) {
        self = []
        for part in text.split(separator: ",") {
            guard count < Self.most, let settings = ForeignDeviceSettings(text: String(part)) else { return nil }
            append(settings)
        }
    }
}

/// The ways a PCI device can interrupt.
package enum ForeignInterrupt: UInt32, Sendable {
    case pin = 0
    case msi = 1
    case msix = 2
}

/// The way to a device that is carried out elsewhere. Used on the machine's thread only.
///
/// Within every call, and within `poll`, the device may reach RAM through `memory`.
package protocol ForeignDeviceLink: AnyObject {
    /// Nobody is there any more. Once it is true it stays so.
    var isGone: Bool { get }
    /// Where the device reaches RAM; nil: it has to wait.
    var memory: (any DMAPort)? { get set }
    /// Reads `width` bytes (1, 2, 4 or 8) of base address register 0...5, or of configuration space (7). Nil: no answer.
    func read(region: Int, offset: UInt64, width: Int) -> UInt64?
    func write(region: Int, offset: UInt64, width: Int, value: UInt64)
    /// Lets the device interrupt in this way, by `count` vectors; 0: not any more.
    func enable(_ kind: ForeignInterrupt, count: Int)
    /// The interrupt of the pin has been seen: it may come again.
    func unmaskPin()
    /// Back to the state after power-on.
    func reset()
    /// Nobody will poll for a while: the machine's thread is to be woken when the device has something to say.
    func arm()
    /// Lets the device do what it wants by itself, and gives the interrupts that have come: kind and vector.
    func poll(_ interrupted: (ForeignInterrupt, Int) -> Void)
}
