/// Bytes → `Instruction`, by the opcode maps.
package struct Decoder {
    /// What came of it.
    package enum Result: Sendable {
        case ok
        /// The bytes given end within the instruction.
        case needMore
        /// More than 15 bytes: #GP.
        case tooLong
    }

    /// The code segment's default size: 16, 32 or 64 bits.
    package enum Size: UInt8, Sendable { case bits16 = 1, bits32 = 2, bits64 = 3 }

    private let bytes: UnsafePointer<UInt8>
    private let available: Int
    private var offset = 0
    private var isShort = false

    private init(_ bytes: UnsafePointer<UInt8>, _ available: Int) {
        self.bytes = bytes
        self.available = available
    }

    /// Decodes one instruction. An unknown opcode gives `.ok` with operation `.invalid`.
    /// - Parameters:
    ///   - bytes: the code.
    ///   - available: how many bytes may be read, 1 or more.
    ///   - isProtected: false in real and virtual-8086 mode, where some opcodes are undefined.
    package static func decode(
        _ bytes: UnsafePointer<UInt8>, available: Int, size: Size, isProtected: Bool,
        into instruction: inout Instruction
    ) -> Result {
        var decoder = Decoder(bytes, min(available, 15))
        instruction = Instruction()
        decoder.decode(size, isProtected, &instruction)
        if decoder.isShort { return available >= 15 ? .tooLong : .needMore }
        instruction.length = UInt8(decoder.offset)
        return .ok
    }

    private mutating func byte() -> UInt8 {
        if offset >= available {
            isShort = true
            return 0
        }
        defer { offset += 1 }
        return bytes[offset]
    }
    private mutating func little(_ count: Int) -> UInt64 {
        if offset + count > available {
            isShort = true
            return 0
        }
        var value: UInt64 = 0
        for index in 0..<count { value |= UInt64(bytes[offset + index]) << UInt64(index * 8) }
        offset += count
        return value
    }
    private mutating func signed(_ count: Int) -> Int64 {
        let raw = little(count)
        let shift = UInt64(64 - count * 8)
        return Int64(bitPattern: raw << shift) >> Int64(shift)
    }

    private mutating func decode(_ size: Size, _ isProtected: Bool, _ i: inout Instruction) {
        let is64 = size == .bits64
        var hasAddressSize = false
        var opcode = byte()
        prefixes: while !isShort {
            switch opcode {
            // In 64-bit mode only FS and GS overrides mean anything, and the others do not undo them.
            case 0x26: if !is64 { i.segment = 0 }
            case 0x2E: if !is64 { i.segment = 1 }
            case 0x36: if !is64 { i.segment = 2 }
            case 0x3E: if !is64 { i.segment = 3 }
            case 0x64: i.segment = 4
            case 0x65: i.segment = 5
            case 0x66: i.hasOperandSize = true
            case 0x67: hasAddressSize = true
            case 0xF0: i.hasLock = true
            case 0xF2:
                i.hasRepne = true
                i.hasRep = false
            case 0xF3:
                i.hasRep = true
                i.hasRepne = false
            case 0x40...0x4F where is64:
                // Only the REX byte right before the opcode counts.
                i.rex = opcode
                opcode = byte()
                switch opcode {
                case 0x26, 0x2E, 0x36, 0x3E, 0x64...0x67, 0xF0, 0xF2, 0xF3, 0x40...0x4F:
                    i.rex = 0
                    continue prefixes
                default: break prefixes
                }
            default: break prefixes
            }
            opcode = byte()
        }
        switch size {
        case .bits16: i.addressSize = hasAddressSize ? 2 : 1
        case .bits32: i.addressSize = hasAddressSize ? 1 : 2
        case .bits64: i.addressSize = hasAddressSize ? 2 : 3
        }

        var row = OpcodeRow()
        if opcode == 0x0F {
            opcode = byte()
            switch opcode {
            case 0x38:
                i.map = 2
                opcode = byte()
            case 0x3A:
                i.map = 3
                opcode = byte()
            default: i.map = 1
            }
        }
        if isShort { return }
        i.opcode = opcode
        if i.map == 0 { row = OpcodeMap.oneByte.rows[Int(opcode)] } else if i.map == 1 {
            row = OpcodeMap.twoByte.rows[Int(opcode)]
        }
        var simd: (hasModRM: Bool, hasImm8: Bool)?
        if i.map != 0, row.operation == .invalid || (opcode == 0xC3 && i.map == 1) {
            simd = SIMDMap.hasModRMAndImmediate(map: i.map, opcode: opcode, prefix: i.simdPrefix)
            if simd != nil { row.operation = .simd }
        }
        // POPCNT needs F3, else the opcode is undefined (JMPE of IA-64).
        if row.operation == .popcnt, !i.hasRep { row.operation = .invalid }

        setOperandSize(size, row.attributes, &i)
        if needsModRM(row) || simd?.hasModRM == true { modRM(is64, &i) }
        if row.operation == .group {
            let inner = OpcodeMap.groups.rows[Int(row.group) * 8 + Int(i.reg & 7)]
            row.operation = inner.operation
            if inner.first != .none { row.first = inner.first }
            if inner.second != .none { row.second = inner.second }
            row.attributes = row.attributes.union(inner.attributes.subtracting(.lockable))
            if !inner.attributes.contains(.lockable) { row.attributes.remove(.lockable) }
            setOperandSize(size, row.attributes, &i)
        }
        i.operation = row.operation
        i.first = row.first
        i.second = row.second
        i.third = row.third
        if is64, row.attributes.contains(.not64) { i.operation = .invalid }
        if is64, i.map == 0, opcode == 0x63 {
            i.operation = .movsxd
            i.first = .Gv
            i.second = .Ev
        } else if !isProtected, row.attributes.contains(.protectedOnly) {
            i.operation = .invalid
        }
        if i.operation == .invalid || i.operation == .ud { return }
        special(&i)
        immediates(is64, simd?.hasImm8 == true, &i)
        if i.hasLock, !(row.attributes.contains(.lockable) && i.isMemory && isMemoryForm(i.first)) {
            i.operation = .invalid
        }
        if i.first == .M || i.second == .M || i.first == .Mp || i.second == .Mp, !i.isMemory { i.operation = .invalid }
    }

    private func isMemoryForm(_ form: Operand) -> Bool { form == .Eb || form == .Ev || form == .M }

    private func setOperandSize(_ size: Size, _ attributes: OpcodeAttributes, _ i: inout Instruction) {
        switch size {
        case .bits16: i.operandSize = i.hasOperandSize ? 2 : 1
        case .bits32: i.operandSize = i.hasOperandSize ? 1 : 2
        case .bits64:
            if attributes.contains(.force64) || i.rexW {
                i.operandSize = 3
            } else if attributes.contains(.default64) {
                i.operandSize = i.hasOperandSize ? 1 : 3
            } else {
                i.operandSize = i.hasOperandSize ? 1 : 2
            }
        }
    }

    private func needsModRM(_ row: OpcodeRow) -> Bool {
        if row.operation == .group || row.attributes.contains(.modRM) { return true }
        for form in [row.first, row.second] {
            switch form {
            case .Eb, .Ew, .Ev, .Ey, .Gb, .Gw, .Gv, .Gy, .Sw, .Cd, .Dd, .M, .Mp: return true
            default: break
            }
        }
        return false
    }

    private mutating func modRM(_ is64: Bool, _ i: inout Instruction) {
        let modrm = byte()
        i.hasModRM = true
        i.mod = modrm >> 6
        i.reg = (modrm >> 3) & 7 | (i.rex & 4) << 1
        i.rm = modrm & 7 | (i.rex & 1) << 3
        // Moves to and from control and debug registers take registers whatever `mod` says.
        if i.map == 1, 0x20...0x23 ~= i.opcode { i.mod = 3 }
        if i.mod == 3 { return }
        if i.addressSize == 1 { return modRM16(modrm & 7, &i) }
        let low = modrm & 7
        if low == 4 {
            let sib = byte()
            i.scale = sib >> 6
            let index = (sib >> 3) & 7 | (i.rex & 2) << 2
            i.index = index == 4 ? -1 : Int8(index)
            let base = sib & 7
            if base == 5, i.mod == 0 {
                i.base = -1
                i.displacement = signed(4)
            } else {
                i.base = Int8(base | (i.rex & 1) << 3)
            }
        } else if low == 5, i.mod == 0 {
            i.base = is64 ? -2 : -1
            i.displacement = signed(4)
        } else {
            i.base = Int8(i.rm)
        }
        if i.mod == 1 { i.displacement = signed(1) } else if i.mod == 2 { i.displacement = signed(4) }
    }

    private mutating func modRM16(_ low: UInt8, _ i: inout Instruction) {
        // BX+SI, BX+DI, BP+SI, BP+DI, SI, DI, BP, BX
        let bases: (Int8, Int8) =
            switch low {
            case 0: (3, 6)
            case 1: (3, 7)
            case 2: (5, 6)
            case 3: (5, 7)
            case 4: (6, -1)
            case 5: (7, -1)
            case 6: i.mod == 0 ? (-1, -1) : (5, -1)
            default: (3, -1)
            }
        i.base = bases.0
        i.index = bases.1
        if i.mod == 1 { i.displacement = signed(1) } else if i.mod == 2 || (i.mod == 0 && low == 6) {
            i.displacement = signed(2)
        }
    }

    /// Opcodes whose meaning hangs on more than the maps say.
    private func special(_ i: inout Instruction) {
        if i.map == 0, i.opcode == 0x90 {
            if i.rex & 1 != 0 {
                i.operation = .xchg
                i.first = .Zv
                i.second = .rAX
            } else if i.hasRep {
                i.operation = .pause
            }
        }
        if i.map == 0, i.opcode == 0x8D, !i.isMemory { i.operation = .invalid }
        // Segment register 6 and 7 do not exist, and CS is not loaded by MOV.
        if i.operation == .movToSegment, i.reg & 7 == 1 || i.reg & 7 > 5 { i.operation = .invalid }
        if i.operation == .movFromSegment, i.reg & 7 > 5 { i.operation = .invalid }
        guard i.map == 1 else { return }
        if i.opcode == 0x01, i.mod == 3 {
            switch (i.reg & 7) << 3 | (i.rm & 7) {
            case 0x08: i.operation = .monitor
            case 0x09: i.operation = .mwait
            case 0x38: i.operation = .swapgs
            case 0x39: i.operation = .rdtscp
            case 0x20...0x27, 0x30...0x37: break
            default: i.operation = .invalid
            }
            if i.operation == .monitor || i.operation == .mwait || i.operation == .swapgs || i.operation == .rdtscp {
                i.first = .none
            }
        }
        if i.opcode == 0xAE {
            if i.hasOperandSize || i.hasRep || i.hasRepne {
                // CLFLUSHOPT, CLWB, RDFSBASE and so on are not advertised.
                i.operation = .invalid
            } else if i.mod == 3 {
                // LFENCE, MFENCE, SFENCE
                i.operation = i.reg & 7 >= 5 ? .fence : .invalid
            } else if i.operation == .fence {
                // XRSTOR, XSAVEOPT are not advertised.
                i.operation = .invalid
            }
        }
    }

    private mutating func immediates(_ is64: Bool, _ simdImmediate: Bool, _ i: inout Instruction) {
        if simdImmediate { i.immediate = UInt64(byte()) }
        for form in [i.first, i.second, i.third] {
            switch form {
            case .Ib: 
                if i.operation == .enter { i.immediate2 = UInt64(byte()) } else { i.immediate = UInt64(byte()) }
            case .Ibs, .Jb: i.immediate = UInt64(bitPattern: signed(1))
            case .Iw: i.immediate = little(2)
            case .Iz: i.immediate = UInt64(bitPattern: signed(i.operandSize == 1 ? 2 : 4))
            case .Jz: i.immediate = UInt64(bitPattern: signed(i.operandSize == 1 ? 2 : 4))
            case .Iv: i.immediate = little(1 << Int(i.operandSize))
            case .Ap:
                i.immediate = little(i.operandSize == 1 ? 2 : 4)
                i.immediate2 = little(2)
            case .Ob, .Ov: i.displacement = Int64(bitPattern: little(1 << Int(i.addressSize)))
            default: break
            }
        }
    }
}
