import DeviceBus

/// The registers' places, names and bits (8254x manual, 13).
extension E1000 {
    /// Offsets in the memory region.
    enum Register {
        static let control = 0x0000
        static let status = 0x0008
        static let eepromControl = 0x0010
        static let eepromRead = 0x0014
        static let phy = 0x0020
        static let tagType = 0x0038
        static let cause = 0x00C0
        static let interval = 0x00C4
        static let causeSet = 0x00C8
        static let mask = 0x00D0
        static let maskClear = 0x00D8
        static let receiveControl = 0x0100
        static let transmitControl = 0x0400
        static let packetBuffer = 0x1000
        /// Base low and high, length, head, tail at 0, 4, 8, 0x10, 0x18.
        static let receiveRing = 0x2800
        static let transmitRing = 0x3800
        static let receiveDelay = 0x2820
        static let receiveLimit = 0x282C
        static let transmitDelay = 0x3820
        static let transmitLimit = 0x382C
        static let checksums = 0x5000
        static let tagFilter = 0x5600
        static let multicast = 0x5200
        static let addresses = 0x5400
        /// Good packets in and out, bytes in and out (two words each, of which the high one clears), all packets.
        static let statistics = [0x4074, 0x4080, 0x4088, 0x4090, 0x40D0, 0x40D4]
    }
    enum Cause {
        static let transmitted: UInt32 = 1 << 0
        static let queueEmpty: UInt32 = 1 << 1
        static let link: UInt32 = 1 << 2
        static let fewBuffers: UInt32 = 1 << 4
        static let received: UInt32 = 1 << 7
    }

    /// Bits of registers (8254x manual, 13.4).
    private static let fields: [String: String] = {
        let interrupts = "TXDW TXQE LSC RXSEQ RXDMT0 - RXO RXT0 - MDAC"
        return [
            "CTRL": "FD - PRIOR LRST - ASDE SLU ILOS SPEED:2=10/100/1000 - FRCSPD FRCDPX -:13 RST RFCE TFCE - VME PHYRST",
            "STATUS": "FD LU FUNCTION:2 TXOFF TBI SPEED:2=10/100/1000",
            "EECD": "SK CS DI DO FWE:2 REQ GNT PRES", "EERD": "START -:3 DONE -:3 ADDRESS:8 DATA:16",
            "MDIC": "DATA:16 REGISTER:5 PHY:5 OP:2=0/write/read R I E",
            "ICR": interrupts, "ICS": interrupts, "IMS": interrupts, "IMC": interrupts,
            "RCTL": "- EN SBP UPE MPE LPE LBM:2 RDMTS:2 -:2 MO:2 - BAM BSIZE:2 VFE CFIEN CFI - DPF PMCF - BSEX SECRC",
            "TCTL": "- EN - PSP CT:8 COLD:10 SWXOFF - RTLC",
        ]
    }()
    static let registerNames = [
        (0x00, "CTRL"), (0x08, "STATUS"), (0x10, "EECD"), (0x14, "EERD"), (0x20, "MDIC"), (0x38, "VET"),
        (0xC0, "ICR"), (0xC4, "ITR"), (0xC8, "ICS"), (0xD0, "IMS"), (0xD8, "IMC"), (0x100, "RCTL"), (0x400, "TCTL"),
        (0x1000, "PBA"), (0x2800, "RDBAL"), (0x2804, "RDBAH"), (0x2808, "RDLEN"), (0x2810, "RDH"), (0x2818, "RDT"),
        (0x2820, "RDTR"), (0x282C, "RADV"), (0x3800, "TDBAL"), (0x3804, "TDBAH"), (0x3808, "TDLEN"), (0x3810, "TDH"),
        (0x3818, "TDT"), (0x3820, "TIDV"), (0x382C, "TADV"), (0x5000, "RXCSUM"),
    ].map { RegisterName(UInt64($0.0), $0.1, length: 4, fields: fields[$0.1] ?? "", contents: $0.1.contains("DBA") ? .address : .value) }
}
