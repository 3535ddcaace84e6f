import MachineState

/// A PS/2 keyboard (IBM Enhanced, 102 keys) as the other end of the 8042's first port. Part of `I8042`.
package struct PS2Keyboard {
    /// The most scan code bytes that wait; the keyboard forgets keys beyond. Roomier than the 16 bytes of a real one,
    /// so that a script may type a line.
    package static let queueLimit = 4096

    /// Answers to commands: they go before scan codes.
    package var answers: [UInt8] = []
    package var queue: [UInt8] = []
    /// The command whose parameter comes next, or 0.
    package var pendingCommand: UInt8 = 0
    package var isScanning = true
    /// 1 or 2.
    package var scanCodeSet: UInt8 = 2
    /// Bit 0 Scroll Lock, bit 1 Num Lock, bit 2 Caps Lock.
    package var lamps: UInt8 = 0
    /// Typematic rate and delay, as set by command F3. Kept only: the host repeats keys.
    package var typematic: UInt8 = 0x2B
    /// The last byte sent, for command FE.
    package var lastSent: UInt8 = 0

    package init() {}

    package mutating func visit(_ visitor: inout StateVisitor) {
        visitor.field("answers", &answers)
        visitor.field("queue", &queue)
        visitor.field("pendingCommand", &pendingCommand)
        visitor.field("isScanning", &isScanning)
        visitor.field("scanCodeSet", &scanCodeSet)
        visitor.field("lamps", &lamps)
        visitor.field("typematic", &typematic)
        visitor.field("lastSent", &lastSent)
    }

    package var hasByte: Bool { !answers.isEmpty || !queue.isEmpty }

    /// The next byte on the wire.
    package mutating func nextByte() -> UInt8? {
        if !answers.isEmpty {
            lastSent = answers.removeFirst()
        } else if !queue.isEmpty {
            lastSent = queue.removeFirst()
        } else {
            return nil
        }
        return lastSent
    }

    package mutating func press(_ message: KeyMessage) {
        guard isScanning else { return }
        let key = message.key
        let codes =
            scanCodeSet == 1
            ? key.scanCodeSet1(release: message.isRelease) : key.scanCodeSet2(release: message.isRelease)
        if queue.count + codes.count <= Self.queueLimit { queue += codes }
    }

    /// A byte from the host computer.
    package mutating func command(_ byte: UInt8) {
        // Parameters have bit 7 clear: anything else is a new command.
        if pendingCommand != 0, byte & 0x80 == 0 {
            parameter(byte)
            return
        }
        pendingCommand = 0
        switch byte {
        case 0xED, 0xF0, 0xF3:
            pendingCommand = byte
            answer(0xFA)
        case 0xEE: answer(0xEE)
        case 0xF2:
            answer(0xFA)
            answer(0xAB)
            answer(0x83)
        case 0xF4:
            queue = []
            isScanning = true
            answer(0xFA)
        case 0xF5:
            setDefaults()
            isScanning = false
            answer(0xFA)
        case 0xF6:
            setDefaults()
            answer(0xFA)
        // Key types, which only scan code set 3 uses.
        case 0xF7...0xFD: answer(0xFA)
        case 0xFE: answer(lastSent)
        case 0xFF:
            setDefaults()
            lamps = 0
            isScanning = true
            answers = [0xFA, 0xAA]
        default: answer(0xFE)
        }
    }

    private mutating func parameter(_ byte: UInt8) {
        defer { pendingCommand = 0 }
        switch (pendingCommand, byte) {
        case (0xED, _): lamps = byte & 7
        case (0xF3, _): typematic = byte
        case (0xF0, 0):
            answer(0xFA)
            answer(scanCodeSet)
            return
        case (0xF0, 1...2): scanCodeSet = byte
        default:
            answer(0xFE)
            return
        }
        answer(0xFA)
    }

    private mutating func setDefaults() {
        queue = []
        scanCodeSet = 2
        typematic = 0x2B
    }

    /// Nobody sends 256 commands without reading an answer; what comes then is lost.
    private mutating func answer(_ byte: UInt8) {
        if answers.count < 256 { answers.append(byte) }
    }
}
