import CHostOracle
import CPUCore
import Foundation
import GuestX86
import MachineState
import TestSupport

/// Runs programs on the processor under test and on the host, and compares what they leave behind.
final class DifferentialMachine {
    let bits: Int
    let fixture: CPUFixture
    /// What data programs find.
    let template: [UInt8]
    let guestData: UnsafeMutableRawPointer
    static let physicalCode: UInt64 = 0x10_0000
    private static let physicalData: UInt64 = 0x11_0000
    static let dataSize = Int(ORACLE_DATA_SIZE)
    static let codeSize = Int(ORACLE_CODE_SIZE)
    /// Instructions that the guest has retired in programs that agree, and how many programs reached each class.
    private(set) var retired: UInt64 = 0
    private(set) var reached: [String: Int] = [:]
    /// Programs that say nothing: they run too long, or depend on what the manual leaves open.
    private(set) var setAside = 0
    /// All flags that exist but RF, which the processor sets in the image of most exceptions.
    private static let comparedFlags: UInt64 = 0x003E_7FD7

    init(bits: Int, seed: UInt64, engine: EngineKind = CPUFixture.engine) {
        self.bits = bits
        fixture = CPUFixture(bits == 64 ? .long64 : .paged32, engine: engine)
        var random = RandomSource(seed: seed ^ 0xDA7A)
        var bytes: [UInt8] = []
        while bytes.count < Self.dataSize {
            let word: UInt64 =
                switch random.below(5) {
                case 0: UInt64(ORACLE_DATA) + UInt64(random.below(Self.dataSize))
                case 1: UInt64(random.below(1000))
                default: random.next()
                }
            withUnsafeBytes(of: word.littleEndian) { bytes += Array($0) }
        }
        template = bytes
        let user = CPUFixture.present | CPUFixture.user
        fixture.map(UInt64(ORACLE_CODE), Self.physicalCode, flags: user)
        fixture.map(
            UInt64(ORACLE_DATA), Self.physicalData, pages: Self.dataSize / 4096,
            flags: user | CPUFixture.writable | CPUFixture.noExecute)
        guestData = fixture.ram.base + Int(Self.physicalData)
        if bits == 16 {
            fixture.setDescriptor(
                UInt16(ORACLE_CODE16),
                CPUFixture.descriptor(
                    base: UInt64(ORACLE_CODE), limit: UInt32(Self.codeSize - 1), access: 0xFB, flags: 0))
            fixture.setDescriptor(
                UInt16(ORACLE_DATA16),
                CPUFixture.descriptor(
                    base: UInt64(ORACLE_DATA), limit: UInt32(Self.dataSize - 1), access: 0xF3, flags: 0))
        }
        fixture.cpu.forgetTranslations()
    }

    var codeBase: UInt64 { bits == 16 ? 0 : UInt64(ORACLE_CODE) }

    /// Nil: both agree. Else what differs, in words.
    func difference(_ program: DifferentialProgram, _ initial: OracleState) -> String? {
        let linked = program.link(base: codeBase)
        if linked.isTainted || linked.bytes.count > Self.codeSize { return nil }
        var expected = initial
        guard let hostCode = oracle_code(), let hostData = oracle_data() else { return nil }
        var code = [UInt8](repeating: 0xF4, count: Self.codeSize)
        code.replaceSubrange(0..<linked.bytes.count, with: linked.bytes)
        code.withUnsafeBytes {
            hostCode.update(from: $0.baseAddress!.assumingMemoryBound(to: UInt8.self), count: $0.count)
        }
        template.withUnsafeBytes {
            hostData.update(from: $0.baseAddress!.assumingMemoryBound(to: UInt8.self), count: $0.count)
            guestData.copyMemory(from: $0.baseAddress!, byteCount: $0.count)
        }
        fixture.write(Self.physicalCode, code)
        guard oracle_run(&expected, Int32(bits)) == 0 else {
            setAside += 1
            return nil
        }
        enterProgram(initial)
        let start = fixture.cpu.position
        switch fixture.run(Self.longest) {
        case .halted: break
        case .horizon:
            setAside += 1
            return nil
        default: return "the guest is shut down"
        }
        // HLT itself does not count.
        let count = fixture.cpu.position &- start &- 1
        guard let actual = result(initial) else { return "the guest has halted without an exception" }
        guard let difference = compare(expected, actual, linked) else {
            note(program, linked, actual, count)
            return nil
        }
        if isImplementationSpecific(expected, actual, program, linked) || wanders(program, initial, linked) {
            setAside += 1
            return nil
        }
        return difference
    }

    private func note(
        _ program: DifferentialProgram, _ linked: DifferentialProgram.Linked, _ end: OracleState, _ count: UInt64
    ) {
        retired &+= count
        let offset = Int(truncatingIfNeeded: end.rip &- codeBase)
        for (index, piece) in program.pieces.enumerated() where linked.offsets[index] < offset {
            if let piece { reached[piece.name, default: 0] += 1 }
        }
    }

    /// Instructions after which a guest that is still running is given up.
    static let longest: UInt64 = 20_000

    /// True when a computed jump leads elsewhere than the generator meant: what flags are undefined is not known then.
    private func wanders(
        _ program: DifferentialProgram, _ initial: OracleState, _ linked: DifferentialProgram.Linked
    ) -> Bool {
        var meant: Set<Int> = []
        for piece in program.pieces {
            if case .absolute(let target, _, _) = piece?.patch { meant.insert(linked.offsets[target]) }
        }
        template.withUnsafeBytes { guestData.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
        enterProgram(initial)
        var previous = 0
        for _ in 0..<Self.longest {
            let offset = Int(truncatingIfNeeded: fixture.state.pointee.core.pc &- codeBase)
            if 0..<linked.bytes.count ~= offset {
                guard offset >= previous, linked.boundaries.contains(offset) else { return true }
                let next = linked.boundaries.filter { $0 > previous }.min() ?? previous
                var known = meant
                if let index = linked.offsets.lastIndex(of: previous), index < program.pieces.count,
                    case .relative(let target, _, _) = program.pieces[index]?.patch
                {
                    known.insert(linked.offsets[target])
                }
                guard offset == previous || offset == next || known.contains(offset) else { return true }
                previous = offset
            }
            fixture.step()
            if fixture.state.pointee.cpl != 3 { return false }
        }
        return true
    }

    /// Loads the guest's registers.
    func enterProgram(_ initial: OracleState) {
        let s = fixture.state
        switch bits {
        case 64:
            fixture.setSegments(code: CPUFixture.userCode64, data: CPUFixture.userData)
            s.pointee.segments[5].base = UInt64(ORACLE_GS_BASE)
        case 32: fixture.setSegments(code: CPUFixture.userCode32, data: CPUFixture.userData)
        default: fixture.setSegments(code: UInt16(ORACLE_CODE16), data: UInt16(ORACLE_DATA16))
        }
        withUnsafeBytes(of: initial.gpr) { raw in
            for index in 0..<16 {
                s.pointee.core.registers[index] = raw.load(fromByteOffset: index * 8, as: UInt64.self)
            }
        }
        s.pointee.core.pc = initial.rip
        s.pointee.eflags = UInt32(truncatingIfNeeded: initial.flags)
        s.pointee.isHalted = false
        s.pointee.pendingDebug = 0
        s.pointee.shadowPosition = .max
        putFPU(initial)
        s.pointee.isShutdown = false
    }

    /// What an exception has left: the frame on the handler's stack, and the registers.
    func result(_ initial: OracleState) -> OracleState? {
        guard let vector = fixture.haltedVector else { return nil }
        let s = fixture.state
        var result = initial
        let width = bits == 64 ? 8 : 4
        var frame = fixture[.rsp]
        func pop() -> UInt64 {
            defer { frame += UInt64(width) }
            return width == 8 ? fixture.read64(frame) : UInt64(fixture.read32(frame))
        }
        result.vector = UInt64(vector)
        result.error = [8, 10, 11, 12, 13, 14, 17].contains(vector) ? pop() : 0
        result.rip = pop()
        _ = pop()
        result.flags = pop()
        let rsp = pop()
        result.cr2 = s.pointee.cr2
        withUnsafeMutableBytes(of: &result.gpr) { raw in
            for index in 0..<16 {
                raw.storeBytes(
                    of: index == 4 ? rsp : s.pointee.core.registers[index], toByteOffset: index * 8, as: UInt64.self)
            }
        }
        getFPU(&result)
        return result
    }

    /// True where the manual leaves the processor a choice between exceptions, or in how much has been done before one.
    private func isImplementationSpecific(
        _ expected: OracleState, _ actual: OracleState, _ program: DifferentialProgram,
        _ linked: DifferentialProgram.Linked
    ) -> Bool {
        let isFault = { (vector: UInt64) in [12, 13, 14, 17].contains(vector) }
        guard expected.rip == actual.rip, isFault(expected.vector), isFault(actual.vector) else { return false }
        // An access beyond 4 GiB in a flat segment wraps or faults (SDM volume 3, 5.3).
        let wraps = actual.vector == 17 || (actual.vector == 14 && (actual.cr2 >= 0xFFFF_FFF0 || actual.cr2 < 16))
        if bits == 32, expected.vector == 12 || expected.vector == 13, wraps { return true }
        let offset = Int(truncatingIfNeeded: expected.rip &- codeBase)
        guard let index = linked.offsets.lastIndex(of: offset), index < program.pieces.count else { return false }
        switch program.pieces[index]?.name {
        // Which of two faulty accesses, or of a faulty access and a bad target, is seen first.
        case "cmps", "arpl", "callNear", "call":
            return expected.vector != actual.vector || expected.cr2 != actual.cr2 || expected.error != actual.error
        // Registers that were popped before the fault.
        case "popa": return expected.vector == actual.vector
        default: return false
        }
    }

    private func compare(_ expected: OracleState, _ actual: OracleState, _ linked: DifferentialProgram.Linked)
        -> String?
    {
        var differences: [String] = []
        func check(_ name: String, _ expected: UInt64, _ actual: UInt64, _ mask: UInt64 = .max) {
            if (expected ^ actual) & mask != 0 {
                differences.append(
                    "\(name): host \(String(expected, radix: 16)), guest \(String(actual, radix: 16))"
                        + (mask == .max ? "" : " (of \(String(mask, radix: 16)))"))
            }
        }
        check("vector", expected.vector, actual.vector)
        check("rip", expected.rip, actual.rip)
        let names = [
            "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
            "r15",
        ]
        withUnsafeBytes(of: expected.gpr) { expected in
            withUnsafeBytes(of: actual.gpr) { actual in
                for index in 0..<(bits == 64 ? 16 : 8) {
                    let mask: UInt64 = bits == 64 ? .max : bits == 16 && index == 4 ? 0xFFFF : 0xFFFF_FFFF
                    check(
                        names[index], expected.load(fromByteOffset: index * 8, as: UInt64.self),
                        actual.load(fromByteOffset: index * 8, as: UInt64.self), mask)
                }
            }
        }
        let offset = Int(truncatingIfNeeded: expected.rip &- codeBase)
        let place = linked.offsets.lastIndex(of: offset)
        let undefined = place.map { linked.undefined[$0] } ?? linked.undefined.reduce(0, |)
        check("flags", expected.flags, actual.flags, Self.comparedFlags & ~UInt64(undefined))
        if expected.vector == actual.vector {
            if expected.vector == 14 {
                // The host's kernel does not tell what of its own half is present, the guest's lies in low memory.
                let isKernels = expected.cr2 >> 47 != 0 || expected.cr2 < 0x20_0000
                check("error code", expected.error, actual.error, isKernels ? ~1 : .max)
                check("cr2", expected.cr2, actual.cr2)
            } else if [8, 10, 11, 12, 13, 17].contains(expected.vector) {
                check("error code", expected.error, actual.error)
            }
        }
        compareFPU(expected, actual, check)
        if let hostData = oracle_data() {
            let host = UnsafeRawBufferPointer(start: hostData, count: Self.dataSize)
            let guest = UnsafeRawBufferPointer(start: guestData, count: Self.dataSize)
            if memcmp(hostData, guestData, Self.dataSize) != 0 {
                let first = (0..<Self.dataSize).first { host[$0] != guest[$0] } ?? 0
                let range = first..<min(first + 16, Self.dataSize)
                differences.append(
                    "memory at +\(String(first, radix: 16)): host \(hex(range.map { host[$0] })), "
                        + "guest \(hex(range.map { guest[$0] }))")
            }
        }
        return differences.isEmpty ? nil : differences.joined(separator: "; ")
    }

    private func hex(_ bytes: [UInt8]) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    // MARK: FPU

    private func putFPU(_ initial: OracleState) {
        let state = fixture.state
        withUnsafeBytes(of: initial.fx) { raw in
            state.pointee.fpu.control = raw.load(fromByteOffset: 0, as: UInt16.self)
            state.pointee.fpu.status = raw.load(fromByteOffset: 2, as: UInt16.self)
            state.pointee.fpu.tagValid = raw.load(fromByteOffset: 4, as: UInt8.self)
            state.pointee.fpu.mxcsr = raw.load(fromByteOffset: 24, as: UInt32.self)
            let top = Int(state.pointee.fpu.status >> 11 & 7)
            for index in 0..<8 {
                state.pointee.fpu.registers[(top + index) & 7] = Float80Bits(
                    significand: raw.load(fromByteOffset: 32 + index * 16, as: UInt64.self),
                    signExponent: raw.load(fromByteOffset: 40 + index * 16, as: UInt16.self))
            }
            for index in 0..<16 {
                state.pointee.fpu.xmm[index] = SIMD2(
                    raw.load(fromByteOffset: 160 + index * 16, as: UInt64.self),
                    raw.load(fromByteOffset: 168 + index * 16, as: UInt64.self))
            }
        }
    }

    private func getFPU(_ result: inout OracleState) {
        let fpu = fixture.state.pointee.fpu
        withUnsafeMutableBytes(of: &result.fx) { raw in
            raw.storeBytes(of: fpu.control, toByteOffset: 0, as: UInt16.self)
            raw.storeBytes(of: fpu.status, toByteOffset: 2, as: UInt16.self)
            raw.storeBytes(of: fpu.tagValid, toByteOffset: 4, as: UInt8.self)
            raw.storeBytes(of: fpu.mxcsr, toByteOffset: 24, as: UInt32.self)
            let top = Int(fpu.status >> 11 & 7)
            for index in 0..<8 {
                let register = fpu.registers[(top + index) & 7]
                raw.storeBytes(of: register.significand, toByteOffset: 32 + index * 16, as: UInt64.self)
                raw.storeBytes(of: UInt64(register.signExponent), toByteOffset: 40 + index * 16, as: UInt64.self)
            }
            for index in 0..<16 {
                raw.storeBytes(of: fpu.xmm[index].x, toByteOffset: 160 + index * 16, as: UInt64.self)
                raw.storeBytes(of: fpu.xmm[index].y, toByteOffset: 168 + index * 16, as: UInt64.self)
            }
        }
    }

    private func compareFPU(
        _ expected: OracleState, _ actual: OracleState, _ check: (String, UInt64, UInt64, UInt64) -> Void
    ) {
        withUnsafeBytes(of: expected.fx) { expected in
            withUnsafeBytes(of: actual.fx) { actual in
                func compare(_ name: String, _ offset: Int, _ mask: UInt64) {
                    check(
                        name, expected.load(fromByteOffset: offset, as: UInt64.self),
                        actual.load(fromByteOffset: offset, as: UInt64.self), mask)
                }
                // Control, status, tags; opcode and pointers are kept by some processors only.
                compare("fcw, fsw, ftw", 0, 0xFF_FFFF_FFFF)
                compare("mxcsr", 24, 0xFFFF_FFFF)
                for index in 0..<8 {
                    compare("st\(index) significand", 32 + index * 16, .max)
                    compare("st\(index) exponent", 40 + index * 16, 0xFFFF)
                }
                for index in 0..<(bits == 64 ? 16 : 8) {
                    compare("xmm\(index) low", 160 + index * 16, .max)
                    compare("xmm\(index) high", 168 + index * 16, .max)
                }
            }
        }
    }
}
