import CPUCore

extension X86CPU {
    /// What the engine did, as lines for a person (`--stats`).
    /// - Parameter seconds: host time that it took.
    package func statistics(seconds: Double) -> [String] {
        func count(_ value: Int) -> String { String(value) }
        let instructions = Double(state.pointee.core.position)
        var lines = [
            "stats: \(state.pointee.core.position) instructions, \(Int(instructions / max(seconds, 1e-9) / 1e6)) million a second",
            "stats: \(blocks.translated) blocks translated, \(blocks.invalidations) pages of code invalidated, "
                + "\(blocks.flushes) times all was forgotten, \(blocks.clears) times the jump cache was cleared",
        ]
        #if arch(x86_64)
            if let generator {
                let exits = generator.exitCounts
                lines += [
                    "stats: \(generator.compiled) blocks compiled, \(generator.codeBytesUsed) bytes of code",
                    "stats: left generated code for: unknown target \(exits[1]), horizon \(exits[2]), mode or interrupt "
                        + "flag \(exits[3]), fault \(exits[4] + exits[5]), device or changed code \(exits[6])",
                    "stats: \(generator.slowOps) micro-ops by the interpreter: "
                        + generator.slowOpsByKind.prefix(12).map { "\($0.0) \($0.1)" }.joined(separator: ", "),
                ]
            }
        #endif
        return lines
    }
}
