import DeviceBus
import MachineState

/// A disk behind USB: bulk-only transport (USB Mass Storage Class, Bulk-Only Transport 1.0) and SCSI's block commands
/// (SBC-3, SPC-4), with sectors of 512 bytes.
package final class USBStorage: USBFunction, HostReceiver {
    package struct State {
        package enum Phase: UInt8 { case command, dataIn, dataOut, status }
        package var phase = Phase.command
        package var tag: UInt32 = 0
        /// Bytes that the host still expects to move.
        package var remaining: UInt32 = 0
        /// The command's status: 0 good, 1 failed, 2 phase error.
        package var status: UInt8 = 0
        /// Sense key, additional sense code and its qualifier, of the last command that failed.
        package var sense: UInt32 = 0
        /// Data for the host that does not come from the disk.
        package var reply: [UInt8] = []
        /// The byte of the disk that is next, and how many the command still moves.
        package var place: UInt64 = 0
        package var left: UInt64 = 0
        /// Sectors on their way from or to the disk, at `place`: until the time for it is over, the host's file may turn out
        /// to be unable to give or take them.
        package var buffer: [UInt8] = []
        /// The beginning of a sector that has come, when the host's packets are smaller than sectors.
        package var partial: [UInt8] = []
        /// Behind the last sector that was accessed: a transfer from here needs no seek.
        package var head: UInt64 = 0
        package var isWriting = false
        /// The host's file has failed since the command began.
        package var hasHostFailed = false

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("phase", &phase)
            visitor.field("tag", &tag)
            visitor.field("remaining", &remaining)
            visitor.field("status", &status)
            visitor.field("sense", &sense)
            visitor.field("reply", &reply)
            visitor.field("place", &place)
            visitor.field("left", &left)
            visitor.field("buffer", &buffer)
            visitor.field("partial", &partial)
            visitor.field("head", &head)
            visitor.field("isWriting", &isWriting)
            visitor.field("hasHostFailed", &hasHostFailed)
        }
    }
    private enum Sense {
        static let writeError: UInt32 = 0x030C00
        static let readError: UInt32 = 0x031100
        static let badCommand: UInt32 = 0x052000
        static let outOfRange: UInt32 = 0x052100
        static let badField: UInt32 = 0x052400
        static let isProtected: UInt32 = 0x072700
    }

    private static let sector = 512
    /// The longest piece of data in one transfer.
    private static let longest = 4 << 20
    package private(set) var state = State()
    package var wake: (UInt8) -> Void = { _ in }
    package private(set) var dataOrigin: ImageOrigin?
    private let medium: any BlockMedium
    private let serial: String
    private let isHighSpeed: Bool

    package init(medium: any BlockMedium, serial: String, isHighSpeed: Bool) {
        self.medium = medium
        self.serial = serial
        self.isHighSpeed = isHighSpeed
    }

    package var descriptors: USBDescriptors {
        let size: UInt16 = isHighSpeed ? 512 : 64
        // A serial number has 12 hexadecimal digits at least.
        let digits = String(repeating: "0", count: max(12 - serial.utf8.count * 2, 0))
            + serial.utf8.map { String($0, radix: 16, uppercase: true) }.joined()
        return USBDescriptors(
            vendor: 0x1D6B, product: 0x0120, strings: ["emu", "USB disk", digits],
            interfaces: [
                .init(
                    number: 0, classCode: 8, subclass: 6, interfaceProtocol: 0x50,
                    endpoints: [.init(address: 0x81, kind: .bulk, size: size), .init(address: 0x02, kind: .bulk, size: size)])
            ])
    }

    package func visit(_ visitor: inout StateVisitor) {
        state.visit(&visitor)
        if visitor.mode == .load, !isSound {
            visitor.fail("a place beyond the disk")
            state = State()
        }
    }
    /// What is to be moved is on the disk.
    private var isSound: Bool {
        let end = medium.sectorCount * UInt64(Self.sector)
        guard state.place <= end, state.left <= end - state.place else { return false }
        let needed = state.place % UInt64(Self.sector) + state.left
        return state.buffer.count <= Self.longest + Self.sector
            && UInt64(state.buffer.count) <= (needed + UInt64(Self.sector - 1)) / UInt64(Self.sector) * UInt64(Self.sector)
            && (state.phase != .dataOut || state.buffer.isEmpty || state.place % UInt64(Self.sector) == 0)
            && state.buffer.count % Self.sector == 0
            && state.partial.count < Self.sector && UInt64(state.partial.count) <= state.left
    }

    package func reset() {
        let (sense, head) = (state.sense, state.head)
        state = State()
        (state.sense, state.head) = (sense, head)
    }
    package func cancel(endpoint: UInt8) { state.buffer = [] }

    /// The host's file has failed.
    package func receive(_ bytes: [UInt8]) { state.hasHostFailed = true }

    package func control(_ setup: USBSetup, _ data: [UInt8]) -> USBOutcome {
        switch (setup.type, setup.request) {
        case (0x21, 0xFF):
            reset()
            return .done([])
        case (0xA1, 0xFE): return .done([0])
        default: return .stall
        }
    }

    package func carryOut(_ transfer: USBTransfer) -> USBOutcome {
        dataOrigin = nil
        switch (state.phase, transfer.isIn) {
        case (.command, false): return begin(transfer.data)
        case (.dataOut, false): return take(transfer.data)
        case (.dataIn, true): return give(transfer.length)
        // The host has asked for less than it said, or data ends early.
        case (.dataOut, true), (.status, true): return end(transfer.length)
        default: return .stall
        }
    }

    // MARK: The transport's three steps

    /// A command block wrapper of 31 bytes (5.1).
    private func begin(_ wrapper: [UInt8]) -> USBOutcome {
        func word(_ place: Int) -> UInt32 { (0..<4).reduce(0) { $0 | UInt32(wrapper[place + $1]) << UInt32($1 * 8) } }
        guard wrapper.count == 31, word(0) == 0x4342_5355, wrapper[13] & 15 == 0, (1...16).contains(wrapper[14]) else { return .stall }
        state.tag = word(4)
        state.remaining = word(8)
        state.status = 0
        state.hasHostFailed = false
        (state.reply, state.left, state.buffer, state.partial) = ([], 0, [], [])
        let isIn = wrapper[12] & 0x80 != 0
        state.isWriting = execute(Array(wrapper[15..<31]))
        let moves = state.isWriting ? state.left > 0 : state.left > 0 || !state.reply.isEmpty
        if moves, state.remaining == 0 || isIn == state.isWriting {
            state.status = 2
            (state.reply, state.left) = ([], 0)
        }
        state.phase = state.remaining == 0 ? .status : isIn ? .dataIn : .dataOut
        return .done([])
    }

    private func give(_ length: Int) -> USBOutcome {
        let count = min(length, Int(state.remaining), Self.longest)
        var bytes: [UInt8]
        if state.left > 0 {
            let size = UInt64(Self.sector)
            let count = min(count, Int(min(state.left, UInt64(Self.longest))))
            let skipped = Int(state.place % size)
            let needed = (skipped + count + Self.sector - 1) / Self.sector * Self.sector
            if state.buffer.count != needed {
                state.buffer = [UInt8](repeating: 0, count: needed)
                state.buffer.withUnsafeMutableBytes { medium.read(sector: state.place / size, into: $0) }
                return .later(time(needed))
            }
            // What could not be read is the same at a replay, where it can.
            if state.hasHostFailed { state.buffer = [UInt8](repeating: 0, count: needed) }
            if !state.hasHostFailed {
                dataOrigin = medium.origin(sector: state.place / size, count: needed / Self.sector)?.advanced(by: skipped)
            }
            bytes = needed == count ? state.buffer : Array(state.buffer[skipped..<skipped + count])
            advance(count)
        } else {
            bytes = Array(state.reply.prefix(count))
            state.reply.removeFirst(bytes.count)
        }
        state.remaining -= UInt32(bytes.count)
        // A piece that is shorter than asked for ends the data.
        if bytes.count < length || state.remaining == 0 { state.phase = .status }
        return .done(bytes)
    }

    /// Of a quick disk: 60 µs for a seek, 256 MB/s.
    private func time(_ count: Int) -> VirtualTime {
        10_000 + (state.place / UInt64(Self.sector) == state.head ? 0 : 60_000) + UInt64(count / Self.sector) * 2_000
    }
    private func advance(_ count: Int) {
        state.buffer = []
        state.place += UInt64(count)
        state.left -= UInt64(count)
        state.head = state.place / UInt64(Self.sector)
    }

    private func take(_ data: [UInt8]) -> USBOutcome {
        let count = min(data.count, Int(state.remaining))
        if state.left > 0 {
            // What belongs to the disk, in whole sectors; what is left of it waits for the next piece.
            let kept = Int(min(UInt64(count), state.left - UInt64(state.partial.count)))
            let whole = (state.partial.count + kept) / Self.sector * Self.sector
            guard whole <= Self.longest, state.place % UInt64(Self.sector) == 0 else {
                (state.left, state.partial) = (0, [])
                state.remaining -= UInt32(count)
                fail(Sense.badField)
                return .done([])
            }
            if whole > 0, state.buffer.count != whole {
                state.buffer = Array((state.partial + data[..<kept])[..<whole])
                state.buffer.withUnsafeBytes { medium.prepare(sector: state.place / UInt64(Self.sector), from: $0) }
                return .later(time(whole))
            }
            state.partial = Array((state.partial + data[..<kept])[whole...])
            if whole > 0 {
                if !state.hasHostFailed {
                    state.buffer.withUnsafeBytes { medium.write(sector: state.place / UInt64(Self.sector), from: $0) }
                }
                advance(whole)
            }
        }
        state.remaining -= UInt32(count)
        if state.remaining == 0 {
            state.phase = .status
            // Half a sector.
            if !state.partial.isEmpty { fail(Sense.badField) }
        }
        return .done([])
    }

    /// A command status wrapper of 13 bytes (5.2).
    private func end(_ length: Int) -> USBOutcome {
        if state.hasHostFailed, state.status == 0 { fail(state.isWriting ? Sense.writeError : Sense.readError) }
        state.phase = .command
        func word(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> UInt32($0 * 8)) } }
        let wrapper = word(0x5342_5355) + word(state.tag) + word(state.remaining) + [state.status]
        return .done(Array(wrapper.prefix(length)))
    }

    // MARK: Commands

    private func fail(_ sense: UInt32) {
        state.status = 1
        state.sense = sense
        state.reply = []
    }

    private static func number(_ block: [UInt8], _ place: Int, _ width: Int) -> UInt64 {
        block[place..<place + width].reduce(0) { $0 << 8 | UInt64($1) }
    }
    private static func big(_ value: UInt64, _ width: Int) -> [UInt8] {
        (0..<width).map { UInt8(truncatingIfNeeded: value >> UInt64((width - 1 - $0) * 8)) }
    }

    /// Returns whether the command's data goes to the disk.
    private func execute(_ block: [UInt8]) -> Bool {
        switch block[0] {
        case 0x00, 0x1B, 0x1E, 0x2F: break
        case 0x03:
            // Fixed format: the sense is told once.
            state.reply = [0x70, 0, UInt8(state.sense >> 16), 0, 0, 0, 0, 10, 0, 0, 0, 0]
                + [UInt8(state.sense >> 8 & 0xFF), UInt8(state.sense & 0xFF), 0, 0, 0, 0]
            limit(UInt64(block[4]))
            state.sense = 0
        case 0x12: inquire(block)
        case 0x1A: modes(isLong: false, block)
        case 0x5A: modes(isLong: true, block)
        case 0x23: state.reply = [0, 0, 0, 8] + Self.big(min(medium.sectorCount, 0xFFFF_FFFF), 4) + [2, 0, 2, 0]
        case 0x25: state.reply = Self.big(min(medium.sectorCount &- 1, 0xFFFF_FFFF), 4) + [0, 0, 2, 0]
        case 0x9E where block[1] & 31 == 0x10:
            state.reply = Self.big(medium.sectorCount &- 1, 8) + [0, 0, 2, 0] + [UInt8](repeating: 0, count: 20)
            limit(Self.number(block, 10, 4))
        case 0xA0: state.reply = [0, 0, 0, 8] + [UInt8](repeating: 0, count: 12)
        case 0x35, 0x91: medium.flush()
        case 0x08: move(Self.number(block, 1, 3) & 0x1F_FFFF, block[4] == 0 ? 256 : UInt64(block[4]))
        case 0x28: move(Self.number(block, 2, 4), Self.number(block, 7, 2))
        case 0xA8: move(Self.number(block, 2, 4), Self.number(block, 6, 4))
        case 0x88: move(Self.number(block, 2, 8), Self.number(block, 10, 4))
        case 0x0A: return write(Self.number(block, 1, 3) & 0x1F_FFFF, block[4] == 0 ? 256 : UInt64(block[4]))
        case 0x2A: return write(Self.number(block, 2, 4), Self.number(block, 7, 2))
        case 0xAA: return write(Self.number(block, 2, 4), Self.number(block, 6, 4))
        case 0x8A: return write(Self.number(block, 2, 8), Self.number(block, 10, 4))
        default: fail(Sense.badCommand)
        }
        return false
    }

    private func limit(_ length: UInt64) { state.reply = Array(state.reply.prefix(Int(min(length, 4096)))) }

    private func move(_ sector: UInt64, _ count: UInt64) {
        guard sector <= medium.sectorCount, count <= medium.sectorCount - sector else { return fail(Sense.outOfRange) }
        state.place = sector * UInt64(Self.sector)
        state.left = count * UInt64(Self.sector)
    }
    private func write(_ sector: UInt64, _ count: UInt64) -> Bool {
        if medium.isReadOnly { fail(Sense.isProtected) } else { move(sector, count) }
        return true
    }

    private func inquire(_ block: [UInt8]) {
        let identifier = Array("emu     ".utf8) + Array(serial.utf8)
        if block[1] & 1 != 0 {
            switch block[2] {
            case 0x00: state.reply = [0, 0, 0, 3, 0x00, 0x80, 0x83]
            case 0x80: state.reply = [0, 0x80, 0, UInt8(truncatingIfNeeded: serial.utf8.count)] + Array(serial.utf8)
            case 0x83:
                // A name by the vendor, in ASCII.
                let name = [2, 1, 0, UInt8(truncatingIfNeeded: identifier.count)] + identifier
                state.reply = [0, 0x83, 0, UInt8(truncatingIfNeeded: name.count)] + name
            default: return fail(Sense.badField)
            }
        } else {
            // A disk that can be removed, SPC-3.
            state.reply = [0, 0x80, 5, 2, 31, 0, 0, 0] + Array("emu     USB disk        1.0 ".utf8)
        }
        limit(Self.number(block, 3, 2))
    }

    /// The header alone, and the page of the cache, which is written through at the host's word.
    private func modes(isLong: Bool, _ block: [UInt8]) {
        let page = block[2] & 0x3F
        guard page == 0x3F || page == 0x08 || page == 0 else { return fail(Sense.badField) }
        let pages: [UInt8] = page == 0 ? [] : [0x08, 0x12, 0x04] + [UInt8](repeating: 0, count: 17)
        let parameter: UInt8 = medium.isReadOnly ? 0x80 : 0
        if isLong {
            state.reply = Self.big(UInt64(pages.count + 6), 2) + [0, parameter, 0, 0, 0, 0] + pages
            limit(Self.number(block, 7, 2))
        } else {
            state.reply = [UInt8(pages.count + 3), 0, parameter, 0] + pages
            limit(UInt64(block[4]))
        }
    }
}
