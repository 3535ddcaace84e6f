import Boundary
import Machine

/// A guest's call stack at a place of a replay, as far as it can be seen without unwind tables: what on the stack is an address
/// behind a call instruction. Old addresses that lie there still look the same.
struct StackWalk {
    private let machine: PCMachine
    /// Bytes of the stack that are looked at.
    private static let depth = 2048

    init(_ machine: PCMachine) { self.machine = machine }

    /// The addresses that the present function returns to, and its callers, the innermost first; at most `count`.
    /// - Parameter isCode: whether something is a function's.
    func callers(_ count: Int, isCode: (UInt64) -> Bool) -> [UInt64] {
        let isLong = machine.architectureNow == machine.architectures[0]
        let word = isLong ? 8 : 4
        let stack = machine.stackPointer
        var found: [UInt64] = []
        // The rest of the page, and the next ones as far as they are there.
        var bytes: [UInt8] = []
        while bytes.count < Self.depth {
            let address = stack &+ UInt64(bytes.count)
            let piece = min(Self.depth - bytes.count, Int(4096 - address % 4096))
            guard let more = machine.readMemory(address, count: piece, isPhysical: false) else { break }
            bytes += more
        }
        for offset in stride(from: 0, through: bytes.count - word, by: word) where found.count < count {
            let value = (0..<word).reduce(UInt64(0)) { $0 | UInt64(bytes[offset + $1]) << UInt64($1 * 8) }
            if isCode(value), isBehindCall(value) { found.append(value) }
        }
        return found
    }

    /// The bytes before are a call: near with a displacement, or through a register or memory (SDM, CALL).
    private func isBehindCall(_ address: UInt64) -> Bool {
        guard address > 16, let before = machine.readMemory(address - 7, count: 7, isPhysical: false) else { return false }
        if before[2] == 0xE8 { return true }
        for length in 2...7 where before[7 - length] == 0xFF && before[8 - length] >> 3 & 7 == 2 { return true }
        return false
    }
}
