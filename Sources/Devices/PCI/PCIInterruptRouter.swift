import DeviceBus
import MachineState

/// From the interrupt pins of the slots to the four lines PIRQA...PIRQD, and on to the interrupt controllers. Part of
/// `PIIX3`.
package struct PCIInterruptRouter {
    /// Levels of the pins INTA...INTD of each slot, in bits 0...3.
    package var pins = [UInt8](repeating: 0, count: 32)

    package init() {}

    package mutating func visit(_ visitor: inout StateVisitor) {
        visitor.field("pins", &pins)
        if visitor.mode == .load, pins.count != 32 {
            visitor.fail("there are 32 PCI slots")
            self = PCIInterruptRouter()
        }
    }

    /// The line (0...3) that pin `pin` (0 for INTA) of `slot` is wired to: one further with each slot, and INTA of slot
    /// 1 is PIRQA.
    package static func line(slot: Int, pin: Int) -> Int { (slot + 3 + pin) & 3 }

    /// Notes a pin's level.
    package mutating func set(slot: Int, pin: Int, _ level: Bool) {
        let bit: UInt8 = 1 << UInt8(pin & 3)
        pins[slot & 31] = level ? pins[slot & 31] | bit : pins[slot & 31] & ~bit
    }

    /// Levels of PIRQA...PIRQD in bits 0...3: a line is active while any of its pins is.
    package var lines: UInt8 {
        var lines: UInt8 = 0
        for slot in 0..<32 where pins[slot] != 0 {
            for pin in 0..<4 where pins[slot] >> UInt8(pin) & 1 != 0 {
                lines |= 1 << UInt8(Self.line(slot: slot, pin: pin))
            }
        }
        return lines
    }
}
