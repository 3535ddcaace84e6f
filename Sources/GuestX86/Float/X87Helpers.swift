import CPUCore

/// Helpers of the x87 instructions. See `X87Operation` for their operands.
enum X87Helpers {
    typealias Table = UnsafeMutablePointer<MicroHelper>

    /// Fills the helpers from `HelperID.x87Base` on, FXSAVE and FXRSTOR.
    static func install(into table: Table) {
        table.set(.checkAvailable) { s, _, _, _ in
            let isAvailable = x86(s).pointee.cr0 & (CR0.em | CR0.ts) == 0
            return isAvailable ? 0 : x86(s).pointee.raise(.deviceNotAvailable)
        }
        table.set(.checkPending) { s, _, _, _ in
            let isPending = x86(s).pointee.fpu.status & FPUState.Status.pending != 0
            return isPending ? x86(s).pointee.raise(.x87) : 0
        }
        installArithmetic(table)
        installLoads(table)
        installStores(table)
        installRegisters(table)
        installComparisons(table)
        installUnary(table)
        installControl(table)
    }

    private static func installArithmetic(_ table: Table) {
        table.set(.arithmeticToTop) { s, d, _, imm in
            step(s, d, imm) { fpu, c, index in arithmetic(&fpu, &c, d, operand(fpu, index), target: 0) }
        }
        table.set(.arithmeticToRegister) { s, d, _, imm in
            step(s, d, imm) { fpu, c, index in arithmetic(&fpu, &c, d, operand(fpu, index), target: index) }
        }
        table.set(.arithmeticAndPop) { s, d, _, imm in
            step(s, d, imm) { fpu, c, index in
                arithmetic(&fpu, &c, d, operand(fpu, index), target: index, pops: true)
            }
        }
        table.set(.arithmetic32) { s, d, a, imm in
            step(s, d, imm) { fpu, c, _ in
                arithmetic(&fpu, &c, d, X87Conversion.from32(UInt32(truncatingIfNeeded: get64(s, a))), target: 0)
            }
        }
        table.set(.arithmetic64) { s, d, a, imm in
            step(s, d, imm) { fpu, c, _ in arithmetic(&fpu, &c, d, X87Conversion.from64(get64(s, a)), target: 0) }
        }
        table.set(.arithmeticInteger16) { s, d, a, imm in
            step(s, d, imm) { fpu, c, _ in
                let value = Int64(Int16(truncatingIfNeeded: get64(s, a)))
                arithmetic(&fpu, &c, d, ExtendedFloat(X87Conversion.fromInteger(value)), target: 0)
            }
        }
        table.set(.arithmeticInteger32) { s, d, a, imm in
            step(s, d, imm) { fpu, c, _ in
                let value = Int64(Int32(truncatingIfNeeded: get64(s, a)))
                arithmetic(&fpu, &c, d, ExtendedFloat(X87Conversion.fromInteger(value)), target: 0)
            }
        }
    }

    private static func installLoads(_ table: Table) {
        table.set(.load32) { s, d, a, imm in
            step(s, d, imm) { fpu, c, _ in
                push(&fpu, &c, X87Conversion.load(X87Conversion.from32(UInt32(truncatingIfNeeded: get64(s, a))), &c))
            }
        }
        table.set(.load64) { s, d, a, imm in
            step(s, d, imm) { fpu, c, _ in
                push(&fpu, &c, X87Conversion.load(X87Conversion.from64(get64(s, a)), &c))
            }
        }
        table.set(.load80) { s, d, a, imm in
            step(s, d, imm) { fpu, c, _ in
                push(&fpu, &c, Float80Bits(significand: get64(s, a), signExponent: get16(s, a + 8)))
            }
        }
        table.set(.loadInteger16) { s, d, a, imm in
            step(s, d, imm) { fpu, c, _ in
                push(&fpu, &c, X87Conversion.fromInteger(Int64(Int16(truncatingIfNeeded: get64(s, a)))))
            }
        }
        table.set(.loadInteger32) { s, d, a, imm in
            step(s, d, imm) { fpu, c, _ in
                push(&fpu, &c, X87Conversion.fromInteger(Int64(Int32(truncatingIfNeeded: get64(s, a)))))
            }
        }
        table.set(.loadInteger64) { s, d, a, imm in
            step(s, d, imm) { fpu, c, _ in push(&fpu, &c, X87Conversion.fromInteger(Int64(bitPattern: get64(s, a)))) }
        }
        table.set(.loadDecimal) { s, d, a, imm in
            step(s, d, imm) { fpu, c, _ in push(&fpu, &c, X87Conversion.fromDecimal(get64(s, a), get16(s, a + 8))) }
        }
        table.set(.loadRegister) { s, d, _, imm in
            step(s, d, imm) { fpu, c, index in
                if fpu.isEmpty(index) {
                    if fpu.stackFault(isOverflow: false) { fpu.push(.indefinite) }
                } else {
                    push(&fpu, &c, fpu[index])
                }
            }
        }
        installConstants(table)
    }

    /// The constants are rounded by RC: their next bits are known (SDM volume 2, FLD1).
    private static func installConstants(_ table: Table) {
        table.set(.loadOne) { s, d, _, imm in step(s, d, imm) { fpu, c, _ in push(&fpu, &c, .one) } }
        table.set(.loadZero) { s, d, _, imm in step(s, d, imm) { fpu, c, _ in push(&fpu, &c, .zero(false)) } }
        table.set(.loadL2T) { s, d, _, imm in
            step(s, d, imm) { fpu, c, _ in push(&fpu, &c, constant(0xD49A_784B_CD1B_8AFE, 0x4000, false, c)) }
        }
        table.set(.loadL2E) { s, d, _, imm in
            step(s, d, imm) { fpu, c, _ in push(&fpu, &c, constant(0xB8AA_3B29_5C17_F0BB, 0x3FFF, true, c)) }
        }
        table.set(.loadPi) { s, d, _, imm in
            step(s, d, imm) { fpu, c, _ in push(&fpu, &c, constant(0xC90F_DAA2_2168_C234, 0x4000, true, c)) }
        }
        table.set(.loadLG2) { s, d, _, imm in
            step(s, d, imm) { fpu, c, _ in push(&fpu, &c, constant(0x9A20_9A84_FBCF_F798, 0x3FFD, true, c)) }
        }
        table.set(.loadLN2) { s, d, _, imm in
            step(s, d, imm) { fpu, c, _ in push(&fpu, &c, constant(0xB172_17F7_D1CF_79AB, 0x3FFE, true, c)) }
        }
    }

    private static func installStores(_ table: Table) {
        table.set(.store32) { s, d, a, imm in
            store(s, d, a, imm, size: 4, indefinite: UInt64(FloatFormat.binary32.defaultNaN)) { x, c in
                UInt64(X87Conversion.to32(x, &c))
            }
        }
        table.set(.store64) { s, d, a, imm in
            store(s, d, a, imm, size: 8, indefinite: FloatFormat.binary64.defaultNaN) { x, c in
                X87Conversion.to64(x, &c)
            }
        }
        table.set(.storeInteger16) { s, d, a, imm in
            store(s, d, a, imm, size: 2, indefinite: 0x8000) { x, c in
                UInt64(bitPattern: X87Conversion.toInteger(x, bits: 16, &c)) & 0xFFFF
            }
        }
        table.set(.storeInteger32) { s, d, a, imm in
            store(s, d, a, imm, size: 4, indefinite: 0x8000_0000) { x, c in
                UInt64(bitPattern: X87Conversion.toInteger(x, bits: 32, &c)) & 0xFFFF_FFFF
            }
        }
        table.set(.storeInteger64) { s, d, a, imm in
            store(s, d, a, imm, size: 8, indefinite: 1 << 63) { x, c in
                UInt64(bitPattern: X87Conversion.toInteger(x, bits: 64, &c))
            }
        }
        table.set(.store80) { s, d, a, imm in storeTen(s, d, a, imm, isDecimal: false) }
        table.set(.storeDecimal) { s, d, a, imm in storeTen(s, d, a, imm, isDecimal: true) }
    }

    private static func installRegisters(_ table: Table) {
        table.set(.storeRegister) { s, d, _, imm in
            step(s, d, imm) { fpu, _, index in storeRegister(&fpu, index, pops: false) }
        }
        table.set(.storeRegisterAndPop) { s, d, _, imm in
            step(s, d, imm) { fpu, _, index in storeRegister(&fpu, index, pops: true) }
        }
        // An encoding without a name (D9 D8): does not mind an empty source.
        table.set(.storeRegisterQuietly) { s, d, _, imm in
            step(s, d, imm) { fpu, _, index in
                fpu.status &= ~FPUState.Status.c1
                if !fpu.isEmpty(0) { fpu[index] = fpu[0] }
                fpu.pop()
            }
        }
        table.set(.exchange) { s, d, _, imm in
            step(s, d, imm) { fpu, _, index in
                fpu.status &= ~FPUState.Status.c1
                if fpu.isEmpty(0) || fpu.isEmpty(index) {
                    guard fpu.stackFault(isOverflow: false) else { return }
                    if fpu.isEmpty(0) { fpu[0] = .indefinite }
                    if fpu.isEmpty(index) { fpu[index] = .indefinite }
                }
                let top = fpu[0]
                fpu[0] = fpu[index]
                fpu[index] = top
            }
        }
        table.set(.conditionalMove) { s, d, _, imm in
            step(s, d, imm) { fpu, _, index in
                if fpu.isEmpty(0) || fpu.isEmpty(index) {
                    if fpu.stackFault(isOverflow: false) { fpu[0] = .indefinite }
                    return
                }
                // DA: b, e, be, u; DB: their contraries.
                let condition: UInt16
                switch d >> 3 & 3 {
                case 0: condition = Condition.b.rawValue
                case 1: condition = Condition.z.rawValue
                case 2: condition = Condition.be.rawValue
                default: condition = Condition.p.rawValue
                }
                let core = x86(s).pointee.core
                if Flags.holds(condition | UInt16(d >> 8 & 1), core.flagResult, core.flagCarry) { fpu[0] = fpu[index] }
            }
        }
        table.set(.free) { s, d, _, imm in
            step(s, d, imm) { fpu, _, index in
                fpu.status &= ~FPUState.Status.c1
                fpu.tagValid &= ~(1 << UInt8((fpu.top + index) & 7))
            }
        }
        table.set(.freeAndPop) { s, d, _, imm in
            step(s, d, imm) { fpu, _, index in
                fpu.status &= ~FPUState.Status.c1
                fpu.tagValid &= ~(1 << UInt8((fpu.top + index) & 7))
                fpu.pop()
            }
        }
        table.set(.nothing) { s, d, _, imm in step(s, d, imm) { _, _, _ in } }
        table.set(.incrementTop) { s, d, _, imm in
            step(s, d, imm) { fpu, _, _ in
                fpu.status &= ~FPUState.Status.c1
                fpu.top += 1
            }
        }
        table.set(.decrementTop) { s, d, _, imm in
            step(s, d, imm) { fpu, _, _ in
                fpu.status &= ~FPUState.Status.c1
                fpu.top -= 1
            }
        }
    }
}

extension UnsafeMutablePointer where Pointee == MicroHelper {
    /// Enters an operation's helper.
    func set(_ operation: X87Operation, _ helper: @escaping MicroHelper) { self[Int(operation.helper)] = helper }
}

// Free functions: a closure that becomes a C function pointer must not capture even a type.

/// A waiting instruction: #MF if an exception waits, else notes the instruction and does it. `body` gets ST's index too.
@inline(__always)
func step(
    _ s: UnsafeMutableRawPointer, _ d: UInt, _ imm: UInt64, _ body: (inout FPUState, inout X87Context, Int) -> Void
) -> UInt64 {
    let state = x86(s)
    if state.pointee.fpu.status & FPUState.Status.pending != 0 { return state.pointee.raise(.x87) }
    state.pointee.fpu.opcode = UInt16(truncatingIfNeeded: d)
    state.pointee.fpu.instructionPointer = imm
    var c = X87Context(control: state.pointee.fpu.control)
    body(&state.pointee.fpu, &c, Int(d & 7))
    return 0
}

/// ST(index), nil when empty.
@inline(__always)
func operand(_ fpu: FPUState, _ index: Int) -> ExtendedFloat? {
    fpu.isEmpty(index) ? nil : ExtendedFloat(fpu[index])
}

/// A constant cut off to 64 bits, whose rest is more than a half or not.
@inline(__always)
private func constant(_ cut: UInt64, _ exponent: UInt16, _ isOverHalf: Bool, _ c: X87Context) -> Float80Bits {
    let up = c.rounding == 2 || (c.rounding == 0 && isOverHalf)
    return Float80Bits(significand: up ? cut + 1 : cut, signExponent: exponent)
}

/// Pushes unless the stack is full or `c` says that an unmasked exception forbids it.
@inline(__always)
func push(_ fpu: inout FPUState, _ c: inout X87Context, _ value: Float80Bits) {
    if !fpu.isEmpty(7) {
        if fpu.stackFault(isOverflow: true) { fpu.push(.indefinite) }
        return
    }
    // A denormal is loaded even if that is not masked.
    if c.flags & FloatFlags.invalid & ~c.masks == 0 { fpu.push(value) }
    fpu.commit(c)
}

/// ST(0) with `other`, by the opcode's reg field; the result goes to ST(target).
private func arithmetic(
    _ fpu: inout FPUState, _ c: inout X87Context, _ opcode: UInt, _ other: ExtendedFloat?, target: Int, pops: Bool = false
) {
    let operation = opcode >> 3 & 7
    if operation & 6 == 2 {
        return compare(&fpu, &c, other, isQuiet: false, pops: operation == 3 ? 1 : pops ? 1 : 0)
    }
    guard let top = operand(fpu, 0), let other else {
        if fpu.stackFault(isOverflow: false) {
            fpu[target] = .indefinite
            if pops { fpu.pop() }
        }
        return
    }
    let result: Float80Bits
    switch operation {
    case 0: result = X87Arithmetic.add(top, other, subtract: false, &c)
    case 1: result = X87Arithmetic.multiply(top, other, &c)
    case 4: result = X87Arithmetic.add(top, other, subtract: true, &c)
    case 5: result = X87Arithmetic.add(other, top, subtract: true, &c)
    case 6: result = X87Arithmetic.divide(top, other, &c)
    default: result = X87Arithmetic.divide(other, top, &c)
    }
    if !c.isStopped {
        fpu[target] = result
        if pops { fpu.pop() }
    }
    fpu.commit(c)
}

private func storeRegister(_ fpu: inout FPUState, _ index: Int, pops: Bool) {
    if fpu.isEmpty(0) {
        guard fpu.stackFault(isOverflow: false) else { return }
        fpu[index] = .indefinite
    } else {
        fpu.status &= ~FPUState.Status.c1
        fpu[index] = fpu[0]
    }
    if pops { fpu.pop() }
}

/// Converts ST(0) and stores it at the address in slot `a`. Faults before anything changes.
@inline(__always)
private func store(
    _ s: UnsafeMutableRawPointer, _ d: UInt, _ a: UInt, _ imm: UInt64, size: Int, indefinite: UInt64,
    _ convert: (Float80Bits, inout X87Context) -> UInt64
) -> UInt64 {
    let state = x86(s)
    if state.pointee.fpu.status & FPUState.Status.pending != 0 { return state.pointee.raise(.x87) }
    let address = get64(s, a)
    let isEmpty = state.pointee.fpu.isEmpty(0)
    var c = X87Context(control: state.pointee.fpu.control)
    var value = indefinite
    var isStored = isEmpty ? c.isMasked(FloatFlags.invalid) : true
    if !isEmpty {
        if d >> 3 & 7 == 1 { c.rounding = 3 }
        value = convert(state.pointee.fpu[0], &c)
        // An unmasked overflow or underflow keeps memory and stack as they are, too.
        let stops = FloatFlags.beforeComputation | FloatFlags.overflow | FloatFlags.underflow
        isStored = c.flags & stops & ~c.masks == 0
        if !isStored {
            c.flags &= ~FloatFlags.precision
            c.isRoundedUp = false
        }
    }
    // The access is checked even when nothing is stored.
    guard isStored
        ? GuestMemory.store(state, address, size: size, value)
        : GuestMemory.checkWritable(state, address, length: size)
    else { return 1 }
    finishStore(&state.pointee.fpu, d, imm, address, c, isEmpty: isEmpty, isStored: isStored)
    return 0
}

private func finishStore(
    _ fpu: inout FPUState, _ d: UInt, _ imm: UInt64, _ address: UInt64, _ c: X87Context, isEmpty: Bool, isStored: Bool
) {
    fpu.opcode = UInt16(truncatingIfNeeded: d)
    fpu.instructionPointer = imm
    fpu.dataPointer = address
    if isEmpty { _ = fpu.stackFault(isOverflow: false) } else { fpu.commit(c) }
    if isStored, d >> 3 & 7 != 2 { fpu.pop() }
}

/// FSTP m80, FBSTP: ten bytes, all or nothing.
private func storeTen(
    _ s: UnsafeMutableRawPointer, _ d: UInt, _ a: UInt, _ imm: UInt64, isDecimal: Bool
) -> UInt64 {
    let state = x86(s)
    if state.pointee.fpu.status & FPUState.Status.pending != 0 { return state.pointee.raise(.x87) }
    let address = get64(s, a)
    let isEmpty = state.pointee.fpu.isEmpty(0)
    var c = X87Context(control: state.pointee.fpu.control)
    var low = isDecimal ? 0xC000_0000_0000_0000 : Float80Bits.indefinite.significand
    var high: UInt16 = 0xFFFF
    var isStored = isEmpty ? c.isMasked(FloatFlags.invalid) : true
    if !isEmpty {
        let value = state.pointee.fpu[0]
        if isDecimal { (low, high) = X87Conversion.toDecimal(value, &c) } else {
            (low, high) = (value.significand, value.signExponent)
        }
        isStored = !c.isStopped
    }
    guard GuestMemory.checkWritable(state, address, length: 10) else { return 1 }
    if isStored {
        guard GuestMemory.store(state, address, size: 8, low),
            GuestMemory.store(state, address &+ 8, size: 2, UInt64(high))
        else { return 1 }
    }
    // The reg fields of both (6 and 7) mean that they pop.
    finishStore(&state.pointee.fpu, d, imm, address, c, isEmpty: isEmpty, isStored: isStored)
    return 0
}
