import CPUCore

extension X87Helpers {
    /// Operations on ST(0), or on ST(0) and ST(1).
    static func installUnary(_ table: Table) {
        table.set(.changeSign) { s, d, _, imm in
            step(s, d, imm) { fpu, c, _ in unary(&fpu, &c) { x, _ in x.bits.negated } }
        }
        table.set(.absolute) { s, d, _, imm in
            step(s, d, imm) { fpu, c, _ in unary(&fpu, &c) { x, _ in x.sign ? x.bits.negated : x.bits } }
        }
        table.set(.squareRoot) { s, d, _, imm in
            step(s, d, imm) { fpu, c, _ in unary(&fpu, &c) { X87Arithmetic.squareRoot($0, &$1) } }
        }
        table.set(.roundToIntegral) { s, d, _, imm in
            step(s, d, imm) { fpu, c, _ in unary(&fpu, &c) { X87Arithmetic.roundToIntegral($0, &$1) } }
        }
        table.set(.exponential) { s, d, _, imm in
            step(s, d, imm) { fpu, c, _ in unary(&fpu, &c) { X87Transcendental.exponential($0.bits, &$1) } }
        }
        table.set(.scale) { s, d, _, imm in
            step(s, d, imm) { fpu, c, _ in
                guard let top = operand(fpu, 0), let by = operand(fpu, 1) else { return underflow(&fpu) }
                let result = X87Arithmetic.scale(top, by: by, &c)
                if !c.isStopped { fpu[0] = result }
                fpu.commit(c)
            }
        }
        table.set(.yLog2) { s, d, _, imm in
            step(s, d, imm) { fpu, c, _ in binary(&fpu, &c) { X87Transcendental.yLog2($0, $1, &$2) } }
        }
        table.set(.yLog2Plus1) { s, d, _, imm in
            step(s, d, imm) { fpu, c, _ in binary(&fpu, &c) { X87Transcendental.yLog2Plus1($0, $1, &$2) } }
        }
        table.set(.arctangent) { s, d, _, imm in
            step(s, d, imm) { fpu, c, _ in binary(&fpu, &c) { X87Transcendental.arctangent($0, $1, &$2) } }
        }
        table.set(.extract) { s, d, _, imm in
            step(s, d, imm) { fpu, c, _ in
                guard let top = operand(fpu, 0) else { return underflow(&fpu, pushes: true) }
                guard fpu.isEmpty(7) else { return overflow(&fpu) }
                let result = X87Arithmetic.extract(top, &c)
                if !c.isStopped {
                    fpu[0] = result.exponent
                    fpu.push(result.significand)
                }
                fpu.commit(c)
            }
        }
        table.set(.remainder) { s, d, _, imm in
            step(s, d, imm) { fpu, c, _ in remainder(&fpu, &c, isNearest: false) }
        }
        table.set(.remainderNearest) { s, d, _, imm in
            step(s, d, imm) { fpu, c, _ in remainder(&fpu, &c, isNearest: true) }
        }
        table.set(.sine) { s, d, _, imm in
            step(s, d, imm) { fpu, c, _ in trigonometric(&fpu, &c, .sine) }
        }
        table.set(.cosine) { s, d, _, imm in
            step(s, d, imm) { fpu, c, _ in trigonometric(&fpu, &c, .cosine) }
        }
        table.set(.sineAndCosine) { s, d, _, imm in
            step(s, d, imm) { fpu, c, _ in trigonometric(&fpu, &c, .both) }
        }
        table.set(.tangent) { s, d, _, imm in
            step(s, d, imm) { fpu, c, _ in trigonometric(&fpu, &c, .tangent) }
        }
    }
}

/// A stack underflow of an instruction whose result goes to ST(0), and for some to a new one as well.
private func underflow(_ fpu: inout FPUState, pushes: Bool = false) {
    guard fpu.stackFault(isOverflow: false) else { return }
    fpu[0] = .indefinite
    if pushes { fpu.push(.indefinite) }
}

/// A stack overflow of an instruction that replaces ST(0) and pushes.
private func overflow(_ fpu: inout FPUState) {
    guard fpu.stackFault(isOverflow: true) else { return }
    fpu[0] = .indefinite
    fpu.push(.indefinite)
}

/// ST(0) = operation(ST(0)).
@inline(__always)
private func unary(
    _ fpu: inout FPUState, _ c: inout X87Context, _ operation: (ExtendedFloat, inout X87Context) -> Float80Bits
) {
    guard let top = operand(fpu, 0) else { return underflow(&fpu) }
    let result = operation(top, &c)
    if !c.isStopped { fpu[0] = result }
    fpu.commit(c)
}

/// ST(1) = operation(ST(0), ST(1)); pop.
@inline(__always)
private func binary(
    _ fpu: inout FPUState, _ c: inout X87Context,
    _ operation: (Float80Bits, Float80Bits, inout X87Context) -> Float80Bits
) {
    if fpu.isEmpty(0) || fpu.isEmpty(1) {
        guard fpu.stackFault(isOverflow: false) else { return }
        fpu[1] = .indefinite
        return fpu.pop()
    }
    let result = operation(fpu[0], fpu[1], &c)
    if !c.isStopped {
        fpu[1] = result
        fpu.pop()
    }
    fpu.commit(c)
}

/// FPREM, FPREM1. The quotient's bits 2, 1, 0 go to C0, C3, C1.
private func remainder(_ fpu: inout FPUState, _ c: inout X87Context, isNearest: Bool) {
    fpu.status &= ~FPUState.Status.c2
    guard let top = operand(fpu, 0), let divisor = operand(fpu, 1) else { return underflow(&fpu) }
    let result = X87Arithmetic.remainder(top, divisor, isNearest: isNearest, &c)
    if c.isStopped { return fpu.commit(c) }
    fpu[0] = result.value
    fpu.commit(c)
    // Without a quotient C3 and C0 stay.
    guard let quotient = result.quotient else { return }
    var conditions: UInt16 = 0
    if result.isPartial {
        conditions = FPUState.Status.c2
    } else {
        if quotient & 4 != 0 { conditions |= FPUState.Status.c0 }
        if quotient & 2 != 0 { conditions |= FPUState.Status.c3 }
        if quotient & 1 != 0 { conditions |= FPUState.Status.c1 }
    }
    fpu.status = fpu.status & ~FPUState.Status.conditions | conditions
}

private func trigonometric(_ fpu: inout FPUState, _ c: inout X87Context, _ wanted: X87Transcendental.Wanted) {
    let pushes = wanted == .both || wanted == .tangent
    fpu.status &= ~FPUState.Status.c2
    if fpu.isEmpty(0) { return underflow(&fpu, pushes: pushes) }
    if pushes, !fpu.isEmpty(7) { return overflow(&fpu) }
    let result = X87Transcendental.trigonometric(fpu[0], wanted, &c)
    if result.isOutOfRange {
        fpu.status = fpu.status & ~FPUState.Status.c1 | FPUState.Status.c2
        return
    }
    if !c.isStopped {
        switch wanted {
        case .sine: fpu[0] = result.sine
        case .cosine: fpu[0] = result.cosine
        case .both:
            fpu[0] = result.sine
            fpu.push(result.cosine)
        case .tangent:
            let isNaN = ExtendedFloat(result.tangent).isNaN
            fpu[0] = result.tangent
            fpu.push(isNaN ? result.tangent : .one)
        }
    }
    fpu.commit(c)
}
