import DeviceBus
import MachineState

/// The local APIC of the one CPU, in xAPIC mode (Intel SDM volume 3, chapter 10): priorities, timer, self IPIs, and the
/// 8259A behind LINT0. Its timer counts nanoseconds of the devices' clock (a bus clock of 1 GHz), divided as programmed.
package final class LocalAPIC: Device {
    /// A 256-bit register: in service, trigger mode, requests.
    package struct Vectors {
        package var words = [UInt32](repeating: 0, count: 8)
        package init() {}

        /// The highest vector set; nil for none.
        var highest: UInt8? {
            for index in stride(from: 7, through: 0, by: -1) where words[index] != 0 {
                return UInt8(index * 32 + 31 - words[index].leadingZeroBitCount)
            }
            return nil
        }
        func contains(_ vector: UInt8) -> Bool { words[Int(vector >> 5)] >> UInt32(vector & 31) & 1 != 0 }
        mutating func insert(_ vector: UInt8) { words[Int(vector >> 5)] |= 1 << UInt32(vector & 31) }
        mutating func remove(_ vector: UInt8) { words[Int(vector >> 5)] &= ~(1 << UInt32(vector & 31)) }

        mutating func visit(_ name: String, _ visitor: inout StateVisitor) {
            visitor.field(name, &words)
            if visitor.mode == .load, words.count != 8 {
                visitor.fail("\(name) has 8 words")
                words = Vectors().words
            }
        }
    }

    package struct State {
        /// Bits 31...24.
        package var identification: UInt32 = 0
        package var taskPriority: UInt32 = 0
        package var logicalDestination: UInt32 = 0
        package var destinationFormat: UInt32 = .max
        package var spurious: UInt32 = 0xFF
        package var errorStatus: UInt32 = 0
        package var pendingErrors: UInt32 = 0
        package var commandLow: UInt32 = 0
        package var commandHigh: UInt32 = 0
        /// Timer, thermal, performance, LINT0, LINT1, error.
        package var localVectors = [UInt32](repeating: 1 << 16, count: 6)
        package var initialCount: UInt32 = 0
        package var divideConfiguration: UInt32 = 0
        /// When the present period of the timer began, ns.
        package var timerStart: UInt64 = 0
        package var inService = Vectors()
        package var triggerMode = Vectors()
        package var requests = Vectors()
        /// The 8259A's INT is high.
        package var external = false

        package init() {}

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("identification", &identification)
            visitor.field("taskPriority", &taskPriority)
            visitor.field("logicalDestination", &logicalDestination)
            visitor.field("destinationFormat", &destinationFormat)
            visitor.field("spurious", &spurious)
            visitor.field("errorStatus", &errorStatus)
            visitor.field("pendingErrors", &pendingErrors)
            visitor.field("commandLow", &commandLow)
            visitor.field("commandHigh", &commandHigh)
            visitor.field("localVectors", &localVectors)
            if visitor.mode == .load, localVectors.count != 6 {
                visitor.fail("there are 6 local vectors")
                localVectors = State().localVectors
            }
            visitor.field("initialCount", &initialCount)
            visitor.field("divideConfiguration", &divideConfiguration)
            visitor.field("timerStart", &timerStart)
            inService.visit("inService", &visitor)
            triggerMode.visit("triggerMode", &visitor)
            requests.visit("requests", &visitor)
            visitor.field("external", &external)
        }
    }

    /// Register numbers: offset / 16 (table 10-1).
    private enum Register {
        static let identification = 0x02
        static let version = 0x03
        static let taskPriority = 0x08
        static let processorPriority = 0x0A
        static let endOfInterrupt = 0x0B
        static let logicalDestination = 0x0D
        static let destinationFormat = 0x0E
        static let spurious = 0x0F
        static let inService = 0x10
        static let triggerMode = 0x18
        static let requests = 0x20
        static let errorStatus = 0x28
        static let commandLow = 0x30
        static let commandHigh = 0x31
        static let localVectors = 0x32
        static let initialCount = 0x38
        static let currentCount = 0x39
        static let divideConfiguration = 0x3E
    }
    private enum LocalVector { static let timer = 0, lint0 = 3, lint1 = 4, error = 5 }
    private static let masked: UInt32 = 1 << 16

    package let name = "lapic"
    /// Of a local vector table entry.
    private static let lvt = "VECTOR:8 MODE:3=fixed/1/SMI/3/NMI/INIT/6/ExtINT - PENDING LOW RIRR LEVEL MASKED"
    package let regions = [
        Region(
            .memory, base: 0xFEE0_0000, size: 0x1000,
            registers: [
                RegisterName(0x20, "ID", length: 16, fields: "-:24 ID:8"),
                RegisterName(0x30, "VERSION", length: 16, fields: "VERSION:8 -:8 MAXLVT:8"),
                RegisterName(0x80, "TPR", length: 16, fields: "SUB:4 CLASS:4"),
                RegisterName(0xA0, "PPR", length: 16, fields: "SUB:4 CLASS:4"),
                RegisterName(0xB0, "EOI", length: 16), RegisterName(0xD0, "LDR", length: 16),
                RegisterName(0xE0, "DFR", length: 16),
                RegisterName(0xF0, "SVR", length: 16, fields: "VECTOR:8 ENABLE FOCUS"),
                RegisterName(0x100, "ISR", length: 128), RegisterName(0x180, "TMR", length: 128),
                RegisterName(0x200, "IRR", length: 128), 
                RegisterName(0x280, "ESR", length: 16, fields: "SCE RCE SAE RAE - SIV RIV IRA"),
                RegisterName(
                    0x300, "ICR-LOW", length: 16,
                    fields: "VECTOR:8 MODE:3=fixed/lowest/SMI/3/NMI/INIT/SIPI/7 LOGICAL BUSY - ASSERT LEVEL -:2 DEST:2=/self/all/others"),
                RegisterName(0x310, "ICR-HIGH", length: 16, fields: "-:24 DEST:8"),
                RegisterName(0x320, "LVT-TIMER", length: 16, fields: "VECTOR:8 -:4 PENDING -:3 MASKED MODE:2=oneshot/periodic/deadline"),
                RegisterName(0x330, "LVT-THERMAL", length: 16),
                RegisterName(0x340, "LVT-PERF", length: 16, fields: LocalAPIC.lvt),
                RegisterName(0x350, "LVT-LINT0", length: 16, fields: LocalAPIC.lvt),
                RegisterName(0x360, "LVT-LINT1", length: 16, fields: LocalAPIC.lvt),
                RegisterName(0x370, "LVT-ERROR", length: 16, fields: "VECTOR:8 -:4 PENDING -:3 MASKED"),
                RegisterName(0x380, "TIMER-INIT", length: 16, contents: .time),
                RegisterName(0x390, "TIMER-CUR", length: 16, contents: .time),
                RegisterName(0x3E0, "TIMER-DIV", length: 16),
            ])
    ]
    package private(set) var state = State()
    private let scheduler: Scheduler
    private let pins: any CPUPins
    private var pic: PIC8259?
    private var ioAPIC: IOAPIC?

    package init(scheduler: Scheduler, pins: any CPUPins) {
        self.scheduler = scheduler
        self.pins = pins
    }

    /// Wires both controllers to this one.
    package func attach(pic: PIC8259, ioAPIC: IOAPIC) {
        self.pic = pic
        self.ioAPIC = ioAPIC
        pic.interruptOutput = { [unowned self] in setExternal($0) }
        ioAPIC.deliver = { [unowned self] delivery in
            switch delivery {
            case .vector(let vector, let isLevel): accept(vector, isLevel: isLevel)
            case .nmi: pins.raiseNMI()
            // The 8259A is wired to LINT0 as well: its request is known.
            case .external: break
            }
        }
    }

    package func reset() {
        let external = state.external
        state = State()
        state.external = external
        scheduler.cancel(self, timer: 0)
        update()
    }

    package func visitState(_ visitor: inout StateVisitor) { state.visit(&visitor) }

    // MARK: Interrupts

    private var isEnabled: Bool { state.spurious & 0x100 != 0 }

    /// PPR (10.8.3.1).
    private var processorPriority: UInt8 {
        let task = UInt8(truncatingIfNeeded: state.taskPriority)
        let service = state.inService.highest ?? 0
        return task >> 4 >= service >> 4 ? task : service & 0xF0
    }

    /// The vector to be offered to the CPU.
    private var deliverable: UInt8? {
        guard isEnabled, let vector = state.requests.highest, vector >> 4 > processorPriority >> 4 else { return nil }
        return vector
    }

    /// The 8259A's request reaches the CPU: LINT0 is set to ExtINT, or the APIC is switched off.
    private var passesExternal: Bool {
        let lint0 = state.localVectors[LocalVector.lint0]
        return state.external && (!isEnabled || (lint0 & Self.masked == 0 && (lint0 >> 8) & 7 == 7))
    }

    private func update() { pins.setInterruptLine(deliverable != nil || passesExternal) }

    private func setExternal(_ level: Bool) {
        let rises = level && !state.external
        state.external = level
        let lint0 = state.localVectors[LocalVector.lint0]
        // LINT0 as an ordinary interrupt, edge triggered.
        if rises, isEnabled, lint0 & Self.masked == 0, (lint0 >> 8) & 7 == 0 {
            accept(UInt8(truncatingIfNeeded: lint0), isLevel: false)
        }
        update()
    }

    /// Takes an interrupt message in.
    package func accept(_ vector: UInt8, isLevel: Bool) {
        guard vector >= 16 else { return noteError(1 << 6) }
        state.requests.insert(vector)
        if isLevel { state.triggerMode.insert(vector) } else { state.triggerMode.remove(vector) }
        update()
    }

    /// ESR bit: 6 received, 5 sent illegal vector. Raises the error interrupt.
    private func noteError(_ bit: UInt32) {
        state.pendingErrors |= bit
        let error = state.localVectors[LocalVector.error]
        if error & Self.masked == 0, error & 0xFF >= 16 { accept(UInt8(truncatingIfNeeded: error), isLevel: false) }
    }

    /// The CPU's interrupt acknowledge: the vector.
    package func acknowledge() -> UInt8 {
        if let vector = deliverable {
            state.requests.remove(vector)
            state.inService.insert(vector)
            update()
            return vector
        }
        if passesExternal, let pic { return pic.acknowledge() }
        return UInt8(truncatingIfNeeded: state.spurious)
    }

    private func endOfInterrupt() {
        guard let vector = state.inService.highest else { return }
        state.inService.remove(vector)
        if state.triggerMode.contains(vector) { ioAPIC?.endOfInterrupt(vector) }
    }

    /// Writing ICR sends (10.6.1). There is one CPU: only what is addressed to it arrives.
    private func sendCommand() {
        let low = state.commandLow
        let reachesSelf: Bool
        switch (low >> 18) & 3 {
        case 1, 2: reachesSelf = true
        case 3: reachesSelf = false
        default: reachesSelf = isAddressed(state.commandHigh >> 24, isLogical: low & 0x800 != 0)
        }
        guard reachesSelf else { return }
        switch (low >> 8) & 7 {
        case 0, 1:
            let vector = UInt8(truncatingIfNeeded: low)
            if vector < 16 { noteError(1 << 5) } else { accept(vector, isLevel: false) }
        case 4: pins.raiseNMI()
        default: break
        }
    }

    /// A message's destination is this APIC (10.6.2).
    private func isAddressed(_ destination: UInt32, isLogical: Bool) -> Bool {
        if !isLogical { return destination == state.identification >> 24 || destination == 0xFF }
        let logical = state.logicalDestination >> 24
        if state.destinationFormat >> 28 == 0xF { return destination & logical != 0 }
        return destination >> 4 == logical >> 4 && destination & logical & 0xF != 0
    }

    // MARK: Timer

    private var divisor: UInt64 {
        let code = (state.divideConfiguration & 3) | (state.divideConfiguration >> 1 & 4)
        return code == 7 ? 1 : 2 << UInt64(code)
    }
    private var isPeriodic: Bool { state.localVectors[LocalVector.timer] >> 17 & 3 == 1 }
    private var period: UInt64 { UInt64(state.initialCount) * divisor }

    private var currentCount: UInt32 {
        if state.initialCount == 0 { return 0 }
        let elapsed = scheduler.now >= state.timerStart ? scheduler.now - state.timerStart : 0
        let ticks = elapsed / divisor
        if isPeriodic { return state.initialCount - UInt32(ticks % UInt64(state.initialCount)) }
        return ticks >= UInt64(state.initialCount) ? 0 : state.initialCount - UInt32(ticks)
    }

    private func startTimer() {
        state.timerStart = scheduler.now
        if state.initialCount == 0 {
            scheduler.cancel(self, timer: 0)
        } else {
            scheduler.schedule(self, timer: 0, at: scheduler.now &+ period)
        }
    }

    package func timerFired(_ timer: Int) {
        if isPeriodic {
            // A period shorter than the time between two looks would never end: whole periods are skipped.
            let missed = (scheduler.now - min(state.timerStart, scheduler.now)) / max(period, 1)
            state.timerStart &+= missed &* period
            scheduler.schedule(self, timer: 0, at: state.timerStart &+ max(period, 1000))
        }
        let entry = state.localVectors[LocalVector.timer]
        if entry & Self.masked == 0 { accept(UInt8(truncatingIfNeeded: entry), isLevel: false) }
    }

    // MARK: Registers

    package func read(region: Int, offset: UInt64, width: Int) -> UInt64 {
        // Registers are 32 bits wide, every 16 bytes; the bytes between read as 0.
        let lane = offset & 15
        if lane >= 4 { return 0 }
        return UInt64(register(Int(offset >> 4))) >> (lane * 8)
    }

    private func register(_ number: Int) -> UInt32 {
        switch number {
        case Register.identification: state.identification
        case Register.version: 0x0005_0014
        case Register.taskPriority: state.taskPriority
        case Register.processorPriority: UInt32(processorPriority)
        case Register.logicalDestination: state.logicalDestination
        case Register.destinationFormat: state.destinationFormat
        case Register.spurious: state.spurious
        case Register.inService..<Register.inService + 8: state.inService.words[number - Register.inService]
        case Register.triggerMode..<Register.triggerMode + 8: state.triggerMode.words[number - Register.triggerMode]
        case Register.requests..<Register.requests + 8: state.requests.words[number - Register.requests]
        case Register.errorStatus: state.errorStatus
        case Register.commandLow: state.commandLow
        case Register.commandHigh: state.commandHigh
        case Register.localVectors..<Register.localVectors + 6: state.localVectors[number - Register.localVectors]
        case Register.initialCount: state.initialCount
        case Register.currentCount: currentCount
        case Register.divideConfiguration: state.divideConfiguration
        default: 0
        }
    }

    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {
        // Only aligned 32-bit writes are defined.
        guard offset & 15 == 0 else { return }
        let value = UInt32(truncatingIfNeeded: value)
        switch Int(offset >> 4) {
        case Register.identification: state.identification = value & 0xFF00_0000
        case Register.taskPriority: state.taskPriority = value & 0xFF
        case Register.endOfInterrupt: endOfInterrupt()
        case Register.logicalDestination: state.logicalDestination = value & 0xFF00_0000
        case Register.destinationFormat: state.destinationFormat = value | 0x0FFF_FFFF
        case Register.spurious:
            state.spurious = value & 0x3FF
            // A disabled APIC has all local vectors masked.
            if !isEnabled { for index in 0..<6 { state.localVectors[index] |= Self.masked } }
        case Register.errorStatus:
            state.errorStatus = state.pendingErrors
            state.pendingErrors = 0
        case Register.commandLow:
            state.commandLow = value & 0x000C_CFFF
            sendCommand()
        case Register.commandHigh: state.commandHigh = value & 0xFF00_0000
        case let number where Register.localVectors..<Register.localVectors + 6 ~= number:
            let index = number - Register.localVectors
            let writable: UInt32 = index == LocalVector.timer ? 0x0007_00FF : index == LocalVector.error ? 0x0001_00FF : 0x0001_A7FF
            state.localVectors[index] = value & writable | (isEnabled ? 0 : Self.masked)
        case Register.initialCount:
            state.initialCount = value
            startTimer()
        case Register.divideConfiguration: state.divideConfiguration = value & 0xB
        default: break
        }
        update()
    }
}

/// Message signalled interrupts (10.11): the address says which APIC, the data how and which vector.
extension LocalAPIC: MessageSink {
    package func deliver(address: UInt64, data: UInt32) {
        guard address >> 20 == 0xFEE else { return }
        let destination = UInt32(truncatingIfNeeded: address >> 12) & 0xFF
        guard isAddressed(destination, isLogical: address & 4 != 0) else { return }
        switch (data >> 8) & 7 {
        case 0, 1: accept(UInt8(truncatingIfNeeded: data), isLevel: false)
        case 4: pins.raiseNMI()
        default: break
        }
    }
}
