import Boundary
import Devices
import Foundation
import Machine
import MachineState
import Replay
import Trace

/// A sentence for the user; the program ends with a non-zero status.
struct UserError: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// The files a machine is built from, and its settings: from the command line, or from a recording's header.
struct MachineSetup {
    /// A file that is loaded as a whole.
    struct LoadedFile {
        let image: LogHeader.Image
        let bytes: [UInt8]
    }
    /// Roles of files that are loaded, in the header's order.
    static let loadedRoles = ["kernel", "initrd", "bios", "vgabios"] + NetworkCardSettings.Model.allCases.map(FirmwareOptions.role) + [snapshotRole]
    /// Of a recording that was cut out of another one: where it begins.
    static let snapshotRole = "snapshot"

    var configuration: PCConfiguration
    private var files: [LoadedFile] = []
    /// See `FirmwareSettings.bootOrder`; nil for the usual one.
    private var bootOrder: UInt16?
    /// Disks and discs.
    private(set) var drives: [DriveFile] = []

    /// From options: reads the files.
    /// - Parameter paths: of the files to load, by role.
    init(configuration: PCConfiguration, paths: [String: String], drives: [DriveFile], bootOrder: UInt16? = nil) throws {
        self.bootOrder = bootOrder
        self.configuration = configuration
        self.configuration.drives = drives.map(\.settings)
        self.drives = drives
        for role in Self.loadedRoles {
            if let path = paths[role] { files.append(try Self.read(role, path)) }
        }
        addFirmware()
    }

    /// From a recording: finds the files and checks that they are the recorded ones.
    /// - Parameter replacements: paths to use instead of the recorded ones, by role.
    init(header: LogHeader, recording: String, replacements: [String: String]) throws {
        var configuration = try PCConfiguration(header: header, recording: recording)
        configuration.firmware = nil
        let drives = configuration.drives
        self.configuration = configuration
        for role in Self.loadedRoles {
            guard let image = header.image(role) else { continue }
            let path = try Self.find(image, recording, replacements)
            files.append(LoadedFile(image: image, bytes: try Self.read(role, path).bytes))
        }
        bootOrder = UInt16(header.setting("boot") ?? "", radix: 16)
        addFirmware()
        let formats = header.setting("formats").map(Self.byDrive) ?? [:]
        let logged = header.setting("logged").map(Self.byDrive) ?? [:]
        for drive in drives {
            if header.boundary == .inputs, let text = logged[drive.number] {
                // Its size, and a w if it was written itself.
                guard let size = UInt64(text.prefix { $0.isNumber }), size > 0, size < 1 << 62 else {
                    throw UserError("\(recording): the size of \(drive.role) is damaged")
                }
                self.drives.append(try DriveFile(drive, recorded: size, isWritten: text.hasSuffix("w")))
                continue
            }
            // With the devices outside, only images that the log refers to are named.
            guard let image = header.image(drive.role) else { continue }
            var replacements = replacements
            let kind = drive.role.filter { !$0.isNumber }
            let ordinal = self.drives.count { $0.settings.role.filter { !$0.isNumber } == kind }
            if let path = replacements["\(kind)#\(ordinal)"] { replacements[drive.role] = path }
            let path = try Self.find(image, recording, replacements)
            let format = formats[drive.number] ?? "raw"
            guard DiskOption.isFormat(format) else { throw UserError("\(recording): the format of \(drive.role) is damaged") }
            self.drives.append(try DriveFile(drive, path, DiskImage.Options(), format: format))
        }
    }

    /// Settings such as "0=qcow2,16=vmdk", by drive number.
    private static func byDrive(_ text: String) -> [Int: String] {
        var found: [Int: String] = [:]
        for part in text.split(separator: ",") {
            let fields = part.split(separator: "=", maxSplits: 1)
            if fields.count == 2, let number = Int(fields[0]) { found[number] = String(fields[1]) }
        }
        return found
    }
    private func byDrive(_ name: String, _ value: (DriveFile) -> String?) -> [LogHeader.Setting] {
        let parts = drives.compactMap { drive in value(drive).map { "\(drive.settings.number)=\($0)" } }
        return parts.isEmpty ? [] : [LogHeader.Setting(name, parts.joined(separator: ","))]
    }

    /// What the board tells the firmware, if there is one.
    private mutating func addFirmware() {
        guard file("bios") != nil else { return }
        var firmware = FirmwareSettings()
        if let bootOrder { firmware.bootOrder = bootOrder }
        if let video = file("vgabios") {
            firmware.files.append(FirmwareSettings.File(name: FirmwareImage.videoROM, bytes: video.bytes))
        }
        for model in NetworkCardSettings.Model.allCases {
            if let rom = file(FirmwareOptions.role(model)) { firmware.networkROMs[model.rawValue] = rom.bytes }
        }
        configuration.firmware = firmware
    }

    /// The header of a recording of this machine.
    func header(digestInterval: Position) throws -> LogHeader {
        var images = files.map(\.image)
        for drive in drives where drive.image.isNamed { images.append(try drive.headerImage()) }
        let cards = configuration.networkCards
        let usb = configuration.usb.text
        return LogHeader(
            boundary: configuration.boundary, clockShift: configuration.clockShift, digestInterval: digestInterval,
            date: configuration.date,
            settings: [
                LogHeader.Setting("machine", "pc"), LogHeader.Setting("memory", String(configuration.memory)),
                LogHeader.Setting("append", configuration.commandLine),
                LogHeader.Setting("entry", configuration.entersIn32Bits ? "32" : "64"),
                LogHeader.Setting("reset", configuration.endsAtReset ? "end" : "reboot"),
                LogHeader.Setting("drives", configuration.drives.text),
                LogHeader.Setting("devices", configuration.devices.map(\.rawValue).joined(separator: ",")),
                LogHeader.Setting("boot", String(configuration.firmware?.bootOrder ?? 0, radix: 16)),
            ] + (cards.isEmpty ? [] : [LogHeader.Setting("net", cards.text)])
                + (usb.isEmpty ? [] : [LogHeader.Setting("usb", usb)])
                + (configuration.foreignDevices.isEmpty ? [] : [LogHeader.Setting("foreign", configuration.foreignDevices.text)])
                + byDrive("formats") { $0.format == "raw" ? nil : $0.format }
                + byDrive("logged") { $0.image.isLogged ? "\($0.image.size)\($0.image.isWritten ? "w" : "")" : nil }, images: images)
    }

    /// Another file in the place of a recorded one: `role` is the kernel or the initial RAM disk.
    mutating func replace(_ role: String, _ path: String) throws {
        files.removeAll { $0.image.role == role }
        files.append(try Self.read(role, path))
    }

    /// Where a recording that was cut out of another one begins; nil for power-on.
    func snapshot(_ recording: String) throws -> MachineSnapshot? {
        guard let file = file(Self.snapshotRole) else { return nil }
        guard let snapshot = MachineSnapshot(file.bytes) else { throw UserError("\(recording): its beginning is damaged") }
        return snapshot
    }

    /// The disks' images.
    var media: [DiskImage] { drives.map(\.image) }

    private func file(_ role: String) -> LoadedFile? { files.first { $0.image.role == role } }

    /// What RAM and CPU hold at power-on.
    func bootImage() throws -> BootImage {
        if let bios = file("bios") {
            do { return try FirmwareImage.bootImage(bios.bytes) } catch { throw UserError("--bios \(bios.image.path): \(error)") }
        }
        let map = try MemoryMap(size: configuration.memory)
        let tables = ACPITables(memory: map)
        if file(Self.snapshotRole) != nil, file("kernel") == nil {
            return BootImage(blobs: [], state: BootState(mode: .reset, entry: 0, stack: 0))
        }
        guard let kernel = file("kernel") else { throw UserError("there is neither a kernel nor a BIOS to start") }
        let initrd = file("initrd")?.bytes
        do {
            var image: BootImage
            if ELFLoader.headerOffset(kernel.bytes) != nil {
                let modules = initrd.map { [ELFLoader.Module(bytes: $0)] } ?? []
                image = try ELFLoader(
                    kernel: kernel.bytes, modules: modules, commandLine: configuration.commandLine, memory: map
                ).load()
            } else {
                // A 32-bit kernel has no 64-bit entry.
                let has64BitEntry = try LinuxSetupHeader(kernel.bytes).has64BitEntry
                image = try LinuxLoader(
                    kernel: kernel.bytes, initrd: initrd, commandLine: configuration.commandLine, memory: map,
                    acpiRoot: tables.root,
                    entry: configuration.entersIn32Bits || !has64BitEntry ? .protected32 : .long64
                ).load()
            }
            image.blobs += tables.blobs
            return image
        } catch { throw UserError("\(kernel.image.path): \(error)") }
    }

    /// Reads a file and names it for the header.
    private static func read(_ role: String, _ path: String) throws -> LoadedFile {
        let bytes: [UInt8]
        do { bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path))) } catch {
            let exists = FileManager.default.fileExists(atPath: path)
            throw UserError("--\(role) \(path): \(exists ? "cannot be read" : "there is no such file")")
        }
        return LoadedFile(
            image: LogHeader.Image(
                role: role, path: URL(fileURLWithPath: path).path, size: UInt64(bytes.count), digest: SHA256.hex(bytes)),
            bytes: bytes)
    }

    /// Where all of a header's images are, in its order.
    static func paths(of header: LogHeader, recording: String, replacements: [String: String]) throws -> [String] {
        var counts: [String: Int] = [:]
        return try header.images.map { image in
            var replacements = replacements
            // Drives are replaced by their order among those of their kind.
            let kind = image.role.filter { !$0.isNumber }
            if let path = replacements["\(kind)#\(counts[kind, default: 0])"] { replacements[image.role] = path }
            counts[kind, default: 0] += 1
            return try find(image, recording, replacements)
        }
    }

    /// The file with the recorded contents: where it was, where the user says, or beside the recording.
    private static func find(
        _ image: LogHeader.Image, _ recording: String, _ replacements: [String: String]
    ) throws -> String {
        let name = URL(fileURLWithPath: image.path).lastPathComponent
        let beside = URL(fileURLWithPath: recording).deletingLastPathComponent().appendingPathComponent(name).path
        let candidates = replacements[image.role].map { [$0] } ?? [image.path, beside]
        let option = image.role.trimmingCharacters(in: .decimalDigits)
        var wrong: String?
        for path in candidates {
            guard FileManager.default.isReadableFile(atPath: path) else { continue }
            if Message.fileSize(path) == image.size, try FileDigest.sha256(path) == image.digest { return path }
            wrong = path
        }
        let wanted = "SHA-256 \(image.digest.prefix(16))…, \(image.size) bytes"
        if replacements[image.role] == nil, let path = try PackedImage.path(of: image, in: recording) { return path }
        if let wrong {
            throw UserError("\(recording): \(wrong) is not the recorded \(image.role) (\(wanted)); give it with --\(option) PATH")
        }
        throw UserError(
            "\(recording): the recorded \(image.role) \(image.path) is not there (\(wanted)); give it with --\(option) PATH")
    }
}
