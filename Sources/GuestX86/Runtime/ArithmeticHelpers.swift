import CPUCore

extension HelperTable {
    /// Division, decimal adjustment, flags, string instructions, wide compare and exchange.
    static func installArithmetic(_ table: UnsafeMutablePointer<MicroHelper>) {
        func set(_ id: HelperID, _ helper: @escaping MicroHelper) { table[Int(id.rawValue)] = helper }

        set(.divide) { raw, _, a, imm in
            let state = x86(raw)
            let rax = state.pointee.core.registers[0]
            let rdx = state.pointee.core.registers[2]
            switch imm {
            case 0:
                let divisor = UInt64((raw + Int(a)).load(as: UInt8.self))
                let dividend = rax & 0xFFFF
                if divisor == 0 || dividend / divisor > 0xFF { return state.pointee.raise(.divide) }
                state.pointee.core.registers[0] = rax & ~0xFFFF | dividend / divisor | (dividend % divisor) << 8
            case 1:
                let divisor = UInt64(get16(raw, a))
                let dividend = (rdx & 0xFFFF) << 16 | rax & 0xFFFF
                if divisor == 0 || dividend / divisor > 0xFFFF { return state.pointee.raise(.divide) }
                state.pointee.core.registers[0] = rax & ~0xFFFF | dividend / divisor
                state.pointee.core.registers[2] = rdx & ~0xFFFF | dividend % divisor
            case 2:
                let divisor = UInt64((raw + Int(a)).load(as: UInt32.self))
                let dividend = (rdx & 0xFFFF_FFFF) << 32 | rax & 0xFFFF_FFFF
                if divisor == 0 || dividend / divisor > 0xFFFF_FFFF { return state.pointee.raise(.divide) }
                state.pointee.core.registers[0] = dividend / divisor
                state.pointee.core.registers[2] = dividend % divisor
            default:
                let divisor = get64(raw, a)
                // The quotient fits if the dividend's high half is less than the divisor.
                if divisor <= rdx { return state.pointee.raise(.divide) }
                let (quotient, remainder) = divisor.dividingFullWidth((rdx, rax))
                state.pointee.core.registers[0] = quotient
                state.pointee.core.registers[2] = remainder
            }
            return 0
        }
        set(.divideSigned) { raw, _, a, imm in
            let state = x86(raw)
            let rax = state.pointee.core.registers[0]
            let rdx = state.pointee.core.registers[2]
            switch imm {
            case 0:
                let divisor = Int64((raw + Int(a)).load(as: Int8.self))
                let dividend = Int64(Int16(truncatingIfNeeded: rax))
                guard divisor != 0, let quotient = Int8(exactly: dividend / divisor) else {
                    return state.pointee.raise(.divide)
                }
                let remainder = UInt64(UInt8(truncatingIfNeeded: dividend % divisor))
                state.pointee.core.registers[0] = rax & ~0xFFFF | UInt64(UInt8(bitPattern: quotient)) | remainder << 8
            case 1:
                let divisor = Int64((raw + Int(a)).load(as: Int16.self))
                let dividend = Int64(Int32(truncatingIfNeeded: (rdx & 0xFFFF) << 16 | rax & 0xFFFF))
                guard divisor != 0, let quotient = Int16(exactly: dividend / divisor) else {
                    return state.pointee.raise(.divide)
                }
                state.pointee.core.registers[0] = rax & ~0xFFFF | UInt64(UInt16(bitPattern: quotient))
                state.pointee.core.registers[2] = rdx & ~0xFFFF | UInt64(UInt16(truncatingIfNeeded: dividend % divisor))
            case 2:
                let divisor = Int64((raw + Int(a)).load(as: Int32.self))
                let dividend = Int64(bitPattern: (rdx & 0xFFFF_FFFF) << 32 | rax & 0xFFFF_FFFF)
                let (quotient64, isLost) = divisor == 0 ? (0, true) : dividend.dividedReportingOverflow(by: divisor)
                guard !isLost, let quotient = Int32(exactly: quotient64) else { return state.pointee.raise(.divide) }
                state.pointee.core.registers[0] = UInt64(UInt32(bitPattern: quotient))
                state.pointee.core.registers[2] = UInt64(UInt32(truncatingIfNeeded: dividend % divisor))
            default:
                let divisor = Int64(bitPattern: get64(raw, a))
                if divisor == 0 { return state.pointee.raise(.divide) }
                let isNegative = Int64(bitPattern: rdx) < 0
                // Divide the magnitudes, then put the signs right.
                var low = rax
                var high = rdx
                if isNegative {
                    low = ~low &+ 1
                    high = ~high &+ (low == 0 ? 1 : 0)
                }
                let magnitude = divisor.magnitude
                if high >= magnitude { return state.pointee.raise(.divide) }
                let (quotient, remainder) = magnitude.dividingFullWidth((high, low))
                let isQuotientNegative = isNegative != (divisor < 0)
                if quotient > (isQuotientNegative ? 1 << 63 : (1 << 63) - 1) { return state.pointee.raise(.divide) }
                state.pointee.core.registers[0] = isQuotientNegative ? ~quotient &+ 1 : quotient
                state.pointee.core.registers[2] = isNegative ? ~remainder &+ 1 : remainder
            }
            return 0
        }
        set(.decimalAdjust) { raw, _, _, imm in
            HelperTable.decimalAdjust(x86(raw), imm)
            return 0
        }
        set(.ascii) { raw, _, _, imm in
            let state = x86(raw)
            let base = imm & 0xFF
            let rax = state.pointee.core.registers[0]
            var al: UInt64
            var ah: UInt64
            if imm & 0x100 != 0 {
                al = (((rax >> 8) & 0xFF) &* base &+ (rax & 0xFF)) & 0xFF
                ah = 0
            } else {
                if base == 0 { return state.pointee.raise(.divide) }
                ah = (rax & 0xFF) / base
                al = (rax & 0xFF) % base
            }
            state.pointee.core.registers[0] = rax & ~0xFFFF | ah << 8 | al
            HelperTable.setResultFlags(state, UInt8(truncatingIfNeeded: al), carry: false, auxiliary: false, overflow: false)
            return 0
        }
        set(.loadAH) { raw, _, _, _ in
            let state = x86(raw)
            let flags = UInt64(state.pointee.eflags & 0xD7 | 2)
            state.pointee.core.registers[0] = state.pointee.core.registers[0] & ~0xFF00 | flags << 8
            return 0
        }
        set(.storeAH) { raw, _, _, _ in
            let state = x86(raw)
            let ah = UInt32(truncatingIfNeeded: state.pointee.core.registers[0] >> 8) & 0xD5
            state.pointee.eflags = state.pointee.eflags & ~0xD5 | ah
            return 0
        }
        // `imm`: attributes of the address.
        set(.compareExchange8) { raw, _, a, imm in
            let state = x86(raw)
            let address = get64(raw, a)
            if state.withCPU({ $0.slowLoad(address, 8 << 48 | EngineHooks.storeFollows | imm) }) != 0 { return 1 }
            let old = state.pointee.core.transfer.x
            let core = state.pointee.core
            let expected = core.registers[2] << 32 | core.registers[0] & 0xFFFF_FFFF
            let isEqual = old == expected
            let new = isEqual ? core.registers[1] << 32 | core.registers[3] & 0xFFFF_FFFF : old
            guard GuestMemory.store(state, address, size: 8, new) else { return 1 }
            if !isEqual {
                state.pointee.core.registers[0] = old & 0xFFFF_FFFF
                state.pointee.core.registers[2] = old >> 32
            }
            let flags = state.pointee.eflags
            state.pointee.eflags = isEqual ? flags | Flags.zf : flags & ~Flags.zf
            return 0
        }
        set(.compareExchange16) { raw, _, a, imm in
            let state = x86(raw)
            let address = get64(raw, a)
            if state.withCPU({ $0.slowLoad(address, 16 << 48 | EngineHooks.storeFollows | Address.aligned | imm) }) != 0 { return 1 }
            let low = state.pointee.core.transfer.x
            let high = state.pointee.core.transfer.y
            let isEqual = low == state.pointee.core.registers[0] && high == state.pointee.core.registers[2]
            let newLow = isEqual ? state.pointee.core.registers[3] : low
            let newHigh = isEqual ? state.pointee.core.registers[1] : high
            guard GuestMemory.store(state, address, size: 8, newLow),
                GuestMemory.store(state, address &+ 8, size: 8, newHigh)
            else { return 1 }
            if !isEqual {
                state.pointee.core.registers[0] = low
                state.pointee.core.registers[2] = high
            }
            let flags = state.pointee.eflags
            state.pointee.eflags = isEqual ? flags | Flags.zf : flags & ~Flags.zf
            return 0
        }
        // Two numbers: only comparisons have to do with flags.
        for id in [HelperID.string, .stringCompare] {
            set(id) { raw, dst, _, imm in
                let finished = StringHelpers.execute(x86(raw), StringParameters(raw: imm))
                guard let finished else { return 1 }
                (raw + Int(dst)).storeBytes(of: finished ? 1 : 0, as: UInt8.self)
                return 0
            }
        }
        set(.stringIO) { raw, dst, _, imm in
            let finished = StringHelpers.executeIO(x86(raw), StringParameters(raw: imm))
            guard let finished else { return 1 }
            (raw + Int(dst)).storeBytes(of: finished ? 1 : 0, as: UInt8.self)
            return 0
        }
    }

    /// SF, ZF and PF of an 8-bit result; the others as given.
    private static func setResultFlags(_ state: State, _ result: UInt8, carry: Bool, auxiliary: Bool, overflow: Bool) {
        var flags = state.pointee.eflags & ~Flags.all
        if carry { flags |= Flags.cf }
        if auxiliary { flags |= Flags.af }
        if overflow { flags |= Flags.of }
        if result == 0 { flags |= Flags.zf }
        if result & 0x80 != 0 { flags |= Flags.sf }
        if result.nonzeroBitCount & 1 == 0 { flags |= Flags.pf }
        state.pointee.eflags = flags
    }

    /// DAA 0, DAS 1, AAA 2, AAS 3 (SDM volume 2), SALC 4.
    private static func decimalAdjust(_ state: State, _ kind: UInt64) {
        let rax = state.pointee.core.registers[0]
        let flags = state.pointee.eflags
        var al = UInt8(truncatingIfNeeded: rax)
        var ax = UInt16(truncatingIfNeeded: rax)
        let hadCarry = flags & Flags.cf != 0
        let adjustsLow = al & 0xF > 9 || flags & Flags.af != 0
        switch kind {
        case 0, 1:
            let old = al
            var carry = false
            if adjustsLow {
                if kind == 0 {
                    carry = hadCarry || al > 0xF9
                    al = al &+ 6
                } else {
                    carry = hadCarry || al < 6
                    al = al &- 6
                }
            }
            if old > 0x99 || hadCarry {
                al = kind == 0 ? al &+ 0x60 : al &- 0x60
                carry = true
            }
            state.pointee.core.registers[0] = rax & ~0xFF | UInt64(al)
            HelperTable.setResultFlags(state, al, carry: carry, auxiliary: adjustsLow, overflow: false)
        case 2, 3:
            if adjustsLow { ax = kind == 2 ? ax &+ 0x106 : ax &- 0x106 }
            ax &= 0xFF0F
            state.pointee.core.registers[0] = rax & ~0xFFFF | UInt64(ax)
            HelperTable.setResultFlags(
                state, UInt8(truncatingIfNeeded: ax), carry: adjustsLow, auxiliary: adjustsLow, overflow: false)
        default: state.pointee.core.registers[0] = rax & ~0xFF | (hadCarry ? 0xFF : 0)
        }
    }
}
