import CPUCore

/// String instructions (SDM volume 1, 7.3.9). Each call executes one element, or with a repeat prefix a slice.
enum StringHelpers {
    /// Elements executed at most before a repeated instruction counts as retired once and may be interrupted. Part
    /// of the definition of a position: changing it makes old recordings diverge.
    static let sliceElements: UInt64 = 4096

    /// True when nothing is left to do; nil when it faults, with the registers at the element that does.
    @inline(never)
    static func execute(_ state: UnsafeMutablePointer<X86State>, _ p: StringParameters) -> Bool? {
        state.withCPU { execute(state, p, $0) }
    }

    private static func execute(
        _ state: UnsafeMutablePointer<X86State>, _ p: StringParameters, _ cpu: X86CPU
    ) -> Bool? {
        let isRepeated = p.repeating != .none
        let mask = addressMask(p)
        var count = isRepeated ? state.pointee.core.registers[1] & mask : 1
        if count == 0 { return true }
        let bytes = 1 << p.size
        let step = state.pointee.systemFlags & EFlags.df != 0 ? 0 &- UInt64(bytes) : UInt64(bytes)
        var left = isRepeated ? (p.singleStep ? 1 : min(count, sliceElements)) : 1
        let is64 = cpu.is64BitCode
        let isFlatSource = is64 ? p.segment < 4 : cpu.isFlatData(p.segment)
        let isFlatTarget = is64 || cpu.isFlatData(0)
        while left > 0 {
            // Whole runs within a page go as block moves, when nothing watches them.
            if isFlatTarget, step == UInt64(bytes), left > 1, p.kind == .movs || p.kind == .stos, isFlatSource || p.kind == .stos {
                let done = block(state, p, left, mask)
                if done > 0 {
                    left -= done
                    count = (count &- done) & mask
                    setRegister(state, 1, count, p)
                    continue
                }
            }
            guard element(state, cpu, p, bytes, step, mask, isFlatSource, isFlatTarget) else { return nil }
            left -= 1
            guard isRepeated else { return true }
            count = (count &- 1) & mask
            setRegister(state, 1, count, p)
            if p.kind == .cmps || p.kind == .scas {
                let isZero = state.pointee.core.flagResult == 0
                if isZero != (p.repeating == .rep) { return true }
            }
            // A device was accessed: the rest comes after the machine's turn. Where a slice ends must not depend on
            // what happens to be translated or debugged, so the other requests wait for the slice's end.
            if state.pointee.core.exitRequest & ExitRequest.endsSlice != 0 { break }
        }
        return count == 0
    }

    /// Moves or fills as many elements as lie in one page on both sides. 0: not possible this way.
    private static func block(
        _ state: UnsafeMutablePointer<X86State>, _ p: StringParameters, _ left: UInt64, _ mask: UInt64
    ) -> UInt64 {
        let size = UInt64(1) << UInt64(p.size)
        let target = state.pointee.core.registers[7] & mask
        let tlb = state.pointee.core.dataTLB
        let entry = tlb[TLB.index(target)]
        guard entry.write == target & ~0xFFF else { return 0 }
        var bytes = min(left << UInt64(p.size), 4096 - (target & 0xFFF)) & ~(size - 1)
        guard let host = UnsafeMutableRawPointer(bitPattern: UInt(target &+ entry.addend)) else { return 0 }
        if p.kind == .movs {
            let source = state.pointee.core.registers[6] & mask
            let other = tlb[TLB.index(source)]
            guard other.read == source & ~0xFFF else { return 0 }
            bytes = min(bytes, 4096 - (source & 0xFFF)) & ~(size - 1)
            guard bytes > 0, let from = UnsafeRawPointer(bitPattern: UInt(source &+ other.addend)) else { return 0 }
            // An overlap that runs forward repeats a pattern: element by element then.
            let fromAddress = UInt(bitPattern: from)
            let toAddress = UInt(bitPattern: host)
            if toAddress > fromAddress, toAddress < fromAddress &+ UInt(bytes) { return 0 }
            host.copyMemory(from: from, byteCount: Int(bytes))
            setRegister(state, 6, (source &+ bytes) & mask, p)
        } else {
            guard bytes > 0 else { return 0 }
            let value = state.pointee.core.registers[0]
            let count = Int(bytes >> UInt64(p.size))
            switch p.size {
            case 0: host.initializeMemory(as: UInt8.self, repeating: UInt8(truncatingIfNeeded: value), count: count)
            case 3 where target & 7 == 0:
                host.initializeMemory(as: UInt64.self, repeating: value, count: count)
            case 2 where target & 3 == 0:
                host.initializeMemory(as: UInt32.self, repeating: UInt32(truncatingIfNeeded: value), count: count)
            default: return 0
            }
        }
        setRegister(state, 7, (target &+ bytes) & mask, p)
        return bytes >> UInt64(p.size)
    }

    @inline(__always)
    private static func element(
        _ state: UnsafeMutablePointer<X86State>, _ cpu: X86CPU, _ p: StringParameters, _ bytes: Int, _ step: UInt64,
        _ mask: UInt64, _ isFlatSource: Bool, _ isFlatTarget: Bool
    ) -> Bool {
        let source = state.pointee.core.registers[6] & mask
        let target = state.pointee.core.registers[7] & mask
        var value: UInt64 = 0
        if p.kind == .movs || p.kind == .cmps || p.kind == .lods {
            let address: UInt64
            if isFlatSource {
                address = source
            } else {
                guard let checked = cpu.segmentAddress(p.segment, source, size: bytes, write: false) else { return false }
                address = checked
            }
            guard let loaded = GuestMemory.load(state, address, size: bytes) else { return false }
            value = loaded
        }
        switch p.kind {
        case .lods:
            setAccumulator(state, value, p.size)
            setRegister(state, 6, (source &+ step) & mask, p)
            return true
        case .movs, .stos:
            if p.kind == .stos { value = state.pointee.core.registers[0] }
            let address: UInt64
            if isFlatTarget {
                address = target
            } else {
                guard let checked = cpu.segmentAddress(0, target, size: bytes, write: true) else { return false }
                address = checked
            }
            guard GuestMemory.store(state, address, size: bytes, value) else { return false }
            if p.kind == .movs { setRegister(state, 6, (source &+ step) & mask, p) }
        default:
            let address: UInt64
            if isFlatTarget {
                address = target
            } else {
                guard let checked = cpu.segmentAddress(0, target, size: bytes, write: false) else { return false }
                address = checked
            }
            guard let other = GuestMemory.load(state, address, size: bytes) else { return false }
            if p.kind == .scas { value = state.pointee.core.registers[0] }
            compare(state, value, other, p.size)
            if p.kind == .cmps { setRegister(state, 6, (source &+ step) & mask, p) }
        }
        setRegister(state, 7, (target &+ step) & mask, p)
        return true
    }

    /// INS and OUTS.
    @inline(never)
    static func executeIO(_ state: UnsafeMutablePointer<X86State>, _ p: StringParameters) -> Bool? {
        state.withCPU { executeIO(state, p, $0) }
    }

    private static func executeIO(
        _ state: UnsafeMutablePointer<X86State>, _ p: StringParameters, _ cpu: X86CPU
    ) -> Bool? {
        let isRepeated = p.repeating != .none
        let mask = addressMask(p)
        let bytes = 1 << min(p.size, 2)
        let port = UInt16(truncatingIfNeeded: state.pointee.core.registers[2])
        guard cpu.mayUsePort(port, bytes) else { return nil }
        var count = isRepeated ? state.pointee.core.registers[1] & mask : 1
        if count == 0 { return true }
        let step = state.pointee.systemFlags & EFlags.df != 0 ? 0 &- UInt64(bytes) : UInt64(bytes)
        var left = isRepeated ? (p.singleStep ? 1 : min(count, sliceElements)) : 1
        while left > 0 {
            if p.kind == .ins {
                let offset = state.pointee.core.registers[7] & mask
                guard let address = cpu.segmentAddress(0, offset, size: bytes, write: true),
                    GuestMemory.checkWritable(state, address, length: bytes)
                else { return nil }
                let run = min(left, blockLength(state, cpu, offset, address, bytes, mask))
                if isRepeated, step == UInt64(bytes), run > 1 {
                    guard readBlock(state, cpu, port, address, bytes, run) else { return nil }
                    setRegister(state, 7, (offset &+ run << UInt64(p.size & 3)) & mask, p)
                    left -= run
                    count = (count &- run) & mask
                    setRegister(state, 1, count, p)
                    continue
                }
                let value = cpu.portRead(port, bytes)
                guard GuestMemory.store(state, address, size: bytes, value) else { return nil }
                setRegister(state, 7, (offset &+ step) & mask, p)
            } else {
                let offset = state.pointee.core.registers[6] & mask
                guard let address = cpu.segmentAddress(p.segment, offset, size: bytes, write: false),
                    let value = GuestMemory.load(state, address, size: bytes)
                else { return nil }
                cpu.portWrite(port, bytes, value)
                setRegister(state, 6, (offset &+ step) & mask, p)
            }
            left -= 1
            if isRepeated {
                count = (count &- 1) & mask
                setRegister(state, 1, count, p)
            }
        }
        return !isRepeated || count == 0
    }

    /// How many elements from `offset` on lie in the page of the first, whose linear address is `address`, and within the
    /// limit of ES: one check is good for all of them, so that they can cross the boundary as one transaction.
    private static func blockLength(
        _ state: UnsafeMutablePointer<X86State>, _ cpu: X86CPU, _ offset: UInt64, _ address: UInt64, _ bytes: Int,
        _ mask: UInt64
    ) -> UInt64 {
        var room = min(4096 - (address & 0xFFF), mask - offset)
        if !cpu.is64BitCode {
            let segment = state.pointee.segments[0]
            // Expand-down segments go element by element.
            guard segment.attributes & 4 == 0, offset <= UInt64(segment.limit) else { return 1 }
            room = min(room, UInt64(segment.limit) - offset + 1)
        }
        return room / UInt64(bytes)
    }

    /// Reads `count` elements from a port into one page. False: a store has faulted.
    private static func readBlock(
        _ state: UnsafeMutablePointer<X86State>, _ cpu: X86CPU, _ port: UInt16, _ address: UInt64, _ bytes: Int,
        _ count: UInt64
    ) -> Bool {
        withUnsafeTemporaryAllocation(byteCount: Int(count) * bytes, alignment: 8) { buffer in
            cpu.portReadBlock(port, bytes, into: buffer)
            var offset = 0
            while offset < buffer.count {
                var value: UInt64 = 0
                for lane in 0..<bytes { value |= UInt64(buffer[offset + lane]) << UInt64(lane * 8) }
                guard GuestMemory.store(state, address &+ UInt64(offset), size: bytes, value) else { return false }
                offset += bytes
            }
            return true
        }
    }

    private static func addressMask(_ p: StringParameters) -> UInt64 {
        p.addressSize == 3 ? .max : p.addressSize == 2 ? 0xFFFF_FFFF : 0xFFFF
    }

    @inline(__always)
    private static func setRegister(_ state: UnsafeMutablePointer<X86State>, _ index: Int, _ value: UInt64, _ p: StringParameters) {
        if p.addressSize == 1 {
            state.pointee.core.registers[index] = state.pointee.core.registers[index] & ~0xFFFF | value
        } else {
            state.pointee.core.registers[index] = value
        }
    }

    private static func setAccumulator(_ state: UnsafeMutablePointer<X86State>, _ value: UInt64, _ size: Int) {
        switch size {
        case 0: state.pointee.core.registers[0] = state.pointee.core.registers[0] & ~0xFF | value
        case 1: state.pointee.core.registers[0] = state.pointee.core.registers[0] & ~0xFFFF | value
        default: state.pointee.core.registers[0] = value
        }
    }

    /// Flags of `a - b` at the element's width.
    @inline(__always)
    private static func compare(_ state: UnsafeMutablePointer<X86State>, _ a: UInt64, _ b: UInt64, _ size: Int) {
        let width = UInt64(8) << UInt64(size)
        let shift = 64 - width
        let result = (a &- b) << shift
        let carries = (~a & b) | ((~a | b) & (a &- b))
        state.pointee.core.flagResult = UInt64(bitPattern: Int64(bitPattern: result) >> Int64(shift))
        state.pointee.core.flagCarry = (carries << shift) & 0xC000_0000_0000_0000 | carries & 8
    }
}
