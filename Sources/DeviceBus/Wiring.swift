import MachineState

/// What an interrupt line ends in: a controller's input.
package protocol InterruptSink: AnyObject {
    /// The level at input number `input` is now `level`.
    func setInput(_ input: Int, _ level: Bool)
}

/// A wire from a device to an interrupt controller's input. Its level is saved where it ends, not here.
package struct IRQLine {
    package unowned let sink: any InterruptSink
    package let input: Int

    package init(_ sink: any InterruptSink, _ input: Int) {
        self.sink = sink
        self.input = input
    }

    package func set(_ level: Bool) { sink.setInput(input, level) }
    package func pulse() {
        set(true)
        set(false)
    }
}

/// A bus master's access to guest RAM. Addresses that are not RAM read as 0xFF and swallow writes: a guest's bad
/// descriptor can neither crash the emulator nor reach its memory.
package protocol DMAPort: AnyObject {
    func read(_ address: UInt64, into buffer: UnsafeMutableRawBufferPointer)
    func write(_ address: UInt64, from buffer: UnsafeRawBufferPointer)
    /// The same; `origin` says which part of a disk image the bytes are, if they are one.
    func write(_ address: UInt64, from buffer: UnsafeRawBufferPointer, origin: ImageOrigin?)
}

extension DMAPort {
    package func write(_ address: UInt64, from buffer: UnsafeRawBufferPointer, origin: ImageOrigin?) {
        write(address, from: buffer)
    }
}

/// Where interrupt messages (MSI, MSI-X) go: a write of 32 bits to an address that is an interrupt controller's.
package protocol MessageSink: AnyObject {
    /// Delivers the message. One to an address that is no interrupt controller's is lost.
    func deliver(address: UInt64, data: UInt32)
}

/// The CPU's pins, as the chips around it see them.
package protocol CPUPins: AnyObject {
    /// The INTR line: an interrupt controller has a vector to offer.
    func setInterruptLine(_ level: Bool)
    /// A non-maskable interrupt, edge triggered.
    func raiseNMI()
    /// The RESET pin: the CPU (and with it the whole machine) starts again.
    func requestReset()
    /// The board's power is switched off. `code` is nil for ACPI S5, or the value written to isa-debug-exit.
    func powerOff(code: UInt64?)
    /// Address line 20: false masks bit 20 of every physical address.
    func setA20(_ enabled: Bool)
    /// The host bridge's registers PAM0...PAM6, PAM0 in the low byte: which parts of 0xC0000...0xFFFFF are RAM.
    func setShadow(_ control: UInt64)
    /// The physical address of the video adapter's linear frame buffer; 0 for none.
    func setVideoBase(_ base: UInt64)
}

/// A device's only way to the host: a named channel through the boundary.
package protocol HostChannel: AnyObject {
    /// Sends bytes out (serial output, a packet). Cannot fail as far as the device can see.
    func send(_ bytes: [UInt8])
    /// Asks for a value the guest will see; what the questions mean is the device's and the backend's business.
    func ask(_ question: UInt32) -> UInt64
}

/// Something that bytes from outside are delivered to (the other direction of `HostChannel`).
package protocol HostReceiver: AnyObject {
    /// Bytes have come in. Called between two instructions.
    func receive(_ bytes: [UInt8])
}
