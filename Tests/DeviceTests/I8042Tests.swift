import DeviceBus
import Devices
import Testing

struct I8042Tests {
    let board = FakeBoard()
    let chip: I8042

    init() {
        chip = board.add(
            I8042(keyboardIRQ: board.line(1), mouseIRQ: board.line(12), scheduler: board.scheduler, pins: board))
    }

    /// All that comes out, oldest first.
    func drain(_ limit: Int = 64) -> [UInt8] {
        var bytes: [UInt8] = []
        for _ in 0..<limit {
            // Two bytes on the wire: a release is F0 and the code, and translation makes one byte of them.
            board.advance(1_500_000)
            guard board.in(0x64) & 1 != 0 else { break }
            bytes.append(UInt8(board.in(0x60)))
        }
        return bytes
    }
    func press(_ name: String) { chip.keyboardReceiver.receive(KeyMessage.stroke(KeyCode.combination(name)!)) }
    func mouse(_ bytes: UInt64...) -> [UInt8] {
        for byte in bytes {
            board.out(0x64, 0xD4)
            board.out(0x60, byte)
        }
        return drain()
    }

    @Test func selfTestAndControllerRAM() {
        board.out(0x64, 0xAA)
        #expect(board.in(0x60) == 0x55)
        board.out(0x64, 0x6A)
        board.out(0x60, 0x99)
        board.out(0x64, 0x2A)
        #expect(board.in(0x60) == 0x99)
        board.out(0x64, 0x60)
        board.out(0x60, 0x65)
        board.out(0x64, 0x20)
        #expect(board.in(0x60) == 0x65)
    }

    @Test func keysAreTranslated() {
        press("a")
        #expect(drain() == [0x1E, 0x9E])
        press("ctrl-alt-delete")
        #expect(drain() == [0x1D, 0x38, 0xE0, 0x53, 0xE0, 0xD3, 0xB8, 0x9D])
        press("f7")
        #expect(drain() == [0x41, 0xC1])
        press("pause")
        #expect(drain() == [0xE1, 0x1D, 0x45, 0xE1, 0x9D, 0xC5])
        #expect(board.edges[1] == 2 + 8 + 2 + 6)
    }

    /// The last key that is down repeats: half a second after it went down, then about eleven times a second, as the
    /// keyboard is set up at first; faster when it is told so.
    @Test func heldKeysRepeat() {
        let a = KeyCode.combination("a")!
        let b = KeyCode.combination("b")!
        func count(_ milliseconds: Int) -> [UInt8] {
            var bytes: [UInt8] = []
            for _ in 0..<milliseconds {
                board.advance(1_000_000)
                if board.in(0x64) & 1 != 0 { bytes.append(UInt8(board.in(0x60))) }
            }
            return bytes
        }
        chip.keyboardReceiver.receive(KeyMessage(a[0]).bytes)
        #expect(count(490) == [0x1E])
        #expect(count(20) == [0x1E])
        #expect((10...11).contains(count(1000).count))
        // The host repeats keys too: once is enough.
        chip.keyboardReceiver.receive(KeyMessage(a[0]).bytes)
        #expect(count(50).count <= 1)
        chip.keyboardReceiver.receive(KeyMessage(b[0]).bytes)
        #expect(count(490) == [0x30])
        chip.keyboardReceiver.receive(KeyMessage(a[0], isRelease: true).bytes)
        #expect(count(5) == [0x9E])
        #expect(count(100).allSatisfy { $0 == 0x30 })
        chip.keyboardReceiver.receive(KeyMessage(b[0], isRelease: true).bytes)
        #expect(count(2000).last == 0xB0)
        #expect(count(2000) == [])
        // 30 a second after a quarter of a second.
        board.out(0x60, 0xF3)
        #expect(drain() == [0xFA])
        board.out(0x60, 0x00)
        #expect(drain() == [0xFA])
        chip.keyboardReceiver.receive(KeyMessage(a[0]).bytes)
        #expect((29...32).contains(count(1250).count))
        // Nobody reads for a while: what was held then does not come in a heap.
        board.advance(3_000_000_000)
        chip.keyboardReceiver.receive(KeyMessage(a[0], isRelease: true).bytes)
        #expect(count(100).count <= 4)
    }

    @Test func keysUntranslated() {
        board.out(0x64, 0x60)
        board.out(0x60, 0x05)
        press("a")
        #expect(drain() == [0x1C, 0xF0, 0x1C])
        press("right")
        #expect(drain() == [0xE0, 0x74, 0xE0, 0xF0, 0x74])
        board.out(0x60, 0xF0)
        #expect(drain() == [0xFA])
        board.out(0x60, 0x01)
        #expect(drain() == [0xFA])
        press("right")
        #expect(drain() == [0xE0, 0x4D, 0xE0, 0xCD])
    }

    /// Each key's set 2 code becomes its set 1 code when the controller translates.
    @Test func bothSetsAgree() {
        for number in UInt8(1)...127 {
            let key = KeyCode(rawValue: number)
            for release in [false, true] where key != .pause {
                var isBreak: UInt8 = 0
                var translated: [UInt8] = []
                for byte in key.scanCodeSet2(release: release) {
                    if byte == 0xF0 {
                        isBreak = 0x80
                    } else {
                        translated.append(ScanCodeTranslation.set1(ofSet2: byte) | isBreak)
                        isBreak = 0
                    }
                }
                #expect(translated == key.scanCodeSet1(release: release), "key \(number)")
            }
        }
    }

    @Test func knownScanCodesOfSet2() {
        // From the IBM table: key names and make codes.
        let known: [(String, [UInt8])] = [
            ("esc", [0x76]), ("1", [0x16]), ("q", [0x15]), ("ret", [0x5A]), ("spc", [0x29]), ("shift", [0x12]),
            ("shift_r", [0x59]), ("ctrl", [0x14]), ("alt", [0x11]), ("f1", [0x05]), ("f12", [0x07]),
            ("kp_enter", [0xE0, 0x5A]), ("kp_add", [0x79]), ("num_lock", [0x77]), ("backspace", [0x66]),
            ("up", [0xE0, 0x75]), ("delete", [0xE0, 0x71]), ("meta_l", [0xE0, 0x1F]), ("f7", [0x83]),
            ("print", [0xE0, 0x12, 0xE0, 0x7C]), ("less", [0x61]),
        ]
        for (name, codes) in known { #expect(KeyCode(name: name)?.scanCodeSet2(release: false) == codes, "\(name)") }
    }

    @Test func keyNames() {
        #expect(KeyCode.combination("ctrl-alt-delete")?.map(\.rawValue) == [29, 56, 111])
        #expect(KeyCode.combination("ret")?.map(\.rawValue) == [28])
        #expect(KeyCode.combination("ctrl-nonsense") == nil)
        #expect(KeyCode.combination("") == nil)
        for number in UInt8(1)...127 {
            if let name = KeyCode(rawValue: number).name { #expect(KeyCode(name: name)?.rawValue == number) }
        }
        #expect(KeyCode.typing("A")?.map(\.rawValue) == [42, 30])
        #expect(KeyCode.typing("~")?.map(\.rawValue) == [42, 41])
        #expect(KeyCode.typing("\n")?.map(\.rawValue) == [28])
        #expect(KeyCode.typing("é") == nil)
        let expected: [(Character, String)] = [
            ("a", "a"), ("z", "z"), ("0", "0"), ("-", "minus"), ("\t", "tab"), ("[", "bracket_left"),
            ("'", "apostrophe"),
            ("\\", "backslash"), ("/", "slash"), (" ", "spc"), (";", "semicolon"), ("`", "grave_accent"), (".", "dot"),
        ]
        for (character, name) in expected { #expect(KeyCode.typing(character)?.last?.name == name) }
    }

    @Test func keyboardCommands() {
        board.out(0x60, 0xFF)
        #expect(drain() == [0xFA, 0xAA])
        board.out(0x60, 0xF2)
        #expect(drain() == [0xFA, 0xAB, 0x41], "the identifier is translated too")
        board.out(0x60, 0xED)
        #expect(drain() == [0xFA])
        board.out(0x60, 0x07)
        #expect(drain() == [0xFA])
        #expect(chip.state.keyboard.lamps == 7)
        board.out(0x60, 0xEE)
        #expect(drain() == [0xEE])
        board.out(0x60, 0xF5)
        #expect(drain() == [0xFA])
        press("a")
        #expect(drain() == [])
        board.out(0x60, 0xF4)
        #expect(drain() == [0xFA])
        press("a")
        #expect(drain() == [0x1E, 0x9E])
    }

    @Test func dataStaysReadableUntilTheNextByte() {
        press("a")
        board.advance(1_000_000)
        #expect(board.levels[1])
        #expect(board.in(0x60) == 0x1E)
        #expect(!board.levels[1])
        #expect(board.in(0x60) == 0x1E)
        board.advance(1_000_000)
        board.advance(1_000_000)
        #expect(board.in(0x60) == 0x9E)
    }

    @Test func disabledPortsHoldTheirBytes() {
        board.out(0x64, 0xAD)
        press("a")
        #expect(drain() == [])
        board.out(0x64, 0xAE)
        #expect(drain() == [0x1E, 0x9E])
    }

    @Test func a20AndReset() {
        board.out(0x64, 0xD1)
        board.out(0x60, 0xDD)
        #expect(!board.a20)
        board.out(0x64, 0xD0)
        #expect(board.in(0x60) & 3 == 1)
        board.out(0x64, 0xDF)
        #expect(board.a20)
        board.out(0x64, 0xFE)
        #expect(board.resets == 1)
        board.out(0x64, 0xFF)
        #expect(board.resets == 1)
    }

    @Test func mouseIdentifiesAndReports() {
        #expect(mouse(0xFF) == [0xFA, 0xAA, 0x00])
        #expect(mouse(0xF2) == [0xFA, 0x00])
        #expect(mouse(0xF3, 200, 0xF3, 100, 0xF3, 80, 0xF2) == [0xFA, 0xFA, 0xFA, 0xFA, 0xFA, 0xFA, 0xFA, 0x03])
        chip.mouseReceiver.receive(MouseMessage(dx: 5).bytes)
        #expect(drain() == [], "reports are off")
        #expect(mouse(0xF4) == [0xFA])
        chip.mouseReceiver.receive(MouseMessage(dx: 10, dy: 3, dz: -1, buttons: 1).bytes)
        #expect(drain() == [0x08 | 0x20 | 0x01, 10, 0xFD, 0xFF])
        chip.mouseReceiver.receive(MouseMessage(dx: -300, buttons: 1).bytes)
        #expect(drain() == [0x19, 0x01, 0, 0, 0x19, UInt8(256 - 45), 0, 0])
        #expect(board.edges[12] > 10)
        #expect(mouse(0xE9) == [0xFA, 0x24, 2, 80])
    }

    @Test func clickWithinOneReadIsNotLost() {
        _ = mouse(0xF4)
        chip.mouseReceiver.receive(MouseMessage(buttons: 2).bytes + MouseMessage(buttons: 0).bytes)
        #expect(drain() == [0x0A, 0, 0, 0x08, 0, 0])
    }

    @Test func auxiliaryLoopback() {
        board.out(0x64, 0xD3)
        board.out(0x60, 0x5A)
        #expect(board.in(0x64) & 0x21 == 0x21)
        #expect(board.levels[12])
        #expect(board.in(0x60) == 0x5A)
    }
}
