import Foundation
import Testing

/// `emu driver-test`, and devices on threads of their own, with a real kernel's drivers.
@Suite(.serialized, .enabled(if: Program.path != nil, "the program is not built beside the tests: run scripts/test"))
struct DriverTestTests {
    private static let environment = ProcessInfo.processInfo.environment
    private static let guestIsHere = environment["EMU_TEST_VFIO_INITRD"] != nil && environment["EMU_TEST_WRITER_INITRD"] != nil
    private static let comment: Comment = "no guest: run scripts/test, which fetches it"
    private static let line = "console=ttyS0 panic=-1 quiet nokaslr rounds=3"

    private func record(_ scratch: Scratch, _ name: String, initrd: String, _ more: [String]) throws {
        let (emu, _, errors) = try Program.start(
            [
                "--boundary=devices", "--record", scratch.path("\(name).emurec"), "--kernel", Self.environment["EMU_TEST_KERNEL"] ?? "", "--initrd",
                Self.environment[initrd] ?? "", "--memory", "128M", "--append", Self.line, "--serial", "file:\(scratch.path("\(name).console"))",
            ] + more)
        let messages = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        emu.waitUntilExit()
        try #require(emu.terminationStatus == 0, "\(messages)")
    }
    private func console(_ scratch: Scratch, _ name: String) throws -> String {
        String(decoding: try scratch.read("\(name).console"), as: UTF8.self)
    }

    /// The recorded kernel does the same once more; one that uses its device otherwise departs where it does so, and goes on.
    @Test(.enabled(if: guestIsHere, comment)) func driversAgainstARecordedDevice() throws {
        let scratch = try Scratch()
        try record(scratch, "rng", initrd: "EMU_TEST_VFIO_INITRD", ["--device", "virtio-rng", "--pace", "free"])
        let file = scratch.path("rng.emurec")
        let numbers = try console(scratch, "rng").split(separator: "\r\n").filter { $0.hasSuffix("  -") }
        #expect(numbers.count == 3)
        let same = try Program.run("driver-test", file, "--device", "virtio4", "--console")
        #expect(same.status == 0 && same.output.contains(" 0 departures, 0 recorded accesses not made"), "\(same.output)\(same.errors)")
        // The random numbers are the recorded ones: they came from the log, by DMA.
        for number in numbers { #expect(same.output.contains(number)) }
        // A kernel somewhere else in memory, with its buffers elsewhere, is no departure.
        let moved = Self.line.replacingOccurrences(of: "nokaslr ", with: "")
        let elsewhere = try Program.run("driver-test", file, "--device", "virtio4", "--with-append", moved)
        #expect(elsewhere.status == 0 && elsewhere.output.contains(" 0 departures"), "\(elsewhere.output)\(elsewhere.errors)")
        // Without messages the driver leaves registers out.
        let other = try Program.run("driver-test", file, "--device", "virtio4", "--with-append", Self.line + " pci=nomsi")
        #expect(other.status == 1 && other.output.contains("the first: ") && other.output.contains("left out: CONFIG-VECTOR <- 0x0"), "\(other.output)")
        // More than is recorded.
        let more = try Program.run("driver-test", file, "--device", "virtio4", "--with-append", Self.line.replacingOccurrences(of: "rounds=3", with: "rounds=5"))
        #expect(more.status == 1 && more.output.contains("; recorded: "), "\(more.output)")

        for device in ["serial0", "piix3", "nothing"] {
            let result = try Program.run("driver-test", file, "--device", device)
            #expect(result.status > 0 && result.errors.contains("--device \(device)"), "\(result.errors)")
        }
        #expect(try Program.run("driver-test", file, "--device", "virtio4", "--with-kernel", scratch.path("none")).status > 0)
        #expect(try Program.run("driver-test", scratch.path("rng.console"), "--device", "virtio4").status > 0)
    }

    /// Another kernel against the recorded IDE controller: what it does otherwise is found, what it may do otherwise is not.
    @Test func kernelsAgainstARecordedIDEController() throws {
        let scratch = try Scratch()
        let disk = try scratch.write("disk.img", (0..<64).flatMap { sector in Array("sector \(sector)\n".utf8) + [UInt8](repeating: 0, count: sector < 10 ? 503 : 502) })
        let kernels: [(String, [UInt8])] = [
            ("plain", MultibootKernel.readingSector(3, count: 9)), ("pieces", MultibootKernel.readingSector(3, count: 9, pieces: 4)),
            ("extra", MultibootKernel.readingSector(3, count: 9, extra: true)), ("other", MultibootKernel.readingSector(7, count: 9)),
        ]
        for (name, bytes) in kernels { _ = try scratch.write("\(name).elf", bytes) }
        let file = scratch.path("ide.emurec")
        let run = try Program.run(
            "--boundary=devices", "--record", file, "--kernel", scratch.path("plain.elf"), "--disk", disk, "--pace", "free", "--serial",
            "file:\(scratch.path("plain.console"))")
        #expect(run.status == 43, "\(run.errors)")
        #expect(try console(scratch, "plain") == "sector 3\n")
        let same = try Program.run("driver-test", file, "--device", "piix3-ide", "--console")
        #expect(same.status == 0 && same.output.contains(" 0 departures, 0 recorded accesses not made"), "\(same.output)\(same.errors)")
        // The data came from the recording (it names their place in the image), not from a drive.
        #expect(same.output.contains("sector 3\n"))
        func test(_ name: String) throws -> Program.Result {
            try Program.run("driver-test", file, "--device", "piix3-ide", "--console", "--with-kernel", scratch.path("\(name).elf"))
        }
        let pieces = try test("pieces")
        #expect(pieces.status == 0 && pieces.output.contains(" 0 departures") && pieces.output.contains("sector 3\n"), "\(pieces.output)")
        let extra = try test("extra")
        #expect(
            extra.status == 1 && extra.output.contains(" 1 departures") && extra.output.contains("FEATURES <- 0x5; recorded: DEVICE <- 0xe0")
                && extra.output.contains("sector 3\n"), "\(extra.output)")
        let other = try test("other")
        #expect(other.status == 1 && other.output.contains(" 1 departures") && other.output.contains("LBALOW <- 0x7, recorded: 0x3"), "\(other.output)")
    }

    /// Linux's IDE driver against the recorded controller: by DMA, and with another layout of its memory.
    @Test(.enabled(if: guestIsHere, comment)) func linuxAgainstARecordedIDEController() throws {
        let scratch = try Scratch()
        let image = try scratch.write("disk.img", [UInt8](repeating: 0, count: 1 << 20))
        try record(scratch, "ide", initrd: "EMU_TEST_WRITER_INITRD", ["--disk", image, "--pace", "free"])
        #expect(try console(scratch, "ide").contains("written 15"))
        let file = scratch.path("ide.emurec")
        let same = try Program.run("driver-test", file, "--device", "piix3-ide", "--console")
        #expect(same.status == 0 && same.output.contains(" 0 departures, 0 recorded accesses not made"), "\(same.output)\(same.errors)")
        #expect(same.output.contains("written 15"))
        let moved = Self.line.replacingOccurrences(of: "nokaslr ", with: "")
        let elsewhere = try Program.run("driver-test", file, "--device", "piix3-ide", "--console", "--with-append", moved)
        #expect(elsewhere.status == 0 && elsewhere.output.contains(" 0 departures") && elsewhere.output.contains("written 15"), "\(elsewhere.output)")

        // A driver that sets another transfer mode (SET FEATURES, its number in COUNT) departs there only, and the disk is written to its end.
        func test(_ option: String, _ more: String...) throws -> Program.Result {
            try Program.run(["driver-test", file, "--device", "piix3-ide", "--console", "--with-append", "\(Self.line) \(option)"] + more)
        }
        // The kernel looks for drives on both channels at a time, and in which order they are accessed then depends on a few hundred instructions:
        // where it is another one than in the recording, that is a departure too. A recording with another date has another order.
        var slower = try test("libata.force=udma2")
        var programmed = try test("libata.dma=0")
        for date in 1...8 where !slower.output.contains(" 1 departures,") || !programmed.output.contains("COUNT <- 0xc, recorded: 0x22 (event ") {
            try record(scratch, "ide", initrd: "EMU_TEST_WRITER_INITRD", ["--disk", image, "--pace", "free", "--rtc", "\(1_700_000_000 + date * 100_000)"])
            (slower, programmed) = (try test("libata.force=udma2"), try test("libata.dma=0"))
        }
        #expect(slower.status == 1 && slower.output.contains("written 15"), "\(slower.output)")
        #expect(slower.output.contains(" 1 departures, 0 recorded accesses not made"), "\(slower.output)")
        let first = try #require(slower.output.split(separator: "\n").first { $0.hasPrefix("the first: ") })
        #expect(first.contains(": COUNT <- 0x42, recorded: 0x22 (event "), "\(first)")
        // With the place in the kernel by name.
        let pc = try #require(UInt64(first.split(separator: "pc=0x")[1].prefix { $0.isHexDigit }, radix: 16))
        let map = try scratch.write("System.map", Array("\(String(pc - 14, radix: 16)) T iowrite8\n".utf8))
        #expect(try test("libata.force=udma2", "--symbols", map).output.contains(" iowrite8+0xe: COUNT <- 0x42, recorded: 0x22"))
        // One that does without DMA asks for other things altogether: the first is told, the run goes on and comes to an end.
        #expect(programmed.status == 1 && programmed.output.contains("COUNT <- 0xc, recorded: 0x22 (event "), "\(programmed.output)")
        #expect(programmed.output.contains("COMMAND <- 0xc4, recorded: 0xc8 (event ") && programmed.output.contains(" recorded accesses not made"))
    }

    /// A disk and random numbers on threads, on the host's clock: no two runs are alike, and both replay.
    @Test(.enabled(if: guestIsHere, comment)) func deviceThreadsReplay() throws {
        let scratch = try Scratch()
        let image = try scratch.write("disk.img", [UInt8](repeating: 0, count: 4 << 20))
        try record(
            scratch, "disk", initrd: "EMU_TEST_WRITER_INITRD",
            ["--device-threads", "--disk", "\(image),if=virtio", "--writable"])
        #expect(try console(scratch, "disk").contains("written 63"))
        // What the guest has written is on the host's disk.
        let written = try scratch.read("disk.img")
        #expect(written[(65536 * 63)...].starts(with: Array("block 63\n".utf8)))
        for run in 1...2 { try record(scratch, "rng\(run)", initrd: "EMU_TEST_VFIO_INITRD", ["--device-threads", "--device", "virtio-rng"]) }
        #expect(try scratch.read("rng1.emurec") != scratch.read("rng2.emurec"))
        for name in ["disk", "rng1", "rng2"] {
            let verified = try Program.run("verify", scratch.path("\(name).emurec"))
            #expect(verified.status == 0 && verified.output.contains("digests agree"), "\(verified.output)\(verified.errors)")
        }
        // The model's registers, and its DMA.
        let trace = try Program.run("trace", scratch.path("rng1.emurec"), "--device", "virtio4", "--grep", "virtio4.STATUS").output
        #expect(trace.contains("[ACKNOWLEDGE DRIVER DRIVER-OK FEATURES-OK]"))
        #expect(try Program.run("--boundary=inputs", "--device-threads", "--kernel", image).status > 0)
    }
}
