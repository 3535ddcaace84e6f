#if arch(x86_64)
    /// Where things are, seen from generated code.
    ///
    /// RBP points 128 bytes into the state, so that general registers are within a byte's displacement. R14 holds how
    /// many instructions may still be executed. Some guest registers live in host registers all the time; RAX, RCX and
    /// RDX are scratch, RSI holds one of the micro-ops' temporaries.
    struct X64Layout {
        static let bias: Int32 = 128

        /// Host register of each of the first 16 guest registers; nil: it stays in the state.
        static let pinned: InlineArray<16, HostRegister?> = [
            .rbx, .r12, .r13, .r8, .r15, .r9, .r10, .r11, .rdi, nil, nil, nil, nil, nil, nil, nil,
        ]
        static let budget = HostRegister.r14
        static let temporary = HostRegister.rsi
        /// Bits of `CoreState.fpActive`.
        static let mxcsrServes: UInt64 = 1
        static let x87Serves: UInt64 = 2

        let hostFlags: Int32
        let limit: Int32
        let position: Int32
        let pc: Int32
        let currentOp: Int32
        let currentBlock: Int32
        let exitRequest: Int32
        let patchSite: Int32
        let fpActive: Int32
        let usualMXCSR: Int32
        let mxcsrScratch: Int32
        /// The guest's MXCSR.
        let mxcsr: Int32
        /// In the state: XMM0, followed by the others, and the slot of memory operands; multiples of 16.
        let xmm: UInt16
        let scratch: UInt16
        let x87: X87Slots
        let accessBases: Int32
        let clockShift: Int32
        let timeOffset: Int32
        let environment: Int32
        let cleanEnvironment: Int32
        let blockCount: Int32
        let blockOps: Int32
        /// From RBP to the TLBs, the table of entries, the sites and what they miss.
        let supervisorTLB: Int32
        let userTLB: Int32
        let entries: Int32
        let sites: Int32
        let siteMisses: Int32

        init(memory: EngineMemory, vectors: VectorSlots) {
            func field(_ path: PartialKeyPath<CoreState>) -> Int32 {
                Int32(MemoryLayout<CoreState>.offset(of: path)!) - Self.bias
            }
            func block(_ path: PartialKeyPath<Block>) -> Int32 { Int32(MemoryLayout<Block>.offset(of: path)!) }
            hostFlags = field(\.hostFlags)
            limit = field(\.limit)
            position = field(\.position)
            pc = field(\.pc)
            currentOp = field(\.currentOp)
            currentBlock = field(\.currentBlock)
            exitRequest = field(\.exitRequest)
            patchSite = field(\.patchSite)
            fpActive = field(\.fpActive)
            usualMXCSR = field(\.usualMXCSR)
            mxcsrScratch = field(\.mxcsrScratch)
            mxcsr = Int32(vectors.mxcsr) - Self.bias
            xmm = vectors.xmm
            scratch = vectors.scratch
            x87 = vectors.x87
            accessBases = field(\.accessBases)
            clockShift = field(\.clockShift)
            timeOffset = field(\.timeOffset)
            environment = field(\.x87Environment)
            cleanEnvironment = field(\.x87CleanEnvironment)
            blockCount = block(\.count)
            blockOps = block(\.ops)
            func distance(_ pointer: UnsafeMutableRawPointer) -> Int32 { Int32(pointer - memory.state) - Self.bias }
            supervisorTLB = distance(UnsafeMutableRawPointer(memory.supervisorTLB.entries))
            userTLB = distance(UnsafeMutableRawPointer(memory.userTLB.entries))
            entries = distance(UnsafeMutableRawPointer(memory.entries))
            sites = distance(UnsafeMutableRawPointer(memory.sites))
            siteMisses = distance(UnsafeMutableRawPointer(memory.siteMisses))
        }
    }

    /// Where a guest keeps its x87 unit: offsets in the state.
    package struct X87Slots {
        /// Physical register 0, followed by the others every 16 bytes.
        let registers: UInt16
        /// Control and status words.
        let control: UInt16
        let status: UInt16
        /// One bit for each register that is not empty.
        let tags: UInt16
        /// The last instruction's opcode (16 bits), address and operand's address.
        let opcode: UInt16
        let instruction: UInt16
        let data: UInt16

        package init(
            registers: UInt16, control: UInt16, status: UInt16, tags: UInt16, opcode: UInt16, instruction: UInt16,
            data: UInt16
        ) {
            self.registers = registers
            self.control = control
            self.status = status
            self.tags = tags
            self.opcode = opcode
            self.instruction = instruction
            self.data = data
        }
    }

    /// Where a guest keeps its vector registers: offsets in the state.
    package struct VectorSlots {
        let mxcsr: UInt16
        let xmm: UInt16
        let scratch: UInt16
        let x87: X87Slots

        /// - Parameters:
        ///   - mxcsr: control and status, 32 bits.
        ///   - xmm: the first of 16 registers of 16 bytes; a multiple of 16.
        ///   - scratch: the slot that memory operands come by; a multiple of 16.
        package init(mxcsr: UInt16, xmm: UInt16, scratch: UInt16, x87: X87Slots) {
            precondition(xmm & 15 == 0 && scratch & 15 == 0)
            self.mxcsr = mxcsr
            self.xmm = xmm
            self.scratch = scratch
            self.x87 = x87
        }
    }

    /// Why generated code came back; what `X64Engine.run` switches on.
    enum X64Exit: UInt64 {
        /// The block at `pc` has no known code; `patchSite` is the jump that may go there directly, or 0. Its upper half
        /// is where the jump goes to ask the table of entries; both are counted from the beginning of generated code.
        case lookUp = 1
        case horizon
        case leave
        /// Fault, with pc and position exact; the same with both still to be found from `currentOp`.
        case fault, helperFault
        /// `exitRequest` is set: the block must end after the instruction of `currentOp`.
        case interrupted
        /// The instruction at `pc` computes by the guest's MXCSR, for which the host's cannot serve.
        case unusualFloat
    }
#endif
