/// A decoded instruction: what the opcode maps and the bytes say, before any meaning.
package struct Instruction {
    package var operation: Operation = .invalid
    /// Operand forms from the map.
    package var first: Operand = .none
    package var second: Operand = .none
    package var third: Operand = .none
    /// The opcode byte within its map, the map (0: one byte, 1: 0F, 2: 0F 38, 3: 0F 3A).
    package var opcode: UInt8 = 0
    package var map: UInt8 = 0
    /// Logarithm of the operand size in bytes: 1, 2 or 3. And of the address size: 1, 2 or 3.
    package var operandSize: UInt8 = 2
    package var addressSize: UInt8 = 2
    /// Prefixes. The segment override's number, or -1.
    package var segment: Int8 = -1
    package var hasRep = false  // F3
    package var hasRepne = false  // F2
    package var hasLock = false
    package var hasOperandSize = false  // 66
    package var rex: UInt8 = 0
    /// ModRM fields with REX extensions applied: `reg` 0...15, `rm` 0...15.
    package var hasModRM = false
    package var mod: UInt8 = 0
    package var reg: UInt8 = 0
    package var rm: UInt8 = 0
    /// Memory operand: register numbers or -1; `base` -2 is RIP-relative. 16-bit forms have both as they are.
    package var base: Int8 = -1
    package var index: Int8 = -1
    package var scale: UInt8 = 0
    package var displacement: Int64 = 0
    package var immediate: UInt64 = 0
    package var immediate2: UInt64 = 0
    /// Bytes in all, 1...15.
    package var length: UInt8 = 0

    package var isMemory: Bool { hasModRM && mod != 3 }
    package var hasREX: Bool { rex != 0 }
    package var rexW: Bool { rex & 8 != 0 }
    package init() {}
}
