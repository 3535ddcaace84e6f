import ArgumentParser
import Foundation
import Machine

/// Options of `run` about firmware: it starts when no kernel is given.
struct FirmwareOptions: ParsableArguments {
    private static let usualBIOS = "/usr/share/seabios/bios-256k.bin"
    private static let usualVideoBIOS = "/usr/share/seabios/vgabios-stdvga.bin"

    @Option(help: ArgumentHelp("The BIOS that starts without --kernel. (default: \(usualBIOS), of Debian's package seabios)", valueName: "file"))
    var bios: String?
    @Option(help: ArgumentHelp("The VGA BIOS. (default: vgabios-stdvga.bin beside the BIOS)", valueName: "file"))
    var vgabios: String?
    @Option(help: ArgumentHelp("What to boot from, first choice first: c hard disk, d CD-ROM, a floppy.", valueName: "letters"))
    var boot: String?

    var isGiven: Bool { bios != nil || vgabios != nil || boot != nil }

    func validate() throws {
        if let boot, boot.isEmpty || FirmwareSettings.bootOrder(boot) == nil {
            throw ValidationError("--boot is a choice of the letters a, c and d, not “\(boot)”")
        }
    }

    var order: UInt16? { boot.flatMap(FirmwareSettings.bootOrder) }

    /// The files to load, by role.
    func paths() throws -> [String: String] {
        let path = bios ?? Self.usualBIOS
        guard FileManager.default.fileExists(atPath: path) else {
            throw UserError(
                bios == nil
                    ? "without --kernel a BIOS starts: install Debian's package seabios, or give --bios FILE"
                    : "--bios \(path): there is no such file")
        }
        var paths = ["bios": path]
        let beside = URL(fileURLWithPath: path).deletingLastPathComponent()
            .appendingPathComponent("vgabios-stdvga.bin").path
        if let vgabios {
            paths["vgabios"] = vgabios
        } else if let found = [beside, Self.usualVideoBIOS].first(where: { FileManager.default.fileExists(atPath: $0) }) {
            paths["vgabios"] = found
        }
        return paths
    }
}
