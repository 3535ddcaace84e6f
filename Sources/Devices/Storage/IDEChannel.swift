import DeviceBus
import MachineState

/// A cable with up to two drives, and its bus master. Part of `PIIX3IDE`.
package final class IDEChannel {
    /// Everything the guest can observe beside the drives.
    package struct State {
        /// The device register: bit 4 selects drive 1, bit 6 is LBA, bits 3...0 head or address.
        package var select: UInt8 = 0xA0
        /// Device control: bit 1 switches interrupts off, bit 2 resets, bit 7 shows the previous task file.
        package var control: UInt8 = 0
        /// INTRQ as the host sees it.
        package var line = false
        package var busMaster = BusMaster()

        package init() {}

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("select", &select)
            visitor.field("control", &control)
            visitor.field("line", &line)
            visitor.group("busMaster") { busMaster.visit(&$0) }
        }
    }

    package internal(set) var state = State()
    /// Drive 0 and drive 1.
    package let drives: [IDEDrive?]
    private let irq: IRQLine
    private let memory: any DMAPort
    /// Sets (nil: cancels) the timer of drive 0 or 1.
    private let timer: (Int, VirtualTime?) -> Void

    init(drives: [IDEDrive?], irq: IRQLine, memory: any DMAPort, timer: @escaping (Int, VirtualTime?) -> Void) {
        self.drives = drives
        self.irq = irq
        self.memory = memory
        self.timer = timer
        for drive in drives { drive?.channel = self }
    }

    func visit(_ visitor: inout StateVisitor) {
        state.visit(&visitor)
        for (index, drive) in drives.enumerated() {
            guard let drive else { continue }
            visitor.group("drive\(index)") { drive.state.visit(&$0) }
        }
    }

    func reset() {
        for drive in drives {
            drive?.endTransfer()
            drive?.powerOn()
        }
        state = State()
        irq.set(false)
    }

    private var selectedIndex: Int { Int(state.select >> 4 & 1) }
    var selected: IDEDrive? { drives[selectedIndex] }
    private var isEmpty: Bool { drives[0] == nil && drives[1] == nil }

    // MARK: For drives

    func schedule(_ drive: IDEDrive, after nanoseconds: VirtualTime) {
        if let index = drives.firstIndex(where: { $0 === drive }) { timer(index, nanoseconds) }
    }
    func cancel(_ drive: IDEDrive) {
        if let index = drives.firstIndex(where: { $0 === drive }) { timer(index, nil) }
    }

    /// The head number that a command leaves.
    func putHead(_ head: UInt8) { state.select = state.select & 0xF0 | head & 15 }

    /// Brings INTRQ to what the selected drive says. The bus master notes that it rose.
    func updateInterrupt() {
        let level = (selected?.state.interrupt ?? false) && state.control & 2 == 0
        if level, !state.line { state.busMaster.status |= 4 }
        if level != state.line {
            state.line = level
            irq.set(level)
        }
    }

    /// The drive for which the bus master is writing to RAM, only while it does.
    private var moving: Int?
    /// How often it has begun to.
    private(set) var stores: UInt64 = 0
    /// What for, in words.
    var request: String? {
        guard let moving, let drive = drives[moving] else { return nil }
        let name: String
        switch drive.state.command {
        case 0xC8, 0xC9: name = "READ DMA"
        case 0x25: name = "READ DMA EXT"
        case 0xA0, 0xA1: name = "PACKET \(drive.state.packet.first.map { "0x" + String($0, radix: 16) } ?? "")"
        case let other: name = "command 0x\(String(other, radix: 16))"
        }
        let block = UInt64(drive.kind == .cdrom ? 2048 : 512)
        let first = drive.state.address &- UInt64(drive.state.buffer.count) / block
        return "\(name), drive \(moving)" + (drive.state.isResponse ? "" : ", sector \(first)")
    }
    var isBusMasterActive: Bool { state.busMaster.isActive }
    func store(_ buffer: [UInt8], from offset: Int, origin: (Int, Int) -> ImageOrigin?) -> Int {
        moving = selectedIndex
        stores &+= 1
        defer { moving = nil }
        return state.busMaster.store(buffer, from: offset, memory: memory, origin: origin)
    }
    func fetch(_ buffer: inout [UInt8], from offset: Int) -> Int {
        state.busMaster.fetch(&buffer, from: offset, memory: memory)
    }

    // MARK: Command block

    func read(_ offset: UInt64, width: Int) -> UInt64 {
        if offset == 0 {
            guard let selected else { return isEmpty ? Self.ones(width) : 0 }
            return selected.readData(min(width, 4))
        }
        return ByteLanes.read(offset, width) { readRegister($0) }
    }

    private func readRegister(_ register: UInt64) -> UInt8 {
        if isEmpty { return 0xFF }
        if register == 6 { return state.select }
        // Drive 0 answers for a drive 1 that is not there: nothing to see.
        guard let selected else { return 0 }
        let value = selected.readRegister(register, isHigh: state.control & 0x80 != 0)
        if register == 7 { selected.acknowledge() }
        return value
    }

    func write(_ offset: UInt64, width: Int, value: UInt64) {
        if offset == 0 {
            selected?.writeData(min(width, 4), value)
            return
        }
        ByteLanes.write(offset, width, value) { writeRegister($0, $1) }
    }

    private func writeRegister(_ register: UInt64, _ value: UInt8) {
        // A write to the task file ends the look at its previous contents.
        state.control &= 0x7F
        switch register {
        case 1...5: for drive in drives { drive?.writeRegister(register, value) }
        case 6:
            state.select = value | 0xA0
            updateInterrupt()
        case 7:
            if value == 0x90 {
                state.select &= ~0x10
                for drive in drives.reversed() { drive?.execute(value) }
            } else {
                selected?.execute(value)
            }
        default: break
        }
    }

    // MARK: Control block

    func readAlternateStatus() -> UInt8 {
        if isEmpty { return 0xFF }
        return selected?.state.status ?? 0
    }

    func writeControl(_ value: UInt8) {
        let changed = state.control ^ value
        state.control = value
        if changed & 4 != 0 {
            if value & 4 != 0 {
                for drive in drives { drive?.startReset() }
            } else {
                state.select = 0xA0
                for drive in drives { drive?.schedule(.awake, after: 2_000_000) }
            }
        }
        updateInterrupt()
    }

    // MARK: Bus master registers

    func readBusMaster(_ offset: UInt64) -> UInt8 {
        switch offset {
        case 0: state.busMaster.command
        case 2: state.busMaster.status
        case 4...7: UInt8(truncatingIfNeeded: state.busMaster.table >> UInt32((offset & 3) * 8))
        default: 0
        }
    }

    func writeBusMaster(_ offset: UInt64, _ value: UInt8) {
        switch offset {
        case 0:
            let wasStarted = state.busMaster.command & 1 != 0
            state.busMaster.command = value & 9
            if value & 1 == 0 {
                state.busMaster.stop()
            } else if !wasStarted {
                state.busMaster.start()
                for drive in drives { drive?.busMasterStarted() }
            }
        case 2:
            // Bits 5 and 6 are stored, bits 1 and 2 are cleared by ones.
            let kept = state.busMaster.status & 0x07 & ~(value & 6)
            state.busMaster.status = value & 0x60 | kept
        case 4...7:
            let shift = UInt32((offset & 3) * 8)
            let table = state.busMaster.table & ~(0xFF << shift) | UInt32(value) << shift
            state.busMaster.table = table & ~3
        default: break
        }
    }

    private static func ones(_ width: Int) -> UInt64 { width >= 8 ? .max : (1 << UInt64(width * 8)) - 1 }
}
