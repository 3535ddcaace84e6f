import Foundation
import Testing

/// A device in another process, `emu vfio-user-device`, under a real kernel's driver.
@Suite(.serialized, .enabled(if: Program.path != nil, "the program is not built beside the tests: run scripts/test"))
struct VFIOUserCommandTests {
    private static let environment = ProcessInfo.processInfo.environment
    private static let guestIsHere = environment["EMU_TEST_VFIO_INITRD"] != nil
    private static let comment: Comment = "no guest: run scripts/test, which fetches it"

    /// The device's process, listening.
    private func device(_ socket: String) throws -> Process {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: Program.path ?? "/nonexistent")
        process.arguments = ["vfio-user-device", "virtio-rng", socket]
        process.standardError = FileHandle.nullDevice
        process.standardInput = FileHandle.nullDevice
        try process.run()
        for _ in 0..<6000 where !FileManager.default.fileExists(atPath: socket) { usleep(10_000) }
        return process
    }

    private func arguments(_ scratch: Scratch, _ name: String, rounds: Int) -> [String] {
        [
            "--boundary=devices", "--record", scratch.path("\(name).emurec"), "--device", "vfio-user:\(scratch.path("rng.sock"))",
            "--kernel", Self.environment["EMU_TEST_KERNEL"] ?? "", "--initrd", Self.environment["EMU_TEST_VFIO_INITRD"] ?? "", "--memory",
            "128M", "--append", "console=ttyS0 panic=-1 quiet rounds=\(rounds)", "--serial", "file:\(scratch.path("\(name).console"))",
        ]
    }

    private func console(_ scratch: Scratch, _ name: String) -> String {
        String(decoding: (try? scratch.read("\(name).console")) ?? [], as: UTF8.self)
    }

    /// Its numbers are others each time, as is when they come; the recordings replay without it.
    @Test(.enabled(if: guestIsHere, comment)) func recordingsReplayWithoutTheProcess() throws {
        let scratch = try Scratch()
        let process = try device(scratch.path("rng.sock"))
        var consoles: [String] = []
        for run in 1...2 {
            let (emu, _, errors) = try Program.start(arguments(scratch, "run\(run)", rounds: 5))
            let messages = errors.fileHandleForReading.readDataToEndOfFile()
            emu.waitUntilExit()
            #expect(emu.terminationStatus == 0, "\(String(decoding: messages, as: UTF8.self))")
            consoles.append(console(scratch, "run\(run)"))
            #expect(consoles[run - 1].contains("vendor 1af4") && consoles[run - 1].contains("rounds done"))
        }
        #expect(consoles[0] != consoles[1])
        process.terminate()
        process.waitUntilExit()
        for run in 1...2 {
            let verified = try Program.run("verify", scratch.path("run\(run).emurec"))
            #expect(verified.status == 0 && verified.output.contains("digests agree"), "\(verified.output)\(verified.errors)")
        }
        // All of it is in the log: registers of the device's own memory, DMA with the device's name, interrupts.
        let file = scratch.path("run1.emurec")
        let trace = try Program.run("trace", file, "--device", "vfio4", "--kind", "mmio")
        #expect(trace.output.split(separator: "\n").count > 20)
        let dma = try Program.run("trace", file, "--device", "vfio4", "--kind", "dma").output
        #expect(dma.contains("dma vfio4 reads 0x") && dma.contains("dma vfio4 writes 0x"))
        #expect(try Program.run("info", file).output.contains("foreign:"))
        // Registers by a description file.
        let svd = try scratch.write("virtio.svd", Array("""
            <device><peripherals><peripheral><name>COMMON</name><registers>
            <register><name>FEATURE-SELECT</name><addressOffset>0</addressOffset></register>
            <register><name>STATUS</name><addressOffset>0x14</addressOffset><size>8</size><fields>
            <field><name>ACK</name><bitRange>[0:0]</bitRange></field><field><name>DRV</name><bitRange>[1:1]</bitRange></field>
            </fields></register></registers></peripheral></peripherals></device>
            """.utf8))
        let named = try Program.run("trace", file, "--registers", "vfio4:4=\(svd)#COMMON", "--grep", "vfio4.STATUS")
        #expect(named.status == 0 && named.output.contains("<- 0x03 [ACK DRV]"), "\(named.output)\(named.errors)")
        for wrong in ["vfio4:4=\(svd)#NONE", "nothing=\(svd)", "vfio4=/nonexistent", "vfio4", "vfio4:x=\(svd)", "vfio4=\(file)"] {
            let result = try Program.run("trace", file, "--registers", wrong)
            #expect(result.status > 0 && result.errors.contains("--registers \(wrong)"), "\(result.errors)")
        }
    }

    /// Killed while the guest uses it: the guest reads ones, goes on, and the recording is whole.
    @Test(.enabled(if: guestIsHere, comment)) func aKilledDeviceVanishes() throws {
        let scratch = try Scratch()
        let process = try device(scratch.path("rng.sock"))
        let (emu, _, errors) = try Program.start(arguments(scratch, "killed", rounds: 0))
        for _ in 0..<12_000 where !console(scratch, "killed").contains("reading") && emu.isRunning { usleep(10_000) }
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        let messages = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        emu.waitUntilExit()
        #expect(emu.terminationStatus == 0 && messages.contains("the device has vanished"), "\(messages)")
        #expect(console(scratch, "killed").contains("vanished"))
        let verified = try Program.run("verify", scratch.path("killed.emurec"))
        #expect(verified.status == 0 && verified.output.contains("digests agree"), "\(verified.output)\(verified.errors)")
    }

    @Test func wrongUseIsAnError() throws {
        let scratch = try Scratch()
        let kernel = try scratch.write("kernel", [1, 2, 3])
        let nobody = try Program.run(
            "--boundary=devices", "--no-record", "--device", "vfio-user:\(scratch.path("none.sock"))", "--kernel", kernel)
        #expect(nobody.status > 0 && nobody.errors.contains("vfio-user:") && nobody.errors.contains("No such file"), "\(nobody.errors)")
        let inputs = try Program.run("--boundary=inputs", "--device", "vfio-user:\(scratch.path("none.sock"))", "--kernel", kernel)
        #expect(inputs.status > 0 && inputs.errors.contains("--boundary=devices"))
        #expect(try Program.run("vfio-user-device", "virtio-blk", scratch.path("s")).status > 0)
        #expect(try Program.run("vfio-user-device", "virtio-blk", scratch.path("s"), "--image", scratch.path("none")).status > 0)
        #expect(try Program.run("vfio-user-device", "virtio-rng", "/nonexistent/s").status > 0)
    }
}
