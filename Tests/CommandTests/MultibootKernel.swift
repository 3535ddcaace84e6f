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
        return bytes(running: code)
    }

    /// A kernel of these instructions (32 bits; interrupts are off, nothing has been set up), which then ends the run.
    static func bytes(running instructions: [UInt8]) -> [UInt8] {
        var code = instructions
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

    /// Reads one sector of the primary IDE drive by PIO, polling, and writes its first `count` bytes to the serial port.
    /// - Parameters:
    ///   - extra: writes the features register before the command, which nobody needs.
    ///   - pieces: `REP INSW` so often for a sector.
    static func readingSector(_ sector: UInt8, count: UInt8, extra: Bool = false, pieces: UInt32 = 1) -> [UInt8] {
        func out(_ port: UInt16, _ value: UInt8) -> [UInt8] {
            [0x66, 0xBA, UInt8(port & 0xFF), UInt8(port >> 8), 0xB0, value, 0xEE]  // mov dx, port; mov al, value; out dx, al
        }
        let buffer: UInt32 = 0x20_0000
        var code: [UInt8] = []
        if extra { code += out(0x1F1, 5) }
        code += out(0x1F6, 0xE0) + out(0x1F2, 1) + out(0x1F3, sector) + out(0x1F4, 0) + out(0x1F5, 0) + out(0x1F7, 0x20)
        // mov dx, 0x1F7; in al, dx; and al, 0x88; cmp al, 8; jnz: until there is data.
        code += [0x66, 0xBA, 0xF7, 0x01, 0xEC, 0x24, 0x88, 0x3C, 0x08, 0x75, 0xF9]
        code += [0xFC, 0xBF] + little(buffer)  // cld; mov edi, buffer
        for _ in 0..<pieces {
            // mov ecx, words; mov dx, 0x1F0; rep insw
            code += [0xB9] + little(256 / pieces) + [0x66, 0xBA, 0xF0, 0x01, 0x66, 0xF3, 0x6D]
        }
        // mov esi, buffer; mov ecx, count; mov dx, 0x3F8; rep outsb
        code += [0xBE] + little(buffer) + [0xB9] + little(UInt32(count)) + [0x66, 0xBA, 0xF8, 0x03, 0xF3, 0x6E]
        return bytes(running: code)
    }
}
