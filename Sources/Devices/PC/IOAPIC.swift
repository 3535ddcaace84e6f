import DeviceBus
import MachineState

/// The I/O APIC of the PIIX chip sets: Intel 82093AA (datasheet 290566), 24 inputs.
package final class IOAPIC: Device, InterruptSink {
    package static let inputCount = 24

    package struct State {
        /// IOREGSEL.
        package var select: UInt8 = 0
        /// IOAPICID, bits 27...24.
        package var identification: UInt32 = 0
        /// The redirection table.
        package var table = [UInt64](repeating: 1 << 16, count: IOAPIC.inputCount)
        /// Levels of the inputs, one bit each.
        package var lines: UInt32 = 0

        package init() {}

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("select", &select)
            visitor.field("identification", &identification)
            visitor.field("table", &table)
            visitor.field("lines", &lines)
            if visitor.mode == .load, table.count != IOAPIC.inputCount {
                visitor.fail("the I/O APIC has \(IOAPIC.inputCount) inputs")
                table = State().table
            }
        }
    }

    /// Bits of a redirection table entry (datasheet 3.2.4).
    private enum Entry {
        static let remoteIRR: UInt64 = 1 << 14
        static let level: UInt64 = 1 << 15
        static let mask: UInt64 = 1 << 16
        /// Delivery status and remote IRR are read only.
        static let writable: UInt64 = 0xFF00_0000_0001_AFFF
    }

    /// What an entry asks for.
    package enum Delivery: Sendable, Equatable {
        /// Fixed or lowest priority: the vector, and whether it is level triggered.
        case vector(UInt8, isLevel: Bool)
        case nmi
        /// The 8259A gives the vector; the level of the request.
        case external(Bool)
    }

    package let name = "ioapic"
    package let regions = [
        Region(
            .memory, base: 0xFEC0_0000, size: 0x1000,
            registers: [RegisterName(0, "IOREGSEL", length: 4), RegisterName(0x10, "IOWIN", length: 4)])
    ]
    package private(set) var state = State()
    /// The bus to the local APIC. Set by the board.
    package var deliver: (Delivery) -> Void = { _ in }

    package init() {}

    package func reset() {
        let lines = state.lines
        state = State()
        state.lines = lines
    }
    package func timerFired(_ timer: Int) {}
    package func visitState(_ visitor: inout StateVisitor) { state.visit(&visitor) }

    package func setInput(_ input: Int, _ level: Bool) {
        guard 0..<Self.inputCount ~= input else { return }
        let bit: UInt32 = 1 << UInt32(input)
        let wasHigh = state.lines & bit != 0
        if level { state.lines |= bit } else { state.lines &= ~bit }
        let entry = state.table[input]
        if isExternal(entry) {
            if entry & Entry.mask == 0, level != wasHigh { deliver(.external(level)) }
        } else if entry & Entry.level != 0 {
            serviceLevel(input)
        } else if level, !wasHigh, entry & Entry.mask == 0 {
            send(entry, isLevel: false)
        }
    }

    private func isExternal(_ entry: UInt64) -> Bool { (entry >> 8) & 7 == 7 }

    private func send(_ entry: UInt64, isLevel: Bool) {
        switch (entry >> 8) & 7 {
        case 0, 1: deliver(.vector(UInt8(truncatingIfNeeded: entry), isLevel: isLevel))
        case 4: deliver(.nmi)
        // SMI and INIT have nobody to go to.
        default: break
        }
    }

    /// A level-triggered input is sent once, until its end of interrupt comes back.
    private func serviceLevel(_ input: Int) {
        let entry = state.table[input]
        guard entry & Entry.level != 0, entry & (Entry.mask | Entry.remoteIRR) == 0,
            state.lines >> UInt32(input) & 1 != 0, !isExternal(entry)
        else { return }
        state.table[input] |= Entry.remoteIRR
        send(entry, isLevel: true)
    }

    /// The local APIC has ended a level-triggered interrupt: inputs that are still high are sent again.
    package func endOfInterrupt(_ vector: UInt8) {
        for input in 0..<Self.inputCount {
            let entry = state.table[input]
            if UInt8(truncatingIfNeeded: entry) == vector, entry & Entry.level != 0, entry & Entry.remoteIRR != 0 {
                state.table[input] &= ~Entry.remoteIRR
                serviceLevel(input)
            }
        }
    }

    package func read(region: Int, offset: UInt64, width: Int) -> UInt64 {
        if offset == 0 { return UInt64(state.select) }
        guard offset == 0x10 else { return 0 }
        switch state.select {
        case 0, 2: return UInt64(state.identification)
        // Version 11h, 24 entries.
        case 1: return UInt64(Self.inputCount - 1) << 16 | 0x11
        case 0x10..<UInt8(0x10 + Self.inputCount * 2):
            let entry = state.table[Int(state.select - 0x10) / 2]
            return state.select & 1 == 0 ? entry & 0xFFFF_FFFF : entry >> 32
        default: return 0
        }
    }

    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {
        if offset == 0 {
            state.select = UInt8(truncatingIfNeeded: value)
            return
        }
        guard offset == 0x10 else { return }
        switch state.select {
        case 0: state.identification = UInt32(truncatingIfNeeded: value) & 0x0F00_0000
        case 0x10..<UInt8(0x10 + Self.inputCount * 2):
            let input = Int(state.select - 0x10) / 2
            let isHigh = state.select & 1 != 0
            let lane: UInt64 = isHigh ? 0xFFFF_FFFF_0000_0000 : 0xFFFF_FFFF
            let written = isHigh ? value << 32 : value & 0xFFFF_FFFF
            let changeable = Entry.writable & lane
            var entry = state.table[input] & ~changeable | written & changeable
            // An edge-triggered entry has no remote IRR.
            if entry & Entry.level == 0 { entry &= ~Entry.remoteIRR }
            state.table[input] = entry
            serviceLevel(input)
        default: break
        }
    }
}
