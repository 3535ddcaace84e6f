import DeviceBus
import MachineState

/// A PC's parallel port with a printer that is always ready: each byte it strobes goes to a channel.
package final class ParallelPort: Device {
    /// Everything the guest can observe.
    package struct State {
        package var data: UInt8 = 0
        /// Bit 0 strobe, bit 2 initialise (low), bit 4 interrupts.
        package var control: UInt8 = 0x0C
        /// The printer is taking a byte.
        package var isBusy = false

        package init() {}

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("data", &data)
            visitor.field("control", &control)
            visitor.field("isBusy", &isBusy)
        }
    }

    package let name: String
    package let regions: [Region]
    package private(set) var state = State()
    private let irq: IRQLine
    private let scheduler: Scheduler
    private let channel: any HostChannel

    package init(name: String, base: UInt64, irq: IRQLine, scheduler: Scheduler, channel: any HostChannel) {
        self.name = name
        self.irq = irq
        self.scheduler = scheduler
        self.channel = channel
        regions = [
            Region(
                .port, base: base, size: 3,
                registers: [RegisterName(0, "DATA"), RegisterName(1, "STATUS", fields: "-:3 NERROR SELECT PAPEROUT NACK NBUSY"),
                    RegisterName(2, "CONTROL", fields: "STROBE AUTOFEED NINIT SELECTIN IRQEN")])
        ]
    }

    package func visitState(_ visitor: inout StateVisitor) { state.visit(&visitor) }
    package func reset() {
        scheduler.cancel(self, timer: 0)
        state = State()
        irq.set(false)
    }

    /// The printer has taken the byte, and acknowledges it.
    package func timerFired(_ timer: Int) {
        state.isBusy = false
        if state.control & 0x10 != 0 { irq.pulse() }
    }

    package func read(region: Int, offset: UInt64, width: Int) -> UInt64 {
        ByteLanes.read(offset, width) { register in
            switch register {
            case 0: state.data
            // Not busy (bit 7), acknowledge high, paper, selected, no error.
            case 1: 0x5F | (state.isBusy ? 0 : 0x80)
            default: state.control | 0xE0
            }
        }
    }

    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {
        ByteLanes.write(offset, width, value) { register, byte in
            switch register {
            case 0: state.data = byte
            case 2:
                let strobes = byte & 1 != 0 && state.control & 1 == 0
                state.control = byte & 0x3F
                guard strobes, !state.isBusy else { return }
                channel.send([state.data])
                state.isBusy = true
                scheduler.schedule(self, timer: 0, at: scheduler.now &+ 5_000)
            default: break
            }
        }
    }
}
