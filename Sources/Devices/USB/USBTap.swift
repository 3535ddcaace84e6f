import DeviceBus
import MachineState

/// A controller with devices at its ports, whose transfers can be seen.
package protocol USBController: PCIFunction {
    /// By port, from 0 on; nil for an empty one.
    var devices: [(any USBDevice)?] { get }
    var tap: USBTap? { get set }
}

extension USBController {
    func visitDevices(_ visitor: inout StateVisitor) {
        for (number, device) in devices.enumerated() {
            if let device { visitor.group("devices[\(number)]") { device.visit(&$0) } }
        }
    }
    func resetDevices() {
        for device in devices { device?.reset() }
    }
}

/// A record of usbmon.
package struct USBRecord: Sendable {
    /// 64 bytes.
    package var header: [UInt8]
    package var data: [UInt8]
    /// Where in a disk's image the data is.
    package var origin: ImageOrigin?

    package var bytes: [UInt8] { header + data }

    /// With the place in the image instead of the data, for a log: image (1 byte), offset (8 bytes). Nil for data that is elsewhere.
    package var reference: [UInt8]? {
        guard let origin, data.count >= 64 else { return nil }
        return header + [origin.image] + (0..<8).map { UInt8(truncatingIfNeeded: origin.offset >> UInt64($0 * 8)) }
    }

    /// The record that such bytes stand for, without its data, and the data's length; nil for bytes that are none.
    package static func referred(_ bytes: [UInt8]) -> (record: USBRecord, length: Int)? {
        guard bytes.count == 73 else { return nil }
        let length = (0..<4).reduce(0) { $0 | Int(bytes[36 + $1]) << ($1 * 8) }
        let offset = (0..<8).reduce(UInt64(0)) { $0 | UInt64(bytes[65 + $1]) << UInt64($1 * 8) }
        guard length <= 1 << 26 else { return nil }
        return (USBRecord(header: Array(bytes[..<64]), data: [], origin: ImageOrigin(image: bytes[64], offset: offset)), length)
    }
}

/// Sees a controller's transfers, for captures in Linux's usbmon format (Documentation/usb/usbmon; link type 220). It is no part
/// of the machine's state.
package final class USBTap {
    private let deliver: (USBRecord, VirtualTime) -> Void
    private let scheduler: Scheduler
    private let bus: UInt16
    /// Numbers of the transfers that are under way, by slot and endpoint.
    private var numbers = [UInt64](repeating: 0, count: 64 * 32)
    private var next: UInt64 = 1

    package init(bus: UInt16, scheduler: Scheduler, deliver: @escaping (USBRecord, VirtualTime) -> Void) {
        self.bus = bus
        self.scheduler = scheduler
        self.deliver = deliver
    }

    func submitted(_ transfer: USBTransfer, slot: Int, endpoint: Int) {
        numbers[(slot & 63) * 32 + endpoint & 31] = next
        next += 1
        record(transfer, "S", slot, endpoint, status: -115, length: transfer.isIn ? transfer.length : transfer.data.count, transfer.data)
    }

    /// - Parameter origin: where the data comes from, if that is a disk's image.
    func completed(_ transfer: USBTransfer, _ outcome: USBOutcome, slot: Int, endpoint: Int, origin: ImageOrigin? = nil) {
        switch outcome {
        case .done(let bytes):
            record(transfer, "C", slot, endpoint, status: 0, length: transfer.isIn ? bytes.count : transfer.data.count, bytes, origin)
        // As Linux says it: EPIPE, EPROTO.
        case .stall: record(transfer, "C", slot, endpoint, status: -32, length: 0, [])
        default: record(transfer, "C", slot, endpoint, status: -71, length: 0, [])
        }
    }

    private func record(
        _ transfer: USBTransfer, _ event: Character, _ slot: Int, _ endpoint: Int, status: Int32, length: Int, _ data: [UInt8],
        _ origin: ImageOrigin? = nil
    ) {
        func put(_ value: UInt64, _ width: Int) -> [UInt8] { (0..<width).map { UInt8(truncatingIfNeeded: value >> UInt64($0 * 8)) } }
        let isSubmission = event == "S"
        // Data goes with a submission to the device, and with a completion from it.
        let hasData = transfer.isIn != isSubmission && !data.isEmpty
        let kinds: [UInt8] = [2, 0, 3, 1]
        let time = scheduler.now
        var bytes = put(numbers[(slot & 63) * 32 + endpoint & 31], 8)
        bytes += [event.asciiValue ?? 0, kinds[Int(transfer.kind.rawValue)], transfer.endpoint, UInt8(truncatingIfNeeded: slot)]
        bytes += put(UInt64(bus), 2) + [isSubmission && transfer.setup != nil ? 0 : 0x2D, hasData ? 0 : transfer.isIn ? 0x3C : 0x3E]
        bytes += put(time / 1_000_000_000, 8) + put(time % 1_000_000_000 / 1000, 4) + put(UInt64(bitPattern: Int64(status)), 4)
        bytes += put(UInt64(length), 4) + put(UInt64(hasData ? data.count : 0), 4)
        bytes += isSubmission ? transfer.setup?.bytes ?? put(0, 8) : put(0, 8)
        bytes += put(0, 16)
        deliver(USBRecord(header: bytes, data: hasData ? data : [], origin: hasData ? origin : nil), time)
    }
}
