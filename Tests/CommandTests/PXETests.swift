import Foundation
import Testing

/// Booting from the network: SeaBIOS runs the card's ROM (Debian's iPXE), which gets an address by DHCP and a script by TFTP,
/// and that starts Debian's kernel. Two of the cards: each takes a minute. bench/pxe has all three.
@Suite(.serialized, .enabled(if: Program.path != nil, "the program is not built beside the tests: run scripts/test"))
struct PXETests {
    private static let canBoot: Bool = {
        #if Slirp
        let environment = ProcessInfo.processInfo.environment
        return ["EMU_TEST_INITRD", "EMU_TEST_BIOS", "EMU_TEST_PXE_ROMS"].allSatisfy { environment[$0] != nil }
        #else
        false
        #endif
    }()

    @Test(
        .enabled(if: canBoot, "no guest, no ROMs (EMU_TEST_PXE_ROMS), or no --net user"),
        arguments: [("inputs", "virtio"), ("devices", "e1000")])
    func aKernelComesOverTheNetwork(boundary: String, model: String) throws {
        let environment = ProcessInfo.processInfo.environment
        let kernel = try HTTPServer([UInt8](try Data(contentsOf: URL(fileURLWithPath: environment["EMU_TEST_KERNEL"] ?? ""))))
        defer { kernel.close() }
        let scratch = try Scratch()
        let initrd = try Data(contentsOf: URL(fileURLWithPath: environment["EMU_TEST_INITRD"] ?? ""))
        _ = try scratch.write("initrd.gz", [UInt8](initrd))
        let script = """
            #!ipxe
            kernel http://10.0.2.2:\(kernel.port)/kernel console=ttyS0 panic=-1 quiet
            initrd initrd.gz
            boot
            """
        _ = try scratch.write("boot.ipxe", Array(script.utf8))
        let typing = try scratch.write("typing", Array("wait \"emu# \" 600\ntype \"poweroff -f\\n\"\n".utf8))
        let recording = scratch.path("pxe.emurec")
        let (process, output, errors) = try Program.start([
            "--boundary=\(boundary)", "--record", recording, "--boot", "n", "--bios", environment["EMU_TEST_BIOS"] ?? "",
            "--pxe-roms", environment["EMU_TEST_PXE_ROMS"] ?? "", "--memory", "256M", "--script", typing, "--net",
            "user,model=\(model),tftp=\(scratch.url.path),bootfile=boot.ipxe",
        ])
        let said = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        let messages = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        #expect(process.terminationStatus == 0 && said.contains("emu# "), "\(said)\(messages)")
        let verify = try Program.run("verify", recording)
        #expect(verify.status == 0 && verify.output.contains("OK"), "\(verify.output)\(verify.errors)")
    }

    @Test func badOptions() throws {
        for (options, message) in [
            (["--boot", "x", "--net", "none"], "letters a, c, d and n"), (["--boot", "n", "--kernel", "x"], "without firmware"),
        ] {
            let (process, _, errors) = try Program.start(options)
            let text = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
            process.waitUntilExit()
            #expect(process.terminationStatus > 0 && text.contains(message), "\(options): \(text)")
        }
    }
}
