import DeviceBus
import MachineState

/// A network card: it sends frames to its channel, and its inputs are what comes from the cable.
///
/// The channel's messages out are Ethernet frames, one each, without preamble and check sequence. Its inputs are frames,
/// or, in one byte, the state of the link: 0 the cable is out, 1 it is in.
package protocol NetworkCard: HostReceiver {
    /// The cable is in.
    var isLinkUp: Bool { get }
}

/// A card's end of the cable: frames that have come in and wait for a buffer, and the link. Part of the card's `State`.
package struct NetworkWire {
    /// What an input means.
    package enum Arrival {
        /// A frame waits.
        case frame
        /// The link has changed.
        case link
        case nothing
    }

    /// The longest frame: Ethernet's 1514 bytes, and a VLAN tag (IEEE 802.3, 802.1Q).
    package static let longestFrame = 1518
    /// The shortest: two addresses and a type.
    package static let shortestFrame = 14
    /// The most frames that wait for a buffer; more are lost, as in any card.
    package static let mostWaiting = 512

    package private(set) var isLinkUp = true
    /// The first is the oldest.
    package private(set) var waiting: [[UInt8]] = []
    /// Frames that were lost because too many waited.
    package private(set) var lost: UInt64 = 0

    package init() {}

    package mutating func visit(_ visitor: inout StateVisitor) {
        visitor.field("isLinkUp", &isLinkUp)
        visitor.list("waiting", &waiting, make: { [] }) { $1.field("bytes", &$0) }
        visitor.field("lost", &lost)
        let isSound = waiting.allSatisfy { $0.count >= Self.shortestFrame && $0.count <= Self.longestFrame }
        if visitor.mode == .load, !isSound || waiting.count > Self.mostWaiting {
            visitor.fail("frames of another size")
            waiting = []
        }
    }

    /// Takes an input of the card's channel.
    package mutating func receive(_ bytes: [UInt8]) -> Arrival {
        if bytes.count == 1 {
            let isUp = bytes[0] != 0
            if isUp == isLinkUp { return .nothing }
            isLinkUp = isUp
            if !isUp { waiting = [] }
            return .link
        }
        guard isLinkUp, bytes.count >= Self.shortestFrame, bytes.count <= Self.longestFrame else { return .nothing }
        if waiting.count >= Self.mostWaiting {
            lost &+= 1
            return .nothing
        }
        waiting.append(bytes)
        return .frame
    }

    /// Takes the oldest frame.
    package mutating func next() -> [UInt8]? { waiting.isEmpty ? nil : waiting.removeFirst() }

    /// The frames go, the cable stays: a reset of the card.
    package mutating func empty() { waiting = [] }

    /// What goes out on the cable: nothing, when it is not in or the frame is none.
    package func canSend(_ count: Int) -> Bool {
        isLinkUp && count >= Self.shortestFrame && count <= Self.longestFrame
    }
}

/// An Ethernet address.
package struct EthernetAddress: Sendable, Equatable {
    /// Six, in the order in which they are sent.
    package let bytes: [UInt8]

    /// The address of card number `card`, from the range that virtual machines use.
    package init(card: UInt8) { bytes = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56 &+ card] }

    /// Six numbers of two hexadecimal digits, with ":" or "-" between them. Nil for other texts and for group addresses.
    package init?(_ text: String) {
        let parts = text.split(whereSeparator: { $0 == ":" || $0 == "-" })
        let numbers = parts.compactMap { $0.utf8.count == 2 && $0.allSatisfy(\.isHexDigit) ? UInt8($0, radix: 16) : nil }
        guard parts.count == 6, numbers.count == 6, numbers[0] & 1 == 0 else { return nil }
        bytes = numbers
    }

    /// Such as "52:54:00:12:34:56".
    package var text: String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: ":")
    }
}
