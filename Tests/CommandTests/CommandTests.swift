import Foundation
import Testing

/// The program as users run it: kernels, recordings, and what it says to bad input.
@Suite(.serialized, .enabled(if: Program.path != nil, "the program is not built beside the tests: run scripts/test"))
struct CommandTests {
    private static let guestIsHere = ProcessInfo.processInfo.environment["EMU_TEST_KERNEL"] != nil

    @Test(arguments: ["inputs", "devices"])
    func multibootKernelRunsAndReplays(boundary: String) throws {
        let scratch = try Scratch()
        let kernel = try scratch.write("kernel.elf", MultibootKernel.bytes(says: "multiboot\n"))
        let file = scratch.path("run.emurec")
        let run = try Program.run(
            "--boundary=\(boundary)", "--record", file, "--kernel", kernel, "--memory", "16M", "--pace", "free")
        #expect(run.output.contains("multiboot"), "\(run.errors)")
        #expect(run.errors.contains("isa-debug-exit") || run.status != 0)
        let verify = try Program.run("verify", file)
        #expect(verify.status == 0 && verify.output.contains("OK"), "\(verify.output)\(verify.errors)")
        let replay = try Program.run("replay", file)
        #expect(replay.output.contains("multiboot"))
        let log = try Program.run("log", file)
        #expect(log.status == 0)
        #expect(boundary == "inputs" || log.output.contains("0x3f8") || log.output.contains("serial0"))
    }

    /// A recorder that is killed leaves a recording that replays to its last whole chunk.
    @Test(.enabled(if: guestIsHere, "no guest: run scripts/test, which fetches it"), arguments: ["inputs", "devices"])
    func killedRecordingReplays(boundary: String) throws {
        let scratch = try Scratch()
        let environment = ProcessInfo.processInfo.environment
        let file = scratch.path("killed.emurec")
        let (process, _, _) = try Program.start([
            "--boundary=\(boundary)", "--record", file, "--kernel", environment["EMU_TEST_KERNEL"] ?? "", "--initrd",
            environment["EMU_TEST_INITRD"] ?? "", "--append", "console=ttyS0 panic=-1", "--memory", "128M", "--pace",
            "free", "--digest-interval", "20000000", "--serial", "file:\(scratch.path("console"))",
        ])
        // Until there are chunks of the kernel's start in the file.
        let deadline = Date().addingTimeInterval(120)
        var info = try Program.run("info", "--json", file)
        while Date() < deadline, process.isRunning {
            info = try Program.run("info", "--json", file)
            if info.status == 0, instructions(info.output) > 200_000_000 { break }
            usleep(100_000)
        }
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        #expect(process.terminationReason == .uncaughtSignal)
        let verify = try Program.run("verify", file)
        #expect(verify.status == 0, "\(verify.output)\(verify.errors)")
        #expect(verify.output.contains("OK"))
        #expect(verify.errors.contains("ends early"), "\(verify.errors)")
    }

    private func instructions(_ json: String) -> UInt64 {
        guard let object = try? JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any] else { return 0 }
        return (object["instructions"] as? NSNumber)?.uint64Value ?? 0
    }

    // MARK: Bad input: one clear error that names what is wrong, a status that is not 0, no crash

    private func expectError(_ result: Program.Result, _ parts: String..., at location: SourceLocation = #_sourceLocation) {
        let all = result.output + result.errors
        #expect(result.status > 0, "status \(result.status): \(all)", sourceLocation: location)
        for part in parts {
            #expect(all.localizedCaseInsensitiveContains(part), "no “\(part)” in: \(all)", sourceLocation: location)
        }
        #expect(!all.contains("Fatal error") && !all.contains("Crash"), "\(all)", sourceLocation: location)
    }

    @Test func badOptionsAndImages() throws {
        let scratch = try Scratch()
        let kernel = try scratch.write("kernel.elf", MultibootKernel.bytes(says: "x"))
        let foreign = try scratch.write("foreign", Array("this is no kernel\n".utf8))
        let empty = try scratch.write("empty", [])
        expectError(try Program.run("--kernel", kernel, "--frobnicate"), "--frobnicate")
        expectError(try Program.run("--kernel", scratch.path("none")), "none", "--kernel")
        expectError(try Program.run("--kernel", foreign), "foreign")
        expectError(try Program.run("--kernel", empty), "empty")
        expectError(try Program.run("--kernel", scratch.url.path), "cannot be read")
        expectError(try Program.run("--kernel", kernel, "--memory", "1M"), "memory")
        expectError(try Program.run("--kernel", kernel, "--memory", "lots"), "memory")
        expectError(try Program.run("--kernel", kernel, "--boundary=both"), "boundary")
        expectError(try Program.run("--kernel", kernel, "--serial", "smoke:signals"), "serial")
        expectError(try Program.run("--kernel", kernel, "--initrd", scratch.path("none")), "--initrd")
        expectError(try Program.run("--kernel", kernel, "--script", scratch.path("none")), "none")
        let script = try scratch.write("script", Array("type \"a\"\njump\n".utf8))
        expectError(try Program.run("--kernel", kernel, "--script", script), "script", "2")
        let truncated = try scratch.write("half.elf", Array(MultibootKernel.bytes(says: "x").prefix(90)))
        expectError(try Program.run("--kernel", truncated), "half.elf")
        expectError(try Program.run("--kernel", kernel, "--audio", "loud"), "audio")
        expectError(try Program.run("--kernel", kernel, "--microphone", "wav:\(foreign)"), "foreign", "no WAV file")
        #if !SDL
        for option in ["--audio", "--microphone"] {
            expectError(try Program.run("--kernel", kernel, option, "sdl"), "\(option) sdl", "--traits SDL")
        }
        #endif
    }

    @Test func damagedRecordings() throws {
        let scratch = try Scratch()
        let kernel = try scratch.write("kernel.elf", MultibootKernel.bytes(says: "multiboot\n"))
        let file = scratch.path("run.emurec")
        _ = try Program.run(
            "--boundary=devices", "--record", file, "--kernel", kernel, "--memory", "16M", "--pace", "free")
        let bytes = try scratch.read("run.emurec")
        #expect(bytes.count > 100)
        for command in ["verify", "replay", "info", "log"] {
            expectError(try Program.run(command, scratch.path("none")), "none")
            expectError(try Program.run(command, try scratch.write("empty", [])), "empty")
            expectError(try Program.run(command, try scratch.write("foreign", Array("GIF89a not a recording".utf8))), "foreign")
            expectError(try Program.run(command, try scratch.write("cut", Array(bytes.prefix(40)))), "cut")
        }
        // A flipped bit anywhere is found, or does no harm; it never crashes and never passes as complete and different.
        for position in stride(from: 0, to: bytes.count, by: max(1, bytes.count / 40)) {
            var flipped = bytes
            flipped[position] ^= 0x10
            let result = try Program.run("verify", try scratch.write("flipped", flipped))
            #expect(result.status >= 0, "crashed with a flip at \(position)")
            #expect(!(result.output + result.errors).contains("Fatal error"))
        }
        // Another kernel under the same name.
        _ = try scratch.write("kernel.elf", MultibootKernel.bytes(says: "another\n"))
        expectError(try Program.run("verify", file), "kernel.elf")
    }

    @Test func fullDisk() throws {
        let scratch = try Scratch()
        let kernel = try scratch.write("kernel.elf", MultibootKernel.bytes(says: "multiboot\n"))
        expectError(
            try Program.run(
                "--boundary=inputs", "--record", "/dev/full", "--kernel", kernel, "--memory", "16M", "--pace", "free"),
            "/dev/full")
        expectError(
            try Program.run(
                "--boundary=inputs", "--record", scratch.path("no/such/place"), "--kernel", kernel), "no/such/place")
    }
}
