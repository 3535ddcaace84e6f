import DeviceBus

/// The one message of a function with MSI (PCI 2.2, 6.8.1). All of it is in the function's configuration space.
package struct MSI {
    /// Of the capability.
    private let offset: Int

    package init(at offset: Int) { self.offset = offset }

    /// The capability: one message, with 64-bit addresses.
    package func addCapability(to configuration: inout PCIConfiguration) {
        configuration.addCapability(0x05, at: offset, [0x80, 0] + [UInt8](repeating: 0, count: 10))
        configuration.allowWrites(offset + 2, width: 1, mask: 0x01)
        configuration.allowWrites(offset + 4, width: 4, mask: 0xFFFF_FFFC)
        configuration.allowWrites(offset + 8, width: 4, mask: 0xFFFF_FFFF)
        configuration.allowWrites(offset + 12, width: 2, mask: 0xFFFF)
    }

    /// The message takes the place of the interrupt pin.
    package func isEnabled(_ configuration: PCIConfiguration) -> Bool { configuration.read(offset + 2, width: 1) & 1 != 0 }

    package func send(_ configuration: PCIConfiguration, to sink: any MessageSink) {
        let address = UInt64(configuration.read(offset + 8, width: 4)) << 32 | UInt64(configuration.read(offset + 4, width: 4))
        sink.deliver(address: address, data: configuration.read(offset + 12, width: 2))
    }
}
