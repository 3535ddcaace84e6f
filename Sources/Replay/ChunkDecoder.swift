import MachineState

/// Events out of the columns of one chunk.
struct ChunkDecoder {
    private struct Cursor {
        private var next: UnsafePointer<UInt8>?
        private(set) var left: Int
        init(_ bytes: UnsafeBufferPointer<UInt8>) {
            next = bytes.baseAddress
            left = bytes.count
        }
        @inline(__always)
        mutating func byte() -> UInt8? {
            guard left > 0, let at = next else { return nil }
            next = at + 1
            left -= 1
            return at.pointee
        }
        @inline(__always)
        mutating func varInt() -> UInt64? {
            guard let first = byte() else { return nil }
            return first < 0x80 ? UInt64(first) : long(first)
        }
        @inline(never)
        private mutating func long(_ first: UInt8) -> UInt64? {
            var value = UInt64(first & 0x7F)
            var shift: UInt64 = 7
            while shift < 64 {
                guard let next = byte() else { return nil }
                value |= UInt64(next & 0x7F) << shift
                if next < 0x80 { return value }
                shift += 7
            }
            return nil
        }
        /// `count` bytes; nil if there are fewer.
        mutating func take(_ count: Int) -> UnsafeBufferPointer<UInt8>? {
            guard count >= 0, count <= left else { return nil }
            let taken = UnsafeBufferPointer(start: next, count: count)
            next = next.map { $0 + count }
            left -= count
            return taken
        }
    }

    private var columns = [Cursor](repeating: Cursor(UnsafeBufferPointer(start: nil, count: 0)), count: ChunkColumn.allCases.count)
    private let predictor = EventPredictor()
    private let transfers = TransferPredictor()
    private let isFirstVersion: Bool
    private let clockShift: UInt64
    private var position: Position
    private var skipped: VirtualTime
    private var imageEnd: UInt64 = 0
    /// Bytes of payload that may still come: a damaged chunk must not ask for more than a whole one can.
    private var payloadLeft = LogLayout.maxChunk

    /// Decodes `count` events of a recording of format version `version`. The error is a reason without file and place.
    static func decode(
        _ bytes: [UInt8], version: UInt32 = LogHeader.formatVersion, clockShift: UInt8, count: Int, firstPosition: Position,
        firstSkipped: VirtualTime
    ) throws(LogError) -> [LogEvent] {
        try bytes.withUnsafeBufferPointer { (bytes) throws(LogError) in
            var decoder = try ChunkDecoder(bytes, version, clockShift, firstPosition, firstSkipped)
            // Every event has a byte in the first column at least.
            guard count <= decoder.columns[0].left else { throw LogError("there are fewer events than it says") }
            var events: [LogEvent] = []
            events.reserveCapacity(count)
            for _ in 0..<count { events.append(try decoder.event()) }
            return events
        }
    }

    private init(
        _ bytes: UnsafeBufferPointer<UInt8>, _ version: UInt32, _ clockShift: UInt8, _ position: Position, _ skipped: VirtualTime
    ) throws(LogError) {
        isFirstVersion = version < 2
        self.clockShift = UInt64(clockShift)
        self.position = position
        self.skipped = skipped
        var offset = 0
        for column in ChunkColumn.all(version: version) {
            guard offset + 4 <= bytes.count else { throw LogError("a column is missing") }
            let length = (0..<4).reduce(0) { $0 | Int(bytes[offset + $1]) << ($1 * 8) }
            offset += 4
            guard length <= bytes.count - offset else { throw LogError("a column is longer than the chunk") }
            columns[column.rawValue] = Cursor(UnsafeBufferPointer(rebasing: bytes[offset..<offset + length]))
            offset += length
        }
    }

    private mutating func varInt(_ column: ChunkColumn, _ error: StaticString) throws(LogError) -> UInt64 {
        guard let value = columns[column.rawValue].varInt() else { throw LogError("\(error)") }
        return value
    }
    private mutating func signed(_ column: ChunkColumn, _ error: StaticString) throws(LogError) -> UInt64 {
        UInt64(bitPattern: VarInt.unzigzag(try varInt(column, error)))
    }

    private mutating func siteNumber() throws(LogError) -> Int {
        let code = try varInt(.sites, "the sites end early")
        var number = code == 0 ? predictor.expectedSite : Int(clamping: code) - 1
        if number == predictor.count, code != 0 {
            let definitions = ChunkColumn.definitions.rawValue
            guard let kind = columns[definitions].byte(), let flags = columns[definitions].byte(),
                let width = columns[definitions].varInt(), let address = columns[definitions].varInt(),
                let pc = columns[definitions].varInt()
            else { throw LogError("the site definitions end early") }
            number = predictor.add(
                EventPredictor.Site(kind: kind, flags: flags, width: UInt32(truncatingIfNeeded: width), address: address, pc: pc),
                isSearched: false)
        }
        guard number >= 0, number < predictor.count else { throw LogError("an event of an unknown site") }
        return number
    }

    private mutating func event() throws(LogError) -> LogEvent {
        let number = try siteNumber()
        let site = predictor.site(number)
        // Optional kinds of later versions have the form of those of today.
        guard let kind = LogEvent.Kind(rawValue: site.kind) ?? (site.kind >= LogEvent.Kind.firstOptional ? .unknown : nil) else {
            throw LogError("an event of kind \(site.kind), which this version does not know")
        }
        let delta = try signed(.deltas, "positions end early") &+ predictor.expectedDelta(number)
        position = position &+ delta
        let isTransaction = kind.isTransaction
        if !isTransaction { skipped = skipped &+ (try varInt(.skips, "times end early")) }
        var event = LogEvent(kind, position: position)
        event.within = site.flags & 1 != 0
        event.skipped = skipped
        event.pc = site.pc
        event.address = site.address
        event.width = site.width
        var expected = predictor.expectedValue(number)
        if !isFirstVersion {
            if kind == .frame { expected = position &<< clockShift &+ skipped }
            if kind.isImage { expected = imageEnd }
        }
        event.value = try signed(.values, "values end early") &+ expected
        if kind.isImage { imageEnd = event.value &+ UInt64(event.imageLength) }
        if isFirstVersion {
            if kind.hasBytes { event.bytes = try payload(length: Int(clamping: try varInt(.lengths, "lengths end early"))) }
        } else if !isTransaction || kind.hasBytes {
            try decodeRest(&event, number)
        }
        predictor.learn(number, delta: delta, value: event.value)
        return event
    }

    /// Address of DMA, and bytes.
    private mutating func decodeRest(_ event: inout LogEvent, _ number: Int) throws(LogError) {
        let kind = event.kind
        let place = TransferPredictor.place(number, predictor.previous, predictor.beforePrevious)
        var length = 0
        if kind.hasBytes {
            length = predictor.expectedLength(number) &+ Int(truncatingIfNeeded: try signed(.lengths, "lengths end early"))
            guard length >= 0, length <= payloadLeft else { throw LogError("payload of an impossible length") }
            payloadLeft -= length
            predictor.learn(number, length: length)
        }
        if kind.isDMA {
            event.address = try signed(.addresses, "addresses end early") &+ transfers.expectedAddress(place, length: length)
            transfers.learn(place, address: event.address, length: length)
        } else if kind == .busMaster {
            event.address = kind.siteAddress(event.address, length: length)
        }
        if length == 0 { return }
        if length >= TransferPredictor.large {
            event.bytes = try largePayload(length: length, place)
            return
        }
        event.bytes = try smallPayload(length: length, kind == .busMaster ? .notes : .small, place)
        if kind == .dmaRead { event.bytes.withUnsafeBufferPointer { transfers.learn(read: $0) } }
    }

    private mutating func payload(length: Int) throws(LogError) -> [UInt8] {
        guard let bytes = columns[ChunkColumn.payload.rawValue].take(length) else { throw LogError("payload ends early") }
        return Array(bytes)
    }

    /// At least one byte.
    private mutating func smallPayload(length: Int, _ column: ChunkColumn, _ place: Int) throws(LogError) -> [UInt8] {
        guard let bytes = columns[column.rawValue].take(length), let from = bytes.baseAddress else { throw LogError("payload ends early") }
        return [UInt8](unsafeUninitializedCapacity: length) { out, count in
            guard let base = out.baseAddress else { return }
            transfers.restore(place, from, count: length, into: base)
            count = length
        }
    }

    private mutating func largePayload(length: Int, _ place: Int) throws(LogError) -> [UInt8] {
        let code = try varInt(.copies, "copies end early")
        var bytes: [UInt8] = []
        bytes.reserveCapacity(length)
        if code == 0 {
            bytes += try smallPayload(length: TransferPredictor.large, .small, place)
            bytes += try rest(length - TransferPredictor.large)
        } else {
            let copy = TransferPredictor.Copy(code: code)
            guard let known = transfers.copied(copy, count: length) else { throw LogError("a copy of what is not there") }
            if copy.isWhole { bytes += try rest(copy.at) }
            bytes += known
            bytes += try rest(length - bytes.count)
        }
        bytes.withUnsafeBytes { transfers.learn(large: $0) }
        return bytes
    }
    private mutating func rest(_ count: Int) throws(LogError) -> UnsafeBufferPointer<UInt8> {
        guard let bytes = columns[ChunkColumn.payload.rawValue].take(count) else { throw LogError("payload ends early") }
        return bytes
    }
}
