import MachineState

/// Parts of a chunk, in the order of the file.
enum ChunkColumn: Int, CaseIterable {
    case sites, definitions, deltas, values, skips, addresses, lengths, copies, notes, small, payload

    /// Those of a recording of format version `version`.
    static func all(version: UInt32) -> [ChunkColumn] {
        version >= 2 ? allCases : [.sites, .definitions, .deltas, .values, .skips, .lengths, .payload]
    }
    /// Contents of DMA, blocks, frames and inputs, and digests.
    var isPayload: Bool { self == .payload || self == .small }
}

/// Collects events in columns. `docs/log-format.md` says what stands in which. One thread at a time has it.
final class ChunkEncoder: @unchecked Sendable {
    private var sites = RawList<UInt8>(capacity: 1 << 16)
    private var definitions = RawList<UInt8>(capacity: 1 << 12)
    private var deltas = RawList<UInt8>(capacity: 1 << 16)
    private var values = RawList<UInt8>(capacity: 1 << 16)
    private var skips = RawList<UInt8>(capacity: 1 << 12)
    private var addresses = RawList<UInt8>(capacity: 1 << 12)
    private var lengths = RawList<UInt8>(capacity: 1 << 12)
    private var copies = RawList<UInt8>(capacity: 1 << 12)
    private var notes = RawList<UInt8>(capacity: 1 << 12)
    private var small = RawList<UInt8>(capacity: 1 << 12)
    private var large = RawList<UInt8>(capacity: 1 << 12)
    private let predictor = EventPredictor()
    private let transfers = TransferPredictor()
    /// See `VirtualClock.shift`.
    private let clockShift: UInt64
    private(set) var count = 0
    private(set) var firstPosition: Position = 0
    private(set) var firstSkipped: VirtualTime = 0
    private var lastPosition: Position = 0
    private var lastSkipped: VirtualTime = 0
    /// Where the next piece of a disk image is expected.
    private var imageEnd: UInt64 = 0
    /// Bytes so far, before compression.
    private(set) var size = 0
    /// Bytes of all payloads, those that are not in the columns because they have just been there too.
    private(set) var payloadSize = 0

    init(clockShift: UInt8) { self.clockShift = UInt64(clockShift) }
    deinit {
        for list in [sites, definitions, deltas, values, skips, addresses, lengths, copies, notes, small, large] { list.free() }
    }

    func append(_ event: LogEvent) {
        event.bytes.withUnsafeBytes { append(event, payload: $0) }
    }

    /// An event whose bytes are `payload`, and not in `event`: they are copied once, and nothing is allocated for them.
    func append(_ event: LogEvent, payload: UnsafeRawBufferPointer) {
        if count == 0 {
            firstPosition = event.position
            firstSkipped = event.skipped
            lastPosition = event.position
            lastSkipped = event.skipped
        }
        let kind = event.kind
        let site = EventPredictor.Site(
            kind: kind.rawValue, flags: event.within ? 1 : 0, width: event.width,
            address: kind.siteAddress(event.address, length: payload.count), pc: event.pc)
        var number = predictor.number(site)
        if number < 0 {
            number = define(site)
        } else {
            sites.append(varInt: number == predictor.expectedSite ? 0 : UInt64(number + 1))
        }
        let delta = event.position &- lastPosition
        deltas.append(varInt: VarInt.zigzag(Int64(bitPattern: delta &- predictor.expectedDelta(number))))
        let isTransaction = kind.isTransaction
        if !isTransaction {
            skips.append(varInt: event.skipped &- lastSkipped)
            lastSkipped = event.skipped
        }
        var expected = predictor.expectedValue(number)
        if kind == .frame { expected = event.position &<< clockShift &+ event.skipped }
        if kind.isImage { expected = imageEnd }
        values.append(varInt: VarInt.zigzag(Int64(bitPattern: event.value &- expected)))
        if kind.isImage { imageEnd = event.value &+ UInt64(event.imageLength) }
        if !isTransaction || kind.hasBytes { appendRest(event, kind, number, payload) }
        predictor.learn(number, delta: delta, value: event.value)
        lastPosition = event.position
        count += 1
        size += 3
    }

    @inline(never)
    private func define(_ site: EventPredictor.Site) -> Int {
        sites.append(varInt: UInt64(predictor.count + 1))
        definitions.append(site.kind)
        definitions.append(site.flags)
        definitions.append(varInt: UInt64(site.width))
        definitions.append(varInt: site.address)
        definitions.append(varInt: site.pc)
        return predictor.add(site)
    }

    /// Address of DMA, and bytes.
    private func appendRest(_ event: LogEvent, _ kind: LogEvent.Kind, _ number: Int, _ payload: UnsafeRawBufferPointer) {
        let length = payload.count
        let place = TransferPredictor.place(number, predictor.previous, predictor.beforePrevious)
        if kind.hasBytes {
            lengths.append(varInt: VarInt.zigzag(Int64(length - predictor.expectedLength(number))))
            predictor.learn(number, length: length)
        }
        if kind.isDMA {
            let expected = transfers.expectedAddress(place, length: length)
            addresses.append(varInt: VarInt.zigzag(Int64(bitPattern: event.address &- expected)))
            transfers.learn(place, address: event.address, length: length)
        }
        guard kind.hasBytes, length > 0, let bytes = payload.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return }
        payloadSize += length
        if length >= TransferPredictor.large { return appendLarge(payload, place) }
        if kind == .busMaster { append(place, bytes, length, to: &notes) } else { append(place, bytes, length, to: &small) }
        if kind == .dmaRead { transfers.learn(read: UnsafeBufferPointer(start: bytes, count: length)) }
        size += length
    }

    private func append(_ place: Int, _ bytes: UnsafePointer<UInt8>, _ length: Int, to column: inout RawList<UInt8>) {
        column.reserve(length)
        transfers.difference(place, bytes, count: length, into: column.base + column.count)
        column.advance(length)
    }

    private func appendLarge(_ payload: UnsafeRawBufferPointer, _ place: Int) {
        guard let bytes = payload.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return }
        if payload.count <= TransferPredictor.mostRemembered, let copy = transfers.copy(in: payload) {
            copies.append(varInt: copy.code)
            if copy.isWhole, let known = transfers.copied(copy, count: payload.count) {
                let rest = copy.at + known.count
                large.append(from: bytes, count: copy.at)
                large.append(from: bytes + rest, count: payload.count - rest)
                size += payload.count - known.count
            }
        } else {
            // Headers are at the beginning: they are much like those of the last one.
            let head = TransferPredictor.large
            copies.append(varInt: 0)
            append(place, bytes, head, to: &small)
            large.append(from: bytes + head, count: payload.count - head)
            size += payload.count
        }
        transfers.learn(large: payload)
    }

    /// Empty again, with the memory it had.
    func clear() {
        sites.clear()
        definitions.clear()
        deltas.clear()
        values.clear()
        skips.clear()
        addresses.clear()
        lengths.clear()
        copies.clear()
        notes.clear()
        small.clear()
        large.clear()
        predictor.clear()
        transfers.clear()
        (count, size, payloadSize, imageEnd) = (0, 0, 0, 0)
    }

    /// All columns, each with its length before it (32 bits, little endian).
    func encode(into bytes: inout [UInt8]) {
        encodeStructure(into: &bytes)
        bytes.append(contentsOf: payload)
    }

    /// The same without the last column's bytes, which are the payload.
    func encodeStructure(into bytes: inout [UInt8]) {
        for list in [sites, definitions, deltas, values, skips, addresses, lengths, copies, notes, small] {
            LogLayout.put32(UInt32(list.count), &bytes)
            bytes.append(contentsOf: list.buffer)
        }
        LogLayout.put32(UInt32(large.count), &bytes)
    }
    /// Valid until the next call.
    var payload: UnsafeBufferPointer<UInt8> { large.buffer }
}

extension LogEvent.Kind {
    /// What of an address belongs to the site. That of DMA does not: where it goes is expected from what was read before; of how
    /// many bytes it is says what it is for.
    func siteAddress(_ address: UInt64, length: Int) -> UInt64 {
        switch self {
        case .dmaRead, .dmaWrite: UInt64(min(length, TransferPredictor.large))
        // The same said twice gives the address.
        case .busMaster: address ^ UInt64(min(length, TransferPredictor.large)) << 48
        case .dmaImage: 0
        default: address
        }
    }
    /// Names a piece of a disk image.
    var isImage: Bool { self == .dmaImage || self == .portImage }
}

extension LogEvent {
    /// Bytes of the piece of a disk image that it names.
    var imageLength: Int { kind == .portImage ? blockLength : Int(width) }
}
