import Devices

/// A network card of the PC, as the configuration names it.
package struct NetworkCardSettings: Sendable, Equatable {
    /// The raw values are in recordings and on the command line.
    package enum Model: String, Sendable, CaseIterable {
        /// A virtio card with the legacy and the modern interface.
        case virtio
        /// Intel's 82540EM.
        case e1000
        /// Realtek's RTL8139C.
        case rtl8139
    }

    package var model: Model
    package var address: EthernetAddress

    package init(model: Model, address: EthernetAddress) {
        self.model = model
        self.address = address
    }
}

extension [NetworkCardSettings] {
    /// The most cards that a machine has.
    package static var most: Int { Channel.network.count }

    /// As a setting in the header, such as "virtio:52-54-00-12-34-56".
    package var text: String {
        map { "\($0.model.rawValue):\($0.address.text.split(separator: ":").joined(separator: "-"))" }.joined(separator: ",")
    }

    /// Nil for a text that is not one.
    package init?(text: String) {
        self = []
        for part in text.split(separator: ",") {
            let fields = part.split(separator: ":")
            guard fields.count == 2, let model = NetworkCardSettings.Model(rawValue: String(fields[0])),
                let address = EthernetAddress(String(fields[1])), count < Self.most
            else { return nil }
            append(NetworkCardSettings(model: model, address: address))
        }
    }
}
