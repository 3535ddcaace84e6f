import Boundary
import DeviceBus
import Machine
import MachineState
import Replay

/// Feeds a recording's CPU side to fresh devices, and compares what they answer with what the recorded ones did: a test for
/// device models, made of a real driver's run. The devices must have run on the virtual clock; what the host let in (keys,
/// console input, cables that are pulled; but not frames) is not in the log, so that devices depart from the recording where
/// it mattered.
package final class DeviceTest {
    /// Where the devices do something else than the recorded ones.
    package struct Departure: Sendable {
        package let device: String
        package let event: UInt64
        package let position: Position
        package let text: String
    }

    private let trace: TraceReader
    private let live: LiveBoundary
    private let plane: DevicePlane
    private let memory: LogMemory
    private let shift: UInt64
    private var now = Moment(position: 0, time: 0)
    private var skipped: VirtualTime = 0
    /// The present chunk and the next one.
    private var events: [LogEvent] = []
    private var firstNumber: UInt64 = 0
    private var nextChunk = 0
    /// Interrupt line changes that the devices have made and the log has not had yet.
    private var lines: [(level: Bool, position: Position, time: VirtualTime)] = []

    package private(set) var departures: [Departure] = []
    /// Departures in all, by device; only so many are kept.
    package private(set) var counts: [String: Int] = [:]
    package private(set) var compared: [String: UInt64] = [:]
    private static let mostKept = 1000
    private static let mostAhead = 1 << 16
    /// DMA in idle time comes in the log before the idle time.
    private static let mostBehind = 4096

    /// - Parameters:
    ///   - configuration: with the firmware's files, if there are any.
    ///   - media: the disks' images.
    package init(_ trace: TraceReader, configuration: PCConfiguration, media: [DiskImage]) throws {
        self.trace = trace
        shift = UInt64(trace.reader.header.clockShift)
        let live = LiveBoundary(pace: .free)
        self.live = live
        plane = DevicePlane(
            configuration: configuration, memoryMap: try MemoryMap(size: configuration.memory), clock: .virtual, media: media,
            host: live)
        plane.shift = trace.reader.header.clockShift
        memory = LogMemory(media)
        plane.insideMemory = memory
        memory.test = self
    }

    package func run() throws {
        var index = 0
        try load()
        while true {
            if index >= events.count - Self.mostAhead, nextChunk < trace.reader.chunks.count {
                let passed = max(0, index - Self.mostBehind)
                tellMissing(before: passed)
                events.removeFirst(passed)
                memory.moved(by: passed)
                firstNumber += UInt64(passed)
                index -= passed
                try load()
            }
            guard index < events.count else { break }
            memory.cursor = index
            try step(events[index], index)
            index += 1
        }
        tellMissing(before: events.count)
    }

    private func tellMissing(before end: Int) {
        for index in memory.missing(in: events, before: end) { tell("recorded DMA did not happen", index) }
    }

    private func load() throws {
        guard nextChunk < trace.reader.chunks.count else { return }
        let more = try trace.reader.events(inChunk: nextChunk)
        // Frames must be there before the moment at which they come in.
        for event in more where event.kind == .frame && event.width == 0 {
            live.push(source: UInt16(truncatingIfNeeded: event.address), bytes: event.bytes, due: event.value)
        }
        events += more
        nextChunk += 1
    }

    // MARK: The CPU's side

    private func step(_ event: LogEvent, _ index: Int) throws {
        let number = firstNumber + UInt64(index)
        switch event.kind {
        case .portRead, .portWrite, .memoryRead, .memoryWrite, .interruptAcknowledge, .portBlock, .portImage:
            try advance(to: event, number)
            try transact(event, number, isLast: isLastOfInstruction(index))
        case .idle: try advance(to: event, number)
        case .interruptLine:
            try advance(to: event, number)
            let expected = event.value != 0
            let isThere = lines.first.map { $0.level == expected && $0.position == event.position } ?? false
            if isThere {
                lines.removeFirst()
                compared["interrupts", default: 0] += 1
            } else {
                depart("interrupts", number, "INTR \(expected ? "raised" : "lowered") in the recording, not by these devices")
                lines.removeAll { $0.position <= event.position }
            }
        case .frame where event.width == 0:
            // It has been pushed, and comes in by itself.
            try advance(to: event, number)
        case .dmaRead, .dmaWrite, .dmaImage: if !event.within { try advance(to: event, number) }
        default: break
        }
    }

    /// Lets the devices' time pass up to an event, as the machine's run loop does; then the idle time before it.
    private func advance(to event: LogEvent, _ number: UInt64) throws {
        while now.position < event.position {
            let next = min(max(plane.horizon(after: now), now.position + 1), event.position)
            now = Moment(position: next, time: next << shift &+ skipped)
            try takeInputs()
        }
        // Only these have their time in the log; a transaction comes in the moment of what came before it.
        if event.kind.isTransaction { return }
        skipped = event.skipped
        let end = event.position << shift &+ skipped
        guard end > now.time else { return }
        let reached = try plane.idle(at: now, until: end)
        if reached != end { depart("clock", number, "idle until \(end) ns, the devices want the CPU at \(reached) ns") }
        now.time = end
        try takeInputs()
    }

    private func takeInputs() throws {
        while let input = try plane.nextInput(at: now) {
            if case .interruptLine(let level) = input.input { lines.append((level, now.position, now.time)) }
        }
    }

    /// An instruction may make several accesses: the devices' time goes on after the last.
    private func isLastOfInstruction(_ index: Int) -> Bool {
        for next in events[(index + 1)...] where !next.kind.isOptional {
            return next.position != events[index].position || !(next.kind.isTransaction || next.within)
        }
        return true
    }

    private func transact(_ event: LogEvent, _ number: UInt64, isLast: Bool) throws {
        let moment = Moment(position: event.position, time: event.position << shift &+ skipped, pc: event.pc)
        let width = UInt8(truncatingIfNeeded: event.width)
        guard [1, 2, 4, 8].contains(width) || event.kind == .interruptAcknowledge || event.kind.hasBlock else { return }
        let port = UInt16(truncatingIfNeeded: event.address)
        var answer: UInt64?
        switch event.kind {
        case .portRead: answer = try plane.ask(.portRead(port: port, width: width), at: moment)
        case .memoryRead: answer = try plane.ask(.memoryRead(address: event.address, width: width), at: moment)
        case .interruptAcknowledge: answer = try plane.ask(.interruptAcknowledge, at: moment)
        case .portWrite: try plane.send(.portWrite(port: port, width: width, value: event.value), at: moment)
        case .memoryWrite: try plane.send(.memoryWrite(address: event.address, width: width, value: event.value), at: moment)
        case .portBlock, .portImage: try block(event, number, port, moment)
        default: break
        }
        follow(event)
        let place = name(event)
        compared[place.device, default: 0] += 1
        if let answer, answer != event.value {
            depart(
                place.device, number,
                "\(place.register) answers 0x\(String(answer, radix: 16)), recorded 0x\(String(event.value, radix: 16))")
        }
        // The instruction is retired then, but an acknowledgement is no instruction.
        if !isLast { return }
        if event.kind != .interruptAcknowledge {
            now = Moment(position: max(now.position, event.position + 1), time: (event.position + 1) << shift &+ skipped)
        }
        try takeInputs()
    }

    private func block(_ event: LogEvent, _ number: UInt64, _ port: UInt16, _ moment: Moment) throws {
        let width = UInt8(truncatingIfNeeded: event.elementWidth)
        guard [1, 2, 4].contains(width), event.blockLength % Int(width) == 0 else { return }
        var bytes = [UInt8](repeating: 0, count: event.blockLength)
        _ = try bytes.withUnsafeMutableBytes { try plane.askBlock(port: port, width: width, into: $0, at: moment) }
        let expected =
            event.kind == .portBlock
            ? event.bytes : memory.image(UInt8(truncatingIfNeeded: event.value >> 56), event.value & (1 << 56 - 1), bytes.count)
        if let expected, expected != bytes { depart(name(event).device, number, "\(bytes.count) bytes of \(name(event).register) differ") }
    }

    private func follow(_ event: LogEvent) {
        if event.kind == .portWrite { trace.map.follow(.port, event.address, width: Int(event.width), value: event.value) }
    }
    private func name(_ event: LogEvent) -> (device: String, register: String) {
        if event.kind == .interruptAcknowledge { return ("interrupts", "acknowledgement") }
        let isMemory = event.kind == .memoryRead || event.kind == .memoryWrite
        let place = trace.map.place(isMemory ? .memory : .port, event.address)
        let isWrite = event.kind == .portWrite || event.kind == .memoryWrite
        return (place?.device ?? "-", place?.name(isWrite: isWrite) ?? "0x" + String(event.address, radix: 16))
    }

    fileprivate func depart(_ device: String, _ event: UInt64, _ text: String) {
        counts[device, default: 0] += 1
        if departures.count >= Self.mostKept { return }
        departures.append(Departure(device: device, event: event, position: now.position, text: text))
    }

    // MARK: RAM

    /// RAM as the log knows it: what devices read there is in it, and what they write.
    private final class LogMemory: InsideMemory {
        weak var test: DeviceTest?
        private let media: [DiskImage]
        /// The present event's index, and DMA ahead of it that has happened already.
        var cursor = 0
        private var done: Set<Int> = []

        init(_ media: [DiskImage]) { self.media = media }

        func moved(by count: Int) { done = Set(done.compactMap { $0 >= count ? $0 - count : nil }) }

        func image(_ number: UInt8, _ offset: UInt64, _ count: Int) -> [UInt8]? {
            guard let disk = media.first(where: { $0.number == number }) else { return nil }
            var bytes = [UInt8](repeating: 0, count: count)
            bytes.withUnsafeMutableBytes { disk.readFile(offset, $0) }
            return bytes
        }

        /// The next event of DMA at an address.
        private func find(_ address: UInt64, _ count: Int, isRead: Bool) -> (Int, LogEvent)? {
            guard let test else { return nil }
            for index in max(0, cursor - DeviceTest.mostBehind)..<min(test.events.count, cursor + 4096) where !done.contains(index) {
                let event = test.events[index]
                guard event.kind.isDMA, event.address == address, (event.kind == .dmaRead) == isRead else { continue }
                let length = event.kind == .dmaImage ? Int(event.width) : event.bytes.count
                if length == count { return (index, event) }
            }
            return nil
        }

        func dmaRead(_ address: UInt64, into buffer: UnsafeMutableRawBufferPointer) {
            guard let (index, event) = find(address, buffer.count, isRead: true) else {
                buffer.initializeMemory(as: UInt8.self, repeating: 0)
                test?.tell("reads \(buffer.count) bytes of RAM at 0x\(String(address, radix: 16)), which was not recorded", cursor)
                return
            }
            done.insert(index)
            buffer.copyBytes(from: event.bytes)
            test?.compared["DMA", default: 0] += 1
        }

        func dmaWrite(_ address: UInt64, from buffer: UnsafeRawBufferPointer) {
            guard let (index, event) = find(address, buffer.count, isRead: false) else {
                test?.tell("writes \(buffer.count) bytes of RAM at 0x\(String(address, radix: 16)), which was not recorded", cursor)
                return
            }
            done.insert(index)
            test?.compared["DMA", default: 0] += 1
            let expected =
                event.kind == .dmaImage
                ? image(UInt8(truncatingIfNeeded: event.pc), event.value, buffer.count) : event.bytes
            if let expected, !buffer.elementsEqual(expected) {
                test?.tell("writes other bytes to RAM at 0x\(String(address, radix: 16)) than recorded", index)
            }
        }

        /// DMA that has been passed, and did not happen.
        func missing(in events: [LogEvent], before end: Int) -> [Int] {
            (0..<min(end, events.count)).filter { events[$0].kind.isDMA && !done.contains($0) }
        }
    }

    private func tell(_ text: String, _ index: Int) { depart("DMA", firstNumber + UInt64(index), text) }
}

extension LogEvent.Kind {
    fileprivate var hasBlock: Bool { self == .portBlock || self == .portImage }
}
