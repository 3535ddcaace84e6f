import DeviceBus
import MachineState

/// Function 3 of Intel's 82371AB (PIIX4, datasheet 290562): the configuration space of power management.
///
/// Its I/O block is another chip's: PMBASE and its enable bit say where that answers.
package final class PIIX4Power: PCIFunction {
    /// Everything the guest can observe.
    package struct State {
        package var configuration: PCIConfiguration

        package init(base: UInt16) { configuration = PIIX4Power.makeConfiguration(base: base) }

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.group("configuration") { configuration.visit(&$0) }
        }
    }

    package let name = "piix4-pm"
    package let regions: [Region] = []
    package private(set) var state: State
    package var configuration: PCIConfiguration {
        get { state.configuration }
        set { state.configuration = newValue }
    }

    /// Gets where the block is when that is written. Set by the board.
    package var baseChanged: ((UInt16?) -> Void)?

    /// - Parameter base: the first port of the power management block, a multiple of 64.
    package init(base: UInt16 = 0xB000) { state = State(base: base) }

    package func visitState(_ visitor: inout StateVisitor) { state.visit(&visitor) }
    package func reset() {
        state.configuration.reset()
        baseChanged?(base)
    }
    package func read(region: Int, offset: UInt64, width: Int) -> UInt64 { 0 }
    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {}
    package func timerFired(_ timer: Int) {}
    package func configurationWritten(_ offset: Int, width: Int) {
        if offset < 0x44 && offset + width > 0x40 || offset == 0x80 { baseChanged?(base) }
    }

    /// The first port of the power management block; nil while it is switched off. PMREGMISC bit 0 enables it.
    private var base: UInt16? {
        let base = UInt16(truncatingIfNeeded: state.configuration.read(0x40, width: 2)) & 0xFFC0
        return state.configuration.read(0x80, width: 1) & 1 != 0 && base != 0 ? base : nil
    }

    private static func makeConfiguration(base: UInt16) -> PCIConfiguration {
        var configuration = PCIConfiguration(
            vendor: 0x8086, device: 0x7113, revision: 3, classCode: 0x068000, interruptPin: 1)
        configuration.preset(0x06, width: 2, 0x0280)
        // SCI is interrupt 9.
        configuration.preset(0x3C, width: 1, 9)
        // PMBASE: an I/O base.
        configuration.preset(0x40, width: 4, UInt32(base & 0xFFC0) | 1)
        configuration.allowWrites(0x40, width: 4, mask: 0xFFC0)
        // Device resources and general purpose settings are stored.
        for offset in stride(from: 0x44, to: 0x80, by: 4) {
            configuration.allowWrites(offset, width: 4, mask: 0xFFFF_FFFF)
        }
        // DEVACTB bit 25, APMC enable: set, so that firmware takes system management mode for set up already. There is none.
        configuration.preset(0x5B, width: 1, 2)
        // PMREGMISC bit 0: the block is enabled.
        configuration.preset(0x80, width: 1, 1)
        configuration.allowWrites(0x80, width: 1, mask: 1)
        // SMBBASE, SMBHSTCFG: stored; there is no SMBus host.
        configuration.preset(0x90, width: 4, 1)
        configuration.allowWrites(0xD2, width: 1, mask: 0x0F)
        return configuration
    }
}
