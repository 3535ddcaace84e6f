import Glibc

/// A port of the host that leads to one of the guest: `hostfwd=tcp:[HOSTADDR]:PORT-[GUESTADDR]:PORT`.
package struct PortForward: Sendable, Equatable {
    package var isUDP: Bool
    /// IPv4 addresses in the order in which they are sent, as in `in_addr`.
    package var hostAddress: UInt32
    package var hostPort: UInt16
    package var guestAddress: UInt32
    package var guestPort: UInt16
    package let text: String

    /// Nil for a text that is not one. Without a host's address it is 127.0.0.1, without a guest's 10.0.2.15.
    package init?(_ text: String) {
        self.text = text
        let kind = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        guard kind.count == 2, ["tcp", "udp", ""].contains(kind[0]) else { return nil }
        let ends = kind[1].split(separator: "-", omittingEmptySubsequences: false)
        guard ends.count == 2, let host = Self.place(ends[0], "127.0.0.1"), let guest = Self.place(ends[1], "10.0.2.15")
        else { return nil }
        isUDP = kind[0] == "udp"
        (hostAddress, hostPort) = host
        (guestAddress, guestPort) = guest
    }

    private static func place(_ text: Substring, _ otherwise: String) -> (UInt32, UInt16)? {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, let port = UInt16(parts[1]), port > 0 else { return nil }
        var address = in_addr()
        guard inet_pton(AF_INET, parts[0].isEmpty ? otherwise : String(parts[0]), &address) == 1 else { return nil }
        return (address.s_addr, port)
    }
}
