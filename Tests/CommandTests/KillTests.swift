import Foundation
import Testing

/// The program is killed while the guest writes to its disk.
@Suite(.serialized, .enabled(if: Program.path != nil, "the program is not built beside the tests: run scripts/test"))
struct KillTests {
    private static let initrd = ProcessInfo.processInfo.environment["EMU_TEST_WRITER_INITRD"]
    private static let guestIsHere = ProcessInfo.processInfo.environment["EMU_TEST_KERNEL"] != nil && initrd != nil
    private static let blockSize = 65536

    /// The image is untouched, what the guest was told to be on the disk is in the overlay, and the recording replays to
    /// its last chunk.
    @Test(
        .enabled(if: guestIsHere, "no guest: run scripts/test, which fetches it"), arguments: ["inputs", "devices"],
        ["virtio", "ide"])
    func nothingIsLost(boundary: String, interface: String) throws {
        let scratch = try Scratch()
        let image = try scratch.write("disk.img", (0..<64 << 20).map { UInt8(truncatingIfNeeded: $0 >> 9) })
        let before = try Program.digest(image)
        let overlay = scratch.path("disk.overlay")
        let file = scratch.path("killed.emurec")
        let disk = ["--disk", "\(image),if=\(interface)", "--overlay", overlay]
        let process = try start(scratch, disk + ["--boundary=\(boundary)", "--record", file, "--digest-interval", "20000000"])
        try waitFor("written 20", scratch, process)
        // Until a chunk of that time is in the file; the guest writes on.
        let length = instructions(file)
        let deadline = Date().addingTimeInterval(60)
        while Date() < deadline, process.isRunning, instructions(file) <= length { usleep(50_000) }
        #expect(process.isRunning)
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        #expect(process.terminationReason == .uncaughtSignal)
        let blocks = try console(scratch).split(separator: "\r\n").count { $0.hasPrefix("written ") }
        #expect(blocks > 20)

        #expect(try Program.digest(image) == before)
        let verify = try Program.run("verify", file)
        #expect(verify.status == 0 && verify.output.contains("OK"), "\(verify.output)\(verify.errors)")
        #expect(verify.errors.contains("ends early"), "\(verify.errors)")
        // All of it, and the instruction that the last event belongs to.
        let recorded = instructions(file)
        let replayed = verify.output.split(separator: " ").first { $0.allSatisfy(\.isNumber) }.flatMap { UInt64($0) } ?? 0
        #expect(recorded > length && (recorded...recorded + 1).contains(replayed), "\(recorded): \(verify.output)")

        // The guest's next boot, with the same overlay.
        let again = try start(scratch, disk, append: "check=\(blocks)")
        try waitFor("block \(blocks - 1) ", scratch, again)
        again.waitUntilExit()
        let said = try console(scratch)
        for block in stride(from: 0, to: blocks, by: 7) {
            let digest = try Program.digest(scratch.write("block", contents(block)))
            #expect(said.contains("block \(block) \(digest)"), "block \(block) of \(blocks)")
        }
        #expect(try Program.digest(image) == before)

        // Image and overlay together.
        let together = scratch.path("together.img")
        let put = try Program.run("overlay", image, overlay, "-o", together)
        #expect(put.status == 0, "\(put.errors)")
        let bytes = try scratch.read("together.img")
        #expect(bytes.count == 64 << 20)
        for block in stride(from: 0, to: blocks, by: 5) {
            let place = block * Self.blockSize
            #expect(bytes[place..<place + Self.blockSize].elementsEqual(contents(block)), "block \(block)")
        }
        #expect(bytes[(48 << 20)...].elementsEqual((48 << 20..<64 << 20).map { UInt8(truncatingIfNeeded: $0 >> 9) }))
        #expect(try Program.run("overlay", image, overlay, "-o", together).errors.contains("there already"))
        #expect(try Program.run("overlay", image, scratch.path("none"), "-o", scratch.path("x")).status != 0)
    }

    private func start(_ scratch: Scratch, _ arguments: [String], append: String = "") throws -> Process {
        try? FileManager.default.removeItem(atPath: scratch.path("console"))
        return try Program.start(
            [
                "--kernel", ProcessInfo.processInfo.environment["EMU_TEST_KERNEL"] ?? "", "--initrd", Self.initrd ?? "",
                "--append", "console=ttyS0 panic=-1 quiet \(append)", "--memory", "128M", "--pace", "free", "--serial",
                "file:\(scratch.path("console"))",
            ] + arguments
        ).process
    }

    private func console(_ scratch: Scratch) throws -> String {
        String(decoding: try scratch.read("console"), as: UTF8.self)
    }

    private func waitFor(_ text: String, _ scratch: Scratch, _ process: Process) throws {
        let deadline = Date().addingTimeInterval(120)
        while Date() < deadline, process.isRunning {
            if let said = try? console(scratch), said.contains(text) { return }
            usleep(50_000)
        }
        #expect(try console(scratch).contains(text))
    }

    /// What the guest writes to a block: a line again and again.
    private func contents(_ block: Int) -> [UInt8] {
        let line = Array("block \(block)\n".utf8)
        return (0..<Self.blockSize).map { line[$0 % line.count] }
    }

    private func instructions(_ file: String) -> UInt64 {
        guard let info = try? Program.run("info", "--json", file),
            let object = try? JSONSerialization.jsonObject(with: Data(info.output.utf8)) as? [String: Any]
        else { return 0 }
        return (object["instructions"] as? NSNumber)?.uint64Value ?? 0
    }
}
