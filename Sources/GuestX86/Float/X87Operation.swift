import CPUCore

/// What an x87 helper does. Each gets the instruction's 11 opcode bits (`FPUState.opcode`) in `dst`, its PC in `imm`,
/// and in `a` the slot of a memory operand's value (loads; the second 8 bytes in the next slot) or address (stores).
package enum X87Operation: UInt16, CaseIterable, Sendable {
    /// #NM by CR0.EM and CR0.TS; #MF when an unmasked exception waits.
    case checkAvailable, checkPending
    // Two operands, by the opcode's reg field: add, mul, com, comp, sub, subr, div, divr.
    // ST(0) with ST(i); ST(i) with ST(0); the same and pop; ST(0) with memory.
    case arithmeticToTop, arithmeticToRegister, arithmeticAndPop
    case arithmetic32, arithmetic64, arithmeticInteger16, arithmeticInteger32
    // Pushes.
    case load32, load64, load80, loadInteger16, loadInteger32, loadInteger64, loadDecimal, loadRegister
    case loadOne, loadL2T, loadL2E, loadPi, loadLG2, loadLN2, loadZero
    // Memory ← ST(0). The reg field says whether it pops (not 2) and whether it truncates (1).
    case store32, store64, store80, storeInteger16, storeInteger32, storeInteger64, storeDecimal
    // ST(i) ← ST(0), with pop; exchange; FCMOVcc.
    case storeRegister, storeRegisterAndPop, storeRegisterQuietly, exchange, conditionalMove
    // Comparisons beyond those above.
    case compareAndPopTwice, unorderedCompare, unorderedCompareAndPop, unorderedCompareAndPopTwice
    case compareFlags, compareFlagsAndPop, unorderedCompareFlags, unorderedCompareFlagsAndPop
    case test, examine
    // ST(0), in the order of D9 F0 … FF.
    case changeSign, absolute
    case exponential, yLog2, tangent, arctangent, extract, remainderNearest, decrementTop, incrementTop
    case remainder, yLog2Plus1, squareRoot, sineAndCosine, roundToIntegral, scale, sine, cosine
    // Registers' tags; nothing.
    case free, freeAndPop, nothing
    // Control. `a`: value or address; `imm` of the environment: bit 0 32-bit format, bit 1 real-address format.
    case initialize, clearExceptions, loadControl, loadEnvironment, storeEnvironment, restore, save

    /// The helper's number.
    @inlinable package var helper: UInt16 { HelperID.x87Base + rawValue }
}
