import DeviceBus
import MachineState

/// The small ports of a PC board: fast A20 and reset (0x92), POST code (0x80), debug consoles (0xE9 and 0x402), and
/// isa-debug-exit (0xF4).
package final class SystemPorts: Device {
    /// Everything the guest can observe.
    package struct State {
        /// Port 0x92: bit 1 is the A20 gate, bit 0 resets. The other bits are stored.
        package var systemControl: UInt8 = 2
        /// The last POST code.
        package var postCode: UInt8 = 0

        package init() {}

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("systemControl", &systemControl)
            visitor.field("postCode", &postCode)
        }
    }

    private enum Port: Int { case systemControl, post, debugE9, debug402, exit }

    package let name = "system"
    package let regions: [Region] = [
        Region(.port, base: 0x92, size: 1, registers: [RegisterName(0, "SYSCTL-A", fields: "RESET A20")]),
        Region(.port, base: 0x80, size: 1, registers: [RegisterName(0, "POST")]),
        Region(.port, base: 0xE9, size: 1, registers: [RegisterName(0, "DEBUG-E9")]),
        Region(.port, base: 0x402, size: 1, registers: [RegisterName(0, "DEBUG-402")]),
        Region(.port, base: 0xF4, size: 4, registers: [RegisterName(0, "DEBUG-EXIT", length: 4)]),
    ]
    package private(set) var state = State()
    private let pins: any CPUPins
    private let channel: any HostChannel

    /// - Parameter channel: gets the bytes of both debug ports ("debugcon").
    package init(pins: any CPUPins, channel: any HostChannel) {
        self.pins = pins
        self.channel = channel
    }

    package func visitState(_ visitor: inout StateVisitor) { state.visit(&visitor) }

    package func reset() {
        state = State()
        pins.setA20(true)
    }

    package func timerFired(_ timer: Int) {}

    package func read(region: Int, offset: UInt64, width: Int) -> UInt64 {
        switch Port(rawValue: region) {
        case .systemControl: return UInt64(state.systemControl)
        case .post: return UInt64(state.postCode)
        // This value tells a program that its debug output is heard.
        case .debugE9, .debug402: return 0xE9
        default: return 0
        }
    }

    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {
        let byte = UInt8(truncatingIfNeeded: value)
        switch Port(rawValue: region) {
        case .systemControl:
            let previous = state.systemControl
            // Bit 0 is a pulse: it reads as 0 again after the reset.
            state.systemControl = byte & 0xFE
            if (previous ^ byte) & 2 != 0 { pins.setA20(byte & 2 != 0) }
            if byte & 1 != 0 { pins.requestReset() }
        case .post: state.postCode = byte
        case .debugE9, .debug402: channel.send([byte])
        case .exit:
            let mask: UInt64 = width >= 8 ? .max : (1 << UInt64(width * 8)) - 1
            pins.powerOff(code: value & mask)
        case nil: break
        }
    }
}
