/// A change that a debugger makes to a machine between two instructions.
package enum Edit: Sendable, Equatable {
    /// RAM at a physical address; what is not RAM there is left as it is.
    case memory(address: UInt64, bytes: [UInt8])
    /// A register, by its number in the log: 0 to 15 RAX to R15 in encoding order, 16 RIP, 17 EFLAGS, 18 and 19 the bases
    /// of FS and GS, 20 MXCSR, 32 to 47 XMM0 to XMM15, the others in docs/log-format.md. 16 bytes for numbers from 32 to
    /// 63, else 8, little endian. A machine ignores numbers that it does not know.
    case register(number: UInt16, bytes: [UInt8])
}
