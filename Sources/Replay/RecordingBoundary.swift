import Boundary
import MachineState

/// The door of a recording: passes everything on to a live boundary, and logs what crosses.
package final class RecordingBoundary: HostBoundary, InsideMemory {
    private let inner: any HostBoundary
    private let writer: LogWriter
    private let header: LogHeader
    private var isInTransaction = false
    /// Where the host's clock was looked at last, and instructions until it is again.
    private var lastLook: Position = 0
    private static let lookInterval: Position = 1_000_000
    /// Data of a disk image is named instead of kept from so many bytes on.
    private static let leastReference = 64
    /// Bytes sent at the inputs cut, as a digest: a replay must send the same.
    private var output = StateDigest()
    /// The inside's RAM, for the device plane's DMA. Not retained, as the machine owns its door; and not weak, which would make
    /// every use of the machine slower.
    package unowned(unsafe) var memory: (any InsideMemory)?
    private var now = Moment(position: 0, time: 0)
    /// The last note about a bus master, and the chunk that it is in: each chunk can be read without the others.
    private var noted: (master: BusMasterName, key: UInt64?, chunk: Int)?

    package init(wrapping inner: any HostBoundary, writer: LogWriter, header: LogHeader) {
        self.inner = inner
        self.writer = writer
        self.header = header
    }

    /// A recording that begins like another one: everything that `replay` has taken from its log is in it already, so
    /// that it needs nothing of the other. Only at the inputs cut.
    package init(
        wrapping inner: any HostBoundary, continuing replay: ReplayBoundary, writer: LogWriter, header: LogHeader
    ) throws {
        self.inner = inner
        self.writer = writer
        self.header = header
        output = replay.sentSoFar
        let end = replay.eventNumber
        try replay.reader.forEachEvent { number, event in
            if number >= end { return false }
            writer.append(event)
            return true
        }
    }

    /// Why the recording cannot go on; the run must end.
    package var failure: LogError? { writer.failure }

    private func event(_ kind: LogEvent.Kind, _ moment: Moment) -> LogEvent {
        var event = LogEvent(kind, position: moment.position)
        event.skipped = moment.time &- moment.position << UInt64(header.clockShift)
        return event
    }

    /// An event of the devices by themselves: while the CPU sleeps, its time is theirs.
    private func outsideEvent(_ kind: LogEvent.Kind) -> LogEvent {
        event(kind, Moment(position: now.position, time: inner.timeBeyond(now.time)))
    }

    package func horizon(after now: Moment) -> Position {
        // Every transaction comes by here: the host's clock is looked at about every millisecond.
        if now.position &- lastLook >= Self.lookInterval {
            lastLook = now.position
            writer.flushIfOld()
        }
        return inner.horizon(after: now)
    }

    package func nextInput(at now: Moment) throws(Divergence) -> TimedInput? {
        self.now = now
        guard let input = try inner.nextInput(at: now) else { return nil }
        writer.append(LogEvent(input, event(.input, input.moment)))
        return input
    }

    /// A debugger's user has changed something at this moment, after everything else that came in then.
    package func note(_ edit: Edit, at now: Moment) {
        self.now = now
        writer.append(LogEvent(TimedInput(.edit(edit), at: now), event(.input, now)))
    }

    /// Devices cut: a frame has crossed a network card's channel. For readers of the log: the transactions and DMA that
    /// make it are there anyway.
    package func note(frame bytes: [UInt8], source: UInt16, isOut: Bool, time: VirtualTime) {
        var event = outsideEvent(.frame)
        event.address = UInt64(source)
        event.width = isOut ? 1 : 0
        event.value = time
        event.bytes = bytes
        writer.append(event)
    }

    package func idle(at now: Moment, until deadline: VirtualTime) throws(Divergence) -> VirtualTime {
        self.now = now
        writer.flushIfOld()
        let time = try inner.idle(at: now, until: deadline)
        if time < deadline { writer.append(event(.idle, Moment(position: now.position, time: time))) }
        return time
    }

    package func endRequested(at now: Moment) -> EndReason? { inner.endRequested(at: now) }

    package var controlRequested: Bool { inner.controlRequested }

    package func ask(_ question: Question, at now: Moment) throws(Divergence) -> UInt64 {
        self.now = now
        isInTransaction = true
        defer { isInTransaction = false }
        let value = try inner.ask(question, at: now)
        var event = LogEvent(question, event(.answer, now), pc: now.pc)
        event.value = value
        writer.append(event)
        return value
    }

    package func askBlock(
        port: UInt16, width: UInt8, into buffer: UnsafeMutableRawBufferPointer, at now: Moment
    ) throws(Divergence) -> ImageOrigin? {
        self.now = now
        isInTransaction = true
        defer { isInTransaction = false }
        let origin = try inner.askBlock(port: port, width: width, into: buffer, at: now)
        var event = LogEvent(block: port, width: width, count: buffer.count, event(.portBlock, now), pc: now.pc)
        // A few bytes cost less than their place.
        if let origin, buffer.count >= Self.leastReference {
            event.kind = .portImage
            event.value = UInt64(origin.image) << 56 | origin.offset
            writer.append(event)
        } else {
            writer.append(event, payload: UnsafeRawBufferPointer(buffer))
        }
        return origin
    }

    package func askDisk(
        _ number: UInt8, offset: UInt64, into buffer: UnsafeMutableRawBufferPointer, at now: Moment
    ) throws(Divergence) {
        self.now = now
        try inner.askDisk(number, offset: offset, into: buffer, at: now)
        writer.append(
            LogEvent(disk: number, offset: offset, count: buffer.count, event(.diskData, now), pc: now.pc),
            payload: UnsafeRawBufferPointer(buffer))
    }

    package func send(_ effect: Effect, at now: Moment) throws(Divergence) {
        self.now = now
        isInTransaction = true
        defer { isInTransaction = false }
        try inner.send(effect, at: now)
        if case .host(let source, let bytes) = effect {
            output.mix(UInt64(source))
            bytes.withUnsafeBytes { output.mix(bytes: $0) }
        } else if let event = LogEvent(effect, event(.portWrite, now), pc: now.pc) {
            writer.append(event)
        }
    }

    package func nextDigest(after position: Position) -> Position {
        header.nextDigest(after: position)
    }

    package func checkpoint(_ digests: [PartDigest], at now: Moment) throws(Divergence) {
        var event = event(.digest, now)
        event.bytes = DigestRecord.bytes(all(digests))
        writer.append(event)
    }

    package func end(_ reason: EndReason, _ digests: [PartDigest], at now: Moment) throws(Divergence) {
        try inner.end(reason, digests, at: now)
        var event = event(.end, now)
        event.value = UInt64(reason.rawValue)
        event.bytes = DigestRecord.bytes(all(digests))
        writer.append(event)
        writer.finish()
    }

    private func all(_ digests: [PartDigest]) -> [PartDigest] {
        header.boundary == .inputs ? digests + [PartDigest(part: "output", digest: output.value)] : digests
    }

    // MARK: DMA of the device plane

    package func busMaster(isWriting: Bool) -> BusMasterName? { inner.busMaster(isWriting: isWriting) }
    package func busMasterKey(isWriting: Bool) -> UInt64? { inner.busMasterKey(isWriting: isWriting) }
    package func timeBeyond(_ time: VirtualTime) -> VirtualTime { inner.timeBeyond(time) }

    /// Says whose DMA follows, and what for, unless that has been said. For readers of the log.
    private func noteMaster(isWriting: Bool) {
        var key = inner.busMasterKey(isWriting: isWriting)
        let isSameChunk = noted?.chunk == writer.chunkCount
        if isSameChunk, let key, let known = noted?.key, isWriting ? key == known : key >> 56 == known >> 56 { return }
        guard var master = inner.busMaster(isWriting: isWriting) else { return }
        // Where a chunk ends depends on the host: what is said of a read must not.
        if !isSameChunk, !isWriting, let noted, noted.master.device == master.device { (master, key) = (noted.master, noted.key) }
        if isSameChunk, let noted, noted.master.device == master.device, !isWriting || noted.master == master {
            // Other numbers for the same words.
            if isWriting { self.noted?.key = key }
            return
        }
        var event = outsideEvent(.busMaster)
        event.within = isInTransaction
        var text = master.text
        // Once more if the chunk ends with the note.
        repeat {
            noted = (master, key, writer.chunkCount)
            text.withUTF8 { writer.append(event, payload: UnsafeRawBufferPointer($0)) }
        } while noted?.chunk != writer.chunkCount && writer.failure == nil
    }

    package func dmaRead(_ address: UInt64, into buffer: UnsafeMutableRawBufferPointer) {
        memory?.dmaRead(address, into: buffer)
        logDMA(.dmaRead, address, UnsafeRawBufferPointer(buffer))
    }
    package func dmaWrite(_ address: UInt64, from buffer: UnsafeRawBufferPointer) {
        memory?.dmaWrite(address, from: buffer)
        logDMA(.dmaWrite, address, buffer)
    }
    package func dmaWrite(_ address: UInt64, from buffer: UnsafeRawBufferPointer, origin: ImageOrigin?) {
        memory?.dmaWrite(address, from: buffer)
        guard let origin, buffer.count >= Self.leastReference else { return logDMA(.dmaWrite, address, buffer) }
        noteMaster(isWriting: true)
        var event = outsideEvent(.dmaImage)
        event.within = isInTransaction
        event.address = address
        event.width = UInt32(buffer.count)
        event.pc = UInt64(origin.image)
        event.value = origin.offset
        writer.append(event)
    }
    private func logDMA(_ kind: LogEvent.Kind, _ address: UInt64, _ bytes: UnsafeRawBufferPointer) {
        noteMaster(isWriting: kind == .dmaWrite)
        var event = outsideEvent(kind)
        event.within = isInTransaction
        event.address = address
        writer.append(event, payload: bytes)
    }
}

extension LogEvent {
    /// An input as an event; `base` has position and time.
    init(_ input: TimedInput, _ base: LogEvent) {
        self = base
        switch input.input {
        case .host(let source, let bytes):
            kind = .input
            address = UInt64(source)
            self.bytes = bytes
        case .interruptLine(let level):
            kind = .interruptLine
            value = level ? 1 : 0
        case .nmi: kind = .nmi
        case .a20(let enabled):
            kind = .a20
            value = enabled ? 1 : 0
        case .shadow(let control):
            kind = .shadow
            value = control
        case .videoBase(let base):
            kind = .videoBase
            value = base
        case .reset: kind = .reset
        case .powerOff(let code):
            kind = .powerOff
            value = code.map { $0 &+ 1 } ?? 0
        case .dmaWrite(let address, let bytes):
            kind = .dmaWrite
            self.address = address
            self.bytes = bytes
        case .dmaRead(let address, let bytes):
            kind = .dmaRead
            self.address = address
            self.bytes = bytes
        case .edit(.memory(let address, let bytes)):
            kind = .editMemory
            self.address = address
            self.bytes = bytes
        case .edit(.register(let number, let bytes)):
            kind = .editRegister
            address = UInt64(number)
            self.bytes = bytes
        }
    }

    /// A question, without its answer.
    init(_ question: Question, _ base: LogEvent, pc: UInt64) {
        self = base
        self.pc = pc
        switch question {
        case .host(let source, let number):
            kind = .answer
            address = UInt64(source)
            width = number
        case .portRead(let port, let width):
            kind = .portRead
            address = UInt64(port)
            self.width = UInt32(width)
        case .memoryRead(let address, let width):
            kind = .memoryRead
            self.address = address
            self.width = UInt32(width)
        case .interruptAcknowledge: kind = .interruptAcknowledge
        }
    }

    /// A block read of `count` bytes in elements of `width`, without what was read.
    init(block port: UInt16, width: UInt8, count: Int, _ base: LogEvent, pc: UInt64) {
        self = base
        kind = .portBlock
        self.pc = pc
        address = UInt64(port)
        self.width = UInt32(count) & 0xFF_FFFF | UInt32(width) << 24
    }
    /// A question for `count` bytes of a disk image, without them.
    init(disk number: UInt8, offset: UInt64, count: Int, _ base: LogEvent, pc: UInt64) {
        self = base
        kind = .diskData
        self.pc = pc
        address = UInt64(number)
        width = UInt32(truncatingIfNeeded: count)
        value = offset
    }
    /// Of a block read: bytes in all, and bytes of an element.
    package var blockLength: Int { Int(width & 0xFF_FFFF) }
    package var elementWidth: Int { Int(width >> 24) }

    /// A write of the devices cut; nil for what the inputs cut sends.
    init?(_ effect: Effect, _ base: LogEvent, pc: UInt64) {
        self = base
        self.pc = pc
        switch effect {
        case .host: return nil
        case .portWrite(let port, let width, let value):
            kind = .portWrite
            address = UInt64(port)
            self.width = UInt32(width)
            self.value = value
        case .memoryWrite(let address, let width, let value):
            kind = .memoryWrite
            self.address = address
            self.width = UInt32(width)
            self.value = value
        }
    }

    /// The input that a let-in event is; nil for other kinds.
    var input: Input? {
        switch kind {
        case .input: .host(source: UInt16(truncatingIfNeeded: address), bytes: bytes)
        case .interruptLine: .interruptLine(value != 0)
        case .nmi: .nmi
        case .a20: .a20(value != 0)
        case .shadow: .shadow(value)
        case .videoBase: .videoBase(value)
        case .reset: .reset
        case .powerOff: .powerOff(code: value == 0 ? nil : value - 1)
        case .dmaWrite: .dmaWrite(address: address, bytes: bytes)
        case .dmaRead: .dmaRead(address: address, bytes: bytes)
        case .editMemory: .edit(.memory(address: address, bytes: bytes))
        case .editRegister: .edit(.register(number: UInt16(truncatingIfNeeded: address), bytes: bytes))
        default: nil
        }
    }
}

/// Digests as they stand in an event: 64 bits over all parts, then the low 16 bits of each.
enum DigestRecord {
    static func bytes(_ digests: [PartDigest]) -> [UInt8] {
        var whole = StateDigest()
        for part in digests { whole.mix(part.digest) }
        var bytes: [UInt8] = []
        LogLayout.put64(whole.value, &bytes)
        for part in digests {
            bytes.append(UInt8(truncatingIfNeeded: part.digest))
            bytes.append(UInt8(truncatingIfNeeded: part.digest >> 8))
        }
        return bytes
    }

    /// The first part that differs from what was recorded; nil when all agree.
    static func difference(_ recorded: [UInt8], _ digests: [PartDigest]) -> (part: String, expected: String, actual: String)? {
        let actual = bytes(digests)
        if actual == recorded { return nil }
        for (index, part) in digests.enumerated() {
            let at = 8 + index * 2
            guard at + 1 < recorded.count else { break }
            if recorded[at] != actual[at] || recorded[at + 1] != actual[at + 1] {
                let expected = UInt16(recorded[at]) | UInt16(recorded[at + 1]) << 8
                let got = UInt16(actual[at]) | UInt16(actual[at + 1]) << 8
                return (part.part, "digest …" + String(expected, radix: 16), "…" + String(got, radix: 16))
            }
        }
        return ("state", "the recorded digest", "another one")
    }
}
