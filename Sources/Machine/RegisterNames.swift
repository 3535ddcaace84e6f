import DeviceBus
import Devices

/// Names of devices and registers by address, as the devices themselves declare them.
final class RegisterNames: @unchecked Sendable {
    /// Built once, read only.
    static let shared = RegisterNames()

    private let bus = Bus()
    // The board's parts hold each other without owning: keep them.
    private let scheduler = Scheduler()
    private let nothing = Nothing()
    private let board: PCBoard?

    private init() {
        let nothing = self.nothing
        if let map = try? MemoryMap(size: 16 << 20) {
            board = PCBoard(
                bus: bus, scheduler: scheduler, pins: nothing, memory: nothing, memoryMap: map,
                configuration: PCConfiguration(), channel: { _ in nothing })
        } else {
            board = nil
        }
        bus.attach(VGA(scheduler: scheduler))
    }

    func lookUp(_ space: Region.Space, _ address: UInt64) -> (device: String, register: String?)? {
        guard let target = bus.target(space, address) else { return nil }
        return (target.device.name, target.device.regions[target.region].registerName(at: target.offset))
    }

    /// The end of all wires of a board that never runs.
    private final class Nothing: CPUPins, DMAPort, HostChannel {
        func setInterruptLine(_ level: Bool) {}
        func raiseNMI() {}
        func requestReset() {}
        func powerOff(code: UInt64?) {}
        func setA20(_ enabled: Bool) {}
        func setShadow(_ control: UInt64) {}
        func setVideoBase(_ base: UInt64) {}
        func read(_ address: UInt64, into buffer: UnsafeMutableRawBufferPointer) {}
        func write(_ address: UInt64, from buffer: UnsafeRawBufferPointer) {}
        func send(_ bytes: [UInt8]) {}
        func ask(_ question: UInt32) -> UInt64 { 0 }
    }
}
