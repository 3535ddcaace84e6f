import DeviceBus

/// A device on the PCI bus.
///
/// A function with base address registers lists their regions with `PCIConfiguration.region(_:registers:)`; the host
/// bridge maps and unmaps them as software says.
package protocol PCIFunction: Device {
    /// Its configuration space, in its `State`.
    var configuration: PCIConfiguration { get set }
    /// Software has written `width` bytes of configuration space at `offset`; the registers hold the new values.
    func configurationWritten(_ offset: Int, width: Int)
    /// Software is about to read there: a chance to bring a register up to date. Most functions have nothing to do.
    func configurationWillBeRead(_ offset: Int, width: Int)
}

extension PCIFunction {
    package func configurationWillBeRead(_ offset: Int, width: Int) {}
}

/// Where a function is on bus 0.
package struct PCIAddress: Sendable, Hashable {
    /// 0...31
    package var slot: Int
    /// 0...7
    package var function: Int
    package init(slot: Int, function: Int = 0) {
        self.slot = slot
        self.function = function
    }
    /// The number of the interrupt pin (1...4 for INTA...INTD) as an input of `PIIX3`.
    package func interruptInput(pin: Int) -> Int { slot * 4 + pin - 1 }
}
