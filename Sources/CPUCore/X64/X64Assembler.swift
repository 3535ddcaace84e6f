#if arch(x86_64)
    /// Host general registers, in encoding order.
    enum HostRegister: UInt8 {
        case rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
        @inline(__always) var low: UInt8 { rawValue & 7 }
        @inline(__always) var isExtended: Bool { rawValue >= 8 }
    }

    /// Host condition codes, in encoding order.
    enum HostCondition: UInt8 {
        case o, no, b, nb, z, nz, be, nbe, s, ns, p, np, l, nl, le, nle
    }

    /// Arithmetic with two operands, as numbered in opcodes 80 … 83.
    enum HostArithmetic: UInt8 { case add, or, adc, sbb, and, sub, xor, cmp }

    /// Shifts and rotates, as numbered in opcodes C0 … D3.
    enum HostShift: UInt8 { case rol, ror, rcl, rcr, shl, shr, sal, sar }

    /// Where an operand is: a register, or memory at base + index << scale + displacement.
    struct HostOperand {
        var register: HostRegister = .rax
        var isMemory = false
        var base: HostRegister = .rbp
        var index: HostRegister?
        var scale: UInt8 = 0
        var displacement: Int32 = 0

        @inline(__always) static func reg(_ register: HostRegister) -> HostOperand { HostOperand(register: register) }
        @inline(__always)
        static func mem(
            _ base: HostRegister, _ displacement: Int32, index: HostRegister? = nil, scale: UInt8 = 0
        ) -> HostOperand {
            HostOperand(isMemory: true, base: base, index: index, scale: scale, displacement: displacement)
        }
        @inline(__always) func offset(by bytes: Int32) -> HostOperand {
            var copy = self
            copy.displacement += bytes
            return copy
        }
    }

    /// Writes x86-64 instructions. Widths are logarithms of bytes: 0 … 3. No instruction here is longer than 15 bytes.
    struct X64Assembler {
        /// Where the next byte is written.
        var cursor: UnsafeMutablePointer<UInt8>

        @inline(__always) mutating func byte(_ value: UInt8) {
            cursor.pointee = value
            cursor += 1
        }
        @inline(__always) mutating func word32(_ value: Int32) {
            UnsafeMutableRawPointer(cursor).storeBytes(of: value, as: Int32.self)
            cursor += 4
        }
        @inline(__always) mutating func word64(_ value: UInt64) {
            UnsafeMutableRawPointer(cursor).storeBytes(of: value, as: UInt64.self)
            cursor += 8
        }

        // MARK: Encoding

        /// Prefixes, opcode, ModRM. `reg` is a register number or an opcode extension. `opcode`: bits 7…0 the last byte,
        /// above it 0F or 0F38 where there is one. `isByte`: a register operand of 8 bits may need REX.
        @inline(__always)
        mutating func instruction(
            _ opcode: UInt32, _ width: Int, _ reg: UInt8, _ rm: HostOperand, byteReg: Bool = false, byteRM: Bool = false,
            prefix: UInt8 = 0
        ) {
            if width == 1 { byte(0x66) }
            if prefix != 0 { byte(prefix) }
            var rex: UInt8 = width == 3 ? 0x48 : 0
            if reg >= 8 { rex |= 0x44 }
            if rm.isMemory {
                if rm.base.isExtended { rex |= 0x41 }
                if let index = rm.index, index.isExtended { rex |= 0x42 }
            } else {
                if rm.register.isExtended { rex |= 0x41 }
                if byteRM, rm.register.rawValue >= 4 { rex |= 0x40 }
            }
            if byteReg, reg >= 4 { rex |= 0x40 }
            if rex != 0 { byte(rex) }
            if opcode > 0xFFFF { byte(UInt8(truncatingIfNeeded: opcode >> 16)) }
            if opcode > 0xFF { byte(UInt8(truncatingIfNeeded: opcode >> 8)) }
            byte(UInt8(truncatingIfNeeded: opcode))
            modRM(reg & 7, rm)
        }

        @inline(__always)
        private mutating func modRM(_ reg: UInt8, _ rm: HostOperand) {
            guard rm.isMemory else { return byte(0xC0 | reg << 3 | rm.register.low) }
            let isShort = Int32(Int8(truncatingIfNeeded: rm.displacement)) == rm.displacement
            let mod: UInt8 = rm.displacement == 0 && rm.base.low != 5 ? 0 : isShort ? 0x40 : 0x80
            if let index = rm.index {
                byte(mod | reg << 3 | 4)
                byte(rm.scale << 6 | index.low << 3 | rm.base.low)
            } else if rm.base.low == 4 {
                byte(mod | reg << 3 | 4)
                byte(0x24)
            } else {
                byte(mod | reg << 3 | rm.base.low)
            }
            if mod == 0x40 { byte(UInt8(truncatingIfNeeded: rm.displacement)) }
            if mod == 0x80 { word32(rm.displacement) }
        }

        // MARK: Moves

        mutating func mov(_ width: Int, _ dst: HostRegister, _ src: HostOperand) {
            if width == 0 {
                instruction(0x8A, 0, dst.rawValue, src, byteReg: true, byteRM: true)
            } else {
                instruction(0x8B, width, dst.rawValue, src)
            }
        }
        mutating func mov(_ width: Int, _ dst: HostRegister, _ src: HostRegister) { mov(width, dst, .reg(src)) }
        mutating func store(_ width: Int, _ dst: HostOperand, _ src: HostRegister) {
            if width == 0 {
                instruction(0x88, 0, src.rawValue, dst, byteReg: true, byteRM: true)
            } else {
                instruction(0x89, width, src.rawValue, dst)
            }
        }
        /// A constant, without touching flags.
        mutating func movImmediate(_ dst: HostRegister, _ value: UInt64) {
            if value <= 0xFFFF_FFFF {
                if dst.isExtended { byte(0x41) }
                byte(0xB8 | dst.low)
                word32(Int32(truncatingIfNeeded: value))
            } else if Int64(bitPattern: value) == Int64(Int32(truncatingIfNeeded: value)) {
                instruction(0xC7, 3, 0, .reg(dst))
                word32(Int32(truncatingIfNeeded: value))
            } else {
                byte(dst.isExtended ? 0x49 : 0x48)
                byte(0xB8 | dst.low)
                word64(value)
            }
        }
        /// A constant that fits the width (64 bits: sign-extended from 32).
        mutating func storeImmediate(_ width: Int, _ dst: HostOperand, _ value: UInt64) {
            instruction(width == 0 ? 0xC6 : 0xC7, width, 0, dst, byteRM: width == 0)
            immediate(width, value)
        }
        private mutating func immediate(_ width: Int, _ value: UInt64) {
            switch width {
            case 0: byte(UInt8(truncatingIfNeeded: value))
            case 1:
                byte(UInt8(truncatingIfNeeded: value))
                byte(UInt8(truncatingIfNeeded: value >> 8))
            default: word32(Int32(truncatingIfNeeded: value))
            }
        }
        /// Zero-extends 8 or 16 bits to 32 (and so to 64).
        mutating func zeroExtend(from width: Int, _ dst: HostRegister, _ src: HostOperand) {
            instruction(width == 0 ? 0x0FB6 : 0x0FB7, 2, dst.rawValue, src, byteRM: width == 0)
        }
        /// Sign-extends 8, 16 or 32 bits to `to`.
        mutating func signExtend(from width: Int, to: Int, _ dst: HostRegister, _ src: HostOperand) {
            switch width {
            case 0: instruction(0x0FBE, to, dst.rawValue, src, byteRM: true)
            case 1: instruction(0x0FBF, to, dst.rawValue, src)
            default: instruction(0x63, 3, dst.rawValue, src)
            }
        }
        mutating func lea(_ width: Int, _ dst: HostRegister, _ src: HostOperand) {
            instruction(0x8D, width, dst.rawValue, src)
        }
        mutating func exchange(_ width: Int, _ a: HostRegister, _ b: HostRegister) {
            instruction(0x87, width, a.rawValue, .reg(b))
        }
        mutating func byteSwap(_ width: Int, _ register: HostRegister) {
            var rex: UInt8 = width == 3 ? 0x48 : 0
            if register.isExtended { rex |= 0x41 }
            if rex != 0 { byte(rex) }
            byte(0x0F)
            byte(0xC8 | register.low)
        }

        // MARK: Arithmetic

        mutating func arithmetic(_ operation: HostArithmetic, _ width: Int, _ dst: HostRegister, _ src: HostOperand) {
            let code = UInt32(operation.rawValue) << 3 | (width == 0 ? 2 : 3)
            instruction(code, width, dst.rawValue, src, byteReg: width == 0, byteRM: width == 0)
        }
        mutating func arithmetic(_ operation: HostArithmetic, _ width: Int, _ dst: HostOperand, _ src: HostRegister) {
            let code = UInt32(operation.rawValue) << 3 | (width == 0 ? 0 : 1)
            instruction(code, width, src.rawValue, dst, byteReg: width == 0, byteRM: width == 0)
        }
        /// The immediate must fit 32 bits sign-extended when the width is 64 bits.
        mutating func arithmetic(_ operation: HostArithmetic, _ width: Int, _ dst: HostOperand, immediate value: UInt64) {
            if width == 0 {
                instruction(0x80, 0, operation.rawValue, dst, byteRM: true)
                return byte(UInt8(truncatingIfNeeded: value))
            }
            let signed =
                width == 1 ? Int64(Int16(truncatingIfNeeded: value))
                : width == 2 ? Int64(Int32(truncatingIfNeeded: value)) : Int64(bitPattern: value)
            if signed >= -128, signed <= 127 {
                instruction(0x83, width, operation.rawValue, dst)
                byte(UInt8(truncatingIfNeeded: value))
            } else {
                instruction(0x81, width, operation.rawValue, dst)
                immediate(width, value)
            }
        }
        mutating func test(_ width: Int, _ a: HostOperand, _ b: HostRegister) {
            instruction(width == 0 ? 0x84 : 0x85, width, b.rawValue, a, byteReg: width == 0, byteRM: width == 0)
        }
        mutating func test(_ width: Int, _ a: HostOperand, immediate value: UInt64) {
            instruction(width == 0 ? 0xF6 : 0xF7, width, 0, a, byteRM: width == 0)
            immediate(width, value)
        }
        /// F6/F7: 2 not, 3 neg, 4 mul, 5 imul, 6 div, 7 idiv.
        mutating func unary(_ code: UInt8, _ width: Int, _ operand: HostOperand) {
            instruction(width == 0 ? 0xF6 : 0xF7, width, code, operand, byteRM: width == 0)
        }
        /// FE/FF: 0 inc, 1 dec.
        mutating func increment(_ code: UInt8, _ width: Int, _ operand: HostOperand) {
            instruction(width == 0 ? 0xFE : 0xFF, width, code, operand, byteRM: width == 0)
        }
        mutating func multiply(_ width: Int, _ dst: HostRegister, _ src: HostOperand) {
            instruction(0x0FAF, width, dst.rawValue, src)
        }
        mutating func shift(_ operation: HostShift, _ width: Int, _ dst: HostOperand, by count: UInt8) {
            instruction(width == 0 ? 0xC0 : 0xC1, width, operation.rawValue, dst, byteRM: width == 0)
            byte(count)
        }
        /// By CL.
        mutating func shift(_ operation: HostShift, _ width: Int, _ dst: HostOperand) {
            instruction(width == 0 ? 0xD2 : 0xD3, width, operation.rawValue, dst, byteRM: width == 0)
        }
        mutating func bitTest(_ width: Int, _ operand: HostOperand, bit: UInt8) {
            instruction(0x0FBA, width, 4, operand)
            byte(bit)
        }
        mutating func set(_ condition: HostCondition, _ dst: HostOperand) {
            instruction(0x0F90 | UInt32(condition.rawValue), 0, 0, dst, byteRM: true)
        }
        mutating func move(_ condition: HostCondition, _ width: Int, _ dst: HostRegister, _ src: HostOperand) {
            instruction(0x0F40 | UInt32(condition.rawValue), width, dst.rawValue, src)
        }

        // MARK: Flags, stack, control

        mutating func lahf() { byte(0x9F) }
        mutating func sahf() { byte(0x9E) }
        mutating func push(_ register: HostRegister) {
            if register.isExtended { byte(0x41) }
            byte(0x50 | register.low)
        }
        mutating func pop(_ register: HostRegister) {
            if register.isExtended { byte(0x41) }
            byte(0x58 | register.low)
        }
        mutating func ret() { byte(0xC3) }
        mutating func jump(_ operand: HostOperand) { instruction(0xFF, 2, 4, operand) }
        mutating func call(_ operand: HostOperand) { instruction(0xFF, 2, 2, operand) }

        /// A jump whose target `bind` fills in; gives the place of its displacement.
        mutating func jump() -> UnsafeMutablePointer<UInt8> {
            byte(0xE9)
            word32(0)
            return cursor - 4
        }
        mutating func jump(if condition: HostCondition) -> UnsafeMutablePointer<UInt8> {
            byte(0x0F)
            byte(0x80 | condition.rawValue)
            word32(0)
            return cursor - 4
        }
        mutating func jump(to target: UnsafeMutablePointer<UInt8>) {
            byte(0xE9)
            word32(Int32(truncatingIfNeeded: target - (cursor + 4)))
        }
        mutating func jump(if condition: HostCondition, to target: UnsafeMutablePointer<UInt8>) {
            byte(0x0F)
            byte(0x80 | condition.rawValue)
            word32(Int32(truncatingIfNeeded: target - (cursor + 4)))
        }
        mutating func call(_ target: UnsafeMutablePointer<UInt8>) {
            byte(0xE8)
            word32(Int32(truncatingIfNeeded: target - (cursor + 4)))
        }
        /// Lets the jump at `place` come here.
        func bind(_ place: UnsafeMutablePointer<UInt8>) {
            UnsafeMutableRawPointer(place).storeBytes(
                of: Int32(truncatingIfNeeded: cursor - (place + 4)), as: Int32.self)
        }
    }
#endif
