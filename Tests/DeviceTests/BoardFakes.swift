import DeviceBus
import MachineState

/// Everything around a chip under test: interrupt inputs, CPU pins, a host channel and some RAM.
final class FakeBoard: InterruptSink, CPUPins, HostChannel, DMAPort, MessageSink {
    let bus = Bus()
    let scheduler = Scheduler()
    /// Levels of 32 interrupt inputs.
    var levels = [Bool](repeating: false, count: 32)
    /// Rising edges seen at each input.
    var edges = [Int](repeating: 0, count: 32)
    var sent: [UInt8] = []
    var a20 = true
    var resets = 0
    var powerOffCodes: [UInt64?] = []
    var ram = [UInt8](repeating: 0, count: 1 << 16)
    /// The bus masters whose ports lead here, and for each write what the master called itself.
    let masters = BusMasters()
    private(set) var writers: [(range: Range<UInt64>, name: String)] = []
    /// What the last writer of a byte called itself.
    func writer(of address: UInt64) -> String? { writers.last { $0.range.contains(address) }?.name }
    /// A device's port to the RAM.
    func masterPort(_ name: String) -> BusMasterPort { BusMasterPort(name, self, masters) }

    /// Interrupt messages: address and data.
    var messages: [(UInt64, UInt32)] = []
    func deliver(address: UInt64, data: UInt32) { messages.append((address, data)) }

    func setInput(_ input: Int, _ level: Bool) {
        if level, !levels[input] { edges[input] += 1 }
        levels[input] = level
    }
    func setInterruptLine(_ level: Bool) {}
    func raiseNMI() {}
    func requestReset() { resets += 1 }
    func powerOff(code: UInt64?) { powerOffCodes.append(code) }
    func setA20(_ enabled: Bool) { a20 = enabled }
    var shadow: UInt64 = 0
    func setShadow(_ control: UInt64) { shadow = control }
    var videoBase: UInt64 = 0
    func setVideoBase(_ base: UInt64) { videoBase = base }
    func send(_ bytes: [UInt8]) { sent += bytes }
    func ask(_ question: UInt32) -> UInt64 { 0 }
    func read(_ address: UInt64, into buffer: UnsafeMutableRawBufferPointer) {
        for index in buffer.indices {
            let place = address &+ UInt64(index)
            buffer[index] = place < UInt64(ram.count) ? ram[Int(place)] : 0xFF
        }
    }
    func write(_ address: UInt64, from buffer: UnsafeRawBufferPointer) {
        // What lies beyond the RAM is lost; nothing wraps around to its start.
        guard address < UInt64(ram.count) else { return }
        if let name = masters.lastWriter { writers.append((address..<address + UInt64(buffer.count), name)) }
        let count = min(buffer.count, ram.count - Int(address))
        ram.replaceSubrange(Int(address)..<Int(address) + count, with: buffer[0..<count])
    }

    /// A 32-bit word of the RAM.
    func word(_ address: UInt64) -> UInt32 { (0..<4).reduce(0) { $0 | UInt32(ram[Int(address) + $1]) << UInt32($1 * 8) } }
    /// Puts 32-bit words into the RAM, one behind the other.
    func set(_ address: UInt64, _ values: [UInt32]) {
        for (index, value) in values.enumerated() {
            for lane in 0..<4 { ram[Int(address) + index * 4 + lane] = UInt8(truncatingIfNeeded: value >> UInt32(lane * 8)) }
        }
    }

    func line(_ input: Int) -> IRQLine { IRQLine(self, input) }

    /// Puts a chip on the bus and makes the scheduler know it.
    func add<D: Device>(_ device: D) -> D {
        scheduler.register(device)
        bus.attach(device)
        return device
    }

    func `in`(_ port: UInt64, _ width: Int = 1) -> UInt64 { bus.read(.port, port, width: width) }
    func out(_ port: UInt64, _ value: UInt64, _ width: Int = 1) { bus.write(.port, port, width: width, value: value) }

    /// Lets `nanoseconds` pass, with all deadlines on the way.
    func advance(_ nanoseconds: UInt64) {
        let end = scheduler.now + nanoseconds
        while scheduler.nextDeadline <= end {
            scheduler.now = max(scheduler.now, scheduler.nextDeadline)
            scheduler.fireDue()
        }
        scheduler.now = end
    }
}

/// A small random generator (SplitMix64): tests must be the same on each run.
struct TestRandom {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var x = state
        x = (x ^ (x >> 30)) &* 0xBF58_476D_1CE4_E5B9
        x = (x ^ (x >> 27)) &* 0x94D0_49BB_1331_11EB
        return x ^ (x >> 31)
    }
    mutating func below(_ limit: Int) -> Int { Int(next() % UInt64(max(limit, 1))) }
    mutating func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) } }
}
