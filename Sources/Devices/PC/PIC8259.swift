import DeviceBus
import MachineState

/// Two Intel 8259A interrupt controllers (datasheet 231468) as a PC has them: the second one's output is the first one's
/// input 2. With the ELCR ports of the PIIX3 (datasheet 290550), which make inputs level triggered.
package final class PIC8259: Device, InterruptSink {
    /// One 8259A.
    package struct Chip {
        /// Requests, mask, in service; and the inputs' levels.
        package var requests: UInt8 = 0
        package var mask: UInt8 = 0
        package var inService: UInt8 = 0
        package var lines: UInt8 = 0
        /// Inputs that are level triggered.
        package var levelTriggered: UInt8 = 0
        /// ICW2: bits 7...3 of the vectors.
        package var vectorBase: UInt8 = 0
        /// The initialisation command word that the next write to the odd port is; 0 after initialisation.
        package var expectedICW: UInt8 = 0
        package var needsICW4 = false
        package var isAutoEOI = false
        package var rotatesOnAutoEOI = false
        package var isSpeciallyFullyNested = false
        package var hasSpecialMask = false
        /// OCW3: what a read of the even port gives.
        package var readsInService = false
        package var isPolled = false
        /// The input with the lowest priority.
        package var lowest: UInt8 = 7

        package init() {}

        mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("requests", &requests)
            visitor.field("mask", &mask)
            visitor.field("inService", &inService)
            visitor.field("lines", &lines)
            visitor.field("levelTriggered", &levelTriggered)
            visitor.field("vectorBase", &vectorBase)
            visitor.field("expectedICW", &expectedICW)
            visitor.field("needsICW4", &needsICW4)
            visitor.field("isAutoEOI", &isAutoEOI)
            visitor.field("rotatesOnAutoEOI", &rotatesOnAutoEOI)
            visitor.field("isSpeciallyFullyNested", &isSpeciallyFullyNested)
            visitor.field("hasSpecialMask", &hasSpecialMask)
            visitor.field("readsInService", &readsInService)
            visitor.field("isPolled", &isPolled)
            visitor.field("lowest", &lowest)
            lowest &= 7
        }

        /// Inputs from the highest priority down.
        private func input(_ rank: Int) -> UInt8 { UInt8((Int(lowest) + 1 + rank) & 7) }

        /// The request to be offered to the CPU: not masked, and above all that is in service.
        func pending(isMaster: Bool) -> UInt8? {
            let active = requests & ~mask
            if active == 0 { return nil }
            for rank in 0..<8 {
                let input = input(rank)
                let bit: UInt8 = 1 << input
                if active & bit != 0, !hasSpecialMask || inService & bit == 0 {
                    // In the special fully nested mode the second chip may interrupt itself.
                    let isNested = isSpeciallyFullyNested && isMaster && input == 2
                    if inService & bit == 0 || isNested { return input }
                }
                if inService & bit != 0, !hasSpecialMask { return nil }
            }
            return nil
        }

        /// The highest priority in service.
        private var serviced: UInt8? {
            for rank in 0..<8 where inService >> input(rank) & 1 != 0 { return input(rank) }
            return nil
        }

        mutating func setInput(_ number: UInt8, _ level: Bool) {
            let bit: UInt8 = 1 << number
            if levelTriggered & bit != 0 {
                if level { requests |= bit } else { requests &= ~bit }
            } else if level {
                if lines & bit == 0 { requests |= bit }
            } else {
                // A request that goes away before it is acknowledged leaves a spurious interrupt behind.
                requests &= ~bit
            }
            if level { lines |= bit } else { lines &= ~bit }
        }

        /// The second chip's output at input 2: it pulses with every request, so that a level does for it.
        mutating func setCascade(_ level: Bool) {
            if level { requests |= 4 } else { requests &= ~4 }
        }

        mutating func acknowledge(_ number: UInt8) {
            let bit: UInt8 = 1 << number
            if levelTriggered & bit == 0 { requests &= ~bit }
            if isAutoEOI {
                if rotatesOnAutoEOI { lowest = number }
            } else {
                inService |= bit
            }
        }

        mutating func write(command value: UInt8) {
            if value & 0x10 != 0 {
                // ICW1 starts the initialisation; edge detection starts anew.
                let (lines, levelTriggered) = (self.lines, self.levelTriggered)
                self = Chip()
                self.lines = lines
                self.levelTriggered = levelTriggered
                requests = lines & levelTriggered
                needsICW4 = value & 1 != 0
                expectedICW = 2
            } else if value & 8 != 0 {
                // OCW3
                if value & 0x40 != 0 { hasSpecialMask = value & 0x20 != 0 }
                if value & 4 != 0 { isPolled = true }
                if value & 2 != 0 { readsInService = value & 1 != 0 }
            } else {
                endOfInterrupt(value)
            }
        }

        /// OCW2.
        private mutating func endOfInterrupt(_ value: UInt8) {
            let level = value & 7
            switch value >> 5 {
            case 0: rotatesOnAutoEOI = false
            case 1: if let serviced { inService &= ~(1 << serviced) }
            case 3: inService &= ~(1 << level)
            case 4: rotatesOnAutoEOI = true
            case 5:
                if let serviced {
                    inService &= ~(1 << serviced)
                    lowest = serviced
                }
            case 6: lowest = level
            case 7:
                inService &= ~(1 << level)
                lowest = level
            default: break
            }
        }

        mutating func write(data value: UInt8) {
            switch expectedICW {
            case 2:
                vectorBase = value & 0xF8
                // A PC's controllers are always cascaded: ICW3 follows.
                expectedICW = 3
            case 3: expectedICW = needsICW4 ? 4 : 0
            case 4:
                isAutoEOI = value & 2 != 0
                isSpeciallyFullyNested = value & 0x10 != 0
                expectedICW = 0
            default: mask = value
            }
        }
    }

    package struct State {
        package var master = Chip()
        package var slave = Chip()

        package init() {}

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.group("master") { master.visit(&$0) }
            visitor.group("slave") { slave.visit(&$0) }
        }
    }

    package let name = "pic"
    package let regions = [
        Region(.port, base: 0x20, size: 2, registers: [RegisterName(0, "PIC1-CMD"), RegisterName(1, "PIC1-DATA")]),
        Region(.port, base: 0xA0, size: 2, registers: [RegisterName(0, "PIC2-CMD"), RegisterName(1, "PIC2-DATA")]),
        Region(.port, base: 0x4D0, size: 2, registers: [RegisterName(0, "ELCR1"), RegisterName(1, "ELCR2")]),
    ]
    package private(set) var state = State()
    /// The INT pin. Set by the board.
    package var interruptOutput: (Bool) -> Void = { _ in }

    package init() {}

    package func reset() {
        state = State()
        update()
    }
    package func timerFired(_ timer: Int) {}
    package func visitState(_ visitor: inout StateVisitor) { state.visit(&visitor) }

    package func setInput(_ input: Int, _ level: Bool) {
        // Input 2 is taken by the second chip.
        guard 0..<16 ~= input, input != 2 else { return }
        if input < 8 { state.master.setInput(UInt8(input), level) } else { state.slave.setInput(UInt8(input - 8), level) }
        update()
    }

    private func update() {
        state.master.setCascade(state.slave.pending(isMaster: false) != nil)
        interruptOutput(state.master.pending(isMaster: true) != nil)
    }

    /// The CPU's interrupt acknowledge cycles: the vector. Without a request it is that of input 7 (datasheet,
    /// "spurious").
    package func acknowledge() -> UInt8 {
        guard let input = state.master.pending(isMaster: true) else { return state.master.vectorBase | 7 }
        state.master.acknowledge(input)
        var vector = state.master.vectorBase | input
        if input == 2 {
            if let second = state.slave.pending(isMaster: false) {
                state.slave.acknowledge(second)
                vector = state.slave.vectorBase | second
            } else {
                vector = state.slave.vectorBase | 7
            }
        }
        update()
        return vector
    }

    package func read(region: Int, offset: UInt64, width: Int) -> UInt64 {
        ByteLanes.read(offset, width) { readByte(region, $0) }
    }

    private func readByte(_ region: Int, _ offset: UInt64) -> UInt8 {
        if region == 2 { return offset == 0 ? state.master.levelTriggered : state.slave.levelTriggered }
        let chip = region == 0 ? state.master : state.slave
        if chip.isPolled { return poll(region) }
        if offset == 1 { return chip.mask }
        return chip.readsInService ? chip.inService : chip.requests
    }

    /// The poll command: the read acknowledges.
    private func poll(_ region: Int) -> UInt8 {
        let isMaster = region == 0
        var chip = isMaster ? state.master : state.slave
        chip.isPolled = false
        var result: UInt8 = 0
        if let input = chip.pending(isMaster: isMaster) {
            chip.acknowledge(input)
            result = 0x80 | input
        }
        if isMaster { state.master = chip } else { state.slave = chip }
        update()
        return result
    }

    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {
        ByteLanes.write(offset, width, value) { writeByte(region, $0, $1) }
    }

    private func writeByte(_ region: Int, _ offset: UInt64, _ value: UInt8) {
        switch (region, offset) {
        case (0, 0): state.master.write(command: value)
        case (0, _): state.master.write(data: value)
        case (1, 0): state.slave.write(command: value)
        case (1, _): state.slave.write(data: value)
        // Timer, keyboard, cascade, clock and coprocessor are always edge triggered.
        case (_, 0): state.master.levelTriggered = value & 0xF8
        default: state.slave.levelTriggered = value & 0xDE
        }
        update()
    }
}
