import DeviceBus
import MachineState

/// What the disk at a port does (ATA/ATAPI-7, chapter 6).
extension AHCIPort {
    private enum Failure {
        static let abort: UInt8 = 0x04
        static let notFound: UInt8 = 0x10
        static let uncorrectable: UInt8 = 0x40
    }

    /// Begins the next command that waits.
    func startNext() {
        guard state.operation == .idle, !state.isHalted, state.issued != 0, let medium else { return }
        // The slots take turns, from the one after the last.
        let last = Int(state.slot)
        guard let slot = (1...32).map({ (last + $0) & 31 }).first(where: { state.issued >> UInt32($0) & 1 != 0 }) else { return }
        state.slot = UInt8(slot)

        // Command header: flags and count of descriptors, bytes moved, address of the table.
        var header: (UInt32, UInt32, UInt64) = (0, 0, 0)
        withUnsafeMutableBytes(of: &header) { memory.read(state.commandList &+ UInt64(slot * 32), into: $0) }
        let table = UInt64(littleEndian: header.2) & ~127
        state.fis.withUnsafeMutableBytes { memory.read(table, into: $0) }
        state.data = ScatterList()
        let count = Int(UInt32(littleEndian: header.0) >> 16)
        if count > 0 { readDescriptors(table &+ 0x80, count) }
        state.taskFile = state.taskFile & 0xFF00 | 0xD0
        guard state.fis[0] == 0x27 else { return respond(with: nil, error: Failure.abort) }
        if state.fis[1] & 0x80 == 0 { return control() }
        execute(state.fis[2], medium)
    }

    /// Physical region descriptors: an address, and in the fourth word the count of bytes less one.
    private func readDescriptors(_ start: UInt64, _ count: Int) {
        var raw = [UInt8](repeating: 0, count: count * 16)
        raw.withUnsafeMutableBytes { memory.read(start, into: $0) }
        raw.withUnsafeBytes { bytes in
            for index in 0..<count {
                let address = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: index * 16, as: UInt64.self))
                let last = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: index * 16 + 12, as: UInt32.self))
                state.data.append(address & ~1, (last & 0x3F_FFFF | 1) + 1)
            }
        }
    }

    /// A FIS that writes the control register: software resets the drive by its bit 2, set and taken back.
    private func control() {
        let resets = state.fis[15] & 4 != 0
        let ends = state.isInReset && !resets
        state.isInReset = resets
        state.issued &= ~(1 << UInt32(state.slot))
        if ends {
            setSignature()
            sendRegisterFIS(interrupts: false)
        }
        startNext()
    }

    // MARK: Commands

    private func execute(_ command: UInt8, _ medium: any BlockMedium) {
        switch command {
        case 0xEC: respond(with: identity(medium))
        case 0x25: startTransfer(.read, isExtended: true)
        case 0xC8, 0xC9: startTransfer(.read, isExtended: false)
        case 0x24, 0x29: startTransfer(.read, isExtended: true, isPIO: true)
        case 0x20, 0x21, 0xC4: startTransfer(.read, isExtended: false, isPIO: true)
        case 0x35, 0x3D: startTransfer(.write, isExtended: true)
        case 0xCA, 0xCB: startTransfer(.write, isExtended: false)
        case 0x34, 0x39, 0xCE: startTransfer(.write, isExtended: true, isPIO: true)
        case 0x30, 0x31, 0xC5: startTransfer(.write, isExtended: false, isPIO: true)
        case 0x40, 0x41, 0x42:
            respond(with: nil, error: range(isExtended: command == 0x42, medium) == nil ? Failure.notFound : 0)
        case 0xE7, 0xEA:
            state.transfer.start(.none, sector: 0, count: 0)
            medium.flush()
            respond(with: nil, after: 100_000)
        case 0xE5:
            state.fis[12] = 0xFF
            respond(with: nil)
        case 0xF8, 0x27:
            put(address: medium.sectorCount &- 1)
            respond(with: nil)
        // Power, features, multiple, translation, recalibrate: nothing that changes anything here.
        case 0xE0...0xE3, 0xE6, 0xEF, 0xC6, 0x91, 0x10...0x1F: respond(with: nil)
        default: respond(with: nil, error: Failure.abort)
        }
    }

    /// The command's end comes after a moment, with the drive's own words if it has any.
    private func respond(with words: [UInt16]?, error: UInt8 = 0, after time: VirtualTime = 5_000) {
        state.isPIO = words != nil
        state.response = (words ?? []).flatMap { [UInt8(truncatingIfNeeded: $0), UInt8(truncatingIfNeeded: $0 >> 8)] }
        state.operation = words == nil ? .plain : .respond
        // Until the end the error waits in the task file.
        state.taskFile = state.taskFile & 0xFF | UInt32(error) << 8
        timer(time)
    }

    /// The sectors that the command names; nil if they are not on the disk.
    private func range(isExtended: Bool, _ medium: any BlockMedium) -> (first: UInt64, count: UInt64)? {
        let fis = state.fis
        var first = UInt64(fis[4]) | UInt64(fis[5]) << 8 | UInt64(fis[6]) << 16
        var count = UInt64(fis[12])
        if isExtended {
            first |= UInt64(fis[8]) << 24 | UInt64(fis[9]) << 32 | UInt64(fis[10]) << 40
            count |= UInt64(fis[13]) << 8
            if count == 0 { count = 65536 }
        } else {
            first |= UInt64(fis[7] & 15) << 24
            if count == 0 { count = 256 }
        }
        guard first < medium.sectorCount, count <= medium.sectorCount - first else { return nil }
        return (first, count)
    }

    private func put(address: UInt64) {
        for (index, shift) in [(4, 0), (5, 8), (6, 16), (8, 24), (9, 32), (10, 40)] as [(Int, UInt64)] {
            state.fis[index] = UInt8(truncatingIfNeeded: address >> shift)
        }
    }

    private func startTransfer(_ direction: BlockTransfer.Direction, isExtended: Bool, isPIO: Bool = false) {
        guard let medium else { return }
        if direction == .write, medium.isReadOnly { return respond(with: nil, error: Failure.abort) }
        guard let range = range(isExtended: isExtended, medium) else { return respond(with: nil, error: Failure.notFound) }
        state.operation = .transfer
        state.isPIO = isPIO
        state.transfer.start(direction, sector: range.first, count: range.count)
        startPiece(medium)
    }

    private func startPiece(_ medium: any BlockMedium) {
        let data = state.data
        let time = state.transfer.startPiece(medium) { [memory] offset, count in
            data.read(from: offset, count: count, memory)
        }
        timer(time)
    }

    // MARK: Ends

    func timerFired() {
        guard let medium else { return }
        let error = UInt8(truncatingIfNeeded: state.taskFile >> 8)
        moving = (state.slot, state.fis[2], state.operation == .transfer ? state.transfer.sector : nil)
        defer { moving = nil }
        switch state.operation {
        case .idle: return
        case .plain: finish(error: state.transfer.hasFailed ? Failure.abort : error)
        case .respond:
            let count = state.data.write(state.response, at: 0, memory)
            state.taskFile = 0x50
            putByteCount(count)
            sendSetupFIS(toRAM: true, count: state.response.count)
            end()
        case .transfer:
            let data = state.data
            let progress = state.transfer.endPiece(medium) { [memory] bytes, offset, origin in
                data.write(bytes, at: offset, memory, origin: origin)
            }
            switch progress {
            case .more: return startPiece(medium)
            case .done:
                putByteCount(Int(clamping: min(state.transfer.done, UInt64(state.data.length))))
                if state.isPIO, state.transfer.direction == .read {
                    state.taskFile = 0x50
                    sendSetupFIS(toRAM: true, count: 512)
                    end()
                } else {
                    finish(error: 0)
                }
            case .failed: finish(error: state.transfer.direction == .read ? Failure.uncorrectable : Failure.abort)
            }
        }
        startNext()
    }

    /// The count of bytes that were moved, in the command header.
    private func putByteCount(_ count: Int) {
        let value = UInt32(truncatingIfNeeded: count)
        withUnsafeBytes(of: value.littleEndian) {
            memory.write(state.commandList &+ UInt64(state.slot & 31) * 32 &+ 4, from: $0)
        }
    }

    private func finish(error: UInt8) {
        state.taskFile = UInt32(error) << 8 | (error == 0 ? 0x50 : 0x51)
        sendRegisterFIS(interrupts: true)
        if error == 0 { return end() }
        // The command stays issued: software must stop the port to go on.
        state.isHalted = true
        state.operation = .idle
        state.transfer.stop()
        raise(Interrupt.taskFileError)
    }

    private func end() {
        state.issued &= ~(1 << UInt32(state.slot & 31))
        state.operation = .idle
        state.transfer.stop()
        state.response = []
        state.data = ScatterList()
    }

    // MARK: Identification

    /// IDENTIFY DEVICE (6.16): a disk of 48-bit addresses, Ultra DMA 5, write cache, flushes.
    private func identity(_ medium: any BlockMedium) -> [UInt16] {
        var words = [UInt16](repeating: 0, count: 256)
        let capacity = medium.sectorCount
        func put(_ text: String, _ range: Range<Int>) {
            var characters = Array(text.utf8.prefix(range.count * 2))
            characters += [UInt8](repeating: 0x20, count: range.count * 2 - characters.count)
            for (index, word) in range.enumerated() {
                words[word] = UInt16(characters[index * 2]) << 8 | UInt16(characters[index * 2 + 1])
            }
        }
        words[0] = 0x0040
        words[1] = UInt16(min(capacity / (16 * 63), 16383))
        words[3] = 16
        words[6] = 63
        put(serial, 10..<20)
        put("1.0", 23..<27)
        put("EMU HARDDISK", 27..<47)
        words[47] = 0x8010
        words[49] = 0x0B00
        words[50] = 0x4000
        words[51] = 0x0200
        words[53] = 0x0006
        let lba28 = min(capacity, 0x0FFF_FFFF)
        words[60] = UInt16(truncatingIfNeeded: lba28)
        words[61] = UInt16(truncatingIfNeeded: lba28 >> 16)
        words[63] = 0x0007
        words[64] = 0x0003
        for index in 65...68 { words[index] = 120 }
        // Serial ATA generation 1.
        words[76] = 0x0002
        words[80] = 0x00F0
        words[82] = 0x4060
        words[83] = 0x7400
        words[84] = 0x4000
        words[85] = 0x4060
        words[86] = 0x3400
        words[87] = 0x4000
        words[88] = 0x203F
        words[93] = 0
        for index in 0..<4 { words[100 + index] = UInt16(truncatingIfNeeded: capacity >> UInt64(index * 16)) }
        return words
    }
}
