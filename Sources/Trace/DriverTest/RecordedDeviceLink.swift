import Boundary
import DeviceBus
import Devices
import MachineState

/// A recorded device in a machine that runs: it answers a driver as it did in the recording, does what it did then when the
/// driver has come to the same place, and notes where the driver departs.
package final class RecordedDeviceLink: ForeignDeviceLink {
    /// Where the driver does something else than what is recorded.
    package struct Departure: Sendable {
        /// In the recording: the event that was to come next; nil at its end.
        package var event: UInt64?
        package var recorded: Position?
        /// In this run.
        package var moment: Moment
        package var text: String
    }

    private let device: RecordedDevice
    private let readImage: (ImageOrigin, UnsafeMutableRawBufferPointer) -> Bool
    /// The present. Set before the run.
    package var moment: () -> Moment = { Moment(position: 0, time: 0) }
    package var memory: (any DMAPort)?
    package let isGone = false
    /// The first ones; `departureCount` has all.
    package private(set) var departures: [Departure] = []
    package private(set) var departureCount = 0
    /// Accesses that agree with the recording.
    package private(set) var agreeing = 0
    /// Recorded accesses that have not been made, but for rounds of polling.
    package private(set) var leftOut = 0
    private static let mostDepartures = 1000
    /// The driver may leave out so many accesses at once; it does something else if it comes to none of them.
    private static let window = 16

    /// What is before is done.
    private var cursor = 0
    /// What the device does by itself, after the access that came before it, and when.
    private var queue: [(due: VirtualTime, index: Int)] = []
    private var ready: [(ForeignInterrupt, Int)] = []
    private struct Place: Hashable {
        var bar: Int
        var offset: UInt64
        var width: Int
        var isWrite: Bool
    }
    private var last: Place?
    /// What registers have last read as.
    private var known: [Place: UInt64] = [:]
    /// Where buffers were, and where they are now.
    private var moved: [(from: UInt64, to: UInt64)] = []
    /// A buffer is no longer than this, as far as is known, bytes.
    private static let reach: UInt64 = 0x1_0000

    /// - Parameter readImage: a part of a recorded disk image; false when it cannot be read.
    package init(_ device: RecordedDevice, readImage: @escaping (ImageOrigin, UnsafeMutableRawBufferPointer) -> Bool) {
        self.device = device
        self.readImage = readImage
        if device.isFixed { channels = [Channel(), Channel()] }
        for event in device.events {
            if case .access(let access) = event.step, let register = access.register { names[place(access)] = register }
        }
    }
    private var names: [Place: RecordedDevice.RegisterPlace] = [:]
    /// The bus masters of an IDE controller: buffers are where the driver's tables say now, in whatever pieces.
    private var channels: [Channel] = []
    private var activeChannel: Int?
    private struct Channel {
        /// The recorded table; the present one is the master's.
        var recorded: UInt64 = 0
        var master = BusMaster()
    }
    /// The base address register 4 of an IDE controller, where the tables' addresses are at offsets 4 and 12.
    private static let masterBar = PIIX3IDE.standInRegion + 4
    private static let mostDescriptors: UInt64 = 8192
    /// What is left of the last block of data that was recorded: the driver need not take it in the same pieces.
    private var rest: (place: Place, bytes: ArraySlice<UInt8>)?

    /// Recorded accesses that are still to come.
    package var remaining: Int {
        device.events[min(cursor, device.events.count)...].count { if case .access = $0.step { true } else { false } }
    }

    private func depart(_ text: String, at index: Int) {
        departureCount += 1
        guard departures.count < Self.mostDepartures else { return }
        let event = device.events.indices.contains(index) ? device.events[index] : nil
        departures.append(Departure(event: event?.number, recorded: event?.position, moment: moment(), text: text))
    }

    // MARK: The driver

    package func read(region: Int, offset: UInt64, width: Int) -> UInt64? {
        if region == ForeignFunction.configurationRegion {
            return device.settings.configuration.indices.contains(Int(offset)) ? UInt64(device.settings.configuration[Int(offset)]) : 0
        }
        let place = Place(bar: region, offset: offset, width: width, isWrite: false)
        if rest?.place != place {
            let value = access(place, 0)
            if rest?.place != place { return value }
        }
        return take(place, width).enumerated().reduce(0) { $0 | UInt64($1.element) << UInt64($1.offset * 8) }
    }

    package func readBlock(region: Int, offset: UInt64, width: Int, into buffer: UnsafeMutableRawBufferPointer) -> Bool {
        let place = Place(bar: region, offset: offset, width: width, isWrite: false)
        var done = 0
        while done < buffer.count {
            if rest?.place != place {
                let value = access(place, 0)
                if rest?.place != place { rest = (place, (0..<width).map { UInt8(truncatingIfNeeded: value >> UInt64($0 * 8)) }[...]) }
            }
            let piece = take(place, buffer.count - done)
            UnsafeMutableRawBufferPointer(rebasing: buffer[done..<done + piece.count]).copyBytes(from: piece)
            done += piece.count
        }
        return true
    }

    /// So many bytes of what is left of a block, at most; one at least.
    private func take(_ place: Place, _ count: Int) -> ArraySlice<UInt8> {
        guard let (_, bytes) = rest, !bytes.isEmpty else { return [0] }
        let left = bytes.dropFirst(count)
        rest = left.isEmpty ? nil : (place, left)
        return bytes.prefix(count)
    }

    /// The data of a recorded block.
    private func bytes(_ block: RecordedDevice.Block) -> [UInt8] {
        switch block {
        case .bytes(let bytes): return bytes
        case .image(let origin, let count):
            var bytes = [UInt8](repeating: 0, count: count)
            if !bytes.withUnsafeMutableBytes({ readImage(origin, $0) }) { bytes = [UInt8](repeating: 0, count: count) }
            return bytes
        }
    }

    package func write(region: Int, offset: UInt64, width: Int, value: UInt64) {
        if region == ForeignFunction.configurationRegion { return }
        let mask: UInt64 = width >= 8 ? .max : (1 << UInt64(width * 8)) - 1
        _ = access(Place(bar: region, offset: offset, width: width, isWrite: true), value & mask)
    }

    private func place(_ access: RecordedDevice.Access) -> Place {
        Place(bar: access.bar, offset: access.offset, width: access.width, isWrite: access.isWrite)
    }

    private func access(_ wanted: Place, _ value: UInt64) -> UInt64 {
        // What the driver has not taken before it wants something else is gone.
        if wanted.isWrite { rest = nil }
        // The next such access, and what would be left out before it.
        var leftOut: [Int] = []
        var found: (index: Int, access: RecordedDevice.Access)?
        var index = cursor
        while index < device.events.count, leftOut.count <= Self.window {
            if case .access(let access) = device.events[index].step {
                if place(access) == wanted {
                    found = (index, access)
                    break
                }
                // Rounds of polling may be fewer than recorded.
                if !(place(access) == last && !access.isWrite && access.block == nil) { leftOut.append(index) }
            }
            index += 1
        }
        // They may be more, too.
        if found == nil || !leftOut.isEmpty, !wanted.isWrite, wanted == last, let value = known[wanted] { return value }
        guard let found, leftOut.count <= Self.window else {
            let next = nextAccess(cursor)
            depart("\(describe(wanted, value)); recorded: \(next.map { describe($0.access) } ?? "nothing more")", at: next?.index ?? cursor)
            return known[wanted] ?? 0
        }
        if let first = leftOut.first, case .access(let access) = device.events[first].step {
            self.leftOut += leftOut.count
            depart(
                "\(describe(wanted, value)); recorded before it, and left out: \(describe(access))"
                    + (leftOut.count > 1 ? ", and \(leftOut.count - 1) more" : ""), at: first)
        }
        finishQueue(before: found.index)
        cursor = found.index + 1
        last = wanted
        known[wanted] = found.access.value
        if let block = found.access.block {
            let data = bytes(block)
            rest = data.isEmpty ? nil : (wanted, data[...])
        }
        if wanted.isWrite { compare(found.access, value, found.index) } else { agreeing += 1 }
        if wanted.isWrite, wanted.bar == Self.masterBar, wanted.width == 4, wanted.offset & 7 == 4, channels.count > Int(wanted.offset / 8) {
            channels[Int(wanted.offset / 8)].recorded = found.access.value & ~3
            channels[Int(wanted.offset / 8)].master.table = UInt32(truncatingIfNeeded: value & ~3)
        }
        follow(found.index)
        return found.access.value
    }

    private func compare(_ access: RecordedDevice.Access, _ value: UInt64, _ index: Int) {
        if access.value == value || access.register?.holdsTime == true {
            agreeing += 1
        } else if access.register?.holdsAddress == true {
            agreeing += 1
            move(access.value, value)
        } else {
            depart("\(describe(place(access), value)), recorded: 0x\(String(access.value, radix: 16))", at: index)
        }
    }

    private func nextAccess(_ start: Int) -> (index: Int, access: RecordedDevice.Access)? {
        for index in start..<max(device.events.count, start) {
            if case .access(let access) = device.events[index].step { return (index, access) }
        }
        return nil
    }

    private func describe(_ access: RecordedDevice.Access) -> String {
        let name = access.register?.name ?? "BAR \(access.bar)+0x\(String(access.offset, radix: 16))"
        return access.isWrite ? "\(name) <- 0x\(String(access.value, radix: 16))" : "\(name) is read"
    }
    private func describe(_ place: Place, _ value: UInt64) -> String {
        // As it is called where the recording has it, in this direction or the other.
        let other = Place(bar: place.bar, offset: place.offset, width: place.width, isWrite: !place.isWrite)
        return describe(
            RecordedDevice.Access(
                bar: place.bar, offset: place.offset, width: place.width, isWrite: place.isWrite, value: value,
                register: names[place] ?? names[other] ?? device.register(place.bar, place.offset, isWrite: place.isWrite)))
    }

    // MARK: The device

    /// What it did by itself after an access is due as long after it as it was.
    private func follow(_ index: Int) {
        let now = moment().time
        var next = index + 1
        while next < device.events.count {
            if case .access = device.events[next].step { return }
            queue.append((now &+ (device.events[next].time &- device.events[index].time), next))
            next += 1
        }
    }

    /// The driver has come to where the device had done all that before.
    private func finishQueue(before end: Int) {
        for entry in queue {
            lastDone = max(lastDone, entry.index)
            carryOut(device.events[entry.index])
        }
        queue = []
        // After accesses that were left out.
        for index in min(cursor, end)..<end where index >= cursor {
            if case .access = device.events[index].step { continue }
            if index > lastDone { carryOut(device.events[index]) }
        }
        lastDone = max(lastDone, end - 1)
    }
    private var lastDone = -1

    private func carryOut(_ event: RecordedDevice.Event) {
        switch event.step {
        case .access: break
        case .interrupt(let kind, let vector): ready.append((kind, vector))
        case .writeMemory(let address, let bytes): write(bytes, address)
        case .writeImage(let address, let count, let origin):
            var bytes = [UInt8](repeating: 0, count: count)
            guard bytes.withUnsafeMutableBytes({ readImage(origin, $0) }) else { return }
            write(bytes, address)
        case .readMemory(let address, let bytes): look(address, bytes, event)
        }
    }

    private func write(_ bytes: [UInt8], _ address: UInt64) {
        guard let memory else { return }
        if let activeChannel {
            _ = channels[activeChannel].master.store(bytes, from: 0, memory: memory, origin: { _, _ in nil })
        } else {
            bytes.withUnsafeBytes { memory.write(present(address), from: $0) }
        }
    }

    /// An IDE controller fetches a descriptor: the present table may have others. True: that was it.
    private func fetchesDescriptor(_ address: UInt64, _ count: Int) -> Bool {
        guard count == 8 else { return false }
        for number in channels.indices {
            let place = address &- channels[number].recorded
            guard place < Self.mostDescriptors * 8, place % 8 == 0 else { continue }
            activeChannel = number
            if place == 0 { channels[number].master.start() }
            return true
        }
        return false
    }

    /// The device reads RAM: what it finds is compared, and tells where buffers are now.
    private func look(_ address: UInt64, _ recorded: [UInt8], _ event: RecordedDevice.Event) {
        guard let memory else { return }
        if fetchesDescriptor(address, recorded.count) { return }
        var found = [UInt8](repeating: 0, count: recorded.count)
        if let activeChannel {
            _ = channels[activeChannel].master.fetch(&found, from: 0, memory: memory)
        } else {
            found.withUnsafeMutableBytes { memory.read(present(address), into: $0) }
        }
        if found == recorded { return }
        func word(_ bytes: [UInt8], _ offset: Int, _ width: Int) -> UInt64 {
            (0..<width).reduce(0) { $0 | UInt64(bytes[offset + $1]) << UInt64($1 * 8) }
        }
        /// Both may be addresses: the buffer is elsewhere.
        func moves(_ offset: Int, _ width: Int) -> Bool {
            let (before, now) = (word(recorded, offset, width), word(found, offset, width))
            guard (0x1000..<1 << 40).contains(before), (0x1000..<1 << 40).contains(now) else { return false }
            move(before, now)
            return true
        }
        var offset = 0
        while offset < recorded.count {
            // Addresses are words of eight bytes, or of four in older devices, where a count may follow.
            let isWide = address &+ UInt64(offset) & 7 == 0 && offset + 8 <= recorded.count
            let width = isWide ? 8 : offset + 4 <= recorded.count ? 4 : 1
            if word(recorded, offset, width) == word(found, offset, width) {
                offset += width
                continue
            }
            let hasCount = isWide && word(recorded, offset + 4, 4) == word(found, offset + 4, 4)
            let isNarrowMoved = hasCount && moves(offset, 4)
            if width >= 4 && moves(offset, width) || isNarrowMoved {
                offset += width
                continue
            }
            depart(
                "the device reads 0x\(String(word(found, offset, width), radix: 16)) at byte \(offset) of \(recorded.count), "
                    + "recorded: 0x\(String(word(recorded, offset, width), radix: 16))",
                at: device.events.firstIndex { $0.number == event.number } ?? cursor)
            return
        }
    }

    private func move(_ from: UInt64, _ to: UInt64) {
        moved.removeAll { $0.from == from }
        moved.append((from, to))
        if moved.count > 4096 { moved.removeFirst(1024) }
    }

    /// Where a recorded address is in this run.
    private func present(_ address: UInt64) -> UInt64 {
        let near = moved.filter { $0.from <= address && address - $0.from < Self.reach }.max { $0.from < $1.from }
        return near.map { $0.to &+ (address - $0.from) } ?? address
    }

    package func poll(_ interrupted: (ForeignInterrupt, Int) -> Void) {
        let now = moment().time
        while let first = queue.first, first.due <= now {
            queue.removeFirst()
            lastDone = max(lastDone, first.index)
            carryOut(device.events[first.index])
        }
        let interrupts = ready
        ready = []
        for (kind, vector) in interrupts { interrupted(kind, vector) }
    }

    package var nextDue: VirtualTime { ready.isEmpty ? queue.first?.due ?? .max : 0 }

    package func enable(_ kind: ForeignInterrupt, count: Int) {}
    package func unmaskPin() {}
    package func reset() {}
    package func close() {}
    package func start(_ nudge: @escaping @Sendable () -> Void) {}
    package func arm() {}
}
