import CPUCore

/// Looking at memory from outside: nothing the guest could notice changes, no accessed bit, no TLB entry.
extension X86CPU {
    /// The physical address that a linear address has now, whatever its protection. Nil: not mapped.
    package func physicalAddress(ofLinear linear: UInt64) -> UInt64? {
        let s = state
        if s.pointee.cr0 & CR0.pg == 0 { return linear & 0xFFFF_FFFF & s.pointee.a20Mask }
        let frame: UInt64 = 0x000F_FFFF_FFFF_F000
        func entry(_ address: UInt64, _ size: Int) -> UInt64? {
            guard let offset = ram.offset(of: address & s.pointee.a20Mask) else { return nil }
            let value = readRAM(offset, size)
            return value & 1 != 0 ? value : nil
        }
        if s.pointee.cr4 & CR4.pae == 0 {
            let linear = linear & 0xFFFF_FFFF
            guard let pde = entry((s.pointee.cr3 & 0xFFFF_F000) &+ ((linear >> 22) << 2), 4) else { return nil }
            if pde & 0x80 != 0, s.pointee.cr4 & CR4.pse != 0 {
                return ((pde & 0xFFC0_0000) | (linear & 0x3F_FFFF)) & s.pointee.a20Mask
            }
            guard let pte = entry((pde & 0xFFFF_F000) &+ (((linear >> 12) & 1023) << 2), 4) else { return nil }
            return ((pte & 0xFFFF_F000) | (linear & 0xFFF)) & s.pointee.a20Mask
        }
        let isLong = s.pointee.efer & EFER.lma != 0
        if isLong, !isCanonical(linear) { return nil }
        let linear = isLong ? linear : linear & 0xFFFF_FFFF
        var table = s.pointee.cr3 & (isLong ? frame : 0xFFFF_FFE0)
        var shift: UInt64 = isLong ? 39 : 30
        while true {
            let mask: UInt64 = !isLong && shift == 30 ? 3 : 511
            guard let value = entry(table &+ (((linear >> shift) & mask) << 3), 8) else { return nil }
            if shift == 12 || (value & 0x80 != 0 && (shift == 21 || (shift == 30 && isLong))) {
                let inside: UInt64 = (1 << shift) - 1
                return ((value & frame & ~inside) | (linear & inside)) & s.pointee.a20Mask
            }
            table = value & frame
            shift -= 9
        }
    }

    /// Reads RAM at a linear address (`isPhysical`: at a physical one). Nil: not mapped, or not RAM.
    package func probe(_ address: UInt64, count: Int, isPhysical: Bool) -> [UInt8]? {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(count)
        while bytes.count < count {
            guard let (offset, length) = piece(address &+ UInt64(bytes.count), count - bytes.count, isPhysical) else {
                return nil
            }
            bytes.append(contentsOf: UnsafeRawBufferPointer(start: ram.base + offset, count: length))
        }
        return bytes
    }

    /// Writes RAM, as a bus master would. False: some of it is not mapped or not RAM, and nothing was written.
    package func poke(_ address: UInt64, _ bytes: [UInt8], isPhysical: Bool) -> Bool {
        var done = 0
        while done < bytes.count {
            guard let (_, length) = piece(address &+ UInt64(done), bytes.count - done, isPhysical) else { return false }
            done += length
        }
        done = 0
        while done < bytes.count {
            guard let (offset, length) = piece(address &+ UInt64(done), bytes.count - done, isPhysical) else { return false }
            willWriteRAM(offset, length)
            bytes.withUnsafeBytes { source in
                if let base = source.baseAddress { (ram.base + offset).copyMemory(from: base + done, byteCount: length) }
            }
            done += length
        }
        return true
    }

    /// The part of a range that lies in one page, as offset into RAM and length.
    private func piece(_ address: UInt64, _ count: Int, _ isPhysical: Bool) -> (offset: Int, length: Int)? {
        guard let physical = isPhysical ? address : physicalAddress(ofLinear: address),
            let offset = ram.offset(of: physical)
        else { return nil }
        return (offset, min(count, 4096 - (offset & 4095)))
    }
}
