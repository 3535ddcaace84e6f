import CPUCore

/// Writes of registers that have rules, for a debugger: what software could not have written is refused. Asking changes
/// nothing.
extension X86CPU {
    /// A register with rules of its own.
    package enum RuledRegister: Sendable {
        case cr0, cr2, cr3, cr4, efer, gdtBase, idtBase, kernelGSBase, gdtLimit, idtLimit
    }

    /// True: software at CPL 0 could write `value` now.
    package func allows(_ register: RuledRegister, _ value: UInt64) -> Bool {
        switch register {
        case .cr0: allowsCR0(value)
        case .cr2: isLongMode || value >> 32 == 0
        case .cr3: allowsCR3(value)
        case .cr4: allowsCR4(value)
        case .efer: allowsEFER(value)
        case .gdtBase, .idtBase, .kernelGSBase: isCanonical(value)
        case .gdtLimit, .idtLimit: value >> 16 == 0
        }
    }

    /// Writes what `allows` allows, and ignores the rest.
    package func set(_ register: RuledRegister, _ value: UInt64) {
        guard allows(register, value) else { return }
        switch register {
        case .cr0: _ = writeCR0(value)
        case .cr2: state.pointee.cr2 = value
        case .cr3: _ = writeCR3(value)
        case .cr4: _ = writeCR4(value)
        case .efer: _ = writeMSR(0xC000_0080, value)
        case .gdtBase: state.pointee.gdtBase = value
        case .idtBase: state.pointee.idtBase = value
        case .kernelGSBase: state.pointee.kernelGSBase = value
        case .gdtLimit: state.pointee.gdtLimit = UInt16(truncatingIfNeeded: value)
        case .idtLimit: state.pointee.idtLimit = UInt16(truncatingIfNeeded: value)
        }
    }

    /// What segment register `index` (in encoding order) would hold after `selector` is loaded into it at the present
    /// privilege level. Nil: it cannot be loaded.
    package func segment(_ index: Int, loading selector: UInt16) -> Segment? {
        var segment = state.pointee.segments[index]
        if !isProtected {
            segment.selector = selector
            segment.base = UInt64(selector) << 4
            return segment
        }
        let cpl = Int(state.pointee.cpl)
        let rpl = Int(selector & 3)
        if selector & 0xFFFC == 0 {
            if index == 1 { return nil }
            if index != 2 { return Segment(selector: selector) }
            return is64BitCode && cpl != 3 && rpl == cpl ? Self.nullStack(selector, cpl) : nil
        }
        guard var descriptor = probed(selector, isSystem: false), !descriptor.isSystem, descriptor.isPresent else { return nil }
        switch index {
        case 1:
            guard descriptor.isCode, rpl == cpl, descriptor.isConforming ? descriptor.dpl <= cpl : descriptor.dpl == cpl,
                !(isLongMode && descriptor.isLong && descriptor.isBig)
            else { return nil }
        case 2:
            guard !descriptor.isCode, descriptor.isReadableOrWritable, rpl == cpl, descriptor.dpl == cpl else { return nil }
        default:
            if descriptor.isCode, !descriptor.isReadableOrWritable { return nil }
            if !descriptor.isCode || !descriptor.isConforming, max(rpl, cpl) > descriptor.dpl { return nil }
        }
        // As if it had been accessed before: a debugger writes no descriptor tables.
        descriptor.raw |= 1 << 40
        segment = descriptor.segment(selector)
        if index == 1, isLongMode, segment.isLong {
            segment.base = 0
            segment.limit = .max
        }
        return segment
    }

    /// What the task register (or else LDTR) would hold after `selector` is loaded into it. Nil: it cannot be loaded.
    package func systemSegment(isTask: Bool, loading selector: UInt16) -> Segment? {
        if selector & 0xFFFC == 0 { return isTask ? nil : Segment(selector: selector) }
        guard isProtected, selector & 4 == 0, let descriptor = probed(selector, isSystem: true), descriptor.isSystem,
            descriptor.isPresent
        else { return nil }
        // The present task's own state is busy.
        let types: [UInt16] = !isTask ? [2] : isLongMode ? [9, 11] : [1, 3, 9, 11]
        guard types.contains(descriptor.type) else { return nil }
        var segment = descriptor.segment(selector)
        segment.base = isLongMode ? descriptor.base64 : descriptor.base
        if isTask { segment.attributes |= 2 }
        return segment
    }

    /// Puts a segment register (in encoding order; 6 LDTR, 7 TR) as it is. The privilege level stays.
    package func setSegment(_ index: Int, _ segment: Segment) {
        switch index {
        case 0..<6: state.pointee.segments[index] = segment
        case 6: state.pointee.ldtr = segment
        case 7: state.pointee.tr = segment
        default: return
        }
        modeChanged()
    }

    /// The descriptor that `selector` names, whatever its page's protection.
    private func probed(_ selector: UInt16, isSystem: Bool) -> Descriptor? {
        let isWide = isSystem && isLongMode
        guard let address = descriptorAddress(selector, isWide ? 15 : 7),
            let bytes = probe(address, count: isWide ? 16 : 8, isPhysical: false)
        else { return nil }
        func word(_ start: Int) -> UInt64 {
            (0..<8).reduce(0) { $0 | UInt64(bytes[start + $1]) << UInt64($1 * 8) }
        }
        return Descriptor(raw: word(0), high: isWide ? word(8) : 0)
    }
}
