import Boundary
import Devices
import Machine
import Synchronization

/// Keys and the mouse of the host, as inputs of the machine: what windows, VNC clients, the monitor and scripts share.
final class HostInput: Sendable {
    private let live: LiveBoundary
    private let buttons = Mutex<UInt8>(0)
    /// Where keys and motions go: the last keyboard and mouse that USB has, else those of the PC.
    let keyboard: Channel
    private let mouse: Channel
    /// A tablet, which gets places instead of motions.
    private let tablet: Channel?
    private let place = Mutex<(x: Int16, y: Int16)>((0, 0))

    init(_ live: LiveBoundary, _ usb: USBSettings) {
        self.live = live
        func last(_ kind: USBSettings.Device) -> Channel? { zip(usb.devices, Channel.usb).reversed().first { $0.0 == kind }?.1 }
        keyboard = last(.keyboard) ?? .keyboard
        mouse = last(.mouse) ?? .mouse
        tablet = last(.tablet)
    }

    /// The guest has a tablet: `movePointer` moves it.
    var hasTablet: Bool { tablet != nil }

    /// - Parameters:
    ///   - x: on a screen of `width` pixels; y: of `height`. dz: the wheel, towards the user.
    func movePointer(x: Int, y: Int, width: Int, height: Int, dz: Int = 0) {
        func scaled(_ value: Int, _ size: Int) -> Int16 { Int16(clamping: min(max(value, 0), size - 1) * 32767 / max(size - 1, 1)) }
        place.withLock { $0 = (scaled(x, width), scaled(y, height)) }
        sendPlace(dz)
    }
    private func sendPlace(_ dz: Int) {
        guard let tablet else { return }
        let place = place.withLock { $0 }
        let message = MouseMessage(
            dx: place.x, dy: place.y, dz: Int8(clamping: dz), buttons: buttons.withLock { $0 }, isAbsolute: true)
        live.push(source: tablet.rawValue, bytes: message.bytes)
    }

    func key(_ key: KeyCode, isRelease: Bool) {
        live.push(source: keyboard.rawValue, bytes: KeyMessage(key, isRelease: isRelease).bytes)
    }

    /// Presses keys in order and releases them in the opposite order.
    func stroke(_ keys: [KeyCode]) { live.push(source: keyboard.rawValue, bytes: KeyMessage.stroke(keys)) }

    /// - Parameters:
    ///   - dx: to the right; dy: down; dz: the wheel, towards the user.
    func moveMouse(dx: Int, dy: Int, dz: Int = 0) {
        let buttons = buttons.withLock { $0 }
        send(MouseMessage(dx: Int16(clamping: dx), dy: Int16(clamping: dy), dz: Int8(clamping: dz), buttons: buttons))
    }

    /// - Parameter buttons: bit 0 left, bit 1 right, bit 2 middle: those that are down.
    func setButtons(_ buttons: UInt8) {
        self.buttons.withLock { $0 = buttons }
        if hasTablet { return sendPlace(0) }
        send(MouseMessage(buttons: buttons))
    }

    /// - Parameter bit: one of the bits of `setButtons`.
    func setButton(_ bit: UInt8, isDown: Bool) {
        let all = buttons.withLock { buttons -> UInt8 in
            buttons = isDown ? buttons | bit : buttons & ~bit
            return buttons
        }
        if hasTablet { return sendPlace(0) }
        send(MouseMessage(buttons: all))
    }

    private func send(_ message: MouseMessage) { live.push(source: mouse.rawValue, bytes: message.bytes) }

    func press(_ button: Channel) { live.push(source: button.rawValue, bytes: [1]) }
}
