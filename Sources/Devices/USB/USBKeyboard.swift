import DeviceBus
import MachineState

/// A keyboard in the boot protocol (Device Class Definition for HID 1.11, appendix B.1): eight bytes a report, modifiers and
/// up to six keys.
package final class USBKeyboard: USBFunction, HostReceiver {
    package struct State {
        /// Reports that wait, eight bytes each.
        package var reports: [UInt8] = []
        /// Usages of the keys that are down, oldest first; modifiers too.
        package var down: [UInt8] = []
        package var leds: UInt8 = 0
        /// 1: the report protocol, which here is the same as the boot protocol.
        package var hidProtocol: UInt8 = 1
        /// In units of 4 ms; kept only.
        package var idle: UInt8 = 0

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("reports", &reports)
            visitor.field("down", &down)
            visitor.field("leds", &leds)
            visitor.field("hidProtocol", &hidProtocol)
            visitor.field("idle", &idle)
        }
    }

    /// The most bytes of reports that wait; more are lost.
    private static let mostWaiting = 8 * 64
    package private(set) var state = State()
    package var wake: (UInt8) -> Void = { _ in }
    package init() {}

    /// Modifiers, padding, LEDs, padding, six keys (HID 1.11, appendix E.6).
    private static let reportDescriptor: [UInt8] = [
        0x05, 0x01, 0x09, 0x06, 0xA1, 0x01, 0x05, 0x07, 0x19, 0xE0, 0x29, 0xE7, 0x15, 0x00, 0x25, 0x01, 0x75, 0x01, 0x95, 0x08,
        0x81, 0x02, 0x95, 0x01, 0x75, 0x08, 0x81, 0x01, 0x95, 0x05, 0x75, 0x01, 0x05, 0x08, 0x19, 0x01, 0x29, 0x05, 0x91, 0x02,
        0x95, 0x01, 0x75, 0x03, 0x91, 0x01, 0x95, 0x06, 0x75, 0x08, 0x15, 0x00, 0x26, 0xFF, 0x00, 0x05, 0x07, 0x19, 0x00, 0x2A,
        0xFF, 0x00, 0x81, 0x00, 0xC0,
    ]
    private static let hid = HIDRequests(report: reportDescriptor)

    package var descriptors: USBDescriptors {
        USBDescriptors(
            vendor: 0x1D6B, product: 0x0110, strings: ["emu", "USB keyboard", "1"],
            interfaces: [
                .init(
                    number: 0, classCode: 3, subclass: 1, interfaceProtocol: 1, more: Self.hid.descriptor,
                    endpoints: [.init(address: 0x81, kind: .interrupt, size: 8, interval: 10)])
            ], controlSize: 8)
    }

    package func visit(_ visitor: inout StateVisitor) { state.visit(&visitor) }
    package func reset() {
        // Keys stay down, whatever the host does.
        let down = state.down
        state = State()
        state.down = down
    }

    package func receive(_ bytes: [UInt8]) {
        for message in KeyMessage.decode(bytes) {
            guard let usage = message.key.usage else { continue }
            state.down.removeAll { $0 == usage }
            if !message.isRelease { state.down.append(usage) }
            if state.reports.count < Self.mostWaiting { state.reports += report }
        }
        wake(0x81)
    }

    private var report: [UInt8] {
        let modifiers = state.down.filter { $0 >= 0xE0 }.reduce(UInt8(0)) { $0 | 1 << ($1 & 7) }
        let keys = state.down.filter { $0 < 0xE0 }
        // More than six: the report says so in each place.
        let places = keys.count > 6 ? [UInt8](repeating: 1, count: 6) : keys + [UInt8](repeating: 0, count: 6 - keys.count)
        return [modifiers, 0] + places
    }

    package func cancel(endpoint: UInt8) {}
    package func carryOut(_ transfer: USBTransfer) -> USBOutcome {
        guard transfer.endpoint == 0x81 else { return .stall }
        if state.reports.isEmpty { return .waiting }
        let report = Array(state.reports.prefix(8))
        state.reports.removeFirst(min(8, state.reports.count))
        return .done(Array(report.prefix(transfer.length)))
    }

    package func control(_ setup: USBSetup, _ data: [UInt8]) -> USBOutcome {
        if setup.type == 0x21, setup.request == 9 {
            state.leds = data.first ?? 0
            return .done([])
        }
        return Self.hid.answer(setup, report: report, &state.hidProtocol, &state.idle)
    }
}

/// Requests and descriptors that all HID devices have (HID 1.11, 7).
struct HIDRequests {
    let report: [UInt8]
    /// The HID descriptor: version 1.11, one report descriptor.
    var descriptor: [UInt8] { [9, 0x21, 0x11, 0x01, 0, 1, 0x22, UInt8(report.count & 0xFF), UInt8(report.count >> 8)] }

    func answer(_ setup: USBSetup, report present: [UInt8], _ hidProtocol: inout UInt8, _ idle: inout UInt8) -> USBOutcome {
        switch (setup.type, setup.request) {
        case (0x81, 6):
            return setup.value >> 8 == 0x22 ? .done(report) : setup.value >> 8 == 0x21 ? .done(descriptor) : .stall
        case (0xA1, 1): return .done(present)
        case (0xA1, 2): return .done([idle])
        case (0xA1, 3): return .done([hidProtocol])
        case (0x21, 0x0A):
            idle = UInt8(setup.value >> 8)
            return .done([])
        case (0x21, 0x0B):
            hidProtocol = UInt8(setup.value & 1)
            return .done([])
        default: return .stall
        }
    }
}

extension KeyCode {
    /// HID usages (HID Usage Tables 1.12, 10) of key codes 1...127; 0 for none.
    private static let usages: [UInt8] = {
        var table = [UInt8](repeating: 0, count: 128)
        let first: [UInt8] = [
            0x29, 0x1E, 0x1F, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x2D, 0x2E, 0x2A, 0x2B, 0x14, 0x1A, 0x08, 0x15, 0x17,
            0x1C, 0x18, 0x0C, 0x12, 0x13, 0x2F, 0x30, 0x28, 0xE0, 0x04, 0x16, 0x07, 0x09, 0x0A, 0x0B, 0x0D, 0x0E, 0x0F, 0x33, 0x34,
            0x35, 0xE1, 0x31, 0x1D, 0x1B, 0x06, 0x19, 0x05, 0x11, 0x10, 0x36, 0x37, 0x38, 0xE5, 0x55, 0xE2, 0x2C, 0x39, 0x3A, 0x3B,
            0x3C, 0x3D, 0x3E, 0x3F, 0x40, 0x41, 0x42, 0x43, 0x53, 0x47, 0x5F, 0x60, 0x61, 0x56, 0x5C, 0x5D, 0x5E, 0x57, 0x59, 0x5A,
            0x5B, 0x62, 0x63,
        ]
        for (index, usage) in first.enumerated() { table[index + 1] = usage }
        let others: [(Int, UInt8)] = [
            (86, 0x64), (87, 0x44), (88, 0x45), (89, 0x87), (92, 0x8A), (93, 0x88), (94, 0x8B), (95, 0x8C), (96, 0x58), (97, 0xE4),
            (98, 0x54), (99, 0x46), (100, 0xE6), (102, 0x4A), (103, 0x52), (104, 0x4B), (105, 0x50), (106, 0x4F), (107, 0x4D),
            (108, 0x51), (109, 0x4E), (110, 0x49), (111, 0x4C), (113, 0x7F), (114, 0x81), (115, 0x80), (116, 0x66), (117, 0x67),
            (119, 0x48), (121, 0x85), (124, 0x89), (125, 0xE3), (126, 0xE7), (127, 0x65),
        ]
        for (code, usage) in others { table[code] = usage }
        return table
    }()

    /// The key's HID usage on the keyboard page; nil when it has none.
    package var usage: UInt8? {
        guard rawValue < 128, Self.usages[Int(rawValue)] != 0 else { return nil }
        return Self.usages[Int(rawValue)]
    }
}
