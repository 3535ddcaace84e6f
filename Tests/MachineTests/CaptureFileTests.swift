import Foundation
import Passthrough
import Testing

/// Captures: read in the classic format, written in pcapng.
struct CaptureFileTests {
    private func put(_ value: UInt32, _ isBig: Bool = false) -> [UInt8] {
        let bytes = (0..<4).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
        return isBig ? bytes.reversed() : bytes
    }
    private func capture(_ magic: UInt32, link: UInt32 = 1, isBig: Bool = false) -> [UInt8] {
        [magic, 0x4_0002, 0, 0, 65535, link, 7, 5, 3, 3].flatMap { put($0, isBig) } + [1, 2, 3]
            + [8, 6, 0, 9].flatMap { put($0, isBig) }
    }

    @Test(arguments: [false, true])
    func eitherByteOrderAndUnit(isBig: Bool) throws {
        let micro = try PcapFile(bytes: capture(0xA1B2_C3D4, isBig: isBig), name: "x")
        #expect(micro.firstTime == 7_000_005_000)
        #expect(micro.next() == PcapFile.Frame(time: 7_000_005_000, bytes: [1, 2, 3]))
        #expect(micro.next() == PcapFile.Frame(time: 8_000_006_000, bytes: []))
        #expect(micro.next() == nil)
        let nano = try PcapFile(bytes: capture(0xA1B2_3C4D, isBig: isBig), name: "x")
        #expect(nano.next()?.time == 7_000_000_005)
    }

    @Test func whatIsNoCaptureIsRefused() {
        for bytes in [[], [UInt8](repeating: 0, count: 100), Array(capture(0xA1B2_C3D4).prefix(23)), capture(0xA1B2_C3D4, link: 113), capture(0x0A0D_0D0A)] {
            #expect(throws: BackendError.self) { try PcapFile(bytes: bytes, name: "x") }
        }
    }

    /// Cut off or changed anywhere: frames up to there, and no crash.
    @Test func damagedCaptures() throws {
        let whole = capture(0xA1B2_C3D4)
        for length in 24..<whole.count {
            let file = try PcapFile(bytes: Array(whole.prefix(length)), name: "x")
            var count = 0
            while file.next() != nil { count += 1 }
            #expect(count == (length < 24 + 19 ? 0 : 1))
        }
        for index in 24..<whole.count {
            var bytes = whole
            bytes[index] = 0xFF
            let file = try PcapFile(bytes: bytes, name: "x")
            while file.next() != nil {}
        }
    }

    @Test func packetBlocks() {
        let block = PcapngFile.packet([1, 2, 3, 4, 5], interface: 2, isOut: true, time: 0x1_0000_0003)
        #expect(block == put(6) + put(52) + put(2) + put(1) + put(3) + put(5) + put(5) + [1, 2, 3, 4, 5, 0, 0, 0]
            + [2, 0, 4, 0] + put(2) + put(0) + put(52))
    }

    @Test func forwards() {
        let forward = PortForward("tcp::2222-:22")
        #expect(forward?.hostPort == 2222 && forward?.guestPort == 22 && forward?.isUDP == false)
        #expect(forward?.hostAddress == UInt32(0x7F00_0001).bigEndian && forward?.guestAddress == UInt32(0x0A00_020F).bigEndian)
        #expect(PortForward("udp:0.0.0.0:53-10.0.2.20:5353")?.guestAddress == UInt32(0x0A00_0214).bigEndian)
        for text in ["", "tcp", "tcp:1-2", "tcp::1-:70000", "sctp::1-:2", "tcp:localhost:1-:2", "tcp::1", "tcp::1-:2-:3", "tcp::1-:0"] {
            #expect(PortForward(text) == nil, "\(text)")
        }
    }
}
