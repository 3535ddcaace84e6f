/// Makes frames as they are on a cable of what an interface of the host shows before its card has done its part: TCP
/// packets of up to 64 KiB that the card would split, and checksums of TCP and UDP that it would put in.
///
/// A virtual interface (veth, bridge) hands such packets from one end to the other as they are; a real card puts what has
/// come in together (GRO). Packets that are complete are not changed.
package struct OffloadedFrame {
    /// The largest packet, without Ethernet's header.
    private let mtu: Int
    private static let ethernet = 14
    private static let tcp: UInt8 = 6
    private static let udp: UInt8 = 17

    package init(mtu: Int) { self.mtu = min(max(mtu, 576), 1500) }

    /// Where the headers are.
    private struct Layout {
        var isIPv6: Bool
        var ip: Int
        var transport: Int
        /// Behind the packet; what follows is padding.
        var end: Int
        var kind: UInt8
    }

    /// Hands `frame`, or the frames that it consists of, to `deliver`.
    package mutating func take(_ frame: [UInt8], _ deliver: ([UInt8]) -> Void) {
        guard var layout = Self.layout(frame) else { return deliver(frame) }
        var frame = frame
        // A packet of more than 64 KiB has a length of 0 in its header.
        if frame.count - Self.ethernet > mtu { layout.end = frame.count }
        Self.complete(&frame, layout)
        guard frame.count - Self.ethernet > mtu, layout.kind == Self.tcp else { return deliver(frame) }
        split(frame, layout, deliver)
    }

    private static func number(_ frame: [UInt8], _ place: Int) -> Int { Int(frame[place]) << 8 | Int(frame[place + 1]) }
    private static func set(_ frame: inout [UInt8], _ place: Int, _ value: Int) {
        frame[place] = UInt8(truncatingIfNeeded: value >> 8)
        frame[place + 1] = UInt8(truncatingIfNeeded: value)
    }

    /// Nil for what is not TCP or UDP in a whole IP packet.
    private static func layout(_ frame: [UInt8]) -> Layout? {
        guard frame.count >= ethernet + 20 else { return nil }
        let ip = ethernet
        switch number(frame, 12) {
        case 0x0800:
            let header = Int(frame[ip] & 15) * 4
            // Fragments have no checksum of their own.
            guard frame[ip] >> 4 == 4, header >= 20, number(frame, ip + 6) & 0x3FFF == 0 else { return nil }
            let layout = Layout(
                isIPv6: false, ip: ip, transport: ip + header, end: min(ip + number(frame, ip + 2), frame.count),
                kind: frame[ip + 9])
            return isWhole(layout) || frame.count > 1514 && layout.transport + 20 <= frame.count ? layout : nil
        case 0x86DD:
            guard frame[ip] >> 4 == 6, frame.count >= ip + 40 else { return nil }
            let layout = Layout(
                isIPv6: true, ip: ip, transport: ip + 40, end: min(ip + 40 + number(frame, ip + 4), frame.count), kind: frame[ip + 6])
            return isWhole(layout) || frame.count > 1514 ? layout : nil
        default: return nil
        }
    }
    private static func isWhole(_ layout: Layout) -> Bool {
        layout.kind == tcp && layout.transport + 20 <= layout.end || layout.kind == udp && layout.transport + 8 <= layout.end
    }

    /// The Internet checksum (RFC 1071), not yet inverted.
    private static func sum(_ frame: [UInt8], _ range: Range<Int>, _ start: Int = 0) -> Int {
        var sum = start
        var place = range.lowerBound
        while place + 1 < range.upperBound {
            sum += number(frame, place)
            place += 2
        }
        if place < range.upperBound { sum += Int(frame[place]) << 8 }
        while sum > 0xFFFF { sum = sum & 0xFFFF + sum >> 16 }
        return sum
    }
    /// Of the addresses, the protocol and the length (RFC 9293, 3.1; RFC 8200, 8.1).
    private static func pseudoHeader(_ frame: [UInt8], _ layout: Layout) -> Int {
        let addresses = layout.isIPv6 ? layout.ip + 8..<layout.ip + 40 : layout.ip + 12..<layout.ip + 20
        let length = layout.end - layout.transport
        return sum(frame, addresses, Int(layout.kind) + length & 0xFFFF + length >> 16)
    }
    private static func checksumPlace(_ layout: Layout) -> Int { layout.transport + (layout.kind == tcp ? 16 : 6) }

    /// Puts the checksum in, if there is only the pseudo header's sum: what a card is given to go on from.
    private static func complete(_ frame: inout [UInt8], _ layout: Layout) {
        let place = checksumPlace(layout)
        guard layout.kind == tcp || layout.kind == udp, place + 2 <= layout.end, number(frame, place) == pseudoHeader(frame, layout)
        else { return }
        fill(&frame, layout)
    }
    private static func fill(_ frame: inout [UInt8], _ layout: Layout) {
        let place = checksumPlace(layout)
        set(&frame, place, 0)
        let value = ~sum(frame, layout.transport..<layout.end, pseudoHeader(frame, layout)) & 0xFFFF
        set(&frame, place, value == 0 && layout.kind == udp ? 0xFFFF : value)
    }

    private func split(_ frame: [UInt8], _ layout: Layout, _ deliver: ([UInt8]) -> Void) {
        let header = layout.transport + Int(frame[layout.transport + 12] >> 4) * 4
        let most = Self.ethernet + mtu - header
        guard header >= layout.transport + 20, header <= frame.count, most > 0 else { return }
        let sequence = (0..<4).reduce(UInt32(0)) { $0 << 8 | UInt32(frame[layout.transport + 4 + $1]) }
        for (index, start) in stride(from: header, to: frame.count, by: most).enumerated() {
            let end = min(start + most, frame.count)
            var part = Array(frame[..<header]) + frame[start..<end]
            var layout = layout
            layout.end = part.count
            let number = sequence &+ UInt32(truncatingIfNeeded: start - header)
            Self.set(&part, layout.transport + 4, Int(number >> 16))
            Self.set(&part, layout.transport + 6, Int(number & 0xFFFF))
            // FIN and PSH are the last one's, CWR the first one's.
            if end < frame.count { part[layout.transport + 13] &= ~0x09 }
            if index > 0 { part[layout.transport + 13] &= ~0x80 }
            if layout.isIPv6 {
                Self.set(&part, layout.ip + 4, part.count - layout.transport)
            } else {
                Self.set(&part, layout.ip + 2, part.count - layout.ip)
                Self.set(&part, layout.ip + 4, Self.number(frame, layout.ip + 4) + index)
                Self.set(&part, layout.ip + 10, 0)
                Self.set(&part, layout.ip + 10, ~Self.sum(part, layout.ip..<layout.transport) & 0xFFFF)
            }
            Self.fill(&part, layout)
            deliver(part)
        }
    }
}
