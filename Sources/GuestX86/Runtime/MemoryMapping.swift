import CPUCore

/// Where memory answers in the physical address space, as the chips around the CPU switch it.
extension X86CPU {
    /// The host bridge's PAM registers: bytes PAM0...PAM6 of the i440FX (datasheet 290549, 3.2.18), PAM0 lowest. In each
    /// half a byte, bit 0 lets reads through to RAM and bit 1 writes.
    package func setShadow(_ control: UInt64) {
        if control == state.pointee.shadowControl { return }
        state.pointee.shadowControl = control
        applyMappings()
        forgetTranslations()
    }

    /// The physical address of the linear frame buffer; 0 for none.
    package func setVideoBase(_ base: UInt64) {
        if base == state.pointee.videoBase { return }
        state.pointee.videoBase = base
        applyMappings()
        forgetTranslations()
    }

    /// Brings the memory to what the state says.
    func applyMappings() {
        var reads: UInt64 = 0
        var writes: UInt64 = 0
        let control = state.pointee.shadowControl
        func set(_ half: UInt64, _ pages: Range<UInt64>) {
            let mask = (UInt64.max >> (64 - UInt64(pages.count))) << pages.lowerBound
            if half & 1 != 0 { reads |= mask }
            if half & 2 != 0 { writes |= mask }
        }
        // PAM0 has the BIOS area 0xF0000...0xFFFFF in its high half; the others have 16 KiB in each half, from 0xC0000 on.
        set(control >> 4 & 3, 48..<64)
        for half in 0..<12 as Range<UInt64> { set(control >> (8 + half * 4) & 3, half * 4..<half * 4 + 4) }
        ram.setShadow(reads: reads, writes: writes)
        ram.videoBase = state.pointee.videoBase == 0 ? .max : state.pointee.videoBase
    }
}
