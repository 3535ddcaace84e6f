import CPUCore
import MachineState

/// A segment register with its hidden part (SDM volume 3, 3.4.3).
package struct Segment {
    package var selector: UInt16 = 0
    /// Descriptor bits 55...40 as the manual lays them out: type 3...0, S 4, DPL 6...5, P 7, AVL 12, L 13, D/B 14, G 15.
    package var attributes: UInt16 = 0
    /// The last valid offset, in bytes (scaled).
    package var limit: UInt32 = 0
    package var base: UInt64 = 0

    @inlinable package init(selector: UInt16 = 0, attributes: UInt16 = 0, limit: UInt32 = 0, base: UInt64 = 0) {
        self.selector = selector
        self.attributes = attributes
        self.limit = limit
        self.base = base
    }
    @inlinable package var type: UInt16 { attributes & 0xF }
    @inlinable package var isCodeOrData: Bool { attributes & 0x10 != 0 }
    @inlinable package var isCode: Bool { attributes & 0x18 == 0x18 }
    @inlinable package var dpl: Int { Int(attributes >> 5) & 3 }
    @inlinable package var isPresent: Bool { attributes & 0x80 != 0 }
    @inlinable package var isLong: Bool { attributes & 0x2000 != 0 }
    /// D or B: 32-bit default size.
    @inlinable package var isBig: Bool { attributes & 0x4000 != 0 }

    package mutating func visit(_ visitor: inout StateVisitor) {
        visitor.field("selector", &selector)
        visitor.field("attributes", &attributes)
        visitor.field("limit", &limit)
        visitor.field("base", &base)
    }
}

/// Segment register numbers, as encoded in instructions.
package enum SegmentRegister: Int, Sendable, CaseIterable {
    case es, cs, ss, ds, fs, gs
}

/// All that an x86 CPU remembers. Plain old data; the engines address it by byte offset.
package struct X86State {
    package var core: CoreState
    package var fpu = FPUState()
    /// Segment registers in encoding order: ES, CS, SS, DS, FS, GS.
    package var segments = InlineArray<6, Segment>(repeating: Segment())
    package var ldtr = Segment()
    package var tr = Segment()
    package var gdtBase: UInt64 = 0
    package var idtBase: UInt64 = 0
    package var gdtLimit: UInt16 = 0
    package var idtLimit: UInt16 = 0
    /// EFLAGS without the six arithmetic flags, which are in `core`: DF, IF, TF, IOPL, NT, RF, VM, AC, VIF, VIP, ID.
    package var systemFlags: UInt32 = 2
    /// Current privilege level.
    package var cpl: UInt8 = 0
    /// HLT executed; waits for an interrupt.
    package var isHalted = false
    /// Triple fault: waits for a reset.
    package var isShutdown = false
    /// No interrupt is taken at this position: STI, MOV SS or POP SS came just before. `.max` for none.
    package var shadowPosition: UInt64 = .max
    package var cr0: UInt64 = 0x6000_0010
    package var cr2: UInt64 = 0
    package var cr3: UInt64 = 0
    package var cr4: UInt64 = 0
    package var cr8: UInt64 = 0
    package var debug = InlineArray<8, UInt64>(repeating: 0)
    package var efer: UInt64 = 0
    package var star: UInt64 = 0
    package var lstar: UInt64 = 0
    package var cstar: UInt64 = 0
    package var sfmask: UInt64 = 0
    package var kernelGSBase: UInt64 = 0
    package var sysenterCS: UInt64 = 0
    package var sysenterESP: UInt64 = 0
    package var sysenterEIP: UInt64 = 0
    package var apicBase: UInt64 = 0xFEE0_0900
    package var pat: UInt64 = 0x0007_0406_0007_0406
    /// What WRMSR has added to the time-stamp counter, which else is the virtual time in nanoseconds.
    package var tscOffset: UInt64 = 0
    package var tscAux: UInt64 = 0
    package var miscEnable: UInt64 = 1
    package var mtrrDefault: UInt64 = 0
    package var mtrrFixed = InlineArray<11, UInt64>(repeating: 0)
    package var mtrrVariable = InlineArray<16, UInt64>(repeating: 0)
    /// The INTR pin, an NMI that waits, and whether one is being handled (until IRET).
    package var interruptLine = false
    package var nmiPending = false
    package var nmiBlocked = false
    /// Address line 20: ANDed to physical addresses.
    package var a20Mask: UInt64 = .max
    /// The host bridge's PAM registers (see `setShadow`): all of shadow RAM is RAM.
    package var shadowControl: UInt64 = 0x33_3333_3333_3330
    /// The physical address of the linear frame buffer; 0 for none.
    package var videoBase: UInt64 = 0
    /// The exception that a helper or access has noted: vector, error code, whether it has one, CR2.
    package var exceptionVector: UInt8 = 0
    package var exceptionHasError = false
    package var exceptionError: UInt32 = 0
    package var exceptionAddress: UInt64 = 0
    /// Bits of DR6 for the #DB that waits for the instruction's end; 0 for none.
    package var pendingDebug: UInt64 = 0

    package init(dataTLB: UnsafeMutablePointer<TLBEntry>) { core = CoreState(dataTLB: dataTLB) }

    /// All of EFLAGS.
    package var eflags: UInt32 {
        get { Flags.pack(core.flagResult, core.flagCarry) | systemFlags | 2 }
        set {
            let pair = Flags.unpack(newValue)
            core.flagResult = pair.result
            core.flagCarry = pair.carry
            systemFlags = (newValue & ~Flags.all) | 2
        }
    }

    /// Notes an exception for the run loop. Returns what a helper must return.
    package mutating func raise(_ exception: Exception, error: UInt32? = nil) -> UInt64 {
        exceptionVector = exception.rawValue
        exceptionHasError = error != nil
        exceptionError = error ?? 0
        return 1
    }
}

/// Exception vectors (SDM volume 3, table 6-1).
package enum Exception: UInt8, Sendable {
    case divide = 0, debug = 1, nmi = 2, breakpoint = 3, overflow = 4, bound = 5, invalidOpcode = 6
    case deviceNotAvailable = 7, doubleFault = 8, coprocessorOverrun = 9, invalidTSS = 10, segmentNotPresent = 11
    case stackFault = 12, generalProtection = 13, pageFault = 14, x87 = 16, alignmentCheck = 17, machineCheck = 18
    case simd = 19
}
