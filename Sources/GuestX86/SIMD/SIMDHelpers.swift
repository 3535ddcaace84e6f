import CPUCore

/// The helpers of `SIMDOperation`.
enum SIMDHelpers {
    typealias Table = UnsafeMutablePointer<MicroHelper>

    /// Fills the helpers from `HelperID.simdBase` on.
    static func install(into table: Table) {
        installChecks(table)
        installArithmetic(table)
        installShifts(table)
        installShuffles(table)
        installWidening(table)
        installStrings(table)
        installCrypto(table)
        SIMDFloatHelpers.install(into: table)
    }

    private static func installChecks(_ table: Table) {
        table.set(.none) { _, _, _, _ in 0 }
        table.set(.checkSSE) { state, _, _, _ in checkVector(x86(state), usesXMM: true, usesMMX: false) }
        table.set(.checkMMX) { state, _, _, _ in checkVector(x86(state), usesXMM: false, usesMMX: true) }
        table.set(.checkBoth) { state, _, _, _ in checkVector(x86(state), usesXMM: true, usesMMX: true) }
        table.set(.maskmovdqu) { state, dst, a, _ in storeMasked(x86(state), dst, a, count: 16) }
        table.set(.maskmovq) { state, dst, a, _ in storeMasked(x86(state), dst, a, count: 8) }
    }
}

extension UnsafeMutablePointer where Pointee == MicroHelper {
    /// Enters an operation's helper.
    func set(_ operation: SIMDOperation, _ helper: @escaping MicroHelper) { self[Int(operation.helper)] = helper }
}

// Free functions: a closure that becomes a C function pointer must not capture even a type.

/// Exceptions by CR0, CR4 and a waiting x87 exception, in the manual's order (SDM volume 3, table 12-1, 13.1).
private func checkVector(_ state: UnsafeMutablePointer<X86State>, usesXMM: Bool, usesMMX: Bool) -> UInt64 {
    if state.pointee.cr0 & CR0.em != 0 { return state.pointee.raise(.invalidOpcode) }
    if usesXMM, state.pointee.cr4 & CR4.osfxsr == 0 { return state.pointee.raise(.invalidOpcode) }
    if state.pointee.cr0 & CR0.ts != 0 { return state.pointee.raise(.deviceNotAvailable) }
    // Bit 7 of the status word: an unmasked exception waits.
    if usesMMX, state.pointee.fpu.status & 0x80 != 0 { return state.pointee.raise(.x87) }
    return 0
}

/// Stores the bytes of `dst` that the mask at `a` selects to the address in temporary 0: all or nothing.
private func storeMasked(_ state: UnsafeMutablePointer<X86State>, _ dst: UInt, _ a: UInt, count: Int) -> UInt64 {
    let raw = UnsafeMutableRawPointer(state)
    let address = state.pointee.core.temps[0]
    let data = raw + Int(dst)
    let mask = raw + Int(a)
    // The whole operand must be writable, whatever the mask ("implementation dependent"): as AMD's processors do.
    guard GuestMemory.checkWritable(state, address, length: count) else { return 1 }
    for index in 0..<count where mask.load(fromByteOffset: index, as: UInt8.self) & 0x80 != 0 {
        let byte = UInt64(data.load(fromByteOffset: index, as: UInt8.self))
        guard GuestMemory.store(state, address &+ UInt64(index), size: 1, byte) else { return 1 }
    }
    return 0
}
