/// What the card finds out about a packet that comes in (3.2.3, 3.2.9, 9): its checksums, and its VLAN tag, which it may take out.
struct E1000Received {
    private enum Status {
        static let ignoresChecksums: UInt8 = 1 << 2
        static let isTagged: UInt8 = 1 << 3
        static let hasTCP: UInt8 = 1 << 5
        static let hasIP: UInt8 = 1 << 6
    }
    private enum Failure {
        static let tcp: UInt8 = 1 << 5
        static let ip: UInt8 = 1 << 6
    }

    /// The packet as it goes into the buffers.
    private(set) var bytes: [UInt8]
    /// Bits of the descriptor's status beside "done" and "end of packet".
    private(set) var status: UInt8 = 0
    private(set) var errors: UInt8 = 0
    /// The Internet checksum of everything from RXCSUM.PCSS on.
    private(set) var checksum: UInt16 = 0
    /// Priority, CFI and number of the tag that was taken out.
    private(set) var tag: UInt16 = 0

    /// - Parameters:
    ///   - packet: 60 bytes or more, perhaps with its check sequence.
    ///   - type: VET, the tag's type.
    ///   - takesTag: CTRL.VME.
    ///   - control: RXCSUM.
    init(_ packet: [UInt8], type: UInt16, takesTag: Bool, control: UInt32) {
        bytes = packet
        let isTagged = Self.number(bytes, 12) == type
        if isTagged, takesTag {
            tag = Self.number(bytes, 14)
            status |= Status.isTagged
            bytes.removeSubrange(12..<16)
        }
        let start = Int(control & 0xFF)
        if start < bytes.count { checksum = ~InternetChecksum.sum(bytes, start..<bytes.count).byteSwapped }
        lookAtIP(isTagged && !takesTag ? 18 : 14, wantsIP: control & 1 << 8 != 0, wantsTCP: control & 1 << 9 != 0)
    }

    private static func number(_ bytes: [UInt8], _ place: Int) -> UInt16 { UInt16(bytes[place]) << 8 | UInt16(bytes[place + 1]) }

    /// What is no IPv4 nobody has looked at; nor at fragments' TCP and UDP, and at UDP without a checksum.
    private mutating func lookAtIP(_ start: Int, wantsIP: Bool, wantsTCP: Bool) {
        status |= Status.ignoresChecksums
        guard wantsIP || wantsTCP, start + 20 <= bytes.count, Self.number(bytes, start - 2) == 0x0800, bytes[start] >> 4 == 4 else { return }
        let header = Int(bytes[start] & 15) * 4
        let length = Int(Self.number(bytes, start + 2))
        guard header >= 20, length >= header, start + length <= bytes.count else { return }
        if wantsIP {
            status = status & ~Status.ignoresChecksums | Status.hasIP
            if InternetChecksum.sum(bytes, start..<start + header) != 0xFFFF { errors |= Failure.ip }
        }
        let transport = start + header
        let kind = bytes[start + 9]
        let isFragment = Self.number(bytes, start + 6) & 0x3FFF != 0
        guard wantsTCP, !isFragment, kind == 6 && length - header >= 20 || kind == 17 && length - header >= 8 else { return }
        if kind == 17, Self.number(bytes, transport + 6) == 0 { return }
        status = status & ~Status.ignoresChecksums | Status.hasTCP
        // The pseudo header: addresses, protocol, length.
        let extra = UInt32(kind) + UInt32(length - header) + UInt32(InternetChecksum.sum(bytes, start + 12..<start + 20))
        if InternetChecksum.sum(bytes, transport..<start + length, and: extra) != 0xFFFF { errors |= Failure.tcp }
    }
}

/// The Internet checksum (RFC 1071), without the last complement.
enum InternetChecksum {
    /// The sum of 16-bit numbers, the high byte first; an odd byte at the end is a high one. `and`: what is added.
    static func sum(_ bytes: [UInt8], _ range: Range<Int>, and extra: UInt32 = 0) -> UInt16 {
        var sum: UInt64 = 0
        bytes.withUnsafeBytes { bytes in
            var place = range.lowerBound
            // The sum may be taken of any wider numbers, in any byte order, and folded then (RFC 1071, 2).
            while place + 4 <= range.upperBound {
                sum &+= UInt64(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: place, as: UInt32.self)))
                place += 4
            }
            var shift: UInt64 = 0
            while place < range.upperBound {
                sum &+= UInt64(bytes[place]) << shift
                shift += 8
                place += 1
            }
        }
        var total = UInt64(UInt16(truncatingIfNeeded: fold(sum)).byteSwapped) + UInt64(extra)
        total = fold(total)
        return UInt16(truncatingIfNeeded: total)
    }

    private static func fold(_ value: UInt64) -> UInt64 {
        var value = value
        while value > 0xFFFF { value = value & 0xFFFF + value >> 16 }
        return value
    }
}
