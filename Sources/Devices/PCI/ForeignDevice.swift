import DeviceBus
import MachineState

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

    /// Of one of our own models, as it is after a reset. Nil for one with other than plain base address registers.
    package init?(of function: any PCIFunction) {
        let configuration = function.configuration
        var bytes = configuration.bytes
        for index in 0x10..<0x28 where bytes[index] != 0 {
            // Where software has put it does not matter; what kind it is does.
            bytes[index] = index & 3 == 0 ? bytes[index] & (bytes[index] & 1 != 0 ? 3 : 15) : 0
        }
        bytes[4] = 0
        bytes[5] = 0
        self.init(configuration: bytes, sizes: configuration.baseAddresses.map { UInt64($0?.size ?? 0) })
    }

    /// What the bus has to know of interrupts by messages.
    package struct Messages: Sendable {
        /// Where the capabilities are; 0 for none.
        package var msi = 0
        package var msix = 0
        /// Vectors of MSI-X.
        package var vectors = 0
        /// Its table and pending bits: base address register, and place in it.
        package var table: (bar: Int, range: Range<UInt64>)?
        package var pending: (bar: Int, range: Range<UInt64>)?
        /// A place that the bus has to do with, and not the device.
        package func contains(bar: Int, offset: UInt64) -> Bool {
            if let table, table.bar == bar, table.range.contains(offset) { return true }
            if let pending, pending.bar == bar, pending.range.contains(offset) { return true }
            return false
        }
    }

    package var messages: Messages {
        var found = Messages()
        // Status: there is a list. A list can lead round and round.
        var next = configuration[6] & 0x10 != 0 ? Int(configuration[0x34] & 0xFC) : 0
        for _ in 0..<48 where next >= 0x40 && next <= 0xF0 {
            if configuration[next] == 5, next <= 0xE8 { found.msi = next }
            if configuration[next] == 0x11 { found.msix = next }
            next = Int(configuration[next + 1] & 0xFC)
        }
        if found.msix == 0 { return found }
        func word(_ offset: Int, _ width: Int) -> UInt64 {
            (0..<width).reduce(0) { $0 | UInt64(configuration[(offset + $1) & 0xFF]) << UInt64($1 * 8) }
        }
        found.vectors = min(Int(word(found.msix + 2, 2) & 0x7FF) + 1, 128)
        let (table, pending) = (word(found.msix + 4, 4), word(found.msix + 8, 4))
        found.table = (Int(table & 7), table & ~7..<(table & ~7) + UInt64(found.vectors * 16))
        found.pending = (Int(pending & 7), pending & ~7..<(pending & ~7) + UInt64((found.vectors + 63) / 64 * 8))
        return found
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
    /// Fills `buffer` with what so many reads of `width` bytes give. False: it has to be read one by one.
    func readBlock(region: Int, offset: UInt64, width: Int, into buffer: UnsafeMutableRawBufferPointer) -> Bool
    /// Lets the device interrupt in this way, by `count` vectors; 0: not any more.
    func enable(_ kind: ForeignInterrupt, count: Int)
    /// The interrupt of the pin has been seen: it may come again.
    func unmaskPin()
    /// When, in the machine's virtual time, it does something next; `.max`: that is not known.
    var nextDue: VirtualTime { get }
    /// Back to the state after power-on.
    func reset()
    /// The machine needs the device no more.
    func close()
    /// Says who is to be called, from any thread, when the device has something to say and nobody polls.
    func start(_ nudge: @escaping @Sendable () -> Void)
    /// Nobody will poll for a while: the machine's thread is to be woken when the device has something to say.
    func arm()
    /// Lets the device do what it wants by itself, and gives the interrupts that have come: kind and vector.
    func poll(_ interrupted: (ForeignInterrupt, Int) -> Void)
}

extension ForeignDeviceLink {
    package func readBlock(region: Int, offset: UInt64, width: Int, into buffer: UnsafeMutableRawBufferPointer) -> Bool { false }
}
