import Machine
import MachineState
import Testing

/// Made-up kernel images, right in every field that a loader looks at.
enum TestKernels {
    /// A bzImage of protocol 2.15 with `codeSize` bytes of protected-mode code.
    static func linux(codeSize: Int = 0x8000) -> [UInt8] {
        var image = ByteWriter(zeros: 512 * 5 + codeSize)
        image.set8(0x1F1, 4)
        image.set32(0x1F4, UInt32(codeSize / 16))
        image.set16(0x1FE, 0xAA55)
        image.set(0x200, [0xEB, 0x6A])
        image.set(0x202, Array("HdrS".utf8))
        image.set16(0x206, 0x020F)
        image.set8(0x211, 1)
        image.set32(0x214, 0x10_0000)
        image.set32(0x22C, 0x7FFF_FFFF)
        image.set32(0x230, 0x20_0000)
        image.set8(0x234, 1)
        image.set16(0x236, 0x3F)
        image.set32(0x238, 2047)
        image.set32(0x248, 0x100)
        image.set32(0x24C, 0x200)
        image.set64(0x258, 0x100_0000)
        image.set32(0x260, 0x200_0000)
        for index in 0..<codeSize { image.set8(512 * 5 + index, UInt8(truncatingIfNeeded: index &* 7)) }
        return image.bytes
    }

    /// An ELF Multiboot kernel of one segment at 2 MiB, linked 0xC0000000 higher.
    static func multibootELF(is64: Bool = false) -> [UInt8] {
        let header = is64 ? 64 : 52
        let entrySize = is64 ? 56 : 32
        let start = 256
        var image = ByteWriter(zeros: start + 512)
        image.set(0, [0x7F, 0x45, 0x4C, 0x46, is64 ? 2 : 1, 1, 1])
        image.set16(16, 2)
        image.set16(18, is64 ? 62 : 3)
        let entry: UInt64 = 0xC020_0010
        if is64 {
            image.set64(24, entry)
            image.set64(32, UInt64(header))
            image.set16(54, UInt16(entrySize))
            image.set16(56, 1)
            image.set32(header, 1)
            for (offset, value) in [(8, 256), (16, 0xC020_0000), (24, 0x20_0000), (32, 512), (40, 4096)]
                as [(Int, UInt64)]
            {
                image.set64(header + offset, value)
            }
        } else {
            image.set32(24, UInt32(entry))
            image.set32(28, UInt32(header))
            image.set16(42, UInt16(entrySize))
            image.set16(44, 1)
            for (offset, value) in [(0, 1), (4, 256), (8, 0xC020_0000), (12, 0x20_0000), (16, 512), (20, 4096)]
                as [(Int, UInt32)]
            {
                image.set32(header + offset, value)
            }
        }
        image.set32(start + 64, 0x1BAD_B002)
        image.set32(start + 68, 3)
        image.set32(start + 72, 0 &- 0x1BAD_B002 &- 3)
        return image.bytes
    }

    /// A flat Multiboot kernel that tells its addresses in the header.
    static func multibootFlat() -> [UInt8] {
        var image = ByteWriter(zeros: 256)
        let fields: [UInt32] = [
            0x1BAD_B002, 0x1_0003, 0 &- 0x1BAD_B002 &- 0x1_0003, 0x10_0010, 0x10_0000, 0, 0x10_2000, 0x10_0030,
        ]
        for (index, value) in fields.enumerated() { image.set32(16 + index * 4, value) }
        return image.bytes
    }
}

/// RAM as the blobs leave it.
struct LoadedMemory {
    let blobs: [MemoryBlob]
    func bytes(_ address: UInt64, _ count: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        for blob in blobs {
            for index in 0..<count {
                let place = address + UInt64(index)
                if place >= blob.address, place < blob.address + UInt64(blob.bytes.count) {
                    bytes[index] = blob.bytes[Int(place - blob.address)]
                }
            }
        }
        return bytes
    }
    func word(_ address: UInt64, _ count: Int = 4) -> UInt64 {
        bytes(address, count).reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
    func text(_ address: UInt64) -> String {
        String(decoding: bytes(address, 200).prefix { $0 != 0 }, as: UTF8.self)
    }
}

struct BootLoaderTests {
    let memory = try! MemoryMap(size: 256 << 20)

    @Test func memoryMap() throws {
        let big = try MemoryMap(size: 8 << 30)
        #expect(big.lowEnd == 0xC000_0000 && big.highSize == 5 << 30)
        #expect(big.entries.last?.start == 1 << 32 && big.entries.last?.kind == .usable)
        #expect(big.entries.filter { $0.kind == .usable }.reduce(0) { $0 + $1.size } > (8 << 30) - (1 << 20))
        #expect(memory.e820.count == 20 * 4)
        #expect(memory.isUsable(0x10_0000, 255 << 20) && !memory.isUsable(0x10_0000, 255 << 20 + 1))
        #expect(!memory.isUsable(.max, 2) && !memory.isUsable(0x9_FC00, 1))
        for size in [0, 1 << 20, 9 << 30, 16 << 20 + 1] as [UInt64] {
            #expect(throws: BootError.self) { try MemoryMap(size: size) }
        }
    }

    @Test func linuxProtectedMode() throws {
        let initrd = [UInt8](repeating: 0xAB, count: 5000)
        let kernel = TestKernels.linux()
        let image = try LinuxLoader(
            kernel: kernel, initrd: initrd, commandLine: "console=ttyS0", memory: memory, acpiRoot: 0xF_0000
        ).load()
        let ram = LoadedMemory(blobs: image.blobs)
        #expect(image.state.mode == .protected32 && image.state.entry == 0x10_0000)
        #expect(ram.bytes(0x10_0000, 64) == Array(kernel[2560..<2624]))
        #expect(ram.bytes(image.state.gdtBase + 0x10, 8) == [0xFF, 0xFF, 0, 0, 0, 0x9B, 0xCF, 0])
        let page = image.state.source
        #expect(ram.bytes(page + 0x202, 4) == Array("HdrS".utf8))
        #expect(ram.text(ram.word(page + 0x228)) == "console=ttyS0")
        let start = ram.word(page + 0x218)
        #expect(start == (256 << 20) - 8192 && ram.word(page + 0x21C) == 5000)
        #expect(ram.bytes(start, 5000) == initrd)
        #expect(ram.word(page + 0x1E8, 1) == 4)
        #expect(ram.bytes(page + 0x2D0, 80) == memory.e820)
        #expect(ram.word(page + 0x70, 8) == 0xF_0000)
        #expect(ram.word(page + 0x1EF, 1) == 0, "the sentinel")
        #expect(ram.bytes(page + 7, 1) == [80] && ram.bytes(page + 0x0E, 2) == [25, 1])
        #expect(ram.word(page + 0x210, 1) == 0xFF)
        for blob in image.blobs {
            #expect(
                memory.isUsable(blob.address, UInt64(blob.bytes.count)) || blob.address == MemoryMap.extendedBIOSData)
        }
        for (index, first) in image.blobs.enumerated() {
            for second in image.blobs[(index + 1)...] {
                #expect(first.end <= second.address || second.end <= first.address)
            }
        }
    }

    @Test func linuxLongMode() throws {
        let image = try LinuxLoader(kernel: TestKernels.linux(), memory: memory, entry: .long64).load()
        let ram = LoadedMemory(blobs: image.blobs)
        #expect(image.state.mode == .long64 && image.state.entry == 0x10_0200)
        // Walk to 0xFEE12345.
        let target: UInt64 = 0xFEE1_2345
        let directories = ram.word(image.state.pageTables, 8) & ~0xFFF
        let directory = ram.word(directories + (target >> 30) * 8, 8) & ~0xFFF
        let entry = ram.word(directory + (target >> 21 & 511) * 8, 8)
        #expect(entry == target & ~0x1F_FFFF | 0x83)
        #expect(ram.bytes(image.state.gdtBase + 0x16, 1) == [0xAF])
        var old = TestKernels.linux()
        old[0x236] = 0
        #expect(throws: BootError("the kernel has no 64-bit entry")) {
            try LinuxLoader(kernel: old, memory: memory, entry: .long64).load()
        }
    }

    @Test func linuxErrorsSayWhatIsWrong() throws {
        func message(_ change: (inout LinuxLoader) -> Void) -> String {
            var loader = LinuxLoader(kernel: TestKernels.linux(), memory: memory)
            change(&loader)
            do {
                _ = try loader.load()
                return "no error"
            } catch { return error.description }
        }
        #expect(message { $0.kernel = [] }.contains("not a Linux kernel"))
        #expect(message { $0.kernel[0x202] = 0 }.contains("no setup header"))
        #expect(message { $0.kernel.removeLast(100) }.contains("truncated"))
        #expect(message { $0.kernel[0x211] = 0 }.contains("zImage"))
        #expect(message { $0.kernel[0x206] = 1 }.contains("boot protocol 2.1;"))
        #expect(message { $0.commandLine = String(repeating: "x", count: 3000) }.contains("takes 2047"))
        #expect(message { $0.commandLine = "a\0b" }.contains("zero byte"))
        #expect(message { $0.memory = try! MemoryMap(size: 16 << 20) }.contains("needs RAM up to 48 MiB"))
        #expect(message { $0.initrd = [UInt8](repeating: 0, count: 250 << 20) }.contains("free behind the kernel"))
    }

    @Test func multiboot() throws {
        for is64 in [false, true] {
            let kernel = TestKernels.multibootELF(is64: is64)
            let image = try ELFLoader(
                kernel: kernel, modules: [.init(bytes: [1, 2, 3], commandLine: "mod")], commandLine: "hello",
                memory: memory
            ).load()
            let ram = LoadedMemory(blobs: image.blobs)
            #expect(image.state.entry == 0x20_0010 && image.state.a == 0x2BAD_B002)
            #expect(ram.bytes(0x20_0000, 512) == Array(kernel[256...]))
            #expect(image.blobs[0].zeros == 4096 - 512)
            let info = UInt64(image.state.b)
            #expect(ram.word(info) == 0x24D)
            #expect(ram.word(info + 8) == 255 * 1024)
            #expect(ram.text(ram.word(info + 16)) == "hello")
            let module = ram.word(info + 24)
            #expect(ram.word(info + 20) == 1 && ram.word(module) == 0x20_1000 && ram.word(module + 4) == 0x20_1003)
            #expect(ram.text(ram.word(module + 8)) == "mod")
            #expect(ram.bytes(0x20_1000, 3) == [1, 2, 3])
            #expect(ram.word(info + 44) == 96)
            let map = ram.word(info + 48)
            #expect(ram.word(map + 72 + 4, 8) == 0x10_0000 && ram.word(map + 72 + 20) == 1)
            #expect(ram.bytes(image.state.gdtBase + 0x18, 8) == [0xFF, 0xFF, 0, 0, 0, 0x93, 0xCF, 0])
        }
        let flat = try ELFLoader(kernel: TestKernels.multibootFlat(), memory: memory).load()
        #expect(flat.blobs[0] == MemoryBlob(address: 0x10_0000, bytes: TestKernels.multibootFlat(), zeros: 0x1F00))
        #expect(flat.state.entry == 0x10_0030)
    }

    /// Damaged images give an error, or an image that stays within RAM.
    @Test(arguments: [UInt64](1...4))
    func damagedImages(seed: UInt64) {
        var random = TestRandom(seed)
        let originals = [
            TestKernels.linux(codeSize: 1024), TestKernels.multibootELF(), TestKernels.multibootELF(is64: true),
            TestKernels.multibootFlat(),
        ]
        var loaded = 0
        for round in 0..<4000 {
            var image = originals[round % 4]
            let header = round % 4 == 0 ? 0x1F0..<0x268 : 0..<min(340, image.count)
            if random.below(3) == 0 { image.removeLast(random.below(image.count)) }
            for _ in 0..<1 + random.below(4) {
                let place = header.lowerBound + random.below(header.count)
                let values: [UInt8] = [0, 0xFF, 0x80, 0x7F, UInt8(random.below(256))]
                if place < image.count { image[place] = values[random.below(5)] }
            }
            do {
                let result =
                    round % 4 == 0
                    ? try LinuxLoader(
                        kernel: image, initrd: random.bytes(10), memory: memory,
                        entry: round % 8 == 0 ? .protected32 : .long64
                    ).load()
                    : try ELFLoader(kernel: image, modules: [.init(bytes: [1])], memory: memory).load()
                loaded += 1
                for blob in result.blobs { #expect(blob.end <= memory.lowEnd) }
            } catch {
                #expect(!error.description.isEmpty)
            }
        }
        #expect(loaded > 100)
    }
}
