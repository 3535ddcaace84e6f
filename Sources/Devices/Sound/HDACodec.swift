import MachineState

/// A codec at an HDA link (High Definition Audio Specification 1.0a, chapter 7): one audio function group with a converter and a jack
/// for each direction. 16 bits, two channels, 44.1 or 48 kHz. What its amplifiers are set to is kept and not applied; its jacks do not
/// say whether something is plugged in.
package struct HDACodec {
    /// The nodes (7.1). Each widget has its place in arrays at `identifier - AFG`.
    enum Node {
        static let root = 0, group = 1, output = 2, input = 3, lineOut = 4, microphone = 5
        static let count = 6
    }

    /// A converter: DAC or ADC.
    package struct Converter {
        /// The stream's number in bits 7 to 4 (0: none), its first channel below (7.3.3.11).
        package var stream: UInt8 = 0
        /// As `HDAFormat` has it.
        package var format: UInt16 = 0
        /// Amplifier, left and right: bit 7 mute, 6 to 0 gain (7.3.3.7).
        package var left: UInt8
        package var right: UInt8

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("stream", &stream)
            visitor.field("format", &format)
            visitor.field("left", &left)
            visitor.field("right", &right)
        }
    }
    /// A jack.
    package struct Pin {
        /// 7.3.3.13
        package var control: UInt8 = 0
        /// What firmware says about the jack (7.3.3.31). Not changed by a reset of the function group.
        package var configuration: UInt32

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("control", &control)
            visitor.field("configuration", &configuration)
        }
    }

    package var output = Converter(left: HDACodec.zeroDecibels, right: HDACodec.zeroDecibels)
    package var input = Converter(left: 0x80, right: 0x80)
    /// A line out at the rear, green.
    package var lineOut = Pin(configuration: 0x0101_4110)
    /// A microphone at the rear, pink.
    package var microphone = Pin(configuration: 0x01A1_9120)
    /// Power states of the function group and of the widgets, by node (7.3.3.10).
    package var power = [UInt8](repeating: 0, count: Node.count)
    /// The function group's subsystem, which firmware may write.
    package var subsystem: UInt32 = HDACodec.vendor

    package init() {}

    package mutating func visit(_ visitor: inout StateVisitor) {
        visitor.group("output") { output.visit(&$0) }
        visitor.group("input") { input.visit(&$0) }
        visitor.group("lineOut") { lineOut.visit(&$0) }
        visitor.group("microphone") { microphone.visit(&$0) }
        visitor.field("power", &power)
        visitor.field("subsystem", &subsystem)
        if visitor.mode == .load, power.count != Node.count {
            visitor.fail("a codec of another size")
            self = HDACodec()
        }
    }

    /// A codec that no driver knows by name: generic ones read what it says of itself.
    private static let vendor: UInt32 = 0x1AF4_0022
    /// The amplifiers' step that changes nothing; also their last one.
    private static let zeroDecibels: UInt8 = 0x4A
    /// Steps of 1 dB, with mute (7.3.4.10).
    private static let amplifier: UInt32 = 0x8003_4A4A
    /// 44.1 and 48 kHz, 16 bits (7.3.4.7).
    private static let rates: UInt32 = 0x0002_0060

    /// Bits of a widget's capabilities (7.3.4.6).
    private enum Widget {
        static let isStereo: UInt32 = 1 << 0
        static let inAmplifier: UInt32 = 1 << 1
        static let outAmplifier: UInt32 = 1 << 2
        static let ownAmplifier: UInt32 = 1 << 3
        static let ownFormat: UInt32 = 1 << 4
        static let connection: UInt32 = 1 << 8
        static let power: UInt32 = 1 << 10
        static let input: UInt32 = 1 << 20
        static let pin: UInt32 = 4 << 20
    }

    // MARK: Verbs

    /// Carries out a command: bits 27 to 20 the node, 19 to 0 the verb and its value. The answer; 0 to what it does not know (7.3).
    package mutating func carryOut(_ command: UInt32) -> UInt32 {
        let node = Int(command >> 20 & 0xFF)
        guard node < Node.count else { return 0 }
        switch command >> 16 & 0xF {
        case 0x2:
            changeConverter(node) { $0.format = UInt16(truncatingIfNeeded: command) }
            return 0
        case 0x3:
            setAmplifier(node, command & 0xFFFF)
            return 0
        case 0xA: return UInt32(converter(node)?.format ?? 0)
        case 0xB: return amplifier(node, command & 0xFFFF)
        case 0x7:
            set(node, Int(command >> 8 & 0xFF), UInt8(truncatingIfNeeded: command))
            return 0
        case 0xF: return get(node, Int(command >> 8 & 0xFF), Int(command & 0xFF))
        default: return 0
        }
    }

    private func converter(_ node: Int) -> Converter? { node == Node.output ? output : node == Node.input ? input : nil }
    private mutating func changeConverter(_ node: Int, _ change: (inout Converter) -> Void) {
        if node == Node.output { change(&output) } else if node == Node.input { change(&input) }
    }
    private func pin(_ node: Int) -> Pin? { node == Node.lineOut ? lineOut : node == Node.microphone ? microphone : nil }
    private mutating func changePin(_ node: Int, _ change: (inout Pin) -> Void) {
        if node == Node.lineOut { change(&lineOut) } else if node == Node.microphone { change(&microphone) }
    }

    /// The DAC has its amplifier behind it, the ADC has it in front.
    private mutating func setAmplifier(_ node: Int, _ value: UInt32) {
        let direction: UInt32 = node == Node.output ? 0x8000 : 0x4000
        if value & direction == 0 { return }
        changeConverter(node) { converter in
            if value & 0x2000 != 0 { converter.left = UInt8(truncatingIfNeeded: value) }
            if value & 0x1000 != 0 { converter.right = UInt8(truncatingIfNeeded: value) }
        }
    }

    private func amplifier(_ node: Int, _ value: UInt32) -> UInt32 {
        guard let converter = converter(node), (value & 0x8000 != 0) == (node == Node.output) else { return 0 }
        return UInt32(value & 0x2000 != 0 ? converter.left : converter.right)
    }

    private mutating func set(_ node: Int, _ verb: Int, _ value: UInt8) {
        switch verb {
        case 0x05: if node != Node.root { power[node] = value & 0xF }
        case 0x06: changeConverter(node) { $0.stream = value }
        case 0x07: changePin(node) { $0.control = value & 0xE7 }
        case 0x1C...0x1F:
            let place = UInt32(verb - 0x1C) * 8
            changePin(node) { $0.configuration = $0.configuration & ~(0xFF << place) | UInt32(value) << place }
        case 0x20...0x23:
            let place = UInt32(verb - 0x20) * 8
            if node == Node.group { subsystem = subsystem & ~(0xFF << place) | UInt32(value) << place }
        case 0xFF: if node == Node.group { reset() }
        default: break
        }
    }

    /// A reset of the function group or the link. What firmware has written about jacks and board stays.
    package mutating func reset() {
        var new = HDACodec()
        new.lineOut.configuration = lineOut.configuration
        new.microphone.configuration = microphone.configuration
        new.subsystem = subsystem
        self = new
    }

    private func get(_ node: Int, _ verb: Int, _ value: Int) -> UInt32 {
        switch verb {
        case 0x00: return parameter(node, value)
        // The one entry of the connection list.
        case 0x02: return value == 0 ? UInt32(source(node) ?? 0) : 0
        // What was set, and that it is so.
        case 0x05: return UInt32(power[node]) * 0x11
        case 0x06: return UInt32(converter(node)?.stream ?? 0)
        case 0x07: return UInt32(pin(node)?.control ?? 0)
        case 0x1C: return pin(node)?.configuration ?? 0
        case 0x20: return node == Node.group ? subsystem : 0
        default: return 0
        }
    }

    /// The node whose sound a widget gets.
    private func source(_ node: Int) -> Int? { node == Node.input ? Node.microphone : node == Node.lineOut ? Node.output : nil }

    /// 7.3.4
    private func parameter(_ node: Int, _ parameter: Int) -> UInt32 {
        switch (node, parameter) {
        case (Node.root, 0x00): return Self.vendor
        case (Node.root, 0x02): return 0x0010_0100
        // First node below, and how many.
        case (Node.root, 0x04): return UInt32(Node.group) << 16 | 1
        case (Node.group, 0x04): return UInt32(Node.output) << 16 | UInt32(Node.count - Node.output)
        // An audio function group.
        case (Node.group, 0x05): return 1
        case (Node.group, 0x0A), (Node.output, 0x0A), (Node.input, 0x0A): return Self.rates
        // PCM.
        case (Node.group, 0x0B), (Node.output, 0x0B), (Node.input, 0x0B): return 1
        // D0 to D3.
        case (Node.group, 0x0F): return 0xF
        case (Node.output, 0x09): return Widget.isStereo | Widget.outAmplifier | Widget.ownAmplifier | Widget.ownFormat | Widget.power
        case (Node.input, 0x09):
            return Widget.input | Widget.isStereo | Widget.inAmplifier | Widget.ownAmplifier | Widget.ownFormat | Widget.connection
                | Widget.power
        case (Node.lineOut, 0x09): return Widget.pin | Widget.isStereo | Widget.connection | Widget.power
        case (Node.microphone, 0x09): return Widget.pin | Widget.isStereo | Widget.power
        // A pin can put out, or take in.
        case (Node.lineOut, 0x0C): return 0x10
        case (Node.microphone, 0x0C): return 0x20
        case (Node.input, 0x0D), (Node.output, 0x12): return Self.amplifier
        case (Node.input, 0x0E), (Node.lineOut, 0x0E): return 1
        default: return 0
        }
    }
}
