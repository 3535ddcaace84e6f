import ArgumentParser
import Foundation
import Machine

/// Options of `run` about firmware: it starts when no kernel is given.
struct FirmwareOptions: ParsableArguments {
    private static let usualBIOS = "/usr/share/seabios/bios-256k.bin"
    private static let usualVideoBIOS = "/usr/share/seabios/vgabios-stdvga.bin"
    private static let networkROMs = "/usr/lib/ipxe/qemu"

    @Option(help: ArgumentHelp("The BIOS that starts without --kernel. (default: \(usualBIOS), of Debian's package seabios)", valueName: "file"))
    var bios: String?
    @Option(help: ArgumentHelp("The VGA BIOS. (default: vgabios-stdvga.bin beside the BIOS)", valueName: "file"))
    var vgabios: String?
    @Option(help: ArgumentHelp("What to boot from, first choice first: c hard disk, d CD-ROM, a floppy, n network (by the ROMs of Debian's package ipxe-qemu); three at most.", valueName: "letters"))
    var boot: String?

    @Option(help: ArgumentHelp("Where the network cards' ROMs are, pxe-e1000.rom and the like. (default: \(networkROMs), of Debian's package ipxe-qemu)", valueName: "directory"))
    var pxeRoms: String?

    var isGiven: Bool { pxeRoms != nil || bios != nil || vgabios != nil || boot != nil }

    func validate() throws {
        if let boot, boot.isEmpty || boot.count > 3 || FirmwareSettings.bootOrder(boot) == nil {
            throw ValidationError("--boot is a choice of the letters a, c, d and n, not “\(boot)”")
        }
    }

    var order: UInt16? { boot.flatMap(FirmwareSettings.bootOrder) }

    /// The network is among what to boot from.
    var bootsFromNetwork: Bool { boot?.contains("n") ?? false }

    /// The role of the ROM of a model of network cards.
    static func role(_ model: NetworkCardSettings.Model) -> String { "pxe-\(model.rawValue)" }

    /// The files to load, by role.
    func paths(_ cards: [NetworkCardSettings]) throws -> [String: String] {
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
        if bootsFromNetwork {
            if cards.isEmpty { throw UserError("--boot \(boot ?? ""): there is no network card: give --net") }
            for card in cards {
                let path = "\(pxeRoms ?? Self.networkROMs)/pxe-\(card.model.rawValue).rom"
                guard FileManager.default.fileExists(atPath: path) else {
                    throw UserError("--boot \(boot ?? ""): \(path) is missing: install Debian's package ipxe-qemu, or give --pxe-roms DIRECTORY")
                }
                paths[Self.role(card.model)] = path
            }
        }
        return paths
    }
}
