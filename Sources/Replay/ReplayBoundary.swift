import Boundary
import MachineState

/// The door of a replay: everything comes from the log. Opens nothing on the host.
package final class ReplayBoundary: HostBoundary {
    package let reader: LogReader
    private let header: LogHeader
    private var events: [LogEvent] = []
    private var cursor = 0
    private var nextChunk = 0
    /// The first event from the cursor on that the run must stop at; found for chunk `stopChunk`.
    private var stopIndex = -1
    private var stopChunk = -1
    /// Number of the event at the cursor.
    package private(set) var eventNumber: UInt64 = 0
    package private(set) var digestsChecked = 0
    package private(set) var asksAnswered = 0
    /// The log has no more events: a recording that was cut off.
    package private(set) var isExhausted = false
    /// The reason that the recording ended for, once replayed.
    package private(set) var endReason: EndReason?
    private var lastPosition: Position = 0
    private var output = StateDigest()
    /// Digest of what was sent at the inputs cut.
    var sentSoFar: StateDigest { output }
    /// The recording begins in the middle of a run.
    func begin(sent digest: UInt64) { output.value = digest }
    /// The inside's RAM, for DMA within transactions. Not retained.
    package unowned(unsafe) var memory: (any InsideMemory)?
    /// Reads a part of a disk image that the header names; false when it cannot.
    package var readImage: (ImageOrigin, UnsafeMutableRawBufferPointer) -> Bool = { _, _ in false }
    /// Device and register at an address, for reports.
    private let names: (LogEvent) -> String
    /// Gets what a live backend would.
    package var onSend: ((_ source: UInt16, _ bytes: [UInt8]) -> Void)?
    /// Gets what crosses at the inputs cut: true for what goes out.
    package var onCrossing: ((_ isOut: Bool, _ source: UInt16, _ bytes: [UInt8], _ time: VirtualTime) -> Void)?
    /// Gets the port writes of a devices recording: what a console shows is in there.
    package var onPortWrite: ((_ port: UInt16, _ value: UInt64) -> Void)?
    /// Keeps what the guest writes to its console, if someone wants it.
    package var transcript: Transcript?
    /// Gets what digests differ, and the replay goes on; without it the first one ends the replay.
    package var onDifference: ((Divergence) -> Void)?
    /// A damaged log found while replaying.
    package private(set) var damage: LogError?

    package init(reader: LogReader, names: @escaping (LogEvent) -> String = { $0.kind.name }) {
        self.reader = reader
        header = reader.header
        self.names = names
        advance(0)
    }

    /// The last write of a bus master that was let in.
    private var lastDMA: UInt64?
    /// Who that was, as far as the log says; else the number of the event. Of a disk's data also where it is from, and if
    /// there was one the access in whose answer the device has written.
    package func busMaster(isWriting: Bool) -> BusMasterName? {
        guard let lastDMA else { return nil }
        do {
            guard let chunk = reader.chunks.last(where: { $0.firstEvent <= lastDMA }) else { return nil }
            var master: BusMasterName?
            var parts: [String] = []
            var isWithin = false
            try reader.forEachEvent(from: chunk.firstEvent) { number, event in
                if number < lastDMA {
                    if event.kind == .busMaster { master = BusMasterName(text: String(decoding: event.bytes, as: UTF8.self)) }
                    return true
                }
                if number == lastDMA {
                    isWithin = event.within
                    if event.kind == .dmaImage {
                        parts.append(ImageOrigin(image: UInt8(truncatingIfNeeded: event.pc), offset: event.value).text)
                    }
                }
                if isWithin, event.kind.isTransaction {
                    parts.append("in answer to \(event.kind.name) \(names(event))")
                    return false
                }
                return isWithin
            }
            var name = master ?? BusMasterName(device: "a bus master (event \(lastDMA))")
            parts.insert(contentsOf: name.request.map { [$0] } ?? [], at: 0)
            name.request = parts.isEmpty ? nil : parts.joined(separator: ", ")
            return name
        } catch { return nil }
    }

    private func advance(_ count: Int) {
        cursor += count
        eventNumber += UInt64(count)
        if count > 0, cursor > 0, cursor <= events.count { lastPosition = events[cursor - 1].position }
        while true {
            while cursor < events.count, events[cursor].kind.isOptional {
                cursor += 1
                eventNumber += 1
            }
            if cursor < events.count { return }
            guard nextChunk < reader.chunks.count else {
                isExhausted = true
                return
            }
            do { events = try cachedEvents(nextChunk) } catch {
                damage = error
                isExhausted = true
                events = []
                cursor = 0
                return
            }
            nextChunk += 1
            cursor = 0
        }
    }

    /// Where the replay is in the log, for a checkpoint. Between two runs of the machine only.
    package func saveState() -> [UInt8] {
        var visitor = StateVisitor(.save)
        visit(&visitor)
        return visitor.bytes
    }

    /// Goes back (or forth) to where `saveState` was called. False: not this log's state.
    package func loadState(_ bytes: [UInt8]) -> Bool {
        var visitor = StateVisitor(loading: bytes)
        visit(&visitor)
        return visitor.isComplete
    }

    private func visit(_ visitor: inout StateVisitor) {
        var chunk = Int64(nextChunk)
        visitor.field("nextChunk", &chunk)
        visitor.field("cursor", &cursor)
        visitor.field("eventNumber", &eventNumber)
        visitor.field("digestsChecked", &digestsChecked)
        visitor.field("asksAnswered", &asksAnswered)
        visitor.field("isExhausted", &isExhausted)
        visitor.field("lastPosition", &lastPosition)
        visitor.field("output", &output.value)
        transcript?.visit(&visitor)
        guard visitor.mode == .load, visitor.failure == nil else { return }
        endReason = nil
        stopIndex = -1
        stopChunk = -1
        guard chunk >= 0, chunk <= Int64(reader.chunks.count) else { return visitor.fail("no such chunk") }
        if Int(chunk) != nextChunk {
            nextChunk = Int(chunk)
            do { events = nextChunk == 0 ? [] : try cachedEvents(nextChunk - 1) } catch {
                damage = error
                events = []
            }
        }
        if cursor < 0 || cursor > events.count || (cursor == events.count && !isExhausted) {
            visitor.fail("no such event")
            cursor = 0
            isExhausted = true
        }
    }

    /// Decoded chunks, the last used ones: going back and forth decodes little.
    private var recent: [(number: Int, events: [LogEvent])] = []
    private static let recentChunks = 4

    private func cachedEvents(_ number: Int) throws(LogError) -> [LogEvent] {
        if let index = recent.firstIndex(where: { $0.number == number }) {
            let entry = recent.remove(at: index)
            recent.append(entry)
            return entry.events
        }
        let events = try reader.events(inChunk: number)
        recent.append((number, events))
        if recent.count > Self.recentChunks { recent.removeFirst() }
        return events
    }

    private var next: LogEvent? { isExhausted ? nil : events[cursor] }

    private func time(_ event: LogEvent) -> VirtualTime { event.position << UInt64(header.clockShift) &+ event.skipped }

    private func divergence(_ now: Moment, _ place: String, expected: String, actual: String) -> Divergence {
        Divergence(event: eventNumber, moment: now, place: place, expected: expected, actual: actual)
    }

    /// Stops here when the log is cut off.
    package var lastKnownPosition: Position { lastPosition }

    package func horizon(after now: Moment) -> Position {
        // Transactions happen by themselves; the first let-in or the end is what must not be passed.
        if isExhausted { return max(lastPosition, now.position + 1) }
        if stopIndex < cursor || stopChunk != nextChunk {
            stopIndex = cursor
            stopChunk = nextChunk
            while stopIndex < events.count - 1 {
                let event = events[stopIndex]
                if (event.kind.isLetIn && !event.within) || event.kind == .end || event.kind == .idle { break }
                stopIndex += 1
            }
        }
        // With no let-in up to the chunk's end, its last event is where to look again.
        return max(events[stopIndex].position, now.position + 1)
    }

    package func nextInput(at now: Moment) throws(Divergence) -> TimedInput? {
        guard let event = next, event.kind.isLetIn, !event.within else { return nil }
        if event.position > now.position { return nil }
        if event.position < now.position {
            throw divergence(now, names(event), expected: "\(event.kind.name) at position \(event.position)", actual: "it was not taken")
        }
        let due = time(event)
        if due > now.time { return nil }
        if due < now.time {
            throw divergence(now, names(event), expected: "\(event.kind.name) at time \(due) ns", actual: "\(now.time) ns")
        }
        guard let input = try input(event, now) else { return nil }
        if case .dmaRead(let address, let bytes) = input { try check(address, bytes, event, now) }
        advance(1)
        if let onCrossing, case .host(let source, let bytes) = input { onCrossing(false, source, bytes, now.time) }
        return TimedInput(input, at: now)
    }

    package func idle(at now: Moment, until deadline: VirtualTime) throws(Divergence) -> VirtualTime {
        try takeIdleDMA(now, until: deadline)
        guard let event = next else { return deadline == .max ? .max : deadline }
        if event.kind == .idle, event.position == now.position {
            let time = time(event)
            if time <= deadline {
                if time <= now.time { throw divergence(now, "idle", expected: "until \(time) ns", actual: "already at \(now.time) ns") }
                advance(1)
                return time
            }
        }
        if event.kind == .idle, event.position < now.position {
            throw divergence(now, "idle", expected: "idle at position \(event.position)", actual: "position \(now.position)")
        }
        return deadline
    }

    package func endRequested(at now: Moment) -> EndReason? {
        guard let event = next else { return now.position >= lastPosition ? .quit : nil }
        guard event.kind == .end, event.position == now.position, time(event) <= now.time else { return nil }
        // The other reasons come from inside by themselves.
        let reason = EndReason(rawValue: UInt8(truncatingIfNeeded: event.value))
        return reason == .quit || reason == .positionReached ? reason : nil
    }

    package func ask(_ question: Question, at now: Moment) throws(Divergence) -> UInt64 {
        try takeWithin(now)
        let actual = LogEvent(question, LogEvent(.answer, position: now.position), pc: now.pc)
        let event = try expect(actual, now)
        asksAnswered += 1
        return event?.value ?? 0
    }

    package func askBlock(
        port: UInt16, width: UInt8, into buffer: UnsafeMutableRawBufferPointer, at now: Moment
    ) throws(Divergence) -> ImageOrigin? {
        try takeWithin(now)
        if let event = next, event.kind == .portRead { return try askElements(port, width, buffer, now) }
        var actual = LogEvent(
            block: port, width: width, count: buffer.count, LogEvent(.portBlock, position: now.position), pc: now.pc)
        if let event = next, event.kind == .portImage { actual.kind = .portImage }
        let found = try expect(actual, now)
        asksAnswered += 1
        guard let found else {
            buffer.initializeMemory(as: UInt8.self, repeating: 0)
            return nil
        }
        if found.kind == .portImage {
            let origin = ImageOrigin(image: UInt8(found.value >> 56), offset: found.value & (1 << 56 - 1))
            guard readImage(origin, buffer) else { throw unreadable(origin, buffer.count, now) }
        } else {
            guard found.bytes.count == buffer.count else {
                throw divergence(
                    now, names(actual), expected: "\(found.bytes.count) bytes", actual: "\(buffer.count) bytes")
            }
            buffer.copyBytes(from: found.bytes)
        }
        return nil
    }

    package func askDisk(
        _ number: UInt8, offset: UInt64, into buffer: UnsafeMutableRawBufferPointer, at now: Moment
    ) throws(Divergence) {
        try takeWithin(now)
        let actual = LogEvent(
            disk: number, offset: offset, count: buffer.count, LogEvent(.diskData, position: now.position), pc: now.pc)
        buffer.initializeMemory(as: UInt8.self, repeating: 0)
        guard let found = try expect(actual, now) else { return }
        asksAnswered += 1
        guard found.value == offset, found.bytes.count == buffer.count else {
            throw Divergence(
                event: eventNumber - 1, moment: now, place: names(found), expected: "\(found.bytes.count) bytes at offset \(found.value)",
                actual: "\(buffer.count) bytes at offset \(offset)")
        }
        buffer.copyBytes(from: found.bytes)
    }

    /// Recordings of earlier versions have an event for each element.
    private func askElements(
        _ port: UInt16, _ width: UInt8, _ buffer: UnsafeMutableRawBufferPointer, _ now: Moment
    ) throws(Divergence) -> ImageOrigin? {
        for offset in stride(from: 0, through: buffer.count - Int(width), by: Int(width)) {
            let value = try ask(.portRead(port: port, width: width), at: now)
            for lane in 0..<Int(width) { buffer[offset + lane] = UInt8(truncatingIfNeeded: value >> UInt64(lane * 8)) }
        }
        return nil
    }

    private func unreadable(_ origin: ImageOrigin, _ count: Int, _ now: Moment) -> Divergence {
        divergence(
            now, "disk image \(origin.image)", expected: "\(count) bytes at offset \(origin.offset)",
            actual: "they cannot be read")
    }

    package func send(_ effect: Effect, at now: Moment) throws(Divergence) {
        if case .host(let source, let bytes) = effect {
            output.mix(UInt64(source))
            bytes.withUnsafeBytes { output.mix(bytes: $0) }
            onSend?(source, bytes)
            onCrossing?(true, source, bytes, now.time)
            transcript?.sent(source, bytes, at: now.position)
            return
        }
        try takeWithin(now)
        guard let actual = LogEvent(effect, LogEvent(.portWrite, position: now.position), pc: now.pc) else { return }
        let event = try expect(actual, now)
        if let event, event.value != actual.value {
            throw Divergence(
                event: eventNumber - 1, moment: now, place: names(event), expected: "write of 0x\(String(event.value, radix: 16))",
                actual: "0x\(String(actual.value, radix: 16))")
        }
        if case .portWrite(let port, _, let value) = effect {
            onPortWrite?(port, value)
            transcript?.written(port, value, at: now.position)
        }
    }

    /// Bus masters work while the CPU is halted. What they did before it wakes is in the log before the idle time.
    private func takeIdleDMA(_ now: Moment, until deadline: VirtualTime) throws(Divergence) {
        while let event = next, event.kind.isDMA, !event.within, event.position == now.position, time(event) <= now.time || time(event) < deadline {
            try apply(event, now)
        }
    }

    /// The next event must be this transaction. Nil: the log is exhausted.
    private func expect(_ actual: LogEvent, _ now: Moment) throws(Divergence) -> LogEvent? {
        guard let event = next else { return nil }
        if event.kind != actual.kind || event.address != actual.address || event.width != actual.width {
            throw divergence(
                now, names(actual), expected: "\(event.kind.name) \(names(event)) width \(event.width) at position \(event.position)",
                actual: "\(actual.kind.name) \(names(actual)) width \(actual.width)")
        }
        if event.position != now.position {
            throw divergence(now, names(event), expected: "position \(event.position)", actual: "\(now.position)")
        }
        if event.pc != actual.pc {
            throw divergence(
                now, names(event), expected: "PC 0x\(String(event.pc, radix: 16))", actual: "0x\(String(actual.pc, radix: 16))")
        }
        advance(1)
        return event
    }

    /// Applies what came in while the coming transaction was being answered.
    private func takeWithin(_ now: Moment) throws(Divergence) {
        while let event = next, event.within {
            guard event.position == now.position else { return }
            try apply(event, now)
        }
    }

    /// Carries a DMA event out.
    private func apply(_ event: LogEvent, _ now: Moment) throws(Divergence) {
        switch try input(event, now) {
        case .dmaWrite(let address, let bytes): bytes.withUnsafeBytes { memory?.dmaWrite(address, from: $0) }
        case .dmaRead(let address, let bytes): try check(address, bytes, event, now)
        default: break
        }
        advance(1)
    }

    /// The input that a let-in event is, with the bytes that the log only names.
    private func input(_ event: LogEvent, _ now: Moment) throws(Divergence) -> Input? {
        if event.kind == .dmaWrite || event.kind == .dmaImage { lastDMA = eventNumber }
        guard event.kind == .dmaImage else { return event.input }
        var bytes = [UInt8](repeating: 0, count: Int(min(event.width, 1 << 20)))
        let origin = ImageOrigin(image: UInt8(truncatingIfNeeded: event.pc), offset: event.value)
        guard bytes.withUnsafeMutableBytes({ readImage(origin, $0) }) else {
            throw unreadable(origin, bytes.count, now)
        }
        return .dmaWrite(address: event.address, bytes: bytes)
    }

    /// What a device read from RAM must be there again.
    private func check(_ address: UInt64, _ bytes: [UInt8], _ event: LogEvent, _ now: Moment) throws(Divergence) {
        guard let memory else { return }
        var actual = [UInt8](repeating: 0, count: bytes.count)
        actual.withUnsafeMutableBytes { memory.dmaRead(address, into: $0) }
        if let index = actual.indices.first(where: { actual[$0] != bytes[$0] }) {
            throw divergence(
                now, "DMA read of RAM at 0x\(String(address + UInt64(index), radix: 16))",
                expected: "0x\(String(bytes[index], radix: 16))", actual: "0x\(String(actual[index], radix: 16))")
        }
    }

    package func nextDigest(after position: Position) -> Position {
        header.nextDigest(after: position)
    }

    package func checkpoint(_ digests: [PartDigest], at now: Moment) throws(Divergence) {
        guard let event = next else { return }
        guard event.kind == .digest, event.position == now.position else {
            throw divergence(
                now, names(event), expected: "\(event.kind.name) at position \(event.position)", actual: "a digest")
        }
        try compare(event, digests, now)
        advance(1)
    }

    private func compare(_ event: LogEvent, _ digests: [PartDigest], _ now: Moment) throws(Divergence) {
        let all = header.boundary == .inputs ? digests + [PartDigest(part: "output", digest: output.value)] : digests
        if let difference = DigestRecord.difference(event.bytes, all) {
            let divergence = divergence(now, difference.part, expected: difference.expected, actual: difference.actual)
            guard let onDifference else { throw divergence }
            return onDifference(divergence)
        }
        digestsChecked += 1
    }

    package func end(_ reason: EndReason, _ digests: [PartDigest], at now: Moment) throws(Divergence) {
        guard let event = next else { return }
        guard event.kind == .end, event.position == now.position, event.value == UInt64(reason.rawValue) else {
            throw divergence(
                now, names(event), expected: "\(event.kind.name) at position \(event.position)", actual: "the end (\(reason))")
        }
        try compare(event, digests, now)
        endReason = reason
        advance(1)
    }
}
