import Foundation
import MachineState
import Testing

@testable import Boundary
@testable import Machine
@testable import Replay

/// A machine with firmware and a disk, recorded and replayed at both boundaries.
struct DiskRecordReplayTests {
    /// What a run left behind.
    private struct Run {
        let console: [UInt8]
        let digests: [PartDigest]
        let events: [LogEvent]
    }

    private final class Console: HostSink, @unchecked Sendable {
        private let lock = NSLock()
        private var bytes: [UInt8] = []
        var all: [UInt8] { lock.withLock { bytes } }
        func send(_ more: [UInt8]) { lock.withLock { bytes += more } }
        func ask(_ question: UInt32) -> UInt64 { 0 }
    }

    private let image: String
    private let contents: [UInt8]

    init() throws {
        image = FileManager.default.temporaryDirectory.appendingPathComponent("emu-\(UUID().uuidString).img").path
        contents = (0..<400 * 512).map { UInt8(truncatingIfNeeded: ($0 &* 0x9E37) >> 5 &+ $0 / 512) }
        try Data(contents).write(to: URL(fileURLWithPath: image))
    }

    private func sectors(_ first: Int, _ count: Int) -> [UInt8] { Array(contents[first * 512..<(first + count) * 512]) }

    /// Records a run of `program`, replays it, and checks that all is the same.
    /// - Parameter spoil: done to the disk before the run only.
    private func recordAndReplay(
        _ boundary: BoundaryKind, _ program: DiskProgram, options: DiskImage.Options = .init(), spoil: () -> Void = {},
        restore: () throws -> Void = {}, travel: ((Timeline) throws -> Void)? = nil
    ) throws -> Run {
        var configuration = PCConfiguration()
        configuration.memory = 16 << 20
        configuration.boundary = boundary
        configuration.firmware = FirmwareSettings()
        configuration.drives = [DriveSettings(number: 0, kind: .disk)]
        let start = try FirmwareImage.bootImage(program.rom)
        let path = image + ".emurec"
        defer { try? FileManager.default.removeItem(atPath: path) }
        let header = LogHeader(
            boundary: boundary, clockShift: 3, digestInterval: 1000, date: 0, settings: [], images: [])

        let live = LiveBoundary(pace: .free, slice: 777)
        let console = Console()
        live.register(source: Channel.debugConsole.rawValue, name: "debugcon", sink: console)
        let disk = try DiskImage(path: image, number: 0, options: options)
        disk.onFailure = { _ in live.push(source: Channel.disk.rawValue, bytes: [0]) }
        nonisolated(unsafe) let source = disk
        if options.isLogged { live.register(disk: 0) { source.readSource($0, $1) } }
        spoil()
        var plane: DevicePlane?
        if boundary == .devices {
            plane = DevicePlane(
                configuration: configuration, memoryMap: try MemoryMap(size: configuration.memory), clock: .virtual,
                media: [disk], host: live)
        }
        let recorder = RecordingBoundary(
            wrapping: plane ?? live, writer: try LogWriter(path: path, header: header), header: header)
        let machine = try PCMachine(
            configuration: configuration, image: start, media: boundary == .inputs ? [disk] : [], door: recorder)
        recorder.memory = machine
        plane?.insideMemory = recorder
        #expect(try machine.run(until: 50_000_000) == .ended(.poweredOff, code: 7))

        try restore()
        let reader = try LogReader(path: path)
        func replay() throws -> (door: ReplayBoundary, machine: PCMachine) {
            let names: (LogEvent) -> String = { "port 0x\(String($0.address, radix: 16))" }
            let door = ReplayBoundary(reader: try LogReader(path: path), names: names)
            var settings = DiskImage.Options()
            settings.isLogged = options.isLogged
            settings.isWritable = options.isLogged && options.isWritable
            let copy = options.isLogged
                ? try DiskImage(nil, size: UInt64(contents.count), path: "disk0", number: 0, options: settings)
                : try DiskImage(path: image, number: 0, options: settings)
            door.readImage = { origin, buffer in
                copy.readFile(origin.offset, buffer)
                return origin.image == 0
            }
            let machine = try PCMachine(
                configuration: configuration, image: start, media: boundary == .inputs ? [copy] : [], door: door)
            door.memory = machine
            return (door, machine)
        }
        let (door, replayed) = try replay()
        var again: [UInt8] = []
        door.onSend = { source, bytes in if source == Channel.debugConsole.rawValue { again += bytes } }
        door.onPortWrite = { port, value in if port == 0x402 { again.append(UInt8(truncatingIfNeeded: value)) } }
        #expect(try replayed.run(until: .max) == .ended(.poweredOff, code: 7))
        #expect(replayed.digests() == machine.digests())
        #expect(again == console.all)
        #expect(door.endReason == .poweredOff)
        var events: [LogEvent] = []
        try reader.forEachEvent { _, event in
            events.append(event)
            return true
        }
        if let travel {
            let (door, machine) = try replay()
            try travel(try Timeline(machine: machine, door: door))
        }
        return Run(console: console.all, digests: machine.digests(), events: events)
    }
    private func cleanUp() { try? FileManager.default.removeItem(atPath: image) }

    /// Reads 16 sectors from 20 on to 0x8000 and prints them.
    private static var readProgram: DiskProgram {
        var program = DiskProgram()
        program.address(20, 16)
        program.startDMA(0x8000, 8192, toMemory: true)
        program.command(0xC8)
        program.waitAndTell()
        program.tell(0x8000, 8192)
        return program
    }

    @Test(arguments: BoundaryKind.allCases)
    func readsByDMA(boundary: BoundaryKind) throws {
        defer { cleanUp() }
        let program = Self.readProgram
        let run = try recordAndReplay(boundary, program)
        #expect(run.console == [0x50] + sectors(20, 16))
        if boundary == .inputs {
            #expect(run.events.allSatisfy { $0.kind == .digest || $0.kind == .end }, "a disk's data is not in the log")
            #expect(run.digests.contains { $0.part == "disk0" } && run.digests.contains { $0.part == "piix3-ide" })
        } else {
            let dma = run.events.filter { $0.kind == .dmaImage }
            #expect(dma.count == 1 && dma[0].value == 20 * 512 && dma[0].width == 8192 && dma[0].address == 0x8000)
            #expect(!run.events.contains { $0.kind == .dmaWrite })
        }
    }

    /// The last writer of memory that a disk's data came to is named, with its request.
    @Test(arguments: BoundaryKind.allCases)
    func lastWriterByDMAIsNamed(boundary: BoundaryKind) throws {
        defer { cleanUp() }
        let program = Self.readProgram
        _ = try recordAndReplay(boundary, program, travel: { timeline in
            var conditions = StopConditions()
            conditions.watches = [WatchRange(start: 0x8400, length: 4, kind: .write)]
            func check(_ stop: TimelineStop) {
                guard case .watch(_, 0x8400, _, _, let who?) = stop else {
                    Issue.record("\(stop)")
                    return
                }
                #expect(who == "piix3-ide: primary, READ DMA, drive 0, sector 20, disk0 sector 20", "at \(boundary)")
            }
            check(try timeline.runForward(conditions: conditions))
            _ = try timeline.seek(to: .never)
            check(try timeline.runBackward(conditions: conditions))
        })
    }

    @Test(arguments: BoundaryKind.allCases)
    func readsByPIO(boundary: BoundaryKind) throws {
        defer { cleanUp() }
        var program = DiskProgram()
        program.address(399, 1)
        program.command(0x20)
        program.waitAndTell()
        program.readData(0x8000, words: 256)
        program.tell(0x8000, 512)
        #expect(try recordAndReplay(boundary, program).console == [0x58] + sectors(399, 1))
    }

    @Test(arguments: BoundaryKind.allCases)
    func readsBackWhatWasWritten(boundary: BoundaryKind) throws {
        defer { cleanUp() }
        var program = DiskProgram()
        program.fill(0x8000, 1024, 0xC3)
        program.address(31, 2)
        program.startDMA(0x8000, 1024, toMemory: false)
        program.command(0xCA)
        program.waitAndTell()
        program.fill(0x8000, 2048, 0)
        program.address(30, 4)
        program.startDMA(0x8000, 2048, toMemory: true)
        program.command(0xC8)
        program.waitAndTell()
        program.tell(0x8000, 2048)
        let run = try recordAndReplay(boundary, program)
        #expect(run.console == [0x50, 0x50] + sectors(30, 1) + [UInt8](repeating: 0xC3, count: 1024) + sectors(33, 1))
        #expect([UInt8](FileManager.default.contents(atPath: image) ?? Data()) == contents)
        // Data that is not in the image is in the log.
        if boundary == .devices { #expect(run.events.contains { $0.kind == .dmaWrite && $0.bytes.count == 2048 }) }
    }

    /// `log=data`: the contents are in the recording, and the image may be another one afterwards, whether the guest has
    /// written it itself or somebody else has.
    @Test(arguments: BoundaryKind.allCases, [false, true])
    func aLoggedDiskReplaysWithoutItsImage(boundary: BoundaryKind, isWritable: Bool) throws {
        defer { cleanUp() }
        var program = DiskProgram()
        program.address(20, 32)
        program.startDMA(0x8000, 0x4000, toMemory: true)
        program.command(0xC8)
        program.waitAndTell()
        program.fill(0x8000, 1024, 0xC3)
        program.address(31, 2)
        program.startDMA(0x8000, 1024, toMemory: false)
        program.command(0xCA)
        program.waitAndTell()
        program.address(30, 4)
        program.startDMA(0x8000, 2048, toMemory: true)
        program.command(0xC8)
        program.waitAndTell()
        program.tell(0x8000, 2048)
        program.address(399, 1)
        program.command(0x20)
        program.waitAndTell()
        program.readData(0x9000, words: 256)
        program.tell(0x9000, 512)
        var options = DiskImage.Options()
        options.isLogged = true
        options.isWritable = isWritable
        let run = try recordAndReplay(
            boundary, program, options: options,
            restore: { try Data(count: contents.count).write(to: URL(fileURLWithPath: image)) })
        let written = sectors(30, 1) + [UInt8](repeating: 0xC3, count: 1024) + sectors(33, 1)
        #expect(run.console.suffix(2048 + 1 + 512).elementsEqual(written + [0x58] + sectors(399, 1)))
        let data = run.events.filter { $0.kind == .diskData }
        #expect(boundary == .devices ? data.isEmpty : data.contains { $0.address == 0 && $0.value == 20 * 512 })
        #expect(!run.events.contains { $0.kind == .dmaImage || $0.kind == .portImage })
    }

    /// The host's file fails during the recording and not at the replay: the guest sees the failure both times.
    @Test(arguments: BoundaryKind.allCases)
    func hostFailuresAreReplayed(boundary: BoundaryKind) throws {
        defer { cleanUp() }
        var program = DiskProgram()
        program.address(2, 1)
        program.startDMA(0x8000, 512, toMemory: true)
        program.command(0xC8)
        program.waitAndTell()
        program.address(300, 1)
        program.startDMA(0x8000, 512, toMemory: true)
        program.command(0xC8)
        program.waitAndTell()
        program.address(3, 1)
        program.command(0x20)
        program.waitAndTell()
        program.readData(0x8000, words: 256)
        program.tell(0x8000, 512)
        let run = try recordAndReplay(
            boundary, program, spoil: { _ = truncate(image, 100 * 512) },
            restore: { try Data(contents).write(to: URL(fileURLWithPath: image)) })
        #expect(run.console == [0x50, 0x51, 0x58] + sectors(3, 1))
        if boundary == .inputs { #expect(run.events.contains { $0.kind == .input && $0.bytes == [0] }) }
    }

    @Test(arguments: BoundaryKind.allCases)
    func aFullOverlayIsReplayed(boundary: BoundaryKind) throws {
        defer { cleanUp() }
        var program = DiskProgram()
        program.fill(0x8000, 4096, 0x11)
        for sector in [0, 8, 16] as [UInt32] {
            program.address(sector, 8)
            program.startDMA(0x8000, 4096, toMemory: false)
            program.command(0xCA)
            program.waitAndTell()
        }
        program.address(16, 1)
        program.startDMA(0x8000, 512, toMemory: true)
        program.command(0xC8)
        program.waitAndTell()
        program.tell(0x8000, 512)
        var options = DiskImage.Options()
        options.overlayLimit = 8192
        let run = try recordAndReplay(boundary, program, options: options)
        #expect(run.console == [0x50, 0x50, 0x71, 0x50] + sectors(16, 1))
    }

    /// Goes back over a write, and forth again.
    @Test func aDiskTravels() throws {
        defer { cleanUp() }
        let disk = try DiskImage(path: image, number: 0, options: .init())
        var configuration = PCConfiguration()
        configuration.memory = 16 << 20
        configuration.firmware = FirmwareSettings()
        configuration.drives = [DriveSettings(number: 0, kind: .disk)]
        var program = DiskProgram()
        program.fill(0x8000, 512, 0x22)
        program.address(5, 1)
        program.startDMA(0x8000, 512, toMemory: false)
        program.command(0xCA)
        program.waitAndTell()
        let live = LiveBoundary(pace: .free)
        let machine = try PCMachine(
            configuration: configuration, image: try FirmwareImage.bootImage(program.rom), media: [disk], door: live)
        #expect(try machine.run(until: 20) == .positionReached)
        let before = machine.saveState()
        let digests = machine.digests()
        #expect(try machine.run(until: 50_000_000) == .ended(.poweredOff, code: 7))
        #expect(disk.hasChanges)
        #expect(machine.loadState(before))
        #expect(!disk.hasChanges)
        let after = machine.digests()
        // RAM is put back page by page, by the timeline.
        #expect(after.filter { $0.part != "ram" } == digests.filter { $0.part != "ram" })
    }
}
