/// The numbers of the vfio-user protocol, version 0.1.
package enum VFIOUser {
    /// What a message asks for.
    package enum Command: UInt16, Sendable {
        case version = 1
        case mapDMA = 2
        case unmapDMA = 3
        case deviceInfo = 4
        case regionInfo = 5
        case regionDescriptors = 6
        case interruptInfo = 7
        case setInterrupts = 8
        case readRegion = 9
        case writeRegion = 10
        /// From the device: RAM.
        case readDMA = 11
        case writeDMA = 12
        case reset = 13
    }

    /// Bytes in front of every message.
    package static let headerSize = 16
    /// The most bytes of data that go in one message.
    package static let mostData = 1 << 20
    /// No message is longer, in bytes.
    package static let longestMessage = mostData + 4096
    /// Regions of a PCI device: base address registers 0...5, ROM, configuration space, VGA.
    package static let configurationRegion = 7
    package static let regionCount = 9
    /// Ways to interrupt: pin, MSI, MSI-X, error, request.
    package static let interruptCount = 5

    package enum RegionFlag {
        package static let read: UInt32 = 1
        package static let write: UInt32 = 2
    }
    package enum DeviceFlag {
        package static let reset: UInt32 = 1
        package static let pci: UInt32 = 2
    }
    package enum InterruptFlag {
        package static let none: UInt32 = 1
        package static let event: UInt32 = 4
        package static let mask: UInt32 = 8
        package static let unmask: UInt32 = 16
        package static let trigger: UInt32 = 32
    }
    /// Of a piece of RAM that is told to the device: it may be read and written.
    package static let readWrite: UInt32 = 3
    /// Of an interrupt: by an event descriptor; pins also: can be masked, and are when they come.
    package static let eventInterrupt: UInt32 = 1
    package static let pinInterrupt: UInt32 = 7
}

/// What the other side does wrong, or that it is gone.
package struct VFIOUserError: Error, CustomStringConvertible {
    package let description: String
    package init(_ description: String) { self.description = description }
}

/// One message.
package struct VFIOUserMessage: Sendable {
    package var identifier: UInt16
    /// Its number may be none that is known.
    package var command: UInt16
    package var isReply: Bool
    package var wantsReply: Bool
    /// The `errno` of a reply that says no.
    package var error: UInt32?
    package var body: [UInt8]
    /// The receiver closes them.
    package var descriptors: [Int32] = []

    package init(_ command: VFIOUser.Command, identifier: UInt16, body: [UInt8] = [], descriptors: [Int32] = []) {
        self.identifier = identifier
        self.command = command.rawValue
        isReply = false
        wantsReply = true
        self.body = body
        self.descriptors = descriptors
    }

    /// The answer to a message.
    package init(replyTo message: VFIOUserMessage, body: [UInt8] = [], error: UInt32? = nil) {
        identifier = message.identifier
        command = message.command
        isReply = true
        wantsReply = false
        self.error = error
        self.body = body
    }

    /// From a header, without its body. Throws for sizes that cannot be.
    init(header: [UInt8]) throws {
        let fields = VFIOUserFields(header)
        identifier = fields.word16(0)
        command = fields.word16(2)
        let flags = fields.word32(8)
        guard flags & 0xF <= 1 else { throw VFIOUserError("a message of unknown type \(flags & 0xF)") }
        isReply = flags & 0xF == 1
        wantsReply = flags & 0x10 == 0
        error = flags & 0x20 != 0 ? fields.word32(12) : nil
        body = []
        let size = Int(fields.word32(4))
        guard (VFIOUser.headerSize...VFIOUser.longestMessage).contains(size) else {
            throw VFIOUserError("a message of \(size) bytes")
        }
        bodySize = size - VFIOUser.headerSize
    }
    /// While it is being received.
    private(set) var bodySize = 0

    var bytes: [UInt8] {
        var fields = VFIOUserFields()
        fields.put16(identifier)
        fields.put16(command)
        fields.put32(UInt32(VFIOUser.headerSize + body.count))
        fields.put32((isReply ? 1 : 0) | (wantsReply || isReply ? 0 : 0x10) | (error == nil ? 0 : 0x20))
        fields.put32(error ?? 0)
        return fields.bytes + body
    }
}

/// Little-endian fields, of a message's body for one. What is beyond the end reads as 0.
package struct VFIOUserFields {
    package private(set) var bytes: [UInt8]
    package init(_ bytes: [UInt8] = []) { self.bytes = bytes }

    private func number(_ offset: Int, _ width: Int) -> UInt64 {
        (0..<width).reduce(0) { value, lane in
            let place = offset + lane
            return bytes.indices.contains(place) ? value | UInt64(bytes[place]) << UInt64(lane * 8) : value
        }
    }
    package func word16(_ offset: Int) -> UInt16 { UInt16(truncatingIfNeeded: number(offset, 2)) }
    package func word32(_ offset: Int) -> UInt32 { UInt32(truncatingIfNeeded: number(offset, 4)) }
    package func word64(_ offset: Int) -> UInt64 { number(offset, 8) }
    /// A value of 1 to 8 bytes.
    package func value(_ offset: Int, width: Int) -> UInt64 { number(offset, width) }

    package mutating func put(_ value: UInt64, width: Int) {
        for lane in 0..<width { bytes.append(UInt8(truncatingIfNeeded: value >> UInt64(lane * 8))) }
    }
    package mutating func put16(_ value: UInt16) { put(UInt64(value), width: 2) }
    package mutating func put32(_ value: UInt32) { put(UInt64(value), width: 4) }
    package mutating func put64(_ value: UInt64) { put(value, width: 8) }
    package mutating func put(_ more: [UInt8]) { bytes += more }
}
