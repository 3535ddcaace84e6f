import MachineState

/// Collects events in columns.
struct ChunkEncoder {
    /// Columns in the order of the file.
    enum Column: Int, CaseIterable { case sites, definitions, deltas, values, skips, lengths, payload }

    private var columns = [[UInt8]](repeating: [], count: Column.allCases.count)
    private var predictor = EventPredictor()
    private(set) var count = 0
    private(set) var firstPosition: Position = 0
    private(set) var firstSkipped: VirtualTime = 0
    private var lastPosition: Position = 0
    private var lastSkipped: VirtualTime = 0
    /// Bytes so far, before compression.
    private(set) var size = 0

    init() {}

    mutating func append(_ event: LogEvent) {
        event.bytes.withUnsafeBytes { append(event, payload: $0) }
    }

    /// An event whose bytes are `payload`, and not in `event`: they are copied once, and nothing is allocated for them.
    mutating func append(_ event: LogEvent, payload: UnsafeRawBufferPointer) {
        if count == 0 {
            firstPosition = event.position
            firstSkipped = event.skipped
            lastPosition = event.position
            lastSkipped = event.skipped
        }
        let site = EventPredictor.Site(
            kind: event.kind.rawValue, flags: event.within ? 1 : 0, width: event.width, address: event.address,
            pc: event.pc)
        var number = predictor.number(site) ?? -1
        if number < 0 {
            VarInt.append(UInt64(predictor.sites.count + 1), to: &columns[Column.sites.rawValue])
            number = predictor.add(site)
            columns[Column.definitions.rawValue].append(site.kind)
            columns[Column.definitions.rawValue].append(site.flags)
            VarInt.append(UInt64(site.width), to: &columns[Column.definitions.rawValue])
            VarInt.append(site.address, to: &columns[Column.definitions.rawValue])
            VarInt.append(site.pc, to: &columns[Column.definitions.rawValue])
        } else {
            VarInt.append(number == predictor.expectedSite ? 0 : UInt64(number + 1), to: &columns[Column.sites.rawValue])
        }
        let delta = event.position &- lastPosition
        VarInt.append(
            VarInt.zigzag(Int64(bitPattern: delta &- predictor.expectedDelta(number))),
            to: &columns[Column.deltas.rawValue])
        VarInt.append(
            VarInt.zigzag(Int64(bitPattern: event.value &- predictor.expectedValue(number))),
            to: &columns[Column.values.rawValue])
        if !event.kind.isTransaction {
            VarInt.append(event.skipped &- lastSkipped, to: &columns[Column.skips.rawValue])
            lastSkipped = event.skipped
        }
        if event.kind.hasBytes {
            VarInt.append(UInt64(payload.count), to: &columns[Column.lengths.rawValue])
            columns[Column.payload.rawValue].append(contentsOf: payload)
            size += payload.count
        }
        predictor.learn(number, delta: delta, value: event.value)
        lastPosition = event.position
        count += 1
        size += 3
    }

    /// Empty again, with the memory it had.
    mutating func clear() {
        for index in columns.indices { columns[index].removeAll(keepingCapacity: true) }
        predictor.clear()
        (count, size) = (0, 0)
    }

    /// All columns, each with its length before it (32 bits, little endian).
    func encode(into bytes: inout [UInt8]) {
        encodeStructure(into: &bytes)
        bytes.append(contentsOf: payload)
    }

    /// The same without the last column's bytes, which are the payload.
    func encodeStructure(into bytes: inout [UInt8]) {
        for column in Column.allCases {
            LogLayout.put32(UInt32(columns[column.rawValue].count), &bytes)
            if column != .payload { bytes.append(contentsOf: columns[column.rawValue]) }
        }
    }
    var payload: [UInt8] { columns[Column.payload.rawValue] }
}

/// Events out of the columns of one chunk.
struct ChunkDecoder {
    private struct Cursor {
        let bytes: ArraySlice<UInt8>
        var offset: Int
        init(_ bytes: ArraySlice<UInt8>) {
            self.bytes = bytes
            offset = bytes.startIndex
        }
        mutating func byte() -> UInt8? {
            if offset >= bytes.endIndex { return nil }
            defer { offset += 1 }
            return bytes[offset]
        }
        mutating func varInt() -> UInt64? {
            var value: UInt64 = 0
            var shift: UInt64 = 0
            while shift < 64 {
                guard let next = byte() else { return nil }
                value |= UInt64(next & 0x7F) << shift
                if next < 0x80 { return value }
                shift += 7
            }
            return nil
        }
        mutating func take(_ count: UInt64) -> ArraySlice<UInt8>? {
            guard count <= UInt64(bytes.endIndex - offset) else { return nil }
            defer { offset += Int(count) }
            return bytes[offset..<offset + Int(count)]
        }
    }

    /// Decodes `count` events. The error is a reason without file and place.
    static func decode(
        _ bytes: [UInt8], count: Int, firstPosition: Position, firstSkipped: VirtualTime
    ) throws(LogError) -> [LogEvent] {
        var columns: [Cursor] = []
        var offset = 0
        for _ in ChunkEncoder.Column.allCases {
            guard offset + 4 <= bytes.count else { throw LogError("a column is missing") }
            let length = (0..<4).reduce(0) { $0 | Int(bytes[offset + $1]) << ($1 * 8) }
            offset += 4
            guard length <= bytes.count - offset else { throw LogError("a column is longer than the chunk") }
            columns.append(Cursor(bytes[offset..<offset + length]))
            offset += length
        }
        // Every event has a byte in the first column at least.
        guard count <= columns[0].bytes.count else { throw LogError("there are fewer events than it says") }
        var predictor = EventPredictor()
        var events: [LogEvent] = []
        events.reserveCapacity(count)
        var position = firstPosition
        var skipped = firstSkipped
        for _ in 0..<count {
            guard let code = columns[ChunkEncoder.Column.sites.rawValue].varInt() else { throw LogError("the sites end early") }
            var number = code == 0 ? predictor.expectedSite : Int(clamping: code) - 1
            if number == predictor.sites.count, code != 0 {
                let definitions = ChunkEncoder.Column.definitions.rawValue
                guard let kind = columns[definitions].byte(), let flags = columns[definitions].byte(),
                    let width = columns[definitions].varInt(), let address = columns[definitions].varInt(),
                    let pc = columns[definitions].varInt()
                else { throw LogError("the site definitions end early") }
                number = predictor.add(
                    EventPredictor.Site(
                        kind: kind, flags: flags, width: UInt32(truncatingIfNeeded: width), address: address, pc: pc))
            }
            guard predictor.sites.indices.contains(number) else { throw LogError("an event of an unknown site") }
            let site = predictor.sites[number]
            guard let deltaCode = columns[ChunkEncoder.Column.deltas.rawValue].varInt(),
                let valueCode = columns[ChunkEncoder.Column.values.rawValue].varInt()
            else { throw LogError("positions or values end early") }
            let delta = UInt64(bitPattern: VarInt.unzigzag(deltaCode)) &+ predictor.expectedDelta(number)
            let value = UInt64(bitPattern: VarInt.unzigzag(valueCode)) &+ predictor.expectedValue(number)
            position = position &+ delta
            // Optional kinds of later versions have the form of those of today.
            guard let kind = LogEvent.Kind(rawValue: site.kind) ?? (site.kind >= LogEvent.Kind.firstOptional ? .unknown : nil) else {
                throw LogError("an event of kind \(site.kind), which this version does not know")
            }
            if !kind.isTransaction {
                guard let skip = columns[ChunkEncoder.Column.skips.rawValue].varInt() else { throw LogError("times end early") }
                skipped = skipped &+ skip
            }
            var event = LogEvent(kind, position: position)
            event.within = site.flags & 1 != 0
            event.skipped = skipped
            event.pc = site.pc
            event.address = site.address
            event.width = site.width
            event.value = value
            if kind.hasBytes {
                guard let length = columns[ChunkEncoder.Column.lengths.rawValue].varInt(),
                    let payload = columns[ChunkEncoder.Column.payload.rawValue].take(length)
                else { throw LogError("payload ends early") }
                event.bytes = Array(payload)
            }
            predictor.learn(number, delta: delta, value: value)
            events.append(event)
        }
        return events
    }
}
