import Boundary
import Devices
import Machine
import Synchronization

/// Keys and the mouse of the host, as inputs of the machine: what windows, VNC clients, the monitor and scripts share.
final class HostInput: Sendable {
    private let live: LiveBoundary
    private let buttons = Mutex<UInt8>(0)

    init(_ live: LiveBoundary) { self.live = live }

    func key(_ key: KeyCode, isRelease: Bool) {
        live.push(source: Channel.keyboard.rawValue, bytes: KeyMessage(key, isRelease: isRelease).bytes)
    }

    /// Presses keys in order and releases them in the opposite order.
    func stroke(_ keys: [KeyCode]) { live.push(source: Channel.keyboard.rawValue, bytes: KeyMessage.stroke(keys)) }

    /// - Parameters:
    ///   - dx: to the right; dy: down; dz: the wheel, towards the user.
    func moveMouse(dx: Int, dy: Int, dz: Int = 0) {
        let buttons = buttons.withLock { $0 }
        send(MouseMessage(dx: Int16(clamping: dx), dy: Int16(clamping: dy), dz: Int8(clamping: dz), buttons: buttons))
    }

    /// - Parameter buttons: bit 0 left, bit 1 right, bit 2 middle: those that are down.
    func setButtons(_ buttons: UInt8) {
        self.buttons.withLock { $0 = buttons }
        send(MouseMessage(buttons: buttons))
    }

    /// - Parameter bit: one of the bits of `setButtons`.
    func setButton(_ bit: UInt8, isDown: Bool) {
        let all = buttons.withLock { buttons -> UInt8 in
            buttons = isDown ? buttons | bit : buttons & ~bit
            return buttons
        }
        send(MouseMessage(buttons: all))
    }

    private func send(_ message: MouseMessage) { live.push(source: Channel.mouse.rawValue, bytes: message.bytes) }

    func press(_ button: Channel) { live.push(source: button.rawValue, bytes: [1]) }
}
