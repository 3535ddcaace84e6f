import DeviceBus
import MachineState

/// A mouse with a wheel in the boot protocol (HID 1.11, appendix B.2), or a tablet that tells places on the screen.
package final class USBPointer: USBFunction, HostReceiver {
    package struct State {
        /// A mouse: motion that no report has told. A tablet: the place, 0...32767.
        package var x: Int32 = 0
        package var y: Int32 = 0
        /// The wheel's motion that no report has told.
        package var wheel: Int32 = 0
        /// Bit 0 left, bit 1 right, bit 2 middle.
        package var buttons: UInt8 = 0
        /// Buttons and places of clicks that no report has told: x and y in 16 bits each, buttons.
        package var clicks: [UInt8] = []
        package var hasNews = false
        package var hidProtocol: UInt8 = 1
        package var idle: UInt8 = 0

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("x", &x)
            visitor.field("y", &y)
            visitor.field("wheel", &wheel)
            visitor.field("buttons", &buttons)
            visitor.field("clicks", &clicks)
            visitor.field("hasNews", &hasNews)
            visitor.field("hidProtocol", &hidProtocol)
            visitor.field("idle", &idle)
        }
    }

    /// The most reports of clicks that wait.
    private static let mostClicks = 64
    private static let clickSize = 5
    package private(set) var state = State()
    package var wake: (UInt8) -> Void = { _ in }
    private let isTablet: Bool
    private let hid: HIDRequests

    package init(isTablet: Bool) {
        self.isTablet = isTablet
        hid = HIDRequests(report: Self.reportDescriptor(isTablet))
    }

    /// Three buttons; X and Y, of 8 bits relative or 16 bits absolute; the wheel.
    private static func reportDescriptor(_ isTablet: Bool) -> [UInt8] {
        let head: [UInt8] = [
            0x05, 0x01, 0x09, 0x02, 0xA1, 0x01, 0x09, 0x01, 0xA1, 0x00, 0x05, 0x09, 0x19, 0x01, 0x29, 0x03, 0x15, 0x00, 0x25, 0x01,
            0x95, 0x03, 0x75, 0x01, 0x81, 0x02, 0x95, 0x01, 0x75, 0x05, 0x81, 0x01, 0x05, 0x01, 0x09, 0x30, 0x09, 0x31,
        ]
        let axes: [UInt8] =
            isTablet
            ? [0x15, 0x00, 0x26, 0xFF, 0x7F, 0x35, 0x00, 0x46, 0xFF, 0x7F, 0x75, 0x10, 0x95, 0x02, 0x81, 0x02]
            : [0x15, 0x81, 0x25, 0x7F, 0x75, 0x08, 0x95, 0x02, 0x81, 0x06]
        let wheel: [UInt8] = [0x09, 0x38, 0x15, 0x81, 0x25, 0x7F, 0x35, 0x00, 0x45, 0x00, 0x75, 0x08, 0x95, 0x01, 0x81, 0x06, 0xC0, 0xC0]
        return head + axes + wheel
    }

    package var descriptors: USBDescriptors {
        USBDescriptors(
            vendor: 0x1D6B, product: isTablet ? 0x0112 : 0x0111, strings: ["emu", isTablet ? "USB tablet" : "USB mouse", "1"],
            interfaces: [
                .init(
                    number: 0, classCode: 3, subclass: isTablet ? 0 : 1, interfaceProtocol: isTablet ? 0 : 2, more: hid.descriptor,
                    endpoints: [.init(address: 0x81, kind: .interrupt, size: 8, interval: 10)])
            ], controlSize: 8)
    }

    package func visit(_ visitor: inout StateVisitor) {
        state.visit(&visitor)
        if visitor.mode == .load, state.clicks.count % Self.clickSize != 0 {
            visitor.fail("clicks of another size")
            state.clicks = []
        }
    }
    package func reset() {
        let old = state
        state = State()
        state.buttons = old.buttons
        if isTablet { (state.x, state.y) = (old.x, old.y) }
    }

    package func receive(_ bytes: [UInt8]) {
        for message in MouseMessage.decode(bytes) where message.isAbsolute == isTablet {
            if message.buttons & 7 != state.buttons { noteClick() }
            if isTablet {
                state.x = max(Int32(message.dx), 0)
                state.y = max(Int32(message.dy), 0)
            } else {
                state.x = Self.gather(state.x, Int32(message.dx))
                state.y = Self.gather(state.y, Int32(message.dy))
            }
            state.wheel = Self.gather(state.wheel, -Int32(message.dz))
            state.buttons = message.buttons & 7
            state.hasNews = true
        }
        if state.hasNews { wake(0x81) }
    }

    private static func gather(_ sum: Int32, _ more: Int32) -> Int32 { min(max(sum + more, -0x7FFF), 0x7FFF) }

    /// A click may begin and end before the guest asks: what was until now becomes a report of its own.
    private func noteClick() {
        guard state.hasNews, state.clicks.count < Self.mostClicks * Self.clickSize else { return }
        let x = UInt16(truncatingIfNeeded: state.x)
        let y = UInt16(truncatingIfNeeded: state.y)
        state.clicks += [UInt8(x & 0xFF), UInt8(x >> 8), UInt8(y & 0xFF), UInt8(y >> 8), state.buttons]
        if !isTablet { (state.x, state.y) = (0, 0) }
    }

    /// The next report's place or motion, and whether more waits.
    private func next() -> [UInt8] {
        if state.clicks.count >= Self.clickSize {
            let click = Array(state.clicks.prefix(Self.clickSize))
            state.clicks.removeFirst(Self.clickSize)
            let x = Int32(Int16(bitPattern: UInt16(click[0]) | UInt16(click[1]) << 8))
            let y = Int32(Int16(bitPattern: UInt16(click[2]) | UInt16(click[3]) << 8))
            return report(x, y, click[4], 0)
        }
        let wheel = min(max(state.wheel, -127), 127)
        state.wheel -= wheel
        if isTablet {
            state.hasNews = state.wheel != 0
            return report(state.x, state.y, state.buttons, wheel)
        }
        let x = min(max(state.x, -127), 127)
        let y = min(max(state.y, -127), 127)
        state.x -= x
        state.y -= y
        state.hasNews = state.x != 0 || state.y != 0 || state.wheel != 0
        return report(x, y, state.buttons, wheel)
    }

    private func report(_ x: Int32, _ y: Int32, _ buttons: UInt8, _ wheel: Int32) -> [UInt8] {
        func low(_ value: Int32) -> UInt8 { UInt8(truncatingIfNeeded: value) }
        if isTablet { return [buttons, low(x), low(x >> 8), low(y), low(y >> 8), low(wheel)] }
        return [buttons, low(min(max(x, -127), 127)), low(min(max(y, -127), 127)), low(wheel)]
    }

    package func cancel(endpoint: UInt8) {}
    package func carryOut(_ transfer: USBTransfer) -> USBOutcome {
        guard transfer.endpoint == 0x81 else { return .stall }
        if !state.hasNews, state.clicks.isEmpty { return .waiting }
        return .done(Array(next().prefix(transfer.length)))
    }

    package func control(_ setup: USBSetup, _ data: [UInt8]) -> USBOutcome {
        let present = isTablet ? report(state.x, state.y, state.buttons, 0) : report(0, 0, state.buttons, 0)
        return hid.answer(setup, report: present, &state.hidProtocol, &state.idle)
    }
}
