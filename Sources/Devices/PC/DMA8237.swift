import DeviceBus
import MachineState

/// The pair of Intel 8237A DMA controllers of a PC and the page registers (datasheet 231466).
///
/// No device of this machine asks for a transfer: the registers behave for probing and set-up, and no channel moves.
package final class DMA8237: Device {
    /// One of the two controllers.
    package struct Controller {
        /// Address registers, in transfers. Base and current are written together, and nothing moves the current one.
        package var addresses = [UInt16](repeating: 0, count: 4)
        /// Word count registers.
        package var counts = [UInt16](repeating: 0, count: 4)
        package var modes = [UInt8](repeating: 0, count: 4)
        package var command: UInt8 = 0
        /// Software requests, one bit for a channel.
        package var requests: UInt8 = 0
        package var mask: UInt8 = 0x0F
        /// The byte pointer: false for the low byte of a 16-bit register.
        package var flipFlop = false

        package init() {}

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("addresses", &addresses)
            visitor.field("counts", &counts)
            visitor.field("modes", &modes)
            visitor.field("command", &command)
            visitor.field("requests", &requests)
            visitor.field("mask", &mask)
            visitor.field("flipFlop", &flipFlop)
            if visitor.mode == .load, addresses.count != 4 || counts.count != 4 || modes.count != 4 {
                visitor.fail("a DMA controller has four channels")
                self = Controller()
            }
        }
    }

    /// Everything the guest can observe.
    package struct State {
        /// Channels 0...3, 8-bit transfers.
        package var first = Controller()
        /// Channels 4...7, 16-bit transfers.
        package var second = Controller()
        /// Page registers, ports 0x80...0x8F; entry 0 belongs to the POST port and is not used.
        package var pages = [UInt8](repeating: 0, count: 16)

        package init() {}

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.group("first") { first.visit(&$0) }
            visitor.group("second") { second.visit(&$0) }
            visitor.field("pages", &pages)
            if visitor.mode == .load, pages.count != 16 {
                visitor.fail("there are sixteen DMA page registers")
                self = State()
            }
        }
    }

    package let name = "dma"
    package let regions: [Region] = [
        Region(.port, base: 0x00, size: 16, registers: DMA8237.registerNames(stride: 1)),
        Region(.port, base: 0xC0, size: 32, registers: DMA8237.registerNames(stride: 2)),
        Region(.port, base: 0x81, size: 15, registers: [RegisterName(0, "PAGE", length: 15)]),
    ]
    package private(set) var state = State()

    package init() {}

    package func visitState(_ visitor: inout StateVisitor) { state.visit(&visitor) }
    package func reset() { state = State() }
    package func timerFired(_ timer: Int) {}

    package func read(region: Int, offset: UInt64, width: Int) -> UInt64 {
        ByteLanes.read(offset, width) { offset in
            switch region {
            case 0: return Self.read(&state.first, offset & 15)
            case 1: return Self.read(&state.second, offset >> 1 & 15)
            default: return state.pages[Int(offset + 1) & 15]
            }
        }
    }

    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {
        ByteLanes.write(offset, width, value) { offset, byte in
            switch region {
            case 0: Self.write(&state.first, offset & 15, byte)
            // The second controller's address lines are shifted by one: odd ports are the same registers.
            case 1: Self.write(&state.second, offset >> 1 & 15, byte)
            default: state.pages[Int(offset + 1) & 15] = byte
            }
        }
    }

    private static func read(_ controller: inout Controller, _ register: UInt64) -> UInt8 {
        switch register {
        case 0...7:
            let channel = Int(register >> 1)
            let value = register & 1 == 0 ? controller.addresses[channel] : controller.counts[channel]
            defer { controller.flipFlop.toggle() }
            return UInt8(truncatingIfNeeded: controller.flipFlop ? value >> 8 : value)
        // Status: requests pending, no channel at its terminal count.
        case 8: return controller.requests << 4
        case 15: return controller.mask | 0xF0
        default: return 0
        }
    }

    private static func write(_ controller: inout Controller, _ register: UInt64, _ value: UInt8) {
        let bit: UInt8 = 1 << (value & 3)
        switch register {
        case 0...7:
            let channel = Int(register >> 1)
            let shift: UInt16 = controller.flipFlop ? 8 : 0
            let part = UInt16(value) << shift
            let kept: UInt16 = 0xFF00 >> shift
            if register & 1 == 0 {
                controller.addresses[channel] = controller.addresses[channel] & kept | part
            } else {
                controller.counts[channel] = controller.counts[channel] & kept | part
            }
            controller.flipFlop.toggle()
        case 8: controller.command = value
        case 9: controller.requests = value & 4 != 0 ? controller.requests | bit : controller.requests & ~bit
        case 10: controller.mask = value & 4 != 0 ? controller.mask | bit : controller.mask & ~bit
        case 11: controller.modes[Int(value & 3)] = value & 0xFC
        case 12: controller.flipFlop = false
        case 13:
            // Master clear: as a hardware reset, which leaves addresses, counts and modes alone.
            controller.command = 0
            controller.requests = 0
            controller.mask = 0x0F
            controller.flipFlop = false
        case 14: controller.mask = 0
        default: controller.mask = value & 0x0F
        }
    }

    private static func registerNames(stride: UInt64) -> [RegisterName] {
        let names = [
            "ADDR0", "COUNT0", "ADDR1", "COUNT1", "ADDR2", "COUNT2", "ADDR3", "COUNT3", "STATUS/COMMAND", "REQUEST",
            "MASK", "MODE", "CLEAR-FF", "MASTER-CLEAR", "CLEAR-MASK", "ALL-MASK",
        ]
        return names.enumerated().map { RegisterName(UInt64($0) * stride, $1, length: stride) }
    }
}
