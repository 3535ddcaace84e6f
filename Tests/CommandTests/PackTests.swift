import Foundation
import Testing

/// `emu pack`.
@Suite(.serialized, .enabled(if: Program.path != nil, "the program is not built beside the tests: run scripts/test"))
struct PackTests {
    private func digest(_ path: String) throws -> String { try Program.digest(path) }

    @Test func aPackedRecordingNeedsNothing() throws {
        let scratch = try Scratch()
        // A text of its own, so that no other test's image is in the cache.
        let kernel = try scratch.write("kernel.elf", MultibootKernel.bytes(says: "packed \(UUID().uuidString)\n"))
        let plain = scratch.path("plain.emurec")
        let packed = scratch.path("packed.emurec")
        let made = try Program.run("--boundary=inputs", "--record", plain, "--kernel", kernel, "--memory", "16M", "--pace", "free")
        try #require(made.status >= 0)
        let result = try Program.run("pack", plain, "-o", packed)
        #expect(result.status == 0, "\(result.errors)")
        #expect(try Program.run("verify", packed).output.contains("digests agree"))
        let digest = try digest(kernel)
        let environment = ProcessInfo.processInfo.environment
        let cache = environment["XDG_CACHE_HOME"] ?? (environment["HOME"] ?? "") + "/.cache"
        let unpacked = "\(cache)/emu/images/\(digest)"
        defer { try? FileManager.default.removeItem(atPath: unpacked) }
        #expect(!FileManager.default.fileExists(atPath: unpacked), "what is where it was is not unpacked")
        try FileManager.default.removeItem(atPath: kernel)
        let without = try Program.run("verify", plain)
        #expect(without.status > 0 && (without.output + without.errors).contains("kernel.elf"))
        #expect(try Program.run("verify", packed).output.contains("digests agree"))
        #expect(try self.digest(unpacked) == digest)
        // A damaged cache is made anew.
        try Data([1, 2, 3]).write(to: URL(fileURLWithPath: unpacked))
        #expect(try Program.run("verify", packed).output.contains("digests agree"))
        #expect(try Program.run("pack", packed, "-o", packed).status > 0)
        #expect(try Program.run("pack", scratch.path("none"), "-o", scratch.path("x")).status > 0)
        // Damage: an error, or it replays; never a crash.
        let bytes = try scratch.read("packed.emurec")
        for position in stride(from: 0, to: bytes.count, by: max(1, bytes.count / 40)) {
            try? FileManager.default.removeItem(atPath: unpacked)
            var flipped = bytes
            flipped[position] ^= 0x20
            let file = try scratch.write("flipped.emurec", flipped)
            let verified = try Program.run("verify", file)
            #expect(verified.status >= 0 && !(verified.output + verified.errors).contains("Fatal error"), "flip at \(position)")
        }
        try? FileManager.default.removeItem(atPath: unpacked)
        let cut = try scratch.write("cut.emurec", Array(bytes.prefix(bytes.count - 40)))
        let verified = try Program.run("verify", cut)
        #expect(verified.status > 0, "its images are not whole: \(verified.output)")
    }
}
