/// The x87 register stack and status word (SDM volume 1, 8.1).
extension FPUState {
    /// Bits of the status word.
    enum Status {
        static let stackFault: UInt16 = 0x40
        /// ES: an unmasked exception waits; B follows it.
        static let pending: UInt16 = 0x80
        static let busy: UInt16 = 0x8000
        static let c0: UInt16 = 0x100
        static let c1: UInt16 = 0x200
        static let c2: UInt16 = 0x400
        static let c3: UInt16 = 0x4000
        static let conditions: UInt16 = 0x4700
        static let top: UInt16 = 0x3800
    }

    var top: Int {
        get { Int(status >> 11) & 7 }
        set { status = status & ~Status.top | UInt16(truncatingIfNeeded: newValue & 7) << 11 }
    }

    func isEmpty(_ index: Int) -> Bool { tagValid >> UInt8((top + index) & 7) & 1 == 0 }

    /// ST(index). Setting it makes it not empty.
    subscript(index: Int) -> Float80Bits {
        get { registers[(top + index) & 7] }
        set {
            let physical = (top + index) & 7
            registers[physical] = newValue
            tagValid |= 1 << UInt8(physical)
        }
    }

    mutating func push(_ value: Float80Bits) {
        top -= 1
        self[0] = value
    }
    mutating func pop() {
        tagValid &= ~(1 << UInt8(top))
        top += 1
    }

    /// Enters exceptions that an instruction has raised.
    mutating func raise(_ flags: UInt8) {
        status |= UInt16(flags)
        if flags & 0x3F & ~UInt8(truncatingIfNeeded: control) != 0 { status |= Status.pending | Status.busy }
    }

    /// Enters what `context` has gathered; C1 tells that the result was rounded up.
    mutating func commit(_ context: X87Context) {
        status = context.isRoundedUp && !context.isStopped ? status | Status.c1 : status & ~Status.c1
        if context.flags != 0 { raise(context.isStopped ? context.flags & FloatFlags.beforeComputation : context.flags) }
    }

    /// Stack overflow (C1 set) or underflow. True when it is masked: the real indefinite is the result.
    mutating func stackFault(isOverflow: Bool) -> Bool {
        status = (isOverflow ? status | Status.c1 : status & ~Status.c1) | Status.stackFault
        raise(FloatFlags.invalid)
        return control & 1 != 0
    }

    /// After the control word or the flags were written: ES and B are what they say.
    package mutating func updatePending() {
        let waiting = status & ~control & 0x3F != 0
        let bits = Status.pending | Status.busy
        status = waiting ? status | bits : status & ~bits
    }

    /// The 16-bit tag word: 00 valid, 01 zero, 10 special, 11 empty.
    package var tagWord: UInt16 {
        get {
            var word: UInt16 = 0
            for physical in 0..<8 {
                var tag: UInt16 = 3
                if tagValid >> UInt8(physical) & 1 != 0 {
                    switch ExtendedFloat(registers[physical]).kind {
                    case .normal: tag = 0
                    case .zero: tag = 1
                    default: tag = 2
                    }
                }
                word |= tag << UInt16(physical * 2)
            }
            return word
        }
        set {
            tagValid = 0
            for physical in 0..<8 where newValue >> UInt16(physical * 2) & 3 != 3 { tagValid |= 1 << UInt8(physical) }
        }
    }

    /// FNINIT.
    mutating func initialize() {
        control = 0x37F
        status = 0
        tagValid = 0
        opcode = 0
        instructionPointer = 0
        dataPointer = 0
        instructionSelector = 0
        dataSelector = 0
    }
}
