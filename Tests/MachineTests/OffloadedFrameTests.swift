import Foundation
import Testing

@testable import Passthrough

/// Frames as virtual interfaces hand them over become frames as they are on a cable.
struct OffloadedFrameTests {
    private func sum(_ bytes: some Sequence<UInt8>, _ start: Int = 0) -> Int {
        var sum = start
        for (index, byte) in bytes.enumerated() { sum += index & 1 == 0 ? Int(byte) << 8 : Int(byte) }
        while sum > 0xFFFF { sum = (sum & 0xFFFF) + (sum >> 16) }
        return sum
    }
    private func put(_ value: Int, _ width: Int) -> [UInt8] {
        (0..<width).map { UInt8(truncatingIfNeeded: value >> ((width - 1 - $0) * 8)) }
    }

    /// A TCP or UDP packet. Its checksum is the pseudo header's alone, unless it is to be complete.
    private func frame(_ payload: [UInt8], isIPv6: Bool, isTCP: Bool, flags: UInt8 = 0x18, isComplete: Bool = false) -> [UInt8] {
        let addresses = isIPv6 ? [UInt8](1...32) : [10, 0, 0, 1, 10, 0, 0, 2]
        var transport = put(80, 2) + put(1234, 2)
        transport += isTCP ? put(0xFFFF_FF00, 4) + put(77, 4) + [0x80, flags] + put(500, 2) : put(8 + payload.count, 2)
        let place = transport.count
        transport += [0, 0] + (isTCP ? [0, 0] + [UInt8](repeating: 1, count: 12) : []) + payload
        let kind = isTCP ? 6 : 17
        let pseudo = sum(addresses, kind + transport.count)
        let check = isComplete ? ~sum(transport, pseudo) & 0xFFFF : pseudo
        transport.replaceSubrange(place..<place + 2, with: put(check, 2))
        var ip: [UInt8]
        if isIPv6 {
            ip = [0x60, 0, 0, 0] + put(transport.count, 2) + [UInt8(kind), 64] + addresses
        } else {
            ip = [0x45, 0] + put(20 + transport.count, 2) + put(9, 2) + [0x40, 0, 64, UInt8(kind), 0, 0] + addresses
            ip.replaceSubrange(10..<12, with: put(~sum(ip) & 0xFFFF, 2))
        }
        return [UInt8](repeating: 2, count: 12) + (isIPv6 ? [0x86, 0xDD] : [0x08, 0x00]) + ip + transport
    }
    private func taken(_ frame: [UInt8]) -> [[UInt8]] {
        var frames: [[UInt8]] = []
        var splitter = OffloadedFrame(mtu: 1500)
        splitter.take(frame) { frames.append($0) }
        return frames
    }
    /// The checksums of a frame are right.
    private func isRight(_ frame: [UInt8], isIPv6: Bool) -> Bool {
        let transport = isIPv6 ? 54 : 34
        let addresses = isIPv6 ? frame[22..<54] : frame[26..<34]
        let kind = Int(isIPv6 ? frame[20] : frame[23])
        let ip = isIPv6 ? 0xFFFF : sum(frame[14..<34])
        return ip == 0xFFFF && sum(frame[transport...], sum(addresses, kind + frame.count - transport)) == 0xFFFF
    }

    @Test(arguments: [false, true], [false, true]) func checksumsArePutIn(isIPv6: Bool, isTCP: Bool) {
        let payload = [UInt8](1...99)
        let partial = frame(payload, isIPv6: isIPv6, isTCP: isTCP)
        let whole = frame(payload, isIPv6: isIPv6, isTCP: isTCP, isComplete: true)
        #expect(!isRight(partial, isIPv6: isIPv6) && isRight(whole, isIPv6: isIPv6))
        #expect(taken(partial) == [whole])
        #expect(taken(whole) == [whole], "what is complete stays as it is")
        // One that is wrong stays wrong: the guest is to see it.
        var wrong = whole
        wrong[wrong.count - 1] ^= 1
        #expect(taken(wrong) == [wrong])
    }

    @Test(arguments: [false, true]) func longPacketsAreSplit(isIPv6: Bool) {
        let payload = (0..<10_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        let parts = taken(frame(payload, isIPv6: isIPv6, isTCP: true, flags: 0x99))
        let header = isIPv6 ? 86 : 66
        #expect(parts.count == (10_000 + 1513 - header) / (1514 - header))
        #expect(parts.allSatisfy { $0.count <= 1514 && isRight($0, isIPv6: isIPv6) })
        #expect(parts.flatMap { $0[header...] } == payload)
        var next = 0xFFFF_FF00
        for (index, part) in parts.enumerated() {
            let transport = isIPv6 ? 54 : 34
            #expect(part[transport + 4..<transport + 8].reduce(0) { $0 << 8 | Int($1) } == next & 0xFFFF_FFFF)
            next += part.count - header
            // ACK stays; CWR is the first one's, PSH and FIN the last one's.
            #expect(part[transport + 13] == 0x10 | (index == 0 ? 0x80 : 0) | (index == parts.count - 1 ? 0x09 : 0))
            if !isIPv6 { #expect(Int(part[18]) << 8 | Int(part[19]) == 9 + index) }
        }
    }

    @Test func anyBytesAreTaken() {
        var generator = SystemRandomNumberGenerator()
        for round in 0..<20_000 {
            var bytes = frame([UInt8](repeating: 5, count: round % 7 == 0 ? 3000 : 40), isIPv6: round & 1 != 0, isTCP: round & 2 != 0)
            for _ in 0..<Int.random(in: 0...6, using: &generator) {
                bytes[Int.random(in: 12..<80, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
            }
            bytes = Array(bytes.prefix(Int.random(in: 0...bytes.count, using: &generator)))
            _ = taken(bytes)
        }
    }
}
