import Foundation
import Testing

/// Network cards as users run them, with Debian's driver.
@Suite(.serialized, .enabled(if: Program.path != nil, "the program is not built beside the tests: run scripts/test"))
struct NetworkTests {
    private static let guestIsHere = ProcessInfo.processInfo.environment["EMU_TEST_NET_INITRD"] != nil
    private static let hasUserNetwork: Bool = {
        #if Slirp
        true
        #else
        false
        #endif
    }()

    /// - Parameter model: whose driver the guest has: the cloud kernel has virtio's, the installer's that of the e1000, the full
    ///   one that of the RTL8139.
    private func guest(_ more: [String], append: String, model: String = "virtio") -> [String] {
        let environment = ProcessInfo.processInfo.environment
        let names =
            switch model {
            case "virtio": ["EMU_TEST_KERNEL", "EMU_TEST_NET_INITRD"]
            case "e1000": ["EMU_TEST_E1000_KERNEL", "EMU_TEST_E1000_INITRD"]
            default: ["EMU_TEST_USB_KERNEL", "EMU_TEST_RTL8139_INITRD"]
            }
        return [
            "--kernel", environment[names[0]] ?? "", "--initrd", environment[names[1]] ?? "",
            "--append", "console=ttyS0 panic=-1 quiet \(append)", "--memory", "128M",
        ] + more
    }

    /// Frames of a pcapng file: interface, time, flags, bytes.
    private func packets(_ bytes: [UInt8]) -> [(interface: Int, time: UInt64, flags: Int, bytes: [UInt8])] {
        func number(_ offset: Int, _ width: Int) -> Int { (0..<width).reduce(0) { $0 | Int(bytes[offset + $1]) << ($1 * 8) } }
        var found: [(Int, UInt64, Int, [UInt8])] = []
        var offset = 0
        while offset + 12 <= bytes.count {
            let length = number(offset + 4, 4)
            guard length >= 12, length % 4 == 0, offset + length <= bytes.count, number(offset + length - 4, 4) == length else {
                Issue.record("a broken block at \(offset)")
                return found
            }
            if number(offset, 4) == 6 {
                let count = number(offset + 20, 4)
                let flags = number(offset + 28 + (count + 3) / 4 * 4 + 4, 4)
                found.append((
                    number(offset + 8, 4), UInt64(number(offset + 12, 4)) << 32 | UInt64(number(offset + 16, 4)), flags,
                    Array(bytes[offset + 28..<offset + 28 + count])
                ))
            }
            offset += length
        }
        return found
    }

    /// DHCP, a download, and a connection from outside; then the same again from the recording, with nobody there.
    @Test(
        .enabled(if: guestIsHere && hasUserNetwork, "no guest, or no --net user: run scripts/test"),
        arguments: ["inputs", "devices"], ["virtio", "e1000", "rtl8139"])
    func aDownloadReplaysWithoutItsServer(boundary: String, model: String) throws {
        let scratch = try Scratch()
        var random = SystemRandomNumberGenerator()
        let file = (0..<300_000).map { _ in UInt8.random(in: 0...255, using: &random) }
        let server = try HTTPServer(file)
        // A port that is free now.
        let other = try HTTPServer([])
        let forwarded = other.port
        other.close()
        let recording = scratch.path("net.emurec")
        let console = scratch.path("console")
        let (process, _, errors) = try Program.start(
            guest(
                [
                    "--boundary=\(boundary)", "--record", recording, "--serial", "file:\(console)", "--net",
                    "user,hostfwd=tcp::\(forwarded)-:80,mac=52:54:00:0a:0b:0c,model=\(model),dump=\(scratch.path("dump.pcapng"))",
                ], append: "port=\(server.port)", model: model))
        var said = ""
        let deadline = Date().addingTimeInterval(120)
        while Date() < deadline, process.isRunning, !said.contains("serving") {
            usleep(50_000)
            said = (try? String(contentsOfFile: console, encoding: .utf8)) ?? ""
        }
        // It says so just before it listens.
        var served: [UInt8] = []
        while served.isEmpty, Date() < deadline, process.isRunning {
            served = (try? HTTPServer.fetch(port: forwarded, count: file.count)) ?? []
            if served.isEmpty { usleep(50_000) }
        }
        #expect(served == file, "by hostfwd")
        let limit = Date().addingTimeInterval(120)
        while Date() < limit, process.isRunning { usleep(20_000) }
        if process.isRunning { process.terminate() }
        let messages = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        said = try String(contentsOfFile: console, encoding: .utf8)
        server.close()
        #expect(said.contains("address 52:54:00:0a:0b:0c"))
        #expect(said.contains("lease 10.0.2.15 router 10.0.2.2 dns 10.0.2.3"), "\(said)\(messages)")
        #expect(said.contains(try Program.digest(scratch.write("file", file))), "\(said)")
        #expect(said.contains("served"))

        let verify = try Program.run("verify", recording)
        #expect(verify.status == 0 && verify.output.contains("OK"), "\(verify.output)\(verify.errors)")
        let exported = try Program.run("export", recording, "--pcapng", scratch.path("export.pcapng"))
        #expect(exported.status == 0, "\(exported.errors)")
        let bytes = try scratch.read("export.pcapng")
        #expect(try scratch.read("dump.pcapng") == bytes, "the recording has what passed")
        let frames = packets(bytes)
        #expect(frames.contains { $0.flags == 1 } && frames.contains { $0.flags == 2 })
        #expect(frames.reduce(0) { $0 + ($1.flags == 1 ? $1.bytes.count : 0) } > file.count)
        #expect(zip(frames, frames.dropFirst()).allSatisfy { $0.time <= $1.time })
        #expect(frames.filter { $0.flags == 2 }.allSatisfy { Array($0.bytes[6..<12]) == [0x52, 0x54, 0, 0x0A, 0x0B, 0x0C] })
        // Random bytes cannot be compressed: what is in the log is what came in, and little more.
        let size = try scratch.read("net.emurec").count
        #expect(boundary == "devices" || size < file.count * 11 / 10, "\(size) bytes")
    }

    private static let hostHasIPv6: Bool = {
        guard let server = try? HTTPServer([], isIPv6: true) else { return false }
        server.close()
        return true
    }()

    /// An address of the guest's own making from the router's advertisement, and a download; then the same from the recording.
    @Test(
        .enabled(if: guestIsHere && hasUserNetwork && hostHasIPv6, "no guest, no --net user, or a host without IPv6"),
        arguments: ["inputs", "devices"])
    func anIPv6Download(boundary: String) throws {
        let scratch = try Scratch()
        let file = (0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* $0 >> 7) }
        let server = try HTTPServer(file, isIPv6: true)
        defer { server.close() }
        let recording = scratch.path("net.emurec")
        let (process, output, errors) = try Program.start(
            guest(["--boundary=\(boundary)", "--record", recording, "--net", "user"], append: "router=\(server.port)"))
        let said = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        let messages = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        #expect(said.contains("address fec0::5054:ff:fe"), "\(said)\(messages)")
        #expect(said.contains("3 packets received"), "\(said)")
        #expect(said.contains(try Program.digest(scratch.write("file", file))), "\(said)")
        let verify = try Program.run("verify", recording)
        #expect(verify.status == 0 && verify.output.contains("OK"), "\(verify.output)\(verify.errors)")
    }

    @Test(.enabled(if: guestIsHere, "no guest: run scripts/test"), arguments: ["inputs", "devices"])
    func aCaptureIsTraffic(boundary: String) throws {
        let scratch = try Scratch()
        func put(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) } }
        var capture = put(0xA1B2_C3D4) + put(4 << 16 | 2) + put(0) + put(0) + put(65535) + put(1)
        var sent: [[UInt8]] = []
        for index in 0..<20 as Range<UInt32> {
            let frame = [UInt8](repeating: 0xFF, count: 6) + [2, 0, 0, 0, 0, 1, 0x88, 0xB5] + [UInt8](repeating: UInt8(index), count: 50)
            sent.append(frame)
            capture += put(1000) + put(index * 10_000) + put(UInt32(frame.count)) + put(UInt32(frame.count)) + frame
        }
        // The other format: a section, an interface, packets; all in microseconds.
        if boundary == "devices" {
            func block(_ kind: UInt32, _ body: [UInt8]) -> [UInt8] {
                let padded = body + [UInt8](repeating: 0, count: -body.count & 3)
                return put(kind) + put(UInt32(padded.count + 12)) + padded + put(UInt32(padded.count + 12))
            }
            capture = block(0x0A0D_0D0A, [0x1A2B_3C4D, 1, .max, .max].flatMap(put)) + block(1, put(1) + put(0))
            for (index, frame) in sent.enumerated() {
                capture += block(6, [0, 1, UInt32(index * 10_000), UInt32(frame.count), UInt32(frame.count)].flatMap(put) + frame)
            }
        }
        let file = try scratch.write("in.pcap", capture)
        let recording = scratch.path("net.emurec")
        let (process, output, errors) = try Program.start(
            guest(
                ["--boundary=\(boundary)", "--record", recording, "--pace", "free", "--net", "pcapfile:\(file),start=8"],
                append: "watch=20"))
        let said = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        let messages = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        #expect(said.contains("received 20 frames"), "\(said)\(messages)")
        try FileManager.default.removeItem(atPath: file)
        let verify = try Program.run("verify", recording)
        #expect(verify.status == 0 && verify.output.contains("OK"), "\(verify.output)\(verify.errors)")
        _ = try Program.run("export", recording, "--pcapng", scratch.path("out.pcapng"))
        let frames = packets(try scratch.read("out.pcapng")).filter { $0.flags == 1 }
        #expect(frames.map(\.bytes) == sent)
        // Paced by its times, the first one at 8 s.
        for (index, frame) in frames.enumerated() {
            let due = 8_000_000_000 + UInt64(index) * 10_000_000
            #expect(frame.time >= due && frame.time < due + 10_000_000, "frame \(index) at \(frame.time)")
        }
    }

    /// The e1000 takes tags of VLANs out and puts them in for Debian's driver, and lets in only the VLANs that it wants.
    @Test(.enabled(if: guestIsHere, "no guest: run scripts/test"))
    func virtualNetworks() throws {
        let environment = ProcessInfo.processInfo.environment
        let scratch = try Scratch()
        func put(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) } }
        var capture = put(0xA1B2_C3D4) + put(4 << 16 | 2) + put(0) + put(0) + put(65535) + put(1)
        for index in 0..<20 as Range<UInt32> {
            // Every other one is of VLAN 6, which nobody has.
            let frame = [UInt8](repeating: 0xFF, count: 6) + [2, 0, 0, 0, 0, 1, 0x81, 0, 0, 5 + UInt8(index & 1), 0x88, 0xB5]
                + [UInt8](repeating: UInt8(index), count: 50)
            capture += put(1000) + put(index * 10_000) + put(UInt32(frame.count)) + put(UInt32(frame.count)) + frame
        }
        let file = try scratch.write("in.pcap", capture)
        let recording = scratch.path("net.emurec")
        let (process, output, errors) = try Program.start([
            "--kernel", environment["EMU_TEST_USB_KERNEL"] ?? "", "--initrd", environment["EMU_TEST_RTL8139_INITRD"] ?? "", "--memory", "256M",
            "--append", "console=ttyS0 panic=-1 quiet vlan=5 frames=10", "--boundary=inputs", "--record", recording, "--pace", "free",
            "--net", "pcapfile:\(file),start=20,model=e1000,dump=\(scratch.path("dump.pcapng"))",
        ])
        let said = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        let messages = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        #expect(said.contains("received 10 frames of the VLAN"), "\(said)\(messages)")
        // Who has 10.9.0.2? By ARP, with the tag.
        let asked = packets(try scratch.read("dump.pcapng")).filter { $0.flags == 2 && $0.bytes.count >= 46 && Array($0.bytes[12..<18]) == [0x81, 0, 0, 5, 8, 6] }
        #expect(asked.contains { Array($0.bytes[42..<46]) == [10, 9, 0, 2] }, "\(asked)")
        let verify = try Program.run("verify", recording)
        #expect(verify.status == 0 && verify.output.contains("OK"), "\(verify.output)\(verify.errors)")
    }

    @Test(.enabled(if: guestIsHere, "no guest: run scripts/test"))
    func aCableThatLeadsNowhere() throws {
        let (process, output, _) = try Program.start(guest(["--pace", "free", "--net", "none"], append: ""))
        let said = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        #expect(said.contains("address 52:54:00:12:34:56") && said.contains("carrier 0"), "\(said)")
    }

    @Test func badOptions() throws {
        let scratch = try Scratch()
        let kernel = try scratch.write("kernel.elf", MultibootKernel.bytes(says: "x"))
        let foreign = try scratch.write("foreign", Array("this is no capture, as long as it may be\n".utf8))
        for option in [
            "", "wire", "pcap:", "tap:", "tap:averyveryverylongname", "pcap:lo,promisc=1", "tap:x,filter=arp", "user,hostfwd=tcp:80-80", "user,hostfwd=tcp::0-:80", "user,mac=1", "none,mac=53:54:00:12:34:56",
            "user,model=ne2000", "none,hostfwd=tcp::80-:80", "pcapfile:", "user,start=1", "user,",
        ] {
            let result = try Program.run("--kernel", kernel, "--net", option)
            #expect(result.status > 0 && result.errors.contains("--net"), "\(option): \(result.errors)")
        }
        for (path, text) in [(scratch.path("none"), "none"), (foreign, "no capture")] {
            let result = try Program.run("--kernel", kernel, "--net", "pcapfile:\(path)")
            #expect(result.status > 0 && result.errors.contains(text), "\(result.errors)")
        }
        let recording = scratch.path("run.emurec")
        _ = try Program.run("--boundary=inputs", "--record", recording, "--kernel", kernel, "--memory", "16M", "--pace", "free")
        let export = try Program.run("export", recording, "--pcapng", scratch.path("out"))
        #expect(export.status > 0 && export.errors.contains("no network card"), "\(export.errors)")
    }
}
