import ArgumentParser
import Devices
import Foundation
import Machine
import Replay

/// Options of `run` about drives.
struct DiskOptions: ParsableArguments {
    @Option(help: ArgumentHelp(
        "A hard disk: a raw image; FILE,if=virtio connects it as ide (the usual way), ahci, virtio or virtio-legacy. More than once for more disks. It is not written, unless --writable.",
        valueName: "file[,if=…]"))
    var disk: [DiskOption] = []
    @Option(help: ArgumentHelp("A CD-ROM: an ISO image. The first one is in the drive; the others can be put in by the monitor's change.", valueName: "file"))
    var cdrom: [String] = []
    @Option(help: ArgumentHelp("A floppy disk: an image of 160K to 2.88M. Twice for drive B. It is not written, unless --writable.", valueName: "file"))
    var floppy: [String] = []
    @Option(help: ArgumentHelp("Keep the guest's changes of the (first) disk in this file instead of in memory.", valueName: "file"))
    var overlay: String?
    @Option(help: ArgumentHelp("The most an overlay may hold: MiB, or with K, M or G.", valueName: "size"))
    var overlayLimit = MemoryOption(bytes: 64 << 30)
    @Flag(help: "Write the guest's changes to the disk images themselves.")
    var writable = false

    /// No drive has a medium.
    var isEmpty: Bool { disk.isEmpty && cdrom.isEmpty && floppy.isEmpty }

    func validate() throws {
        if floppy.count > 2 { throw ValidationError("--floppy can be given twice at most") }
        if cdrom.count > 9 { throw ValidationError("--cdrom can be given 9 times at most") }
        for interface in DriveInterface.allCases {
            let most = interface == .ide ? Self.ideNumbers.count : interface.numbers.count
            if disk.count(where: { $0.interface == interface }) > most {
                throw ValidationError("--disk …,if=\(interface.rawValue) can be given \(most) times at most")
            }
        }
        if overlay != nil, disk.isEmpty { throw ValidationError("--overlay needs a --disk") }
        if overlay != nil, writable { throw ValidationError("--overlay and --writable exclude each other") }
    }

    /// Disks are drives 0, 1 and 3 of the IDE channels, the CD-ROM is drive 2.
    private static let ideNumbers = [0, 1, 3]

    func images() throws -> [DriveFile] {
        var files: [DriveFile] = []
        var used: Set<Int> = []
        for (index, option) in disk.enumerated() {
            let numbers = option.interface == .ide ? Self.ideNumbers : Array(option.interface.numbers)
            guard let number = numbers.first(where: { !used.contains($0) }) else {
                throw ValidationError("--disk \(option.path): there are too many disks")
            }
            used.insert(number)
            var options = DiskImage.Options()
            options.isWritable = writable
            options.overlay = index == 0 ? overlay : nil
            options.overlayLimit = overlayLimit.bytes
            let drive = DriveSettings(number: number, kind: .disk, interface: option.interface)
            files.append(try DriveFile(drive, option.path, options))
        }
        for (index, path) in cdrom.enumerated() {
            let drive =
                index == 0
                ? DriveSettings(number: 2, kind: .cdrom)
                : DriveSettings(number: DriveInterface.disc.numbers.lowerBound + index - 1, kind: .cdrom, interface: .disc)
            files.append(try DriveFile(drive, path, DiskImage.Options()))
        }
        for (path, number) in zip(floppy, DriveInterface.floppy.numbers) {
            var options = DiskImage.Options()
            options.isWritable = writable
            let file = try DriveFile(DriveSettings(number: number, kind: .disk, interface: .floppy), path, options)
            guard FloppyController.Geometry(sectors: file.image.sectorCount) != nil else {
                throw UserError("--floppy \(path): \(file.image.size) bytes are no floppy disk's size (1474560 are usual)")
            }
            files.append(file)
        }
        return files.sorted { $0.settings.number < $1.settings.number }
    }
}

/// `--disk FILE[,if=INTERFACE]`.
struct DiskOption: ExpressibleByArgument, Equatable {
    var path: String
    var interface = DriveInterface.ide

    init?(argument: String) {
        path = argument
        if let comma = argument.range(of: ",if=", options: .backwards) {
            path = String(argument[..<comma.lowerBound])
            guard let known = DriveInterface(rawValue: String(argument[comma.upperBound...])), known != .floppy, known != .disc else { return nil }
            interface = known
        }
        if path.isEmpty { return nil }
    }
}

/// A drive and its image's file.
struct DriveFile {
    let settings: DriveSettings
    let image: DiskImage

    init(_ settings: DriveSettings, _ path: String, _ options: DiskImage.Options) throws {
        var options = options
        options.isReadOnly = settings.kind == .cdrom
        self.settings = settings
        do { image = try DiskImage(path: path, number: settings.number, options: options) } catch {
            throw UserError("--\(settings.role.filter { !$0.isNumber }) \(error)")
        }
    }

    /// The image as the header of a recording names it.
    func headerImage() throws -> LogHeader.Image {
        LogHeader.Image(
            role: settings.role, path: URL(fileURLWithPath: image.path).path, size: image.size,
            digest: try FileDigest.sha256(image.path))
    }
}

/// SHA-256 of files. Large ones are remembered with their size and time of change: an image of gigabytes takes seconds.
enum FileDigest {
    static func sha256(_ path: String) throws -> String {
        let attributes = try? FileManager.default.attributesOfItem(atPath: path)
        let size = (attributes?[.size] as? NSNumber)?.uint64Value ?? 0
        let changed = (attributes?[.modificationDate] as? Date)?.timeIntervalSince1970 ?? 0
        let inode = (attributes?[.systemFileNumber] as? NSNumber)?.uint64Value ?? 0
        let key = "\(URL(fileURLWithPath: path).path) \(size) \(changed) \(inode)"
        let isLarge = size > 16 << 20
        if isLarge, let known = remembered()[key] { return known }
        guard let file = FileHandle(forReadingAtPath: path) else { throw UserError("\(path): cannot be read") }
        defer { try? file.close() }
        var hash = SHA256()
        while true {
            guard let piece = try file.read(upToCount: 4 << 20), !piece.isEmpty else { break }
            piece.withUnsafeBytes { hash.update($0) }
        }
        let digest = hash.finish()
        if isLarge { remember(key, digest) }
        return digest
    }

    /// The program's own directory for what can be made again.
    static var directory: URL? {
        let environment = ProcessInfo.processInfo.environment
        let base = environment["XDG_CACHE_HOME"] ?? environment["HOME"].map { $0 + "/.cache" }
        return base.map { URL(fileURLWithPath: $0 + "/emu") }
    }
    private static var cache: URL? { directory?.appendingPathComponent("digests") }

    /// Lines of a digest and a key. What cannot be read is computed again.
    private static func remembered() -> [String: String] {
        guard let cache, let text = try? String(contentsOf: cache, encoding: .utf8) else { return [:] }
        var known: [String: String] = [:]
        for line in text.split(separator: "\n") where line.utf8.count > 65 {
            known[String(line.dropFirst(65))] = String(line.prefix(64))
        }
        return known
    }

    private static func remember(_ key: String, _ digest: String) {
        guard let cache, !key.contains("\n") else { return }
        let lines = ((try? String(contentsOf: cache, encoding: .utf8)) ?? "").split(separator: "\n").suffix(200)
        try? FileManager.default.createDirectory(at: cache.deletingLastPathComponent(), withIntermediateDirectories: true)
        let text = (lines + ["\(digest) \(key)"]).joined(separator: "\n") + "\n"
        try? text.write(to: cache, atomically: true, encoding: .utf8)
    }
}
