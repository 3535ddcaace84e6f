import CPUCore

/// A bus with nothing on it: reads give ones, writes are counted, time stands still.
package final class NullBus: SystemBus {
    /// The vector that the next interrupt acknowledge gives.
    package var vector: UInt8 = 0
    package private(set) var acknowledged = 0
    package private(set) var portWrites: [(port: UInt16, value: UInt64)] = []
    /// Called at each acknowledge, for taking the interrupt line back.
    package var onAcknowledge: (() -> Void)?

    package init() {}

    package func portRead(_ port: UInt16, width: Int) -> UInt64 { .max >> UInt64(64 - width * 8) }
    package func portWrite(_ port: UInt16, width: Int, value: UInt64) { portWrites.append((port, value)) }
    package func memoryRead(_ address: UInt64, width: Int) -> UInt64 { .max >> UInt64(64 - width * 8) }
    package func memoryWrite(_ address: UInt64, width: Int, value: UInt64) {}
    package func acknowledgeInterrupt() -> UInt8 {
        acknowledged += 1
        onAcknowledge?()
        return vector
    }
}
