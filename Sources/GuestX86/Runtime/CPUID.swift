/// What CPUID says: exactly what works. An x86-64-v2 processor of our own family.
package enum CPUID {
    /// Family 6, model 28, stepping 10: an in-order Atom. Like it we do not speculate, and systems that know it leave
    /// out their mitigations for processors that do (page-table isolation, retpolines).
    package static let signature: UInt64 = 0x0001_06CA

    static let brand = "emu x86-64-v2 processor"

    // Leaf 1, EDX: FPU DE PSE TSC MSR PAE MCE CX8 APIC SEP MTRR PGE MCA CMOV PAT CLFSH MMX FXSR SSE SSE2
    static let features: UInt32 =
        1 << 0 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 11 | 1 << 12 | 1 << 13
        | 1 << 14 | 1 << 15 | 1 << 16 | 1 << 19 | 1 << 23 | 1 << 24 | 1 << 25 | 1 << 26
    // Leaf 1, ECX: SSE3 SSSE3 CX16 SSE4.1 SSE4.2 POPCNT, hypervisor
    static let features2: UInt32 = 1 << 0 | 1 << 9 | 1 << 13 | 1 << 19 | 1 << 20 | 1 << 23 | 1 << 31
    // 80000001h EDX: SYSCALL NX RDTSCP LM
    static let extended: UInt32 = 1 << 11 | 1 << 20 | 1 << 27 | 1 << 29
    // 80000001h ECX: LAHF in 64-bit mode
    static let extended2: UInt32 = 1 << 0

    /// EAX, EBX, ECX, EDX for a leaf.
    static func leaf(_ leaf: UInt32, _ subleaf: UInt32) -> (UInt32, UInt32, UInt32, UInt32) {
        switch leaf {
        case 0: return (7, word("Genu"), word("ntel"), word("ineI"))
        case 1: return (UInt32(signature), 0x0001_0800, features2, features)
        case 2: return (1, 0, 0, 0)
        // SMEP; the selectors of x87 pointers are not kept.
        case 7: return subleaf == 0 ? (0, 1 << 7 | 1 << 13, 0, 0) : (0, 0, 0, 0)
        case 0x8000_0000: return (0x8000_0008, 0, 0, 0)
        case 0x8000_0001: return (0, 0, extended2, extended)
        case 0x8000_0002...0x8000_0004:
            let start = Int(leaf - 0x8000_0002) * 16
            return (brandWord(start), brandWord(start + 4), brandWord(start + 8), brandWord(start + 12))
        // The time-stamp counter runs at a constant rate in all states.
        case 0x8000_0007: return (0, 0, 0, 1 << 8)
        case 0x8000_0008: return (40 | 48 << 8, 0, 0, 0)
        // TSC at 1 GHz: it counts nanoseconds of virtual time.
        case 0x4000_0000: return (0x4000_0010, word("emu "), word("emu "), word("emu "))
        case 0x4000_0010: return (1_000_000, 1_000_000, 0, 0)
        default: return (0, 0, 0, 0)
        }
    }

    private static func word(_ text: StaticString) -> UInt32 {
        (0..<4).reduce(0) { $0 | UInt32(text.utf8Start[$1]) << UInt32($1 * 8) }
    }
    private static func brandWord(_ start: Int) -> UInt32 {
        let bytes = Array(brand.utf8)
        return (0..<4).reduce(0) { $0 | (start + $1 < bytes.count ? UInt32(bytes[start + $1]) << UInt32($1 * 8) : 0) }
    }
}
