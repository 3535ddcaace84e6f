import DeviceBus
import MachineState

/// What the card makes of transmit descriptors (3.3): frames, with checksums put in and segments split.
package struct E1000Sender {
    /// Fields of the last context descriptor (3.3.6).
    private var checksums: UInt64 = 0
    private var segmentation: UInt64 = 0
    /// The packet so far.
    private var packet: [UInt8] = []
    /// Put checksums of IP and TCP in, and split: as the packet's first data descriptor says.
    private var putsIP = false
    private var putsTCP = false
    private var splits = false
    /// The first data descriptor's: its VLAN tag goes into all segments.
    private var isTagged = false
    private var tag: UInt16 = 0
    /// No packet is longer: 64 KiB of payload and any header.
    private static let longest = 0x10000 + 256

    init() {}

    mutating func visit(_ visitor: inout StateVisitor) {
        visitor.field("checksums", &checksums)
        visitor.field("segmentation", &segmentation)
        visitor.field("packet", &packet)
        visitor.field("putsIP", &putsIP)
        visitor.field("putsTCP", &putsTCP)
        visitor.field("splits", &splits)
        visitor.field("isTagged", &isTagged)
        visitor.field("tag", &tag)
    }

    /// Takes a descriptor; returns the frames that are complete then.
    /// - Parameter tagType: the type of VLAN tags, which are put in where the descriptor says so; nil: none are.
    mutating func take(_ first: UInt64, _ second: UInt64, _ memory: any DMAPort, tagType: UInt16?) -> [[UInt8]] {
        let isExtended = second >> 29 & 1 != 0
        if isExtended, second >> 20 & 15 == 0 {
            (checksums, segmentation) = (first, second)
            return []
        }
        if isExtended, packet.isEmpty {
            splits = second >> 26 & 1 != 0
            putsIP = second >> 40 & 1 != 0
            putsTCP = second >> 41 & 1 != 0
            (isTagged, tag) = (second >> 30 & 1 != 0, UInt16(truncatingIfNeeded: second >> 48))
        }
        append(first, Int(second & (isExtended ? 0xF_FFFF : 0xFFFF)), memory)
        guard second >> 24 & 1 != 0 else { return [] }
        if !isExtended, second >> 26 & 1 != 0 {
            // Legacy (3.3.3): the sum from CSS to the end goes to CSO.
            Self.put(&packet, at: Int(second >> 16 & 0xFF), from: Int(second >> 40 & 0xFF), to: packet.count)
        }
        defer {
            packet = []
            (splits, putsIP, putsTCP) = (false, false, false)
        }
        // VLE: the last descriptor's, but for segments (3.3.7.1).
        let splitsNow = isExtended && splits
        if !splitsNow { (isTagged, tag) = (second >> 30 & 1 != 0, UInt16(truncatingIfNeeded: second >> 48)) }
        if isExtended, !splits { putChecksums(&packet) }
        let frames = splitsNow ? segments : [packet]
        guard let tagType, isTagged else { return frames }
        return frames.map { frame in
            let place = min(frame.count, 12)
            let tagBytes = [tagType, tag].flatMap { [UInt8($0 >> 8), UInt8($0 & 0xFF)] }
            return frame[..<place] + tagBytes + frame[place...]
        }
    }

    private mutating func append(_ address: UInt64, _ count: Int, _ memory: any DMAPort) {
        let count = min(count, Self.longest - packet.count)
        if count <= 0 { return }
        let start = packet.count
        packet += [UInt8](repeating: 0, count: count)
        packet.withUnsafeMutableBytes { memory.read(address, into: UnsafeMutableRawBufferPointer(rebasing: $0[start...])) }
    }

    // MARK: Checksums. A field's offset, and the first and last byte of what is summed (0: to the end)

    private func field(_ value: UInt64, _ shift: UInt64, _ mask: UInt64) -> Int { Int(value >> shift & mask) }
    private var ipStart: Int { field(checksums, 0, 0xFF) }
    private var tcpStart: Int { field(checksums, 32, 0xFF) }

    private func putChecksums(_ frame: inout [UInt8]) {
        func end(_ last: Int) -> Int { last == 0 ? frame.count : min(last + 1, frame.count) }
        if putsIP { Self.put(&frame, at: field(checksums, 8, 0xFF), from: ipStart, to: end(field(checksums, 16, 0xFFFF))) }
        if putsTCP { Self.put(&frame, at: field(checksums, 40, 0xFF), from: tcpStart, to: end(field(checksums, 48, 0xFFFF))) }
    }

    /// The Internet checksum (RFC 1071) of bytes, what the field holds among them, goes into the field.
    private static func put(_ frame: inout [UInt8], at place: Int, from start: Int, to end: Int) {
        guard start < end, end <= frame.count, place + 1 < frame.count else { return }
        set(&frame, place, UInt32(~InternetChecksum.sum(frame, start..<end)), width: 2)
    }

    // MARK: Segments

    /// Numbers of a packet's headers, which have the highest byte first.
    private static func set(_ frame: inout [UInt8], _ place: Int, _ value: UInt32, width: Int) {
        guard place + width <= frame.count else { return }
        for lane in 0..<width { frame[place + lane] = UInt8(truncatingIfNeeded: value >> UInt32((width - 1 - lane) * 8)) }
    }
    private static func number(_ frame: [UInt8], _ place: Int, width: Int) -> UInt32 {
        guard place + width <= frame.count else { return 0 }
        return (0..<width).reduce(0) { $0 << 8 | UInt32(frame[place + $1]) }
    }

    /// TCP segmentation (3.5): the header before each piece of MSS bytes, with its numbers brought up to date.
    private var segments: [[UInt8]] {
        let headerLength = field(segmentation, 40, 0xFF)
        let most = field(segmentation, 48, 0xFFFF)
        let isTCP = segmentation >> 24 & 1 != 0
        let isIPv4 = segmentation >> 25 & 1 != 0
        // Pieces of next to nothing would keep the host busy for a long time; no driver makes them.
        guard most >= 64, headerLength > 0, headerLength <= packet.count else { return [] }
        let header = Array(packet[..<headerLength])
        let payload = packet.count - headerLength
        var done = 0
        var index: UInt32 = 0
        var frames: [[UInt8]] = []
        repeat {
            let count = min(most, payload - done)
            var frame = header + packet[headerLength + done..<headerLength + done + count]
            if isIPv4 {
                Self.set(&frame, ipStart + 2, UInt32(frame.count - min(ipStart, frame.count)), width: 2)
                Self.set(&frame, ipStart + 4, Self.number(header, ipStart + 4, width: 2) &+ index, width: 2)
            } else {
                Self.set(&frame, ipStart + 4, UInt32(max(frame.count - ipStart - 40, 0)), width: 2)
            }
            let length = UInt32(max(frame.count - tcpStart, 0))
            if isTCP {
                Self.set(&frame, tcpStart + 4, Self.number(header, tcpStart + 4, width: 4) &+ UInt32(done), width: 4)
                // FIN and PSH are the last one's.
                if done + count < payload, tcpStart + 13 < frame.count { frame[tcpStart + 13] &= ~0x09 }
            } else {
                Self.set(&frame, tcpStart + 4, length, width: 2)
            }
            if putsTCP {
                // The driver has put the sum of the pseudo header there, but for the length.
                let place = field(checksums, 40, 0xFF)
                let sum = Self.number(header, place, width: 2) + length
                Self.set(&frame, place, sum & 0xFFFF + sum >> 16, width: 2)
            }
            putChecksums(&frame)
            frames.append(frame)
            done += count
            index &+= 1
        } while done < payload
        return frames
    }
}
