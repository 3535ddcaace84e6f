/// What a device says about itself (USB 2.0, 9.6).
package struct USBDescriptors: Sendable {
    package struct Endpoint: Sendable {
        /// As in `USBTransfer`.
        package var address: UInt8
        package var kind: USBTransfer.Kind
        /// Bytes of a packet.
        package var size: UInt16
        /// Milliseconds at full speed, or 125 µs << (n - 1) at high speed; of no meaning for bulk endpoints.
        package var interval: UInt8 = 0
        /// Of an isochronous endpoint, how it keeps time: 1 by itself, 2 by the host's rate, 3 by the frames (USB 1.1, 5.10.4.1).
        package var synchronization: UInt8 = 0
        /// An audio device's endpoints have two bytes more (USB Audio 1.0, 4.6.1.1).
        package var isAudio = false
        /// Class-specific descriptors behind it.
        package var more: [UInt8] = []
    }
    package struct Interface: Sendable {
        package var number: UInt8
        package var alternate: UInt8 = 0
        package var classCode: UInt8
        package var subclass: UInt8
        package var interfaceProtocol: UInt8
        /// Class-specific descriptors before its endpoints.
        package var more: [UInt8] = []
        package var endpoints: [Endpoint] = []
    }

    package var vendor: UInt16
    package var product: UInt16
    package var release: UInt16 = 0x0100
    package var classCode: UInt8 = 0
    package var subclass: UInt8 = 0
    package var deviceProtocol: UInt8 = 0
    /// Manufacturer, product, serial number: strings 1, 2, 3.
    package var strings: [String]
    package var interfaces: [Interface]
    /// Bytes of a packet of endpoint 0 at full speed.
    package var controlSize: UInt8 = 64

    /// As they are at `speed`: written for full speed, at high speed control packets have 64 bytes, bulk
    /// packets 512, and intervals are powers of
    /// two (5.8.3, 9.6.6).
    func at(_ speed: USBSpeed) -> USBDescriptors {
        if speed != .high { return self }
        var new = self
        new.controlSize = 64
        for interface in new.interfaces.indices {
            for index in new.interfaces[interface].endpoints.indices {
                let endpoint = new.interfaces[interface].endpoints[index]
                switch endpoint.kind {
                case .bulk: new.interfaces[interface].endpoints[index].size = 512
                case .interrupt, .isochronous:
                    var power: UInt8 = 1
                    while power < 16, UInt32(1) << power <= UInt32(endpoint.interval) * 8 { power += 1 }
                    new.interfaces[interface].endpoints[index].interval = power
                case .control: break
                }
            }
        }
        return new
    }

    private static func word(_ value: UInt16) -> [UInt8] { [UInt8(value & 0xFF), UInt8(value >> 8)] }

    package var device: [UInt8] {
        let head: [UInt8] = [18, 1, 0x00, 0x02, classCode, subclass, deviceProtocol, controlSize]
        return head + Self.word(vendor) + Self.word(product) + Self.word(release) + [1, 2, strings.count > 2 ? 3 : 0, 1]
    }

    /// For the other speed, of which there is none: the same, but for its length and fields.
    package var qualifier: [UInt8] { [10, 6, 0x00, 0x02, classCode, subclass, deviceProtocol, controlSize, 1, 0] }

    package var configuration: [UInt8] {
        var body: [UInt8] = []
        for interface in interfaces {
            body += [
                9, 4, interface.number, interface.alternate, UInt8(truncatingIfNeeded: interface.endpoints.count),
                interface.classCode, interface.subclass, interface.interfaceProtocol, 0,
            ]
            body += interface.more
            for endpoint in interface.endpoints {
                body += [endpoint.isAudio ? 9 : 7, 5, endpoint.address, endpoint.kind.rawValue | endpoint.synchronization << 2]
                body += Self.word(endpoint.size) + [endpoint.interval] + (endpoint.isAudio ? [0, 0] : [])
                body += endpoint.more
            }
        }
        let numbers = Set(interfaces.map(\.number)).count
        // One configuration; self-powered by the board, 100 mA.
        return [9, 2] + Self.word(UInt16(truncatingIfNeeded: body.count + 9)) + [UInt8(truncatingIfNeeded: numbers), 1, 0, 0xC0, 50]
            + body
    }

    /// String `index`: 0 is the list of languages (US English). Nil: there is none.
    package func string(_ index: Int) -> [UInt8]? {
        if index == 0 { return [4, 3, 0x09, 0x04] }
        guard strings.indices.contains(index - 1) else { return nil }
        let units = strings[index - 1].utf16.prefix(126).flatMap { Self.word($0) }
        return [UInt8(truncatingIfNeeded: units.count + 2), 3] + units
    }
}
