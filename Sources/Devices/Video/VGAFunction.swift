import DeviceBus
import MachineState

/// The video adapter on the PCI bus: where its linear frame buffer is. The adapter itself may be on the other side of
/// the boundary; it and SeaBIOS's VGA BIOS know each other by this identity ("Bochs graphics adapter").
package final class VGAFunction: PCIFunction {
    /// Everything the guest can observe.
    package struct State {
        package var configuration = VGAFunction.makeConfiguration()

        package init() {}

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.group("configuration") { configuration.visit(&$0) }
        }
    }

    package let name = "vga-pci"
    package var regions: [Region] { [state.configuration.region(0)] }
    package private(set) var state = State()
    package var configuration: PCIConfiguration {
        get { state.configuration }
        set { state.configuration = newValue }
    }
    private let pins: any CPUPins

    package init(pins: any CPUPins) { self.pins = pins }

    package func visitState(_ visitor: inout StateVisitor) { state.visit(&visitor) }
    package func reset() {
        state.configuration.reset()
        tell()
    }
    /// The CPU reaches the frame buffer as memory: nobody asks here.
    package func read(region: Int, offset: UInt64, width: Int) -> UInt64 { 0 }
    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {}
    package func timerFired(_ timer: Int) {}
    package func configurationWritten(_ offset: Int, width: Int) { if offset < 0x14 { tell() } }

    private func tell() { pins.setVideoBase(state.configuration.base(0) ?? 0) }

    private static func makeConfiguration() -> PCIConfiguration {
        var configuration = PCIConfiguration(
            vendor: 0x1234, device: 0x1111, revision: 2, classCode: 0x030000, subsystemVendor: 0x1AF4, subsystem: 0x1100)
        configuration.setBaseAddress(0, .memory, size: UInt32(VGA.memorySize), region: 0, isPrefetchable: true)
        return configuration
    }
}
