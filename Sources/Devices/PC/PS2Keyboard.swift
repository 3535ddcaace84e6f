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
    /// Typematic rate and delay, as set by command F3.
    package var typematic: UInt8 = 0x2B
    /// The `KeyCode` of the key that repeats, the last one that went down; 0 when that one is up again.
    package var heldKey: UInt8 = 0
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
        visitor.field("heldKey", &heldKey)
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

    /// A key goes down or up. One that is down already does not go down again: hosts repeat keys, and so does this one.
    package mutating func press(_ message: KeyMessage) {
        guard isScanning else { return }
        let key = message.key
        if message.isRelease {
            if key.rawValue == heldKey { heldKey = 0 }
        } else {
            if key.rawValue == heldKey { return }
            // Pause sends its release with its press.
            heldKey = key == .pause ? 0 : key.rawValue
        }
        send(key, isRelease: message.isRelease)
    }

    /// The key that is held down once more. Not while earlier bytes wait: nobody wants repetitions later.
    package mutating func repeatKey() {
        if isScanning, heldKey != 0, queue.isEmpty { send(KeyCode(rawValue: heldKey), isRelease: false) }
    }

    private mutating func send(_ key: KeyCode, isRelease: Bool) {
        let codes = scanCodeSet == 1 ? key.scanCodeSet1(release: isRelease) : key.scanCodeSet2(release: isRelease)
        if queue.count + codes.count <= Self.queueLimit { queue += codes }
    }

    /// Nanoseconds until a key repeats for the first time, 250 ms to a second.
    package var repeatDelay: UInt64 { UInt64(typematic >> 5 & 3) * 250_000_000 + 250_000_000 }
    /// Nanoseconds between repetitions: (8 + A) * 2^B * 1/240 s, A the low three bits and B the next two.
    package var repeatPeriod: UInt64 { ((8 + UInt64(typematic & 7)) << UInt64(typematic >> 3 & 3)) * 4_166_667 }

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
        heldKey = 0
        scanCodeSet = 2
        typematic = 0x2B
    }

    /// Nobody sends 256 commands without reading an answer; what comes then is lost.
    private mutating func answer(_ byte: UInt8) {
        if answers.count < 256 { answers.append(byte) }
    }
}
