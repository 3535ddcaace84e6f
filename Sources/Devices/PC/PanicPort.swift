import DeviceBus
import MachineState

/// The port by which a guest's kernel says that it has crashed (QEMU's docs/specs/pvpanic.rst).
package final class PanicPort: Device {
    /// Everything the guest can observe.
    package struct State {
        /// What the guest has said last: bit 0 a panic, bit 1 a crash kernel was loaded.
        package var event: UInt8 = 0
        package init() {}
        package mutating func visit(_ visitor: inout StateVisitor) { visitor.field("event", &event) }
    }

    package static let port: UInt16 = 0x505
    package let name = "pvpanic"
    package let regions = [Region(.port, base: UInt64(PanicPort.port), size: 1, registers: [RegisterName(0, "EVENT", fields: "PANICKED CRASHLOADED")])]
    package private(set) var state = State()
    private let channel: any HostChannel

    /// - Parameter channel: gets the events, a byte each.
    package init(channel: any HostChannel) { self.channel = channel }

    package func visitState(_ visitor: inout StateVisitor) { state.visit(&visitor) }
    package func reset() { state = State() }
    package func timerFired(_ timer: Int) {}
    /// The events that there are.
    package func read(region: Int, offset: UInt64, width: Int) -> UInt64 { 3 }
    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {
        state.event = UInt8(truncatingIfNeeded: value) & 3
        if state.event != 0 { channel.send([state.event]) }
    }
}
