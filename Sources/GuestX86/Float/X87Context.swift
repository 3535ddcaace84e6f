/// What an x87 operation depends on, and what it leaves (SDM volume 1, 8.1.3 and 8.1.5).
struct X87Context {
    /// RC: 0 to nearest even, 1 down, 2 up, 3 towards zero.
    var rounding: UInt8
    /// Significand bits that PC asks for: 24, 53 or 64.
    var precision: Int
    /// IM ... PM, bits 5...0 of the control word.
    var masks: UInt8
    /// IE ... PE as raised by this operation; see `FloatFlags`.
    var flags: UInt8 = 0
    /// C1: the result's magnitude was rounded up.
    var isRoundedUp = false

    init(control: UInt16) {
        rounding = UInt8(truncatingIfNeeded: control >> 10) & 3
        switch control >> 8 & 3 {
        case 0: precision = 24
        case 2: precision = 53
        default: precision = 64
        }
        masks = UInt8(truncatingIfNeeded: control) & 0x3F
    }

    @inline(__always) func isMasked(_ flag: UInt8) -> Bool { masks & flag != 0 }
    /// An exception that the operands alone raise is not masked: nothing is computed, nothing is written.
    @inline(__always) var isStopped: Bool { flags & FloatFlags.beforeComputation & ~masks != 0 }

    /// The bits that come in when `lost`, of which `half` is the middle, is cut off `kept`.
    @inline(__always)
    func roundsUp(kept: UInt128, lost: UInt128, half: UInt128, sign: Bool) -> Bool {
        switch rounding {
        case 0: lost > half || (lost == half && kept & 1 != 0)
        case 1: sign && lost != 0
        case 2: !sign && lost != 0
        default: false
        }
    }
}
