/// A Multiboot ELF kernel of our own: it checks the loader's magic number, writes to the serial port, computes for a
/// while with interrupts off, and ends the run by isa-debug-exit.
enum MultibootKernel {
    static let base: UInt32 = 0x10_0000

    /// - Parameter spins: iterations of a loop of two instructions; 0 for none.
    static func bytes(says text: String, spins: UInt32 = 1000) -> [UInt8] {
        var code: [UInt8] = [0x3D] + little(0x2BAD_B002)  // cmp eax, magic
        code += [0x74, 0x02, 0xFA, 0xF4]  // je +2; cli; hlt: a wrong loader hangs here
        code += [0x66, 0xBA, 0xF8, 0x03]  // mov dx, 0x3F8
        for byte in text.utf8 { code += [0xB0, byte, 0xEE] }  // mov al, byte; out dx, al
        code += [0xB9] + little(max(spins, 1))  // mov ecx, spins
        code += [0x49, 0x75, 0xFD]  // dec ecx; jnz
        code += [0xB0, 0x15, 0xE6, 0xF4]  // mov al, 0x15; out 0xF4, al
        code += [0xFA, 0xF4]  // cli; hlt
        // Multiboot header, then the code.
        let magic: UInt32 = 0x1BAD_B002
        let segment = little(magic) + little(0) + little(0 &- magic) + code
        let headerSize: UInt32 = 52
        let entry = base + 12
        var elf: [UInt8] = [0x7F, 0x45, 0x4C, 0x46, 1, 1, 1, 0] + [UInt8](repeating: 0, count: 8)
        elf += [2, 0, 3, 0] + little(1) + little(entry) + little(headerSize) + little(0) + little(0)
        elf += [52, 0, 32, 0, 1, 0, 40, 0, 0, 0, 0, 0]
        let offset = headerSize + 32
        let size = UInt32(segment.count)
        elf += little(1) + little(offset) + little(base) + little(base) + little(size) + little(size) + little(5) + little(4)
        return elf + segment
    }

    private static func little(_ value: UInt32) -> [UInt8] {
        (0..<4).map { UInt8(truncatingIfNeeded: value >> UInt32($0 * 8)) }
    }
}
