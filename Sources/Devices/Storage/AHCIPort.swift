import DeviceBus
import MachineState

/// A port of the AHCI controller with its disk: registers, command list and received FISes. `AHCIPort+Commands` has what
/// the disk does. Part of `AHCI`.
package final class AHCIPort {
    /// What the present command does.
    package enum Operation: UInt8, Sendable {
        case idle = 0
        /// Sectors move.
        case transfer = 1
        /// The drive's own words go to RAM.
        case respond = 2
        /// A command without data.
        case plain = 3
    }

    /// Everything the guest can observe.
    package struct State {
        package var commandList: UInt64 = 0
        package var receivedFIS: UInt64 = 0
        package var interruptStatus: UInt32 = 0
        package var interruptEnable: UInt32 = 0
        /// PxCMD's bits that software sets.
        package var command: UInt32 = 0
        package var taskFile: UInt32 = 0x7F
        package var signature: UInt32 = .max
        package var control: UInt32 = 0
        package var errors: UInt32 = 0
        /// PxCI: a bit for each command that waits or is being carried out.
        package var issued: UInt32 = 0
        /// PxSACT: a bit for each queued command that is not over.
        package var active: UInt32 = 0
        /// Queued commands that the drive has taken and not yet begun.
        package var queued: UInt32 = 0
        /// The present command is a queued one.
        package var isQueued = false
        /// Why a queued command failed, for the drive's log: its tag, and the error; 0 for none.
        package var failedTag: UInt8 = 0
        package var failedError: UInt8 = 0
        /// The present command, or the last.
        package var slot: UInt8 = 0
        package var operation = Operation.idle
        /// An error has stopped the port until software starts it again.
        package var isHalted = false
        /// A software reset has begun (SRST).
        package var isInReset = false

        /// The command FIS, of which 20 bytes matter.
        package var fis = [UInt8](repeating: 0, count: 20)
        /// The command moves data by PIO as far as software can see.
        package var isPIO = false
        package var data = ScatterList()
        package var response: [UInt8] = []
        package var transfer = BlockTransfer()

        package init() {}

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("commandList", &commandList)
            visitor.field("receivedFIS", &receivedFIS)
            visitor.field("interruptStatus", &interruptStatus)
            visitor.field("interruptEnable", &interruptEnable)
            visitor.field("command", &command)
            visitor.field("taskFile", &taskFile)
            visitor.field("signature", &signature)
            visitor.field("control", &control)
            visitor.field("errors", &errors)
            visitor.field("issued", &issued)
            visitor.field("active", &active)
            visitor.field("queued", &queued)
            visitor.field("isQueued", &isQueued)
            visitor.field("failedTag", &failedTag)
            visitor.field("failedError", &failedError)
            visitor.field("slot", &slot)
            visitor.field("operation", &operation)
            visitor.field("isHalted", &isHalted)
            visitor.field("isInReset", &isInReset)
            visitor.field("fis", &fis)
            visitor.field("isPIO", &isPIO)
            visitor.group("data") { data.visit(&$0) }
            visitor.field("response", &response)
            visitor.group("transfer") { transfer.visit(&$0) }
            if visitor.mode == .load, fis.count != 20 {
                visitor.fail("a command FIS has 20 bytes")
                self = State()
            }
        }
    }

    /// Registers of a port (AHCI 1.3.1, 3.3).
    static let registerNames: [(offset: UInt64, name: String, fields: String)] = [
        (0x00, "CLB", ""), (0x04, "CLBU", ""), (0x08, "FB", ""), (0x0C, "FBU", ""), (0x10, "IS", interruptFields),
        (0x14, "IE", interruptFields),
        (0x18, "CMD", "ST SUD POD CLO FRE -:3 CCS:5 MPSS FR CR CPS PMA HPCP MPSP CPD ESP FBSCP APSTE ATAPI DLAE ALPE ASP ICC:4"),
        (0x20, "TFD", "ERR -:2 DRQ -:3 BSY ERROR:8"), (0x24, "SIG", ""), (0x28, "SSTS", "DET:4 SPD:4 IPM:4"),
        (0x2C, "SCTL", "DET:4 SPD:4 IPM:4"), (0x30, "SERR", ""), (0x34, "SACT", ""), (0x38, "CI", ""),
    ]
    private static let interruptFields = "DHR PS DS SDB UF DP PC DMP -:14 PRC IPM OF - INF IF HBD HBF TFE CPD"
    /// Bits of PxIS.
    enum Interrupt {
        static let registerFIS: UInt32 = 1 << 0
        static let setupFIS: UInt32 = 1 << 1
        static let deviceBits: UInt32 = 1 << 3
        static let connectChange: UInt32 = 1 << 6
        static let taskFileError: UInt32 = 1 << 30
        /// All that can be written.
        static let all: UInt32 = 0xFDC0_00FF
    }
    /// Bits of PxCMD.
    private enum Command {
        static let start: UInt32 = 1 << 0
        static let override: UInt32 = 1 << 3
        static let receive: UInt32 = 1 << 4
        static let receiving: UInt32 = 1 << 14
        static let running: UInt32 = 1 << 15
        /// ST, SUD, POD, FRE, ALPE, DLAE, ASP: what software sets and reads back.
        static let stored: UInt32 = 0x0F00_0017
    }

    package internal(set) var state = State()
    let medium: (any BlockMedium)?
    let serial: String
    let memory: any DMAPort
    /// Sets (nil: cancels) the port's timer. Set by the controller.
    var timer: (VirtualTime?) -> Void = { _ in }
    /// Called when PxIS or PxIE has changed. Set by the controller.
    var interruptChanged: () -> Void = {}

    init(medium: (any BlockMedium)?, serial: String, memory: any DMAPort) {
        self.medium = medium
        self.serial = serial
        self.memory = memory
        setSignature()
    }

    /// The command whose timer has fired, for `request`: the state must not be looked at while it changes.
    var moving: (slot: UInt8, command: UInt8, sector: UInt64?)? {
        didSet { moves &+= 1 }
    }
    /// How often that has changed.
    private(set) var moves: UInt64 = 0
    /// What RAM is written for, in words; nil: it is not.
    var request: String? {
        guard let moving else { return nil }
        let text = "slot \(moving.slot), command 0x\(String(moving.command, radix: 16))"
        return moving.sector.map { "\(text), sector \($0)" } ?? text
    }

    /// The port interrupts.
    var interrupts: Bool { state.interruptStatus & state.interruptEnable != 0 }
    var isReceiving: Bool { state.command & Command.receive != 0 }
    private var isRunning: Bool { state.command & Command.start != 0 }

    func reset() {
        timer(nil)
        state = State()
        setSignature()
    }

    /// What a drive says after a reset: it is a disk, and ready.
    func setSignature() {
        state.taskFile = medium == nil ? 0x7F : 0x0150
        state.signature = medium == nil ? .max : 0x0000_0101
    }

    func raise(_ bit: UInt32) {
        state.interruptStatus |= bit
        interruptChanged()
    }

    /// A failure of the host's file: the present command fails.
    package func hostFailed() { if state.operation != .idle { state.transfer.fail() } }

    // MARK: Registers

    func read(_ register: UInt64) -> UInt32 {
        switch register {
        case 0x00: return UInt32(truncatingIfNeeded: state.commandList)
        case 0x04: return UInt32(truncatingIfNeeded: state.commandList >> 32)
        case 0x08: return UInt32(truncatingIfNeeded: state.receivedFIS)
        case 0x0C: return UInt32(truncatingIfNeeded: state.receivedFIS >> 32)
        case 0x10: return state.interruptStatus
        case 0x14: return state.interruptEnable
        case 0x18:
            return state.command | UInt32(state.slot & 31) << 8 | (isReceiving ? Command.receiving : 0)
                | (isRunning ? Command.running : 0)
        case 0x20: return state.taskFile
        case 0x24: return state.signature
        // A drive is there, the link is up at 1.5 Gb/s; unless it is off (DET 4) or in reset (DET 1).
        case 0x28: return medium == nil || state.control & 15 != 0 ? 0 : 0x113
        case 0x2C: return state.control
        case 0x30: return state.errors
        case 0x34: return state.active
        case 0x38: return state.issued
        default: return 0
        }
    }

    /// - Parameters:
    ///   - mask: the bits that are written.
    ///   - isEnabled: the controller may use RAM.
    func write(_ register: UInt64, _ value: UInt32, _ mask: UInt32, isEnabled: Bool) {
        func merge(_ old: UInt32) -> UInt32 { old & ~mask | value }
        func low(_ old: UInt64, align: UInt32) -> UInt64 {
            old & ~0xFFFF_FFFF | UInt64(merge(UInt32(truncatingIfNeeded: old)) & ~(align - 1))
        }
        func high(_ old: UInt64) -> UInt64 { old & 0xFFFF_FFFF | UInt64(merge(UInt32(truncatingIfNeeded: old >> 32))) << 32 }
        switch register {
        case 0x00: state.commandList = low(state.commandList, align: 1024)
        case 0x04: state.commandList = high(state.commandList)
        case 0x08: state.receivedFIS = low(state.receivedFIS, align: 256)
        case 0x0C: state.receivedFIS = high(state.receivedFIS)
        case 0x10:
            state.interruptStatus &= ~value
            interruptChanged()
        case 0x14:
            state.interruptEnable = merge(state.interruptEnable) & Interrupt.all
            interruptChanged()
        case 0x18: writeCommand(merge(state.command))
        case 0x2C: writeControl(merge(state.control) & 0xFFF)
        case 0x30: state.errors &= ~value
        case 0x34: if isRunning { state.active |= value }
        case 0x38:
            guard isRunning, isEnabled else { return }
            state.issued |= value
            startNext()
        default: break
        }
    }

    private func writeCommand(_ value: UInt32) {
        let wasReceiving = isReceiving
        let wasRunning = isRunning
        state.command = value & Command.stored
        if wasRunning, !isRunning {
            // What waits is forgotten, and the present command is given up.
            timer(nil)
            state.operation = .idle
            state.transfer.stop()
            state.issued = 0
            state.active = 0
            state.queued = 0
            state.isQueued = false
            state.isHalted = false
            state.slot = 0
        }
        if value & Command.override != 0 { state.taskFile &= ~0x88 }
        // The FIS that told of the drive after its reset was waiting for a place.
        if isReceiving, !wasReceiving, medium != nil, !state.isInReset { sendRegisterFIS(interrupts: false) }
    }

    private func writeControl(_ value: UInt32) {
        let old = state.control
        state.control = value
        if value & 15 == 1 {
            // COMRESET: the drive begins anew when it ends.
            timer(nil)
            state.queued = 0
            state.active = 0
            state.isQueued = false
            state.operation = .idle
            state.transfer.stop()
            state.isInReset = false
            state.taskFile = 0x7F
        } else if old & 15 == 1, value & 15 == 0 {
            setSignature()
            guard medium != nil else { return }
            state.errors |= 1 << 26
            if isReceiving { sendRegisterFIS(interrupts: false) }
            raise(Interrupt.connectChange)
        }
    }

    // MARK: What the drive sends

    /// A register FIS (Serial ATA 3.0, 10.3.5): the task file.
    func sendRegisterFIS(interrupts: Bool) {
        var fis = [UInt8](repeating: 0, count: 20)
        fis[0] = 0x34
        fis[1] = interrupts ? 0x40 : 0
        putTaskFile(in: &fis)
        put(fis, at: 0x40)
        if interrupts { raise(Interrupt.registerFIS) }
    }

    /// A PIO setup FIS: `count` bytes move.
    func sendSetupFIS(toRAM: Bool, count: Int) {
        var fis = [UInt8](repeating: 0, count: 20)
        fis[0] = 0x5F
        fis[1] = 0x40 | (toRAM ? 0x20 : 0)
        putTaskFile(in: &fis)
        // The status after the data.
        fis[15] = UInt8(truncatingIfNeeded: state.taskFile)
        fis[16] = UInt8(truncatingIfNeeded: count)
        fis[17] = UInt8(truncatingIfNeeded: count >> 8)
        put(fis, at: 0x20)
        raise(Interrupt.setupFIS)
    }

    /// A set device bits FIS (Serial ATA 3.0, 10.3.6): queued commands are over, or one has failed.
    func sendDeviceBits(over: UInt32) {
        var fis = [UInt8](repeating: 0, count: 8)
        fis[0] = 0xA1
        fis[1] = 0x40
        // Busy and data request are not told.
        fis[2] = UInt8(truncatingIfNeeded: state.taskFile) & 0x77
        fis[3] = UInt8(truncatingIfNeeded: state.taskFile >> 8)
        for lane in 0..<4 { fis[4 + lane] = UInt8(truncatingIfNeeded: over >> UInt32(lane * 8)) }
        state.active &= ~over
        put(fis, at: 0x58)
        raise(Interrupt.deviceBits)
    }

    private func putTaskFile(in fis: inout [UInt8]) {
        fis[2] = UInt8(truncatingIfNeeded: state.taskFile)
        fis[3] = UInt8(truncatingIfNeeded: state.taskFile >> 8)
        // Address and count as the command left them; after a reset, the signature.
        if state.operation == .idle && !state.isHalted {
            fis[4] = 1
            fis[12] = 1
        } else {
            for index in 4...10 { fis[index] = state.fis[index] }
            fis[12] = state.fis[12]
            fis[13] = state.fis[13]
        }
    }

    private func put(_ fis: [UInt8], at offset: UInt64) {
        guard isReceiving else { return }
        fis.withUnsafeBytes { memory.write(state.receivedFIS &+ offset, from: $0) }
    }
}
