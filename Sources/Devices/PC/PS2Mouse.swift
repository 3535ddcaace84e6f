import MachineState

/// A PS/2 mouse with a wheel (Microsoft IntelliMouse) as the other end of the 8042's second port. Part of `I8042`.
package struct PS2Mouse {
    /// The most packet bytes that wait; motion beyond is gathered into the next packet.
    private static let queueLimit = 256
    /// The most counts that are gathered on one axis.
    private static let motionLimit: Int32 = 0x7FFF

    /// Answers to commands: they go before packets.
    package var answers: [UInt8] = []
    package var queue: [UInt8] = []
    /// The command whose parameter comes next, or 0.
    package var pendingCommand: UInt8 = 0
    package var isReporting = false
    package var isRemote = false
    /// Wrap mode: every byte but FF and EC is sent back.
    package var isWrapping = false
    /// Scaling 2:1.
    package var isScaled = false
    /// Counts per millimetre are 1 << resolution. Kept only.
    package var resolution: UInt8 = 2
    /// Samples per second. Kept only.
    package var sampleRate: UInt8 = 100
    /// The last three sample rates set, newest in the low byte: 200, 100, 80 turns the wheel on.
    package var rateHistory: UInt32 = 0
    package var hasWheel = false
    /// Motion that no packet has told, right and up positive.
    package var dx: Int32 = 0
    package var dy: Int32 = 0
    package var dz: Int32 = 0
    /// Bit 0 left, bit 1 right, bit 2 middle.
    package var buttons: UInt8 = 0
    package var lastSent: UInt8 = 0

    package init() {}

    package mutating func visit(_ visitor: inout StateVisitor) {
        visitor.field("answers", &answers)
        visitor.field("queue", &queue)
        visitor.field("pendingCommand", &pendingCommand)
        visitor.field("isReporting", &isReporting)
        visitor.field("isRemote", &isRemote)
        visitor.field("isWrapping", &isWrapping)
        visitor.field("isScaled", &isScaled)
        visitor.field("resolution", &resolution)
        visitor.field("sampleRate", &sampleRate)
        visitor.field("rateHistory", &rateHistory)
        visitor.field("hasWheel", &hasWheel)
        visitor.field("dx", &dx)
        visitor.field("dy", &dy)
        visitor.field("dz", &dz)
        visitor.field("buttons", &buttons)
        visitor.field("lastSent", &lastSent)
    }

    package var hasByte: Bool { !answers.isEmpty || !queue.isEmpty || hasReport }

    /// Motion waits to be told in stream mode.
    private var hasReport: Bool { isReporting && !isRemote && !isWrapping && (dx | dy | dz) != 0 }

    package mutating func nextByte() -> UInt8? {
        if answers.isEmpty, queue.isEmpty, hasReport { queue += packet(scaled: isScaled) }
        if !answers.isEmpty {
            lastSent = answers.removeFirst()
        } else if !queue.isEmpty {
            lastSent = queue.removeFirst()
        } else {
            return nil
        }
        return lastSent
    }

    package mutating func move(_ message: MouseMessage) {
        dx = Self.gather(dx, Int32(message.dx))
        dy = Self.gather(dy, -Int32(message.dy))
        dz = Self.gather(dz, Int32(message.dz))
        let pressed = message.buttons & 7
        if pressed != buttons {
            // A click may begin and end before the guest reads: each change gets its own packet.
            buttons = pressed
            if isReporting, !isRemote, !isWrapping, queue.count + 4 <= Self.queueLimit {
                queue += packet(scaled: isScaled)
            }
        }
    }

    private static func gather(_ sum: Int32, _ more: Int32) -> Int32 {
        min(max(sum &+ more, -motionLimit), motionLimit)
    }

    /// Takes as much of the motion as a packet can tell.
    private mutating func packet(scaled: Bool) -> [UInt8] {
        func take(_ value: inout Int32, _ limit: ClosedRange<Int32>) -> Int32 {
            let part = min(max(value, limit.lowerBound), limit.upperBound)
            value -= part
            return part
        }
        var x = take(&dx, -255...255)
        var y = take(&dy, -255...255)
        let z = hasWheel ? take(&dz, -8...7) : 0
        if !hasWheel { dz = 0 }
        if scaled {
            x = Self.scale(x)
            y = Self.scale(y)
        }
        let head = 0x08 | buttons | (x < 0 ? 0x10 : 0) | (y < 0 ? 0x20 : 0)
        let bytes = [head, UInt8(truncatingIfNeeded: x), UInt8(truncatingIfNeeded: y)]
        return hasWheel ? bytes + [UInt8(truncatingIfNeeded: z)] : bytes
    }

    /// Scaling 2:1 in stream mode.
    private static func scale(_ value: Int32) -> Int32 {
        let small: [Int32] = [0, 1, 1, 3, 6, 9]
        let size = abs(value)
        let scaled = size < 6 ? small[Int(size)] : min(size * 2, 255)
        return value < 0 ? -scaled : scaled
    }

    // MARK: Commands

    /// A byte from the host computer.
    package mutating func command(_ byte: UInt8) {
        if isWrapping, byte != 0xFF, byte != 0xEC {
            answer(byte)
            return
        }
        if pendingCommand != 0 {
            parameter(byte)
            return
        }
        switch byte {
        case 0xE6, 0xE7:
            isScaled = byte == 0xE7
            answer(0xFA)
        case 0xE8, 0xF3:
            pendingCommand = byte
            answer(0xFA)
        case 0xE9:
            let pressed = (buttons & 1) << 2 | (buttons & 4) >> 1 | (buttons & 2) >> 1
            let modes: UInt8 = (isRemote ? 0x40 : 0) | (isReporting ? 0x20 : 0) | (isScaled ? 0x10 : 0)
            [0xFA, modes | pressed, resolution, sampleRate].forEach { answer($0) }
        case 0xEA, 0xF0:
            isRemote = byte == 0xF0
            forgetMotion()
            answer(0xFA)
        case 0xEB:
            answer(0xFA)
            packet(scaled: false).forEach { answer($0) }
        case 0xEC, 0xEE:
            isWrapping = byte == 0xEE
            forgetMotion()
            answer(0xFA)
        case 0xF2:
            answer(0xFA)
            answer(hasWheel ? 3 : 0)
        case 0xF4, 0xF5:
            isReporting = byte == 0xF4
            forgetMotion()
            answer(0xFA)
        case 0xF6:
            setDefaults()
            answer(0xFA)
        case 0xFE: answer(lastSent)
        case 0xFF:
            setDefaults()
            isWrapping = false
            hasWheel = false
            rateHistory = 0
            answers = [0xFA, 0xAA, 0x00]
        default: answer(0xFE)
        }
    }

    private mutating func parameter(_ byte: UInt8) {
        if pendingCommand == 0xE8 {
            resolution = byte & 3
        } else {
            sampleRate = byte
            rateHistory = (rateHistory << 8 | UInt32(byte)) & 0xFF_FFFF
            if rateHistory == 0xC8_6450 { hasWheel = true }
        }
        pendingCommand = 0
        answer(0xFA)
    }

    private mutating func setDefaults() {
        isReporting = false
        isRemote = false
        isScaled = false
        resolution = 2
        sampleRate = 100
        pendingCommand = 0
        forgetMotion()
    }

    private mutating func forgetMotion() {
        queue = []
        dx = 0
        dy = 0
        dz = 0
    }

    private mutating func answer(_ byte: UInt8) {
        if answers.count < 256 { answers.append(byte) }
    }
}
