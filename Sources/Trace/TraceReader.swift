import Boundary
import DeviceBus
import Machine
import MachineState
import Replay

/// What of a trace is wanted.
package struct TraceFilter: Sendable {
    /// Devices by name; empty for all.
    package var devices: Set<String> = []
    package var kinds: Set<TraceKind> = [.pio, .mmio, .dma, .irq]
    package var from: Position = 0
    package var to: Position = .max
    package init() {}
}

/// A recording of the devices boundary as a trace: every event with its device and register. Holds one chunk at a time.
package final class TraceReader {
    /// One event of the trace.
    package struct Event {
        package let number: UInt64
        package let event: LogEvent
        /// Virtual time, ns.
        package let time: VirtualTime
        /// Index in `sites` of an access to a device; -1 for other events.
        package let site: Int
        /// Of DMA.
        package let master: BusMasterName?
    }

    package let reader: LogReader
    package let map: BoardMap
    package let symbols: SymbolTable
    package private(set) var sites: [TraceSite] = []
    private var numbers: [Key: Int] = [:]
    private var recent: [(key: Key, site: Int)]
    private let shift: UInt64
    private static let recentCount = 4096
    /// Sites that are kept: a hostile log may have as many as events.
    private static let mostSites = 1 << 20
    /// The sites have been forgotten so often: numbers of sites mean something else then.
    package private(set) var siteGeneration = 0

    private struct Key: Hashable {
        var kind: UInt8
        var width: UInt32
        var address: UInt64
        var pc: UInt64
        var selector: UInt64
        var generation: Int
    }

    package init(path: String, symbols: SymbolTable = SymbolTable()) throws {
        reader = try LogReader(path: path)
        guard reader.header.boundary == .devices else {
            throw LogError(
                "\(path): was recorded with --boundary=inputs, and holds no transactions: emu convert makes a recording with them")
        }
        map = BoardMap(configuration: try PCConfiguration(header: reader.header, recording: path))
        // What software had set up before, in a recording that was cut out of another one.
        for entry in (reader.header.setting(Self.setUpSetting) ?? "").split(separator: ",") {
            let numbers = entry.split(separator: ":").compactMap { UInt64($0, radix: 16) }
            guard numbers.count == 4, [1, 2, 4].contains(numbers[2]), numbers[1] < 4 else { continue }
            map.follow(.port, 0xCF8, width: 4, value: numbers[0])
            map.follow(.port, 0xCFC + numbers[1], width: Int(numbers[2]), value: numbers[3])
        }
        self.symbols = symbols
        shift = UInt64(reader.header.clockShift)
        let none = Key(kind: 0, width: 0, address: 0, pc: 0, selector: 0, generation: -1)
        recent = Array(repeating: (none, -1), count: Self.recentCount)
    }

    /// The header's setting that says what of configuration space was set up before the recording's beginning.
    package static let setUpSetting = "set-up"

    /// The same for a recording that begins at `position`: address, byte, width and value of each write that still counts.
    package func setUp(before position: Position) throws -> String {
        var entries: [(key: String, value: UInt64)] = []
        for entry in (reader.header.setting(Self.setUpSetting) ?? "").split(separator: ",") {
            guard let colon = entry.lastIndex(of: ":"), let value = UInt64(entry[entry.index(after: colon)...], radix: 16) else { continue }
            entries.append((String(entry[..<colon]), value))
        }
        var address: UInt64 = 0
        try reader.forEachEvent { _, event in
            if event.position >= position { return false }
            guard event.kind == .portWrite else { return true }
            if event.address == 0xCF8, event.width == 4 { address = event.value }
            if (0xCFC..<0xD00).contains(event.address) {
                func hex(_ value: UInt64) -> String { String(value, radix: 16) }
                let key = "\(hex(address)):\(hex(event.address - 0xCFC)):\(hex(UInt64(event.width)))"
                entries.removeAll { $0.key == key }
                entries.append((key, event.value))
            }
            return true
        }
        return entries.map { "\($0.key):\(String($0.value, radix: 16))" }.joined(separator: ",")
    }

    package func forEach(_ filter: TraceFilter = TraceFilter(), _ body: (Event) throws -> Bool) throws {
        var master: BusMasterName?
        var wanted: [Bool] = []
        let isFilteredByDevice = !filter.devices.isEmpty
        var generation = siteGeneration
        for number in reader.chunks.indices {
            if reader.chunks[number].firstPosition > filter.to { return }
            var eventNumber = reader.chunks[number].firstEvent
            master = nil
            for event in try reader.events(inChunk: number) {
                let current = eventNumber
                eventNumber += 1
                if event.kind == .busMaster {
                    master = BusMasterName(text: String(decoding: event.bytes, as: UTF8.self))
                    continue
                }
                if event.kind == .reset { map.reset() }
                if event.position > filter.to { return }
                let isIn = event.position >= filter.from && filter.kinds.contains(TraceKind(event.kind))
                if !isIn {
                    follow(event)
                    continue
                }
                let site = siteNumber(event)
                if generation != siteGeneration {
                    generation = siteGeneration
                    wanted = []
                }
                follow(event)
                if isFilteredByDevice {
                    if site >= 0 {
                        while wanted.count < sites.count { wanted.append(filter.devices.contains(sites[wanted.count].device)) }
                        if !wanted[site] { continue }
                    } else if event.kind.isDMA {
                        guard let master, filter.devices.contains(master.device) else { continue }
                    } else {
                        continue
                    }
                }
                let time = event.position << shift &+ event.skipped
                let isGoingOn = try body(
                    Event(
                        number: current, event: event, time: time, site: site, master: event.kind.isDMA ? master : nil))
                if !isGoingOn { return }
            }
        }
    }

    /// What moves or selects registers.
    @inline(__always)
    private func follow(_ event: LogEvent) {
        switch event.kind {
        case .portWrite:
            let address = event.address
            if address & ~7 == 0xCF8 || address == 0x70 || address == 0x3FB || address == 0x2FB { tellMap(.port, event) }
        case .memoryWrite: if event.address == 0xFEC0_0000 { tellMap(.memory, event) }
        default: break
        }
    }
    private func tellMap(_ space: Region.Space, _ event: LogEvent) {
        guard [1, 2, 4].contains(event.width) else { return }
        map.follow(space, event.address, width: Int(event.width), value: event.value)
    }

    private func siteNumber(_ event: LogEvent) -> Int {
        let space: Region.Space
        switch event.kind {
        case .portRead, .portWrite, .portBlock, .portImage: space = .port
        case .memoryRead, .memoryWrite: space = .memory
        default: return -1
        }
        let width = event.kind == .portBlock || event.kind == .portImage ? UInt32(event.elementWidth) : event.width
        let key = Key(
            kind: event.kind.rawValue, width: width, address: event.address, pc: event.pc,
            selector: map.selector(space, event.address), generation: map.generation)
        let slot = Int(truncatingIfNeeded: (key.address &* 0x9E37_79B9 ^ key.pc &* 0x85EB_CA6B ^ UInt64(key.kind)) >> 4) & (Self.recentCount - 1)
        if recent[slot].key == key { return recent[slot].site }
        let number = numbers[key] ?? add(key, event, space)
        recent[slot] = (key, number)
        return number
    }

    private func add(_ key: Key, _ event: LogEvent, _ space: Region.Space) -> Int {
        if sites.count >= Self.mostSites {
            sites = []
            numbers = [:]
            recent = recent.map { (Key(kind: 0, width: 0, address: $0.key.address, pc: 0, selector: 0, generation: -1), -1) }
            siteGeneration += 1
        }
        let place = map.place(space, event.address)
        let isWrite = event.kind == .portWrite || event.kind == .memoryWrite
        sites.append(
            TraceSite(
                kind: event.kind, address: event.address, width: Int(key.width), pc: event.pc, device: place?.device ?? "-",
                register: place?.name(isWrite: isWrite), description: place?.lane == 0 && place?.selected == nil ? place?.register : nil,
                contents: place?.register?.contents ?? .value, region: place?.region ?? 0, base: place?.base ?? 0, size: place?.size ?? 0, symbol: symbols.name(event.pc)))
        numbers[key] = sites.count - 1
        return sites.count - 1
    }
}
