import DeviceBus
import MachineState

/// IBM VGA (PS/2 Hardware Interface Technical Reference, "Video subsystem"): sequencer, CRT controller, graphics
/// controller, attribute controller, DAC and 256 KiB of memory in four planes; and the extension of the Bochs VBE
/// interface ("DISPI") with 16 MiB of memory.
///
/// After a reset it is in text mode 3, as its firmware leaves it. It has no clock of its own: where the beam is
/// follows from virtual time. This file has state and ports; `VGA+Memory.swift` has the planes, `VGA+DISPI.swift` the
/// extension; `VGA+Text.swift` and `VGA+Picture.swift` read the screen.
package final class VGA: Device {
    /// Everything the guest can observe.
    package struct State {
        package var miscOutput = VGADefaults.miscOutput
        package var featureControl: UInt8 = 0
        /// Port 0x3C3 bit 0: the adapter answers.
        package var isEnabled = true
        package var sequencerIndex: UInt8 = 0
        package var sequencer = VGADefaults.sequencer
        package var graphicsIndex: UInt8 = 0
        package var graphics = VGADefaults.graphics
        package var crtIndex: UInt8 = 0
        package var crt = VGADefaults.crtController
        /// Index in bits 4...0; bit 5: the display is on, and the palette is not accessible.
        package var attributeIndex: UInt8 = 0x20
        package var attribute = VGADefaults.attribute
        /// The next write to 0x3C0 is data.
        package var attributeFlipFlop = false
        package var dacMask: UInt8 = 0xFF
        /// The entry being read, and which of its three bytes.
        package var dacReadIndex: UInt8 = 0
        package var dacReadLane: UInt8 = 0
        package var dacWriteIndex: UInt8 = 0
        package var dacWriteLane: UInt8 = 0
        /// The bytes of an entry that is not complete yet.
        package var dacPending = [UInt8](repeating: 0, count: 3)
        /// The last access set the read index: port 0x3C7 reads 3.
        package var dacIsReading = false
        /// 256 entries of red, green and blue, 6 bits each.
        package var dac = VGADefaults.palette
        /// What the last memory read left in the four latches, plane 0 in the low byte.
        package var latches: UInt32 = 0
        package var dispi = VGADispi()

        package init() {}

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("miscOutput", &miscOutput)
            visitor.field("featureControl", &featureControl)
            visitor.field("isEnabled", &isEnabled)
            visitor.field("sequencerIndex", &sequencerIndex)
            visitor.field("sequencer", &sequencer)
            visitor.field("graphicsIndex", &graphicsIndex)
            visitor.field("graphics", &graphics)
            visitor.field("crtIndex", &crtIndex)
            visitor.field("crt", &crt)
            visitor.field("attributeIndex", &attributeIndex)
            visitor.field("attribute", &attribute)
            visitor.field("attributeFlipFlop", &attributeFlipFlop)
            visitor.field("dacMask", &dacMask)
            visitor.field("dacReadIndex", &dacReadIndex)
            visitor.field("dacReadLane", &dacReadLane)
            visitor.field("dacWriteIndex", &dacWriteIndex)
            visitor.field("dacWriteLane", &dacWriteLane)
            visitor.field("dacPending", &dacPending)
            visitor.field("dacIsReading", &dacIsReading)
            visitor.field("dac", &dac)
            visitor.field("latches", &latches)
            visitor.group("dispi") { dispi.visit(&$0) }
            if visitor.mode == .load {
                let counts = [sequencer, graphics, crt, attribute, dacPending, dac].map(\.count)
                if counts != [8, 16, 32, 32, 3, 768] || dacReadLane > 2 || dacWriteLane > 2 {
                    visitor.fail("not the registers of a VGA")
                    self = State()
                }
            }
        }
    }

    /// Bytes of video memory.
    package static let memorySize = 16 << 20

    package let name = "vga"
    package let regions: [Region] = [
        Region(.memory, base: 0xA_0000, size: 0x2_0000),
        Region(
            .port, base: 0x3B0, size: 0x30,
            registers: [
                RegisterName(0x04, "CRTC-INDEX(mono)"), RegisterName(0x05, "CRTC-DATA(mono)"),
                RegisterName(0x0A, "STATUS-1(mono)"), RegisterName(0x10, "ATTR-INDEX/DATA"),
                RegisterName(0x11, "ATTR-DATA"),
                RegisterName(0x12, "STATUS-0/MISC", fields: "-:4 SENSE -:2 CRTINT", written: "COLOUR RAM CLOCK:2 - PAGE HPOL VPOL"),
                RegisterName(0x13, "VGA-ENABLE"),
                RegisterName(0x14, "SEQ-INDEX"), RegisterName(0x15, "SEQ-DATA"), RegisterName(0x16, "DAC-MASK"),
                RegisterName(0x17, "DAC-STATE/READ-INDEX"), RegisterName(0x18, "DAC-WRITE-INDEX"),
                RegisterName(0x19, "DAC-DATA"), RegisterName(0x1A, "FEATURE"), RegisterName(0x1C, "MISC"),
                RegisterName(0x1E, "GFX-INDEX"), RegisterName(0x1F, "GFX-DATA"), RegisterName(0x24, "CRTC-INDEX"),
                RegisterName(0x25, "CRTC-DATA"),
                RegisterName(0x2A, "STATUS-1/FEATURE", fields: "DISABLED -:2 VRETRACE", written: ""),
            ]),
        Region(
            .port, base: 0x1CE, size: 4,
            registers: [RegisterName(0, "DISPI-INDEX"), RegisterName(1, "DISPI-DATA"), RegisterName(2, "DISPI-DATA(2)")]),
    ]
    package internal(set) var state = State()
    let memory: VideoMemory
    private let scheduler: Scheduler

    /// - Parameter memory: nil for memory of its own.
    package init(scheduler: Scheduler, memory: VideoMemory? = nil) {
        self.scheduler = scheduler
        self.memory = memory ?? VideoMemory(count: Self.memorySize)
        self.memory.clear()
    }

    package func visitState(_ visitor: inout StateVisitor) {
        state.visit(&visitor)
        if memory.isOwn {
            visitor.memory("memory", UnsafeMutableRawBufferPointer(start: memory.bytes, count: memory.count))
        }
    }
    package func reset() {
        state = State()
        memory.clear()
    }
    package func timerFired(_ timer: Int) {}

    package func read(region: Int, offset: UInt64, width: Int) -> UInt64 {
        if region == 0 {
            if let place = linearPlace(offset) { return ByteLanes.read(0, width) { memory.load(place + Int($0), as: UInt8.self) } }
            return ByteLanes.read(offset, width) { readMemory($0) }
        }
        if region == 2 { return UInt64(readDispi(offset)) }
        return ByteLanes.read(offset, width) { readPort(0x3B0 + UInt16($0 & 0x3F)) }
    }

    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {
        if region == 0 {
            if let place = linearPlace(offset) {
                ByteLanes.write(0, width, value) { memory.store($1, at: place + Int($0), as: UInt8.self) }
            } else {
                ByteLanes.write(offset, width, value) { writeMemory($0, $1) }
            }
        } else if region == 2 {
            if width == 2 { writeDispi(offset, UInt16(truncatingIfNeeded: value)) }
        } else {
            ByteLanes.write(offset, width, value) { writePort(0x3B0 + UInt16($0 & 0x3F), $1) }
        }
    }

    // MARK: Ports

    /// The CRT controller and status 1 are at 0x3Bx or 0x3Dx, as bit 0 of miscellaneous output says: this gives a port
    /// its colour number, or nil for one that does not answer now.
    private func decoded(_ port: UInt16) -> UInt16? {
        let isColour = state.miscOutput & 1 != 0
        switch port {
        case 0x3B0...0x3BF: return isColour ? nil : port + 0x20
        case 0x3D0...0x3DF: return isColour ? port : nil
        default: return port
        }
    }

    private func readPort(_ port: UInt16) -> UInt8 {
        guard let port = decoded(port) else { return 0xFF }
        switch port {
        case 0x3C0: return state.attributeIndex
        case 0x3C1: return state.attribute[Int(state.attributeIndex & 0x1F)]
        // Status 0: the switch sense bit says that a colour monitor is there.
        case 0x3C2: return 0x10
        case 0x3C3: return state.isEnabled ? 1 : 0
        case 0x3C4: return state.sequencerIndex
        case 0x3C5: return state.sequencer[Int(state.sequencerIndex & 7)]
        case 0x3C6: return state.dacMask
        case 0x3C7: return state.dacIsReading ? 3 : 0
        case 0x3C8: return state.dacWriteIndex
        case 0x3C9: return readDAC()
        case 0x3CA: return state.featureControl
        case 0x3CC: return state.miscOutput
        case 0x3CE: return state.graphicsIndex
        case 0x3CF: return state.graphics[Int(state.graphicsIndex & 15)]
        case 0x3D4: return state.crtIndex
        case 0x3D5: return state.crtIndex < 0x19 ? state.crt[Int(state.crtIndex)] : 0
        case 0x3DA:
            state.attributeFlipFlop = false
            return beamStatus
        default: return 0xFF
        }
    }

    private func writePort(_ port: UInt16, _ value: UInt8) {
        guard let port = decoded(port) else { return }
        switch port {
        case 0x3C0: writeAttribute(value)
        case 0x3C2: state.miscOutput = value
        case 0x3C3: state.isEnabled = value & 1 != 0
        case 0x3C4: state.sequencerIndex = value & 7
        case 0x3C5: writeSequencer(value)
        case 0x3C6: state.dacMask = value
        case 0x3C7:
            state.dacReadIndex = value
            state.dacReadLane = 0
            state.dacIsReading = true
        case 0x3C8:
            state.dacWriteIndex = value
            state.dacWriteLane = 0
            state.dacIsReading = false
        case 0x3C9: writeDAC(value)
        case 0x3CE: state.graphicsIndex = value & 15
        case 0x3CF: writeGraphics(value)
        case 0x3D4: state.crtIndex = value & 0x3F
        case 0x3D5: writeCRT(value)
        case 0x3DA: state.featureControl = value & 8
        default: break
        }
    }

    private func writeAttribute(_ value: UInt8) {
        defer { state.attributeFlipFlop.toggle() }
        guard state.attributeFlipFlop else {
            state.attributeIndex = value & 0x3F
            return
        }
        let index = Int(state.attributeIndex & 0x1F)
        switch index {
        // The palette can be written only while the display does not use it.
        case 0..<16: if state.attributeIndex & 0x20 == 0 { state.attribute[index] = value & 0x3F }
        case 16: state.attribute[index] = value & 0xEF
        case 17: state.attribute[index] = value
        case 18: state.attribute[index] = value & 0x3F
        case 19, 20: state.attribute[index] = value & 0x0F
        default: break
        }
    }

    private func writeSequencer(_ value: UInt8) {
        let masks: [UInt8] = [0x03, 0x3D, 0x0F, 0x3F, 0x0E]
        let index = Int(state.sequencerIndex & 7)
        if index < masks.count { state.sequencer[index] = value & masks[index] }
    }

    private func writeGraphics(_ value: UInt8) {
        let masks: [UInt8] = [0x0F, 0x0F, 0x0F, 0x1F, 0x03, 0x7B, 0x0F, 0x0F, 0xFF]
        let index = Int(state.graphicsIndex & 15)
        if index < masks.count { state.graphics[index] = value & masks[index] }
    }

    private func writeCRT(_ value: UInt8) {
        let index = Int(state.crtIndex)
        guard index < 0x19 else { return }
        // Vertical retrace end, bit 7, protects the timing registers, but for the line compare bit in the overflow.
        if index < 8, state.crt[0x11] & 0x80 != 0 {
            if index == 7 { state.crt[7] = state.crt[7] & ~0x10 | value & 0x10 }
        } else {
            state.crt[index] = value
        }
    }

    private func readDAC() -> UInt8 {
        let value = state.dac[Int(state.dacReadIndex) * 3 + Int(state.dacReadLane)]
        state.dacReadLane += 1
        if state.dacReadLane == 3 {
            state.dacReadLane = 0
            state.dacReadIndex &+= 1
        }
        return value
    }

    /// An entry changes when all three of its bytes are there.
    private func writeDAC(_ value: UInt8) {
        state.dacPending[Int(state.dacWriteLane)] = state.dispi.hasWideDAC ? value : value & 0x3F
        state.dacWriteLane += 1
        guard state.dacWriteLane == 3 else { return }
        let entry = Int(state.dacWriteIndex) * 3
        for lane in 0..<3 { state.dac[entry + lane] = state.dacPending[lane] }
        state.dacWriteLane = 0
        state.dacWriteIndex &+= 1
    }

    // MARK: The beam

    /// Input status 1: bit 0, nothing is being displayed; bit 3, vertical retrace.
    private var beamStatus: UInt8 {
        let crt = state.crt
        let overflow = Int(crt[7])
        func vertical(_ low: Int, _ bit8: Int, _ bit9: Int) -> Int {
            Int(crt[low]) | (overflow >> bit8 & 1) << 8 | (overflow >> bit9 & 1) << 9
        }
        let frequency: UInt64 = state.miscOutput >> 2 & 3 == 0 ? 25_175_000 : 28_322_000
        let dots = UInt64(state.sequencer[1] & 1 != 0 ? 8 : 9) * (state.sequencer[1] & 8 != 0 ? 2 : 1)
        let lineLength = (UInt64(crt[0]) + 5) * dots
        let lines = UInt64(vertical(6, 0, 5) + 2)
        let position = Ticks.count(nanoseconds: scheduler.now, frequency: frequency) % (lineLength * lines)
        let line = position / lineLength
        let column = position % lineLength / dots

        let retraceStart = UInt64(vertical(0x10, 2, 7))
        let retraceLength = UInt64((crt[0x11] &- crt[0x10]) & 15)
        let isRetrace = line >= retraceStart && line < retraceStart + max(retraceLength, 1)
        let isDisplayed = line <= UInt64(vertical(0x12, 1, 6)) && column <= UInt64(crt[1])
        return (isDisplayed ? 0 : 1) | (isRetrace ? 8 : 0)
    }
}
