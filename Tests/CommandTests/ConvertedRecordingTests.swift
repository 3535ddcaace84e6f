import Foundation
import Testing

/// `emu convert` against a recording of the same scenario that was made at the devices boundary.
@Suite(.serialized, .enabled(if: Program.path != nil, "the program is not built beside the tests: run scripts/test"))
struct ConvertedRecordingTests {
    private static let environment = ProcessInfo.processInfo.environment
    private static let guestIsHere = environment["EMU_TEST_WRITER_INITRD"] != nil

    /// Records the scenario at both boundaries, converts the first recording, and compares.
    private func compare(_ scratch: Scratch, _ options: [String], status: Int32) throws {
        let (inputs, devices, converted) = (scratch.path("inputs.emurec"), scratch.path("devices.emurec"), scratch.path("converted.emurec"))
        for (boundary, file) in [("inputs", inputs), ("devices", devices)] {
            let (emu, _, errors) = try Program.start(
                ["--boundary=\(boundary)", "--record", file, "--pace", "free", "--rtc", "1700000000", "--serial", "file:\(scratch.path("console"))"]
                    + options)
            let messages = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
            emu.waitUntilExit()
            try #require(emu.terminationStatus == status, "\(messages)")
        }
        let result = try Program.run("convert", inputs, "--to", "devices", "-o", converted)
        #expect(result.status == 0, "\(result.errors)")
        // Both are recordings that replay, and nothing that driver and device say to each other differs.
        for file in [converted, devices] { #expect(try Program.run("verify", file).status == 0) }
        let difference = try Program.run("diff", converted, devices)
        #expect(difference.status == 0, "\(difference.output)")
        // Nothing came in from outside: it is the same run, to the instruction, and so is the trace.
        for part in [["--kind", "pio"], ["--kind", "mmio"], ["--kind", "irq"], ["--kind", "dma", "--payload"]] {
            var digests: [String] = []
            for file in [converted, devices] {
                let (emu, output, _) = try Program.start(["trace", file] + part)
                let text = output.fileHandleForReading.readDataToEndOfFile()
                emu.waitUntilExit()
                // The number of an event counts notes for readers too.
                let lines = text.split(separator: UInt8(ascii: "\n")).map { $0.drop { $0 != UInt8(ascii: " ") } }
                digests.append("\(lines.count) lines, hash \(lines.hashValue)")
            }
            #expect(digests[0] == digests[1], "\(part)")
        }
    }

    @Test func aKernelThatReadsItsDisk() throws {
        let scratch = try Scratch()
        let disk = try scratch.write("disk.img", (0..<65536).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 9) })
        let kernel = try scratch.write("kernel.elf", MultibootKernel.readingSector(5, count: 40, pieces: 2))
        try compare(scratch, ["--kernel", kernel, "--disk", disk], status: 43)
    }

    @Test(.enabled(if: guestIsHere, "no guest: run scripts/test"), arguments: ["ide", "virtio"])
    func linuxThatWritesToItsDisk(interface: String) throws {
        let scratch = try Scratch()
        let disk = try scratch.write("disk.img", [UInt8](repeating: 0, count: 1 << 20))
        try compare(
            scratch,
            [
                "--kernel", Self.environment["EMU_TEST_KERNEL"] ?? "", "--initrd", Self.environment["EMU_TEST_WRITER_INITRD"] ?? "", "--memory", "128M",
                "--append", "console=ttyS0 panic=-1 quiet", "--disk", "\(disk),if=\(interface)",
            ], status: 0)
        #expect(String(decoding: try scratch.read("console"), as: UTF8.self).contains("written 15"))
    }
}
