import Foundation
import MachineState
import Testing

@testable import Boundary
@testable import Replay

/// What bus masters do, in the log: rings, buffers, frames that are there twice.
@Suite struct TransferCodecTests {
    private func encoded(_ events: [LogEvent], clockShift: UInt8 = 3) -> (bytes: [UInt8], encoder: ChunkEncoder) {
        let encoder = ChunkEncoder(clockShift: clockShift)
        for event in events { encoder.append(event) }
        var bytes: [UInt8] = []
        encoder.encode(into: &bytes)
        return (bytes, encoder)
    }
    private func decoded(_ bytes: [UInt8], _ events: [LogEvent], clockShift: UInt8 = 3) throws -> [LogEvent] {
        try ChunkDecoder.decode(
            bytes, clockShift: clockShift, count: events.count, firstPosition: events[0].position, firstSkipped: events[0].skipped)
    }
    private func transfer(_ kind: LogEvent.Kind, _ position: UInt64, _ address: UInt64, _ bytes: [UInt8]) -> LogEvent {
        var event = LogEvent(kind, position: position)
        event.address = address
        event.bytes = bytes
        return event
    }
    private func little(_ value: UInt64, _ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: value >> UInt64($0 * 8)) } }
    private func random(_ count: Int, _ generator: inout SeededGenerator) -> [UInt8] {
        (0..<count).map { _ in .random(in: 0...255, using: &generator) }
    }

    /// A card with a ring of descriptors that receives frames of random bytes into buffers all over RAM, as virtio's do.
    private func download(_ frames: Int, _ generator: inout SeededGenerator) -> [LogEvent] {
        var events: [LogEvent] = []
        let buffers = (0..<256).map { _ in UInt64.random(in: 0..<1 << 20, using: &generator) << 11 }
        for number in 0..<UInt64(frames) {
            let position = 1000 + number * 40
            let slot = number & 255
            let descriptor = slot &* 77 & 255
            let frame = random(1494, &generator)
            var crossing = LogEvent(.frame, position: position)
            (crossing.address, crossing.bytes, crossing.value, crossing.skipped) = (14, frame, position << 3 + 50, 50)
            events.append(crossing)
            events.append(transfer(.dmaRead, position, 0x10_0002, little(number, 2)))
            events.append(transfer(.dmaRead, position, 0x10_0004 + slot * 2, little(descriptor, 2)))
            let entry = little(buffers[Int(descriptor)], 8) + little(1526, 4) + little(2, 2) + little(0, 2)
            events.append(transfer(.dmaRead, position, 0x20_0000 + descriptor * 16, entry))
            var note = LogEvent(.busMaster, position: position)
            note.bytes = Array("virtio4: a frame, descriptor \(descriptor)".utf8)
            events.append(note)
            events.append(transfer(.dmaWrite, position, buffers[Int(descriptor)], [UInt8](repeating: 0, count: 12) + frame))
            events.append(transfer(.dmaWrite, position, 0x30_0004 + slot * 8, little(descriptor, 4) + little(1506, 4)))
            events.append(transfer(.dmaWrite, position, 0x30_0002, little(number + 1, 2)))
        }
        for index in events.indices { events[index].skipped = 50 }
        return events
    }

    @Test func framesOfACardCostLittle() throws {
        var generator = SeededGenerator(31)
        let path = LogFixture.path()
        defer { try? FileManager.default.removeItem(atPath: path) }
        let events = download(3000, &generator)
        try LogFixture.write(events, path)
        #expect(try LogFixture.read(path) == events)
        let sizes = try LogReader(path: path).sizes()
        // Random bytes: they are in the file once, though twice in the events.
        let least = UInt64(3000 * 1494)
        #expect(sizes.payload >= least && sizes.payload < least + least / 20)
        #expect(Double(sizes.beyondPayload) / Double(events.count) < 1, "\(sizes.beyondPayload) bytes for \(events.count) events")
    }

    /// A payload of which the one before is a part, at either end or in the middle; which is a part of the one before; which is the same;
    /// which is nearly so; and sizes at the limits.
    @Test func payloadsThatRepeatComeBack() throws {
        var generator = SeededGenerator(32)
        let base = random(1000, &generator)
        var almost = base
        almost[999] ^= 1
        let long = random(TransferPredictor.mostRemembered, &generator)
        let payloads: [[UInt8]] = [
            base, base, [1, 2, 3, 4] + base, base, base + [9, 9, 9, 9], [UInt8](repeating: 7, count: 64) + base, base + random(64, &generator),
            base, almost, base, Array(base[900...]), Array(base[..<64]), base, Array(base[30..<200]), long, [5] + long, long, long + [5],
            long, [], [1], Array(base[..<63]), base, random(200, &generator) + base, base,
        ]
        for kind in [LogEvent.Kind.dmaWrite, .dmaRead, .frame, .input, .portBlock, .unknown] where kind != .unknown {
            let events = payloads.enumerated().map { transfer(kind, UInt64($0), 0x5000 + UInt64($0) * 3, $1) }
            let (bytes, encoder) = encoded(events)
            #expect(try decoded(bytes, events) == events, "\(kind)")
            #expect(encoder.payloadSize == payloads.reduce(0) { $0 + $1.count })
        }
        // What is there again is not in the columns again.
        let twice = [base, base].enumerated().map { transfer(.dmaWrite, UInt64($0), 0, $1) }
        #expect(encoded(twice).bytes.count < base.count + 200)
    }

    @Test(arguments: 1...20)
    func randomTransfersComeBack(seed: UInt64) throws {
        var generator = SeededGenerator(seed)
        let kinds: [LogEvent.Kind] = [.dmaRead, .dmaWrite, .dmaImage, .busMaster, .frame, .input, .portImage, .portBlock, .digest, .portWrite]
        var previous: [UInt8] = []
        let events = (0..<500).map { number in
            var event = LogEvent(kinds.randomElement(using: &generator)!, position: UInt64(number) * 3)
            event.address = Bool.random(using: &generator) ? .random(in: 0 ... .max, using: &generator) : UInt64(number) * 16
            event.value = Bool.random(using: &generator) ? .random(in: 0 ... .max, using: &generator) : UInt64(number) * 512
            event.width = event.kind.isImage ? 512 : 0
            if event.kind.hasBytes {
                let length = [0, 1, 2, 4, 8, 12, 16, 20, 63, 64, 65, 100, 300].randomElement(using: &generator)!
                event.bytes = Bool.random(using: &generator) ? previous : random(length, &generator)
                if Bool.random(using: &generator) { event.bytes += random(Int.random(in: 0...20, using: &generator), &generator) }
                previous = event.bytes
            }
            return event
        }
        #expect(try decoded(encoded(events).bytes, events) == events)
    }

    /// Columns that do not fit together: an error or other events, never a crash.
    @Test func damagedColumnsAreSurvived() throws {
        var generator = SeededGenerator(33)
        let events = download(6, &generator) + [transfer(.dmaImage, 5000, 0x7000, [])]
        let whole = encoded(events).bytes
        var errors = 0
        for _ in 0..<4000 {
            var bytes = whole
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                // Most of it is payload, which may be anything.
                let isNear = Bool.random(using: &generator)
                bytes[Int.random(in: 0..<(isNear ? 1200 : bytes.count), using: &generator)] = .random(in: 0...255, using: &generator)
            }
            if Int.random(in: 0...9, using: &generator) == 0 { bytes.removeLast(Int.random(in: 1..<bytes.count, using: &generator)) }
            do { _ = try decoded(bytes, events) } catch is LogError { errors += 1 }
        }
        #expect(errors > 500)
    }

    /// A small chunk must not become any amount of memory: copies of copies.
    @Test func copiesAreBounded() throws {
        let block = [UInt8](repeating: 0, count: TransferPredictor.mostRemembered)
        let events = (0..<1100).map { transfer(.dmaWrite, UInt64($0), 0, block) }
        let bytes = encoded(events).bytes
        #expect(bytes.count < 100_000)
        #expect(throws: LogError("payload of an impossible length")) { try decoded(bytes, events) }
        #expect(try decoded(bytes, Array(events[..<1000])).count == 1000)
        // A writer closes its chunks before.
        let path = LogFixture.path()
        defer { try? FileManager.default.removeItem(atPath: path) }
        try LogFixture.write(events, path)
        #expect(try LogFixture.read(path).count == 1100)
    }

    /// Format version 1: addresses of DMA in the sites, seven columns.
    @Test func firstVersionIsRead() throws {
        let site: (UInt8, [UInt8], [UInt8], [UInt8]) -> [UInt8] = { kind, width, address, pc in [kind, 0] + width + address + pc }
        let columns: [[UInt8]] = [
            [1, 0, 2, 1], site(7, [1], [0xF8, 7], [0x80, 0x20]) + site(16, [0], [0x80, 0x40], [0]), [0, 10, 14, 4], [0x82, 1, 2, 0, 0], [9], [3],
            [1, 2, 3],
        ]
        let bytes = columns.flatMap { little(UInt64($0.count), 4) + $0 }
        let events = try ChunkDecoder.decode(bytes, version: 1, clockShift: 3, count: 4, firstPosition: 100, firstSkipped: 1)
        #expect(events.map(\.kind) == [.portWrite, .portWrite, .dmaWrite, .portWrite])
        #expect(events.map(\.address) == [0x3F8, 0x3F8, 0x2000, 0x3F8] && events.map(\.pc) == [0x1000, 0x1000, 0, 0x1000])
        #expect(events.map(\.value) == [65, 66, 0, 66] && events.map(\.position) == [100, 105, 112, 114])
        #expect(events[2].bytes == [1, 2, 3] && events.map(\.skipped) == [1, 1, 10, 10])
        #expect(throws: LogError.self) { try ChunkDecoder.decode(bytes, clockShift: 3, count: 4, firstPosition: 100, firstSkipped: 1) }
    }

    @Test func laterVersionsAreRefused() throws {
        let path = LogFixture.path()
        defer { try? FileManager.default.removeItem(atPath: path) }
        try LogFixture.write([LogEvent(.portWrite, position: 1)], path)
        var file = try Data(contentsOf: URL(fileURLWithPath: path))
        file[8] = UInt8(LogHeader.formatVersion + 1)
        try file.write(to: URL(fileURLWithPath: path))
        #expect(throws: LogError("\(path): has format version 3; this program reads up to 2")) { try LogReader(path: path) }
    }
}
