import DeviceBus
import MachineState

/// The expansion ROM of a PCI function (PCI Local Bus 2.1, 6.2.5.2 and 6.3): firmware finds it by the function's register, and
/// the host bridge maps it where that says.
package final class OptionROM: Device {
    package let name: String
    /// It answers nowhere by itself.
    package let regions: [Region] = []
    /// A power of two of them; behind the file there is nothing.
    private let bytes: [UInt8]
    private static let largest = 1 << 24

    /// - Parameters:
    ///   - name: of the function whose it is.
    ///   - bytes: an image, 16 MiB at most.
    ///   - vendor: the function's identifiers, which the image takes: one that serves several models names one of them only,
    ///     and firmware would not run it.
    package init(name: String, bytes: [UInt8], vendor: UInt16, device: UInt16) {
        self.name = "rom-\(name)"
        let bytes = Self.named(bytes, vendor, device)
        var size = 2048
        while size < min(bytes.count, Self.largest) { size *= 2 }
        self.bytes = bytes.prefix(size) + [UInt8](repeating: 0xFF, count: max(size - bytes.count, 0))
    }

    /// The image with other identifiers in its PCI data structure (6.3.1.2); its sum stays what it was.
    private static func named(_ bytes: [UInt8], _ vendor: UInt16, _ device: UInt16) -> [UInt8] {
        guard bytes.count > 0x1A, bytes[0] == 0x55, bytes[1] == 0xAA else { return bytes }
        let place = Int(bytes[0x18]) | Int(bytes[0x19]) << 8
        guard place + 8 <= bytes.count, Array(bytes[place..<place + 4]) == Array("PCIR".utf8) else { return bytes }
        var new = bytes
        for (index, value) in [vendor & 0xFF, vendor >> 8, device & 0xFF, device >> 8].enumerated() {
            // Byte 6 makes up for the difference, as in every image it is free for that.
            new[6] = new[6] &+ new[place + 4 + index] &- UInt8(value)
            new[place + 4 + index] = UInt8(value)
        }
        return new
    }

    /// Bytes, a power of two.
    package var size: UInt32 { UInt32(bytes.count) }

    package func read(region: Int, offset: UInt64, width: Int) -> UInt64 {
        (0..<width).reduce(0) { value, lane in
            let place = Int(truncatingIfNeeded: offset) + lane
            return value | UInt64(bytes.indices.contains(place) ? bytes[place] : 0xFF) << UInt64(lane * 8)
        }
    }
    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {}
    package func timerFired(_ timer: Int) {}
    package func reset() {}
    package func visitState(_ visitor: inout StateVisitor) {}
}
