/// Who reaches guest RAM by itself, in words for people.
package struct BusMasterName: Sendable, Equatable {
    /// The device, such as "piix3-ide".
    package var device: String
    /// What for, such as "primary, READ DMA, drive 0, sector 20"; nil: not known.
    package var request: String?

    package init(device: String, request: String? = nil) {
        self.device = device
        self.request = request
    }

    /// "device: request".
    package var text: String { request.map { device + ": " + $0 } ?? device }
    /// The same from its text.
    package init(text: String) {
        let parts = text.split(separator: ": ", maxSplits: 1)
        self.init(device: parts.first.map { String($0) } ?? "", request: parts.count > 1 ? String(parts[1]) : nil)
    }
}
