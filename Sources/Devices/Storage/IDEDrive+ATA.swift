import MachineState

/// Commands that are not packets (ATA/ATAPI-7, chapter 6).
extension IDEDrive {
    /// The command register is written.
    func execute(_ command: UInt8) {
        if state.status & Status.busy != 0, command != 0x08 { return }
        acknowledge()
        endTransfer()
        state.command = command
        state.status &= ~(Status.error | Status.fault | Status.dataRequest)
        state.error = 0
        switch command {
        case 0x90:
            // Both drives carry out EXECUTE DEVICE DIAGNOSTIC; the channel has seen to that.
            setSignature()
            raiseInterrupt()
        case 0xEF: setFeatures()
        case 0xE0, 0xE1, 0xE2, 0xE3, 0xE6, 0x94, 0x95, 0x96, 0x97, 0x99: succeedWithoutData()
        case 0xE5, 0x98:
            // CHECK POWER MODE: active.
            Self.put(0xFF, in: &state.sectorCount)
            succeedWithoutData()
        default: kind == .disk ? executeDisk(command) : executePacketDevice(command)
        }
    }

    /// The end of a command that leaves the task file as it is.
    private func succeedWithoutData() {
        state.status = Status.ready | Status.seekComplete
        state.error = 0
        raiseInterrupt()
    }

    private func executePacketDevice(_ command: UInt8) {
        switch command {
        case 0x08:
            endTransfer()
            finishReset()
        case 0xA0: startPacket()
        case 0xA1: respond(identifyPacketDevice())
        case 0xEC, 0x20, 0x21:
            // What tells a host that asks for a disk that here is none.
            setSignature()
            state.status = Status.ready | Status.seekComplete | Status.error
            state.error = Failure.abort
            raiseInterrupt()
        default: fail(Failure.abort)
        }
    }

    private func executeDisk(_ command: UInt8) {
        switch ATACommand(command) {
        case .identify?: return respond(identifyDisk())
        case .access(let access)?: return startAccess(access)
        case .verify(let isExtended)?: return verify(isExtended: isExtended)
        case .flush?:
            medium?.flush()
            state.phase = .busy
            state.status = Status.busy | Status.ready | Status.seekComplete
            return schedule(.finish, after: 100_000)
        case .nativeSize(let isExtended)?:
            put(address: isExtended ? capacity &- 1 : min(capacity &- 1, 0x0FFF_FFFF), isExtended: isExtended)
            return succeedWithoutData()
        case nil: break
        }
        switch command {
        case 0x10...0x1F: succeedWithoutData()
        case 0x70...0x7F:
            guard let address = address(isExtended: false), address < capacity else { return fail(Failure.notFound) }
            succeedWithoutData()
        case 0x91: setTranslation()
        case 0xC6: setMultiple()
        default: fail(Failure.abort)
        }
    }

    // MARK: Addresses

    /// Sectors.
    var capacity: UInt64 { medium?.sectorCount ?? 0 }

    /// The sector the task file names; nil for a cylinder address out of the translation.
    private func address(isExtended: Bool) -> UInt64? {
        let low = UInt64(state.lbaLow & 0xFF)
        let middle = UInt64(state.lbaMid & 0xFF)
        let high = UInt64(state.lbaHigh & 0xFF)
        if isExtended {
            let upper = UInt64(state.lbaLow >> 8) | UInt64(state.lbaMid >> 8) << 8 | UInt64(state.lbaHigh >> 8) << 16
            return upper << 24 | high << 16 | middle << 8 | low
        }
        let head = UInt64(channel.state.select & 15)
        if channel.state.select & 0x40 != 0 { return head << 24 | high << 16 | middle << 8 | low }
        let sectors = UInt64(state.sectorsPerTrack)
        guard low >= 1, low <= sectors, head < UInt64(state.heads) else { return nil }
        return ((high << 8 | middle) * UInt64(state.heads) + head) * sectors + low - 1
    }

    /// Puts a sector number into the task file.
    private func put(address: UInt64, isExtended: Bool) {
        func byte(_ shift: UInt64) -> UInt8 { UInt8(truncatingIfNeeded: address >> shift) }
        if isExtended {
            state.lbaLow = UInt16(byte(24)) << 8 | UInt16(byte(0))
            state.lbaMid = UInt16(byte(32)) << 8 | UInt16(byte(8))
            state.lbaHigh = UInt16(byte(40)) << 8 | UInt16(byte(16))
        } else if channel.state.select & 0x40 != 0 {
            Self.put(byte(0), in: &state.lbaLow)
            Self.put(byte(8), in: &state.lbaMid)
            Self.put(byte(16), in: &state.lbaHigh)
            channel.putHead(byte(24) & 15)
        } else {
            let sectors = UInt64(max(state.sectorsPerTrack, 1))
            let heads = UInt64(max(state.heads, 1))
            let cylinder = address / sectors / heads
            Self.put(UInt8(truncatingIfNeeded: address % sectors + 1), in: &state.lbaLow)
            Self.put(UInt8(truncatingIfNeeded: cylinder), in: &state.lbaMid)
            Self.put(UInt8(truncatingIfNeeded: cylinder >> 8), in: &state.lbaHigh)
            channel.putHead(UInt8(truncatingIfNeeded: address / sectors % heads) & 15)
        }
    }

    /// After a transfer the task file names the last sector.
    func updateAddress() {
        guard kind == .disk else { return }
        Self.put(0, in: &state.sectorCount)
        put(address: state.address == 0 ? 0 : state.address - 1, isExtended: ATACommand(state.command)?.isExtended ?? false)
    }

    // MARK: Reading and writing

    /// The range of sectors that the task file names; nil (and the command has failed) if it is not on the disk.
    private func range(isExtended: Bool) -> (first: UInt64, count: UInt64)? {
        var count = UInt64(isExtended ? state.sectorCount : state.sectorCount & 0xFF)
        if count == 0 { count = isExtended ? 65536 : 256 }
        guard let first = address(isExtended: isExtended), first < capacity, count <= capacity - first else {
            fail(Failure.notFound)
            return nil
        }
        return (first, count)
    }

    private func startAccess(_ access: ATACommand.Access) {
        if access.isMultiple, state.multiple == 0 { return fail(Failure.abort) }
        if access.writes, medium?.isReadOnly ?? true { return fail(Failure.abort) }
        guard let range = range(isExtended: access.isExtended) else { return }
        state.address = range.first
        state.remaining = range.count
        state.usesDMA = access.usesDMA
        if access.writes { startWrite(isFirst: true) } else { startRead() }
    }

    private func verify(isExtended: Bool) {
        guard let range = range(isExtended: isExtended) else { return }
        state.address = range.first
        let time = cost(Int(range.count))
        state.address += range.count
        state.head = state.address
        updateAddress()
        state.phase = .busy
        state.status = Status.busy | Status.ready | Status.seekComplete
        schedule(.finish, after: time)
    }

    /// A block of the drive's own words, by PIO and at once.
    func respond(_ words: [UInt16]) {
        state.isResponse = true
        state.usesDMA = false
        state.phase = .dataIn
        state.buffer = words.flatMap { [UInt8(truncatingIfNeeded: $0), UInt8(truncatingIfNeeded: $0 >> 8)] }
        state.offset = 0
        state.limit = UInt32(state.buffer.count)
        state.status = Status.ready | Status.seekComplete | Status.dataRequest
        raiseInterrupt()
    }

    // MARK: Settings

    private func setFeatures() {
        let value = UInt8(truncatingIfNeeded: state.sectorCount)
        switch state.features & 0xFF {
        case 0x02: state.options |= 1
        case 0x82: state.options &= ~1
        case 0xAA: state.options |= 2
        case 0x55: state.options &= ~2
        case 0x03:
            switch value {
            case 0x00, 0x01, 0x08...0x0C: break
            case 0x20...0x22, 0x40...0x45: state.transferMode = value
            default: return fail(Failure.abort)
            }
        // Advanced power management, defects, retries, power-on defaults: taken note of.
        case 0x05, 0x85, 0x33, 0x99, 0x66, 0xCC, 0x5D, 0xDD: break
        default: return fail(Failure.abort)
        }
        succeedWithoutData()
    }

    private func setTranslation() {
        let sectors = UInt8(truncatingIfNeeded: state.sectorCount)
        guard sectors > 0 else { return fail(Failure.abort) }
        state.sectorsPerTrack = sectors
        state.heads = (channel.state.select & 15) + 1
        succeedWithoutData()
    }

    private func setMultiple() {
        let count = UInt8(truncatingIfNeeded: state.sectorCount)
        guard count <= 16, count & (count &- 1) == 0 else { return fail(Failure.abort) }
        state.multiple = count
        succeedWithoutData()
    }

    // MARK: Identification

    /// What both kinds say; the transfer mode that software has chosen is told.
    private func identity(_ model: String) -> ATAIdentity {
        var identity = ATAIdentity(serial: serial, model: model)
        let mode = state.transferMode
        if mode >> 4 == 2 { identity.words[63] |= 0x0100 << UInt16(mode & 3) }
        if mode >> 4 == 4 { identity.words[88] |= 0x0100 << UInt16(mode & 7) }
        return identity
    }

    private func identifyDisk() -> [UInt16] {
        var identity = identity("EMU HARDDISK")
        identity.describeDisk(capacity: capacity)
        var words = identity.words
        words[48] = 1
        words[53] |= 1
        // The present translation.
        let perCylinder = UInt64(max(state.heads, 1)) * UInt64(max(state.sectorsPerTrack, 1))
        let present = min(capacity / perCylinder, 65535)
        words[54] = UInt16(present)
        words[55] = UInt16(state.heads)
        words[56] = UInt16(state.sectorsPerTrack)
        let total = present * perCylinder
        words[57] = UInt16(truncatingIfNeeded: total)
        words[58] = UInt16(truncatingIfNeeded: total >> 16)
        words[59] = state.multiple > 0 ? 0x0100 | UInt16(state.multiple) : 0
        words[85] |= (state.options & 1 != 0 ? 0x20 : 0) | (state.options & 2 != 0 ? 0x40 : 0)
        // The result of a reset of drive 0: passed.
        words[93] = 0x600B
        return words
    }

    private func identifyPacketDevice() -> [UInt16] {
        var words = identity("EMU CD-ROM").words
        // A packet device with a removable medium: CD-ROM, data request within 50 µs, packets of 12 bytes.
        words[0] = 0x85C0
        words[49] = 0x0F00
        // PACKET, DEVICE RESET, NOP, removable medium.
        words[82] |= 0x0214
        words[85] |= 0x0214
        return words
    }
}
