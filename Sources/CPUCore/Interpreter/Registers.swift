/// The interpreter's view of the state: operands by byte offset, and the arithmetic with its flags.
struct Registers {
    let state: UnsafeMutableRawPointer
    @inline(__always) private var core: UnsafeMutablePointer<CoreState> {
        state.assumingMemoryBound(to: CoreState.self)
    }

    @inline(__always) func get<T: Word>(_ offset: UInt16) -> T { (state + Int(offset)).load(as: T.self) }
    @inline(__always) func put<T: Word>(_ offset: UInt16, _ value: T) { T.put(value, state + Int(offset)) }

    @inline(__always) func binary<T: Word>(_ op: MicroOp, _: T.Type, _ body: (T, T) -> T) {
        put(op.dst, body(get(op.a), get(op.b)))
    }
    @inline(__always) func immediate<T: Word>(_ op: MicroOp, _: T.Type, _ body: (T, T) -> T) {
        put(op.dst, body(get(op.a), T(truncatingIfNeeded: op.imm)))
    }

    /// The address of a memory operation or LEA.
    @inline(__always) func address(_ op: MicroOp) -> UInt64 {
        let base: UInt64 = get(op.a)
        let index: UInt64 = get(op.b)
        let displacement = UInt64(bitPattern: Int64(Int32(truncatingIfNeeded: op.imm)))
        let sum = base &+ (index &<< ((op.imm >> 32) & 3)) &+ displacement
        return op.imm & Address.truncate32 != 0 ? sum & 0xFFFF_FFFF : sum
    }

    @inline(__always) func holds(_ condition: UInt16) -> Bool {
        Flags.holds(condition, core.pointee.flagResult, core.pointee.flagCarry)
    }

    @inline(__always) func setCarry(_ on: Bool) {
        let carry = core.pointee.flagCarry
        // Overflow is the difference of the top bits: it must survive.
        let overflow = (carry ^ (carry << 1)) & (1 << 63)
        let top: UInt64 = on ? 1 << 63 : 0
        core.pointee.flagCarry = (carry & 0x3FFF_FFFF_FFFF_FFFF) | top | ((top ^ overflow) >> 1)
    }

    // MARK: Arithmetic with flags

    @inline(__always) func logic<T: Word>(_ result: T) -> T {
        core.pointee.flagResult = result.extended
        core.pointee.flagCarry = 0
        return result
    }
    @inline(__always) func addF<T: Word>(_ a: T, _ b: T) -> T {
        let result = a &+ b
        core.pointee.flagResult = result.extended
        core.pointee.flagCarry = T.carryWord((a & b) | ((a | b) & ~result))
        return result
    }
    @inline(__always) func subF<T: Word>(_ a: T, _ b: T) -> T {
        let result = a &- b
        core.pointee.flagResult = result.extended
        core.pointee.flagCarry = T.carryWord((~a & b) | ((~a | b) & result))
        return result
    }
    @inline(__always) func adcF<T: Word>(_ a: T, _ b: T) -> T {
        let result = a &+ b &+ (Flags.isCarry(core.pointee.flagCarry) ? 1 : 0)
        core.pointee.flagResult = result.extended
        core.pointee.flagCarry = T.carryWord((a & b) | ((a | b) & ~result))
        return result
    }
    @inline(__always) func sbbF<T: Word>(_ a: T, _ b: T) -> T {
        let result = a &- b &- (Flags.isCarry(core.pointee.flagCarry) ? 1 : 0)
        core.pointee.flagResult = result.extended
        core.pointee.flagCarry = T.carryWord((~a & b) | ((~a | b) & result))
        return result
    }
    @inline(__always) func incF<T: Word>(_ a: T) -> T {
        let carry = Flags.isCarry(core.pointee.flagCarry)
        let result = addF(a, 1)
        setCarry(carry)
        return result
    }
    @inline(__always) func decF<T: Word>(_ a: T) -> T {
        let carry = Flags.isCarry(core.pointee.flagCarry)
        let result = subF(a, 1)
        setCarry(carry)
        return result
    }

    /// Result flags, carry and overflow as given; AF clear.
    @inline(__always) func setFlags<T: Word>(_ result: T, carry: Bool, overflow: Bool) {
        core.pointee.flagResult = result.extended
        let top: UInt64 = carry ? 1 << 63 : 0
        core.pointee.flagCarry = top | ((carry != overflow) ? 1 << 62 : 0)
    }

    // MARK: Shifts and rotates

    /// Count from the state, masked; nothing happens for 0 but that a 32-bit destination is zero-extended.
    @inline(__always) func shift<T: Word>(_ op: MicroOp, _: T.Type, _ body: (T, UInt64) -> T) {
        let count = UInt64(get(op.b) as UInt8) & (T.bitWidth == 64 ? 63 : 31)
        put(op.dst, count == 0 ? get(op.a) : body(get(op.a), count))
    }

    @inline(__always) func shlF<T: Word>(_ a: T, _ count: UInt64) -> T {
        let result = a << T(truncatingIfNeeded: count)
        let carry = count <= T.width && (a >> T(truncatingIfNeeded: T.width - count)) & 1 != 0
        setFlags(result, carry: carry, overflow: (result.signed < 0) != carry)
        return result
    }
    @inline(__always) func shrF<T: Word>(_ a: T, _ count: UInt64) -> T {
        let result = a >> T(truncatingIfNeeded: count)
        let carry = (a >> T(truncatingIfNeeded: count - 1)) & 1 != 0
        // OF is the old sign for a count of 1; for others it is undefined, and this is what processors do.
        setFlags(result, carry: carry, overflow: (result << 1 ^ result).signed < 0)
        return result
    }
    @inline(__always) func sarF<T: Word>(_ a: T, _ count: UInt64) -> T {
        let result = T(truncatingIfNeeded: a.signed >> T.SignedWord(truncatingIfNeeded: count))
        let carry = (a.signed >> T.SignedWord(truncatingIfNeeded: count - 1)) & 1 != 0
        setFlags(result, carry: carry, overflow: false)
        return result
    }

    /// Carry and overflow; the other flags stay.
    @inline(__always) func setCarryOverflow(_ carry: Bool, _ overflow: Bool) {
        let top: UInt64 = carry ? 1 << 63 : 0
        core.pointee.flagCarry =
            (core.pointee.flagCarry & 0x3FFF_FFFF_FFFF_FFFF) | top | (carry != overflow ? 1 << 62 : 0)
    }
    @inline(__always) func rolF<T: Word>(_ a: T, _ count: UInt64) -> T {
        let turn = count & (T.width - 1)
        let result = turn == 0 ? a : (a << T(turn)) | (a >> T(T.width - turn))
        let carry = result & 1 != 0
        setCarryOverflow(carry, (result.signed < 0) != carry)
        return result
    }
    @inline(__always) func rorF<T: Word>(_ a: T, _ count: UInt64) -> T {
        let turn = count & (T.width - 1)
        let result = turn == 0 ? a : (a >> T(turn)) | (a << T(T.width - turn))
        setCarryOverflow(result.signed < 0, (result ^ (result << 1)).signed < 0)
        return result
    }
    @inline(__always) func rclF<T: Word>(_ a: T, _ count: UInt64) -> T {
        var result = a
        var carry = Flags.isCarry(core.pointee.flagCarry)
        var left = count % (T.width + 1)
        if T.bitWidth >= 32 { left = count }
        if left == 0 { return a }
        while left > 0 {
            let out = result.signed < 0
            result = (result << 1) | (carry ? 1 : 0)
            carry = out
            left -= 1
        }
        setCarryOverflow(carry, (result.signed < 0) != carry)
        return result
    }
    @inline(__always) func rcrF<T: Word>(_ a: T, _ count: UInt64) -> T {
        var result = a
        var carry = Flags.isCarry(core.pointee.flagCarry)
        var left = count % (T.width + 1)
        if T.bitWidth >= 32 { left = count }
        if left == 0 { return a }
        while left > 0 {
            let out = result & 1 != 0
            result = (result >> 1) | (carry ? (1 as T) << T(T.width - 1) : 0)
            carry = out
            left -= 1
        }
        setCarryOverflow(carry, (result ^ (result << 1)).signed < 0)
        return result
    }

    @inline(__always) func shld<T: Word>(_ op: MicroOp, _: T.Type) {
        let count = UInt64(get(UInt16(truncatingIfNeeded: op.imm)) as UInt8) & (T.bitWidth == 64 ? 63 : 31)
        let a: T = get(op.dst)
        let b: T = get(op.a)
        if count == 0 { return put(op.dst, a) }
        // Counts above 16 with 16 bits are undefined; the bits then come round from `a` again.
        let wide = count <= T.width
        let result =
            wide
            ? (a << T(count)) | (count == T.width ? b : b >> T(T.width - count))
            : (b << T(count - T.width)) | (a >> T(2 * T.width - count))
        let carry = wide ? (a >> T(T.width - count)) & 1 != 0 : (b >> T(2 * T.width - count)) & 1 != 0
        setFlags(result, carry: carry, overflow: (result ^ a).signed < 0)
        put(op.dst, result)
    }
    @inline(__always) func shrd<T: Word>(_ op: MicroOp, _: T.Type) {
        let count = UInt64(get(UInt16(truncatingIfNeeded: op.imm)) as UInt8) & (T.bitWidth == 64 ? 63 : 31)
        let a: T = get(op.dst)
        let b: T = get(op.a)
        if count == 0 { return put(op.dst, a) }
        let wide = count <= T.width
        let result =
            wide
            ? (a >> T(count)) | (count == T.width ? b : b << T(T.width - count))
            : (b >> T(count - T.width)) | (a << T(2 * T.width - count))
        let carry = wide ? (a >> T(count - 1)) & 1 != 0 : (b >> T(count - T.width - 1)) & 1 != 0
        setFlags(result, carry: carry, overflow: (result ^ (wide && count == 1 ? a : result << 1)).signed < 0)
        put(op.dst, result)
    }

    // MARK: Multiplication, bits, compare and exchange

    @inline(__always) func multiply<T: Word>(_ op: MicroOp, _: T.Type) {
        let (high, low) = (get(op.a) as T).multipliedFullWidth(by: get(op.b))
        let lowWord = T(truncatingIfNeeded: low)
        put(op.dst, lowWord)
        put(UInt16(truncatingIfNeeded: op.imm), high)
        setFlags(lowWord, carry: high != 0, overflow: high != 0)
    }
    @inline(__always) func multiplySigned<T: Word>(_ op: MicroOp, _: T.Type) {
        let (high, low) = (get(op.a) as T).signed.multipliedFullWidth(by: (get(op.b) as T).signed)
        let lowWord = T(truncatingIfNeeded: low)
        let isLost = high != lowWord.signed >> T.SignedWord(T.width - 1)
        put(op.dst, lowWord)
        put(UInt16(truncatingIfNeeded: op.imm), T(truncatingIfNeeded: high))
        setFlags(lowWord, carry: isLost, overflow: isLost)
    }
    @inline(__always) func multiplyLow<T: Word>(_ op: MicroOp, _: T.Type) {
        let (result, isLost) = (get(op.a) as T).signed.multipliedReportingOverflow(by: (get(op.b) as T).signed)
        let word = T(truncatingIfNeeded: result)
        put(op.dst, word)
        setFlags(word, carry: isLost, overflow: isLost)
    }

    /// The mask of bit b of a, whose value becomes the carry.
    @inline(__always) func bit<T: Word>(_ op: MicroOp, _: T.Type) -> T {
        let place = (get(op.b) as T) & T(T.width - 1)
        let mask = (1 as T) << place
        setCarry((get(op.a) as T) & mask != 0)
        return mask
    }
    @inline(__always) func scanForward<T: Word>(_ op: MicroOp, _: T.Type) {
        let value: T = get(op.a)
        scanned(op, value, T(truncatingIfNeeded: value.trailingZeroBitCount))
    }
    @inline(__always) func scanReverse<T: Word>(_ op: MicroOp, _: T.Type) {
        let value: T = get(op.a)
        scanned(op, value, T(truncatingIfNeeded: T.bitWidth - 1 - value.leadingZeroBitCount))
    }
    /// ZF tells whether the source was 0; the destination is then left as it was, with all its 64 bits. The other
    /// flags, which the manual leaves undefined, stay.
    @inline(__always) private func scanned<T: Word>(_ op: MicroOp, _ value: T, _ result: T) {
        let flags = Flags.pack(core.pointee.flagResult, core.pointee.flagCarry)
        let pair = Flags.unpack(value == 0 ? flags | Flags.zf : flags & ~Flags.zf)
        core.pointee.flagResult = pair.result
        core.pointee.flagCarry = pair.carry
        if value != 0 { put(op.dst, result) }
    }
    @inline(__always) func populationCount<T: Word>(_ op: MicroOp, _: T.Type) {
        let value: T = get(op.a)
        put(op.dst, T(truncatingIfNeeded: value.nonzeroBitCount))
        // All flags are cleared but ZF.
        let pair = Flags.unpack(value == 0 ? Flags.zf : 0)
        core.pointee.flagResult = pair.result
        core.pointee.flagCarry = pair.carry
    }
    @inline(__always) func compareExchange<T: Word>(_ op: MicroOp, _: T.Type) {
        let accumulator: T = get(op.a)
        let old: T = get(op.b)
        _ = subF(accumulator, old)
        if accumulator == old {
            put(op.dst, get(UInt16(truncatingIfNeeded: op.imm)) as T)
        } else {
            put(op.dst, old)
        }
    }
}
