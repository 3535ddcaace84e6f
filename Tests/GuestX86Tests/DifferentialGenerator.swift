import CHostOracle
import CPUCore
import GuestX86

/// Makes random programs from the rows of the opcode maps.
struct DifferentialGenerator {
    let bits: Int
    var random: RandomSource
    private let forms: [Form]
    var pieces: [Piece] = []
    /// What programs are made of.
    let kind: Kind

    enum Kind: String, Sendable { case integer, vector, x87 }

    /// One opcode, with its group's row.
    struct Form {
        var map: Int
        var opcode: Int
        var reg: Int?
        var row: OpcodeRow
    }

    init(bits: Int, seed: UInt64, kind: Kind = .integer) {
        self.bits = bits
        self.kind = kind
        random = RandomSource(seed: seed)
        forms = Self.allForms(bits)
    }

    var is64: Bool { bits == 64 }

    /// Operations that depend on the system below, or differ between processors by design.
    private static let excluded: Set<GuestX86.Operation> = [
        .invalid, .group, .simd, .x87, .ud, .ins, .outs, .inImmediate, .inDX, .outImmediate, .outDX, .hlt, .cli, .sti,
        .int, .int1, .iret, .syscall, .sysret, .sysenter, .sysexit, .swapgs, .monitor, .mwait, .clac, .stac, .xgetbv,
        .rdtsc, .rdtscp, .rdmsr, .wrmsr, .rdpmc, .cpuid, .rsm, .invd, .wbinvd, .invlpg, .lgdt, .lidt, .sgdt, .sidt,
        .lldt, .ltr, .sldt, .str, .verr, .verw, .lar, .lsl, .lmsw, .smsw, .clts, .movFromControl, .movToControl,
        .movFromDebug, .movToDebug, .movToSegment, .popSegment, .les, .lds, .lss, .lfs, .lgs, .jmpFar,
        .jmpFarPointer, .callFar, .callFarPointer, .retFar, .retFarImmediate, .fxsave, .fxrstor, .ldmxcsr, .stmxcsr,
        .wait,
    ]

    static func allForms(_ bits: Int) -> [Form] {
        var forms: [Form] = []
        for (map, table) in [OpcodeMap.oneByte, OpcodeMap.twoByte].enumerated() {
            for opcode in 0..<256 {
                let row = table.rows[opcode]
                // In 64-bit mode these introduce VEX and EVEX encodings, which the host may know, or are REX
                // prefixes.
                if bits == 64, map == 0, [0x62, 0xC4, 0xC5].contains(opcode) || opcode >> 4 == 4 { continue }
                if row.operation != .group {
                    if !excluded.contains(row.operation) {
                        forms.append(Form(map: map, opcode: opcode, reg: nil, row: row))
                    }
                    continue
                }
                for reg in 0..<8 {
                    let inner = OpcodeMap.groups.rows[Int(row.group) * 8 + reg]
                    if excluded.contains(inner.operation) { continue }
                    var merged = row
                    merged.operation = inner.operation
                    if inner.first != .none { merged.first = inner.first }
                    if inner.second != .none { merged.second = inner.second }
                    merged.attributes = inner.attributes.union(row.attributes.subtracting(.lockable))
                    forms.append(Form(map: map, opcode: opcode, reg: reg, row: merged))
                }
            }
        }
        return forms
    }

    // MARK: Values

    static let dataBase = UInt64(ORACLE_DATA)
    static let dataSize = Int(ORACLE_DATA_SIZE)

    /// Offset of data within its segment, mostly well inside the area.
    mutating func pointer() -> UInt64 {
        var offset = random.below(Self.dataSize)
        switch random.below(20) {
        case 0: offset = random.pick([0, 1, Self.dataSize - 1, Self.dataSize - 4, Self.dataSize - 8, -3, -8])
        case 1: offset = 4096 * random.below(4) + random.below(16) - 8
        case 2: break
        default: offset = offset & ~15 & 0x3FF0 | (random.chance(20) ? random.below(16) : 0)
        }
        return UInt64(bitPattern: Int64(offset)) &+ (bits == 16 ? 0 : Self.dataBase)
    }

    mutating func value() -> UInt64 {
        switch random.below(10) {
        case 0...1: return random.next()
        case 2...4: return pointer()
        case 5: return UInt64(random.below(256))
        case 6: return random.pick([0, 1, 2, .max, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0x7FFF_FFFF, 0x8000_0000])
        case 7: return random.pick([0xFFFF_FFFF, 0x7FFF_FFFF_FFFF_FFFF, 1 << 63, 0x8000_0000_0000_0001, 0xFFFF])
        case 8: return UInt64(truncatingIfNeeded: Int32(truncatingIfNeeded: random.next()))
        default: return random.next() >> UInt64(random.below(64))
        }
    }

    /// Registers, flags and FPU state to begin with.
    mutating func initialState() -> OracleState {
        var state = OracleState()
        withUnsafeMutableBytes(of: &state.gpr) { raw in
            for index in 0..<16 {
                var number = value()
                if index == 4 { number = pointer() & (random.chance(95) ? ~15 : .max) }
                raw.storeBytes(of: bits == 64 ? number : number & 0xFFFF_FFFF, toByteOffset: index * 8, as: UInt64.self)
            }
        }
        state.flags = 0x202 | (random.next() & UInt64(Flags.all))
        if random.chance(10) { state.flags |= UInt64(EFlags.df) }
        if random.chance(2) { state.flags |= UInt64(EFlags.ac) }
        if kind != .integer { state.flags &= ~UInt64(EFlags.ac) }
        state.rip = bits == 16 ? 0 : UInt64(ORACLE_CODE)
        initialFPU(&state)
        return state
    }

    // MARK: Programs

    mutating func program() -> DifferentialProgram {
        pieces = []
        let count = 1 + random.below(random.chance(30) ? 20 : 8)
        for _ in 0..<count {
            switch kind {
            case .vector where random.chance(90): vectorInstruction()
            case .x87 where random.chance(95): x87Instruction()
            default: instruction(random.pick(forms))
            }
        }
        // Branches lead forward: at most to the end.
        for index in pieces.indices {
            guard let patch = pieces[index].patch else { continue }
            let target = index + 1 + random.below(min(pieces.count - index, 6))
            switch patch {
            case .relative(_, let at, let width): pieces[index].patch = .relative(piece: target, at: at, width: width)
            case .absolute(_, let at, let width): pieces[index].patch = .absolute(piece: target, at: at, width: width)
            case .address: break
            }
        }
        return DifferentialProgram(bits: bits, pieces: pieces)
    }

    mutating func add(
        _ bytes: [UInt8], _ name: String = "set-up", _ effect: FlagEffect = FlagEffect(), _ patch: Piece.Patch? = nil
    ) {
        pieces.append(Piece(bytes: bytes, name: name, effect: effect, patch: patch))
    }

    func little(_ value: UInt64, _ width: Int) -> [UInt8] {
        (0..<width).map { UInt8(truncatingIfNeeded: value >> UInt64($0 * 8)) }
    }

    /// MOV register, immediate in the mode's default operand size.
    mutating func set(_ register: Int, _ value: UInt64, patch: Bool = false) {
        let prefix: [UInt8] = register >= 8 ? [0x41] : []
        let width = bits == 16 ? 2 : 4
        let head = prefix + [0xB8 + UInt8(register & 7)]
        add(
            head + little(value, width), "set-up", FlagEffect(),
            patch ? .absolute(piece: 0, at: head.count, width: width) : nil)
    }

    private mutating func instruction(_ form: Form) {
        var row = form.row
        if is64, form.map == 0, form.opcode == 0x63 { row.operation = .movsxd }
        let operation = row.operation
        let isBranch = row.attributes.contains(.force64)
        var prefixes: [UInt8] = []
        var hasOperandSize = random.chance(25)
        // AMD processors heed an operand-size prefix of near branches in 64-bit mode; Intel's do not.
        if isBranch { hasOperandSize = bits != 64 && random.chance(3) }
        if operation == .bswap { hasOperandSize = bits == 16 }
        // With a prefix these are CLFLUSHOPT and CLWB.
        if operation == .fence || operation == .clflush { hasOperandSize = false }
        // How much a 16-bit MOVSXD reads differs between AMD and Intel.
        if operation == .movsxd { hasOperandSize = false }
        if hasOperandSize { prefixes.append(0x66) }
        let hasAddressSize = random.chance(bits == 16 ? 25 : bits == 32 ? 3 : 8)
        if hasAddressSize { prefixes.append(0x67) }
        if random.chance(8) { prefixes.append(random.pick([0x26, 0x2E, 0x36, 0x3E, 0x65])) }
        switch operation {
        case .movs, .cmps, .stos, .lods, .scas:
            if random.chance(60) { prefixes.append(random.pick([0xF2, 0xF3])) }
        // AMD processors give a repeat prefix a meaning here.
        case .loop, .loope, .loopne, .jcxz: break
        case .popcnt: if random.chance(90) { prefixes.append(0xF3) }
        default: if form.map == 0, random.chance(2) { prefixes.append(random.pick([0xF2, 0xF3])) }
        }
        let needs = modRMForms(row) || form.reg != nil
        let onlyMemory = row.first == .M || row.second == .M || row.first == .Mp || row.second == .Mp
        // XSAVEOPT and XRSTOR, which hosts have.
        let isFence = operation == .fence
        // PREFETCH of a register is undefined on AMD processors and does nothing on Intel's.
        // BOUND of a register is an EVEX prefix, which the host may know.
        let isAlwaysMemory = operation == .prefetch || operation == .bound
        let isMemory = needs && !isFence && (isAlwaysMemory || (onlyMemory ? random.chance(97) : random.chance(55)))
        if row.attributes.contains(.lockable), isMemory ? random.chance(12) : random.chance(1) {
            prefixes.append(0xF0)
        } else if form.map == 0, random.chance(1), operation != .nop {
            prefixes.append(0xF0)
        }
        var rex: UInt8 = 0
        if is64, random.chance(60) { rex = 0x40 | UInt8(random.below(16)) }
        if is64, random.chance(1) {
            // A REX prefix that is not the last does not count.
            prefixes.append(0x40 | UInt8(random.below(16)))
            prefixes.append(0x3E)
        }
        let operandSize: Int
        if is64 {
            let isStack = row.attributes.contains(.default64) || isBranch
            operandSize = rex & 8 != 0 || (isStack && !hasOperandSize) ? 8 : hasOperandSize ? 2 : 4
        } else {
            operandSize = (bits == 16) != hasOperandSize ? 2 : 4
        }
        let addressSize = is64 ? (hasAddressSize ? 4 : 8) : (bits == 16) != hasAddressSize ? 2 : 4

        prepare(operation, row, operandSize)
        var count: Int?
        var opcodeBytes = [UInt8](form.map == 1 ? [0x0F] : []) + [UInt8(form.opcode)]
        var patch: Piece.Patch?
        var addressAt: (UInt64, Int)?
        if needs {
            var reg = form.reg ?? random.below(8)
            if form.reg == nil, reg == 4, random.chance(70) { reg = random.below(8) }
            // MOV from a segment register that does not exist is tested as any; FS and GS would differ from the host.
            if row.second == .Sw || row.first == .Sw { reg = random.pick([0, 1, 2, 3, 0, 3, 6, 7]) }
            if isMemory {
                if case .bt = operation, row.second == .Gv, random.chance(80) {
                    set(reg | Int(rex & 4) << 1, UInt64(random.below(2048)))
                }
                if [.bts, .btr, .btc].contains(operation), row.second == .Gv, random.chance(80) {
                    set(reg | Int(rex & 4) << 1, UInt64(random.below(2048)))
                }
                let memory = memoryOperand(reg, rex, addressSize)
                if let address = memory.address { addressAt = (address, opcodeBytes.count + 2 - 1) }
                opcodeBytes += memory.bytes
            } else {
                var rm = random.below(8)
                if rm == 4, random.chance(70) { rm = random.below(8) }
                if operation == .jmpNear || operation == .callNear, random.chance(70) {
                    set(rm | Int(rex & 1) << 3, 0, patch: true)
                }
                opcodeBytes.append(0xC0 | UInt8(reg << 3 | rm))
            }
        }
        if operation == .arpl { prefixes.removeAll { $0 == 0x2E } }
        prefixes = shuffled(prefixes)
        var head = prefixes + (rex != 0 ? [rex] : [])
        if operation == .shld || operation == .shrd, row.third == .CL, operandSize == 2 || random.chance(40) {
            // More than the width is undefined for 16 bits. MOV CL, in one piece with it: no branch may part them.
            head = [0xB1, UInt8(random.below(16))] + head
        }
        for operand in [row.first, row.second, row.third] {
            switch operand {
            case .Ib:
                var number = UInt8(truncatingIfNeeded: random.next())
                if operation == .enter { number = random.chance(50) ? 0 : UInt8(random.below(5)) }
                if operation == .aam, random.chance(70) { number = 10 }
                switch operation {
                case .shl, .shr, .sar, .rol, .ror, .rcl, .rcr, .shld, .shrd:
                    if random.chance(40) { number &= 31 }
                    if operation == .shld || operation == .shrd, operandSize == 2 { number &= 15 }
                    let isByte = row.first == .Eb
                    count = Int(number) & (operandSize == 8 && !isByte ? 63 : 31)
                    if operation == .rcl || operation == .rcr {
                        // A count that is a multiple of the width plus one changes nothing, and then not OF either.
                        if count != 1 { count = count == 0 ? 0 : nil }
                    }
                default: break
                }
                opcodeBytes.append(number)
            case .one: count = 1
            case .Ibs: opcodeBytes.append(UInt8(truncatingIfNeeded: random.next()))
            case .Iw:
                var number = random.next()
                if [.enter, .retImmediate].contains(operation) { number = UInt64(random.below(64)) }
                opcodeBytes += little(number, 2)
            case .Iz: opcodeBytes += little(value(), operandSize == 2 ? 2 : 4)
            case .Iv: opcodeBytes += little(value(), operandSize)
            case .Ob, .Ov: opcodeBytes += little(pointer(), addressSize)
            case .Jb:
                patch = .relative(piece: 0, at: head.count + opcodeBytes.count, width: 1)
                opcodeBytes.append(0)
            case .Jz:
                let width = operandSize == 2 ? 2 : 4
                patch = .relative(piece: 0, at: head.count + opcodeBytes.count, width: width)
                opcodeBytes += little(0, width)
            default: break
            }
        }
        if let (address, at) = addressAt { patch = .address(address, at: head.count + at) }
        add(head + opcodeBytes, "\(operation)", effect(row, count, prefixes), patch)
    }

    private func effect(_ row: OpcodeRow, _ count: Int?, _ prefixes: [UInt8]) -> FlagEffect {
        var effect = FlagEffect(row.operation, count: count)
        switch row.operation {
        case .cmps, .scas:
            let isRepeated = prefixes.contains(0xF2) || prefixes.contains(0xF3)
            effect.writes = isRepeated ? 0 : Flags.all
        default: break
        }
        return effect
    }

    /// Instructions in front that make the next one likely to do its work rather than to fault.
    private mutating func prepare(_ operation: GuestX86.Operation, _ row: OpcodeRow, _ operandSize: Int) {
        if FlagEffect(operation).reads != 0 {
            let reads = FlagEffect(operation).reads
            let soFar = DifferentialProgram(bits: bits, pieces: pieces).link(base: 0)
            let pending = pieces.reduce(0) { $0 | $1.effect.undefined }
            if (soFar.undefined.last ?? 0) & reads != 0 || hasBranches, pending & reads != 0 {
                // CMP AL, imm8 defines them all.
                add([0x3C, UInt8(truncatingIfNeeded: random.next())], "cmp", FlagEffect(.cmp))
            }
        }
        switch operation {
        case .movs, .cmps, .stos, .lods, .scas:
            // Which operand of CMPS is looked at first when both fault is the processor's affair.
            if operation == .cmps || random.chance(80) { set(6, pointer()) }
            if operation == .cmps || random.chance(80) { set(7, pointer()) }
            if random.chance(90) { set(1, UInt64(random.below(40))) }
        case .xlat: if random.chance(80) { set(3, pointer()) }
        case .leave, .enter: if random.chance(80) { set(5, pointer()) }
        case .loop, .loope, .loopne, .jcxz: if random.chance(60) { set(1, UInt64(random.below(3))) }
        case .shl, .shr, .sar, .rol, .ror, .rcl, .rcr:
            if row.second == .CL, random.chance(60) { add([0xB1, UInt8(random.below(35))]) }
        case .div:
            if random.chance(60) { set(2, UInt64(random.below(4))) }
        case .idiv:
            if random.chance(50) { add([0x99]) }
        case .popf:
            if random.chance(90) {
                var flags = random.next() & UInt64(Flags.all)
                if random.chance(10) { flags |= UInt64(EFlags.df) }
                if random.chance(5) { flags |= UInt64(EFlags.tf) }
                if random.chance(5) { flags |= UInt64(EFlags.ac) }
                if random.chance(10) { flags |= random.next() & 0x3E_F000 & ~UInt64(EFlags.ac) }
                add([0x68] + little(flags, bits == 16 ? 2 : 4), "push")
                if bits == 32, random.chance(3) { add([0x58], "pop") }
            }
        case .ret, .retImmediate:
            if random.chance(80) {
                add(
                    [0x68] + little(0, bits == 16 ? 2 : 4), "push", FlagEffect(),
                    .absolute(piece: 0, at: 1, width: bits == 16 ? 2 : 4))
            }
        default: break
        }
    }

    private var hasBranches: Bool {
        pieces.contains {
            if case .relative = $0.patch { true } else if case .absolute = $0.patch { true } else { false }
        }
    }

    private func modRMForms(_ row: OpcodeRow) -> Bool {
        if row.attributes.contains(.modRM) { return true }
        return [row.first, row.second].contains {
            [.Eb, .Ew, .Ev, .Ey, .Gb, .Gw, .Gv, .Gy, .Sw, .Cd, .Dd, .M, .Mp].contains($0)
        }
    }

    private mutating func shuffled(_ bytes: [UInt8]) -> [UInt8] {
        // A REX prefix in the middle is followed by a fixed one: the order of such lists stays.
        if is64, bytes.contains(where: { $0 & 0xF0 == 0x40 }) { return bytes }
        var result = bytes
        var index = result.count - 1
        while index > 0 {
            result.swapAt(index, random.below(index + 1))
            index -= 1
        }
        return result
    }
}
