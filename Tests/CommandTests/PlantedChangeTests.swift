import Foundation
import Testing

/// Two builds of a driver, one of which writes another register once.
@Suite(.enabled(if: Program.path != nil, "the program is not built beside the tests: run scripts/test"))
struct PlantedChangeTests {
    private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("bench/planted-driver").path

    private func clang(_ arguments: [String]) -> Bool {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["clang"] + arguments
        process.standardError = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        guard (try? process.run()) != nil else { return false }
        process.waitUntilExit()
        return process.terminationStatus == 0
    }

    /// A hundred thousand accesses; `bench/planted-change` has a million.
    @Test func diffNamesTheSourceLine() throws {
        let scratch = try Scratch()
        let source = "\(Self.folder)/driver.c"
        for (name, options) in [("before", []), ("after", ["-DPLANTED=9000"])] as [(String, [String])] {
            let isBuilt = clang(
                [
                    "-m32", "-march=i586", "-mno-sse", "-ffreestanding", "-nostdlib", "-static", "-fno-pic", "-fno-stack-protector", "-O1", "-g",
                    "-fuse-ld=lld", "-Wl,--build-id=none", "-Wl,-T,\(Self.folder)/link.ld", "-DROUNDS=12500",
                ] + options + ["-o", scratch.path("\(name).elf"), source])
            guard isBuilt else {
                print("not tested: there is no clang that makes programs for the i386")
                return
            }
            // It ends by isa-debug-exit.
            let run = try Program.run(
                "--boundary=devices", "--record", scratch.path("\(name).emurec"), "--kernel", scratch.path("\(name).elf"), "--serial", "none",
                "--pace", "free")
            #expect(run.status == 1, "\(run.errors)")
        }
        let text = try String(contentsOfFile: source, encoding: .utf8)
        let line = try #require(text.split(separator: "\n", omittingEmptySubsequences: false).firstIndex { $0.contains("planted:") }) + 1
        let (before, after) = (scratch.path("before.emurec"), scratch.path("after.emurec"))
        let symbols = ["--symbols", scratch.path("before.elf"), "--symbols-second", scratch.path("after.elf")]
        let result = try Program.run("diff", before, after, symbols[0], symbols[1], symbols[2], symbols[3])
        #expect(result.status == 1 && result.output.contains("serial1: 100000 and 100000 steps, 1 differences"), "\(result.output)\(result.errors)")
        #expect(result.output.contains("serial1.MCR <- 0x8") && result.output.contains("serial1.IER <- 0x0"))
        if FileManager.default.isExecutableFile(atPath: "/usr/bin/addr2line") {
            #expect(result.output.contains("driver.c:\(line)"), "\(result.output)")
        }
        #expect(try Program.run("diff", before, before).status == 0)
    }
}
