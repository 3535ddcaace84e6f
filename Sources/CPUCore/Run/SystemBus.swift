/// What a CPU asks of the world around it. Calls come from within an instruction: the CPU's exact position is known.
package protocol SystemBus: AnyObject {
    /// `IN`: width 1, 2 or 4 bytes.
    func portRead(_ port: UInt16, width: Int) -> UInt64
    /// `OUT`.
    func portWrite(_ port: UInt16, width: Int, value: UInt64)
    /// A read of a physical address that is not RAM: width 1, 2, 4 or 8 bytes.
    func memoryRead(_ address: UInt64, width: Int) -> UInt64
    func memoryWrite(_ address: UInt64, width: Int, value: UInt64)
    /// The CPU takes an interrupt: the controller gives its vector.
    func acknowledgeInterrupt() -> UInt8
}
