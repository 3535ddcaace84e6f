import DeviceBus
import MachineState

/// Intel 8042 keyboard controller as in the IBM PS/2 (Technical Reference, "Keyboard and auxiliary device controller"),
/// with a keyboard and a mouse plugged in.
///
/// After a reset the controller is as firmware leaves it: translation and both interrupts on.
package final class I8042: Device {
    /// Where the byte in the output buffer came from.
    package enum Source: UInt8, Sendable { case none = 0, controller = 1, keyboard = 2, mouse = 3 }

    /// Everything the guest can observe.
    package struct State {
        /// Bit 0, 1: interrupts of keyboard and mouse; 2: system flag; 4, 5: keyboard, mouse off; 6: translation.
        package var commandByte: UInt8 = 0x47
        /// The command whose parameter comes next to port 0x60, or 0.
        package var pendingCommand: UInt8 = 0
        /// The last write was to port 0x64 (status bit 3).
        package var wasCommand = false
        /// Bit 0: not resetting; bit 1: A20. The interrupt bits 4 and 5 are computed.
        package var outputPort: UInt8 = 0x03
        package var outputBuffer: UInt8 = 0
        /// Not `none`: the output buffer is full.
        package var outputSource = Source.none
        /// The controller's 32 bytes of RAM; byte 0 is not here but in `commandByte`.
        package var memory = [UInt8](repeating: 0, count: 32)
        /// A keyboard byte F0 has come, which translation turns into bit 7 of the next.
        package var isBreak = false
        /// A byte of keyboard or mouse is on the wire: timer 0 runs.
        package var isTransferring = false
        package var keyboard = PS2Keyboard()
        package var mouse = PS2Mouse()

        package init() {}

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("commandByte", &commandByte)
            visitor.field("pendingCommand", &pendingCommand)
            visitor.field("wasCommand", &wasCommand)
            visitor.field("outputPort", &outputPort)
            visitor.field("outputBuffer", &outputBuffer)
            visitor.field("outputSource", &outputSource)
            visitor.field("memory", &memory)
            visitor.field("isBreak", &isBreak)
            visitor.field("isTransferring", &isTransferring)
            visitor.group("keyboard") { keyboard.visit(&$0) }
            visitor.group("mouse") { mouse.visit(&$0) }
            if visitor.mode == .load, memory.count != 32 {
                visitor.fail("the keyboard controller has 32 bytes of RAM")
                self = State()
            }
        }
    }

    /// The time of one byte on a PS/2 cable: eleven bits at 16 kHz.
    private static let frameTime: VirtualTime = 687_500
    private static let repeatTimer = 1
    private static let keyboardOff: UInt8 = 0x10
    private static let mouseOff: UInt8 = 0x20

    package let name = "ps2"
    package let regions: [Region] = [
        Region(.port, base: 0x60, size: 1, registers: [RegisterName(0, "DATA")]),
        Region(.port, base: 0x64, size: 1, registers: [RegisterName(0, "STATUS/COMMAND", fields: "OBF IBF SYS A2 INH MOBF TO PERR", written: "")]),
    ]
    package private(set) var state = State()
    private let keyboardIRQ: IRQLine
    private let mouseIRQ: IRQLine
    private let scheduler: Scheduler
    private let pins: any CPUPins

    /// Where key messages (`KeyMessage`) are delivered.
    package private(set) lazy var keyboardReceiver: any HostReceiver = PS2Receiver { [unowned self] bytes in
        let held = state.keyboard.heldKey
        for message in KeyMessage.decode(bytes) { state.keyboard.press(message) }
        if state.keyboard.heldKey != held { startRepeating(after: state.keyboard.repeatDelay) }
        startTransfer()
    }
    /// Where mouse messages (`MouseMessage`) are delivered.
    package private(set) lazy var mouseReceiver: any HostReceiver = PS2Receiver { [unowned self] bytes in
        for message in MouseMessage.decode(bytes) where !message.isAbsolute { state.mouse.move(message) }
        startTransfer()
    }

    /// - Parameters:
    ///   - keyboardIRQ: ISA interrupt 1.
    ///   - mouseIRQ: ISA interrupt 12.
    package init(keyboardIRQ: IRQLine, mouseIRQ: IRQLine, scheduler: Scheduler, pins: any CPUPins) {
        self.keyboardIRQ = keyboardIRQ
        self.mouseIRQ = mouseIRQ
        self.scheduler = scheduler
        self.pins = pins
    }

    package func visitState(_ visitor: inout StateVisitor) { state.visit(&visitor) }

    package func reset() {
        state = State()
        scheduler.cancel(self, timer: 0)
        scheduler.cancel(self, timer: Self.repeatTimer)
        pins.setA20(true)
        updateInterrupts()
    }

    package func read(region: Int, offset: UInt64, width: Int) -> UInt64 {
        region == 0 ? UInt64(readData()) : UInt64(status)
    }

    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {
        let byte = UInt8(truncatingIfNeeded: value)
        state.wasCommand = region != 0
        if region == 0 { writeData(byte) } else { command(byte) }
        startTransfer()
    }

    // MARK: Registers

    /// Bit 0: output buffer full; 2: system flag; 3: command last; 4: keyboard not locked; 5: the byte is the mouse's.
    private var status: UInt8 {
        var status: UInt8 = 0x10 | state.commandByte & 4
        if state.outputSource != .none { status |= 1 }
        if state.outputSource == .mouse { status |= 0x20 }
        if state.wasCommand { status |= 8 }
        return status
    }

    private func readData() -> UInt8 {
        if state.outputSource != .none {
            state.outputSource = .none
            updateInterrupts()
            startTransfer()
        }
        return state.outputBuffer
    }

    private func writeData(_ byte: UInt8) {
        let command = state.pendingCommand
        state.pendingCommand = 0
        switch command {
        case 0:
            // Talking to the keyboard turns its port on.
            state.commandByte &= ~Self.keyboardOff
            state.keyboard.command(byte)
        case 0x60:
            state.commandByte = byte
            updateInterrupts()
        case 0x61...0x7F: state.memory[Int(command & 0x1F)] = byte
        case 0xD1: writeOutputPort(byte)
        case 0xD2: output(byte, from: .keyboard)
        case 0xD3: output(byte, from: .mouse)
        case 0xD4:
            state.commandByte &= ~Self.mouseOff
            state.mouse.command(byte)
        default: break
        }
    }

    private func command(_ byte: UInt8) {
        state.pendingCommand = 0
        switch byte {
        case 0x20: output(state.commandByte, from: .controller)
        case 0x21...0x3F: output(state.memory[Int(byte & 0x1F)], from: .controller)
        case 0x60...0x7F, 0xD1...0xD4: state.pendingCommand = byte
        case 0xA7: state.commandByte |= Self.mouseOff
        case 0xA8: state.commandByte &= ~Self.mouseOff
        case 0xA9, 0xAB: output(0x00, from: .controller)
        case 0xAA:
            state.commandByte |= 0x04
            output(0x55, from: .controller)
        case 0xAD: state.commandByte |= Self.keyboardOff
        case 0xAE: state.commandByte &= ~Self.keyboardOff
        // The input port: keyboard not locked, colour display, no manufacturing jumper.
        case 0xC0: output(0xA0, from: .controller)
        case 0xD0: output(outputPortLevels, from: .controller)
        // The test inputs: both clocks are high while idle.
        case 0xE0: output(0x03, from: .controller)
        case 0xDD: writeOutputPort(state.outputPort & ~2)
        case 0xDF: writeOutputPort(state.outputPort | 2)
        // Pulses low the output bits whose command bit is 0: bit 0 is the CPU's RESET.
        case 0xF0...0xFF: if byte & 1 == 0 { pins.requestReset() }
        default: break
        }
    }

    private var outputPortLevels: UInt8 {
        var levels = state.outputPort & 0xCF
        if state.outputSource == .keyboard || state.outputSource == .controller { levels |= 0x10 }
        if state.outputSource == .mouse { levels |= 0x20 }
        return levels
    }

    private func writeOutputPort(_ value: UInt8) {
        let previous = state.outputPort
        state.outputPort = value | 1
        if (previous ^ value) & 2 != 0 { pins.setA20(value & 2 != 0) }
        if value & 1 == 0 { pins.requestReset() }
    }

    // MARK: The wires

    private func output(_ byte: UInt8, from source: Source) {
        state.outputBuffer = byte
        state.outputSource = source
        updateInterrupts()
    }

    private func updateInterrupts() {
        let isKeyboard = state.outputSource == .keyboard || state.outputSource == .controller
        keyboardIRQ.set(isKeyboard && state.commandByte & 1 != 0)
        mouseIRQ.set(state.outputSource == .mouse && state.commandByte & 2 != 0)
    }

    private var keyboardMaySend: Bool { state.keyboard.hasByte && state.commandByte & Self.keyboardOff == 0 }
    private var mouseMaySend: Bool { state.mouse.hasByte && state.commandByte & Self.mouseOff == 0 }

    /// A full output buffer holds both devices' clocks: one byte is on the wires at most.
    private func startTransfer() {
        if state.isTransferring || state.outputSource != .none { return }
        guard keyboardMaySend || mouseMaySend else { return }
        state.isTransferring = true
        scheduler.schedule(self, timer: 0, at: scheduler.now &+ Self.frameTime)
    }

    /// The key that is held, if there is one, repeats.
    private func startRepeating(after delay: VirtualTime) {
        if state.keyboard.heldKey == 0 {
            scheduler.cancel(self, timer: Self.repeatTimer)
        } else {
            scheduler.schedule(self, timer: Self.repeatTimer, at: scheduler.now &+ delay)
        }
    }

    package func timerFired(_ timer: Int) {
        if timer == Self.repeatTimer {
            state.keyboard.repeatKey()
            startRepeating(after: state.keyboard.repeatPeriod)
            return startTransfer()
        }
        state.isTransferring = false
        if state.outputSource == .none {
            if keyboardMaySend, let byte = state.keyboard.nextByte() {
                keyboardByte(byte)
            } else if mouseMaySend, let byte = state.mouse.nextByte() {
                output(byte, from: .mouse)
            }
        }
        startTransfer()
    }

    private func keyboardByte(_ byte: UInt8) {
        guard state.commandByte & 0x40 != 0 else { return output(byte, from: .keyboard) }
        if byte == 0xF0 {
            state.isBreak = true
        } else {
            let code = ScanCodeTranslation.set1(ofSet2: byte)
            output(state.isBreak ? code | 0x80 : code, from: .keyboard)
            state.isBreak = false
        }
    }
}

/// Hands bytes from the host to one of the controller's devices.
private final class PS2Receiver: HostReceiver {
    private let deliver: ([UInt8]) -> Void
    init(_ deliver: @escaping ([UInt8]) -> Void) { self.deliver = deliver }
    func receive(_ bytes: [UInt8]) { deliver(bytes) }
}
