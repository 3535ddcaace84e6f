/// What `UserNetwork` offers beside the way out.
package struct UserNetworkOptions: Sendable, Equatable {
    /// From the host to the guest.
    package var forwards: [PortForward] = []
    /// What the guest gets by TFTP from 10.0.2.2.
    package var directory: String?
    /// The file that DHCP tells a guest to boot.
    package var bootFile: String?
    /// There is an IPv6 router too.
    package var hasIPv6 = true

    package init() {}
}
