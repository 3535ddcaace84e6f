import CPUCore

extension X86CPU {
    /// From now on the time that translation takes is measured, for `statistics`.
    package func measureTime() {
        measuresTime = true
        #if arch(x86_64)
            generator?.measuresTime = true
        #endif
    }

    /// See `X64Engine.writePerfMap`.
    package func writePerfMap() -> String? {
        #if arch(x86_64)
            return generator?.writePerfMap()
        #else
            return nil
        #endif
    }

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
        func share(_ time: UInt64) -> String {
            let percent = Int(Double(time) / max(seconds * 1e7, 1))
            return "\(time / 1_000_000) ms, \(percent) %"
        }
        lines.append(
            "stats: translation took \(share(translationTime)); TLB: \(tlbMisses) misses, \(tlbFlushes) times emptied, "
                + "\(tlbChanges) pages taken out")
        #if arch(x86_64)
            if let generator {
                lines.append("stats: code generation took \(share(generator.compileTime))")
                let exits = generator.exitCounts
                lines += [
                    "stats: \(generator.compiled) blocks compiled, \(generator.codeBytesUsed) bytes of code, and \(generator.coldBytesUsed) seldom executed",
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
