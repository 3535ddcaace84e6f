/// What a CPU asks of the world around it. Calls come from within an instruction: the CPU's exact position is known.
package protocol SystemBus: AnyObject {
    /// `IN`: width 1, 2 or 4 bytes.
    func portRead(_ port: UInt16, width: Int) -> UInt64
    /// `INS` with a repeat prefix: as many elements as fit into `buffer`, one after the other from the same port.
    func portReadBlock(_ port: UInt16, width: Int, into buffer: UnsafeMutableRawBufferPointer)
    /// `OUT`.
    func portWrite(_ port: UInt16, width: Int, value: UInt64)
    /// A read of a physical address that is not RAM: width 1, 2, 4 or 8 bytes.
    func memoryRead(_ address: UInt64, width: Int) -> UInt64
    func memoryWrite(_ address: UInt64, width: Int, value: UInt64)
    /// The CPU takes an interrupt: the controller gives its vector.
    func acknowledgeInterrupt() -> UInt8
}

extension SystemBus {
    package func portReadBlock(_ port: UInt16, width: Int, into buffer: UnsafeMutableRawBufferPointer) {
        for offset in stride(from: 0, through: buffer.count - width, by: width) {
            let value = portRead(port, width: width)
            for lane in 0..<width { buffer[offset + lane] = UInt8(truncatingIfNeeded: value >> UInt64(lane * 8)) }
        }
    }
}
