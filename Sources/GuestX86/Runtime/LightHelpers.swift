import CPUCore

extension HelperTable {
    /// By helper number: it neither reads nor writes flags or general registers, so that generated code may call it
    /// without bringing those into the state first. A fault it may raise.
    static func makeLight() -> UnsafeMutablePointer<Bool> {
        let table = UnsafeMutablePointer<Bool>.allocate(capacity: HelperID.count)
        table.initialize(repeating: false, count: HelperID.count)
        for helper in [HelperID.clearInterrupt, .setInterrupt, .clearTaskSwitched, .swapGS] { table[Int(helper.rawValue)] = true }
        for operation in SIMDOperation.allCases { table[Int(operation.helper)] = !isHeavy(operation) }
        for operation in X87Operation.allCases { table[Int(operation.helper)] = !isHeavy(operation) }
        return table
    }

    private static func isHeavy(_ operation: SIMDOperation) -> Bool {
        switch operation {
        case .pmovmskb, .movmskps, .movmskpd, .ptest, .comiss, .comisd, .ucomiss, .ucomisd, .cvtsi2ss, .cvtsi2ssQ,
            .cvtsi2sd, .cvtsi2sdQ, .cvtss2si, .cvtss2siQ, .cvttss2si, .cvttss2siQ, .cvtsd2si, .cvtsd2siQ, .cvttsd2si,
            .cvttsd2siQ, .pcmpestrm, .pcmpestri, .pcmpistrm, .pcmpistri, .crc32:
            true
        default: false
        }
    }

    private static func isHeavy(_ operation: X87Operation) -> Bool {
        switch operation {
        case .conditionalMove, .compareFlags, .compareFlagsAndPop, .unorderedCompareFlags, .unorderedCompareFlagsAndPop:
            true
        default: false
        }
    }
}
