import CPUCore
import GuestX86

extension X86CPU {
    /// Puts a fresh CPU into the state a boot loader hands over.
    package func enter(_ boot: BootState) {
        if boot.mode == .reset { return }
        let s = state
        let data = Segment(selector: boot.dataSelector, attributes: 0xC093, limit: .max, base: 0)
        switch boot.mode {
        case .reset: break
        case .real:
            for index in 0..<6 {
                let selector = index == 1 ? boot.codeSelector : boot.dataSelector
                s.pointee.segments[index] = Segment(
                    selector: selector, attributes: index == 1 ? 0x9B : 0x93, limit: 0xFFFF, base: UInt64(selector) << 4)
            }
            s.pointee.core.pc = boot.entry &- UInt64(boot.codeSelector) << 4
        case .protected32, .long64:
            for index in [0, 2, 3, 4, 5] { s.pointee.segments[index] = data }
            let isLong = boot.mode == .long64
            s.pointee.segments[1] = Segment(
                selector: boot.codeSelector, attributes: isLong ? 0xA09B : 0xC09B, limit: .max, base: 0)
            s.pointee.cr0 = CR0.pe | CR0.et
            if isLong {
                s.pointee.cr0 |= CR0.pg
                s.pointee.cr4 = CR4.pae
                s.pointee.efer = EFER.lme | EFER.lma
                s.pointee.cr3 = boot.pageTables
            }
            s.pointee.core.pc = boot.entry
        }
        s.pointee.gdtBase = boot.gdtBase
        s.pointee.gdtLimit = boot.gdtLimit
        s.pointee.idtLimit = 0
        s.pointee.core.registers[0] = UInt64(boot.a)
        s.pointee.core.registers[3] = UInt64(boot.b)
        s.pointee.core.registers[2] = 0
        s.pointee.core.registers[4] = boot.stack
        s.pointee.core.registers[6] = boot.source
        forgetTranslations()
    }

    /// Address line 20.
    package func setA20(_ enabled: Bool) {
        let mask: UInt64 = enabled ? .max : ~(1 << 20)
        if mask == state.pointee.a20Mask { return }
        state.pointee.a20Mask = mask
        forgetTranslations()
    }
}
