import DeviceBus
import Replay

/// What an event is, for filters.
package enum TraceKind: String, Sendable, CaseIterable {
    /// Accesses to ports.
    case pio
    /// Accesses to devices' memory.
    case mmio
    /// Bus masters' accesses to RAM.
    case dma
    /// Interrupt lines, and interrupts that the CPU has taken.
    case irq
    /// All else: input, reset, idle time, digests.
    case other

    package init(_ kind: LogEvent.Kind) {
        switch kind {
        case .portRead, .portWrite, .portBlock, .portImage: self = .pio
        case .memoryRead, .memoryWrite: self = .mmio
        case .dmaRead, .dmaWrite, .dmaImage, .busMaster: self = .dma
        case .interruptLine, .interruptAcknowledge, .nmi: self = .irq
        default: self = .other
        }
    }
}

/// One place in a driver that accesses one register: what all such events have in common.
package struct TraceSite: Sendable {
    package let kind: LogEvent.Kind
    package let address: UInt64
    /// Bytes of an access; of a block, of an element.
    package let width: Int
    package let pc: UInt64
    /// The device's name; "-" when nothing is there.
    package let device: String
    /// The register's name for this direction; nil when it has none.
    package let register: String?
    /// The register as the device declares it, if the access begins at its first byte and no index register selects it.
    package let description: RegisterName?
    /// What the register's value depends on.
    package let contents: RegisterName.Contents
    /// Number of the region among the device's.
    package let region: Int
    /// First address of the device's region, and its bytes.
    package let base: UInt64
    package let size: UInt64
    /// Whose code that is, if symbols are known.
    package let symbol: String?

    package var isWrite: Bool { kind == .portWrite || kind == .memoryWrite }
    package var isPort: Bool { TraceKind(kind) == .pio }
    /// "device.register".
    package var place: String { "\(device).\(register ?? "0x" + String(address, radix: 16))" }
    /// A value in words; empty when it has none.
    package func describe(_ value: UInt64) -> String { description?.describe(value, isWrite: isWrite) ?? "" }
}
