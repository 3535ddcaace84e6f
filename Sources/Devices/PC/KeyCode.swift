/// A key of a PC keyboard. The numbers are those of Linux's input events (`input-event-codes.h`), 1...127.
package struct KeyCode: RawRepresentable, Sendable, Hashable {
    package var rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }

    package static let printScreen = KeyCode(rawValue: 99)
    package static let pause = KeyCode(rawValue: 119)

    /// The key that QEMU's `sendkey` knows under `name`: "a", "ret", "ctrl", "kp_enter"; nil when there is none.
    package init?(name: String) {
        guard let row = Self.table.first(where: { $0.names.contains(name) }) else { return nil }
        rawValue = row.code
    }

    /// The first of its names, or nil for a code without a key.
    package var name: String? { Self.table.first { $0.code == rawValue }?.names.first }

    /// A combination such as "ctrl-alt-delete", in the order in which the keys go down. A minus itself is "minus".
    /// Nil when one of the names is unknown.
    package static func combination(_ text: String) -> [KeyCode]? {
        let names = text.split(separator: "-", omittingEmptySubsequences: false)
        let keys = names.compactMap { KeyCode(name: String($0)) }
        return keys.count == names.count ? keys : nil
    }

    /// The keys that type `character` on a US keyboard, shift first; nil when it has no key.
    package static func typing(_ character: Character) -> [KeyCode]? {
        let plain = "1234567890-=\tqwertyuiop[]\nasdfghjkl;'`\\zxcvbnm,./ \u{8}\u{1B}"
        let shifted = "!@#$%^&*()_+\0QWERTYUIOP{}\0ASDFGHJKL:\"~|ZXCVBNM<>?\0\0\0"
        let codes: [UInt8] = Array(2...13) + Array(15...28) + Array(30...41) + Array(43...53) + [57, 14, 1]
        if let index = Array(plain).firstIndex(of: character) { return [KeyCode(rawValue: codes[index])] }
        if character != "\0", let index = Array(shifted).firstIndex(of: character) {
            return [KeyCode(rawValue: 42), KeyCode(rawValue: codes[index])]
        }
        return nil
    }

    // MARK: Scan codes

    /// The bytes a keyboard in scan code set 1 sends. Empty for an unknown key, and when `pause` is released.
    package func scanCodeSet1(release: Bool) -> [UInt8] {
        if self == Self.pause { return release ? [] : [0xE1, 0x1D, 0x45, 0xE1, 0x9D, 0xC5] }
        if self == Self.printScreen { return release ? [0xE0, 0xB7, 0xE0, 0xAA] : [0xE0, 0x2A, 0xE0, 0x37] }
        guard let row = Self.table.first(where: { $0.code == rawValue }) else { return [] }
        let code = UInt8(row.set1 & 0x7F) | (release ? 0x80 : 0)
        return row.set1 > 0xFF ? [0xE0, code] : [code]
    }

    /// The bytes a keyboard in scan code set 2 sends.
    package func scanCodeSet2(release: Bool) -> [UInt8] {
        if self == Self.pause { return release ? [] : [0xE1, 0x14, 0x77, 0xE1, 0xF0, 0x14, 0xF0, 0x77] }
        if self == Self.printScreen {
            return release ? [0xE0, 0xF0, 0x7C, 0xE0, 0xF0, 0x12] : [0xE0, 0x12, 0xE0, 0x7C]
        }
        guard let row = Self.table.first(where: { $0.code == rawValue }) else { return [] }
        let code = ScanCodeTranslation.set2(ofSet1: UInt8(row.set1 & 0x7F))
        return (row.set1 > 0xFF ? [0xE0] : []) + (release ? [0xF0] : []) + [code]
    }

    // MARK: The table

    private struct Row {
        let code: UInt8
        /// Scan code set 1, with 0xE000 added where the prefix E0 belongs.
        let set1: UInt16
        let names: [String]
    }

    /// Keys 1...83 have the scan code that is their number; the others are given with theirs.
    private static let table: [Row] = {
        let main =
            """
            esc 1 2 3 4 5 6 7 8 9 0 minus equal backspace tab q w e r t y u i o p bracket_left bracket_right ret ctrl \
            a s d f g h j k l semicolon apostrophe grave_accent shift backslash z x c v b n m comma dot slash shift_r \
            kp_multiply alt spc caps_lock f1 f2 f3 f4 f5 f6 f7 f8 f9 f10 num_lock scroll_lock kp_7 kp_8 kp_9 \
            kp_subtract kp_4 kp_5 kp_6 kp_add kp_1 kp_2 kp_3 kp_0 kp_decimal
            """
        let aliases: [String: [String]] = [
            "kp_multiply": ["asterisk"], "esc": ["escape"], "ret": ["enter"], "spc": ["space"], "ctrl": ["ctrl_l"],
            "shift": ["shift_l"], "alt": ["alt_l"], "dot": ["period"], "grave_accent": ["grave"],
        ]
        var rows = main.split(separator: " ").enumerated().map { index, name in
            Row(code: UInt8(index + 1), set1: UInt16(index + 1), names: [String(name)] + (aliases[String(name)] ?? []))
        }
        func row(_ code: UInt8, _ set1: UInt16, _ names: String...) {
            rows.append(Row(code: code, set1: set1, names: names))
        }
        // swift-format-ignore
        do {
            row(86, 0x56, "less");                 row(87, 0x57, "f11")
            row(88, 0x58, "f12");                  row(89, 0x73, "ro")
            row(92, 0x79, "henkan");               row(93, 0x70, "hiragana")
            row(94, 0x7B, "muhenkan");             row(95, 0x5C, "kp_comma_jp")
            row(96, 0xE01C, "kp_enter");           row(97, 0xE01D, "ctrl_r")
            row(98, 0xE035, "kp_divide");          row(99, 0xE037, "print", "sysrq")
            row(100, 0xE038, "alt_r", "altgr");    row(102, 0xE047, "home")
            row(103, 0xE048, "up");                row(104, 0xE049, "pgup")
            row(105, 0xE04B, "left");              row(106, 0xE04D, "right")
            row(107, 0xE04F, "end");               row(108, 0xE050, "down")
            row(109, 0xE051, "pgdn");              row(110, 0xE052, "insert")
            row(111, 0xE053, "delete");            row(113, 0xE020, "audiomute")
            row(114, 0xE02E, "volumedown");        row(115, 0xE030, "volumeup")
            row(116, 0xE05E, "power");             row(117, 0x59, "kp_equals")
            row(119, 0xE046, "pause");             row(121, 0x7E, "kp_comma")
            row(124, 0x7D, "yen");                 row(125, 0xE05B, "meta_l")
            row(126, 0xE05C, "meta_r");            row(127, 0xE05D, "menu", "compose")
        }
        return rows
    }()
}
