import Foundation
import Testing

/// Serial lines and the clock as users have them, with Debian's kernel.
@Suite(.serialized, .enabled(if: Program.path != nil, "the program is not built beside the tests: run scripts/test"))
struct SerialTests {
    private static let guestIsHere = ProcessInfo.processInfo.environment["EMU_TEST_NET_INITRD"] != nil

    private func guest(_ more: [String], append: String) -> [String] {
        let environment = ProcessInfo.processInfo.environment
        return [
            "--kernel", environment["EMU_TEST_KERNEL"] ?? "", "--initrd", environment["EMU_TEST_NET_INITRD"] ?? "",
            "--append", "console=ttyS0 panic=-1 quiet \(append)", "--memory", "128M",
        ] + more
    }

    /// A line both ways, and then the far end goes: the guest sees that there is no carrier, in the replay too.
    @Test(.enabled(if: guestIsHere, "no guest: run scripts/test"), arguments: ["inputs", "devices"])
    func aSocketThatClosesIsACarrierLost(boundary: String) throws {
        let scratch = try Scratch()
        let recording = scratch.path("serial.emurec")
        let server = try UnixServer(scratch.path("socket"))
        let (process, output, errors) = try Program.start(
            guest(["--boundary=\(boundary)", "--record", recording, "--serial2", "unix:\(scratch.path("socket"))"], append: "hangup=1"))
        #expect(server.hear(until: "hello from the guest"))
        server.say("good day\n")
        server.hangUp()
        let said = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        let messages = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        #expect(said.contains("heard good day") && said.contains("hung up"), "\(said)\(messages)")
        let verify = try Program.run("verify", recording)
        #expect(verify.status == 0 && verify.output.contains("OK"), "\(verify.output)\(verify.errors)")
    }

    /// The same with a pseudo terminal: whoever has opened it closes it. The loss is an input in the log.
    @Test(.enabled(if: guestIsHere, "no guest: run scripts/test"), arguments: ["inputs", "devices"])
    func aTerminalThatClosesIsACarrierLost(boundary: String) throws {
        let scratch = try Scratch()
        let recording = scratch.path("serial.emurec")
        let (process, output, errors) = try Program.start(
            guest(["--boundary=\(boundary)", "--record", recording, "--serial2", "pty"], append: "hangup=1"))
        var messages = ""
        while !messages.contains("\n") || !messages.contains("/dev/pts/") {
            let piece = errors.fileHandleForReading.availableData
            if piece.isEmpty { break }
            messages += String(decoding: piece, as: UTF8.self)
        }
        let start = try #require(messages.range(of: "/dev/pts/"), "\(messages)")
        let peer = try TerminalPeer("/dev/pts/" + messages[start.upperBound...].prefix { $0.isNumber })
        #expect(peer.hear(until: "hello from the guest"))
        peer.say("good day\n")
        // The guest says what it has heard before it waits for the end, so that nothing is lost with the terminal.
        var said = ""
        while !said.contains("heard good day") {
            let piece = output.fileHandleForReading.availableData
            if piece.isEmpty { break }
            said += String(decoding: piece, as: UTF8.self)
        }
        peer.hangUp()
        said += String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        messages += String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        #expect(said.contains("heard good day") && said.contains("hung up"), "\(said)\(messages)")
        let verify = try Program.run("verify", recording)
        #expect(verify.status == 0 && verify.output.contains("OK"), "\(verify.output)\(verify.errors)")
        guard boundary == "inputs" else { return }
        // An input without bytes is the change of the carrier.
        let log = try Program.run("log", recording)
        let inputs = log.output.split(separator: "\n").filter { $0.contains(" input serial1") }
        #expect(inputs.last?.trimmingCharacters(in: .whitespaces).hasSuffix("serial1") == true, "\(inputs)")
    }

    @Test(.enabled(if: guestIsHere, "no guest: run scripts/test"), arguments: ["inputs", "devices"])
    func theClockBeginsWhenItIsTold(boundary: String) throws {
        let scratch = try Scratch()
        let recording = scratch.path("date.emurec")
        let (process, output, errors) = try Program.start(
            guest(["--boundary=\(boundary)", "--record", recording, "--rtc", "2020-02-29T04:05:06", "--pace", "free"], append: "date=1"))
        let said = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        let messages = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        #expect(said.contains("date 2020-02-29T04:05"), "\(said)\(messages)")
        let verify = try Program.run("verify", recording)
        #expect(verify.status == 0 && verify.output.contains("OK"), "\(verify.output)\(verify.errors)")
    }

    /// Messages name the option that was given.
    @Test func badOptions() throws {
        let scratch = try Scratch()
        let kernel = try scratch.write("kernel.elf", MultibootKernel.bytes(says: "x"))
        let nowhere = scratch.path("nowhere")
        for (option, value, message) in [
            ("--serial", "unix:\(nowhere)", "--serial unix:"), ("--serial2", "unix:\(nowhere)", "--serial2 unix:"),
            ("--usb", "serial=unix:\(nowhere)", "--usb serial unix:"), ("--serial2", "file:\(nowhere)/x", "--serial2 file:"),
        ] {
            let result = try Program.run("--kernel", kernel, option, value)
            #expect(result.status > 0 && result.errors.contains(message), "\(option): \(result.errors)")
        }
        for date in ["yesterday", "2026-13-01", "2026-01-31T25:00:00", "-5"] {
            let result = try Program.run("--kernel", kernel, "--rtc=\(date)")
            #expect(result.status > 0 && result.errors.contains("--rtc is utc, localtime"), "\(date): \(result.errors)")
        }
    }
}
