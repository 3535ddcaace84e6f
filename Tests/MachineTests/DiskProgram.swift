/// A ROM whose program talks to the IDE controller without any other firmware: real mode, built instruction by
/// instruction.
struct DiskProgram {
    private var code: [UInt8] = []

    /// The program's ports.
    private static let console: UInt16 = 0x402

    init() {
        // xor ax, ax; mov ds, ax; mov es, ax; mov ss, ax; mov sp, 0x7000; cld
        code += [0x31, 0xC0, 0x8E, 0xD8, 0x8E, 0xC0, 0x8E, 0xD0, 0xBC, 0x00, 0x70, 0xFC]
        // PCI function 0:1.1: both channels decoded, bus master registers at 0xC000, I/O and bus master on.
        out32(0xCF8, 0x8000_0940)
        out32(0xCFC, 0x8000_8000)
        out32(0xCF8, 0x8000_0920)
        out32(0xCFC, 0xC000)
        out32(0xCF8, 0x8000_0904)
        out32(0xCFC, 5)
    }

    mutating func out8(_ port: UInt16, _ value: UInt8) { code += [0xBA] + little(port) + [0xB0, value, 0xEE] }
    mutating func out32(_ port: UInt16, _ value: UInt32) {
        code += [0x66, 0xB8] + little(UInt16(value & 0xFFFF)) + little(UInt16(value >> 16)) + [0xBA] + little(port) + [0x66, 0xEF]
    }
    /// mov dword [address], value
    mutating func store32(_ address: UInt16, _ value: UInt32) {
        code += [0x66, 0xC7, 0x06] + little(address) + little(UInt16(value & 0xFFFF)) + little(UInt16(value >> 16))
    }
    private func little(_ value: UInt16) -> [UInt8] { [UInt8(value & 0xFF), UInt8(value >> 8)] }

    /// Waits until the disk is not busy, by polling, then says its status on the console.
    mutating func waitAndTell() {
        // mov dx, 0x3F6; in al, dx; test al, 0x80; jnz; mov dx, 0x1F7; in al, dx; mov dx, console; out dx, al
        code += [0xBA, 0xF6, 0x03, 0xEC, 0xA8, 0x80, 0x75, 0xFB, 0xBA, 0xF7, 0x01, 0xEC, 0xBA] + little(Self.console) + [0xEE]
    }
    mutating func address(_ lba: UInt32, _ count: UInt8) {
        out8(0x1F6, 0xE0)
        out8(0x1F2, count)
        out8(0x1F3, UInt8(lba & 0xFF))
        out8(0x1F4, UInt8(lba >> 8 & 0xFF))
        out8(0x1F5, UInt8(lba >> 16 & 0xFF))
    }
    /// One region of `count` bytes at `buffer`; `toMemory`: the disk is read.
    mutating func startDMA(_ buffer: UInt16, _ count: UInt16, toMemory: Bool) {
        store32(0x600, UInt32(buffer))
        store32(0x604, 0x8000_0000 | UInt32(count))
        out8(0xC000, 0)
        out32(0xC004, 0x600)
        out8(0xC000, toMemory ? 9 : 1)
    }
    mutating func command(_ command: UInt8) { out8(0x1F7, command) }
    /// Reads `words` from the data register: mov di, buffer; mov cx, words; mov dx, 0x1F0; rep insw
    mutating func readData(_ buffer: UInt16, words: UInt16) {
        code += [0xBF] + little(buffer) + [0xB9] + little(words) + [0xBA, 0xF0, 0x01, 0xF3, 0x6D]
    }
    /// Bytes of memory to the console: mov si, buffer; mov cx, count; mov dx, console; rep outsb
    mutating func tell(_ buffer: UInt16, _ count: UInt16) {
        code += [0xBE] + little(buffer) + [0xB9] + little(count) + [0xBA] + little(Self.console) + [0xF3, 0x6E]
    }
    /// Fills memory: mov di; mov cx; mov al; rep stosb
    mutating func fill(_ buffer: UInt16, _ count: UInt16, _ value: UInt8) {
        code += [0xBF] + little(buffer) + [0xB9] + little(count) + [0xB0, value, 0xF3, 0xAA]
    }

    /// The ROM, 128 KiB. The program ends by isa-debug-exit.
    var rom: [UInt8] {
        var program = self
        program.out8(0xF4, 7)
        program.code += [0xFA, 0xF4]
        var rom = [UInt8](repeating: 0, count: 0x2_0000)
        rom.replaceSubrange(0x1_0000..<0x1_0000 + program.code.count, with: program.code)
        // At the reset vector: jmp F000:0000.
        rom.replaceSubrange(0x1_FFF0..<0x1_FFF5, with: [0xEA, 0x00, 0x00, 0x00, 0xF0])
        return rom
    }
}
