import Foundation
import Testing

/// Where the firmware is.
enum SeaBIOS {
    static let path = ProcessInfo.processInfo.environment["EMU_TEST_BIOS"]
    static let isHere = path != nil && Program.path != nil
}

/// SeaBIOS of Debian's package boots what the user gives. `scripts/test` says where it is.
@Suite(.serialized, .enabled(if: SeaBIOS.isHere, "no SeaBIOS: run scripts/test, which fetches it"))
struct FirmwareTests {
    /// Code at 0000:7C00 that says `text` on the screen and the debug console, then what is in the sector behind it, read
    /// by the BIOS; then it exits.
    /// - Parameters:
    ///   - sector: the number of that sector for INT 13h, function 42h.
    ///   - usesCylinders: by function 02h instead, as floppy disks need it.
    private func boot(says text: String, sector: UInt8, usesCylinders: Bool = false) -> [UInt8] {
        var code: [UInt8] = []
        // cld; xor ax, ax; mov ds, ax; mov es, ax; mov [drive], dl
        code += [0xFC, 0x31, 0xC0, 0x8E, 0xD8, 0x8E, 0xC0, 0x88, 0x16, 0x00, 0x7B]
        // mov si, 0x7D00; call say; mov dl, [drive]
        code += [0xBE, 0x00, 0x7D, 0xE8, 0, 0, 0x8A, 0x16, 0x00, 0x7B]
        if usesCylinders {
            // mov ax, 0x0201; mov bx, 0x8000; mov cx, sector + 1; mov dh, 0
            code += [0xB8, 0x01, 0x02, 0xBB, 0x00, 0x80, 0xB9, sector + 1, 0x00, 0xB6, 0x00]
        } else {
            // mov ah, 0x42; mov si, 0x7D80
            code += [0xB4, 0x42, 0xBE, 0x80, 0x7D]
        }
        // int 0x13; mov si, 0x8000; jnc +3
        code += [0xCD, 0x13]
        code += [0xBE, 0x00, 0x80, 0x73, 0x03, 0xBE, 0x40, 0x7D]
        // call say; mov dx, 0xF4; mov al, 1; out dx, al; cli; hlt
        code += [0xE8, 0, 0, 0xBA, 0xF4, 0x00, 0xB0, 0x01, 0xEE, 0xFA, 0xF4]
        let say = code.count
        // say: lodsb; test al, al; jz end; mov dx, 0x402; out dx, al; mov ah, 0x0E; mov bx, 7; int 0x10; jmp say; end: ret
        code += [0xAC, 0x84, 0xC0, 0x74, 0x0D, 0xBA, 0x02, 0x04, 0xEE, 0xB4, 0x0E, 0xBB, 0x07, 0x00, 0xCD, 0x10, 0xEB, 0xEE, 0xC3]
        for call in code.indices where code[call] == 0xE8 && code[call + 1] == 0 {
            code[call + 1] = UInt8(say - call - 3)
        }
        var bytes = [UInt8](repeating: 0, count: 512)
        bytes.replaceSubrange(0..<code.count, with: code)
        bytes.replaceSubrange(0x100..<0x100 + text.utf8.count, with: Array(text.utf8))
        bytes.replaceSubrange(0x140..<0x146, with: Array("FAILED".utf8))
        // One sector to 0000:8000.
        bytes.replaceSubrange(0x180..<0x190, with: [16, 0, 1, 0, 0, 0x80, 0, 0, sector, 0, 0, 0, 0, 0, 0, 0])
        bytes[510] = 0x55
        bytes[511] = 0xAA
        return bytes
    }

    private func disk() -> [UInt8] {
        var image = [UInt8](repeating: 0, count: 1 << 20)
        image.replaceSubrange(0..<512, with: boot(says: "hello from the disk. ", sector: 1))
        image.replaceSubrange(512..<512 + 16, with: Array("the next sector!".utf8))
        return image
    }

    /// A disc with nothing but a boot record (El Torito 1.0), no emulation.
    private func disc() -> [UInt8] {
        var image = [UInt8](repeating: 0, count: 40 * 2048)
        func put(_ offset: Int, _ bytes: [UInt8]) { image.replaceSubrange(offset..<offset + bytes.count, with: bytes) }
        put(16 * 2048, [1] + Array("CD001".utf8) + [1])
        put(17 * 2048, [0] + Array("CD001".utf8) + [1] + Array("EL TORITO SPECIFICATION".utf8))
        put(17 * 2048 + 0x47, [19])
        put(18 * 2048, [255] + Array("CD001".utf8) + [1])
        put(19 * 2048, [1])
        put(19 * 2048 + 0x1C, [0xAA, 0x55, 0x55, 0xAA])
        put(19 * 2048 + 0x20, [0x88, 0, 0, 0, 0, 0, 1, 0, 20])
        put(20 * 2048, boot(says: "hello from the disc. ", sector: 21))
        put(21 * 2048, Array("the next block!".utf8))
        return image
    }

    private func record(_ boundary: String, _ scratch: Scratch, _ arguments: [String]) throws -> String {
        let console = scratch.path("console")
        let (process, _, errors) = try Program.start(
            [
                "--boundary=\(boundary)", "--record", scratch.path("run.emurec"), "--bios", SeaBIOS.path ?? "", "--memory", "32M",
                "--pace", "free", "--debugcon", console,
            ] + arguments)
        let messages = errors.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        #expect(process.terminationStatus == 3, "\(String(decoding: messages, as: UTF8.self))")
        return String(decoding: try scratch.read("console"), as: UTF8.self)
    }

    @Test(arguments: ["inputs", "devices"])
    func bootsFromTheDisk(boundary: String) throws {
        let scratch = try Scratch()
        let image = try scratch.write("disk.img", disk())
        let console = try record(boundary, scratch, ["--disk", image])
        #expect(console.contains("hello from the disk. the next sector!"), "\(console)")
        let file = scratch.path("run.emurec")
        let verify = try Program.run("verify", file)
        #expect(verify.status == 0 && verify.output.contains("OK"), "\(verify.output)\(verify.errors)")
        let screen = try Program.run("screenshot", file, "--text", "-o", scratch.path("screen.png"))
        #expect(screen.output.contains("hello from the disk. the next sector!"), "\(screen.output)\(screen.errors)")
        #expect(try scratch.read("screen.png").starts(with: [0x89, 0x50, 0x4E, 0x47]))

        let film = try Program.run("movie", file, "-o", scratch.path("film"))
        let pictures = try FileManager.default.contentsOfDirectory(atPath: scratch.path("film")).sorted()
        #expect(film.status == 0 && pictures.count > 1, "\(film.output)\(film.errors)")
        #expect(try scratch.read("film/" + (pictures.last ?? "")) == scratch.read("screen.png"))

        // Another image is not the recorded one.
        try Data(count: 1 << 20).write(to: URL(fileURLWithPath: image))
        let wrong = try Program.run("verify", file)
        #expect(wrong.status != 0 && wrong.output.contains("is not the recorded disk0"), "\(wrong.output)")
        let moved = try scratch.write("moved.img", disk())
        #expect(try Program.run("verify", "--disk", moved, file).status == 0)
    }

    @Test(arguments: ["inputs", "devices"])
    func bootsFromTheFloppy(boundary: String) throws {
        let scratch = try Scratch()
        var contents = [UInt8](repeating: 0, count: 1_474_560)
        contents.replaceSubrange(0..<512, with: boot(says: "hello from the floppy. ", sector: 3, usesCylinders: true))
        contents.replaceSubrange(1536..<1552, with: Array("the next sector!".utf8))
        let image = try scratch.write("floppy.img", contents)
        let console = try record(boundary, scratch, ["--floppy", image, "--boot", "a"])
        #expect(console.contains("hello from the floppy. the next sector!"), "\(console)")
        let moved = try scratch.write("moved.img", contents)
        try FileManager.default.removeItem(atPath: image)
        let verify = try Program.run("verify", "--floppy", moved, scratch.path("run.emurec"))
        #expect(verify.status == 0 && verify.output.contains("OK"), "\(verify.output)\(verify.errors)")
    }

    /// The BIOS reads the disk by whatever it is connected to, and the recordings verify.
    @Test(arguments: ["ahci", "virtio", "virtio-legacy"], ["inputs", "devices"])
    func bootsFromOtherControllers(interface: String, boundary: String) throws {
        let scratch = try Scratch()
        let image = try scratch.write("disk.img", disk())
        let console = try record(boundary, scratch, ["--disk", "\(image),if=\(interface)"])
        #expect(console.contains("hello from the disk. the next sector!"), "\(console)")
        let verify = try Program.run("verify", scratch.path("run.emurec"))
        #expect(verify.status == 0 && verify.output.contains("OK"), "\(verify.output)\(verify.errors)")
    }

    @Test func bootsFromTheDisc() throws {
        let scratch = try Scratch()
        let image = try scratch.write("disk.img", disk())
        let disc = try scratch.write("disc.iso", disc())
        let console = try record("inputs", scratch, ["--disk", image, "--cdrom", disc, "--boot", "d"])
        #expect(console.contains("hello from the disc. the next block!"), "\(console)")
        #expect(try Program.run("verify", scratch.path("run.emurec")).status == 0)
    }

    /// `log=data`: the image is another one when the recording is replayed.
    @Test(arguments: ["inputs", "devices"])
    func whatIsReadIsInTheRecording(boundary: String) throws {
        let scratch = try Scratch()
        let image = try scratch.write("disk.img", disk())
        let console = try record(boundary, scratch, ["--disk", "\(image),if=virtio,log=data"])
        #expect(console.contains("hello from the disk. the next sector!"), "\(console)")
        try FileManager.default.removeItem(atPath: image)
        let verify = try Program.run("verify", scratch.path("run.emurec"))
        #expect(verify.status == 0 && verify.output.contains("OK"), "\(verify.output)\(verify.errors)")
        let log = try Program.run("log", scratch.path("run.emurec"))
        #expect(boundary == "devices" || log.output.contains("disk-data of image 16 at 512 512 bytes"))
        if boundary == "inputs" {
            let live = try Program.run("replay", scratch.path("run.emurec"), "--until", "1000000", "--live")
            #expect(live.status != 0 && (live.errors + live.output).contains("log=data"), "\(live.output)\(live.errors)")
        }
    }

    private static var hasQEMU: Bool {
        #if NBD
            FileManager.default.isExecutableFile(atPath: "/usr/bin/qemu-nbd")
        #else
            false
        #endif
    }

    /// Other formats, by a qemu-nbd of the program's own.
    @Test(.enabled(if: hasQEMU, "built without NBD, or there is no qemu-nbd: run scripts/test"), arguments: ["inputs", "devices"], ["qcow2", "vmdk"])
    func bootsFromOtherFormats(boundary: String, format: String) throws {
        let scratch = try Scratch()
        let raw = try scratch.write("disk.img", disk())
        let image = scratch.path("disk.\(format)")
        func qemuImage(_ arguments: String...) throws {
            let process = Process()
            process.executableURL = URL(fileURLWithPath: "/usr/bin/qemu-img")
            process.arguments = arguments
            process.standardOutput = FileHandle.nullDevice
            try process.run()
            process.waitUntilExit()
            try #require(process.terminationStatus == 0)
        }
        try qemuImage("convert", "-O", format, raw, image)
        let before = try Program.digest(image)
        let console = try record(boundary, scratch, ["--disk", "\(image),format=\(format)"])
        #expect(console.contains("hello from the disk. the next sector!"), "\(console)")
        #expect(try Program.digest(image) == before)
        let verify = try Program.run("verify", scratch.path("run.emurec"))
        #expect(verify.status == 0 && verify.output.contains("OK"), "\(verify.output)\(verify.errors)")
        guard format == "qcow2" else { return }
        let top = scratch.path("top.qcow2")
        try qemuImage("create", "-q", "-f", "qcow2", "-b", image, "-F", "qcow2", top)
        for (file, said) in [(top + ",format=qcow2", "backing file"), (image, "give format=qcow2"), (raw + ",format=qcow2", "qemu-nbd")] {
            let (process, _, errors) = try Program.start(["--bios", SeaBIOS.path ?? "", "--disk", file, "--until", "1000"])
            let text = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
            process.waitUntilExit()
            #expect(process.terminationStatus != 0 && text.contains(said), "\(file): \(text)")
        }
        let logged = try record(boundary, scratch, ["--disk", "\(top),format=qcow2,log=data"])
        #expect(logged.contains("hello from the disk. the next sector!"))
        try FileManager.default.removeItem(atPath: top)
        #expect(try Program.run("verify", scratch.path("run.emurec")).status == 0)
    }

    @Test func whatDoesNotGoTogether() throws {
        let scratch = try Scratch()
        let image = try scratch.write("disk.img", disk())
        for (arguments, text) in [
            (["--memory", "32M"], "nothing to boot"), (["--disk", image, "--boot", "x"], "--boot is"),
            (["--disk", scratch.path("none")], "cannot be opened"), (["--floppy", image], "no floppy disk's size"),
            (["--disk", image, "--monitor", "stdio"], "--monitor stdio"), (["--bios", image, "--disk", image, "--append", "x"], "--kernel"),
            (["--boundary=inputs", "--bios", SeaBIOS.path ?? "", "--disk", image, "--writable"], "--writable"),
            (["--bios", scratch.path("none"), "--disk", image], "no such file"),
        ] as [([String], String)] {
            let (process, _, errors) = try Program.start(arguments)
            let said = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
            process.waitUntilExit()
            #expect(process.terminationStatus != 0 && said.contains(text), "\(arguments): \(said)")
        }
    }
}
