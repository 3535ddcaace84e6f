import Foundation
import TestSupport
import Testing

/// A client of a monitor's socket.
private final class MonitorClient {
    private let descriptor: Int32

    init?(_ path: String) {
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8) + [0]) }
        for _ in 0..<200 {
            let isConnected = withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
                }
            }
            if isConnected == 0 {
                // A test must not wait for ever.
                var limit = timeval(tv_sec: 60, tv_usec: 0)
                setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
                return
            }
            usleep(50_000)
        }
        close(descriptor)
        return nil
    }
    deinit { close(descriptor) }

    func send(_ text: String) { _ = text.withCString { write(descriptor, $0, strlen($0)) } }

    /// What comes up to and with `end`.
    func receive(until end: String) -> String {
        var bytes: [UInt8] = []
        var byte: UInt8 = 0
        while read(descriptor, &byte, 1) == 1 {
            bytes.append(byte)
            if bytes.suffix(end.utf8.count).elementsEqual(end.utf8) { break }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    func command(_ text: String) -> String {
        send(text + "\n")
        return receive(until: "(emu) ")
    }
    /// The reply to a line of JSON; events before it are passed over.
    func execute(_ text: String) -> String {
        send(text + "\n")
        while true {
            let line = receive(until: "\r\n")
            if line.isEmpty || !line.contains("\"event\"") { return line }
        }
    }
}

@Suite(.serialized, .enabled(if: SeaBIOS.isHere, "no SeaBIOS: run scripts/test, which fetches it"))
struct MonitorTests {
    /// A boot sector that sends each typed character to the debug console, and exits with code 1 after a q.
    private var disk: [UInt8] {
        var image = [UInt8](repeating: 0, count: 1 << 20)
        // mov al, '>'; mov dx, 0x402; out dx, al
        let start: [UInt8] = [0xB0, 0x3E, 0xBA, 0x02, 0x04, 0xEE]
        // next: xor ah, ah; int 0x16; mov dx, 0x402; out dx, al; cmp al, 'q'; jne next
        let loop: [UInt8] = [0x30, 0xE4, 0xCD, 0x16, 0xBA, 0x02, 0x04, 0xEE, 0x3C, 0x71, 0x75, 0xF4]
        // mov dx, 0xF4; mov al, 1; out dx, al; cli; hlt
        let end: [UInt8] = [0xBA, 0xF4, 0x00, 0xB0, 0x01, 0xEE, 0xFA, 0xF4]
        image.replaceSubrange(0..<26, with: start + loop + end)
        image[510] = 0x55
        image[511] = 0xAA
        return image
    }

    private func start(_ scratch: Scratch, _ arguments: [String]) throws -> Process {
        let image = try scratch.write("disk.img", disk)
        return try Program.start(
            [
                "--record", scratch.path("run.emurec"), "--bios", SeaBIOS.path ?? "", "--disk", image, "--memory", "32M",
                "--serial", "none", "--debugcon", scratch.path("console"), "--monitor", "unix:\(scratch.path("monitor"))",
                "--qmp", "unix:\(scratch.path("qmp"))",
            ] + arguments
        ).process
    }

    /// Waits until the debug console has said `text`.
    private func wait(for text: String, _ scratch: Scratch) {
        for _ in 0..<600 {
            if let bytes = try? scratch.read("console"), String(decoding: bytes, as: UTF8.self).contains(text) { return }
            usleep(50_000)
        }
    }

    @Test(arguments: ["inputs", "devices"])
    func commandsOfPeople(boundary: String) throws {
        let scratch = try Scratch()
        let process = try start(scratch, ["--boundary=\(boundary)"])
        defer { process.terminate() }
        let client = try #require(MonitorClient(scratch.path("monitor")))
        #expect(client.receive(until: "(emu) ").contains("help lists the commands"))
        wait(for: ">", scratch)
        #expect(client.command("info status").contains("running"))
        #expect(client.command("info pci").contains("0:1.1 piix3-ide 8086:7010"))
        #expect(client.command("info mtree").contains("03f8-03ff serial0"))
        #expect(client.command("info block").contains("disk0 (ide): \(scratch.path("disk.img"))"))
        #expect(client.command("info registers").contains("eip "))
        #expect(client.command("info pic").contains("lapic.requests"))
        #expect(client.command("nonsense").contains("unknown command"))
        #expect(client.command("sendkey no-key").contains("there is no key"))
        #expect(client.command("change cdrom /x").contains("there is no CD-ROM drive"))
        #expect(client.command("savevm a").contains("emu replay FILE --until POSITION --live"))
        #expect(!client.command("stop").contains("unknown"))
        let stopped = client.command("info status")
        #expect(stopped.contains("paused"))
        usleep(200_000)
        #expect(client.command("info status") == stopped)
        _ = client.command("cont")
        _ = client.command("mouse_move 3 4")
        _ = client.command("mouse_button 1")
        _ = client.command("sendkey h")
        wait(for: ">h", scratch)
        _ = client.command("screendump \(scratch.path("screen.png"))")
        #expect(try scratch.read("screen.png").starts(with: [0x89, 0x50, 0x4E, 0x47]))
        _ = client.command("sendkey shift-i")
        wait(for: ">hI", scratch)
        client.send("sendkey q\n")
        process.waitUntilExit()
        #expect(process.terminationStatus == 3)
        #expect(String(decoding: try scratch.read("console"), as: UTF8.self).contains(">hIq"))
        let verify = try Program.run("verify", scratch.path("run.emurec"))
        #expect(verify.status == 0 && verify.output.contains("OK"), "\(verify.output)\(verify.errors)")
    }

    /// Back to a state that was kept: what was typed since then is forgotten, on the screen too.
    @Test func goesBackToASnapshot() throws {
        let scratch = try Scratch()
        let image = try scratch.write("disk.img", disk)
        let process = try Program.start([
            "--bios", SeaBIOS.path ?? "", "--disk", image, "--memory", "32M", "--serial", "none", "--debugcon",
            scratch.path("console"), "--monitor", "unix:\(scratch.path("monitor"))",
        ]).process
        defer { process.terminate() }
        let client = try #require(MonitorClient(scratch.path("monitor")))
        _ = client.receive(until: "(emu) ")
        wait(for: ">", scratch)
        _ = client.command("sendkey a")
        wait(for: ">a", scratch)
        #expect(client.command("info snapshots").contains("there is no snapshot"))
        _ = client.command("stop")
        #expect(!client.command("savevm one").contains("cannot"))
        let saved = client.command("info registers")
        let status = client.command("info status")
        #expect(client.command("info snapshots").contains("one: position"))
        _ = client.command("cont")
        _ = client.command("sendkey b")
        wait(for: ">ab", scratch)
        #expect(client.command("loadvm two").contains("there is no snapshot"))
        _ = client.command("stop")
        _ = client.command("loadvm one")
        #expect(client.command("info registers") == saved)
        #expect(client.command("info status") == status)
        _ = client.command("cont")
        _ = client.command("sendkey c")
        wait(for: ">abc", scratch)
        _ = client.command("delvm one")
        #expect(client.command("loadvm one").contains("there is no snapshot"))
        client.send("sendkey q\n")
        process.waitUntilExit()
        #expect(process.terminationStatus == 3)
        #expect(String(decoding: try scratch.read("console"), as: UTF8.self).contains(">abcq"))
    }

    /// The monitor answers beside a debugger: while the guest runs, and while the debugger holds it.
    @Test func commandsBesideADebugger() throws {
        let scratch = try Scratch()
        let other = try HTTPServer([])
        let port = other.port
        other.close()
        let process = try start(scratch, ["--boundary=inputs", "--gdb", ":\(port),nowait"])
        defer { process.terminate() }
        let client = try #require(MonitorClient(scratch.path("monitor")))
        _ = client.receive(until: "(emu) ")
        wait(for: ">", scratch)
        #expect(client.command("info status").contains("running"))
        #expect(client.command("stop").contains("gdb (--gdb)"))
        _ = client.command("sendkey h")
        wait(for: ">h", scratch)

        let debugger = try LoopbackConnection(UInt16(port))
        debugger.send("+$?#3f")
        #expect(debugger.receive(until: "#").contains("T"))
        let held = client.command("info registers")
        #expect(held.contains("eip "))
        // Keys wait until the debugger lets the guest go.
        _ = client.command("sendkey i")
        #expect(client.command("info registers") == held)
        debugger.send("+$D#44")
        #expect(debugger.receive(until: "OK").contains("OK"))
        wait(for: ">hi", scratch)
        client.send("sendkey q\n")
        process.waitUntilExit()
        #expect(process.terminationStatus == 3)
        let verify = try Program.run("verify", scratch.path("run.emurec"))
        #expect(verify.status == 0 && verify.output.contains("OK"), "\(verify.output)\(verify.errors)")
    }

    @Test func commandsOfPrograms() throws {
        let scratch = try Scratch()
        let process = try start(scratch, ["--boundary=inputs"])
        defer { process.terminate() }
        let client = try #require(MonitorClient(scratch.path("qmp")))
        #expect(client.receive(until: "\r\n").hasPrefix("{\"QMP\":"))
        #expect(client.execute(#"{"execute":"query-status"}"#).contains("qmp_capabilities"))
        #expect(client.execute(#"{"execute":"qmp_capabilities","id":"x"}"#) == "{\"id\":\"x\",\"return\":{}}\r\n")
        #expect(client.execute(#"{"execute":"query-status"}"#).contains("\"running\":true"))
        #expect(client.execute("no json").contains("JSON parse error"))
        #expect(client.execute(#"{"execute":"nonsense"}"#).contains("CommandNotFound"))
        #expect(client.execute(#"{"execute":"human-monitor-command","arguments":{"command-line":"savevm a"}}"#).contains("--live"))
        #expect(client.execute(#"{"execute":"query-commands"}"#).contains("human-monitor-command"))
        wait(for: ">", scratch)
        #expect(client.execute(#"{"execute":"stop"}"#) == "{\"return\":{}}\r\n")
        #expect(client.execute(#"{"execute":"query-status"}"#).contains("paused"))
        _ = client.execute(#"{"execute":"cont"}"#)
        let line = #"{"execute":"human-monitor-command","arguments":{"command-line":"info block"}}"#
        #expect(client.execute(line).contains("disk0 (ide)"))
        _ = client.execute(#"{"execute":"send-key","arguments":{"keys":[{"type":"qcode","data":"a"}]}}"#)
        wait(for: ">a", scratch)
        client.send(#"{"execute":"system_reset"}"# + "\n")
        process.waitUntilExit()
        #expect(process.terminationStatus == 0, "without --reboot a reset ends the run")
        let verify = try Program.run("verify", scratch.path("run.emurec"))
        #expect(verify.status == 0 && verify.output.contains("OK"), "\(verify.output)\(verify.errors)")
    }
}
