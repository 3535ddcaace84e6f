import CPUCore

/// The table of shared helpers: index = `HelperID`, or a SIMD or x87 operation's number.
enum HelperTable {
    typealias State = UnsafeMutablePointer<X86State>

    static func make() -> UnsafeMutablePointer<MicroHelper> {
        let table = UnsafeMutablePointer<MicroHelper>.allocate(capacity: HelperID.count)
        table.initialize(
            repeating: { state, _, _, _ in
                // A number nobody has filled: the guest sees an undefined opcode.
                state.assumingMemoryBound(to: X86State.self).pointee.raise(.invalidOpcode)
            }, count: HelperID.count)
        installArithmetic(table)
        installSystem(table)
        installTransfer(table)
        SIMDHelpers.install(into: table)
        X87Helpers.install(into: table)
        return table
    }
}

// Free functions: a closure that becomes a C function pointer must not capture even a type.

/// The state behind a helper's first argument.
@inline(__always) func x86(_ raw: UnsafeMutableRawPointer) -> UnsafeMutablePointer<X86State> {
    raw.assumingMemoryBound(to: X86State.self)
}
@inline(__always) func get64(_ raw: UnsafeMutableRawPointer, _ offset: UInt) -> UInt64 {
    (raw + Int(offset)).load(as: UInt64.self)
}
@inline(__always) func get16(_ raw: UnsafeMutableRawPointer, _ offset: UInt) -> UInt16 {
    (raw + Int(offset)).load(as: UInt16.self)
}
@inline(__always) func put64(_ raw: UnsafeMutableRawPointer, _ offset: UInt, _ value: UInt64) {
    (raw + Int(offset)).storeBytes(of: value, as: UInt64.self)
}
/// 0 for a pass.
@inline(__always) func status(_ done: Done) -> UInt64 { done ? 0 : 1 }
