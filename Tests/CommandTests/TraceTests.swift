import Foundation
import Testing

/// `emu trace`, `emu convert` and `emu diff` on recordings of a real kernel with a network card.
@Suite(.serialized, .enabled(if: Program.path != nil, "the program is not built beside the tests: run scripts/test"))
struct TraceTests {
    private static let guestIsHere = ProcessInfo.processInfo.environment["EMU_TEST_NET_INITRD"] != nil
    private static let comment: Comment = "no guest: run scripts/test, which fetches it"

    /// Recordings of one boot at both boundaries, made once.
    private final class Recordings: @unchecked Sendable {
        let scratch: Scratch
        let inputs: String
        let devices: String
        init() throws {
            scratch = try Scratch()
            inputs = scratch.path("inputs.emurec")
            devices = scratch.path("devices.emurec")
            let environment = ProcessInfo.processInfo.environment
            func put(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) } }
            var capture = put(0xA1B2_C3D4) + put(4 << 16 | 2) + put(0) + put(0) + put(65535) + put(1)
            for index in 0..<20 as Range<UInt32> {
                let frame = [UInt8](repeating: 0xFF, count: 6) + [2, 0, 0, 0, 0, 1, 0x88, 0xB5] + [UInt8](repeating: UInt8(index), count: 50)
                capture += put(1000) + put(index * 10_000) + put(UInt32(frame.count)) + put(UInt32(frame.count)) + frame
            }
            let traffic = try scratch.write("in.pcap", capture)
            for (boundary, path) in [("inputs", inputs), ("devices", devices)] {
                let result = try Program.run(
                    "--boundary=\(boundary)", "--record", path, "--kernel", environment["EMU_TEST_KERNEL"] ?? "", "--initrd",
                    environment["EMU_TEST_NET_INITRD"] ?? "", "--append", "console=ttyS0 panic=-1 quiet nokaslr watch=20",
                    "--memory", "128M", "--pace", "free", "--net", "pcapfile:\(traffic),start=8,mac=52:54:00:0a:0b:0c", "--serial", "file:\(scratch.path("console"))")
                try #require(result.status == 0, "\(result.errors)")
            }
        }
    }
    private static let shared = Result { try Recordings() }

    private struct Output {
        var status: Int32
        var text: String
        var errors: String
    }
    /// For output that is too long for a pipe's buffer.
    private func run(_ arguments: String...) throws -> Output {
        let scratch = try Scratch()
        let process = Process()
        process.executableURL = URL(fileURLWithPath: Program.path ?? "/nonexistent")
        process.arguments = arguments
        let path = try scratch.write("output", [])
        let output = try #require(FileHandle(forWritingAtPath: path))
        let errors = Pipe()
        process.standardOutput = output
        process.standardError = errors
        process.standardInput = FileHandle.nullDevice
        try process.run()
        let messages = errors.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return Output(
            status: process.terminationReason == .uncaughtSignal ? -1 : process.terminationStatus,
            text: String(decoding: try scratch.read("output"), as: UTF8.self), errors: String(decoding: messages, as: UTF8.self))
    }

    /// Each transaction, DMA and interrupt of `emu info`'s count is a line; those of the card have register names and
    /// fields though its addresses were only set by the guest.
    @Test(.enabled(if: guestIsHere, comment))
    func everyTransactionIsALine() throws {
        let file = try Self.shared.get().devices
        let lines = try run("trace", file).text.split(separator: "\n")
        let info = try run("info", file).text.split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) }
        func count(_ kinds: String...) -> Int {
            info.reduce(0) { sum, line in
                let parts = line.split(separator: ":")
                return sum + (parts.count == 2 && kinds.contains(String(parts[0])) ? Int(parts[1].dropFirst()) ?? 0 : 0)
            }
        }
        func number(with text: String) -> Int { lines.count { $0.contains(text) } }
        #expect(number(with: " pio ") == count("port-read", "port-write", "port-block", "port-image"))
        #expect(number(with: " mmio ") == count("mmio-read", "mmio-write"))
        #expect(number(with: " irq ") == count("irq-line", "irq-acknowledge"))
        #expect(number(with: " dma ") == count("dma-read", "dma-write", "dma-image"))
        #expect(number(with: " dma ") > 10 && number(with: " dma virtio4 reads 0x") > 0 && number(with: " dma virtio4 writes 0x") > 0)
        #expect(lines.contains { $0.contains(" mmio virtio4.STATUS 0x") && $0.contains("<- 0x0f [ACKNOWLEDGE DRIVER DRIVER-OK FEATURES-OK]") })
        #expect(lines.contains { $0.contains(" pio serial0.LSR 0x3fd w1 -> 0x60 [THRE TEMT] pc=0xffffffff8") })
        #expect(lines.contains { $0.contains("pci.CONFDATA[04.0 COMMAND]") })

        let card = try run("trace", file, "--device", "virtio4").text.split(separator: "\n")
        #expect(card.count == lines.count { $0.contains(" virtio4.") || $0.contains(" dma virtio4 ") })
        let first = try #require(card.first?.split(separator: " ")[1])
        let last = try #require(card.last?.split(separator: " ")[1])
        #expect(try run("trace", file, "--device", "virtio4", "--from", String(first), "--to", String(last)).text.split(separator: "\n") == card)
        let dma = try run("trace", file, "--kind", "dma", "--payload").text.split(separator: "\n")
        #expect(dma.count == count("dma-read", "dma-write", "dma-image") && !dma.contains { $0.contains("…") })
        #expect(try run("trace", file, "--grep", "[THRE TEMT]").text.split(separator: "\n").count == number(with: "[THRE TEMT]"))
        let summary = try run("trace", file, "--summary").text
        #expect(summary.contains("serial0: ") && summary.contains("polling loops") && summary.contains("virtio4: "))
    }

    @Test(.enabled(if: guestIsHere, comment))
    func exportsOpenElsewhere() throws {
        let shared = try Self.shared.get()
        let scratch = shared.scratch
        let lines = try run("trace", shared.devices).text.split(separator: "\n")
        // JSON.
        let json = scratch.path("trace.json")
        #expect(try run("trace", shared.devices, "--json", json).status == 0)
        let object = try #require(try JSONSerialization.jsonObject(with: Data(try scratch.read("trace.json"))) as? [String: Any])
        let events = try #require(object["traceEvents"] as? [[String: Any]])
        let threads = events.filter { $0["ph"] as? String == "M" }
        #expect(threads.contains { (($0["args"] as? [String: Any])?["name"] as? String) == "virtio4" })
        // Interrupt lines are in the interrupts that end them.
        #expect(events.count - threads.count == lines.count { !$0.contains("irq INTR") })
        // A value change dump: every change names a declared wire, and time goes forwards.
        let vcd = scratch.path("trace.vcd")
        #expect(try run("trace", shared.devices, "--vcd", vcd).status == 0)
        var codes: Set<Substring> = []
        var time = -1
        var changes = 0
        var isBody = false
        for line in String(decoding: try scratch.read("trace.vcd"), as: UTF8.self).split(separator: "\n") {
            if line.hasPrefix("$var") {
                let parts = line.split(separator: " ")
                #expect(parts.count == 6 && codes.insert(parts[3]).inserted)
            } else if line.hasPrefix("$enddefinitions") {
                isBody = true
            } else if isBody, line.hasPrefix("#") {
                let next = try #require(Int(line.dropFirst()))
                #expect(next > time)
                time = next
            } else if isBody {
                changes += 1
                let code = line.hasPrefix("b") ? line.split(separator: " ").last ?? "" : line.dropFirst()
                if !codes.contains(code) { Issue.record("\(line)") }
            }
        }
        #expect(codes.count > 30 && changes > 1000)
        // mmiotrace.
        let mmio = scratch.path("mmio.txt")
        #expect(try run("trace", shared.devices, "--mmiotrace", mmio).status == 0)
        let text = String(decoding: try scratch.read("mmio.txt"), as: UTF8.self).split(separator: "\n")
        #expect(text.first == "VERSION 20070824")
        #expect(text.count { $0.hasPrefix("R ") || $0.hasPrefix("W ") } == lines.count { $0.contains(" mmio ") })
        #expect(text.allSatisfy { line in
            switch line.first {
            case "R", "W": line.split(separator: " ").count == 8
            case "M": line.hasPrefix("MARK ") || line.split(separator: " ").count == 8
            default: line.hasPrefix("VERSION")
            }
        })
        // SQLite, read by Python's.
        let database = scratch.path("trace.db")
        let made = try run("trace", shared.devices, "--sqlite", database)
        #expect(made.status == 0, "\(made.errors)")
        let query = """
            import sqlite3, sys
            c = sqlite3.connect(sys.argv[1])
            print(c.execute("select count(*) from access").fetchone()[0], c.execute("select count(*) from dma").fetchone()[0],
                c.execute("select count(*) from trace where device='serial0' and register='LSR' and fields='THRE TEMT'").fetchone()[0],
                c.execute("pragma integrity_check").fetchone()[0])
            """
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/python3")
        process.arguments = ["-c", query, database]
        let pipe = Pipe()
        process.standardOutput = pipe
        if FileManager.default.isExecutableFile(atPath: "/usr/bin/python3"), (try? process.run()) != nil {
            let answer = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
            let accesses = lines.count { $0.contains(" pio ") || $0.contains(" mmio ") }
            let ready = lines.count { $0.contains("serial0.LSR") && $0.contains("[THRE TEMT]") }
            #expect(answer == "\(accesses) \(lines.count { $0.contains(" dma ") }) \(ready) ok\n")
        }
        // A file that is there is not written over.
        #expect(try run("trace", shared.devices, "--sqlite", database).status != 0)
    }

    /// A picture with a row for each device, and callers from a replay.
    @Test(.enabled(if: guestIsHere, comment))
    func picturesAndStacks() throws {
        let shared = try Self.shared.get()
        let svg = shared.scratch.path("trace.svg")
        #expect(try run("trace", shared.devices, "--svg", svg).status == 0)
        let picture = String(decoding: try shared.scratch.read("trace.svg"), as: UTF8.self)
        #expect(picture.hasPrefix("<svg ") && picture.hasSuffix("</svg>\n"))
        for name in ["virtio4", "serial0", "hpet", "interrupts"] { #expect(picture.contains(">\(name)</text>"), "\(name)") }
        #expect(picture.count { $0 == "\n" } < 200)

        // Where the kernel's code is; the names do not matter.
        let map = (0..<32).map { "\(String(0xFFFF_FFFF_8100_0000 + UInt64($0) << 19, radix: 16)) T part\($0)\n" }.joined()
        let symbols = try shared.scratch.write("System.map", Array(map.utf8))
        let stacks = try run("trace", shared.devices, "--symbols", symbols, "--stacks", "3", "--grep", "virtio4.STATUS")
        let lines = stacks.text.split(separator: "\n")
        let accesses = lines.filter { !$0.hasPrefix("    ") }
        #expect(stacks.status == 0 && accesses.count > 5 && accesses.allSatisfy { $0.contains("virtio4.STATUS") }, "\(stacks.errors)")
        // A driver's access has callers: vp_set_status is called by the virtio core.
        #expect(lines.count > accesses.count * 2 && lines.count <= accesses.count * 4)
        #expect(lines.allSatisfy { !$0.hasPrefix("    ") || $0.contains(" part") })
        #expect(try run("trace", shared.devices, "--stacks", "3").status > 0)
        #expect(try run("trace", shared.devices, "--stacks", "3", "--summary", "--symbols", symbols).status > 0)
    }

    /// Only one device of a recording: the same trace of it, and nothing to replay.
    @Test(.enabled(if: guestIsHere, comment))
    func aDeviceAloneIsCut() throws {
        let shared = try Self.shared.get()
        let part = shared.scratch.path("virtio4.emurec")
        let made = try run("cut", shared.devices, "--from", "0", "--device", "virtio4", "-o", part)
        #expect(made.status == 0, "\(made.errors)")
        func lines(_ file: String) throws -> [Substring] {
            try run("trace", file, "--device", "virtio4", "--payload").text.split(separator: "\n").map { $0.drop { $0 != " " } }
        }
        #expect(try lines(part) == lines(shared.devices))
        #expect(try run("diff", part, shared.devices, "--device", "virtio4").status == 0)
        let verified = try run("verify", part)
        #expect(verified.status > 0 && verified.text.contains("virtio4"), "\(verified.text)")
        #expect(try run("device-test", part).status > 0)
        // From the middle on: where the device is was said before.
        let tail = shared.scratch.path("virtio4-tail.emurec")
        let first = try #require(try run("trace", shared.devices, "--device", "virtio4", "--kind", "mmio").text.split(separator: "\n").dropFirst(40).first)
        let position = String(first.split(separator: " ")[1])
        #expect(try run("cut", shared.devices, "--from", position, "--device", "virtio4", "-o", tail).status == 0)
        #expect(try run("trace", tail, "--device", "virtio4", "--kind", "mmio").text.contains(" mmio virtio4."))
        #expect(try run("cut", shared.devices, "--from", "0", "--device", "none", "-o", tail).status > 0)
        #expect(try run("cut", shared.devices, "--from", "0", "--device", "virtio4", "-o", shared.devices).status > 0)
    }

    /// The converted recording of one run is what a replay at the devices boundary verifies, and what the devices and the
    /// driver said to each other is the same as in a run recorded there.
    @Test(.enabled(if: guestIsHere, comment))
    func aConvertedRecordingIsADevicesRecording() throws {
        let shared = try Self.shared.get()
        let converted = shared.scratch.path("converted.emurec")
        let result = try run("convert", shared.inputs, "--to", "devices", "-o", converted)
        #expect(result.status == 0, "\(result.errors)")
        let verified = try run("verify", converted)
        #expect(verified.status == 0 && verified.text.contains("digests agree"), "\(verified.text)")
        // The same card and the same driver: its registers are used alike. (The two frames that the guest sends may change places.)
        let difference = try run("diff", converted, shared.devices, "--device", "virtio4", "--kind", "mmio", "--kind", "pio")
        #expect(difference.text.contains("virtio4:"))
        #expect(difference.status == 0, "\(difference.text)")
        // Once more: the same bytes.
        let again = shared.scratch.path("again.emurec")
        #expect(try run("convert", shared.inputs, "--to", "devices", "-o", again).status == 0)
        #expect(try run("diff", converted, again).status == 0)
        #expect(try run("convert", converted, "--to", "devices", "-o", shared.scratch.path("no.emurec")).status != 0)
        #expect(try run("convert", shared.inputs, "--to", "devices", "-o", shared.inputs).status != 0)
        #expect(try run("verify", shared.inputs).status == 0)
    }

    /// This version's devices do what the recorded ones did; a key that the log does not hold is where they depart.
    @Test(.enabled(if: guestIsHere, comment))
    func devicesAgreeWithARecording() throws {
        let shared = try Self.shared.get()
        let result = try run("device-test", shared.devices)
        #expect(result.status == 0, "\(result.text)")
        for device in ["virtio4", "serial0", "hpet", "lapic", "pit", "pci", "interrupts", "DMA"] {
            let line = result.text.split(separator: "\n").first { $0.hasPrefix("\(device): ") }
            #expect(line?.hasSuffix(" 0 depart") == true && line?.contains(": 0 compared") == false, "\(device): \(line ?? "")")
        }
        let script = try shared.scratch.write("script", Array("wait \"emu#\" 120\ntype \"poweroff -f\\n\"\n".utf8))
        let typed = shared.scratch.path("typed.emurec")
        let environment = ProcessInfo.processInfo.environment
        let made = try Program.run(
            "--boundary=devices", "--record", typed, "--kernel", environment["EMU_TEST_KERNEL"] ?? "", "--initrd",
            environment["EMU_TEST_INITRD"] ?? "", "--append", "console=ttyS0 panic=-1 quiet", "--memory", "128M", "--pace", "free",
            "--script", script, "--serial", "file:\(shared.scratch.path("typed.console"))")
        try #require(made.status == 0, "\(made.errors)")
        let other = try run("device-test", typed)
        #expect(other.status == 1 && other.text.contains("serial0: "), "\(other.text)")
        #expect(try run("device-test", typed, "--device", "hpet").status == 0)
    }

    /// A part of a recording replays by itself, without the kernel, and its trace is the whole one's part.
    @Test(.enabled(if: guestIsHere, comment), arguments: ["inputs", "devices"])
    func aPartIsARecording(boundary: String) throws {
        let shared = try Self.shared.get()
        let whole = boundary == "inputs" ? shared.inputs : shared.devices
        let part = shared.scratch.path("part-\(boundary).emurec")
        let (from, to) = ("600000000", "1550000000")
        let made = try run("cut", whole, "--from", from, "--to", to, "-o", part)
        #expect(made.status == 0, "\(made.errors)")
        let info = try run("info", part).text
        #expect(!info.contains("kernel:") && info.contains("snapshot:") && info.contains("cut.from:"))
        let digest = info.split(separator: "\n").first { $0.contains("snapshot:") }?.split(separator: " ").last ?? ""
        let environment = ProcessInfo.processInfo.environment
        let cache = environment["XDG_CACHE_HOME"] ?? (environment["HOME"] ?? "") + "/.cache"
        defer { try? FileManager.default.removeItem(atPath: "\(cache)/emu/images/\(digest)") }
        let verified = try run("verify", part)
        #expect(verified.status == 0 && verified.text.contains("OK: 1550000"), "\(verified.text)\(verified.errors)")
        // The part's own part, to its end.
        let tail = shared.scratch.path("tail-\(boundary).emurec")
        #expect(try run("cut", part, "--from", "1549000000", "-o", tail).status == 0)
        #expect(try run("verify", tail).status == 0)
        let tailDigest = try run("info", tail).text.split(separator: "\n").first { $0.contains("snapshot:") }?.split(separator: " ").last ?? ""
        defer { try? FileManager.default.removeItem(atPath: "\(cache)/emu/images/\(tailDigest)") }
        if boundary == "devices" {
            func lines(_ output: Output) -> [Substring] {
                output.text.split(separator: "\n").map { $0.drop { $0 != " " } }
            }
            // Both ends are within a few instructions of where they were asked for.
            let expected = lines(try run("trace", whole, "--from", "600001000", "--to", "1549999000"))
            #expect(lines(try run("trace", part, "--from", "600001000", "--to", "1549999000")) == expected && expected.count > 1000)
        }
        #expect(try run("cut", whole, "--from", "99999999999999", "-o", shared.scratch.path("none.emurec")).status > 0)
        #expect(try run("cut", whole, "--from", "5", "--to", "5", "-o", shared.scratch.path("none.emurec")).status > 0)
        #expect(try run("cut", whole, "--from", "5", "--to", "7", "-o", whole).status > 0)
        // Damage is found.
        var bytes = try shared.scratch.read("tail-\(boundary).emurec")
        for position in [bytes.count / 4, bytes.count / 2, bytes.count - 10] {
            try? FileManager.default.removeItem(atPath: "\(cache)/emu/images/\(tailDigest)")
            bytes[position] ^= 0x10
            let damaged = try run("verify", try shared.scratch.write("damaged.emurec", bytes))
            #expect(damaged.status > 0 && !damaged.errors.contains("Fatal error"), "\(position): \(damaged.text)")
            bytes[position] ^= 0x10
        }
    }

    @Test(.enabled(if: guestIsHere, comment))
    func badInputIsAnError() throws {
        let shared = try Self.shared.get()
        let bytes = try shared.scratch.read("devices.emurec")
        func expectError(_ output: Output, _ part: String, at location: SourceLocation = #_sourceLocation) {
            #expect(output.status > 0 && output.errors.contains(part), "\(output.status) \(output.errors)", sourceLocation: location)
        }
        expectError(try run("trace", shared.inputs), "emu convert")
        expectError(try run("trace", shared.devices, "--device", "ide7"), "there is no such device")
        expectError(try run("trace", shared.devices, "--from", "5", "--to", "4"), "--from")
        expectError(try run("trace", shared.devices, "--symbols", shared.scratch.path("none")), "none")
        expectError(try run("trace", shared.devices, "--symbols", shared.devices), "no symbols")
        expectError(try run("trace", shared.devices, "--json", "/nonexistent/x"), "cannot be written")
        expectError(try run("trace", shared.devices, "--json", "/dev/full"), "cannot be written")
        // A device is written to, and stays one.
        #expect(try run("trace", shared.devices, "--vcd", "/dev/null").status == 0)
        #expect(try FileManager.default.attributesOfItem(atPath: "/dev/null")[.type] as? FileAttributeType == .typeCharacterSpecial)
        expectError(try run("trace", shared.devices, "--sqlite", "/nonexistent/x"), "/nonexistent/x")
        expectError(try run("trace", shared.devices, "--summary", "--json", shared.scratch.path("y")), "one of")
        expectError(try run("diff", shared.devices, shared.scratch.path("none")), "none")
        expectError(try run("device-test", shared.inputs), "emu convert")
        expectError(try run("device-test", shared.devices, "--device", "ide7"), "there is no such device")
        // Flipped and cut: an error or a trace up to there, never a crash.
        for position in stride(from: 30, to: bytes.count, by: bytes.count / 12) {
            var flipped = bytes
            flipped[position] ^= 0x40
            let file = try shared.scratch.write("flipped.emurec", flipped)
            for more in [["--summary"], ["--kind", "dma"]] {
                let process = try Program.start(["trace", file] + more)
                _ = process.output.fileHandleForReading.readDataToEndOfFile()
                let errors = String(decoding: process.errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
                process.process.waitUntilExit()
                #expect(process.process.terminationReason == .exit && !errors.contains("Fatal error"), "\(position): \(errors)")
            }
            let cut = try shared.scratch.write("cut.emurec", Array(bytes.prefix(position)))
            let output = try run("trace", cut, "--summary")
            #expect(output.status >= 0 && !output.errors.contains("Fatal error"), "\(position)")
        }
    }
}
