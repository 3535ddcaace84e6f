/// Bits of CR0 (SDM volume 3, 2.5).
package enum CR0 {
    package static let pe: UInt64 = 1 << 0
    package static let mp: UInt64 = 1 << 1
    package static let em: UInt64 = 1 << 2
    package static let ts: UInt64 = 1 << 3
    package static let et: UInt64 = 1 << 4
    package static let ne: UInt64 = 1 << 5
    package static let wp: UInt64 = 1 << 16
    package static let am: UInt64 = 1 << 18
    package static let nw: UInt64 = 1 << 29
    package static let cd: UInt64 = 1 << 30
    package static let pg: UInt64 = 1 << 31
}

/// Bits of CR4.
package enum CR4 {
    package static let vme: UInt64 = 1 << 0
    package static let pvi: UInt64 = 1 << 1
    package static let tsd: UInt64 = 1 << 2
    package static let de: UInt64 = 1 << 3
    package static let pse: UInt64 = 1 << 4
    package static let pae: UInt64 = 1 << 5
    package static let mce: UInt64 = 1 << 6
    package static let pge: UInt64 = 1 << 7
    package static let pce: UInt64 = 1 << 8
    package static let osfxsr: UInt64 = 1 << 9
    package static let osxmmexcpt: UInt64 = 1 << 10
    package static let smep: UInt64 = 1 << 20
    /// What may be set; the rest is #GP.
    package static let supported = tsd | de | pse | pae | mce | pge | pce | osfxsr | osxmmexcpt | smep
}

/// Bits of IA32_EFER.
package enum EFER {
    package static let sce: UInt64 = 1 << 0
    package static let lme: UInt64 = 1 << 8
    package static let lma: UInt64 = 1 << 10
    package static let nxe: UInt64 = 1 << 11
}

/// EFLAGS bits besides the arithmetic flags (`Flags`).
package enum EFlags {
    package static let tf: UInt32 = 1 << 8
    package static let `if`: UInt32 = 1 << 9
    package static let df: UInt32 = 1 << 10
    package static let iopl: UInt32 = 3 << 12
    package static let nt: UInt32 = 1 << 14
    package static let rf: UInt32 = 1 << 16
    package static let vm: UInt32 = 1 << 17
    package static let ac: UInt32 = 1 << 18
    package static let vif: UInt32 = 1 << 19
    package static let vip: UInt32 = 1 << 20
    package static let id: UInt32 = 1 << 21
    /// All that exist.
    package static let defined: UInt32 = 0x003F_7FD7
}
