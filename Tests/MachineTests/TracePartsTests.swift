import DeviceBus
import Foundation
import MachineState
import Testing

@testable import Machine
@testable import Replay
@testable import Trace

/// The parts of `emu trace` and `emu diff` that need no recording.
struct TracePartsTests {
    @Test func fieldsAreDescribed() {
        let register = RegisterName(2, "IIR/FCR", fields: "NONE ID:3=MSR/THRE - -:2 BIG:57", written: "FIFOE - TRIGGER:2=1/4")
        #expect(register.name(isWrite: false) == "IIR" && register.name(isWrite: true) == "FCR")
        #expect(register.describe(0b0011, isWrite: false) == "NONE ID=THRE")
        #expect(register.describe(0b0000, isWrite: false) == "ID=MSR")
        #expect(register.describe(0b1111, isWrite: false) == "NONE ID=7")
        #expect(register.describe(.max, isWrite: false).contains("BIG=144115188075855871"))
        #expect(register.describe(0b1101, isWrite: true) == "FIFOE TRIGGER=3")
        #expect(RegisterName(0, "X").describe(77, isWrite: false).isEmpty)
        #expect(RegisterField(low: 0, width: 64, name: "ALL").value(in: .max) == .max)
    }

    /// Every register that a device declares has fields that fit it.
    @Test func declaredFieldsFit() {
        var configuration = PCConfiguration()
        configuration.drives = [
            DriveSettings(number: 0, kind: .disk), DriveSettings(number: 4, kind: .disk, interface: .ahci),
            DriveSettings(number: 16, kind: .disk, interface: .virtio),
        ]
        configuration.networkCards = [NetworkCardSettings](text: "virtio:52-54-00-12-34-56,e1000:52-54-00-12-34-57") ?? []
        configuration.devices = [.virtioConsole, .virtioEntropy]
        let map = BoardMap(configuration: configuration)
        var count = 0
        for name in map.deviceNames {
            for region in map.device(name)?.regions ?? [] {
                for register in region.registers {
                    count += 1
                    for field in register.fields + register.writtenFields {
                        #expect(!field.name.isEmpty && field.width > 0, "\(name).\(register.name)")
                        #expect(UInt64(field.low) + UInt64(field.width) <= min(register.length, 8) * 8, "\(name).\(register.name).\(field.name)")
                        #expect(field.width > 8 || field.values.count <= 1 << Int(field.width), "\(name).\(register.name).\(field.name)")
                    }
                }
            }
        }
        #expect(count > 300)
    }

    /// Registers behind base addresses are found once software has set them, and index registers are followed.
    @Test func aMapFollowsConfigurationSpace() throws {
        var configuration = PCConfiguration()
        configuration.drives = [DriveSettings(number: 4, kind: .disk, interface: .ahci)]
        let map = BoardMap(configuration: configuration)
        #expect(map.place(.memory, 0xE000_0110) == nil)
        func configure(_ register: UInt64, _ value: UInt64) {
            map.follow(.port, 0xCF8, width: 4, value: 0x8000_2000 | register)
            map.follow(.port, 0xCFC, width: 4, value: value)
        }
        configure(0x24, 0xE000_0000)
        configure(0x04, 6)
        let place = try #require(map.place(.memory, 0xE000_0110))
        #expect(place.device == "ahci" && place.name(isWrite: false) == "P0IS")
        #expect(map.place(.memory, 0xE000_0111)?.name(isWrite: false) == "P0IS+1")
        #expect(map.place(.port, 0xCFC)?.name(isWrite: true) == "CONFDATA[04.0 COMMAND]")
        map.follow(.port, 0x70, width: 1, value: 0x8B)
        #expect(map.place(.port, 0x71)?.name(isWrite: false) == "CMOS-DATA[B]")
        map.follow(.memory, 0xFEC0_0000, width: 4, value: 0x13)
        #expect(map.place(.memory, 0xFEC0_0010)?.name(isWrite: true) == "IOWIN[REDIRECTION1-HIGH]")
        #expect(map.place(.port, 0x3F8)?.name(isWrite: true) == "THR" && map.selector(.port, 0x3F8) == 0)
        map.follow(.port, 0x3FB, width: 1, value: 0x83)
        #expect(map.place(.port, 0x3F8)?.name(isWrite: true) == "THR[DLL]" && map.place(.port, 0x3F9)?.name(isWrite: false) == "IER[DLM]")
        #expect(map.place(.port, 0x2F8)?.name(isWrite: true) == "THR" && map.selector(.port, 0x3F9) != 0)
        map.follow(.port, 0x3FB, width: 1, value: 0x03)
        #expect(map.place(.port, 0x3F8)?.name(isWrite: true) == "THR")
        map.reset()
        #expect(map.place(.memory, 0xE000_0110) == nil)
    }

    private func file(_ bytes: [UInt8]) throws -> String {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("emu-\(UUID().uuidString).map").path
        try Data(bytes).write(to: URL(fileURLWithPath: path))
        return path
    }

    @Test func symbolsFromText() throws {
        let text = "ffffffff81000000 T _stext\nffffffff81000100 t second\nnonsense\nffffffff81000200 D data\nffffffffc0000010 t in_module\t[virtio]\n"
        let path = try file(Array(text.utf8))
        defer { try? FileManager.default.removeItem(atPath: path) }
        let table = try SymbolTable(path: path)
        #expect(table.name(0xFFFF_FFFF_8100_0000) == "_stext")
        #expect(table.name(0xFFFF_FFFF_8100_0208) == "second+0x108")
        #expect(table.name(0xFFFF_FFFF_C000_0011) == "in_module [virtio]+0x1")
        #expect(table.name(0x1000) == nil && table.name(.max) == nil)
        #expect(try SymbolTable(path: path, slide: 0x100_0000).name(0xFFFF_FFFF_8200_0001) == "_stext+0x1")
    }

    /// An ELF file of the host's; and the same cut, flipped and made up: an error or symbols, never a crash.
    @Test func symbolsFromELF() throws {
        // One symbol table with one function in an ELF file of 64 bits.
        func number(_ value: UInt64, _ width: Int) -> [UInt8] { (0..<width).map { UInt8(truncatingIfNeeded: value >> UInt64($0 * 8)) } }
        var elf: [UInt8] = [0x7F, 0x45, 0x4C, 0x46, 2, 1, 1] + Array(repeating: 0, count: 9)
        elf += number(2, 2) + number(62, 2) + number(1, 4) + number(0, 8) + number(0, 8) + number(64, 8) + number(0, 4)
        elf += number(64, 2) + number(0, 4) + number(64, 2) + number(3, 2) + number(0, 2)
        func section(_ kind: UInt64, _ offset: UInt64, _ size: UInt64, _ link: UInt64) -> [UInt8] {
            number(0, 4) + number(kind, 4) + number(0, 16) + number(offset, 8) + number(size, 8) + number(link, 4)
                + Array(repeating: 0, count: 20)
        }
        elf += section(0, 0, 0, 0) + section(2, 256, 24, 2) + section(3, 280, 16, 0)
        elf += number(1, 4) + [0x12, 0] + number(1, 2) + number(0xFFFF_FFFF_8100_1000, 8) + number(16, 8)
        elf += [0] + Array("a_function".utf8) + [0, 0, 0, 0, 0]
        let path = try file(elf)
        defer { try? FileManager.default.removeItem(atPath: path) }
        #expect(try SymbolTable(path: path).name(0xFFFF_FFFF_8100_1004) == "a_function+0x4")
        #expect(throws: LogError.self) { try SymbolTable(path: path + ".none") }
        var generator = TestGenerator(seed: 3)
        for round in 0..<2000 {
            var damaged = elf
            if round % 3 == 0 { damaged = Array(damaged.prefix(Int(generator.next() % UInt64(damaged.count)))) }
            for _ in 0..<(1 + generator.next() % 4) where damaged.count > 5 {
                let place = 4 + Int(generator.next() % UInt64(damaged.count - 4))
                damaged[place] = generator.next() & 1 == 0 ? 0xFF : UInt8(truncatingIfNeeded: generator.next())
            }
            try Data(damaged).write(to: URL(fileURLWithPath: path))
            _ = try? SymbolTable(path: path)
        }
    }

    @Test func loopsAreFound() {
        var finder = PollFinder()
        var loops: [PollFinder.Loop] = []
        func feed(_ accesses: [(site: Int, value: UInt64)?]) {
            for access in accesses { if let loop = finder.next(access) { loops.append(loop) } }
        }
        // A status register until it is ready.
        feed((0..<1000).map { _ in (1, 0x60) } + [(1, 0x61), nil])
        #expect(loops == [PollFinder.Loop(sites: [1], rounds: 1001, value: 0x61)])
        loops = []
        // Two registers in turn, and three accesses that are no loop.
        feed((0..<10).flatMap { _ in [(2, 1), (3, 2)] } + [(4, 0), (5, 0), (6, 0), nil])
        #expect(loops.count == 1 && Set(loops[0].sites) == [2, 3] && loops[0].rounds == 10)
        loops = []
        // Data.
        feed((0..<512).map { (7, UInt64($0 &* 40503) & 0xFFFF) } + [nil])
        #expect(loops.isEmpty)
        // A counter.
        feed((0..<512).map { (8, UInt64($0 * 3)) } + [nil])
        #expect(loops.count == 1)
        #expect(finder.finish() == nil)
    }

    private func steps(_ keys: [UInt64]) -> [TraceStep] {
        keys.enumerated().map {
            TraceStep(key: $1, number: UInt64($0), position: UInt64($0) * 10, site: 0, value: 0, count: 1)
        }
    }

    /// One planted step among a million is the only difference.
    @Test func aPlantedDifferenceIsFound() {
        var generator = TestGenerator(seed: 8)
        let keys = (0..<1_000_000).map { _ in generator.next() % 5000 }
        #expect(TraceDiff.compare("x", steps(keys), steps(keys)).isEmpty)
        var changed = keys
        changed[777_777] = 999_999
        var found = TraceDiff.compare("x", steps(keys), steps(changed))
        #expect(found.count == 1 && found[0].first == 777_777..<777_778 && found[0].second == 777_777..<777_778)
        changed = keys
        changed.remove(at: 5)
        changed.insert(contentsOf: [1, 2, 3].map { $0 + 1_000_000 }, at: 900_000)
        found = TraceDiff.compare("x", steps(keys), steps(changed))
        #expect(found.count == 2 && found[0].first == 5..<6 && found[0].second.isEmpty && found[1].second == 900_000..<900_003)
    }

    /// The stretches that differ, taken together with those that do not, make both lists again.
    @Test func differencesAreComplete() {
        var generator = TestGenerator(seed: 9)
        for _ in 0..<300 {
            let base = (0..<Int(generator.next() % 200)).map { _ in generator.next() % 12 }
            var other = base
            for _ in 0..<generator.next() % 8 where !other.isEmpty {
                let place = Int(generator.next() % UInt64(other.count))
                switch generator.next() % 3 {
                case 0: other[place] = generator.next() % 12
                case 1: other.remove(at: place)
                default: other.insert(generator.next() % 12, at: place)
                }
            }
            let found = TraceDiff.compare("x", steps(base), steps(other))
            var (i, j) = (0, 0)
            for difference in found + [TraceDifference(device: "x", first: base.count..<base.count, second: other.count..<other.count)] {
                #expect(difference.first.lowerBound - i == difference.second.lowerBound - j)
                #expect(base[i..<difference.first.lowerBound].elementsEqual(other[j..<difference.second.lowerBound]))
                (i, j) = (difference.first.upperBound, difference.second.upperBound)
            }
            #expect(found.isEmpty == (base == other))
        }
    }

    @Test func numbersAreWritten() {
        var buffer = ByteBuffer(capacity: 1)
        var expected = ""
        var generator = TestGenerator(seed: 4)
        let known: [UInt64] = [0, 1, 9, 10, 99, 100, .max, .max - 1, 10_000_000_000_000_000_000]
        let random: [UInt64] = (0..<200).map { generator.next() >> UInt64($0 % 64) }
        for value in known + random {
            buffer.append(decimal: value)
            buffer.append(" ")
            buffer.append(hexadecimal: value, digits: 4)
            buffer.append(UInt8(ascii: "\n"))
            let hex = String(value, radix: 16)
            expected += "\(value) \(String(repeating: "0", count: max(0, 4 - hex.count)))\(hex)\n"
        }
        buffer.append(seconds: 1_000_000_002)
        expected += "1.000000002"
        #expect(String(decoding: buffer.bytes, as: UTF8.self) == expected)
    }
}
