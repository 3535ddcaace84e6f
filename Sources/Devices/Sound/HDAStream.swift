import MachineState

/// What a stream of HDA is made of (High Definition Audio Specification 1.0a, 3.7.1): bit 14 44.1 instead of 48 kHz, 13 to 11 times,
/// 10 to 8 divided by, 6 to 4 bits of a sample, 3 to 0 channels, each less one.
package struct HDAFormat: Equatable {
    package var bits: UInt16
    package init(_ bits: UInt16) { self.bits = bits }

    /// Frames a second, 5512 at least and 192000 at most. What is reserved counts as nothing.
    package var rate: UInt64 {
        let base: UInt64 = bits & 0x4000 != 0 ? 44_100 : 48_000
        let factor = UInt64(bits >> 11 & 7)
        return base * (factor < 4 ? factor + 1 : 1) / (UInt64(bits >> 8 & 7) + 1)
    }
    /// Bytes of a frame, 1 to 64.
    package var frameSize: Int {
        let container = switch bits >> 4 & 7 {
        case 0: 1
        case 1: 2
        default: 4
        }
        return container * (Int(bits & 15) + 1)
    }
    /// Two channels of 16 bits at 44.1 or 48 kHz, which is what there are converters for.
    package var isPlayable: Bool { bits & 0xBFFF == 0x0011 }
}

/// A stream of HDA: its registers, and where it is (3.3.35 to 3.3.43).
package struct HDAStream {
    /// SDnCTL, 24 bits.
    package var control: UInt32 = 0
    package var status: UInt8 = 0
    /// LPIB: bytes from the start of the cyclic buffer.
    package var position: UInt32 = 0
    /// CBL: bytes of the cyclic buffer.
    package var length: UInt32 = 0
    /// LVI: the list's last entry.
    package var last: UInt8 = 0
    package var format: UInt16 = 0
    /// BDPL and BDPU: the list.
    package var list: UInt64 = 0
    /// The entry in use, and what it says; bytes of it that are done. Entries are read when they are come to.
    package var isLoaded = false
    package var entry: UInt8 = 0
    package var address: UInt64 = 0
    package var size: UInt32 = 0
    package var interrupts = false
    package var offset: UInt32 = 0
    /// When it began to move at this rate, and frames since.
    package var start: UInt64 = 0
    package var done: UInt64 = 0

    package init() {}

    package mutating func visit(_ visitor: inout StateVisitor) {
        visitor.field("control", &control)
        visitor.field("status", &status)
        visitor.field("position", &position)
        visitor.field("length", &length)
        visitor.field("last", &last)
        visitor.field("format", &format)
        visitor.field("list", &list)
        visitor.field("isLoaded", &isLoaded)
        visitor.field("entry", &entry)
        visitor.field("address", &address)
        visitor.field("size", &size)
        visitor.field("interrupts", &interrupts)
        visitor.field("offset", &offset)
        visitor.field("start", &start)
        visitor.field("done", &done)
        if visitor.mode == .load, offset > size {
            visitor.fail("a stream beyond its buffer")
            self = HDAStream()
        }
    }

    /// Bits of the control register.
    enum Control {
        static let reset: UInt32 = 1
        static let run: UInt32 = 2
        static let interrupt: UInt32 = 4
        static let fifoInterrupt: UInt32 = 8
        static let errorInterrupt: UInt32 = 16
        /// What software may write: all but the direction, which is fixed.
        static let writable: UInt32 = 0xF7_001F
    }
    enum Status {
        static let done: UInt8 = 4
        static let fifoError: UInt8 = 8
        static let descriptorError: UInt8 = 16
        static let ready: UInt8 = 32
        static let clearable = done | fifoError | descriptorError
    }

    package var isRunning: Bool { control & Control.run != 0 }
    /// The number on the link, 1 to 15; 0 is none.
    package var tag: UInt8 { UInt8(truncatingIfNeeded: control >> 20) & 15 }
    package var wantsInterrupt: Bool {
        status & Status.done != 0 && control & Control.interrupt != 0
            || status & Status.fifoError != 0 && control & Control.fifoInterrupt != 0
            || status & Status.descriptorError != 0 && control & Control.errorInterrupt != 0
    }
    /// A register's 32 bits at `offset` (0 to 0x1F) from its first one.
    package func read(_ offset: Int) -> UInt32 {
        switch offset {
        case 0x00: control | UInt32(status) << 24
        case 0x04: position
        case 0x08: length
        case 0x0C: UInt32(last)
        // 256 bytes of FIFO.
        case 0x10: 0xFF | UInt32(format) << 16
        case 0x18: UInt32(truncatingIfNeeded: list)
        case 0x1C: UInt32(truncatingIfNeeded: list >> 32)
        default: 0
        }
    }
}
