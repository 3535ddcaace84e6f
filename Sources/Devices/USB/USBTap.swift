import DeviceBus
import MachineState

/// Sees a controller's transfers, for captures in Linux's usbmon format (Documentation/usb/usbmon; link type 220). It is no part
/// of the machine's state.
package final class USBTap {
    /// Gets records: 64 bytes of usbmon's header, and the data.
    private let deliver: ([UInt8], VirtualTime) -> Void
    private let scheduler: Scheduler
    private let bus: UInt16
    /// Numbers of the transfers that are under way, by slot and endpoint.
    private var numbers = [UInt64](repeating: 0, count: 64 * 32)
    private var next: UInt64 = 1

    package init(bus: UInt16, scheduler: Scheduler, deliver: @escaping ([UInt8], VirtualTime) -> Void) {
        self.bus = bus
        self.scheduler = scheduler
        self.deliver = deliver
    }

    func submitted(_ transfer: USBTransfer, slot: Int, endpoint: Int) {
        numbers[(slot & 63) * 32 + endpoint & 31] = next
        next += 1
        record(transfer, "S", slot, endpoint, status: -115, length: transfer.isIn ? transfer.length : transfer.data.count, transfer.data)
    }

    func completed(_ transfer: USBTransfer, _ outcome: USBOutcome, slot: Int, endpoint: Int) {
        switch outcome {
        case .done(let bytes):
            record(transfer, "C", slot, endpoint, status: 0, length: transfer.isIn ? bytes.count : transfer.data.count, bytes)
        // As Linux says it: EPIPE, EPROTO.
        case .stall: record(transfer, "C", slot, endpoint, status: -32, length: 0, [])
        default: record(transfer, "C", slot, endpoint, status: -71, length: 0, [])
        }
    }

    private func record(
        _ transfer: USBTransfer, _ event: Character, _ slot: Int, _ endpoint: Int, status: Int32, length: Int, _ data: [UInt8]
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
        deliver(hasData ? bytes + data : bytes, time)
    }
}
