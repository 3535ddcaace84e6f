/// ACPI and SMBIOS tables for firmware: files in fw_cfg, with a script that says how to place them ("etc/table-loader",
/// as QEMU's and SeaBIOS's romfile loader define it).
enum FirmwareTables {
    private static let tablesFile = "etc/acpi/tables"
    private static let rootFile = "etc/acpi/rsdp"

    static func files(_ memory: MemoryMap) -> [FirmwareSettings.File] {
        // Addresses in the tables are offsets in their file: the loader adds where it has put that.
        let tables = ACPITables(memory: memory, base: 0, pmBase: ACPITables.Hardware.firmwarePMBase)
        let (anchor, structures) = SMBIOSTables.files(memory)
        return [
            .init(name: tablesFile, bytes: tables.blobs[0].bytes),
            .init(name: rootFile, bytes: tables.blobs[1].bytes),
            .init(name: "etc/table-loader", bytes: script(tables)),
            .init(name: "etc/smbios/smbios-anchor", bytes: anchor),
            .init(name: "etc/smbios/smbios-tables", bytes: structures),
            .init(name: "etc/e820", bytes: memory.ramE820),
            // No menu, and no time to call it.
            .init(name: "etc/show-boot-menu", bytes: [0]),
        ]
    }

    private static func script(_ tables: ACPITables) -> [UInt8] {
        var script: [UInt8] = []
        script += allocate(tablesFile, alignment: 64, zone: 1)
        // The root pointer is searched for below 1 MiB.
        script += allocate(rootFile, alignment: 16, zone: 2)
        for table in tables.places {
            for (offset, size) in pointers(table.signature, table.count) {
                script += addPointer(tablesFile, to: tablesFile, at: table.offset + offset, size: size)
            }
        }
        for table in tables.places where table.signature != "FACS" {
            script += addChecksum(tablesFile, at: table.offset + 9, start: table.offset, count: table.count)
        }
        script += addPointer(rootFile, to: tablesFile, at: 16, size: 4)
        script += addPointer(rootFile, to: tablesFile, at: 24, size: 8)
        script += addChecksum(rootFile, at: 8, start: 0, count: 20)
        script += addChecksum(rootFile, at: 32, start: 0, count: 36)
        return script
    }

    /// Offsets and sizes of the addresses in a table.
    private static func pointers(_ signature: String, _ count: Int) -> [(Int, UInt8)] {
        switch signature {
        case "FACP": [(36, 4), (40, 4), (132, 8), (140, 8)]
        case "RSDT": stride(from: 36, to: count, by: 4).map { ($0, 4) }
        case "XSDT": stride(from: 36, to: count, by: 8).map { ($0, 8) }
        default: []
        }
    }

    // MARK: Commands: 128 bytes each

    private static func command(_ number: UInt32, _ build: (inout ByteWriter) -> Void) -> [UInt8] {
        var writer = ByteWriter()
        writer.put32(number)
        build(&writer)
        return writer.bytes + [UInt8](repeating: 0, count: 128 - writer.bytes.count)
    }
    private static func name(_ text: String) -> [UInt8] {
        Array(text.utf8) + [UInt8](repeating: 0, count: 56 - text.utf8.count)
    }
    private static func allocate(_ file: String, alignment: UInt32, zone: UInt8) -> [UInt8] {
        command(1) {
            $0.put(name(file))
            $0.put32(alignment)
            $0.put8(zone)
        }
    }
    private static func addPointer(_ file: String, to source: String, at offset: Int, size: UInt8) -> [UInt8] {
        command(2) {
            $0.put(name(file))
            $0.put(name(source))
            $0.put32(UInt32(offset))
            $0.put8(size)
        }
    }
    private static func addChecksum(_ file: String, at offset: Int, start: Int, count: Int) -> [UInt8] {
        command(3) {
            $0.put(name(file))
            $0.put32(UInt32(offset))
            $0.put32(UInt32(start))
            $0.put32(UInt32(count))
        }
    }
}
