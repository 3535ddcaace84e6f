import Devices

/// Keys of the host as keys of the guest.
enum HostKeys {
    /// X11 key symbols that are no characters.
    private static let symbols: [UInt32: String] = [
        0xFF08: "backspace", 0xFF09: "tab", 0xFF0D: "ret", 0xFF13: "pause", 0xFF14: "scroll_lock", 0xFF1B: "esc",
        0xFF50: "home", 0xFF51: "left", 0xFF52: "up", 0xFF53: "right", 0xFF54: "down", 0xFF55: "pgup", 0xFF56: "pgdn",
        0xFF57: "end", 0xFF61: "print", 0xFF63: "insert", 0xFF67: "menu", 0xFF7F: "num_lock", 0xFF8D: "kp_enter",
        0xFFAA: "kp_multiply", 0xFFAB: "kp_add", 0xFFAD: "kp_subtract", 0xFFAF: "kp_divide", 0xFFE1: "shift",
        0xFFE2: "shift_r", 0xFFE3: "ctrl", 0xFFE4: "ctrl_r", 0xFFE5: "caps_lock", 0xFFE9: "alt", 0xFFEA: "alt_r",
        0xFFE7: "meta_l", 0xFFE8: "meta_r", 0xFFEB: "meta_l", 0xFFEC: "meta_r", 0xFE03: "alt_r", 0xFFFF: "delete",
        0xFE20: "tab",
    ]

    /// The key that an X11 key symbol is on, on a US keyboard; nil for one that it does not have.
    static func key(symbol: UInt32) -> KeyCode? {
        if let name = symbols[symbol] { return KeyCode(name: name) }
        if (0xFFBE...0xFFC9).contains(symbol) { return KeyCode(name: "f\(symbol - 0xFFBE + 1)") }
        guard (0x20...0x7E).contains(symbol), let scalar = Unicode.Scalar(symbol) else { return nil }
        // The client presses shift by itself.
        return KeyCode.typing(Character(scalar))?.last
    }

    /// Linux's key codes of the USB HID usages 4...0x65 (keyboard page), which SDL's scan codes are.
    private static let usages: [UInt8] = [
        30, 48, 46, 32, 18, 33, 34, 35, 23, 36, 37, 38, 50, 49, 24, 25, 16, 19, 31, 20, 22, 47, 17, 45, 21, 44, 2, 3, 4,
        5, 6, 7, 8, 9, 10, 11, 28, 1, 14, 15, 57, 12, 13, 26, 27, 43, 43, 39, 40, 41, 51, 52, 53, 58, 59, 60, 61, 62, 63,
        64, 65, 66, 67, 68, 87, 88, 99, 70, 119, 110, 102, 104, 111, 107, 109, 106, 105, 108, 103, 69, 98, 55, 74, 78, 96,
        79, 80, 81, 75, 76, 77, 71, 72, 73, 82, 83, 86, 127,
    ]
    /// Usages 0xE0...0xE7: control, shift, alt, meta; left, then right.
    private static let modifiers: [UInt8] = [29, 42, 56, 125, 97, 54, 100, 126]

    static func key(usage: Int) -> KeyCode? {
        if usages.indices.contains(usage - 4) { return KeyCode(rawValue: usages[usage - 4]) }
        if modifiers.indices.contains(usage - 0xE0) { return KeyCode(rawValue: modifiers[usage - 0xE0]) }
        return nil
    }
}
