import CPUCore

extension X87Helpers {
    /// Control, environment, whole state (SDM volume 1, 8.1.10 and 10.5).
    static func installControl(_ table: Table) {
        table.set(.initialize) { s, _, _, _ in
            x86(s).pointee.fpu.initialize()
            return 0
        }
        table.set(.clearExceptions) { s, _, _, _ in
            x86(s).pointee.fpu.status &= 0x7F00
            return 0
        }
        table.set(.loadControl) { s, _, a, _ in
            x86(s).pointee.fpu.setControl(get16(s, a))
            return 0
        }
        table.set(.storeEnvironment) { s, _, a, imm in
            guard X87Image.storeEnvironment(x86(s), get64(s, a), imm, length: imm & 1 != 0 ? 28 : 14) else { return 1 }
            // All exceptions are masked from now on.
            x86(s).pointee.fpu.setControl(x86(s).pointee.fpu.control | 0x3F)
            return 0
        }
        table.set(.loadEnvironment) { s, _, a, imm in
            X87Image.loadEnvironment(x86(s), get64(s, a), imm) ? 0 : 1
        }
        table.set(.save) { s, _, a, imm in X87Image.save(x86(s), get64(s, a), imm) ? 0 : 1 }
        table.set(.restore) { s, _, a, imm in X87Image.restore(x86(s), get64(s, a), imm) ? 0 : 1 }
        table[Int(HelperID.fxsave.rawValue)] = { s, _, a, imm in FXImage.save(x86(s), get64(s, a), imm) }
        table[Int(HelperID.fxrstor.rawValue)] = { s, _, a, imm in FXImage.restore(x86(s), get64(s, a), imm) }
    }
}

extension FPUState {
    /// FLDCW. Reserved bits read as they do on processors: bit 6 as one, the others as zero.
    package mutating func setControl(_ value: UInt16) {
        control = value & 0x1F3F | 0x40
        updatePending()
    }
}

/// The images of FNSTENV, FLDENV, FNSAVE and FRSTOR: 16 or 32 bits, for protected or real-address mode (SDM volume 1,
/// figures 8-9 to 8-12). `format`: bit 0 32 bits, bit 1 real-address.
private enum X87Image {
    typealias State = UnsafeMutablePointer<X86State>

    /// Stores the environment; `length` bytes from `address` must be writable.
    static func storeEnvironment(_ state: State, _ address: UInt64, _ format: UInt64, length: Int) -> Bool {
        guard GuestMemory.checkWritable(state, address, length: length) else { return false }
        let fpu = state.pointee.fpu
        let is32 = format & 1 != 0
        let isReal = format & 2 != 0
        let ip = fpu.instructionPointer & 0xFFFF_FFFF
        let dp = fpu.dataPointer & 0xFFFF_FFFF
        let opcode = UInt64(fpu.opcode)
        var words: InlineArray<7, UInt64> = [UInt64(fpu.control), UInt64(fpu.status), UInt64(fpu.tagWord), 0, 0, 0, 0]
        if isReal {
            words[3] = ip & 0xFFFF
            words[4] = (is32 ? (ip >> 16) << 12 : (ip >> 4) & 0xF000) | opcode
            words[5] = dp & 0xFFFF
            words[6] = is32 ? (dp >> 16) << 12 : (dp >> 4) & 0xF000
        } else {
            words[3] = ip
            words[4] = UInt64(fpu.instructionSelector) | (is32 ? opcode << 16 : 0)
            words[5] = dp
            words[6] = UInt64(fpu.dataSelector)
        }
        for index in 0..<7 {
            // The upper halves that mean nothing are ones.
            let isShort = index < 3 || (isReal ? index & 1 != 0 : index == 6)
            let filler: UInt64 = isShort ? 0xFFFF_0000 : 0
            let value = is32 ? words[index] | filler : words[index]
            let size = is32 ? 4 : 2
            guard GuestMemory.store(state, address &+ UInt64(index * size), size: size, value) else { return false }
        }
        return true
    }

    static func loadEnvironment(_ state: State, _ address: UInt64, _ format: UInt64) -> Bool {
        let is32 = format & 1 != 0
        let size = is32 ? 4 : 2
        var words = InlineArray<7, UInt64>(repeating: 0)
        for index in 0..<7 {
            guard let value = GuestMemory.load(state, address &+ UInt64(index * size), size: size) else { return false }
            words[index] = value
        }
        apply(&state.pointee.fpu, words, format)
        return true
    }

    private static func apply(_ fpu: inout FPUState, _ words: InlineArray<7, UInt64>, _ format: UInt64) {
        let is32 = format & 1 != 0
        if format & 2 != 0 {
            let mask: UInt64 = is32 ? 0xFFFF_0000 : 0xF_0000
            fpu.instructionPointer = words[3] & 0xFFFF | (words[4] << 4 & mask)
            fpu.dataPointer = words[5] & 0xFFFF | (words[6] << 4 & mask)
            fpu.opcode = UInt16(truncatingIfNeeded: words[4] & 0x7FF)
        } else {
            fpu.instructionPointer = words[3]
            fpu.dataPointer = words[5]
            if is32 { fpu.opcode = UInt16(truncatingIfNeeded: words[4] >> 16 & 0x7FF) }
        }
        fpu.status = UInt16(truncatingIfNeeded: words[1])
        fpu.tagWord = UInt16(truncatingIfNeeded: words[2])
        fpu.setControl(UInt16(truncatingIfNeeded: words[0]))
    }

    static func save(_ state: State, _ address: UInt64, _ format: UInt64) -> Bool {
        let length = format & 1 != 0 ? 28 : 14
        guard storeEnvironment(state, address, format, length: length + 80) else { return false }
        for index in 0..<8 {
            let value = state.pointee.fpu[index]
            let place = address &+ UInt64(length + index * 10)
            guard GuestMemory.store(state, place, size: 8, value.significand),
                GuestMemory.store(state, place &+ 8, size: 2, UInt64(value.signExponent))
            else { return false }
        }
        state.pointee.fpu.initialize()
        return true
    }

    static func restore(_ state: State, _ address: UInt64, _ format: UInt64) -> Bool {
        let length = format & 1 != 0 ? 28 : 14
        var values = InlineArray<8, Float80Bits>(repeating: Float80Bits())
        for index in 0..<8 {
            let place = address &+ UInt64(length + index * 10)
            guard let low = GuestMemory.load(state, place, size: 8),
                let high = GuestMemory.load(state, place &+ 8, size: 2)
            else { return false }
            values[index] = Float80Bits(significand: low, signExponent: UInt16(truncatingIfNeeded: high))
        }
        guard loadEnvironment(state, address, format) else { return false }
        let top = state.pointee.fpu.top
        for index in 0..<8 { state.pointee.fpu.registers[(top + index) & 7] = values[index] }
        return true
    }
}

/// FXSAVE's 512 bytes (SDM volume 1, 10.5.1). `format`: bit 0 REX.W, bit 1 64-bit mode.
private enum FXImage {
    typealias State = UnsafeMutablePointer<X86State>

    private static func check(_ state: State, _ address: UInt64) -> UInt64 {
        if state.pointee.cr0 & (CR0.em | CR0.ts) != 0 { return state.pointee.raise(.deviceNotAvailable) }
        return address & 15 == 0 ? 0 : state.pointee.raise(.generalProtection, error: 0)
    }

    /// Registers that the image holds: eight outside of 64-bit mode.
    private static func vectorCount(_ format: UInt64) -> Int { format & 2 != 0 ? 16 : 8 }

    static func save(_ state: State, _ address: UInt64, _ format: UInt64) -> UInt64 {
        if check(state, address) != 0 { return 1 }
        let count = vectorCount(format)
        let fpu = state.pointee.fpu
        let isWide = format & 1 != 0
        var words = InlineArray<52, UInt64>(repeating: 0)
        words[0] = UInt64(fpu.control) | UInt64(fpu.status) << 16 | UInt64(fpu.tagValid) << 32 | UInt64(fpu.opcode) << 48
        words[1] = isWide ? fpu.instructionPointer
            : fpu.instructionPointer & 0xFFFF_FFFF | UInt64(fpu.instructionSelector) << 32
        words[2] = isWide ? fpu.dataPointer : fpu.dataPointer & 0xFFFF_FFFF | UInt64(fpu.dataSelector) << 32
        words[3] = UInt64(fpu.mxcsr) | UInt64(MXCSR.defined) << 32
        for index in 0..<8 {
            words[4 + index * 2] = fpu[index].significand
            words[5 + index * 2] = UInt64(fpu[index].signExponent)
        }
        for index in 0..<count {
            words[20 + index * 2] = fpu.xmm[index].x
            words[21 + index * 2] = fpu.xmm[index].y
        }
        let used = 20 + count * 2
        // Checking the last word first makes it all or nothing: 512 aligned bytes lie in two pages at most.
        guard GuestMemory.checkWritable(state, address, length: 512) else { return 1 }
        for index in 0..<used {
            guard GuestMemory.store(state, address &+ UInt64(index * 8), size: 8, words[index]) else { return 1 }
        }
        return 0
    }

    static func restore(_ state: State, _ address: UInt64, _ format: UInt64) -> UInt64 {
        if check(state, address) != 0 { return 1 }
        let count = vectorCount(format)
        var words = InlineArray<52, UInt64>(repeating: 0)
        for index in 0..<(20 + count * 2) {
            guard let word = GuestMemory.load(state, address &+ UInt64(index * 8), size: 8) else { return 1 }
            words[index] = word
        }
        let mxcsr = UInt32(truncatingIfNeeded: words[3])
        if mxcsr & ~MXCSR.defined != 0 { return state.pointee.raise(.generalProtection, error: 0) }
        let isWide = format & 1 != 0
        state.pointee.fpu.status = UInt16(truncatingIfNeeded: words[0] >> 16)
        state.pointee.fpu.tagValid = UInt8(truncatingIfNeeded: words[0] >> 32)
        state.pointee.fpu.opcode = UInt16(truncatingIfNeeded: words[0] >> 48) & 0x7FF
        state.pointee.fpu.instructionPointer = isWide ? words[1] : words[1] & 0xFFFF_FFFF
        state.pointee.fpu.dataPointer = isWide ? words[2] : words[2] & 0xFFFF_FFFF
        state.pointee.fpu.setControl(UInt16(truncatingIfNeeded: words[0]))
        state.pointee.fpu.mxcsr = mxcsr
        let top = state.pointee.fpu.top
        for index in 0..<8 {
            state.pointee.fpu.registers[(top + index) & 7] = Float80Bits(
                significand: words[4 + index * 2], signExponent: UInt16(truncatingIfNeeded: words[5 + index * 2]))
        }
        for index in 0..<count { state.pointee.fpu.xmm[index] = SIMD2(words[20 + index * 2], words[21 + index * 2]) }
        return 0
    }
}
