import Foundation
import TestSupport
import Testing

/// `--gdb` and `emu debug` with a real gdb.
@Suite(
    .serialized, .enabled(if: Program.path != nil, "the program is not built beside the tests: run scripts/test"),
    .enabled(if: ProcessInfo.processInfo.environment["EMU_TEST_KERNEL"] != nil, "no guest: run scripts/test, which fetches it"),
    .enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/gdb"), "there is no gdb"))
struct GDBCommandTests {
    private func guest(_ scratch: Scratch) throws -> [String] {
        let environment = ProcessInfo.processInfo.environment
        return [
            "--kernel", environment["EMU_TEST_KERNEL"] ?? "", "--initrd", environment["EMU_TEST_INITRD"] ?? "",
            "--append", "console=ttyS0 panic=-1 quiet nokaslr", "--memory", "128M", "--serial",
            "file:\(scratch.path("console"))",
        ]
    }

    private func gdb(_ scratch: Scratch, _ port: Int, _ lines: String...) throws -> String {
        let script = try scratch.write(
            "script.gdb", Array((["set confirm off", "target remote :\(port)"] + lines).joined(separator: "\n").utf8))
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/gdb")
        process.arguments = ["-nx", "-batch", "-x", script]
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        process.standardInput = FileHandle.nullDevice
        try process.run()
        let text = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return String(decoding: text, as: UTF8.self)
    }

    /// The port in “target remote :PORT”.
    private func port(_ errors: Pipe) throws -> Int {
        var text = ""
        while !text.contains("\n") {
            let data = errors.fileHandleForReading.availableData
            if data.isEmpty { break }
            text += String(decoding: data, as: UTF8.self)
        }
        let digits = text.drop { $0 != ":" }.dropFirst().drop { $0 != ":" }.drop { !$0.isNumber }.prefix { $0.isNumber }
        return try #require(Int(digits), "\(text)")
    }

    /// A debugger's packets without a debugger: lets the guest run, and sends Ctrl-C after a while. Gives what came back.
    private func interrupt(_ port: Int) throws -> String {
        let connection = try LoopbackConnection(UInt16(port))
        connection.send("+$vCont;c#a8")
        usleep(700_000)
        connection.send("\u{3}")
        return connection.receive(until: "#")
    }

    /// gdb comes, stops and changes the guest, goes, comes again, interrupts it while it is idle, and ends it.
    @Test(arguments: [nil, "inputs", "devices"] as [String?])
    func gdbOnALiveRun(boundary: String?) throws {
        let scratch = try Scratch()
        let file = scratch.path("live.emurec")
        let (process, _, errors) = try Program.start(
            try guest(scratch) + ["--gdb", ":0"] + (boundary.map { ["--boundary=\($0)", "--record", file] } ?? []))
        defer { if process.isRunning { process.terminate() } }
        let port = try port(errors)
        let first = try gdb(
            scratch, port, "stepi", "hbreak *0xffffffff81000000", "watch *(long *)0xffffffff82000000",
            "monitor when", "reverse-stepi")
        #expect(first.contains("does not support"), "\(first)")
        #expect(try interrupt(port).contains("T02"))
        let second = try gdb(
            scratch, port, "printf \"pc %lx\\n\", $pc", "stepi", "stepi", "stepi", "set $old = $xmm9.v2_int64[0]",
            "set $xmm9.v2_int64[0] = 0x1234", "printf \"xmm9 %lx\\n\", $xmm9.v2_int64[0]", "monitor when", "detach")
        #expect(second.contains("xmm9 1234") && second.contains("live"), "\(second)")
        // While it runs on, and is idle.
        usleep(500_000)
        #expect(try interrupt(port).contains("T02"))
        let third = try gdb(scratch, port, "stepi", "stepi", "monitor seek 5", "kill")
        #expect(third.contains("not on a live run"), "\(third)")
        process.waitUntilExit()
        #expect(process.terminationStatus == 0)
        if boundary != nil {
            let verify = try Program.run("verify", file)
            #expect(verify.status == 0 && verify.output.contains("OK"), "\(verify.output)\(verify.errors)")
        }
    }

    /// `emu debug`: gdb sees by itself where a command has gone; changes go along when the recording goes live.
    @Test func debugAndGoLive() throws {
        let scratch = try Scratch()
        let file = scratch.path("run.emurec")
        let branch = scratch.path("branch.emurec")
        let script = try scratch.write("off", Array("wait \"emu#\" 60\ntype \"poweroff -f\\n\"\n".utf8))
        let (process, _, _) = try Program.start(
            try guest(scratch) + ["--boundary=inputs", "--record", file, "--pace", "free", "--script", script])
        process.waitUntilExit()
        let commands = try scratch.write(
            "commands.gdb",
            Array(
                """
                monitor seek 300000000
                monitor when
                printf "pc %lx\\n", $pc
                monitor goto start
                printf "pc %lx\\n", $pc
                monitor screenshot \(scratch.path("screen.png"))
                monitor registers
                monitor seek 300000000
                stepi
                stepi
                set $xmm9.v2_int64[0] = 99
                reverse-stepi
                stepi
                set $xmm9.v2_int64[0] = 77
                monitor golive \(branch)
                stepi
                stepi
                kill

                """.utf8))
        let debug = try Program.run(
            "debug", file, "--pace", "free", "--gdb-argument=-nx", "--gdb-argument=-batch", "--gdb-argument=-x",
            "--gdb-argument=\(commands)")
        let text = debug.output + debug.errors
        #expect(text.contains("pc 100200"), "\(text)")
        #expect(text.contains("The changes made here are gone"), "\(text)")
        #expect(text.contains("live from position"), "\(text)")
        for name in ["cr0 0x", "cr3 0x", "cr4 0x", "efer 0x", "idt_base 0x"] { #expect(text.contains(name)) }
        #expect(try scratch.read("screen.png").starts(with: [0x89, 0x50, 0x4E, 0x47]))
        let verify = try Program.run("verify", branch)
        #expect(verify.status == 0 && verify.output.contains("OK"), "\(text)\(verify.output)\(verify.errors)")
        let log = try Program.run("log", branch)
        #expect(log.output.contains("edit-register 41 4d00000000000000"), "\(log.output)")
        let info = try Program.run("info", branch)
        #expect(info.output.contains("parent.position"))
    }

    /// What cannot go live says why; nonsense is refused with the reason.
    @Test func refusals() throws {
        let scratch = try Scratch()
        let kernel = try scratch.write("kernel.elf", MultibootKernel.bytes(says: "multiboot\n"))
        let file = scratch.path("run.emurec")
        _ = try Program.run(
            "--boundary=devices", "--record", file, "--kernel", kernel, "--memory", "16M", "--pace", "free")
        let live = try Program.run("replay", file, "--until", "1", "--live")
        #expect(live.status != 0 && live.errors.contains("devices"), "\(live.errors)")
        let query = try Program.run("query", file, "--expr", "exec 1 if nonsense == 1")
        #expect(query.status != 0 && query.errors.contains("nonsense"))
        let names = try Program.run("query", file, "--expr", "exec 1", "--registers", "rax,foo")
        #expect(names.status != 0 && names.errors.contains("foo"))
        let until = try Program.run("--kernel", kernel, "--gdb", ":0", "--until", "5")
        #expect(until.status != 0 && until.errors.contains("--until"))
        let past = try Program.run("replay", file, "--until", "99999999999", "--gdb", "nowhere:77")
        #expect(past.status != 0 && past.errors.contains("--gdb"))
        let json = try Program.run("query", file, "--expr", "port 0x3f8", "--json", "--registers", "eax", "--count", "1")
        #expect(json.status == 0 && json.output.contains("\"registers\":{\"eax\":"), "\(json.output)\(json.errors)")
    }
}
