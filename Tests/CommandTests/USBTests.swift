import Foundation
import Testing

/// USB devices as users run them, with Debian's drivers.
@Suite(.serialized, .enabled(if: Program.path != nil, "the program is not built beside the tests: run scripts/test"))
struct USBTests {
    private static let guestIsHere = ProcessInfo.processInfo.environment["EMU_TEST_USB_INITRD"] != nil

    private func guest(_ more: [String], append: String) -> [String] {
        let environment = ProcessInfo.processInfo.environment
        return [
            "--kernel", environment["EMU_TEST_USB_KERNEL"] ?? "", "--initrd", environment["EMU_TEST_USB_INITRD"] ?? "",
            "--append", "console=ttyS0 panic=-1 quiet \(append)", "--memory", "256M",
        ] + more
    }

    /// Records of a usbmon capture: transfer number, "S" or "C", kind, endpoint, length, data.
    private func records(_ bytes: [UInt8]) -> [(number: Int, event: UInt8, kind: Int, endpoint: UInt8, status: Int, data: [UInt8])] {
        func number(_ offset: Int, _ width: Int) -> Int { (0..<width).reduce(0) { $0 | Int(bytes[offset + $1]) << ($1 * 8) } }
        #expect(number(0, 4) == 0xA1B2_3C4D && number(20, 4) == 220)
        var found: [(Int, UInt8, Int, UInt8, Int, [UInt8])] = []
        var offset = 24
        while offset + 80 <= bytes.count {
            let length = number(offset + 8, 4)
            let start = offset + 16
            #expect(length == 64 + number(start + 36, 4))
            found.append((
                number(start, 8), bytes[start + 8], Int(bytes[start + 9]), bytes[start + 10],
                Int(Int32(truncatingIfNeeded: number(start + 28, 4))), Array(bytes[start + 64..<start + length])
            ))
            offset = start + length
        }
        #expect(offset == bytes.count)
        return found
    }

    @Test(
        .enabled(if: guestIsHere, "no guest: run scripts/test"),
        arguments: ["inputs", "devices", "threads"].flatMap { boundary in
            ["xhci", "ehci", "uhci"].filter { boundary != "threads" || $0 == "xhci" }.map { (boundary, $0) }
        })
    func builtInDevicesWorkAndReplay(boundary: String, controller: String) throws {
        let (slow, fast) = (controller == "ehci" ? 480 : 12, controller == "uhci" ? 12 : 480)
        let scratch = try Scratch()
        var random = SystemRandomNumberGenerator()
        let image = (0..<2 << 20).map { _ in UInt8.random(in: 0...255, using: &random) }
        let disk = try scratch.write("disk.img", image)
        let script = try scratch.write("script", Array("wait \"ready for keys\" 600\nkey a\nsleep 0.1\nkey shift-b\nkey f12\n".utf8))
        let recording = scratch.path("usb.emurec")
        let (process, output, errors) = try Program.start(
            guest(
                (boundary == "threads" ? ["--device-threads"] : []) + [
                    "--boundary=\(boundary == "inputs" ? "inputs" : "devices")", "--record", recording, "--disk", "\(disk),if=usb", "--usb", "keyboard", "--usb", "tablet",
                    "--usb", "mouse", "--usb-controller", controller, "--script", script,
                ], append: "disk=1 keys=4"))
        let said = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        let messages = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        for line in [
            "device 1d6b:0110 \(slow) USB keyboard", "device 1d6b:0112 \(slow) USB tablet", "device 1d6b:0111 \(slow) USB mouse",
            "device 1d6b:0120 \(fast) USB disk", "disk 4096 sectors", try Program.digest(disk), "the disk was written",
            "key 30\r\nkey 42\r\nkey 48\r\nkey 88",
        ] { #expect(said.contains(line), "\(line): \(said)\(messages)") }
        #expect(try scratch.read("disk.img") == image, "the image is not written")
        let verify = try Program.run("verify", recording)
        #expect(verify.status == 0 && verify.output.contains("OK"), "\(verify.output)\(verify.errors)")
        let export = try Program.run("export", recording, "--usbmon", scratch.path("usb.pcap"))
        #expect(export.status == 0, "\(export.errors)")
        let found = records(try scratch.read("usb.pcap"))
        // Each completion belongs to a submission before it.
        var open: Set<Int> = []
        for record in found {
            if record.event == 0x53 { open.insert(record.number) } else { #expect(open.remove(record.number) != nil) }
        }
        let least = controller == "uhci" ? 1024 : 4096
        let read = found.filter { $0.event == 0x43 && $0.kind == 3 && $0.endpoint == 0x81 && $0.data.count >= least }
        #expect(read.contains { $0.data == Array(image[..<$0.data.count]) }, "the disk's first sectors")
        // A report of the keyboard: the key A, whose usage is 4.
        #expect(found.contains { $0.event == 0x43 && $0.kind == 1 && $0.data == [0, 0, 4, 0, 0, 0, 0, 0] })
        let size = try scratch.read("usb.emurec").count
        #expect(boundary != "inputs" || size < 100_000, "the disk's data is in the log")
    }

    @Test(.enabled(if: guestIsHere, "no guest: run scripts/test"), arguments: ["inputs", "devices"], ["xhci", "ehci", "uhci"])
    func theSerialAdapterSpeaksBothWays(boundary: String, controller: String) throws {
        let scratch = try Scratch()
        let recording = scratch.path("usb.emurec")
        let console = scratch.path("console")
        // The adapter is the terminal, and the console a file.
        let process = Process()
        process.executableURL = URL(fileURLWithPath: Program.path ?? "")
        process.arguments = guest(
            ["--boundary=\(boundary)", "--record", recording, "--serial", "file:\(console)", "--usb", "serial=stdio", "--usb-controller", controller],
            append: "serial=1")
        let (input, output) = (Pipe(), Pipe())
        process.standardInput = input
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        var heard: [UInt8] = []
        let deadline = Date().addingTimeInterval(600)
        while !String(decoding: heard, as: UTF8.self).contains("hello from the guest"), Date() < deadline, process.isRunning {
            heard += output.fileHandleForReading.availableData
        }
        input.fileHandleForWriting.write(Data("good day\n".utf8))
        heard += output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        let said = (try? String(contentsOfFile: console, encoding: .utf8)) ?? ""
        #expect(said.contains("device 1d6b:0130 \(controller == "ehci" ? 480 : 12) USB serial adapter") && said.contains("heard good day"), "\(said)")
        #expect(String(decoding: heard, as: UTF8.self).contains("good day"))
        let verify = try Program.run("verify", recording)
        #expect(verify.status == 0 && verify.output.contains("OK"), "\(verify.output)\(verify.errors)")
    }

    /// The far end of a USB serial adapter goes: the guest's terminal is hung up, in the replay too.
    @Test(.enabled(if: guestIsHere, "no guest: run scripts/test"), arguments: ["inputs", "devices"])
    func aSocketThatClosesHangsUpTheAdapter(boundary: String) throws {
        let scratch = try Scratch()
        let recording = scratch.path("usb.emurec")
        let server = try UnixServer(scratch.path("socket"))
        let (process, output, errors) = try Program.start(
            guest(
                ["--boundary=\(boundary)", "--record", recording, "--usb", "serial=unix:\(scratch.path("socket"))"],
                append: "serial=1 hangup=1"))
        #expect(server.hear(until: "hello from the guest"))
        server.say("good day\n")
        #expect(server.hear(until: "good day"))
        server.hangUp()
        let said = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        let messages = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        #expect(said.contains("heard good day") && said.contains("hung up"), "\(said)\(messages)")
        let verify = try Program.run("verify", recording)
        #expect(verify.status == 0 && verify.output.contains("OK"), "\(verify.output)\(verify.errors)")
    }

    @Test func badOptions() throws {
        let scratch = try Scratch()
        let kernel = try scratch.write("kernel.elf", MultibootKernel.bytes(says: "x"))
        for option in ["", "cup", "host", "serial", "serial=cup", "host:1234", "host:12345:1", "host:1.2.3", "host:999.1"] {
            let result = try Program.run("--kernel", kernel, "--usb", option)
            #expect(result.status > 0 && result.errors.contains("--usb"), "\(option): \(result.errors)")
        }
        let recording = scratch.path("run.emurec")
        _ = try Program.run("--boundary=inputs", "--record", recording, "--kernel", kernel, "--memory", "16M", "--pace", "free")
        let export = try Program.run("export", recording, "--usbmon", scratch.path("out"))
        #expect(export.status > 0 && export.errors.contains("no USB device"), "\(export.errors)")
    }
}
