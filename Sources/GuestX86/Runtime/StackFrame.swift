import CPUCore

/// A stack being pushed to or popped from by a far transfer, an interrupt or PUSHA: moves a copy of the stack
/// pointer, which is committed only when nothing has faulted.
struct StackFrame {
    /// Not retained: frames live no longer than an instruction.
    unowned(unsafe) let cpu: X86CPU
    /// Stack segment's base and limit checks come from here.
    var segment: Segment
    /// Offset in the segment (64-bit: linear).
    var pointer: UInt64
    /// Bits of the stack pointer that take part.
    let mask: UInt64
    /// Accesses as the supervisor (pushing to an inner stack) or as the present CPL.
    var isUser: Bool

    /// The present stack.
    init(_ cpu: X86CPU) {
        self.init(cpu, cpu.state.pointee.segments[2], cpu.state.pointee.core.registers[4], isUser: cpu.state.pointee.cpl == 3)
    }
    init(_ cpu: X86CPU, _ segment: Segment, _ pointer: UInt64, isUser: Bool, is64: Bool? = nil) {
        self.cpu = cpu
        self.segment = segment
        self.isUser = isUser
        if is64 ?? cpu.is64BitCode {
            mask = .max
        } else {
            mask = segment.isBig ? 0xFFFF_FFFF : 0xFFFF
        }
        self.pointer = pointer
    }

    /// The linear address of `size` bytes at the masked pointer; nil: #SS noted.
    private func address(_ size: Int) -> UInt64? {
        let offset = pointer & mask
        if mask == .max {
            guard cpu.isCanonical(offset) else {
                _ = cpu.fault(.stackFault, 0)
                return nil
            }
            return offset
        }
        let last = offset &+ UInt64(size - 1)
        let isExpandDown = cpu.isProtected && segment.attributes & 4 != 0
        let isWithin =
            isExpandDown
            ? offset > UInt64(segment.limit) && last <= mask
            : last <= UInt64(segment.limit) || segment.limit == .max
        guard isWithin else {
            _ = cpu.fault(.stackFault, 0)
            return nil
        }
        return (segment.base &+ offset) & 0xFFFF_FFFF
    }

    /// Pushes the low `size` bytes of `value`.
    mutating func push(_ value: UInt64, _ size: Int) -> Done {
        pointer = pointer & ~mask | (pointer &- UInt64(size)) & mask
        guard let address = address(size) else { return false }
        return withTLB { GuestMemory.store(cpu.state, address, size: size, value) }
    }

    /// Faults as a store of `size` bytes at the present pointer would.
    func probe(_ size: Int) -> Done {
        guard let address = address(size) else { return false }
        return withTLB { cpu.slowLoad(address, UInt64(size) << 48 | EngineHooks.storeFollows | Address.stack) == 0 }
    }

    mutating func pop(_ size: Int) -> UInt64? {
        guard let address = address(size) else { return nil }
        guard let value = withTLB({ GuestMemory.load(cpu.state, address, size: size) }) else { return nil }
        pointer = pointer & ~mask | (pointer &+ UInt64(size)) & mask
        return value
    }

    private func withTLB<T>(_ body: () -> T) -> T {
        let saved = cpu.state.pointee.core.dataTLB
        // Pushes onto an inner stack are the supervisor's: neither alignment nor data breakpoints are checked.
        if isUser, saved == cpu.watchfulTLB.entries { return body() }
        cpu.state.pointee.core.dataTLB = isUser ? cpu.userTLB.entries : cpu.supervisorTLB.entries
        defer { cpu.state.pointee.core.dataTLB = saved }
        return body()
    }

    /// Makes the copy the stack pointer.
    func commit() {
        let old = cpu.state.pointee.core.registers[4]
        switch mask {
        case .max: cpu.state.pointee.core.registers[4] = pointer
        case 0xFFFF_FFFF: cpu.state.pointee.core.registers[4] = pointer & 0xFFFF_FFFF
        default: cpu.state.pointee.core.registers[4] = old & ~0xFFFF | pointer & 0xFFFF
        }
    }
}
