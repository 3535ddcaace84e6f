import Foundation
import MachineState
import Testing

@testable import Boundary
@testable import Replay

/// Random numbers that are the same in every run (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64
    init(_ seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

enum LogFixture {
    static let header = LogHeader(
        boundary: .devices, clockShift: 3, digestInterval: 1000, date: 7, settings: [LogHeader.Setting("machine", "pc")],
        images: [LogHeader.Image(role: "kernel", path: "/k", size: 3, digest: String(repeating: "a", count: 64))])

    static func path() -> String {
        FileManager.default.temporaryDirectory.appendingPathComponent("emu-test-\(UUID().uuidString).emurec").path
    }

    /// Random events as a run could make them: positions and skipped time never go back.
    static func events(_ count: Int, _ generator: inout SeededGenerator) -> [LogEvent] {
        var position: UInt64 = 0
        var skipped: UInt64 = 0
        return (0..<count).map { _ in
            position += UInt64.random(in: 0...3, using: &generator) == 0 ? UInt64.random(in: 0...1 << 40, using: &generator) : 5
            skipped += UInt64.random(in: 0...1, using: &generator) * UInt64.random(in: 0...1 << 30, using: &generator)
            let kind = LogEvent.Kind.allCases.randomElement(using: &generator)!
            var event = LogEvent(kind, position: position)
            event.skipped = skipped
            if kind.isTransaction {
                event.pc = UInt64.random(in: 0...7, using: &generator) == 0 ? .random(in: 0 ... .max, using: &generator) : 0x1000
                event.width = [1, 2, 4, 8].randomElement(using: &generator)!
            }
            event.address = UInt64.random(in: 0...3, using: &generator) * 0x3F8
            event.value = UInt64.random(in: 0...2, using: &generator) == 0 ? .random(in: 0 ... .max, using: &generator) : 0x60
            event.within = kind == .dmaWrite && Bool.random(using: &generator)
            if kind.hasBytes {
                event.bytes = (0..<Int.random(in: 0...40, using: &generator)).map { _ in .random(in: 0...255, using: &generator) }
            }
            return event
        }
    }

    static func write(_ events: [LogEvent], _ path: String, finish: Bool = true) throws {
        let writer = try LogWriter(path: path, header: header)
        for event in events { writer.append(event) }
        if finish { writer.finish() }
        if let failure = writer.failure { throw failure }
    }

    static func read(_ path: String) throws -> [LogEvent] {
        var events: [LogEvent] = []
        try LogReader(path: path).forEachEvent { number, event in
            #expect(number == UInt64(events.count))
            events.append(event)
            return true
        }
        return events
    }
}

/// Transactions carry no time of their own: it follows from the events before.
private func withDerivedTimes(_ events: [LogEvent]) -> [LogEvent] {
    var skipped: UInt64 = events.first?.skipped ?? 0
    return events.map {
        var event = $0
        if event.kind.isTransaction { event.skipped = skipped } else { skipped = event.skipped }
        return event
    }
}

@Suite struct CodecTests {
    @Test(arguments: [1, 2, 3, 4, 5] as [UInt64])
    func randomEventsComeBack(seed: UInt64) throws {
        var generator = SeededGenerator(seed)
        let events = LogFixture.events(3000, &generator)
        let path = LogFixture.path()
        defer { try? FileManager.default.removeItem(atPath: path) }
        try LogFixture.write(events, path)
        let reader = try LogReader(path: path)
        #expect(reader.isComplete)
        #expect(reader.header == LogFixture.header)
        #expect(try LogFixture.read(path) == withDerivedTimes(events))
    }

    @Test func everyTruncationIsHandled() throws {
        var generator = SeededGenerator(9)
        let path = LogFixture.path()
        defer { try? FileManager.default.removeItem(atPath: path) }
        try LogFixture.write(LogFixture.events(60, &generator), path)
        let whole = try Data(contentsOf: URL(fileURLWithPath: path))
        for length in 0..<whole.count {
            try whole.prefix(length).write(to: URL(fileURLWithPath: path))
            do {
                let reader = try LogReader(path: path)
                #expect(!reader.isComplete)
                #expect(reader.endsEarly != nil)
                #expect(try LogFixture.read(path).count <= 60)
            } catch let error as LogError {
                #expect(error.description.contains(path))
            }
        }
    }

    @Test func flippedBitsAreFound() throws {
        var generator = SeededGenerator(11)
        let path = LogFixture.path()
        defer { try? FileManager.default.removeItem(atPath: path) }
        let events = LogFixture.events(200, &generator)
        try LogFixture.write(events, path)
        let whole = try Data(contentsOf: URL(fileURLWithPath: path))
        for _ in 0..<2000 {
            var damaged = whole
            damaged[Int.random(in: 0..<whole.count, using: &generator)] ^= 1 << UInt8.random(in: 0...7, using: &generator)
            try damaged.write(to: URL(fileURLWithPath: path))
            do {
                // Undamaged events, fewer of them, or an error: never other ones.
                let read = try LogFixture.read(path)
                #expect(read == Array(withDerivedTimes(events).prefix(read.count)))
            } catch let error as LogError {
                #expect(error.description.contains(path))
            }
        }
    }

    @Test func foreignAndEmptyFilesAreRefused() throws {
        let path = LogFixture.path()
        defer { try? FileManager.default.removeItem(atPath: path) }
        try Data().write(to: URL(fileURLWithPath: path))
        #expect(throws: LogError("\(path): is empty")) { try LogReader(path: path) }
        try Data("#!/bin/sh\nexit 0\n# not a recording".utf8).write(to: URL(fileURLWithPath: path))
        #expect(throws: LogError("\(path): is not a recording of emu")) { try LogReader(path: path) }
    }

    @Test func killedRecorderLeavesWholeChunks() throws {
        var generator = SeededGenerator(5)
        let path = LogFixture.path()
        defer { try? FileManager.default.removeItem(atPath: path) }
        let events = LogFixture.events(70_000, &generator)
        try LogFixture.write(events, path, finish: false)
        let reader = try LogReader(path: path)
        #expect(!reader.isComplete)
        #expect(reader.eventCount == 65_536)
        #expect(try LogFixture.read(path) == Array(withDerivedTimes(events).prefix(65_536)))
    }

    /// A poll of a status register, a write, a timer now and then: what drivers do all day.
    @Test func repeatedTransactionsCostLittle() throws {
        let path = LogFixture.path()
        defer { try? FileManager.default.removeItem(atPath: path) }
        var generator = SeededGenerator(3)
        var events: [LogEvent] = []
        var position: UInt64 = 0
        for round in 0..<20_000 {
            for _ in 0..<Int.random(in: 1...3, using: &generator) {
                position += 7
                var read = LogEvent(.portRead, position: position)
                (read.pc, read.address, read.width, read.value) = (0x4000, 0x3FD, 1, 0x60)
                events.append(read)
            }
            position += 30
            var write = LogEvent(.portWrite, position: position)
            (write.pc, write.address, write.width, write.value) = (0x4010, 0x3F8, 1, UInt64(32 + round % 90))
            events.append(write)
        }
        try LogFixture.write(events, path)
        let size = try LogReader(path: path).fileSize
        #expect(Double(size) / Double(events.count) < 0.5, "\(size) bytes for \(events.count) transactions")
    }

    /// A later version's optional events do not keep this one from reading the rest.
    @Test func unknownOptionalEventsArePassedOver() throws {
        let encoder = ChunkEncoder(clockShift: 0)
        var note = LogEvent(.frame, position: 7)
        note.bytes = [1, 2, 3]
        var last = LogEvent(.portWrite, position: 9)
        last.value = 5
        encoder.append(note)
        encoder.append(last)
        var bytes: [UInt8] = []
        encoder.encode(into: &bytes)
        // The first definition begins with the kind, behind the column of sites and two lengths.
        let sites = Int(bytes[0])
        let kind = 4 + sites + 4
        try #require(bytes[kind] == LogEvent.Kind.frame.rawValue)
        bytes[kind] = 200
        let events = try ChunkDecoder.decode(bytes, clockShift: 0, count: 2, firstPosition: 7, firstSkipped: 0)
        #expect(events.map(\.kind) == [.unknown, .portWrite] && events[0].bytes == [1, 2, 3] && events[1] == last)
        #expect(events[0].kind.isOptional)
        bytes[kind] = 100
        #expect(throws: LogError.self) { try ChunkDecoder.decode(bytes, clockShift: 0, count: 2, firstPosition: 7, firstSkipped: 0) }
    }

    /// Whatever a file says of its digests.
    @Test func nextDigestIsAfterThePosition() {
        var header = LogFixture.header
        for interval in [1, 1000, 1 << 63, UInt64.max] as [UInt64] {
            header.digestInterval = interval
            #expect(header.nextDigest(after: 0) == interval)
            #expect(header.nextDigest(after: 1 << 63) > 1 << 63)
        }
        header.digestInterval = 0
        #expect(header.nextDigest(after: 5) == .max)
    }

    @Test func checksumsAreTheStandards() {
        #expect(CRC32C.checksum(Array("123456789".utf8)) == 0xE306_9283)
        #expect(CRC32C.checksum([UInt8]()) == 0)
        #expect(SHA256.hex([]) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        #expect(SHA256.hex(Array("abc".utf8)) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    }

    /// The host's instruction and the tables agree, at every length and alignment.
    @Test func bothChecksumsAgree() {
        var generator = SeededGenerator(3)
        let bytes = (0..<300).map { _ in UInt8.random(in: 0...255, using: &generator) }
        bytes.withUnsafeBytes { bytes in
            for start in 0..<9 {
                for end in start..<bytes.count {
                    let part = UnsafeRawBufferPointer(rebasing: bytes[start..<end])
                    #expect(CRC32C.checksum(part) == CRC32C.checksum(part, isPortable: true))
                }
            }
        }
    }

    /// Chunks that a thread writes come in their order, whoever is faster.
    @Test func manyChunksComeInTheirOrder() throws {
        let path = LogFixture.path()
        defer { try? FileManager.default.removeItem(atPath: path) }
        let writer = try LogWriter(path: path, header: LogFixture.header)
        for number in 0..<400 as Range<UInt64> {
            var event = LogEvent(.input, position: number)
            event.bytes = [UInt8](repeating: UInt8(number & 0xFF), count: 100_000)
            writer.append(event)
        }
        writer.finish()
        #expect(writer.failure == nil && writer.chunkCount > 5)
        let reader = try LogReader(path: path)
        #expect(reader.isComplete && reader.chunks.count == writer.chunkCount)
        let events = try LogFixture.read(path)
        #expect(events.map(\.position) == Array(0..<400))
        #expect(events.allSatisfy { $0.bytes == [UInt8](repeating: UInt8($0.position & 0xFF), count: 100_000) })
    }

    /// A writer that is gone without an end has left what it was given.
    @Test func whatWasHandedOverIsInTheFile() throws {
        var generator = SeededGenerator(21)
        let path = LogFixture.path()
        defer { try? FileManager.default.removeItem(atPath: path) }
        let events = LogFixture.events(200_000, &generator)
        try LogFixture.write(events, path, finish: false)
        #expect(try !LogReader(path: path).isComplete)
        let found = try LogFixture.read(path)
        #expect(found.map(\.position) == events.prefix(3 * 65_536).map(\.position))
        #expect(found.map(\.bytes) == events.prefix(3 * 65_536).map(\.bytes))
    }

    @Test func aFullDiskIsTold() throws {
        let store = ChunkStore(try LogFile.create("/dev/full"), offset: 0, clockShift: 0)
        var encoder = ChunkEncoder(clockShift: 0)
        for number in 0..<20 as Range<UInt64> {
            encoder.append(LogEvent(.portWrite, position: number))
            encoder = store.store(encoder, firstEvent: number)
            #expect(encoder.count == 0)
        }
        store.finish()
        #expect(try #require(store.failure).description.contains("/dev/full: cannot be written"))
    }

    /// The host's SHA instructions, where it has them, and our own arithmetic, given the bytes in pieces.
    @Test(arguments: [1, 55, 56, 63, 64, 65, 200, 4096, 10_001])
    func hashesAgree(count: Int) {
        let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 5) }
        var portable = SHA256()
        portable.isPortable = true
        for start in stride(from: 0, to: count, by: 77) {
            bytes[start..<min(start + 77, count)].withUnsafeBytes { portable.update($0) }
        }
        #expect(portable.finish() == SHA256.hex(bytes))
    }
}
