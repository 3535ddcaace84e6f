import ArgumentParser
import Foundation
import Machine

/// `emu overlay`: a disk as the guest has left it, as an image of its own.
struct OverlayCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "overlay", abstract: "Put an image and the guest's changes in its overlay together, in a new raw image.")

    @Argument(help: "The image that the guest began with: a raw one.")
    var image: String
    @Argument(help: "The overlay: the file of emu run --overlay.")
    var overlay: String
    @Option(name: .shortAndLong, help: ArgumentHelp("The new image.", valueName: "file"))
    var output: String

    private static let pieceSize = 1 << 20

    func run() throws {
        guard FileManager.default.fileExists(atPath: overlay) else { throw UserError("\(overlay): there is no such file") }
        try Message.refuseExisting(output)
        var options = DiskImage.Options()
        options.overlay = overlay
        let disk: DiskImage
        do { disk = try DiskImage(path: image, number: 0, options: options) } catch { throw UserError("\(error)") }
        var failure: String?
        disk.onFailure = { failure = $0 }
        guard FileManager.default.createFile(atPath: output, contents: nil), let file = FileHandle(forWritingAtPath: output)
        else { throw UserError("--output \(output): cannot be written") }
        defer { try? file.close() }
        do {
            // What is zero stays a hole.
            try file.truncate(atOffset: disk.size)
            var sector: UInt64 = 0
            while sector < disk.sectorCount {
                let count = min(UInt64(Self.pieceSize / 512), disk.sectorCount - sector)
                var bytes = [UInt8](repeating: 0, count: Int(count) * 512)
                bytes.withUnsafeMutableBytes { disk.read(sector: sector, into: $0) }
                if let failure { throw UserError(failure) }
                if bytes.contains(where: { $0 != 0 }) {
                    try file.seek(toOffset: sector * 512)
                    try file.write(contentsOf: bytes.prefix(Int(min(UInt64(bytes.count), disk.size - sector * 512))))
                }
                sector += count
            }
        } catch let error as UserError { throw error } catch {
            throw UserError("--output \(output): cannot be written: \(error.localizedDescription)")
        }
    }
}
