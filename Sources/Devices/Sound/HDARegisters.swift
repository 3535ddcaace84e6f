import DeviceBus

extension HDA {
    /// The registers, with the specification's names.
    static let registers: [RegisterName] = {
        let streams = (0..<streamCount).map { "SD\($0)" }
        let fields = streams.joined(separator: " ")
        var names: [RegisterName] = [
            RegisterName(0x00, "GCAP", length: 2, fields: "64OK NSDO:2 BSS:5 ISS:4 OSS:4"), RegisterName(0x02, "VMIN"), RegisterName(0x03, "VMAJ"),
            RegisterName(0x04, "OUTPAY", length: 2), RegisterName(0x06, "INPAY", length: 2),
            RegisterName(0x08, "GCTL", length: 4, fields: "CRST FCNTRL -:6 UNSOL"),
            RegisterName(0x0C, "WAKEEN", length: 2, fields: "SDI0 SDI1 SDI2"), RegisterName(0x0E, "STATESTS", length: 2, fields: "SDI0 SDI1 SDI2"),
            RegisterName(0x10, "GSTS", length: 2, fields: "- FSTS"),
            RegisterName(0x18, "OUTSTRMPAY", length: 2), RegisterName(0x1A, "INSTRMPAY", length: 2),
            RegisterName(0x20, "INTCTL", length: 4, fields: "\(fields) -:22 CIE GIE"),
            RegisterName(0x24, "INTSTS", length: 4, fields: "\(fields) -:22 CIS GIS"),
            RegisterName(0x30, "WALCLK", length: 4, contents: .time), RegisterName(0x34, "SSYNC", length: 4, fields: fields),
            RegisterName(0x38, "SSYNC", length: 4, fields: fields),
            RegisterName(0x40, "CORBLBASE", length: 4, contents: .address), RegisterName(0x44, "CORBUBASE", length: 4, contents: .address),
            RegisterName(0x48, "CORBWP", length: 2, fields: "WP:8"), RegisterName(0x4A, "CORBRP", length: 2, fields: "RP:8 -:7 RST"),
            RegisterName(0x4C, "CORBCTL", fields: "CMEIE RUN"), RegisterName(0x4D, "CORBSTS", fields: "CMEI"),
            RegisterName(0x4E, "CORBSIZE", fields: "SIZE:2=2/16/256 -:2 CAP:4"),
            RegisterName(0x50, "RIRBLBASE", length: 4, contents: .address), RegisterName(0x54, "RIRBUBASE", length: 4, contents: .address),
            RegisterName(0x58, "RIRBWP", length: 2, fields: "WP:8 -:7 RST"), RegisterName(0x5A, "RINTCNT", length: 2, fields: "N:8"),
            RegisterName(0x5C, "RIRBCTL", fields: "RINTCTL DMAEN ROIC"), RegisterName(0x5D, "RIRBSTS", fields: "RINTFL - ROIS"),
            RegisterName(0x5E, "RIRBSIZE", fields: "SIZE:2=2/16/256 -:2 CAP:4"),
            RegisterName(0x60, "ICOI", length: 4, fields: "VERB:20 NODE:7 INDIRECT CODEC:4"), RegisterName(0x64, "ICII", length: 4),
            RegisterName(0x68, "ICIS", length: 2, fields: "ICB IRV"),
            RegisterName(0x70, "DPLBASE", length: 4, contents: .address), RegisterName(0x74, "DPUBASE", length: 4, contents: .address),
        ]
        for (index, stream) in streams.enumerated() {
            let base = UInt64(0x80 + index * 0x20)
            names += [
                RegisterName(base, "\(stream)CTL", length: 3, fields: "SRST RUN IOCE FEIE DEIE -:11 STRIPE:2 TP DIR STRM:4"),
                RegisterName(base + 3, "\(stream)STS", fields: "- - BCIS FIFOE DESE FIFORDY"),
                RegisterName(base + 4, "\(stream)LPIB", length: 4, contents: .time), RegisterName(base + 8, "\(stream)CBL", length: 4),
                RegisterName(base + 0xC, "\(stream)LVI", length: 2), RegisterName(base + 0x10, "\(stream)FIFOS", length: 2),
                RegisterName(
                    base + 0x12, "\(stream)FMT", length: 2,
                    fields: "CHAN:4 BITS:3=8/16/20/24/32 - DIV:3 MULT:3 BASE=48kHz/44.1kHz"),
                RegisterName(base + 0x18, "\(stream)BDPL", length: 4, contents: .address),
                RegisterName(base + 0x1C, "\(stream)BDPU", length: 4, contents: .address),
            ]
        }
        names.append(RegisterName(0x2030, "WALCLKA", length: 4, contents: .time))
        for (index, stream) in streams.enumerated() {
            names.append(RegisterName(UInt64(0x2084 + index * 0x20), "\(stream)LPIBA", length: 4, contents: .time))
        }
        return names
    }()
}
