import DeviceBus
import MachineState

/// A drive at an IDE cable: a disk (ATA/ATAPI-7, T13/1532D) or a CD-ROM drive (the same, and MMC-3). The registers and
/// what all commands share; `IDEDrive+ATA`, `+ATAPI` and `+Transfer` have the rest.
package final class IDEDrive {
    package enum Kind: Sendable { case disk, cdrom }

    /// What the drive is waiting for.
    package enum Phase: UInt8, Sendable {
        case idle = 0
        /// The host reads a block of data from the data register.
        case dataIn = 1
        /// The host writes one.
        case dataOut = 2
        /// The host writes a command packet.
        case packet = 3
        /// The bus master moves data to RAM, or from it.
        case dmaIn = 4
        case dmaOut = 5
        /// A command without data is being carried out.
        case busy = 6
    }

    /// What happens when the drive's timer fires.
    package enum Step: UInt8, Sendable {
        case none = 0
        /// The block that was read is shown to the host.
        case present = 1
        /// The block in the buffer is written to the medium.
        case commit = 2
        /// The bus master fetches the next block from RAM.
        case fetch = 3
        /// The bus master stores the block in the buffer.
        case store = 4
        /// The command is complete.
        case finish = 5
        /// A reset is complete.
        case awake = 6
    }

    /// Everything the guest can observe. A task file register is a pair: the last value written is the low byte, the one
    /// before it the high byte (48-bit addresses).
    package struct State {
        package var status: UInt8 = 0
        package var error: UInt8 = 1
        package var features: UInt16 = 0
        package var sectorCount: UInt16 = 1
        package var lbaLow: UInt16 = 1
        package var lbaMid: UInt16 = 0
        package var lbaHigh: UInt16 = 0
        /// The drive asserts INTRQ when it is selected.
        package var interrupt = false
        /// Sectors a block of READ MULTIPLE and WRITE MULTIPLE, 0 for none.
        package var multiple: UInt8 = 16
        /// The translation of cylinder addresses (INITIALIZE DEVICE PARAMETERS).
        package var heads: UInt8 = 16
        package var sectorsPerTrack: UInt8 = 63
        /// The value of SET FEATURES 03 for DMA: 20h...22h multiword, 40h... ultra.
        package var transferMode: UInt8 = 0x22
        /// Write cache: bit 0; look-ahead: bit 1.
        package var options: UInt8 = 3

        package var phase = Phase.idle
        package var step = Step.none
        package var command: UInt8 = 0
        package var usesDMA = false
        /// The host has failed to do what the present command asked for.
        package var hasFailed = false
        /// The next sector (a CD-ROM's: the next block of 2048 bytes), and how many still follow.
        package var address: UInt64 = 0
        package var remaining: UInt64 = 0
        /// Behind the last sector that was accessed: a transfer from here needs no seek.
        package var head: UInt64 = 0
        /// The present block of data.
        package var buffer: [UInt8] = []
        /// The next byte of it.
        package var offset: UInt32 = 0
        /// The first byte behind what the host may transfer now.
        package var limit: UInt32 = 0

        /// A packet command's bytes so far.
        package var packet: [UInt8] = []
        /// The most bytes the host of a packet command takes at once; 0 for the most there can be.
        package var packetLimit: UInt16 = 0
        /// The buffer holds the drive's own words, not the medium's.
        package var isResponse = false
        package var senseKey: UInt8 = 0
        package var senseCode: UInt16 = 0
        /// The first command after a reset is told that there was one.
        package var hasAttention = false
        package var isTrayLocked = false
        package var isTrayOpen = false
        /// GET EVENT STATUS NOTIFICATION: 0 nothing, 1 eject requested, 2 new medium, 3 medium removed.
        package var mediaEvent: UInt8 = 0
        /// Which of the drive's discs is in it; `IDEDrive.noDisc` for none. A reset does not change it.
        package var disc: UInt8 = 0

        package init() {}

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("status", &status)
            visitor.field("error", &error)
            visitor.field("features", &features)
            visitor.field("sectorCount", &sectorCount)
            visitor.field("lbaLow", &lbaLow)
            visitor.field("lbaMid", &lbaMid)
            visitor.field("lbaHigh", &lbaHigh)
            visitor.field("interrupt", &interrupt)
            visitor.field("multiple", &multiple)
            visitor.field("heads", &heads)
            visitor.field("sectorsPerTrack", &sectorsPerTrack)
            visitor.field("transferMode", &transferMode)
            visitor.field("options", &options)
            visitor.field("phase", &phase)
            visitor.field("step", &step)
            visitor.field("command", &command)
            visitor.field("usesDMA", &usesDMA)
            visitor.field("hasFailed", &hasFailed)
            visitor.field("address", &address)
            visitor.field("remaining", &remaining)
            visitor.field("head", &head)
            visitor.field("buffer", &buffer)
            visitor.field("offset", &offset)
            visitor.field("limit", &limit)
            visitor.field("packet", &packet)
            visitor.field("packetLimit", &packetLimit)
            visitor.field("isResponse", &isResponse)
            visitor.field("senseKey", &senseKey)
            visitor.field("senseCode", &senseCode)
            visitor.field("hasAttention", &hasAttention)
            visitor.field("isTrayLocked", &isTrayLocked)
            visitor.field("isTrayOpen", &isTrayOpen)
            visitor.field("mediaEvent", &mediaEvent)
            visitor.field("disc", &disc)
            guard visitor.mode == .load else { return }
            if Int(limit) > buffer.count || offset > limit || packet.count > 12 || buffer.count > IDEDrive.maximumBlock {
                visitor.fail("a drive's buffer does not fit its pointers")
                self = State()
            }
        }
    }

    /// Bits of the status register.
    package enum Status {
        package static let error: UInt8 = 0x01
        package static let dataRequest: UInt8 = 0x08
        package static let seekComplete: UInt8 = 0x10
        package static let fault: UInt8 = 0x20
        package static let ready: UInt8 = 0x40
        package static let busy: UInt8 = 0x80
    }
    /// Bits of the error register.
    package enum Failure {
        package static let abort: UInt8 = 0x04
        package static let notFound: UInt8 = 0x10
        package static let uncorrectable: UInt8 = 0x40
    }

    /// The largest piece that moves in one go, in bytes: 256 sectors.
    static let maximumBlock = 128 << 10

    package let kind: Kind
    /// The discs that can be put into the drive; a disk has the one it is.
    private let discs: [any BlockMedium]
    package static let noDisc: UInt8 = 0xFF
    /// Nil: a drive without a disc.
    package var medium: (any BlockMedium)? { discs.indices.contains(Int(state.disc)) ? discs[Int(state.disc)] : nil }
    /// For IDENTIFY: at most 20 characters.
    package let serial: String
    package internal(set) var state = State()
    /// What the drive is connected to. Set by the channel.
    unowned(unsafe) var channel: IDEChannel!

    /// - Parameter others: discs that may be put in later.
    package init(kind: Kind, medium: (any BlockMedium)?, serial: String, others: [any BlockMedium] = []) {
        self.kind = kind
        discs = (medium.map { [$0] } ?? []) + others
        self.serial = serial
        powerOn()
    }

    /// The state after power-on. Drives no line.
    func powerOn() {
        let disc = state.disc
        state = State()
        state.disc = disc
        state.hasAttention = kind == .cdrom && medium != nil
        setSignature()
    }

    /// What a reset leaves in the task file (ATA/ATAPI-7, 9.12): it tells disks and packet drives apart.
    func setSignature() {
        state.error = 1
        state.sectorCount = 1
        state.lbaLow = 1
        state.lbaMid = kind == .disk ? 0 : 0x14
        state.lbaHigh = kind == .disk ? 0 : 0xEB
        state.status = kind == .disk ? Status.ready | Status.seekComplete : 0
    }

    /// Sets a task file register's present value; what the host wrote before stays behind it.
    static func put(_ value: UInt8, in register: inout UInt16) { register = register & 0xFF00 | UInt16(value) }

    // MARK: Registers

    /// A register of the command block, 1...7 (the data register is apart). `isHigh`: the previous values (HOB).
    func readRegister(_ register: UInt64, isHigh: Bool) -> UInt8 {
        func pick(_ pair: UInt16) -> UInt8 { UInt8(truncatingIfNeeded: isHigh ? pair >> 8 : pair) }
        switch register {
        case 1: return state.error
        case 2: return pick(state.sectorCount)
        case 3: return pick(state.lbaLow)
        case 4: return pick(state.lbaMid)
        case 5: return pick(state.lbaHigh)
        default: return state.status
        }
    }

    /// A write to a register 1...5. While the drive is busy it does not look.
    func writeRegister(_ register: UInt64, _ value: UInt8) {
        if state.status & Status.busy != 0 { return }
        func shift(_ pair: inout UInt16) { pair = pair << 8 | UInt16(value) }
        switch register {
        case 1: shift(&state.features)
        case 2: shift(&state.sectorCount)
        case 3: shift(&state.lbaLow)
        case 4: shift(&state.lbaMid)
        case 5: shift(&state.lbaHigh)
        default: break
        }
    }

    /// Reading the status register takes the interrupt back.
    func acknowledge() {
        state.interrupt = false
        channel.updateInterrupt()
    }

    func raiseInterrupt() {
        state.interrupt = true
        channel.updateInterrupt()
    }

    // MARK: Ends of commands

    /// The command is complete without error.
    func succeed() {
        endTransfer()
        state.status = Status.ready | Status.seekComplete
        state.error = 0
        if kind == .cdrom { Self.put(3, in: &state.sectorCount) }
        raiseInterrupt()
    }

    /// The command ends with an error.
    func fail(_ error: UInt8) {
        endTransfer()
        state.status = Status.ready | Status.seekComplete | Status.error
        state.error = error
        raiseInterrupt()
    }

    func endTransfer() {
        state.phase = .idle
        state.step = .none
        state.buffer = []
        state.offset = 0
        state.limit = 0
        state.remaining = 0
        state.hasFailed = false
        state.isResponse = false
        channel.cancel(self)
    }

    /// A reset, by the channel's SRST or by command: the drive is busy for a while.
    func startReset() {
        endTransfer()
        state.status = Status.busy
        state.interrupt = false
        channel.updateInterrupt()
    }

    func finishReset() {
        state.packet = []
        state.multiple = 16
        state.isTrayLocked = false
        state.hasAttention = kind == .cdrom
        setSignature()
    }

    /// Somebody has put in another disc, or taken it out. What the drive is doing fails.
    func change(disc: UInt8) {
        guard kind == .cdrom, disc != state.disc else { return }
        if state.phase != .idle { failPacket(key: 6, code: 0x2800) }
        state.disc = disc
        state.isTrayOpen = false
        state.hasAttention = medium != nil
        state.mediaEvent = medium == nil ? 3 : 2
        state.head = 0
    }

    /// The host could not do what it was asked for. Comes as an input, before the transfer's timer.
    func hostFailed() {
        guard state.phase != .idle else { return }
        state.hasFailed = true
        // What could not be read is the same at a replay, where it can.
        for index in state.buffer.indices { state.buffer[index] = 0 }
    }

    /// The timer.
    func timerFired() {
        let step = state.step
        state.step = .none
        switch step {
        case .none: break
        case .present: presentBlock()
        case .commit: commitBlock()
        case .fetch: fetchBlock()
        case .store: storeBlock()
        case .finish: if state.hasFailed { failMedium() } else { succeed() }
        case .awake: finishReset()
        }
    }

    func schedule(_ step: Step, after nanoseconds: VirtualTime) {
        state.step = step
        channel.schedule(self, after: nanoseconds)
    }
}
