import Foundation
import Machine
import MachineState
import Testing

/// Images and overlays on real files.
struct DiskImageTests {
    let directory: URL
    let image: String
    let contents: [UInt8]

    init() throws {
        directory = FileManager.default.temporaryDirectory.appendingPathComponent("emu-disk-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        image = directory.appendingPathComponent("disk.img").path
        var random = TestRandom(3)
        contents = random.bytes(200 * 512)
        try Data(contents).write(to: URL(fileURLWithPath: image))
    }

    private func path(_ name: String) -> String { directory.appendingPathComponent(name).path }
    private func done() { try? FileManager.default.removeItem(at: directory) }
    private func onDisk() -> [UInt8] { [UInt8](FileManager.default.contents(atPath: image) ?? Data()) }

    private func read(_ disk: DiskImage, _ sector: UInt64, _ count: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0xEE, count: count * 512)
        bytes.withUnsafeMutableBytes { disk.read(sector: sector, into: $0) }
        return bytes
    }
    private func write(_ disk: DiskImage, _ sector: UInt64, _ bytes: [UInt8]) {
        bytes.withUnsafeBytes {
            disk.prepare(sector: sector, from: $0)
            disk.write(sector: sector, from: $0)
        }
    }
    private func digest(_ disk: DiskImage) -> UInt64 {
        var visitor = StateVisitor(.digest)
        disk.visitState(&visitor)
        return visitor.digest.value
    }

    @Test func changesStayInTheOverlay() throws {
        defer { done() }
        let disk = try DiskImage(path: image, number: 0, options: .init())
        #expect(disk.sectorCount == 200 && !disk.isReadOnly)
        #expect(read(disk, 0, 200) == contents)
        var expected = contents
        var random = TestRandom(8)
        for _ in 0..<300 {
            let sector = random.below(199)
            let bytes = random.bytes((1 + random.below(min(20, 200 - sector))) * 512)
            write(disk, UInt64(sector), bytes)
            expected.replaceSubrange(sector * 512..<sector * 512 + bytes.count, with: bytes)
        }
        #expect(read(disk, 0, 200) == expected)
        #expect(read(disk, 13, 50) == Array(expected[13 * 512..<63 * 512]))
        #expect(onDisk() == contents, "the image is not written")
        #expect(disk.hasChanges)
    }

    @Test func originsAreOfUnchangedData() throws {
        defer { done() }
        let disk = try DiskImage(path: image, number: 1, options: .init())
        #expect(disk.origin(sector: 10, count: 8) == ImageOrigin(image: 1, offset: 5120))
        write(disk, 16, [UInt8](repeating: 1, count: 512))
        #expect(disk.origin(sector: 10, count: 8) == nil)
        #expect(disk.origin(sector: 0, count: 16) == ImageOrigin(image: 1, offset: 0))
    }

    @Test func digestTellsContentsNotHistory() throws {
        defer { done() }
        let first = try DiskImage(path: image, number: 0, options: .init())
        let second = try DiskImage(path: image, number: 0, options: .init())
        let (a, b) = ([UInt8](repeating: 1, count: 512), [UInt8](repeating: 2, count: 512))
        write(first, 0, a)
        write(first, 100, b)
        write(second, 100, a)
        write(second, 0, a)
        #expect(digest(first) != digest(second))
        write(second, 100, b)
        #expect(digest(first) == digest(second))
    }

    @Test func snapshotsHoldTheOverlay() throws {
        defer { done() }
        var options = DiskImage.Options()
        let first = try DiskImage(path: image, number: 0, options: options)
        options.overlay = path("overlay")
        let second = try DiskImage(path: image, number: 0, options: options)
        write(first, 7, [UInt8](repeating: 9, count: 1024))
        write(second, 90, [UInt8](repeating: 8, count: 512))
        var saved = StateVisitor(.save)
        first.visitState(&saved)
        var loading = StateVisitor(loading: saved.bytes)
        second.visitState(&loading)
        #expect(loading.isComplete)
        #expect(read(first, 0, 200) == read(second, 0, 200))
        #expect(digest(first) == digest(second))
        var short = StateVisitor(loading: Array(saved.bytes.prefix(saved.bytes.count - 5)))
        second.visitState(&short)
        #expect(short.failure != nil)
    }

    @Test func overlayFilesAreFoundAgain() throws {
        defer { done() }
        var options = DiskImage.Options()
        options.overlay = path("overlay")
        var expected = contents
        do {
            let disk = try DiskImage(path: image, number: 0, options: options)
            write(disk, 3, [UInt8](repeating: 0x33, count: 512 * 20))
            expected.replaceSubrange(3 * 512..<23 * 512, with: [UInt8](repeating: 0x33, count: 512 * 20))
            #expect(throws: DiskError.self) { try DiskImage(path: image, number: 0, options: options) }
            disk.finish()
        }
        let again = try DiskImage(path: image, number: 0, options: options)
        #expect(again.hasChanges && read(again, 0, 200) == expected)
    }

    @Test func damagedOverlaysAreRefusedOrCut() throws {
        defer { done() }
        var options = DiskImage.Options()
        options.overlay = path("overlay")
        let file = URL(fileURLWithPath: path("overlay"))
        try Data([1, 2, 3]).write(to: file)
        #expect(throws: DiskError.self) { try DiskImage(path: image, number: 0, options: options) }
        try Data().write(to: file)
        do { write(try DiskImage(path: image, number: 0, options: options), 0, [UInt8](repeating: 5, count: 8192)) }
        let whole = try Data(contentsOf: file)
        // Cut in the middle of the second record: the first one counts.
        try whole.prefix(4096 + 4104 + 100).write(to: file)
        do {
            let disk = try DiskImage(path: image, number: 0, options: options)
            #expect(read(disk, 0, 8) == [UInt8](repeating: 5, count: 4096))
            #expect(read(disk, 8, 8) == Array(contents[4096..<8192]))
        }
        var wild = whole
        wild[4096 + 5] = 0xFF
        try wild.write(to: file)
        #expect(throws: DiskError.self) { try DiskImage(path: image, number: 0, options: options) }
        try Data(contents + contents).write(to: URL(fileURLWithPath: image))
        try whole.write(to: file)
        #expect(throws: DiskError.self) { try DiskImage(path: image, number: 0, options: options) }
    }

    @Test func aFullOverlayIsAFailure() throws {
        defer { done() }
        var options = DiskImage.Options()
        options.overlayLimit = 3 * 4096
        let disk = try DiskImage(path: image, number: 0, options: options)
        var failures: [String] = []
        disk.onFailure = { failures.append($0) }
        write(disk, 0, [UInt8](repeating: 1, count: 3 * 4096))
        #expect(failures.isEmpty)
        let bytes = [UInt8](repeating: 2, count: 512)
        bytes.withUnsafeBytes { disk.prepare(sector: 100, from: $0) }
        #expect(failures.count == 1 && failures[0].contains("full"))
        bytes.withUnsafeBytes { disk.prepare(sector: 0, from: $0) }
        #expect(failures.count == 1, "what is there already can be written")
    }

    @Test func aFileThatShrinksIsAFailure() throws {
        defer { done() }
        let disk = try DiskImage(path: image, number: 0, options: .init())
        var failures: [String] = []
        disk.onFailure = { failures.append($0) }
        #expect(truncate(image, 50 * 512) == 0)
        #expect(read(disk, 40, 10) == Array(contents[40 * 512..<50 * 512]) && failures.isEmpty)
        #expect(read(disk, 45, 10) == Array(contents[45 * 512..<50 * 512]) + [UInt8](repeating: 0, count: 5 * 512))
        #expect(failures.count == 1 && failures[0].contains("shorter"))
    }

    @Test func sizesThatAreNotWhole() throws {
        defer { done() }
        try Data(contents.prefix(1000)).write(to: URL(fileURLWithPath: image))
        let disk = try DiskImage(path: image, number: 0, options: .init())
        #expect(disk.sectorCount == 2)
        #expect(read(disk, 0, 2) == Array(contents.prefix(1000)) + [UInt8](repeating: 0, count: 24))
        #expect(disk.origin(sector: 1, count: 1) == nil, "the zeros are not in the image")
        var options = DiskImage.Options()
        options.isReadOnly = true
        #expect(try DiskImage(path: image, number: 2, options: options).sectorCount == 4)
        try Data().write(to: URL(fileURLWithPath: image))
        #expect(throws: DiskError.self) { try DiskImage(path: image, number: 0, options: .init()) }
        #expect(throws: DiskError.self) { try DiskImage(path: path("nowhere"), number: 0, options: .init()) }
    }

    @Test func writableImagesAreWritten() throws {
        defer { done() }
        var options = DiskImage.Options()
        options.isWritable = true
        let disk = try DiskImage(path: image, number: 0, options: options)
        write(disk, 5, [UInt8](repeating: 7, count: 512))
        #expect(Array(onDisk()[5 * 512..<6 * 512]) == [UInt8](repeating: 7, count: 512))
        #expect(read(disk, 5, 1) == [UInt8](repeating: 7, count: 512))
        #expect(throws: DiskError.self) { try DiskImage(path: image, number: 0, options: .init()) }
    }
}
