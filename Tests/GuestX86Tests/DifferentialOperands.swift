import CHostOracle

extension DifferentialGenerator {
    /// ModRM, SIB and displacement of a memory operand. `address`: RIP-relative, to be filled in after the ModRM byte.
    mutating func memoryOperand(_ reg: Int, _ rex: UInt8, _ addressSize: Int) -> (bytes: [UInt8], address: UInt64?) {
        let field = UInt8(reg & 7) << 3
        if addressSize == 2 { return (memory16(field), nil) }
        let aim = random.chance(75)
        switch random.below(12) {
        case 0:
            // Displacement only; relative to RIP in 64-bit mode.
            if is64 {
                let target = random.chance(85) ? pointer() : UInt64(ORACLE_CODE) + UInt64(random.below(4096))
                return ([field | 5, 0, 0, 0, 0], target)
            }
            return ([field | 5] + little(pointer(), 4), nil)
        case 1:
            // SIB without base.
            let index = random.below(8)
            let scale = random.below(4)
            if aim, index | Int(rex & 2) << 2 != 4 { set(index | Int(rex & 2) << 2, UInt64(random.below(64))) }
            return ([field | 4, UInt8(scale << 6 | index << 3 | 5)] + little(pointer(), 4), nil)
        default: break
        }
        let mod = random.below(3)
        var displacement = Int64(Int8(truncatingIfNeeded: random.next()))
        if mod == 2, random.chance(20) { displacement = Int64(random.below(8192)) - 4096 }
        if mod == 0 { displacement = 0 }
        let bytes = mod == 0 ? [] : little(UInt64(bitPattern: displacement), mod == 1 ? 1 : 4)
        var base = random.below(8)
        if random.chance(25) || base == 4 {
            // SIB with base and index.
            if mod == 0, base == 5 { base = 3 }
            let index = random.below(8)
            let baseRegister = base | Int(rex & 1) << 3
            let indexRegister = index | Int(rex & 2) << 2
            if aim {
                if baseRegister != 4 || random.chance(5) { set(baseRegister, pointer()) }
                if indexRegister != 4, indexRegister != baseRegister || random.chance(10) {
                    set(indexRegister, UInt64(random.below(64)))
                }
            }
            let scale = random.below(4)
            return ([UInt8(mod << 6) | field | 4, UInt8(scale << 6 | index << 3 | base)] + bytes, nil)
        }
        if mod == 0, base == 5 { base = 7 }
        if aim { set(base | Int(rex & 1) << 3, pointer()) }
        return ([UInt8(mod << 6) | field | UInt8(base)] + bytes, nil)
    }

    private mutating func memory16(_ field: UInt8) -> [UInt8] {
        let rm = random.below(8)
        let mod = random.below(3)
        if mod == 0, rm == 6 { return [field | 6] + little(pointer(), 2) }
        if random.chance(75) {
            let base = [3, 3, 5, 5, 6, 7, 5, 3][rm]
            set(base, pointer())
            if rm < 4 { set(rm & 1 == 0 ? 6 : 7, UInt64(random.below(256))) }
        }
        return [UInt8(mod << 6) | field | UInt8(rm)] + little(random.next(), mod)
    }
}
