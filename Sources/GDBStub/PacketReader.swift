/// Takes the bytes that a debugger sends apart (gdb manual, "Remote Protocol", "Overview"). Accepts anything.
package struct PacketReader {
    package enum Item: Sendable, Equatable {
        /// A packet's contents, unescaped.
        case packet([UInt8])
        /// A packet whose checksum is wrong.
        case damaged
        case acknowledged
        case refused
        /// Ctrl-C.
        case interrupt
    }

    /// Longer packets are dropped.
    package static let maxPacket = 1 << 16

    private enum Phase { case idle, body, sumHigh, sumLow }
    private var phase = Phase.idle
    private var body: [UInt8] = []
    private var sum: UInt8 = 0
    private var claimed: UInt8 = 0
    private var isDamaged = false
    private var isEscaped = false

    package init() {}

    package mutating func feed(_ byte: UInt8) -> Item? {
        switch phase {
        case .idle:
            switch byte {
            case UInt8(ascii: "$"):
                phase = .body
                body = []
                sum = 0
                isDamaged = false
                isEscaped = false
            case UInt8(ascii: "+"): return .acknowledged
            case UInt8(ascii: "-"): return .refused
            case 3: return .interrupt
            default: break
            }
            return nil
        case .body:
            if byte == UInt8(ascii: "#") {
                phase = .sumHigh
                return nil
            }
            if byte == UInt8(ascii: "$") {
                // The sender has started again.
                body = []
                sum = 0
                isDamaged = false
                isEscaped = false
                return nil
            }
            sum = sum &+ byte
            if isEscaped {
                body.append(byte ^ 0x20)
                isEscaped = false
            } else if byte == UInt8(ascii: "}") {
                isEscaped = true
            } else {
                body.append(byte)
            }
            if body.count > Self.maxPacket {
                body = []
                isDamaged = true
            }
            return nil
        case .sumHigh:
            guard let digit = Hex.digit(byte) else {
                isDamaged = true
                phase = .sumLow
                return nil
            }
            claimed = digit << 4
            phase = .sumLow
            return nil
        case .sumLow:
            phase = .idle
            guard let digit = Hex.digit(byte), !isDamaged, !isEscaped, claimed | digit == sum else { return .damaged }
            defer { body = [] }
            return .packet(body)
        }
    }

    /// A packet with its frame: special bytes escaped, checksum added.
    package static func frame(_ body: [UInt8]) -> [UInt8] {
        var bytes = [UInt8(ascii: "$")]
        var sum: UInt8 = 0
        for byte in body {
            switch byte {
            case UInt8(ascii: "#"), UInt8(ascii: "$"), UInt8(ascii: "}"), UInt8(ascii: "*"):
                bytes.append(UInt8(ascii: "}"))
                bytes.append(byte ^ 0x20)
                sum = sum &+ UInt8(ascii: "}") &+ (byte ^ 0x20)
            default:
                bytes.append(byte)
                sum = sum &+ byte
            }
        }
        bytes.append(UInt8(ascii: "#"))
        return bytes + Hex.text([sum]).utf8
    }
}

/// Hexadecimal digits.
package enum Hex {
    static func digit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }

    /// Bytes as pairs of digits.
    package static func text(_ bytes: some Sequence<UInt8>) -> String {
        let digits = Array("0123456789abcdef".utf8)
        var text: [UInt8] = []
        for byte in bytes {
            text.append(digits[Int(byte >> 4)])
            text.append(digits[Int(byte & 15)])
        }
        return String(decoding: text, as: UTF8.self)
    }

    /// Pairs of digits as bytes; nil when it is something else.
    package static func bytes(_ text: some StringProtocol) -> [UInt8]? {
        let utf8 = Array(text.utf8)
        guard utf8.count % 2 == 0 else { return nil }
        var bytes: [UInt8] = []
        for index in stride(from: 0, to: utf8.count, by: 2) {
            guard let high = digit(utf8[index]), let low = digit(utf8[index + 1]) else { return nil }
            bytes.append(high << 4 | low)
        }
        return bytes
    }

    /// A number without sign or prefix, 64 bits at most.
    package static func number(_ text: some StringProtocol) -> UInt64? {
        if text.isEmpty || text.utf8.count > 16 { return nil }
        var value: UInt64 = 0
        for byte in text.utf8 {
            guard let digit = digit(byte) else { return nil }
            value = value << 4 | UInt64(digit)
        }
        return value
    }
}
