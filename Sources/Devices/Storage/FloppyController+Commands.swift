import DeviceBus
import MachineState

/// The commands (82078 datasheet, chapter 6).
extension FloppyController {
    /// Bits of the status registers.
    private enum Status {
        static let abnormal: UInt8 = 0x40
        static let invalid: UInt8 = 0x80
        static let seekEnd: UInt8 = 0x20
        static let equipmentCheck: UInt8 = 0x10
        // Status register 1.
        static let missingMark: UInt8 = 0x01
        static let notWritable: UInt8 = 0x02
        static let noData: UInt8 = 0x04
        static let dataError: UInt8 = 0x20
        static let endOfCylinder: UInt8 = 0x80
    }

    /// A model of a drive quicker than any: a millisecond for a sector, as much for a step of the head.
    private static let sectorTime: VirtualTime = 1_000_000

    /// Bytes of a command, by its first one.
    private static func length(_ command: UInt8) -> Int {
        switch command & 0x1F {
        case 0x05, 0x06, 0x09, 0x0C: 9
        case 0x0D: 6
        case 0x03, 0x0F: 3
        case 0x04, 0x07, 0x0A, 0x12: 2
        case 0x13: 4
        default: 1
        }
    }

    func takeCommandByte(_ value: UInt8) {
        state.command.append(value)
        if state.command.count >= Self.length(state.command[0]) { execute() }
    }

    private var drive: Int { state.command.count > 1 ? Int(state.command[1] & 3) : 0 }
    private var medium: (any BlockMedium)? { drive < 2 ? media[drive] : nil }
    private var geometry: Geometry? { medium.flatMap { Geometry(sectors: $0.sectorCount) } }
    private var driveAndHead: UInt8 { UInt8(drive) | (state.head & 1) << 2 }

    private func answer(_ bytes: [UInt8]) {
        state.phase = .result
        state.result = bytes
    }
    private func done() {
        state.phase = .command
        state.command = []
    }

    private func execute() {
        let command = state.command
        switch command[0] & 0x1F {
        case 0x03:
            state.specification = [command[1], command[2]]
            done()
        case 0x04:
            state.head = command[1] >> 2 & 1
            let isProtected = medium?.isReadOnly ?? false
            answer([0x28 | driveAndHead | (state.cylinders[drive] == 0 ? 0x10 : 0) | (isProtected ? 0x40 : 0)])
        case 0x05, 0x09: startTransfer(writes: true)
        case 0x06, 0x0C: startTransfer(writes: false)
        case 0x07: seek(to: 0)
        case 0x08:
            interrupt(false)
            // Without an interrupt to tell of, the command is invalid.
            if state.causes.isEmpty { return answer([Status.invalid]) }
            let cause = state.causes.removeFirst()
            answer([cause, state.cylinders[Int(cause & 3)]])
        case 0x0A:
            state.head = command[1] >> 2 & 1
            state.phase = .execution
            schedule(.identify, after: Self.sectorTime)
        case 0x0D: startFormat()
        case 0x0E:
            answer(
                state.cylinders + state.specification + [18, state.perpendicular | (state.isLocked ? 0x80 : 0)]
                    + state.settings)
        case 0x0F: seek(to: command[2])
        case 0x10: answer([0x90])
        case 0x12:
            state.perpendicular = command[1] & 0x7F
            done()
        case 0x13:
            state.settings = [command[2], command[3]]
            done()
        case 0x14:
            state.isLocked = command[0] & 0x80 != 0
            answer([state.isLocked ? 0x10 : 0])
        // PART ID: the 82078 of 64 pins.
        case 0x18: answer([0x41])
        default: answer([Status.invalid])
        }
    }

    // MARK: Heads

    private func seek(to cylinder: UInt8) {
        state.phase = .execution
        state.cylinder = cylinder
        let steps = abs(Int(state.cylinders[drive]) - Int(cylinder))
        schedule(.seek, after: Self.sectorTime * VirtualTime(1 + steps))
    }

    func finishSeek() {
        state.step = .none
        let drive = drive
        state.cylinders[drive] = state.cylinder
        if drive < 2, media[drive] != nil { state.changed &= ~(1 << UInt8(drive)) }
        // A recalibration of a drive that is not there finds no track 0.
        let isMissing = drive > 1 && state.command[0] & 0x1F == 0x07
        let error = isMissing ? Status.abnormal | Status.equipmentCheck : 0
        if state.causes.count < 8 { state.causes.append(Status.seekEnd | error | UInt8(drive)) }
        done()
        interrupt(true)
    }

    func finishIdentify() {
        guard let geometry, state.head < geometry.heads, state.cylinders[drive] < geometry.cylinders else {
            return finish(status0: Status.abnormal, status1: Status.missingMark)
        }
        state.cylinder = state.cylinders[drive]
        state.sector = 1
        finish(status0: 0, status1: 0)
    }

    // MARK: Data

    private func startTransfer(writes: Bool) {
        state.phase = .execution
        state.cylinder = state.command[2]
        state.head = state.command[3] & 1
        state.sector = state.command[4]
        state.hasFailed = false
        guard let medium else { return finish(status0: Status.abnormal, status1: Status.missingMark) }
        if writes, medium.isReadOnly { return finish(status0: Status.abnormal, status1: Status.notWritable) }
        startSector()
    }

    /// The present sector's number on the disk; nil when the command cannot mean one.
    private var address: UInt64? {
        state.cylinder == state.cylinders[drive] && state.command.count > 5 && state.command[5] == 2 ? place : nil
    }

    /// Where cylinder, head and sector are on the disk; nil when it has no such place.
    private var place: UInt64? {
        guard let geometry, state.cylinder < geometry.cylinders, state.head < geometry.heads, state.sector >= 1,
            state.sector <= geometry.sectors
        else { return nil }
        let track = UInt64(state.cylinder) * UInt64(geometry.heads) + UInt64(state.head)
        return track * UInt64(geometry.sectors) + UInt64(state.sector) - 1
    }

    private var isWrite: Bool { [0x05, 0x09].contains(state.command[0] & 0x1F) }

    private func startSector() {
        guard let address, let medium else { return finish(status0: Status.abnormal, status1: Status.noData) }
        state.buffer = [UInt8](repeating: 0, count: 512)
        if isWrite {
            // What the host does not give is zero.
            _ = dma.read(channel: 2, into: &state.buffer)
            state.buffer.withUnsafeBytes { medium.prepare(sector: address, from: $0) }
            schedule(.commit, after: Self.sectorTime)
        } else {
            state.buffer.withUnsafeMutableBytes { medium.read(sector: address, into: $0) }
            schedule(.store, after: Self.sectorTime)
        }
    }

    func storeSector() {
        guard !state.hasFailed else { return finish(status0: Status.abnormal, status1: Status.dataError) }
        let place = address
        let origin = place.flatMap { medium?.origin(sector: $0, count: 1) }
        _ = dma.write(channel: 2, state.buffer, origin: origin)
        advance()
    }

    func commitSector() {
        guard !state.hasFailed, let address, let medium, state.buffer.count == 512 else {
            return finish(status0: Status.abnormal, status1: Status.dataError)
        }
        state.buffer.withUnsafeBytes { medium.write(sector: address, from: $0) }
        advance()
    }

    // MARK: Formatting

    /// FORMAT TRACK: software gives four bytes for each sector by DMA: cylinder, head, number and size.
    private func startFormat() {
        state.phase = .execution
        state.head = state.command[1] >> 2 & 1
        state.cylinder = state.cylinders[drive]
        state.sector = 0
        state.formatted = 0
        state.hasFailed = false
        guard let medium, let geometry, state.head < geometry.heads, state.cylinder < geometry.cylinders else {
            return finish(status0: Status.abnormal, status1: Status.missingMark)
        }
        if medium.isReadOnly { return finish(status0: Status.abnormal, status1: Status.notWritable) }
        nextFormat()
    }

    private func nextFormat() {
        guard state.command.count == 6, state.formatted < state.command[3] else { return finish(status0: 0, status1: 0) }
        var identifier: [UInt8] = [0, 0, 0, 0]
        _ = dma.read(channel: 2, into: &identifier)
        state.sector = identifier[2]
        // An image has the sectors of its geometry and no others.
        guard identifier[0] == state.cylinder, identifier[1] == state.head, identifier[3] == 2, let place, let medium
        else { return finish(status0: Status.abnormal, status1: Status.noData) }
        state.buffer = [UInt8](repeating: state.command[5], count: 512)
        state.buffer.withUnsafeBytes { medium.prepare(sector: place, from: $0) }
        schedule(.format, after: Self.sectorTime)
    }

    func formatSector() {
        guard !state.hasFailed, let place, let medium, state.buffer.count == 512 else {
            return finish(status0: Status.abnormal, status1: Status.dataError)
        }
        state.buffer.withUnsafeBytes { medium.write(sector: place, from: $0) }
        state.formatted &+= 1
        nextFormat()
    }

    /// On to the next sector, until the DMA controller has counted to its end or the cylinder has.
    private func advance() {
        let isLastOfTrack = state.sector >= state.command[6]
        let isMultiTrack = state.command[0] & 0x80 != 0
        let isEnd = isLastOfTrack && !(isMultiTrack && state.head == 0)
        if !isLastOfTrack {
            state.sector &+= 1
        } else {
            state.sector = 1
            if isMultiTrack, state.head == 0 {
                state.head = 1
            } else {
                if isMultiTrack { state.head = 0 }
                state.cylinder &+= 1
            }
        }
        if dma.isAtEnd(channel: 2) { return finish(status0: 0, status1: 0) }
        if isEnd { return finish(status0: Status.abnormal, status1: Status.endOfCylinder) }
        startSector()
    }

    private func finish(status0: UInt8, status1: UInt8) {
        state.buffer = []
        state.hasFailed = false
        answer([status0 | driveAndHead, status1, 0, state.cylinder, state.head, state.sector, 2])
        interrupt(true)
    }
}
