import CPUCore

/// A segment descriptor as it stands in a table (SDM volume 3, 3.4.5).
struct Descriptor {
    var raw: UInt64
    /// Upper half of a 16-byte system descriptor in long mode.
    var high: UInt64 = 0

    var base: UInt64 { (raw >> 16) & 0xFF_FFFF | (raw >> 32) & 0xFF00_0000 }
    /// With the upper 32 bits of a 16-byte descriptor.
    var base64: UInt64 { base | (high & 0xFFFF_FFFF) << 32 }
    /// In bytes.
    var limit: UInt32 {
        let limit = UInt32(truncatingIfNeeded: raw & 0xFFFF | (raw >> 32) & 0xF_0000)
        return raw & 1 << 55 != 0 ? limit << 12 | 0xFFF : limit
    }
    /// As `Segment.attributes`; the limit's bits in between are cleared.
    var attributes: UInt16 { UInt16(truncatingIfNeeded: raw >> 40) & 0xF0FF }
    var type: UInt16 { UInt16(truncatingIfNeeded: raw >> 40) & 0xF }
    var isSystem: Bool { raw & 1 << 44 == 0 }
    var isCode: Bool { !isSystem && type & 8 != 0 }
    var isConforming: Bool { type & 4 != 0 }
    /// Code: readable. Data: writable.
    var isReadableOrWritable: Bool { type & 2 != 0 }
    var dpl: Int { Int(raw >> 45) & 3 }
    var isPresent: Bool { raw & 1 << 47 != 0 }
    var isLong: Bool { raw & 1 << 53 != 0 }
    var isBig: Bool { raw & 1 << 54 != 0 }

    func segment(_ selector: UInt16) -> Segment {
        Segment(selector: selector, attributes: attributes, limit: limit, base: base)
    }
    // Gates.
    var gateSelector: UInt16 { UInt16(truncatingIfNeeded: raw >> 16) }
    var gateOffset: UInt64 { raw & 0xFFFF | (raw >> 32) & 0xFFFF_0000 | (high & 0xFFFF_FFFF) << 32 }
    var gateCount: Int { Int(raw >> 32) & 31 }
    var gateIST: Int { Int(raw >> 32) & 7 }
}

/// A pass or a noted exception: what steps of the run-time return.
typealias Done = Bool

extension X86CPU {
    var isLongMode: Bool { state.pointee.efer & EFER.lma != 0 }
    var isProtected: Bool { state.pointee.cr0 & CR0.pe != 0 && state.pointee.systemFlags & EFlags.vm == 0 }
    var isVirtual8086: Bool { state.pointee.systemFlags & EFlags.vm != 0 }
    var is64BitCode: Bool { isLongMode && state.pointee.segments[1].isLong }
    var iopl: Int { Int(state.pointee.systemFlags >> 12) & 3 }

    /// Notes an exception. Always false, so that `return fault(…)` reads well.
    func fault(_ exception: Exception, _ error: UInt32? = nil) -> Done {
        _ = state.pointee.raise(exception, error: error)
        return false
    }

    /// The descriptor that `selector` names. A table's end is `exception` with the selector as error code.
    func descriptor(_ selector: UInt16, _ exception: Exception = .generalProtection) -> Descriptor? {
        guard let address = descriptorAddress(selector, 7) else {
            _ = fault(exception, UInt32(selector & 0xFFFC))
            return nil
        }
        return GuestMemory.loadSystem(state, address, size: 8).map { Descriptor(raw: $0) }
    }

    /// The same without an exception for a bad selector (VERR, LAR, LSL). Outer nil: a page fault.
    func probeDescriptor(_ selector: UInt16) -> Descriptor?? {
        guard let address = descriptorAddress(selector, 7) else { return .some(nil) }
        guard let raw = GuestMemory.loadSystem(state, address, size: 8) else { return nil }
        return .some(Descriptor(raw: raw))
    }

    /// Where the descriptor lies, if bytes 0...`last` of it are within the table.
    func descriptorAddress(_ selector: UInt16, _ last: UInt32) -> UInt64? {
        let offset = UInt32(selector & 0xFFF8)
        if selector & 4 != 0 {
            let ldtr = state.pointee.ldtr
            guard ldtr.selector & 0xFFFC != 0, offset + last <= ldtr.limit else { return nil }
            return ldtr.base &+ UInt64(offset)
        }
        guard offset + last <= UInt32(state.pointee.gdtLimit) else { return nil }
        return state.pointee.gdtBase &+ UInt64(offset)
    }

    /// A system descriptor: 16 bytes in long mode.
    func systemDescriptor(_ selector: UInt16, _ exception: Exception = .generalProtection) -> Descriptor? {
        guard var descriptor = descriptor(selector, exception) else { return nil }
        if isLongMode {
            guard let address = descriptorAddress(selector, 15) else {
                _ = fault(exception, UInt32(selector & 0xFFFC))
                return nil
            }
            guard let high = GuestMemory.loadSystem(state, address &+ 8, size: 8) else { return nil }
            descriptor.high = high
        }
        return descriptor
    }

    /// Sets the accessed bit of a code or data descriptor in its table.
    func markAccessed(_ selector: UInt16, _ descriptor: inout Descriptor) -> Done {
        if descriptor.raw & 1 << 40 != 0 { return true }
        descriptor.raw |= 1 << 40
        guard let address = descriptorAddress(selector, 7) else { return true }
        return GuestMemory.storeSystem(state, address &+ 5, size: 1, (descriptor.raw >> 40) & 0xFF)
    }

    /// A segment in real or virtual-8086 mode.
    func setRealSegment(_ index: Int, _ selector: UInt16) {
        state.pointee.segments[index].selector = selector
        state.pointee.segments[index].base = UInt64(selector) << 4
        if isVirtual8086 {
            state.pointee.segments[index].limit = 0xFFFF
            state.pointee.segments[index].attributes = 0xF3
        }
        // In real mode limit and attributes stay as they were: "unreal mode" lives on that.
    }

    /// A stack segment without a descriptor, as 64-bit mode allows it.
    static func nullStack(_ selector: UInt16, _ cpl: Int) -> Segment {
        Segment(selector: selector, attributes: UInt16(0x4093 | cpl << 5), limit: .max, base: 0)
    }

    /// Loads ES, SS, DS, FS or GS (MOV, POP, LDS…; SDM volume 2, MOV).
    func loadSegment(_ index: Int, _ selector: UInt16) -> Done {
        if !isProtected {
            setRealSegment(index, selector)
            return true
        }
        let cpl = Int(state.pointee.cpl)
        let rpl = Int(selector & 3)
        let error = UInt32(selector & 0xFFFC)
        if selector & 0xFFFC == 0 {
            if index == 2 {
                // A null SS is allowed in 64-bit mode only, and not at CPL 3.
                guard is64BitCode, cpl != 3, rpl == cpl else { return fault(.generalProtection, 0) }
                state.pointee.segments[2] = Self.nullStack(selector, cpl)
                return true
            }
            // The hidden base is kept for FS and GS in 64-bit mode by some processors; here it is cleared.
            state.pointee.segments[index] = Segment(selector: selector)
            return true
        }
        guard var descriptor = descriptor(selector) else { return false }
        if descriptor.isSystem { return fault(.generalProtection, error) }
        if index == 2 {
            guard !descriptor.isCode, descriptor.isReadableOrWritable, rpl == cpl, descriptor.dpl == cpl else {
                return fault(.generalProtection, error)
            }
            if !descriptor.isPresent { return fault(.stackFault, error) }
        } else {
            if descriptor.isCode, !descriptor.isReadableOrWritable { return fault(.generalProtection, error) }
            if !descriptor.isCode || !descriptor.isConforming, max(rpl, cpl) > descriptor.dpl {
                return fault(.generalProtection, error)
            }
            if !descriptor.isPresent { return fault(.segmentNotPresent, error) }
        }
        guard markAccessed(selector, &descriptor) else { return false }
        state.pointee.segments[index] = descriptor.segment(selector)
        return true
    }

    /// Sets CS and CPL from a checked descriptor.
    func setCode(_ selector: UInt16, _ descriptor: Descriptor, cpl: Int) {
        var segment = descriptor.segment(selector & 0xFFFC | UInt16(cpl))
        if isLongMode, segment.isLong {
            segment.base = 0
            segment.limit = .max
        }
        state.pointee.segments[1] = segment
        state.pointee.cpl = UInt8(cpl)
        modeChanged()
    }

    /// The linear address of `offset` in a segment, after the limit and type checks of legacy modes. Nil: #GP or #SS.
    func segmentAddress(_ index: Int, _ offset: UInt64, size: Int, write: Bool) -> UInt64? {
        let segment = state.pointee.segments[index]
        if is64BitCode { return index >= 4 ? segment.base &+ offset : offset }
        let exception: Exception = index == 2 ? .stackFault : .generalProtection
        let isCode = segment.attributes & 8 != 0
        let isUsable =
            if !isProtected {
                true
            } else if !segment.isPresent {
                false
            } else if isCode {
                !write && segment.attributes & 2 != 0
            } else {
                !write || segment.attributes & 2 != 0
            }
        let last = offset &+ UInt64(size - 1)
        let isWithin: Bool
        if isUsable, !isCode, segment.attributes & 4 != 0 {
            // Expand-down: valid offsets lie above the limit.
            isWithin = offset > UInt64(segment.limit) && last <= (segment.isBig ? 0xFFFF_FFFF : 0xFFFF)
        } else {
            // A flat segment wraps; any other may not be passed.
            isWithin = last <= UInt64(segment.limit) || (segment.limit == .max && offset <= 0xFFFF_FFFF)
        }
        guard isUsable, isWithin else {
            _ = fault(exception, 0)
            return nil
        }
        return (segment.base &+ offset) & 0xFFFF_FFFF
    }
}
