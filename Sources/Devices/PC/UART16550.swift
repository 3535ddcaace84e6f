import DeviceBus
import MachineState

/// National Semiconductor PC16550D serial port with 16-byte FIFOs (datasheet SNLS378C).
///
/// Transmission takes no time: a written byte leaves through the host channel at once, and the transmitter is always
/// empty. Reception is paced by virtual time at the programmed rate, ten bits for a character, so that what the guest
/// sees does not depend on how the host chops its input.
package final class UART16550: Device, HostReceiver {
    /// Everything the guest can observe.
    package struct State {
        package var interruptEnable: UInt8 = 0
        /// FIFO control as written, without the self-clearing bits; bit 0: FIFOs are on.
        package var fifoControl: UInt8 = 0
        package var lineControl: UInt8 = 0
        package var modemControl: UInt8 = 0
        /// The error bits of the line status register: OE (bit 1). PE, FE and BI never happen on this line.
        package var lineErrors: UInt8 = 0
        /// Modem status: inputs in bits 7...4, their changes in bits 3...0.
        package var modemStatus: UInt8 = 0xB0
        package var scratch: UInt8 = 0
        /// Baud rate divisor of the 1.8432 MHz clock divided by 16.
        package var divisor: UInt16 = 12
        /// The receiver FIFO: at most 16 bytes, or 1 when FIFOs are off.
        package var received: [UInt8] = []
        /// The receiver buffer, as read while nothing is in the FIFO.
        package var lastReceived: UInt8 = 0
        /// "Transmitter holding register empty" is waiting to be reported.
        package var transmitInterrupt = false
        /// The character timeout has passed.
        package var timeoutInterrupt = false
        /// A character is on its way in: timer 0 runs.
        package var isReceiving = false
        /// Bytes that the host has sent and the line has not yet carried.
        package var inbox: [UInt8] = []
        /// Somebody is at the far end: DCD and DSR.
        package var hasCarrier = true
        /// The carrier changes when the line has carried what the host has sent.
        package var changesCarrier = false

        package init() {}

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("interruptEnable", &interruptEnable)
            visitor.field("fifoControl", &fifoControl)
            visitor.field("lineControl", &lineControl)
            visitor.field("modemControl", &modemControl)
            visitor.field("lineErrors", &lineErrors)
            visitor.field("modemStatus", &modemStatus)
            visitor.field("scratch", &scratch)
            visitor.field("divisor", &divisor)
            visitor.field("received", &received)
            visitor.field("lastReceived", &lastReceived)
            visitor.field("transmitInterrupt", &transmitInterrupt)
            visitor.field("timeoutInterrupt", &timeoutInterrupt)
            visitor.field("isReceiving", &isReceiving)
            visitor.field("inbox", &inbox)
            visitor.field("hasCarrier", &hasCarrier)
            visitor.field("changesCarrier", &changesCarrier)
        }
    }

    /// The most the inbox holds, in bytes; what comes in beyond is lost, as on an overrun line.
    package static let inboxLimit = 65_536
    private static let fifoSize = 16
    private static let arrivalTimer = 0
    private static let timeoutTimer = 1

    package let name: String
    package let regions: [Region]
    package private(set) var state = State()
    private let irq: IRQLine
    private let scheduler: Scheduler
    private let channel: any HostChannel

    /// - Parameter base: the first of its eight ports, 0x3F8 for the first serial port.
    package init(name: String, base: UInt64, irq: IRQLine, scheduler: Scheduler, channel: any HostChannel) {
        self.name = name
        self.irq = irq
        self.scheduler = scheduler
        self.channel = channel
        regions = [
            Region(
                .port, base: base, size: 8,
                registers: [
                    RegisterName(0, "RBR/THR"), RegisterName(1, "IER", fields: "ERBFI ETBEI ELSI EDSSI"),
                    RegisterName(
                        2, "IIR/FCR", fields: "NONE ID:3=MSR/THRE/RDA/LSR/4/5/TIMEOUT/7 -:2 FIFOE:2",
                        written: "FIFOE RFIFOR XFIFOR DMA -:2 TRIGGER:2=1/4/8/14"),
                    RegisterName(3, "LCR", fields: "WLS:2=5/6/7/8 STB PEN EPS SP BREAK DLAB"),
                    RegisterName(4, "MCR", fields: "DTR RTS OUT1 OUT2 LOOP"),
                    RegisterName(5, "LSR", fields: "DR OE PE FE BI THRE TEMT ERR"),
                    RegisterName(6, "MSR", fields: "DCTS DDSR TERI DDCD CTS DSR RI DCD"),
                    RegisterName(7, "SCR"),
                ])
        ]
    }

    package func visitState(_ visitor: inout StateVisitor) {
        state.visit(&visitor)
        if visitor.mode == .load, state.received.count > Self.fifoSize || state.inbox.count > Self.inboxLimit {
            visitor.fail("\(name): more received bytes than fit")
            state = State()
        }
    }

    /// Whoever is at the far end stays.
    package func reset() {
        let hasCarrier = state.hasCarrier != state.changesCarrier
        state = State()
        state.hasCarrier = hasCarrier
        if !hasCarrier { state.modemStatus = 0x10 }
        scheduler.cancel(self, timer: Self.arrivalTimer)
        scheduler.cancel(self, timer: Self.timeoutTimer)
        updateInterrupt()
    }

    package func read(region: Int, offset: UInt64, width: Int) -> UInt64 {
        ByteLanes.read(offset, width) { read($0) }
    }

    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {
        ByteLanes.write(offset, width, value) { write($0, $1) }
    }

    // MARK: Registers

    private var isDivisorLatched: Bool { state.lineControl & 0x80 != 0 }
    private var hasFIFO: Bool { state.fifoControl & 1 != 0 }
    private var isLooped: Bool { state.modemControl & 0x10 != 0 }

    private func read(_ offset: UInt64) -> UInt8 {
        switch offset & 7 {
        case 0: return isDivisorLatched ? UInt8(truncatingIfNeeded: state.divisor) : takeReceived()
        case 1: return isDivisorLatched ? UInt8(truncatingIfNeeded: state.divisor >> 8) : state.interruptEnable
        case 2:
            let identification = interruptIdentification
            if identification == 0x02 {
                state.transmitInterrupt = false
                updateInterrupt()
            }
            return identification | (hasFIFO ? 0xC0 : 0)
        case 3: return state.lineControl
        case 4: return state.modemControl
        case 5:
            // THRE and TEMT are always set: transmission takes no time.
            let status = 0x60 | state.lineErrors | (state.received.isEmpty ? 0 : 1)
            state.lineErrors = 0
            updateInterrupt()
            return status
        case 6:
            let status = state.modemStatus
            state.modemStatus &= 0xF0
            updateInterrupt()
            return status
        default: return state.scratch
        }
    }

    private func write(_ offset: UInt64, _ value: UInt8) {
        switch offset & 7 {
        case 0:
            if isDivisorLatched { state.divisor = state.divisor & 0xFF00 | UInt16(value) } else { transmit(value) }
        case 1:
            if isDivisorLatched {
                state.divisor = state.divisor & 0x00FF | UInt16(value) << 8
            } else {
                if value & ~state.interruptEnable & 2 != 0 { state.transmitInterrupt = true }
                state.interruptEnable = value & 0x0F
                updateInterrupt()
            }
        case 2: writeFIFOControl(value)
        case 3: state.lineControl = value
        case 4:
            state.modemControl = value & 0x1F
            updateModemInputs()
        case 7: state.scratch = value
        default: break
        }
    }

    private func writeFIFOControl(_ value: UInt8) {
        let switched = (value ^ state.fifoControl) & 1 != 0
        if switched || value & 2 != 0 {
            state.received = []
            state.timeoutInterrupt = false
            scheduler.cancel(self, timer: Self.timeoutTimer)
        }
        if switched || value & 4 != 0 { state.transmitInterrupt = true }
        state.fifoControl = value & 1 != 0 ? value & 0xC9 : 0
        startReceiving()
        updateInterrupt()
    }

    /// In loopback the modem inputs are wired to the outputs; otherwise the far end asserts DCD and DSR while it is there, and
    /// CTS always: what is sent to nobody is lost, and holds nobody up.
    private func updateModemInputs() {
        var inputs: UInt8 = state.hasCarrier ? 0xB0 : 0x10
        if isLooped {
            let control = state.modemControl
            inputs = (control & 2) << 3 | (control & 1) << 5 | (control & 4) << 4 | (control & 8) << 4
        }
        let changed = (inputs ^ state.modemStatus) & 0xF0
        // TERI tells the end of ringing only: a change of RI from 1 to 0.
        let changes = (changed & 0xB0 | changed & state.modemStatus & 0x40) >> 4
        state.modemStatus = inputs | state.modemStatus & 0x0F | changes
        updateInterrupt()
    }

    // MARK: Transmission and reception

    private func transmit(_ value: UInt8) {
        // The interrupt goes away and comes back, so that an edge-triggered controller sees a new one.
        state.transmitInterrupt = false
        updateInterrupt()
        if isLooped { accept(value) } else { channel.send([value]) }
        state.transmitInterrupt = true
        updateInterrupt()
    }

    /// Bytes from the host; none: the far end's carrier has changed, after all that came before.
    package func receive(_ bytes: [UInt8]) {
        if bytes.isEmpty {
            state.changesCarrier.toggle()
            return updateCarrier()
        }
        state.inbox.append(contentsOf: bytes.prefix(Self.inboxLimit - state.inbox.count))
        startReceiving()
    }

    private func updateCarrier() {
        guard state.changesCarrier, state.inbox.isEmpty else { return }
        state.changesCarrier = false
        state.hasCarrier.toggle()
        updateModemInputs()
    }

    /// One character's time on the line: ten bits.
    private var characterTime: VirtualTime {
        let divisor = state.divisor == 0 ? 0x1_0000 : UInt64(state.divisor)
        return Ticks.nanoseconds(count: divisor * 160, frequency: 1_843_200)
    }

    private func startReceiving() {
        let room = hasFIFO ? Self.fifoSize : 1
        if state.isReceiving || state.inbox.isEmpty || isLooped || state.received.count >= room { return }
        state.isReceiving = true
        scheduler.schedule(self, timer: Self.arrivalTimer, at: scheduler.now &+ characterTime)
    }

    package func timerFired(_ timer: Int) {
        if timer == Self.timeoutTimer {
            if hasFIFO, !state.received.isEmpty { state.timeoutInterrupt = true }
        } else {
            state.isReceiving = false
            if !state.inbox.isEmpty, !isLooped { accept(state.inbox.removeFirst()) }
            startReceiving()
            updateCarrier()
        }
        updateInterrupt()
    }

    /// A character is in the shift register, and goes into the FIFO if there is room.
    private func accept(_ value: UInt8) {
        if hasFIFO, state.received.count >= Self.fifoSize {
            state.lineErrors |= 2
        } else if !hasFIFO, !state.received.isEmpty {
            state.lineErrors |= 2
            state.received = [value]
        } else {
            state.received.append(value)
        }
        restartTimeout()
        updateInterrupt()
    }

    private func takeReceived() -> UInt8 {
        guard !state.received.isEmpty else { return state.lastReceived }
        state.lastReceived = state.received.removeFirst()
        state.timeoutInterrupt = false
        restartTimeout()
        startReceiving()
        updateInterrupt()
        return state.lastReceived
    }

    /// Four character times after the FIFO was last touched, what is left in it is announced.
    private func restartTimeout() {
        if hasFIFO, !state.received.isEmpty {
            scheduler.schedule(self, timer: Self.timeoutTimer, at: scheduler.now &+ 4 &* characterTime)
        } else {
            scheduler.cancel(self, timer: Self.timeoutTimer)
        }
    }

    // MARK: Interrupts

    private var triggerLevel: Int {
        guard hasFIFO else { return 1 }
        switch state.fifoControl >> 6 {
        case 0: return 1
        case 1: return 4
        case 2: return 8
        default: return 14
        }
    }

    /// The low four bits of IIR: the enabled interrupt of the highest priority, or 1 for none (datasheet table V).
    private var interruptIdentification: UInt8 {
        let enabled = state.interruptEnable
        if enabled & 4 != 0, state.lineErrors != 0 { return 0x06 }
        if enabled & 1 != 0, state.received.count >= triggerLevel { return 0x04 }
        if enabled & 1 != 0, state.timeoutInterrupt { return 0x0C }
        if enabled & 2 != 0, state.transmitInterrupt { return 0x02 }
        if enabled & 8 != 0, state.modemStatus & 0x0F != 0 { return 0x00 }
        return 0x01
    }

    /// On a PC the interrupt leaves the card only while the OUT2 pin is active; loopback takes the pin away.
    private func updateInterrupt() {
        irq.set(interruptIdentification != 1 && state.modemControl & 0x18 == 0x08)
    }
}
