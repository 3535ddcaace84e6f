import Boundary
import Foundation
import Machine
import MachineState
import Replay

/// A sentence for the user; the program ends with a non-zero status.
struct UserError: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// The files a machine is built from, and its settings: from the command line, or from a recording's header.
struct MachineSetup {
    var configuration: PCConfiguration
    var kernel: LogHeader.Image
    var initrd: LogHeader.Image?
    var kernelBytes: [UInt8]
    var initrdBytes: [UInt8]?

    /// From options: reads the files.
    init(configuration: PCConfiguration, kernel path: String, initrd initrdPath: String?) throws {
        self.configuration = configuration
        kernelBytes = try Self.read(path, "--kernel")
        kernel = Self.image("kernel", path, kernelBytes)
        if let initrdPath {
            let bytes = try Self.read(initrdPath, "--initrd")
            initrdBytes = bytes
            initrd = Self.image("initrd", initrdPath, bytes)
        }
    }

    /// From a recording: finds the files and checks that they are the recorded ones.
    /// - Parameter replacements: paths to use instead of the recorded ones, by role.
    init(header: LogHeader, recording: String, replacements: [String: String]) throws {
        func settings(_ name: String) throws -> String {
            guard let value = header.setting(name) else { throw UserError("\(recording): the header has no setting “\(name)”") }
            return value
        }
        var configuration = PCConfiguration()
        let machine = try settings("machine")
        guard machine == "pc" else { throw UserError("\(recording): needs a machine “\(machine)”, which this version does not have") }
        guard let memory = UInt64(try settings("memory")) else { throw UserError("\(recording): the memory size is damaged") }
        configuration.memory = memory
        configuration.boundary = header.boundary
        configuration.clockShift = header.clockShift
        configuration.date = header.date
        configuration.commandLine = try settings("append")
        configuration.entersIn32Bits = try settings("entry") == "32"
        configuration.endsAtReset = try settings("reset") == "end"
        self.configuration = configuration
        guard let kernel = header.image("kernel") else { throw UserError("\(recording): the header names no kernel") }
        self.kernel = kernel
        kernelBytes = try Self.find(kernel, recording, replacements)
        if let initrd = header.image("initrd") {
            self.initrd = initrd
            initrdBytes = try Self.find(initrd, recording, replacements)
        }
    }

    /// The header of a recording of this machine.
    func header(digestInterval: Position) -> LogHeader {
        LogHeader(
            boundary: configuration.boundary, clockShift: configuration.clockShift, digestInterval: digestInterval,
            date: configuration.date,
            settings: [
                LogHeader.Setting("machine", "pc"), LogHeader.Setting("memory", String(configuration.memory)),
                LogHeader.Setting("append", configuration.commandLine),
                LogHeader.Setting("entry", configuration.entersIn32Bits ? "32" : "64"),
                LogHeader.Setting("reset", configuration.endsAtReset ? "end" : "reboot"),
            ], images: [kernel] + (initrd.map { [$0] } ?? []))
    }

    /// What RAM and CPU hold at power-on.
    func bootImage() throws -> BootImage {
        let map = try MemoryMap(size: configuration.memory)
        let tables = ACPITables(memory: map)
        do {
            var image: BootImage
            if ELFLoader.headerOffset(kernelBytes) != nil {
                let modules = initrdBytes.map { [ELFLoader.Module(bytes: $0)] } ?? []
                image = try ELFLoader(
                    kernel: kernelBytes, modules: modules, commandLine: configuration.commandLine, memory: map
                ).load()
            } else {
                // A 32-bit kernel has no 64-bit entry.
                let has64BitEntry = try LinuxSetupHeader(kernelBytes).has64BitEntry
                image = try LinuxLoader(
                    kernel: kernelBytes, initrd: initrdBytes, commandLine: configuration.commandLine, memory: map,
                    acpiRoot: tables.root,
                    entry: configuration.entersIn32Bits || !has64BitEntry ? .protected32 : .long64
                ).load()
            }
            image.blobs += tables.blobs
            return image
        } catch { throw UserError("\(kernel.path): \(error)") }
    }

    private static func read(_ path: String, _ option: String) throws -> [UInt8] {
        do { return [UInt8](try Data(contentsOf: URL(fileURLWithPath: path))) } catch {
            let exists = FileManager.default.fileExists(atPath: path)
            throw UserError("\(option) \(path): \(exists ? "cannot be read" : "there is no such file")")
        }
    }

    private static func image(_ role: String, _ path: String, _ bytes: [UInt8]) -> LogHeader.Image {
        LogHeader.Image(
            role: role, path: URL(fileURLWithPath: path).path, size: UInt64(bytes.count), digest: SHA256.hex(bytes))
    }

    /// The file with the recorded contents: where it was, where the user says, or beside the recording.
    private static func find(
        _ image: LogHeader.Image, _ recording: String, _ replacements: [String: String]
    ) throws -> [UInt8] {
        let name = URL(fileURLWithPath: image.path).lastPathComponent
        let beside = URL(fileURLWithPath: recording).deletingLastPathComponent().appendingPathComponent(name).path
        let candidates = replacements[image.role].map { [$0] } ?? [image.path, beside]
        var wrong: String?
        for path in candidates {
            guard let data = try? Data(contentsOf: URL(fileURLWithPath: path)) else { continue }
            let bytes = [UInt8](data)
            if SHA256.hex(bytes) == image.digest { return bytes }
            wrong = path
        }
        let wanted = "SHA-256 \(image.digest.prefix(16))…, \(image.size) bytes"
        if let wrong {
            throw UserError("\(recording): \(wrong) is not the recorded \(image.role) (\(wanted)); give it with --\(image.role) PATH")
        }
        throw UserError(
            "\(recording): the recorded \(image.role) \(image.path) is not there (\(wanted)); give it with --\(image.role) PATH")
    }
}
