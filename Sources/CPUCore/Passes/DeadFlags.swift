extension BlockBuilder {
    /// Turns operations whose flags are overwritten before anything can see them into ones without flags.
    ///
    /// A load, a store or a helper may fault or leave, and then the flags must stand: they count as readers.
    package func removeDeadFlags() {
        var dead = false
        var index = opCount - 1
        while index >= 0 {
            let opcode = ops[index].opcode
            switch opcode.flagUse {
            case .none: break
            case .passes:
                if dead, opcode >= .incF8, opcode <= .decF64 {
                    ops[index].opcode = (opcode <= .incF64 ? Opcode.addI8 : .subI8).sized(opcode.width)
                    ops[index].imm = 1
                }
            case .writesAll:
                if dead, let plain = opcode.withoutFlags { ops[index].opcode = plain }
                dead = true
            case .reads, .barrier: dead = false
            }
            index -= 1
        }
    }
}
