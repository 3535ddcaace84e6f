import DeviceBus
import MachineState

/// The pair of Intel 8237A DMA controllers of a PC and the page registers (datasheet 231466).
///
/// A device that wants a transfer calls `write` or `read`: it moves as much as it has, at once.
package final class DMA8237: Device {
    /// One of the two controllers.
    package struct Controller {
        /// Address registers, in transfers.
        package var addresses = [UInt16](repeating: 0, count: 4)
        /// Word count registers: one less than the transfers that are left.
        package var counts = [UInt16](repeating: 0, count: 4)
        /// What software has set both to, for automatic initialisation.
        package var baseAddresses = [UInt16](repeating: 0, count: 4)
        package var baseCounts = [UInt16](repeating: 0, count: 4)
        /// Channels that have counted to their end, a bit each, until the status register is read.
        package var ends: UInt8 = 0
        /// The same, until they are programmed again.
        package var finished: UInt8 = 0
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
            visitor.field("baseAddresses", &baseAddresses)
            visitor.field("baseCounts", &baseCounts)
            visitor.field("ends", &ends)
            visitor.field("finished", &finished)
            visitor.field("modes", &modes)
            visitor.field("command", &command)
            visitor.field("requests", &requests)
            visitor.field("mask", &mask)
            visitor.field("flipFlop", &flipFlop)
            if visitor.mode == .load, [addresses, counts, baseAddresses, baseCounts].contains(where: { $0.count != 4 }) || modes.count != 4 {
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

    private let memory: any DMAPort

    package init(memory: any DMAPort) { self.memory = memory }

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
        // Status: requests pending, and channels at their terminal count since the last look.
        case 8:
            defer { controller.ends = 0 }
            return controller.requests << 4 | controller.ends
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
                controller.baseAddresses[channel] = controller.baseAddresses[channel] & kept | part
                controller.addresses[channel] = controller.baseAddresses[channel]
            } else {
                controller.baseCounts[channel] = controller.baseCounts[channel] & kept | part
                controller.counts[channel] = controller.baseCounts[channel]
            }
            controller.finished &= ~(1 << UInt8(channel))
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
            controller.ends = 0
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
        let fields = [8: "TC0 TC1 TC2 TC3 REQ0 REQ1 REQ2 REQ3", 11: "CHANNEL:2 KIND:2=verify/write/read/3 AUTO DOWN MODE:2"]
        return names.enumerated().map { number, name in
            let list = fields[number] ?? ""
            return RegisterName(
                UInt64(number) * stride, name, length: stride, fields: list,
                written: number == 8 ? "MTM HOLD OFF COMPRESSED ROTATING EXTENDED DREQ DACK" : list)
        }
    }
}

/// Transfers of the 8-bit channels 0...3.
extension DMA8237 {
    /// The page register of each channel, as an index into the ports 0x80...0x8F.
    private static let pageIndex = [7, 3, 1, 2]

    /// The channel has counted to its end, and has not been programmed again.
    package func isAtEnd(channel: Int) -> Bool { state.first.finished >> UInt8(channel & 3) & 1 != 0 }

    /// The device's data goes to RAM, as far as the count lets. Returns the count of bytes.
    package func write(channel: Int, _ bytes: [UInt8], origin: ImageOrigin? = nil) -> Int {
        // Mode: 01 is a transfer to RAM.
        transfer(channel, bytes.count, mode: 0x04) { address, offset, count in
            bytes.withUnsafeBytes {
                memory.write(
                    address, from: UnsafeRawBufferPointer(rebasing: $0[offset..<offset + count]),
                    origin: origin?.advanced(by: offset))
            }
        }
    }

    /// The device takes data from RAM, as far as the count lets. Returns the count of bytes.
    package func read(channel: Int, into bytes: inout [UInt8]) -> Int {
        var taken = bytes
        let count = transfer(channel, bytes.count, mode: 0x08) { address, offset, count in
            taken.withUnsafeMutableBytes {
                memory.read(address, into: UnsafeMutableRawBufferPointer(rebasing: $0[offset..<offset + count]))
            }
        }
        bytes = taken
        return count
    }

    private func transfer(
        _ channel: Int, _ length: Int, mode: UInt8, _ body: (_ address: UInt64, _ offset: Int, _ count: Int) -> Void
    ) -> Int {
        let channel = channel & 3
        let bit: UInt8 = 1 << UInt8(channel)
        var done = 0
        // Command bit 2 switches the controller off.
        while done < length, state.first.command & 4 == 0, state.first.mask & bit == 0, state.first.modes[channel] & 0x0C == mode {
            let left = Int(state.first.counts[channel]) + 1
            let goesDown = state.first.modes[channel] & 0x20 != 0
            let address = Int(state.first.addresses[channel])
            // The 16-bit address wraps within its page.
            let count = goesDown ? 1 : min(length - done, left, 0x1_0000 - address)
            body(UInt64(state.pages[Self.pageIndex[channel]]) << 16 | UInt64(address), done, count)
            done += count
            state.first.addresses[channel] = UInt16(truncatingIfNeeded: goesDown ? address - 1 : address + count)
            state.first.counts[channel] &-= UInt16(truncatingIfNeeded: count)
            guard count == left else { continue }
            state.first.ends |= bit
            state.first.finished |= bit
            if state.first.modes[channel] & 0x10 != 0 {
                state.first.addresses[channel] = state.first.baseAddresses[channel]
                state.first.counts[channel] = state.first.baseCounts[channel]
            } else {
                state.first.mask |= bit
            }
        }
        return done
    }
}
