/// The machine's differentiated system description: what is where, how PCI interrupts are routed, how to switch off.
enum DSDT {
    /// The value of SLP_TYP that switches the board off.
    static let s5SleepType: UInt32 = 0

    /// PCI interrupt lines, in order, and their route control registers in the ISA bridge.
    private static let links = ["LNKA", "LNKB", "LNKC", "LNKD"]
    private static let routes = ["PRQA", "PRQB", "PRQC", "PRQD"]
    /// ISA interrupts that PCI may have where there is no I/O APIC.
    private static let pciInterrupts = [5, 10, 11]

    /// The table's AML, without its header.
    /// - Parameter pciHole: memory addresses that the PCI bus has.
    static func code(pciHole: ClosedRange<UInt32>) -> [UInt8] {
        let zero = AML.integer(0)
        let sleep = AML.package([AML.integer(s5SleepType), AML.integer(s5SleepType), zero, zero])
        let terms = [
            AML.define("\\_S5", sleep),
            // The operating system tells whether it uses the I/O APIC (1) or the PICs (0).
            AML.define("\\PICF", zero),
            AML.method("\\_PIC", arguments: 1, [AML.store(AML.argument0, to: AML.name("PICF"))]),
            AML.scope("\\_SB", [processor, hostBridge(pciHole)] + links.indices.map(link)),
        ]
        return terms.flatMap { $0 }
    }

    private static let processor = AML.device(
        "CPU0", [AML.define("_HID", AML.string("ACPI0007")), AML.define("_UID", AML.integer(0))])

    private static func hostBridge(_ pciHole: ClosedRange<UInt32>) -> [UInt8] {
        let windows = AML.resources([
            AML.busNumbers(0...0xFF),
            AML.ports(0xCF8, count: 8),
            AML.portWindow(0...0xCF7),
            AML.portWindow(0xD00...0xFFFF),
            AML.memoryWindow(0xA_0000...0xB_FFFF, isCacheable: true),
            AML.memoryWindow(pciHole),
        ])
        return AML.device(
            "PCI0",
            [
                AML.define("_HID", AML.eisaID("PNP0A03")),
                AML.define("_UID", AML.integer(0)),
                AML.define("_CRS", windows),
                AML.define("PRTA", routing { [AML.integer(0), AML.integer(16 + UInt32($0))] }),
                AML.define("PRTP", routing { [AML.name(links[$0]), AML.integer(0)] }),
                AML.method(
                    "_PRT",
                    [
                        AML.when(AML.name("PICF"), [AML.returning(AML.name("PRTA"))]),
                        AML.returning(AML.name("PRTP")),
                    ]),
                isaBridge,
            ])
    }

    /// A row for each pin of each slot. INTA of slot 1 is PIRQA, and each slot begins one line further.
    /// - Parameter target: source and source index for a line (0...3).
    private static func routing(_ target: (Int) -> [[UInt8]]) -> [UInt8] {
        var rows: [[UInt8]] = []
        for slot in 0..<32 {
            for pin in 0..<4 {
                let address = AML.integer(UInt32(slot) << 16 | 0xFFFF)
                rows.append(AML.package([address, AML.integer(UInt32(pin))] + target((slot + 3 + pin) & 3)))
            }
        }
        return AML.package(rows)
    }

    private static let isaBridge = AML.device(
        "ISA",
        [
            AML.define("_ADR", AML.integer(0x0001_0000)),
            AML.configurationRegion("PIRQ", offset: 0x60, length: 4),
            AML.byteFields(of: "PIRQ", routes),
            isaDevice("RTC", "PNP0B00", [AML.ports(0x70, count: 2), AML.isaInterrupt(8)]),
            isaDevice("KBD", "PNP0303", [AML.ports(0x60, count: 1), AML.ports(0x64, count: 1), AML.isaInterrupt(1)]),
            isaDevice("MOU", "PNP0F13", [AML.isaInterrupt(12)]),
            isaDevice("LPT1", "PNP0400", [AML.ports(0x378, count: 3), AML.isaInterrupt(7)]),
            AML.device(
                "PEVT",
                [
                    AML.define("_HID", AML.string("QEMU0001")), AML.define("_STA", AML.integer(15)),
                    AML.define("_CRS", AML.resources([AML.ports(0x505, count: 1)])),
                ]),
            isaDevice("COM1", "PNP0501", unit: 1, [AML.ports(0x3F8, count: 8), AML.isaInterrupt(4)]),
            isaDevice("COM2", "PNP0501", unit: 2, [AML.ports(0x2F8, count: 8), AML.isaInterrupt(3)]),
        ])

    private static func isaDevice(
        _ name: String, _ id: String, unit: UInt32? = nil, _ resources: [[UInt8]]
    ) -> [UInt8] {
        var terms = [AML.define("_HID", AML.eisaID(id)), AML.define("_STA", AML.integer(15))]
        if let unit { terms.append(AML.define("_UID", AML.integer(unit))) }
        return AML.device(name, terms + [AML.define("_CRS", AML.resources(resources))])
    }

    /// An interrupt link device: reads and writes the route control register. Bit 7 is off, bits 3...0 the interrupt.
    private static func link(_ line: Int) -> [UInt8] {
        let register = AML.name("\\_SB.PCI0.ISA.\(routes[line])")
        let present = AML.returning(AML.integer(11))
        return AML.device(
            links[line],
            [
                AML.define("_HID", AML.eisaID("PNP0C0F")),
                AML.define("_UID", AML.integer(UInt32(line) + 1)),
                AML.define("_PRS", AML.resources([AML.pciInterrupts(pciInterrupts)])),
                AML.method(
                    "_STA",
                    [AML.when(AML.and(register, AML.integer(0x80)), [AML.returning(AML.integer(9))]), present]),
                AML.method("_DIS", [AML.or(register, AML.integer(0x80), to: register)]),
                // The template's mask is a word at offset 1.
                AML.method(
                    "_CRS", isSerialized: true,
                    [
                        AML.define("BUFF", AML.resources([AML.pciInterrupts([])])),
                        AML.createWordField(AML.name("BUFF"), at: 1, "MASK"),
                        AML.when(
                            lessThan0x80(register),
                            [
                                AML.store(
                                    AML.shiftLeft(AML.integer(1), AML.and(register, AML.integer(15))),
                                    to: AML.name("MASK"))
                            ]),
                        AML.returning(AML.name("BUFF")),
                    ]),
                AML.method(
                    "_SRS", arguments: 1,
                    [
                        AML.createWordField(AML.argument0, at: 1, "MASK"),
                        AML.findRightBit(AML.name("MASK"), to: AML.local0),
                        AML.decrement(AML.local0),
                        AML.store(AML.local0, to: register),
                    ]),
            ])
    }

    private static func lessThan0x80(_ value: [UInt8]) -> [UInt8] { [0x95] + value + AML.integer(0x80) }
}
