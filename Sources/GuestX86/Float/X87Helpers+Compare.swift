import CPUCore

extension X87Helpers {
    static func installComparisons(_ table: Table) {
        table.set(.compareAndPopTwice) { s, d, _, imm in
            step(s, d, imm) { fpu, c, _ in compare(&fpu, &c, operand(fpu, 1), isQuiet: false, pops: 2) }
        }
        table.set(.unorderedCompare) { s, d, _, imm in
            step(s, d, imm) { fpu, c, index in compare(&fpu, &c, operand(fpu, index), isQuiet: true, pops: 0) }
        }
        table.set(.unorderedCompareAndPop) { s, d, _, imm in
            step(s, d, imm) { fpu, c, index in compare(&fpu, &c, operand(fpu, index), isQuiet: true, pops: 1) }
        }
        table.set(.unorderedCompareAndPopTwice) { s, d, _, imm in
            step(s, d, imm) { fpu, c, _ in compare(&fpu, &c, operand(fpu, 1), isQuiet: true, pops: 2) }
        }
        table.set(.test) { s, d, _, imm in
            step(s, d, imm) { fpu, c, _ in
                compare(&fpu, &c, ExtendedFloat(.zero(false)), isQuiet: false, pops: 0)
            }
        }
        table.set(.compareFlags) { s, d, _, imm in
            step(s, d, imm) { fpu, c, index in compareFlags(s, &fpu, &c, index, isQuiet: false, pops: false) }
        }
        table.set(.compareFlagsAndPop) { s, d, _, imm in
            step(s, d, imm) { fpu, c, index in compareFlags(s, &fpu, &c, index, isQuiet: false, pops: true) }
        }
        table.set(.unorderedCompareFlags) { s, d, _, imm in
            step(s, d, imm) { fpu, c, index in compareFlags(s, &fpu, &c, index, isQuiet: true, pops: false) }
        }
        table.set(.unorderedCompareFlagsAndPop) { s, d, _, imm in
            step(s, d, imm) { fpu, c, index in compareFlags(s, &fpu, &c, index, isQuiet: true, pops: true) }
        }
        // Class in C3, C2, C0, sign in C1; an empty register has a sign, too (SDM volume 2, FXAM).
        table.set(.examine) { s, d, _, imm in
            step(s, d, imm) { fpu, _, _ in
                var conditions: UInt16 = fpu[0].sign ? FPUState.Status.c1 : 0
                if fpu.isEmpty(0) {
                    conditions |= FPUState.Status.c3 | FPUState.Status.c0
                } else {
                    switch ExtendedFloat(fpu[0]).kind {
                    case .unsupported: break
                    case .quietNaN, .signalingNaN: conditions |= FPUState.Status.c0
                    case .normal: conditions |= FPUState.Status.c2
                    case .infinity: conditions |= FPUState.Status.c2 | FPUState.Status.c0
                    case .zero: conditions |= FPUState.Status.c3
                    case .denormal: conditions |= FPUState.Status.c3 | FPUState.Status.c2
                    }
                }
                fpu.status = fpu.status & ~FPUState.Status.conditions | conditions
            }
        }
    }
}

/// ST(0) against `other`: the outcome goes to C3, C2, C0.
func compare(_ fpu: inout FPUState, _ c: inout X87Context, _ other: ExtendedFloat?, isQuiet: Bool, pops: Int) {
    let unordered = FPUState.Status.c3 | FPUState.Status.c2 | FPUState.Status.c0
    guard let top = operand(fpu, 0), let other else {
        let isMasked = fpu.stackFault(isOverflow: false)
        fpu.status |= unordered
        guard isMasked else { return }
        for _ in 0..<pops { fpu.pop() }
        return
    }
    let conditions: UInt16
    switch X87Arithmetic.compare(top, other, isQuiet: isQuiet, &c) {
    case .less: conditions = FPUState.Status.c0
    case .equal: conditions = FPUState.Status.c3
    case .greater: conditions = 0
    case .unordered: conditions = unordered
    }
    // An unmasked exception keeps the stack, not the outcome.
    fpu.status = fpu.status & ~unordered | conditions
    fpu.commit(c)
    if c.isStopped { return }
    for _ in 0..<pops { fpu.pop() }
}

/// ST(0) against ST(index): the outcome goes to ZF, PF, CF.
private func compareFlags(
    _ s: UnsafeMutableRawPointer, _ fpu: inout FPUState, _ c: inout X87Context, _ index: Int, isQuiet: Bool, pops: Bool
) {
    let unordered = Flags.zf | Flags.pf | Flags.cf
    guard let top = operand(fpu, 0), let other = operand(fpu, index) else {
        let isMasked = fpu.stackFault(isOverflow: false)
        setFlags(s, unordered)
        if isMasked, pops { fpu.pop() }
        return
    }
    let flags: UInt32
    switch X87Arithmetic.compare(top, other, isQuiet: isQuiet, &c) {
    case .less: flags = Flags.cf
    case .equal: flags = Flags.zf
    case .greater: flags = 0
    case .unordered: flags = unordered
    }
    // These leave C1 as it is.
    fpu.raise(c.flags)
    setFlags(s, flags)
    if pops, !c.isStopped { fpu.pop() }
}
