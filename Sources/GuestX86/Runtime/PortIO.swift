import CPUCore

extension X86CPU {
    /// I/O privilege: IOPL, else the task state's permission bitmap (SDM volume 1, 19.5). False: #GP noted.
    func mayUsePort(_ port: UInt16, _ bytes: Int) -> Done {
        if state.pointee.cr0 & CR0.pe == 0 { return true }
        if !isVirtual8086, Int(state.pointee.cpl) <= iopl { return true }
        let tr = state.pointee.tr
        guard tr.type & 8 != 0, tr.limit >= 103 else { return fault(.generalProtection, 0) }
        guard let base = GuestMemory.loadSystem(state, tr.base &+ 102, size: 2) else { return false }
        let offset = base &+ UInt64(port >> 3)
        guard offset + 1 <= UInt64(tr.limit) else { return fault(.generalProtection, 0) }
        guard let map = GuestMemory.loadSystem(state, tr.base &+ offset, size: 2) else { return false }
        let bits: UInt64 = (1 << UInt64(bytes)) - 1
        return (map >> UInt64(port & 7)) & bits == 0 ? true : fault(.generalProtection, 0)
    }

    func portRead(_ port: UInt16, _ bytes: Int) -> UInt64 {
        state.pointee.core.exitRequest |= ExitRequest.device
        return bus.portRead(port, width: bytes)
    }
    func portReadBlock(_ port: UInt16, _ bytes: Int, into buffer: UnsafeMutableRawBufferPointer) {
        state.pointee.core.exitRequest |= ExitRequest.device
        bus.portReadBlock(port, width: bytes, into: buffer)
    }
    func portWrite(_ port: UInt16, _ bytes: Int, _ value: UInt64) {
        state.pointee.core.exitRequest |= ExitRequest.device
        bus.portWrite(port, width: bytes, value: value & ((1 << UInt64(bytes * 8)) - 1))
    }
}
