import DeviceBus
import MachineState

/// Function 0 of Intel's 82371SB (PIIX3, datasheet 290550): the ISA bridge, with the routing of PCI interrupts.
///
/// As an interrupt sink, its inputs are `PCIAddress.interruptInput(pin:)`. Each of the four lines goes to the ISA
/// interrupt that its route control register names, and always to the I/O APIC's inputs 16...19.
package final class PIIX3: PCIFunction, InterruptSink {
    /// Everything the guest can observe.
    package struct State {
        package var configuration = PIIX3.makeConfiguration()
        package var router = PCIInterruptRouter()
        /// ISA interrupts that this chip holds active.
        package var driven: UInt16 = 0

        package init() {}

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.group("configuration") { configuration.visit(&$0) }
            visitor.group("router") { router.visit(&$0) }
            visitor.field("driven", &driven)
        }
    }

    /// ISA interrupts that a route control register can name (datasheet, PIRQRC).
    private static let routable: UInt16 = 0b1101_1110_1111_1000

    package let name = "piix3"
    package let regions: [Region] = []
    package private(set) var state = State()
    package var configuration: PCIConfiguration {
        get { state.configuration }
        set { state.configuration = newValue }
    }
    private let isaLines: [IRQLine]
    private let apicLines: [IRQLine]

    /// - Parameters:
    ///   - isaLines: ISA interrupts 0...15, by number.
    ///   - apicLines: where PIRQA...PIRQD go beside: empty, or four lines (I/O APIC inputs 16...19).
    package init(isaLines: [IRQLine], apicLines: [IRQLine] = []) {
        precondition(isaLines.count == 16 && (apicLines.isEmpty || apicLines.count == 4))
        self.isaLines = isaLines
        self.apicLines = apicLines
    }

    package func visitState(_ visitor: inout StateVisitor) { state.visit(&visitor) }

    package func reset() {
        let driven = state.driven
        state = State()
        state.driven = driven
        drive()
    }

    package func read(region: Int, offset: UInt64, width: Int) -> UInt64 { 0 }
    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {}
    package func timerFired(_ timer: Int) {}

    package func configurationWritten(_ offset: Int, width: Int) {
        if offset < 0x64, offset + width > 0x60 { drive() }
    }

    package func setInput(_ input: Int, _ level: Bool) {
        state.router.set(slot: input >> 2 & 31, pin: input & 3, level)
        drive()
    }

    /// ISA interrupts that some active line is routed to.
    private var isaLevels: UInt16 {
        let lines = state.router.lines
        var levels: UInt16 = 0
        for line in 0..<4 where lines >> UInt8(line) & 1 != 0 {
            if let irq = route(line) { levels |= 1 << UInt16(irq) }
        }
        return levels
    }

    private func route(_ line: Int) -> Int? {
        let register = state.configuration.read(0x60 + line, width: 1)
        let irq = Int(register & 15)
        return register & 0x80 == 0 && Self.routable >> UInt16(irq) & 1 != 0 ? irq : nil
    }

    /// Brings the outputs to what pins and routes say. Lines that do not change are not touched: they may be others'.
    private func drive() {
        let levels = isaLevels
        let changed = levels ^ state.driven
        state.driven = levels
        for irq in 0..<16 where changed >> UInt16(irq) & 1 != 0 { isaLines[irq].set(levels >> UInt16(irq) & 1 != 0) }
        let lines = state.router.lines
        for (index, line) in apicLines.enumerated() { line.set(lines >> UInt8(index) & 1 != 0) }
    }

    private static func makeConfiguration() -> PCIConfiguration {
        var configuration = PCIConfiguration(
            vendor: 0x8086, device: 0x7000, classCode: 0x060100, isMultifunction: true)
        // PCICMD: I/O, memory and bus master are always on; only special cycles can be switched.
        configuration.preset(0x04, width: 2, 0x0007)
        configuration.allowWrites(0x04, width: 2, mask: 0x0008)
        configuration.preset(0x06, width: 2, 0x0200)
        // ISA recovery timer and X-bus chip select.
        configuration.preset(0x4C, width: 1, 0x4D)
        configuration.allowWrites(0x4C, width: 1, mask: 0x7F)
        configuration.preset(0x4E, width: 2, 0x0003)
        configuration.allowWrites(0x4E, width: 2, mask: 0x03FF)
        // PIRQRC[A:D]: bit 7 off, bits 3...0 the interrupt.
        configuration.preset(0x60, width: 4, 0x8080_8080)
        configuration.allowWrites(0x60, width: 4, mask: 0x8F8F_8F8F)
        configuration.preset(0x69, width: 1, 0x02)
        configuration.allowWrites(0x69, width: 1, mask: 0xFE)
        configuration.allowWrites(0x6A, width: 2, mask: 0x8004)
        configuration.preset(0x70, width: 2, 0x8080)
        configuration.allowWrites(0x70, width: 2, mask: 0xCFCF)
        configuration.allowWrites(0x76, width: 2, mask: 0x8F8F)
        configuration.allowWrites(0x78, width: 2, mask: 0xFFFF)
        configuration.allowWrites(0x80, width: 1, mask: 0x7F)
        configuration.preset(0xA0, width: 1, 0x08)
        configuration.allowWrites(0xA0, width: 4, mask: 0xFFFF_FFFF)
        configuration.allowWrites(0xA4, width: 4, mask: 0xFFFF_FFFF)
        configuration.preset(0xA8, width: 1, 0x0F)
        configuration.allowWrites(0xA8, width: 1, mask: 0xFF)
        return configuration
    }
}
