import ArgumentParser
import Foundation
import Replay

/// `emu pack`: a recording with its images inside.
struct PackCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pack", abstract: "Copy a recording with the kernel, firmware and disk images it needs inside: it replays anywhere.")

    @Argument(help: "The recording.")
    var file: String
    @Option(name: .shortAndLong, help: ArgumentHelp("The new recording.", valueName: "file"))
    var output: String
    @OptionGroup var images: ImageOptions

    func run() throws {
        let reader = try LogReader(path: file)
        try Message.refuseExisting(output)
        let paths = try MachineSetup.paths(of: reader.header, recording: file, replacements: images.replacements)
        do { try PackedImages.write(output, copying: reader, images: paths) } catch {
            try? FileManager.default.removeItem(atPath: output)
            throw error
        }
        Message.say("\(output): \(paths.count) images, \(Message.fileSize(output)) bytes")
    }
}

/// Images out of packed recordings: kept in the cache by their digests.
enum PackedImage {
    /// Where an image is once it is unpacked; nil: it is not inside.
    static func path(of image: LogHeader.Image, in recording: String) throws -> String? {
        let reader = try LogReader(path: recording)
        guard let number = reader.header.images.firstIndex(of: image), try PackedImages.numbers(in: reader).contains(number) else {
            return nil
        }
        guard image.digest.allSatisfy({ $0.isHexDigit }), let directory = FileDigest.directory?.appendingPathComponent("images") else {
            return nil
        }
        let path = directory.appendingPathComponent(image.digest).path
        if Message.fileSize(path) == image.size, image.size > 0, try FileDigest.sha256(path) == image.digest { return path }
        do { try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true) } catch {
            throw UserError("\(directory.path): cannot be made, for the images of \(recording)")
        }
        // Whole or not at all, also when two do it at once.
        let temporary = "\(path).\(ProcessInfo.processInfo.processIdentifier)"
        defer { try? FileManager.default.removeItem(atPath: temporary) }
        try PackedImages.extract(number, of: reader, to: temporary)
        guard rename(temporary, path) == 0 else { throw UserError("\(path): cannot be written") }
        return path
    }
}
