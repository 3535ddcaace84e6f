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
        for bytes in [[], [UInt8](repeating: 0, count: 100), Array(capture(0xA1B2_C3D4).prefix(23)), capture(0xA1B2_C3D4, link: 113), capture(0x0A0D_0D0A), section(interface(113) + packet(0, 0, 0, [1]))] {
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

    // MARK: pcapng

    private func block(_ kind: UInt32, _ body: [UInt8], _ isBig: Bool = false) -> [UInt8] {
        let padded = body + [UInt8](repeating: 0, count: -body.count & 3)
        let length = put(UInt32(padded.count + 12), isBig)
        return put(kind, isBig) + length + padded + length
    }
    private func half(_ value: UInt32, _ isBig: Bool = false) -> [UInt8] { isBig ? Array(put(value, true).suffix(2)) : Array(put(value).prefix(2)) }
    private func section(_ rest: [UInt8], isBig: Bool = false) -> [UInt8] {
        block(0x0A0D_0D0A, put(0x1A2B_3C4D, isBig) + half(1, isBig) + half(0, isBig) + put(.max) + put(.max), isBig) + rest
    }
    private func interface(_ link: UInt32, options: [UInt8] = [], isBig: Bool = false) -> [UInt8] {
        block(1, half(link, isBig) + half(0) + put(0) + options, isBig)
    }
    private func packet(_ interface: UInt32, _ high: UInt32, _ low: UInt32, _ bytes: [UInt8], isBig: Bool = false) -> [UInt8] {
        block(6, [interface, high, low, UInt32(bytes.count), 99].flatMap { put($0, isBig) } + bytes, isBig)
    }
    private func resolution(_ value: UInt8, isBig: Bool = false) -> [UInt8] { half(9, isBig) + half(1, isBig) + [value, 0, 0, 0] }

    @Test(arguments: [false, true])
    func newFormat(isBig: Bool) throws {
        let offset = half(14, isBig) + half(8, isBig) + (isBig ? put(0) + put(100, true) : put(100) + put(0))
        let bytes = section(
            interface(1, isBig: isBig) + interface(113, isBig: isBig) + interface(1, options: resolution(9, isBig: isBig) + offset, isBig: isBig)
                + interface(1, options: half(2, isBig) + half(3, isBig) + [65, 66, 67, 0] + resolution(0x80 | 10, isBig: isBig), isBig: isBig)
                + interface(1, options: resolution(12, isBig: isBig), isBig: isBig)
                + packet(0, 1, 5, [1, 2, 3], isBig: isBig) + packet(1, 0, 6, [9], isBig: isBig) + packet(2, 0, 7, [4], isBig: isBig)
                + block(5, put(0), isBig) + packet(3, 0, 1536, [5, 6], isBig: isBig) + packet(4, 0, 7_000_999, [7], isBig: isBig)
                + packet(8, 0, 0, [8], isBig: isBig)
                + block(3, put(5, isBig) + [1, 2, 3, 4, 5], isBig)
                + block(2, half(2, isBig) + half(0) + [0, 3, 2, 2].flatMap { put($0, isBig) } + [6, 6], isBig), isBig: isBig)
            // Another section, of the other byte order.
            + section(interface(1, isBig: !isBig) + packet(0, 0, 2, [10], isBig: !isBig), isBig: !isBig)
        let file = try PcapFile(bytes: bytes, name: "x")
        let first = UInt64(1 << 32 | 5) * 1000
        #expect(file.firstTime == first)
        #expect(file.next() == PcapFile.Frame(time: first, bytes: [1, 2, 3]))
        #expect(file.next() == PcapFile.Frame(time: 100_000_000_007, bytes: [4]))
        #expect(file.next() == PcapFile.Frame(time: 1_500_000_000, bytes: [5, 6]))
        #expect(file.next() == PcapFile.Frame(time: 7000, bytes: [7]))
        #expect(file.next() == PcapFile.Frame(time: 7000, bytes: [1, 2, 3, 4, 5]))
        #expect(file.next() == PcapFile.Frame(time: 100_000_000_003, bytes: [6, 6]))
        #expect(file.next() == PcapFile.Frame(time: 2000, bytes: [10]))
        #expect(file.next() == nil)
    }

    /// Cut off, or any byte changed to anything: never a crash; and what we write, we read.
    @Test func damagedNewFormat() throws {
        let scratch = FileManager.default.temporaryDirectory.appendingPathComponent("emu-\(UUID()).pcapng")
        defer { try? FileManager.default.removeItem(at: scratch) }
        let written = try PcapngFile(path: scratch.path, interfaces: ["net0", "net1"])
        written.append([1, 2, 3, 4, 5], interface: 1, isOut: true, time: 5_000_000_000_007)
        written.append([6], interface: 0, isOut: false, time: 5_000_000_000_008)
        #expect(written.flush())
        let whole = [UInt8](try Data(contentsOf: scratch))
        let file = try PcapFile(path: scratch.path)
        #expect(file.next() == PcapFile.Frame(time: 5_000_000_000_007, bytes: [1, 2, 3, 4, 5]))
        #expect(file.next() == PcapFile.Frame(time: 5_000_000_000_008, bytes: [6]))
        #expect(file.next() == nil)
        for length in 28..<whole.count {
            guard let file = try? PcapFile(bytes: Array(whole.prefix(length)), name: "x") else { continue }
            while file.next() != nil {}
        }
        for index in 4..<whole.count {
            for value in [0, 1, 4, 0x7F, 0x80, 0xFF] as [UInt8] {
                var bytes = whole
                bytes[index] = value
                guard let file = try? PcapFile(bytes: bytes, name: "x") else { continue }
                while file.next() != nil {}
            }
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
