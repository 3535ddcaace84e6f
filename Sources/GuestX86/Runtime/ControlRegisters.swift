import CPUCore

extension X86CPU {
    /// What MOV to CR0 does not answer with #GP (SDM volume 2, MOV to control registers).
    func allowsCR0(_ value: UInt64) -> Bool {
        if value >> 32 != 0 || value & CR0.pg != 0 && value & CR0.pe == 0 { return false }
        if value & CR0.nw != 0, value & CR0.cd == 0 { return false }
        let isPaged = state.pointee.cr0 & CR0.pg != 0
        if value & CR0.pg != 0, !isPaged, state.pointee.efer & EFER.lme != 0 {
            return state.pointee.cr4 & CR4.pae != 0 && !state.pointee.segments[1].isLong
        }
        return value & CR0.pg != 0 || !isPaged || !is64BitCode
    }

    /// MOV to CR0.
    func writeCR0(_ value: UInt64) -> Done {
        guard allowsCR0(value) else { return fault(.generalProtection, 0) }
        let new = value & 0xE005_003F | CR0.et
        let old = state.pointee.cr0
        if new & CR0.pg != 0, old & CR0.pg == 0, state.pointee.efer & EFER.lme != 0 {
            state.pointee.efer |= EFER.lma
        } else if new & CR0.pg == 0, old & CR0.pg != 0 {
            state.pointee.efer &= ~EFER.lma
        }
        state.pointee.cr0 = new
        if (old ^ new) & (CR0.pg | CR0.wp | CR0.pe) != 0 { flushTLB() }
        if old & CR0.pe != 0, new & CR0.pe == 0 { state.pointee.cpl = 0 }
        modeChanged()
        return true
    }

    func allowsCR3(_ value: UInt64) -> Bool { !isLongMode || value & Self.reservedCR3 == 0 }

    func writeCR3(_ value: UInt64) -> Done {
        guard allowsCR3(value) else { return fault(.generalProtection, 0) }
        let new = isLongMode ? value & ~(1 << 63) : value & 0xFFFF_FFFF
        if new != state.pointee.cr3 {
            let old = state.pointee.cr3
            state.pointee.cr3 = new
            tablesChanged(from: old)
        }
        return true
    }
    private static let reservedCR3: UInt64 = (1 << 63) - (1 << physicalBits)

    func allowsCR4(_ value: UInt64) -> Bool { value & ~CR4.supported == 0 && (!isLongMode || value & CR4.pae != 0) }

    func writeCR4(_ value: UInt64) -> Done {
        guard allowsCR4(value) else { return fault(.generalProtection, 0) }
        let old = state.pointee.cr4
        state.pointee.cr4 = value
        // Not for PGE: nothing stale is ever kept, so that there is nothing to flush.
        if (old ^ value) & (CR4.pae | CR4.pse | CR4.smep) != 0 { flushTLB() }
        return true
    }

    /// Reads a debug register; 4 and 5 are 6 and 7 unless CR4.DE.
    func readDebug(_ number: Int) -> UInt64? {
        guard let number = debugNumber(number) else { return nil }
        return state.pointee.debug[number]
    }

    func writeDebug(_ number: Int, _ value: UInt64) -> Done {
        guard let number = debugNumber(number) else { return false }
        switch number {
        case 6:
            if value >> 32 != 0 { return fault(.generalProtection, 0) }
            state.pointee.debug[6] = value & 0xE00F | 0xFFFF_0FF0
        case 7:
            if value >> 32 != 0 { return fault(.generalProtection, 0) }
            state.pointee.debug[7] = value & 0xFFFF_2BFF | 0x400
        default: state.pointee.debug[number] = value
        }
        modeChanged()
        return true
    }

    private func debugNumber(_ number: Int) -> Int? {
        guard number < 8, !(number == 4 || number == 5) || state.pointee.cr4 & CR4.de == 0 else {
            _ = fault(.invalidOpcode)
            return nil
        }
        // General detect: any access to the debug registers is trapped.
        if state.pointee.debug[7] & 1 << 13 != 0 {
            state.pointee.debug[6] |= 1 << 13
            state.pointee.debug[7] &= ~(1 << 13)
            _ = fault(.debug)
            return nil
        }
        return number == 4 || number == 5 ? number + 2 : number
    }

    // MARK: Model-specific registers (SDM volume 4)

    func allowsEFER(_ value: UInt64) -> Bool {
        if value & ~(EFER.sce | EFER.lme | EFER.lma | EFER.nxe) != 0 { return false }
        return (value ^ state.pointee.efer) & EFER.lme == 0 || state.pointee.cr0 & CR0.pg == 0
    }

    func readMSR(_ index: UInt32) -> UInt64? {
        let s = state
        switch index {
        case 0x10: return timestamp
        case 0x1B: return s.pointee.apicBase
        // Feature control: locked, nothing enabled.
        case 0x3A: return 1
        // Microcode revision.
        case 0x8B: return 0
        case 0x17, 0x2A, 0xCD, 0x1D9, 0x19B, 0x19C, 0x198: return 0
        // Eight variable ranges, fixed ranges, write combining.
        case 0xFE: return 0x508
        case 0x174: return s.pointee.sysenterCS
        case 0x175: return s.pointee.sysenterESP
        case 0x176: return s.pointee.sysenterEIP
        // Machine check: no banks.
        case 0x179, 0x17A: return 0
        case 0x1A0: return s.pointee.miscEnable
        case 0x200...0x20F: return s.pointee.mtrrVariable[Int(index - 0x200)]
        case 0x250, 0x258, 0x259, 0x268...0x26F: return s.pointee.mtrrFixed[Self.fixedRange(index)]
        case 0x277: return s.pointee.pat
        case 0x2FF: return s.pointee.mtrrDefault
        case 0xC000_0080: return s.pointee.efer
        case 0xC000_0081: return s.pointee.star
        case 0xC000_0082: return s.pointee.lstar
        case 0xC000_0083: return s.pointee.cstar
        case 0xC000_0084: return s.pointee.sfmask
        case 0xC000_0100: return s.pointee.segments[4].base
        case 0xC000_0101: return s.pointee.segments[5].base
        case 0xC000_0102: return s.pointee.kernelGSBase
        case 0xC000_0103: return s.pointee.tscAux
        default: return nil
        }
    }

    private static func fixedRange(_ index: UInt32) -> Int {
        switch index {
        case 0x250: 0
        case 0x258, 0x259: Int(index - 0x258) + 1
        default: Int(index - 0x268) + 3
        }
    }

    /// False: the register does not exist or the value is not allowed; #GP follows.
    func writeMSR(_ index: UInt32, _ value: UInt64) -> Bool {
        let s = state
        switch index {
        case 0x10:
            s.pointee.tscOffset = s.pointee.tscOffset &+ value &- timestamp
            setTime()
        case 0x1B: s.pointee.apicBase = value
        case 0x3A, 0x8B, 0x17, 0x2A, 0x79, 0x179, 0x17A, 0x1D9, 0x19B, 0x19C: break
        case 0x174: s.pointee.sysenterCS = value & 0xFFFF_FFFF
        case 0x175:
            guard isCanonical(value) else { return false }
            s.pointee.sysenterESP = value
        case 0x176:
            guard isCanonical(value) else { return false }
            s.pointee.sysenterEIP = value
        case 0x1A0: s.pointee.miscEnable = value
        case 0x200...0x20F: s.pointee.mtrrVariable[Int(index - 0x200)] = value
        case 0x250, 0x258, 0x259, 0x268...0x26F: s.pointee.mtrrFixed[Self.fixedRange(index)] = value
        case 0x277:
            for byte in 0..<8 {
                let type = (value >> UInt64(byte * 8)) & 0xFF
                guard type < 8, type != 2, type != 3 else { return false }
            }
            s.pointee.pat = value
        case 0x2FF: s.pointee.mtrrDefault = value
        case 0xC000_0080:
            guard allowsEFER(value) else { return false }
            let old = s.pointee.efer
            s.pointee.efer = value & ~EFER.lma | old & EFER.lma
            if (old ^ value) & EFER.nxe != 0 { flushTLB() }
        case 0xC000_0081: s.pointee.star = value
        case 0xC000_0082:
            guard isCanonical(value) else { return false }
            s.pointee.lstar = value
        case 0xC000_0083:
            guard isCanonical(value) else { return false }
            s.pointee.cstar = value
        case 0xC000_0084: s.pointee.sfmask = value & 0xFFFF_FFFF
        case 0xC000_0100:
            guard isCanonical(value) else { return false }
            s.pointee.segments[4].base = value
        case 0xC000_0101:
            guard isCanonical(value) else { return false }
            s.pointee.segments[5].base = value
        case 0xC000_0102:
            guard isCanonical(value) else { return false }
            s.pointee.kernelGSBase = value
        case 0xC000_0103: s.pointee.tscAux = value & 0xFFFF_FFFF
        default: return false
        }
        return true
    }

    /// Tells generated code how the time-stamp counter goes.
    func setTime() {
        state.pointee.core.clockShift = clock.shift
        state.pointee.core.timeOffset = clock.skipped &+ state.pointee.tscOffset
    }

    /// The time-stamp counter: virtual nanoseconds plus what the guest has added.
    var timestamp: UInt64 { clock.time(at: exactPosition) &+ state.pointee.tscOffset }
}
