import CPUCore

/// A string instruction's parameters, packed in a helper's immediate.
package struct StringParameters {
    package enum Kind: UInt64 { case movs, cmps, stos, lods, scas, ins, outs }
    package enum Repeat: UInt64 { case none, rep, repne }
    package var raw: UInt64

    init(kind: Kind, size: UInt8, addressSize: UInt8, segment: SegmentRegister, repeating: Repeat, singleStep: Bool) {
        raw =
            kind.rawValue | UInt64(size) << 4 | UInt64(addressSize) << 8 | UInt64(segment.rawValue) << 12
            | repeating.rawValue << 16 | (singleStep ? 1 << 20 : 0)
    }
    @inlinable package init(raw: UInt64) { self.raw = raw }
    package var kind: Kind { Kind(rawValue: raw & 15) ?? .movs }
    /// Logarithm of the element's and the address's size.
    package var size: Int { Int(raw >> 4) & 15 }
    package var addressSize: Int { Int(raw >> 8) & 15 }
    package var segment: Int { Int(raw >> 12) & 15 }
    package var repeating: Repeat { Repeat(rawValue: (raw >> 16) & 15) ?? .none }
    /// One element a slice.
    package var singleStep: Bool { raw & 1 << 20 != 0 }
}

extension Translator {
    /// String instructions. With a repeat prefix a slice of at most `StringHelpers.sliceElements` is executed and
    /// counts as one instruction; the PC stays until all is done.
    func translateString(_ i: Instruction) {
        let kind: StringParameters.Kind =
            switch i.operation {
            case .movs: .movs
            case .cmps: .cmps
            case .stos: .stos
            case .lods: .lods
            case .scas: .scas
            case .ins: .ins
            default: .outs
            }
        let isIO = kind == .ins || kind == .outs
        // Port I/O has no 64-bit form.
        let size: UInt8 = i.opcode & 1 == 0 ? 0 : isIO && i.operandSize == 3 ? 2 : i.operandSize
        let segment = i.segment >= 0 ? SegmentRegister(rawValue: Int(i.segment)) ?? .ds : .ds
        let repeating: StringParameters.Repeat = i.hasRep ? .rep : i.hasRepne ? .repne : .none
        let parameters = StringParameters(
            kind: kind, size: size, addressSize: i.addressSize, segment: segment, repeating: repeating,
            singleStep: mode.contains(.singleStep))
        // Temp 0 becomes 1 when nothing is left to do.
        let isCompare = kind == .cmps || kind == .scas
        helper(isIO ? .stringIO : isCompare ? .stringCompare : .string, dst: Slot.temp(0), imm: parameters.raw)
        if repeating != .none {
            isRepeating = true
            ir.emit(.brZero8, a: Slot.temp(0), imm: pc)
            isEnded = true
        } else if isIO {
            leave()
        }
    }
}
