import CHostOracle
import CPUCore
import GuestX86

extension DifferentialGenerator {
    /// An MMX or SSE opcode: prefix (0 for none), map (1: 0F, 2: 0F 38, 3: 0F 3A), whether an immediate follows, what
    /// ModRM may be.
    struct VectorForm {
        enum Operand: Sendable { case any, memory, register, none }
        var prefix: UInt8
        var map: Int
        var opcode: UInt8
        var hasImmediate = false
        var operand = Operand.any
        /// Values of ModRM's reg field, for groups; empty: any.
        var regs: [Int] = []
    }

    /// SSE to SSE4.2 and MMX, from the manual's opcode maps; without RCP and RSQRT, which are approximate.
    static let vectorForms: [VectorForm] = {
        var forms: [VectorForm] = []
        func add(
            _ prefixes: [UInt8], _ map: Int, _ opcodes: [ClosedRange<UInt8>], immediate: Bool = false,
            _ operand: VectorForm.Operand = .any, _ regs: [Int] = []
        ) {
            for prefix in prefixes {
                for range in opcodes {
                    for opcode in range {
                        forms.append(
                            VectorForm(
                                prefix: prefix, map: map, opcode: opcode, hasImmediate: immediate, operand: operand,
                                regs: regs))
                    }
                }
            }
        }
        let p66: UInt8 = 0x66
        let pF2: UInt8 = 0xF2
        let pF3: UInt8 = 0xF3
        // Moves and floating point.
        add([0, p66], 1, [0x10...0x11, 0x14...0x15, 0x28...0x29, 0x2A...0x2A, 0x2C...0x2F, 0x51...0x51, 0x54...0x5F])
        add([0], 1, [0x12...0x12, 0x16...0x16])
        add([0, p66], 1, [0x13...0x13, 0x17...0x17, 0x2B...0x2B], .memory)
        add([p66], 1, [0x12...0x12, 0x16...0x16], .memory)
        add([0, p66], 1, [0x50...0x50, 0xD7...0xD7], .register)
        add(
            [pF3], 1,
            [
                0x10...0x12, 0x16...0x16, 0x2A...0x2A, 0x2C...0x2D, 0x51...0x51, 0x58...0x5F, 0x6F...0x6F, 0x7E...0x7F,
                0xE6...0xE6,
            ])
        add(
            [pF2], 1,
            [
                0x10...0x12, 0x2A...0x2A, 0x2C...0x2D, 0x51...0x51, 0x58...0x5A, 0x5C...0x5F, 0x7C...0x7D, 0xD0...0xD0,
                0xE6...0xE6,
            ])
        add([0, p66, pF2, pF3], 1, [0xC2...0xC2, 0x70...0x70], immediate: true)
        add([0, p66], 1, [0xC6...0xC6], immediate: true)
        add([pF2], 1, [0xF0...0xF0], .memory)
        add([pF3, pF2], 1, [0xD6...0xD6], .register)
        // Integers.
        add(
            [0, p66], 1,
            [
                0x60...0x6B, 0x6E...0x6F, 0x74...0x76, 0x7E...0x7F, 0xD1...0xD5, 0xD8...0xE5, 0xE8...0xEF, 0xF1...0xF6,
                0xF8...0xFE,
            ])
        add([p66], 1, [0x6C...0x6D, 0x7C...0x7D, 0xD0...0xD0, 0xD6...0xD6, 0xE6...0xE6])
        add([0, p66], 1, [0xE7...0xE7], .memory)
        add([0, p66], 1, [0xF7...0xF7], .register)
        add([0, p66], 1, [0xC4...0xC4], immediate: true)
        add([0, p66], 1, [0xC5...0xC5], immediate: true, .register)
        add([0, p66], 1, [0x71...0x72], immediate: true, .register, [2, 4, 6])
        add([0], 1, [0x73...0x73], immediate: true, .register, [2, 6])
        add([p66], 1, [0x73...0x73], immediate: true, .register, [2, 3, 6, 7])
        add([0], 1, [0x77...0x77], .none)
        // MXCSR.
        add([0], 1, [0xAE...0xAE], .memory, [2, 3])
        // SSSE3 and SSE4.
        add([0, p66], 2, [0x00...0x0B, 0x1C...0x1E])
        add(
            [p66], 2,
            [0x10...0x10, 0x14...0x15, 0x17...0x17, 0x20...0x25, 0x28...0x29, 0x2B...0x2B, 0x30...0x35, 0x37...0x41])
        add([p66], 2, [0x2A...0x2A], .memory)
        add([pF2], 2, [0xF0...0xF1])
        add([0, p66], 3, [0x0F...0x0F], immediate: true)
        add([p66], 3, [0x08...0x0E, 0x14...0x17, 0x20...0x22, 0x40...0x42, 0x60...0x63], immediate: true)
        return forms
    }()

    /// One MMX or SSE instruction; in front of it what makes its address good.
    mutating func vectorInstruction() {
        let form = random.pick(Self.vectorForms)
        var prefixes: [UInt8] = []
        // CRC32 takes an operand-size prefix besides its own.
        let isCRC = form.prefix == 0xF2 && form.map == 2
        if isCRC, random.chance(30) { prefixes.append(0x66) }
        if form.prefix != 0 { prefixes.append(form.prefix) }
        let rex: UInt8 = is64 && random.chance(50) ? 0x40 | UInt8(random.below(16)) : 0
        var reg = form.regs.isEmpty ? random.below(8) : random.pick(form.regs)
        // General registers as targets: spare the stack pointer mostly.
        if form.regs.isEmpty, reg == 4, random.chance(50) { reg = random.below(8) }
        let map: [UInt8] = form.map == 1 ? [0x0F] : form.map == 2 ? [0x0F, 0x38] : [0x0F, 0x3A]
        let isMXCSR = form.opcode == 0xAE
        // MASKMOV stores through RDI.
        if form.opcode == 0xF7, form.map == 1, random.chance(90) { set(7, pointer() & ~15) }
        var modRM: [UInt8] = []
        switch form.operand {
        case .none: break
        case .register: modRM = [0xC0 | UInt8(reg << 3 | random.below(8))]
        case .memory: modRM = alignedOperand(reg, rex, loadsMXCSR: isMXCSR && reg == 2)
        case .any:
            modRM =
                random.chance(50)
                ? alignedOperand(reg, rex, loadsMXCSR: false) : [0xC0 | UInt8(reg << 3 | random.below(8))]
        }
        var bytes = prefixes + (rex == 0 ? [] : [rex]) + map + [form.opcode] + modRM
        if form.hasImmediate { bytes.append(UInt8(truncatingIfNeeded: random.next())) }
        var effect = FlagEffect()
        let isCompare = form.map == 1 && (form.opcode == 0x2E || form.opcode == 0x2F)
        let isTest = form.map == 2 && form.opcode == 0x17
        let isString = form.map == 3 && 0x60...0x63 ~= form.opcode
        if isCompare || isTest || isString { effect.writes = Flags.all }
        let prefix = form.prefix == 0 ? "" : String(form.prefix, radix: 16) + " "
        let code = (map + [form.opcode]).map { String($0, radix: 16) }.joined(separator: " ")
        add(bytes, prefix + code, effect)
    }

    /// A memory operand, mostly aligned to 16 bytes.
    private mutating func alignedOperand(_ reg: Int, _ rex: UInt8, loadsMXCSR: Bool) -> [UInt8] {
        let base = random.pick([0, 1, 2, 3, 6, 7])
        let register = base | Int(rex & 1) << 3
        let address = Self.dataBase + UInt64(random.below(Self.dataSize) & ~15)
        if random.chance(97) { set(register, random.chance(85) ? address : pointer()) }
        if loadsMXCSR {
            // MOV [register], imm32: mostly a value without reserved bits.
            var value = random.next() & 0xFFFF | (random.chance(80) ? 0x1F80 : 0)
            if random.chance(3) { value = random.next() & 0xFFFF_FFFF }
            add((register >= 8 ? [0x41] : []) + [0xC7, UInt8(base)] + little(value, 4))
            return [UInt8(reg << 3 | base)]
        }
        if random.chance(70) { return [UInt8(reg << 3 | base)] }
        return [0x40 | UInt8(reg << 3 | base), UInt8(random.below(8) << 4)]
    }

    // MARK: x87

    /// One x87 instruction. Transcendentals are approximate, the environment holds addresses that processors differ in.
    mutating func x87Instruction() {
        let opcode = UInt8(0xD8 + random.below(8))
        var modRM: UInt8
        repeat {
            modRM = UInt8(random.below(256))
            if random.chance(40) { modRM |= 0xC0 }
        } while Self.isLeftOut(opcode, modRM) || (Self.isUndefined(opcode, modRM) && random.chance(97))
        if modRM >= 0xC0 {
            var effect = FlagEffect()
            // FCOMI and its kin; FCMOV.
            if (opcode == 0xDB || opcode == 0xDF) && 0xE8...0xF7 ~= modRM { effect.writes = Flags.all }
            if (opcode == 0xDA || opcode == 0xDB) && modRM < 0xE0 { effect.reads = Flags.all }
            return add([opcode, modRM], "\(String(opcode, radix: 16)) \(String(modRM, radix: 16))", effect)
        }
        let base = random.pick([0, 1, 2, 3, 6, 7])
        set(base, random.chance(90) ? Self.dataBase + UInt64(random.below(Self.dataSize) & ~7) : pointer())
        let reg = (modRM >> 3) & 7
        if opcode == 0xD9, reg == 5 {
            // FLDCW: a control word that is likely to mask everything.
            let value = random.next() & 0xFFFF | (random.chance(85) ? 0x7F : 0x40)
            add([0xC7, UInt8(base)] + little(value & 0x0F7F, 4))
        }
        add([opcode, reg << 3 | UInt8(base)], "\(String(opcode, radix: 16)) /\(reg)")
    }

    private static func isLeftOut(_ opcode: UInt8, _ modRM: UInt8) -> Bool {
        let reg = (modRM >> 3) & 7
        if modRM < 0xC0 {
            // FLDENV, FSTENV, FRSTOR, FSAVE.
            return (opcode == 0xD9 && (reg == 4 || reg == 6)) || (opcode == 0xDD && (reg == 4 || reg == 6))
        }
        if opcode == 0xD9 { return [0xF0, 0xF1, 0xF2, 0xF3, 0xF9, 0xFB, 0xFE, 0xFF].contains(modRM) }
        return false
    }

    /// Encodings without a meaning: a few are tried, to see them fault.
    private static func isUndefined(_ opcode: UInt8, _ modRM: UInt8) -> Bool {
        if modRM < 0xC0 {
            let reg = (modRM >> 3) & 7
            return (opcode == 0xD9 && reg == 1) || (opcode == 0xDB && (reg == 4 || reg == 6))
                || (opcode == 0xDD && reg == 5)
        }
        switch opcode {
        case 0xD9: return 0xD1...0xD7 ~= modRM || [0xE2, 0xE3, 0xE6, 0xE7, 0xEF].contains(modRM)
        case 0xDA: return modRM >= 0xE0 && modRM != 0xE9
        case 0xDB: return 0xE5...0xE7 ~= modRM || modRM >= 0xF8
        case 0xDD: return modRM >= 0xF0
        case 0xDE: return 0xD8...0xDF ~= modRM && modRM != 0xD9
        case 0xDF: return 0xE1...0xE7 ~= modRM || modRM >= 0xF8
        default: return false
        }
    }

    // MARK: Initial state

    private mutating func double() -> UInt64 {
        switch random.below(10) {
        case 0: return random.pick([0, 1 << 63, 0x3FF0_0000_0000_0000, 0xBFF0_0000_0000_0000])
        case 1:
            return random.pick([
                0x7FF0_0000_0000_0000, 0xFFF0_0000_0000_0000, 0x7FF8_0000_0000_0001, 0x7FF0_0000_0000_0001,
            ])
        case 2: return random.next() & 0x800F_FFFF_FFFF_FFFF
        case 3: return random.next() & 0x800F_FFFF_FFFF_FFFF | 0x0010_0000_0000_0000
        case 4: return random.next() & 0x800F_FFFF_FFFF_FFFF | 0x7FE0_0000_0000_0000
        case 5: return Double(Int32(truncatingIfNeeded: random.next())).bitPattern
        case 6: return (Double(Int16(truncatingIfNeeded: random.next())) / 8).bitPattern
        case 7: return Double(Int64(bitPattern: random.next())).bitPattern
        case 8: return random.next() & 0xBFFF_FFFF_FFFF_FFFF | 0x3000_0000_0000_0000
        default: return random.next()
        }
    }
    private mutating func single() -> UInt64 {
        switch random.below(8) {
        case 0: return random.pick([0, 0x8000_0000, 0x3F80_0000, 0x7F80_0000, 0xFF80_0000, 0x7FC0_0001, 0xFF80_0001])
        case 1: return random.next() & 0x807F_FFFF
        case 2: return random.next() & 0x807F_FFFF | 0x0080_0000
        case 3: return random.next() & 0x807F_FFFF | 0x7F00_0000
        case 4: return UInt64(Float(Int16(truncatingIfNeeded: random.next())).bitPattern)
        case 5: return UInt64((Float(Int16(truncatingIfNeeded: random.next())) / 4).bitPattern)
        default: return random.next() & 0xFFFF_FFFF
        }
    }
    private mutating func vectorHalf() -> UInt64 {
        switch random.below(4) {
        case 0: return double()
        case 1: return single() | single() << 32
        case 2: return random.next()
        default: return random.pick([0, .max, 0x0001_0002_0003_0004, 0x8000_7FFF_8000_7FFF, 0x0102_0304_0506_0708])
        }
    }
    /// Significand, then sign and exponent.
    private mutating func extended() -> (UInt64, UInt64) {
        let sign = random.next() & 0x8000
        switch random.below(10) {
        case 0: return (0, sign)
        case 1: return (1 << 63, sign | 0x7FFF)
        case 2: return (1 << 63 | random.next() >> 1, sign | 0x7FFF)
        case 3: return (random.next() >> 1, sign)
        case 4: return (random.next(), random.next() & 0xFFFF)
        case 5: return (1 << 63 | random.next() & 0x7FFF_FFFF_FFFF_FC00, sign | 0x3FFF)
        case 6: return (1 << 63, sign | UInt64(0x3FF0 + random.below(0x60)))
        default: return (1 << 63 | random.next(), sign | UInt64(0x3F00 + random.below(0x200)))
        }
    }

    /// x87, MMX and SSE registers to begin with.
    mutating func initialFPU(_ state: inout OracleState) {
        var image = [UInt64](repeating: 0, count: 64)
        image[0] = 0x37F
        image[3] = 0x1F80
        if kind == .vector {
            if random.chance(40) { image[3] = 0x1F80 | random.next() & 0xE000 }
            if random.chance(15) { image[3] |= random.next() & 0x803F }
            if random.chance(10) { image[3] ^= random.next() & 0x1F80 }
            for index in 0..<32 { image[20 + index] = vectorHalf() }
            for index in 0..<8 { (image[4 + index * 2], image[5 + index * 2]) = (vectorHalf(), 0xFFFF) }
        }
        if kind == .x87 {
            var control: UInt64 = 0x37F
            if random.chance(50) { control = 0x7F | random.next() & 0xF00 }
            if random.chance(8) { control &= ~(random.next() & 0x3F) }
            let top = UInt64(random.below(8))
            let status = top << 11 | (random.chance(20) ? random.next() & 0x477F : 0)
            var tags = random.chance(30) ? 0xFF : random.next() & 0xFF
            if random.chance(10) { tags = 0 }
            // An exception that is pending from the start would end every program.
            let pending = status & ~control & 0x3F
            image[0] = control | (status & ~pending) << 16 | tags << 32
            for index in 0..<8 { (image[4 + index * 2], image[5 + index * 2]) = extended() }
        }
        image.withUnsafeBytes { source in
            withUnsafeMutableBytes(of: &state.fx) { $0.copyMemory(from: source) }
        }
    }
}
