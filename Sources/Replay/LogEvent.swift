import Boundary
import MachineState

/// One event of a recording. Every kind shares one flat layout, so there is one codec.
package struct LogEvent: Sendable, Equatable {
    /// Append only: the raw values are the file format. Kinds from 128 are optional: a reader that does not know one
    /// skips it; an unknown kind below 128 is an error.
    package enum Kind: UInt8, Sendable, CaseIterable {
        /// Bytes for the device at channel `address`.
        case input = 1
        /// The answer `value` to question `width` of channel `address`.
        case answer = 2
        /// Digests of the parts, in `bytes`: one 64-bit digest over all, then 16 bits each.
        case digest = 3
        /// The CPU was halted, and idle time up to `time` was skipped.
        case idle = 4
        /// The end: reason `value`, digests in `bytes` as above.
        case end = 5
        case portRead = 6
        case portWrite = 7
        case memoryRead = 8
        case memoryWrite = 9
        /// The vector is `value`.
        case interruptAcknowledge = 10
        /// INTR becomes `value`.
        case interruptLine = 11
        case nmi = 12
        case a20 = 13
        case reset = 14
        /// `value` is 0, or the exit code plus 1.
        case powerOff = 15
        case dmaWrite = 16
        case dmaRead = 17
        /// A DMA write of `width` bytes that are in disk image number `pc`, from offset `value` on.
        case dmaImage = 18
        /// The host bridge's PAM registers become `value`.
        case shadow = 19
        /// The linear frame buffer is at `value`.
        case videoBase = 20
        /// A block read from a port (`REP INSW`), its data in `bytes`. `width`: bytes in all, and in bits 31...24 bytes of
        /// an element.
        case portBlock = 21
        /// The same, of data that is in a disk image: `value` has the image's number in its top byte, and the offset.
        case portImage = 22
        /// Contents of disk image number `address`, which the header does not name by a digest: `width` bytes from offset
        /// `value` on, in `bytes`.
        case diskData = 23
        /// A debugger's user changes RAM at physical address `address` to `bytes`.
        case editMemory = 32
        /// The same for register number `address`.
        case editRegister = 33
        /// Devices cut, optional: the frame `bytes` has crossed the card's channel `address` at virtual time `value`;
        /// `width` is 0 for one that came in, 1 for one that went out. A replay has no use for it.
        case frame = 128
        /// Devices cut, optional: the DMA that follows, up to the next such event, is that of the device and request that
        /// `bytes` name (`BusMasterName.text`).
        case busMaster = 129
        /// An optional kind of a later version. Never written.
        case unknown = 255

        static let firstOptional: UInt8 = 128
        /// Says something to readers only.
        package var isOptional: Bool { rawValue >= Self.firstOptional }

        /// A transaction of the CPU: has a PC, a width and a value.
        package var isTransaction: Bool {
            switch self {
            case .portRead, .portWrite, .memoryRead, .memoryWrite, .interruptAcknowledge, .answer, .portBlock, .portImage, .diskData: true
            default: false
            }
        }
        /// Comes in unasked, between two instructions (unless `within`).
        package var isLetIn: Bool {
            switch self {
            case .input, .interruptLine, .nmi, .a20, .reset, .powerOff, .dmaWrite, .dmaRead, .dmaImage, .shadow, .videoBase,
                .editMemory, .editRegister: true
            default: false
            }
        }
        /// A bus master at work.
        package var isDMA: Bool { self == .dmaRead || self == .dmaWrite || self == .dmaImage }
        package var hasBytes: Bool {
            switch self {
            case .input, .digest, .end, .dmaWrite, .dmaRead, .portBlock, .diskData, .editMemory, .editRegister, .frame, .busMaster,
                .unknown:
                true
            default: false
            }
        }
        /// The name in `emu log` and in the statistics.
        package var name: String {
            switch self {
            case .input: "input"
            case .answer: "answer"
            case .digest: "digest"
            case .idle: "idle"
            case .end: "end"
            case .portRead: "port-read"
            case .portWrite: "port-write"
            case .memoryRead: "mmio-read"
            case .memoryWrite: "mmio-write"
            case .interruptAcknowledge: "irq-acknowledge"
            case .interruptLine: "irq-line"
            case .nmi: "nmi"
            case .a20: "a20"
            case .reset: "reset"
            case .powerOff: "power-off"
            case .dmaWrite: "dma-write"
            case .dmaRead: "dma-read"
            case .dmaImage: "dma-image"
            case .shadow: "shadow"
            case .videoBase: "video-base"
            case .portBlock: "port-block"
            case .portImage: "port-image"
            case .diskData: "disk-data"
            case .editMemory: "edit-memory"
            case .editRegister: "edit-register"
            case .frame: "frame"
            case .busMaster: "bus-master"
            case .unknown: "unknown"
            }
        }
    }

    package var kind: Kind
    /// It came in while a transaction was being answered: the event after it (or after its like) is that transaction.
    package var within = false
    package var position: Position
    /// Idle time skipped so far: virtual time is `position << clockShift` plus this.
    package var skipped: VirtualTime = 0
    package var pc: UInt64 = 0
    /// Port, physical address, or channel.
    package var address: UInt64 = 0
    /// Bytes; a question's number for `.answer`.
    package var width: UInt32 = 0
    package var value: UInt64 = 0
    package var bytes: [UInt8] = []

    package init(_ kind: Kind, position: Position) {
        self.kind = kind
        self.position = position
    }
}
