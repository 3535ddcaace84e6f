/// SSE's control and status register (SDM volume 1, 10.2.3).
package enum MXCSR {
    /// IE, DE, ZE, OE, UE, PE: sticky exceptions.
    package static let flags: UInt32 = 0x3F
    /// DAZ.
    package static let denormalsAreZero: UInt32 = 1 << 6
    /// IM ... PM: the flags' masks, from this bit on.
    package static let maskShift: UInt32 = 7
    /// OM and UM.
    package static let overflowMask: UInt32 = 1 << 10
    package static let underflowMask: UInt32 = 1 << 11
    /// RC, two bits from this one on.
    package static let roundingShift: UInt32 = 13
    /// FTZ.
    package static let flushToZero: UInt32 = 1 << 15
    /// The bits that exist, as FXSAVE's MXCSR_MASK tells; setting others is #GP.
    package static let defined: UInt32 = 0xFFFF

    /// What the arithmetic starts from. Flags that are both set and masked are set already: finding them again changes
    /// nothing. The others begin clear, for what an instruction raises anew counts.
    @inline(__always)
    static func context(_ mxcsr: UInt32) -> FloatContext {
        FloatContext(
            rounding: UInt8(truncatingIfNeeded: mxcsr &>> roundingShift) & 3,
            flags: UInt8(truncatingIfNeeded: mxcsr & (mxcsr &>> maskShift) & flags),
            flushToZero: mxcsr & flushToZero != 0,
            denormalsAreZero: mxcsr & denormalsAreZero != 0,
            underflowMasked: mxcsr & underflowMask != 0, overflowMasked: mxcsr & overflowMask != 0)
    }

    /// Enters what an instruction has raised. False: an exception is not masked, #XM has been noted and the
    /// destination must stay.
    @inline(__always)
    static func commit(_ state: UnsafeMutablePointer<X86State>, _ context: FloatContext) -> Bool {
        let raised = UInt32(context.flags)
        let mxcsr = state.pointee.fpu.mxcsr
        if raised & ~(mxcsr &>> maskShift) & flags != 0 { return trap(state, raised) }
        state.pointee.fpu.mxcsr = mxcsr | raised
        return true
    }

    /// Before the computation: an unmasked exception of any element's operands that keeps all elements from being
    /// computed, so that the other exceptions are not raised (SDM volume 1, 11.5.3.2).
    @inline(never)
    private static func trap(_ state: UnsafeMutablePointer<X86State>, _ raised: UInt32) -> Bool {
        let mxcsr = state.pointee.fpu.mxcsr
        let early = UInt32(FloatFlags.beforeComputation)
        let stopsEarly = raised & early & ~(mxcsr &>> maskShift) != 0
        state.pointee.fpu.mxcsr = mxcsr | (stopsEarly ? raised & early : raised)
        // Without an operating system that knows #XM it is an undefined opcode.
        let isSupported = state.pointee.cr4 & CR4.osxmmexcpt != 0
        _ = state.pointee.raise(isSupported ? .simd : .invalidOpcode)
        return false
    }
}
