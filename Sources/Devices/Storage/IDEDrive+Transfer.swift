import DeviceBus
import MachineState

/// Blocks between medium, buffer and host. A command's data moves in blocks: `startRead` and `startWrite` begin one.
extension IDEDrive {
    /// Sectors of 512 bytes in one of the drive's own.
    var sectorsPerBlock: Int { kind == .disk ? 1 : 4 }

    /// What an access costs in virtual time: a seek if the head is elsewhere, then the transfer. A model of a quick
    /// disk: 100 µs for a seek, 128 MB/s.
    func cost(_ sectors: Int) -> VirtualTime {
        let seek: VirtualTime = state.address == state.head ? 0 : (kind == .disk ? 80_000 : 400_000)
        return 20_000 + seek + VirtualTime(sectors * sectorsPerBlock) * (kind == .disk ? 4_000 : 8_000)
    }

    /// The next piece of the command: sectors.
    private func nextCount() -> Int {
        var most = Self.maximumBlock / (512 * sectorsPerBlock)
        if kind == .disk, !state.usesDMA {
            let usesMultiple = [0xC4, 0x29, 0xC5, 0x39, 0xCE].contains(state.command)
            most = usesMultiple ? max(Int(state.multiple), 1) : 1
        }
        return Int(min(state.remaining, UInt64(most)))
    }

    // MARK: Reading

    /// Reads the next block from the medium; its data is there when the timer fires.
    func startRead() {
        let count = nextCount()
        guard let medium, count > 0 else { return fail(Failure.abort) }
        state.status = Status.busy | (kind == .disk ? Status.ready | Status.seekComplete : 0)
        state.phase = state.usesDMA ? .dmaIn : .dataIn
        let time = cost(count)
        state.buffer = [UInt8](repeating: 0, count: count * sectorsPerBlock * 512)
        state.offset = 0
        state.limit = 0
        state.buffer.withUnsafeMutableBytes {
            medium.read(sector: state.address * UInt64(sectorsPerBlock), into: $0)
        }
        state.address += UInt64(count)
        state.remaining -= UInt64(count)
        state.head = state.address
        schedule(state.usesDMA ? .store : .present, after: time)
    }

    /// PIO: shows a block, or of a packet command's block as much as the host takes at once.
    func presentBlock() {
        if state.hasFailed { return failMedium() }
        let left = state.buffer.count - Int(state.offset)
        let piece = kind == .disk ? left : min(left, byteLimit)
        state.limit = state.offset + UInt32(piece)
        state.status = Status.ready | Status.seekComplete | Status.dataRequest
        if kind == .cdrom {
            // Interrupt reason: to the host, data. The byte count is how much.
            Self.put(2, in: &state.sectorCount)
            Self.put(UInt8(truncatingIfNeeded: piece), in: &state.lbaMid)
            Self.put(UInt8(truncatingIfNeeded: piece >> 8), in: &state.lbaHigh)
        }
        raiseInterrupt()
    }

    /// The byte count a packet command's host has set: the most it takes at once.
    private var byteLimit: Int {
        let limit = Int(state.packetLimit)
        return limit == 0 || limit == 0xFFFF ? 0xFFFE : max(limit & ~1, 2)
    }

    /// The data register is read: 1, 2 or 4 bytes.
    func readData(_ width: Int) -> UInt64 {
        guard state.phase == .dataIn, state.status & Status.dataRequest != 0 else { return 0 }
        var value: UInt64 = 0
        for lane in 0..<width where state.offset < state.limit {
            value |= UInt64(state.buffer[Int(state.offset)]) << UInt64(lane * 8)
            state.offset += 1
        }
        if state.offset >= state.limit { blockWasRead() }
        return value
    }

    /// The data register is read again and again, `width` bytes (1, 2 or 4) each time. Returns which part of an image the
    /// bytes are, if they are one.
    func readBlock(_ width: Int, into buffer: UnsafeMutableRawBufferPointer) -> ImageOrigin? {
        let left = state.limit >= state.offset ? Int(state.limit - state.offset) : 0
        guard state.phase == .dataIn, state.status & Status.dataRequest != 0, left >= buffer.count else {
            BlockPort.fill(buffer, width: width) { readData(width) }
            return nil
        }
        let start = Int(state.offset)
        let origin = state.hasFailed ? nil : origin(start, buffer.count)
        state.buffer.withUnsafeBytes {
            buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[start..<start + buffer.count]))
        }
        state.offset += UInt32(buffer.count)
        if state.offset >= state.limit { blockWasRead() }
        return origin
    }

    private func blockWasRead() {
        state.status &= ~Status.dataRequest
        if Int(state.offset) < state.buffer.count {
            // More of the same block, for a host that takes little at once.
            state.status = Status.busy
            schedule(.present, after: 2_000)
        } else if state.remaining > 0 {
            startRead()
        } else if kind == .cdrom {
            state.status = Status.busy
            schedule(.finish, after: 2_000)
        } else {
            // A disk is done when its last byte is: no interrupt.
            endTransfer()
            state.status = Status.ready | Status.seekComplete
            updateAddress()
        }
    }

    /// DMA: the block goes to RAM, as far as the bus master's table has room.
    func storeBlock() {
        if state.hasFailed { return failMedium() }
        guard channel.isBusMasterActive else { return }
        let moved = channel.store(state.buffer, from: Int(state.offset)) { offset, count in
            origin(offset, count)
        }
        state.offset += UInt32(moved)
        state.limit = state.offset
        // The table was too short: the drive waits for another one.
        if Int(state.offset) < state.buffer.count { return }
        if state.remaining > 0 { return startRead() }
        updateAddress()
        succeed()
    }

    /// Where the buffer's bytes come from, if from an image.
    private func origin(_ offset: Int, _ count: Int) -> ImageOrigin? {
        guard let medium, kind == .disk || state.command == 0xA0, !state.isResponse else { return nil }
        let block = 512 * sectorsPerBlock
        let first = (state.address &* UInt64(block)) &- UInt64(state.buffer.count) &+ UInt64(offset)
        let sector = first / 512
        let last = (first &+ UInt64(max(count, 1)) &- 1) / 512
        guard last < medium.sectorCount else { return nil }
        return medium.origin(sector: sector, count: Int(last - sector) + 1)?.advanced(by: Int(first % 512))
    }

    // MARK: Writing

    /// PIO: asks the host for the next block. The first comes without an interrupt.
    func startWrite(isFirst: Bool) {
        let count = nextCount()
        guard count > 0 else { return fail(Failure.abort) }
        if state.usesDMA {
            state.phase = .dmaOut
            state.status = Status.busy | Status.ready | Status.seekComplete
            state.buffer = []
            state.offset = 0
            state.limit = 0
            return schedule(.fetch, after: 2_000)
        }
        state.phase = .dataOut
        state.buffer = [UInt8](repeating: 0, count: count * 512)
        state.offset = 0
        state.limit = UInt32(state.buffer.count)
        state.status = Status.ready | Status.seekComplete | Status.dataRequest
        if !isFirst { raiseInterrupt() }
    }

    /// The data register is written: 1, 2 or 4 bytes.
    func writeData(_ width: Int, _ value: UInt64) {
        guard state.status & Status.dataRequest != 0 else { return }
        if state.phase == .packet { return writePacket(width, value) }
        guard state.phase == .dataOut else { return }
        for lane in 0..<width where state.offset < state.limit {
            state.buffer[Int(state.offset)] = UInt8(truncatingIfNeeded: value >> UInt64(lane * 8))
            state.offset += 1
        }
        if state.offset >= state.limit { prepareBlock() }
    }

    /// DMA: fetches a block from RAM, as far as the bus master's table goes.
    func fetchBlock() {
        guard channel.isBusMasterActive else { return }
        if state.buffer.isEmpty {
            state.buffer = [UInt8](repeating: 0, count: nextCount() * 512)
            state.offset = 0
        }
        state.offset += UInt32(channel.fetch(&state.buffer, from: Int(state.offset)))
        state.limit = state.offset
        if Int(state.offset) < state.buffer.count { return }
        prepareBlock()
    }

    /// The block is complete: it is on the medium when the timer fires.
    private func prepareBlock() {
        guard let medium else { return fail(Failure.abort) }
        state.status = Status.busy | Status.ready | Status.seekComplete
        state.buffer.withUnsafeBytes { medium.prepare(sector: state.address, from: $0) }
        schedule(.commit, after: cost(state.buffer.count / 512))
    }

    func commitBlock() {
        if state.hasFailed { return failMedium() }
        guard let medium else { return fail(Failure.abort) }
        state.buffer.withUnsafeBytes { medium.write(sector: state.address, from: $0) }
        let count = UInt64(state.buffer.count / 512)
        state.address += count
        state.remaining -= min(count, state.remaining)
        state.head = state.address
        state.buffer = []
        state.offset = 0
        state.limit = 0
        if state.remaining > 0 { return startWrite(isFirst: false) }
        updateAddress()
        succeed()
    }

    // MARK: Both

    /// The bus master was started.
    func busMasterStarted() {
        guard state.step == .none else { return }
        switch state.phase {
        case .dmaIn: schedule(.store, after: 1_000)
        case .dmaOut: schedule(.fetch, after: 1_000)
        default: break
        }
    }

    /// The host could not read or write.
    func failMedium() {
        if kind == .cdrom { return failPacket(key: 3, code: 0x1100) }
        let wrote = state.phase == .dataOut || state.phase == .dmaOut || state.phase == .busy
        // The first sector of the block in error; `updateAddress` tells the last one that was transferred.
        state.address += 1
        if !wrote { state.address -= min(UInt64(state.buffer.count / 512), state.address) }
        updateAddress()
        fail(wrote ? Failure.abort : Failure.uncorrectable)
        if wrote { state.status |= Status.fault }
    }
}
