import MachineState

/// Packet commands of the CD-ROM drive (ATA/ATAPI-7 PACKET; SPC-2 and MMC-3 for the commands).
extension IDEDrive {
    /// Sense keys (SPC-2, table 107).
    private enum Sense {
        static let none: UInt8 = 0
        static let notReady: UInt8 = 2
        static let mediumError: UInt8 = 3
        static let illegalRequest: UInt8 = 5
        static let unitAttention: UInt8 = 6
    }
    /// Additional sense codes and qualifiers.
    private enum Code {
        static let lbaOutOfRange: UInt16 = 0x2100
        static let invalidField: UInt16 = 0x2400
        static let invalidOpcode: UInt16 = 0x2000
        static let savingNotSupported: UInt16 = 0x3900
        static let noMedium: UInt16 = 0x3A00
        static let noMediumTrayOpen: UInt16 = 0x3A02
        static let mediumChanged: UInt16 = 0x2800
        static let removalPrevented: UInt16 = 0x5302
    }

    /// Blocks of 2048 bytes on the disc.
    private var blocks: UInt64 { (medium?.sectorCount ?? 0) / 4 }
    private var isReady: Bool { medium != nil && !state.isTrayOpen }

    func startPacket() {
        state.usesDMA = state.features & 1 != 0
        state.packetLimit = (state.lbaHigh & 0xFF) << 8 | state.lbaMid & 0xFF
        state.packet = []
        state.phase = .packet
        // Interrupt reason: from the host, a command.
        Self.put(1, in: &state.sectorCount)
        state.status = Status.ready | Status.dataRequest
    }

    func writePacket(_ width: Int, _ value: UInt64) {
        for lane in 0..<width where state.packet.count < 12 {
            state.packet.append(UInt8(truncatingIfNeeded: value >> UInt64(lane * 8)))
        }
        if state.packet.count == 12 { executePacket() }
    }

    func failPacket(key: UInt8, code: UInt16) {
        state.senseKey = key
        state.senseCode = code
        fail(key << 4 | Failure.abort)
        Self.put(3, in: &state.sectorCount)
    }

    private func byte(_ index: Int) -> UInt8 { state.packet[index] }
    private func half(_ index: Int) -> Int { Int(state.packet[index]) << 8 | Int(state.packet[index + 1]) }
    private func word(_ index: Int) -> UInt64 { UInt64(half(index)) << 16 | UInt64(half(index + 2)) }

    private func executePacket() {
        let operation = byte(0)
        // These work, and keep what there is to tell, whatever happened.
        switch operation {
        case 0x12: return inquiry()
        case 0x03: return requestSense()
        case 0x4A: return eventStatus()
        default: break
        }
        if state.hasAttention {
            state.hasAttention = false
            return failPacket(key: Sense.unitAttention, code: Code.mediumChanged)
        }
        state.senseKey = Sense.none
        state.senseCode = 0
        switch operation {
        case 0x1B: startStop()
        case 0x1E:
            state.isTrayLocked = byte(4) & 1 != 0
            succeed()
        case 0x1A: modeSense(page: byte(2), limit: Int(byte(4)), isShort: true)
        case 0x5A: modeSense(page: byte(2), limit: half(7), isShort: false)
        case 0x46: configuration()
        case 0xBD: reply([0, 0, 0, 0, 0, 1, 0, 4, state.isTrayOpen ? 0x80 : 0, 0, 0, 0], limit: half(8))
        case 0x51, 0x42, 0x43, 0x25, 0x28, 0xA8, 0xBE, 0x2B, 0x00:
            guard isReady else {
                return failPacket(
                    key: Sense.notReady, code: state.isTrayOpen ? Code.noMediumTrayOpen : Code.noMedium)
            }
            executeWithMedium(operation)
        default: failPacket(key: Sense.illegalRequest, code: Code.invalidOpcode)
        }
    }

    private func executeWithMedium(_ operation: UInt8) {
        switch operation {
        case 0x25:
            var data: [UInt8] = []
            Self.put32(UInt32(truncatingIfNeeded: blocks &- 1), &data)
            Self.put32(2048, &data)
            reply(data, limit: 8)
        case 0x28: readBlocks(word(2), UInt64(half(7)))
        case 0xA8: readBlocks(word(2), word(6))
        case 0xBE:
            // READ CD: the user data of data sectors, and nothing else.
            let count = UInt64(byte(6)) << 16 | UInt64(half(7))
            guard byte(9) & 0xF8 == 0x10 else {
                return byte(9) & 0xF8 == 0
                    ? succeed() : failPacket(key: Sense.illegalRequest, code: Code.invalidField)
            }
            readBlocks(word(2), count)
        case 0x43: readTOC()
        case 0x42:
            // READ SUB-CHANNEL: nothing is being played.
            reply([0, 0x15, 0, 0], limit: half(7))
        case 0x51:
            // READ DISC INFORMATION: a complete disc of one session and one track.
            var data = [UInt8](repeating: 0, count: 34)
            data[1] = 32
            data[2] = 0x0E
            for index in 3...6 { data[index] = 1 }
            data[7] = 0x20
            reply(data, limit: half(7))
        default: succeed()
        }
    }

    // MARK: Data

    private func readBlocks(_ first: UInt64, _ count: UInt64) {
        if count == 0 { return succeed() }
        guard first < blocks, count <= blocks - first else {
            return failPacket(key: Sense.illegalRequest, code: Code.lbaOutOfRange)
        }
        state.address = first
        state.remaining = count
        startRead()
    }

    /// The drive's own words, as many as the host asked for.
    private func reply(_ data: [UInt8], limit: Int) {
        let bytes = Array(data.prefix(limit))
        if bytes.isEmpty { return succeed() }
        state.isResponse = true
        state.buffer = bytes
        state.offset = 0
        state.limit = 0
        state.remaining = 0
        state.status = Status.busy
        state.phase = state.usesDMA ? .dmaIn : .dataIn
        schedule(state.usesDMA ? .store : .present, after: 10_000)
    }

    private static func put32(_ value: UInt32, _ bytes: inout [UInt8]) {
        for shift in [24, 16, 8, 0] as [UInt32] { bytes.append(UInt8(truncatingIfNeeded: value >> shift)) }
    }

    // MARK: Commands

    private func inquiry() {
        // A removable CD-ROM drive, ATAPI.
        var data: [UInt8] = [0x05, 0x80, 0x00, 0x21, 31, 0, 0, 0]
        data += Array("EMU     EMU CD-ROM      1.0 ".utf8)
        reply(data, limit: half(3))
    }

    private func requestSense() {
        var data = [UInt8](repeating: 0, count: 18)
        data[0] = 0x70
        data[7] = 10
        if state.hasAttention {
            state.hasAttention = false
            data[2] = Sense.unitAttention
            data[12] = UInt8(Code.mediumChanged >> 8)
        } else {
            data[2] = state.senseKey
            data[12] = UInt8(state.senseCode >> 8)
            data[13] = UInt8(state.senseCode & 0xFF)
            state.senseKey = Sense.none
            state.senseCode = 0
        }
        reply(data, limit: Int(byte(4)))
    }

    /// GET EVENT STATUS NOTIFICATION: only polled, only of the medium.
    private func eventStatus() {
        guard byte(1) & 1 != 0 else { return failPacket(key: Sense.illegalRequest, code: Code.invalidField) }
        guard byte(4) & 0x10 != 0 else { return reply([0, 2, 0x80, 0x10], limit: half(7)) }
        let present: UInt8 = (isReady ? 2 : 0) | (state.isTrayOpen ? 1 : 0)
        let event = state.mediaEvent
        state.mediaEvent = 0
        reply([0, 6, 4, 0x10, event, present, 0, 0], limit: half(7))
    }

    private func startStop() {
        if byte(4) & 2 != 0 {
            let opens = byte(4) & 1 == 0
            if opens, state.isTrayLocked {
                return failPacket(key: isReady ? Sense.illegalRequest : Sense.notReady, code: Code.removalPrevented)
            }
            if state.isTrayOpen, !opens, medium != nil {
                state.mediaEvent = 2
                state.hasAttention = true
            } else if !state.isTrayOpen, opens {
                state.mediaEvent = 3
            }
            state.isTrayOpen = opens
        }
        succeed()
    }

    private func modeSense(page: UInt8, limit: Int, isShort: Bool) {
        guard page >> 6 != 3 else { return failPacket(key: Sense.illegalRequest, code: Code.savingNotSupported) }
        var pages: [UInt8] = []
        let wanted = page & 0x3F
        if wanted == 0x01 || wanted == 0x3F { pages += [0x01, 6, 0, 5, 0, 0, 0, 0] }
        if wanted == 0x0E || wanted == 0x3F {
            pages += [0x0E, 14, 4, 0, 0, 0, 0, 75, 1, 0xFF, 2, 0xFF, 0, 0, 0, 0]
        }
        if wanted == 0x2A || wanted == 0x3F {
            // Reads CD-R and CD-RW; a tray that can be locked and opened; 52 times the speed of an audio disc.
            let lock: UInt8 = 0x29 | (state.isTrayLocked ? 2 : 0)
            pages += [0x2A, 18, 0x03, 0, 0, 0, lock, 0, 0x23, 0x28, 0, 2, 2, 0, 0x23, 0x28, 0, 0, 0, 0]
        }
        if pages.isEmpty { return failPacket(key: Sense.illegalRequest, code: Code.invalidField) }
        // Medium type: a data disc of 120 mm, or none.
        let medium: UInt8 = isReady ? 0x01 : (state.isTrayOpen ? 0x71 : 0x70)
        if isShort {
            reply([UInt8(truncatingIfNeeded: pages.count + 3), medium, 0, 0] + pages, limit: limit)
        } else {
            let length = pages.count + 6
            reply([UInt8(length >> 8), UInt8(length & 0xFF), medium, 0, 0, 0, 0, 0] + pages, limit: limit)
        }
    }

    /// GET CONFIGURATION: the profile list, and the profile CD-ROM.
    private func configuration() {
        let current: UInt8 = isReady ? 1 : 0
        var data: [UInt8] = [0, 0, 0, 0, 0, 0, 0, isReady ? 8 : 0]
        data += [0, 0, 3, 4, 0, 8, current, 0]
        data += [0, 1, 7, 8, 0, 0, 0, 2, 1, 0, 0, 0]
        data += [0, 3, 3, 4, 0x29, 0, 0, 0]
        data[3] = UInt8(data.count - 4)
        reply(data, limit: half(7))
    }

    /// READ TOC: one data track.
    private func readTOC() {
        let isTime = byte(1) & 2 != 0
        func place(_ block: UInt64) -> [UInt8] {
            var bytes: [UInt8] = []
            if isTime {
                // Minutes, seconds and frames, of which the first two seconds are before block 0.
                let frames = block + 150
                bytes = [0, UInt8(truncatingIfNeeded: frames / 4500), UInt8(frames / 75 % 60), UInt8(frames % 75)]
            } else {
                Self.put32(UInt32(truncatingIfNeeded: block), &bytes)
            }
            return bytes
        }
        var format = byte(2) & 15
        if format == 0 { format = byte(9) >> 6 }
        switch format {
        case 0:
            let start = byte(6)
            guard start <= 1 || start == 0xAA else { break }
            var data: [UInt8] = [0, 0, 1, 1]
            if start <= 1 { data += [0, 0x14, 1, 0] + place(0) }
            data += [0, 0x14, 0xAA, 0] + place(blocks)
            data[1] = UInt8(data.count - 2)
            return reply(data, limit: half(7))
        case 1: return reply([0, 10, 1, 1, 0, 0x14, 1, 0] + place(0), limit: half(7))
        case 2:
            var data: [UInt8] = [0, 0, 1, 1]
            for point in [0xA0, 0xA1, 0xA2, 1] as [UInt8] {
                data += [1, 0x14, 0, point, 0, 0, 0]
                switch point {
                case 0xA0, 0xA1: data += [0, 1, 0, 0]
                case 0xA2: data += place(blocks)
                default: data += place(0)
                }
            }
            data[1] = UInt8(data.count - 2)
            return reply(data, limit: half(7))
        default: break
        }
        failPacket(key: Sense.illegalRequest, code: Code.invalidField)
    }
}
