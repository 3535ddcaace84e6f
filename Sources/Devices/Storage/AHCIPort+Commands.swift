import DeviceBus
import MachineState

/// What the disk at a port does (ATA/ATAPI-7, chapter 6).
extension AHCIPort {
    private enum Failure {
        static let abort: UInt8 = 0x04
        static let notFound: UInt8 = 0x10
        static let uncorrectable: UInt8 = 0x40
    }

    /// Takes what waits, and begins the next command when the drive is free. Queued commands are taken at once and wait in
    /// the drive; another one waits until the queue is empty, as a driver must see to anyway.
    func startNext() {
        guard !state.isHalted, let medium else { return }
        if state.operation == .idle || state.isQueued { takeQueued() }
        guard state.operation == .idle else { return }
        if state.queued != 0 {
            begin(turn(state.queued))
            state.queued &= ~(1 << UInt32(state.slot))
            state.isQueued = true
            return startQueued(medium)
        }
        guard state.issued != 0 else { return }
        begin(turn(state.issued))
        state.isQueued = false
        state.taskFile = state.taskFile & 0xFF00 | 0xD0
        guard state.fis[0] == 0x27 else { return respond(with: nil, error: Failure.abort) }
        if state.fis[1] & 0x80 == 0 { return control() }
        execute(state.fis[2], medium)
    }

    /// The slots take turns, from the one after the last.
    private func turn(_ waiting: UInt32) -> Int {
        let last = Int(state.slot)
        return (1...32).map { (last + $0) & 31 }.first { waiting >> UInt32($0) & 1 != 0 } ?? 0
    }

    /// Reads a slot's command.
    private func begin(_ slot: Int) {
        state.slot = UInt8(slot)
        // Command header: flags and count of descriptors, bytes moved, address of the table.
        var header: (UInt32, UInt32, UInt64) = (0, 0, 0)
        withUnsafeMutableBytes(of: &header) { memory.read(state.commandList &+ UInt64(slot * 32), into: $0) }
        let table = UInt64(littleEndian: header.2) & ~127
        state.fis.withUnsafeMutableBytes { memory.read(table, into: $0) }
        state.data = ScatterList()
        let count = Int(UInt32(littleEndian: header.0) >> 16)
        if count > 0 { readDescriptors(table &+ 0x80, count) }
    }

    // MARK: Queued commands (Serial ATA 3.0, 13.6)

    /// Commands of the queue that have been issued: the drive says that it has them, and their slots' bits in PxCI are clear
    /// from then on.
    private func takeQueued() {
        for slot in 0..<32 where state.issued & state.active & ~state.queued & 1 << UInt32(slot) != 0 {
            var header: (UInt32, UInt32, UInt64) = (0, 0, 0)
            withUnsafeMutableBytes(of: &header) { memory.read(state.commandList &+ UInt64(slot * 32), into: $0) }
            var start: UInt32 = 0
            withUnsafeMutableBytes(of: &start) { memory.read(UInt64(littleEndian: header.2) & ~127, into: $0) }
            start = UInt32(littleEndian: start)
            // A command register FIS with READ or WRITE FPDMA QUEUED.
            guard start & 0xFF == 0x27, start & 0x8000 != 0, [0x60, 0x61].contains(start >> 16 & 0xFF) else { continue }
            state.queued |= 1 << UInt32(slot)
            state.issued &= ~(1 << UInt32(slot))
            // An error of the present command waits in the task file.
            state.taskFile = state.taskFile & 0xFF00 | 0x40
            sendRegisterFIS(interrupts: false)
        }
    }

    private func startQueued(_ medium: any BlockMedium) {
        state.taskFile = 0x40
        let fis = state.fis
        let writes = fis[2] == 0x61
        var first: UInt64 = 0
        for (index, shift) in Self.addressBytes { first |= UInt64(fis[index]) << shift }
        var count = UInt64(fis[3]) | UInt64(fis[11]) << 8
        if count == 0 { count = 65536 }
        // The tag is the slot's number; software may have written something else since it was taken.
        guard fis[0] == 0x27, fis[2] == 0x60 || writes, fis[12] >> 3 == state.slot, !(writes && medium.isReadOnly) else {
            return respond(with: nil, error: Failure.abort)
        }
        guard first < medium.sectorCount, count <= medium.sectorCount - first else {
            return respond(with: nil, error: Failure.notFound)
        }
        state.operation = .transfer
        state.isPIO = false
        state.transfer.start(writes ? .write : .read, sector: first, count: count)
        startPiece(medium)
    }

    private func finishQueued(error: UInt8) {
        let bit: UInt32 = 1 << UInt32(state.slot & 31)
        if error == 0 {
            state.taskFile = 0x40
            state.active |= bit
            sendDeviceBits(over: bit)
            return end()
        }
        state.failedTag = state.slot
        state.failedError = error
        state.taskFile = UInt32(error) << 8 | 0x41
        sendDeviceBits(over: 0)
        state.queued = 0
        halt()
    }

    /// READ LOG EXT of the page that tells of a queued command's failure (ATA/ATAPI-7 with Serial ATA 3.0, 13.7.4).
    private func readLog() {
        guard state.fis[4] == 0x10, state.fis[5] == 0, state.fis[12] == 1, state.fis[13] == 0 else {
            return respond(with: nil, error: Failure.abort)
        }
        var page = [UInt8](repeating: 0, count: 512)
        // Bit 7: no queued command has failed.
        page[0] = state.failedError == 0 ? 0x80 : state.failedTag
        page[2] = state.failedError == 0 ? 0x40 : 0x41
        page[3] = state.failedError
        page[511] = 0 &- page.reduce(0, &+)
        state.failedError = 0
        respond(with: (0..<256).map { UInt16(page[$0 * 2]) | UInt16(page[$0 * 2 + 1]) << 8 })
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
        switch ATACommand(command) {
        case .identify?: return respond(with: identity(medium))
        case .access(let access)?: return startTransfer(access)
        case .verify(let isExtended)?:
            return respond(with: nil, error: range(isExtended: isExtended, medium) == nil ? Failure.notFound : 0)
        case .flush?:
            state.transfer.start(.none, sector: 0, count: 0)
            medium.flush()
            return respond(with: nil, after: 100_000)
        case .nativeSize(let isExtended)?:
            put(address: isExtended ? medium.sectorCount &- 1 : min(medium.sectorCount &- 1, 0x0FFF_FFFF))
            return respond(with: nil)
        case nil: break
        }
        switch command {
        case 0x2F: readLog()
        case 0xE5:
            state.fis[12] = 0xFF
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

    /// Where a FIS has a sector's number of 48 bits: bytes and their places.
    private static let addressBytes: [(Int, UInt64)] = [(4, 0), (5, 8), (6, 16), (8, 24), (9, 32), (10, 40)]

    private func put(address: UInt64) {
        for (index, shift) in Self.addressBytes {
            state.fis[index] = UInt8(truncatingIfNeeded: address >> shift)
        }
    }

    private func startTransfer(_ access: ATACommand.Access) {
        guard let medium else { return }
        if access.writes, medium.isReadOnly { return respond(with: nil, error: Failure.abort) }
        guard let range = range(isExtended: access.isExtended, medium) else {
            return respond(with: nil, error: Failure.notFound)
        }
        state.operation = .transfer
        state.isPIO = !access.usesDMA
        state.transfer.start(access.writes ? .write : .read, sector: range.first, count: range.count)
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
        if state.isQueued { return finishQueued(error: error) }
        state.taskFile = UInt32(error) << 8 | (error == 0 ? 0x50 : 0x51)
        sendRegisterFIS(interrupts: true)
        if error == 0 { return end() }
        halt()
    }

    /// The command stays issued, or active: software must stop the port to go on.
    private func halt() {
        state.isHalted = true
        state.operation = .idle
        state.transfer.stop()
        raise(Interrupt.taskFileError)
    }

    private func end() {
        if !state.isQueued { state.issued &= ~(1 << UInt32(state.slot & 31)) }
        state.isQueued = false
        state.operation = .idle
        state.transfer.stop()
        state.response = []
        state.data = ScatterList()
    }

    // MARK: Identification

    /// IDENTIFY DEVICE: a disk with Ultra DMA 5 and a queue of 32 commands.
    private func identity(_ medium: any BlockMedium) -> [UInt16] {
        var identity = ATAIdentity(serial: serial, model: "EMU HARDDISK")
        identity.describeDisk(capacity: medium.sectorCount)
        identity.words[75] = 31
        // Serial ATA generation 1, queued commands.
        identity.words[76] = 0x0102
        // READ LOG EXT.
        identity.words[84] |= 0x0020
        identity.words[87] |= 0x0020
        identity.words[85] |= 0x0060
        identity.words[88] |= 0x2000
        return identity.words
    }
}
