import ArgumentParser
import Boundary
import Devices
import Foundation
import Machine
import Passthrough
import Replay

/// Options of `run` about drives.
struct DiskOptions: ParsableArguments {
    @Option(help: ArgumentHelp(
        """
        A hard disk: an image; FILE,if=virtio connects it as ide (the usual way), ahci, virtio or virtio-legacy; FILE,format=qcow2 \
        has another format than raw (by qemu-nbd); FILE,log=data is for an image that will have changed when the recording is \
        replayed: what is read goes into the recording. More than once for more disks. It is not written, unless --writable.
        """,
        valueName: "file[,if=…][,format=…][,log=data]"))
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
            options.isLogged = option.isLogged
            options.overlay = index == 0 ? overlay : nil
            options.overlayLimit = overlayLimit.bytes
            let drive = DriveSettings(number: number, kind: .disk, interface: option.interface)
            files.append(try DriveFile(drive, option.path, options, format: option.format))
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

/// `--disk FILE[,if=INTERFACE][,format=FORMAT][,log=data]`.
struct DiskOption: ExpressibleByArgument, Equatable {
    var path: String
    var interface = DriveInterface.ide
    /// As qemu-nbd names it; "raw" is read without it.
    var format = "raw"
    /// See `DiskImage.Options`.
    var isLogged = false

    init?(argument: String) {
        path = argument
        // From the end: a file's name may have a comma.
        while let comma = path.lastIndex(of: ",") {
            let option = path[path.index(after: comma)...].split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard option.count == 2 else { break }
            switch option[0] {
            case "if":
                guard let known = DriveInterface(rawValue: String(option[1])), known != .floppy, known != .disc else { return nil }
                interface = known
            case "format":
                guard Self.isFormat(option[1]) else { return nil }
                format = String(option[1])
            case "log":
                guard option[1] == "data" else { return nil }
                isLogged = true
            default: return
            }
            path = String(path[..<comma])
        }
        if path.isEmpty { return nil }
    }

    static func isFormat(_ text: some StringProtocol) -> Bool {
        !text.isEmpty && text.utf8.allSatisfy { ($0 >= 97 && $0 <= 122) || ($0 >= 48 && $0 <= 57) || $0 == 45 }
    }
}

/// A drive and its image's file.
struct DriveFile {
    let settings: DriveSettings
    let image: DiskImage
    let format: String

    init(_ settings: DriveSettings, _ path: String, _ options: DiskImage.Options, format: String = "raw") throws {
        var options = options
        options.isReadOnly = settings.kind == .cdrom
        self.settings = settings
        self.format = format
        do {
            if format == "raw" {
                image = try DiskImage(path: path, number: settings.number, options: options)
                try Self.checkRaw(path)
            } else {
                let source = try Self.open(path, format, options)
                image = try DiskImage(source, size: source.size, path: path, number: settings.number, options: options)
            }
        } catch { throw UserError("--\(settings.role.filter { !$0.isNumber }) \(error)") }
    }

    /// A drive whose contents a recording has.
    /// - Parameters:
    ///   - size: of the image, in bytes.
    ///   - isWritten: the guest's changes went to the image, and not to an overlay.
    init(_ settings: DriveSettings, recorded size: UInt64, isWritten: Bool) throws {
        self.settings = settings
        format = "raw"
        var options = DiskImage.Options()
        options.isLogged = true
        options.isWritable = isWritten
        image = try DiskImage(nil, size: size, path: settings.role, number: settings.number, options: options)
    }

    private static func open(_ path: String, _ format: String, _ options: DiskImage.Options) throws -> any DiskSource {
        #if NBD
            if !options.isLogged, format == "qcow2", let header = start(path), header.count >= 16, header.starts(with: qcow),
                header[8..<16].contains(where: { $0 != 0 })
            {
                throw UserError("\(path): is a part of another image (its backing file), which no digest names: give log=data")
            }
            return try NBDSource(path: path, format: format, isWritable: options.isWritable)
        #else
            throw UserError("\(path): this program was built without other formats than raw; build it with --traits NBD")
        #endif
    }

    /// A raw image that begins as one of another format does is a mistake, or a guest's trick.
    private static func checkRaw(_ path: String) throws {
        if let header = start(path), header.starts(with: qcow) {
            throw UserError("\(path): looks like a qcow2 image: give format=qcow2")
        }
    }

    private static let qcow: [UInt8] = [0x51, 0x46, 0x49, 0xFB]

    private static func start(_ path: String) -> Data? {
        guard let file = FileHandle(forReadingAtPath: path) else { return nil }
        defer { try? file.close() }
        return try? file.read(upToCount: 32)
    }

    /// The image as the header of a recording names it: its file, whatever the format.
    func headerImage() throws -> LogHeader.Image {
        LogHeader.Image(
            role: settings.role, path: URL(fileURLWithPath: image.path).path, size: Message.fileSize(image.path),
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
