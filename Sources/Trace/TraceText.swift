import Machine
import MachineState
import Replay

/// Events as lines: number, position, virtual time in seconds, what, where, value, fields; the PC and its symbol.
package final class TraceText {
    private let trace: TraceReader
    private let showsPayload: Bool
    private let pattern: [UInt8]
    private var heads: [[UInt8]] = []
    private var tails: [[UInt8]] = []
    private var generation = 0
    private var fields: [(site: Int, value: UInt64, generation: Int, text: [UInt8])]
    private static let fieldSlots = 4096

    /// - Parameters:
    ///   - payload: DMA and blocks with all their bytes, not just the first 16.
    ///   - pattern: only lines with this text; empty for all.
    package init(_ trace: TraceReader, payload: Bool, pattern: String = "") {
        self.trace = trace
        showsPayload = payload
        self.pattern = Array(pattern.utf8)
        fields = Array(repeating: (-1, 0, 0, []), count: Self.fieldSlots)
    }

    /// Adds the event's line, unless the pattern is not in it. True: it was added.
    @discardableResult
    package func append(_ item: TraceReader.Event, to buffer: inout ByteBuffer) -> Bool {
        let start = buffer.count
        buffer.append(decimal: item.number)
        buffer.append(UInt8(ascii: " "))
        buffer.append(decimal: item.event.position)
        buffer.append(UInt8(ascii: " "))
        buffer.append(seconds: item.time)
        buffer.append(UInt8(ascii: " "))
        if item.site >= 0 { appendAccess(item, to: &buffer) } else { appendOther(item, to: &buffer) }
        buffer.append(UInt8(ascii: "\n"))
        if pattern.isEmpty || contains(buffer.bytes, from: start) { return true }
        buffer.truncate(to: start)
        return false
    }

    private func contains(_ bytes: UnsafeRawBufferPointer, from start: Int) -> Bool {
        let last = bytes.count - pattern.count
        if last < start { return false }
        let first = pattern[0]
        for place in start...last where bytes[place] == first {
            if pattern.indices.allSatisfy({ bytes[place + $0] == pattern[$0] }) { return true }
        }
        return false
    }

    private func appendAccess(_ item: TraceReader.Event, to buffer: inout ByteBuffer) {
        if generation != trace.siteGeneration {
            generation = trace.siteGeneration
            heads = []
            tails = []
        }
        while heads.count <= item.site { describe(trace.sites[heads.count]) }
        buffer.append(heads[item.site])
        let event = item.event
        switch event.kind {
        case .portBlock:
            buffer.append(decimal: UInt64(event.blockLength))
            buffer.append(" bytes ")
            appendPayload(event.bytes, to: &buffer)
        case .portImage:
            buffer.append(decimal: UInt64(event.blockLength))
            buffer.append(" bytes of disk")
            buffer.append(decimal: event.value >> 56)
            buffer.append(" at ")
            buffer.append(decimal: event.value & (1 << 56 - 1))
        default:
            buffer.append("0x")
            buffer.append(hexadecimal: event.value, digits: Int(event.width) * 2)
            appendFields(item, to: &buffer)
        }
        buffer.append(tails[item.site])
    }

    private func appendFields(_ item: TraceReader.Event, to buffer: inout ByteBuffer) {
        guard trace.sites[item.site].description != nil else { return }
        let slot = (item.site &* 31 &+ Int(truncatingIfNeeded: item.event.value)) & (Self.fieldSlots - 1)
        if fields[slot].site != item.site || fields[slot].value != item.event.value || fields[slot].generation != generation {
            let text = trace.sites[item.site].describe(item.event.value)
            fields[slot] = (item.site, item.event.value, generation, text.isEmpty ? [] : Array(" [\(text)]".utf8))
        }
        buffer.append(fields[slot].text)
    }

    private func describe(_ site: TraceSite) {
        let arrow = site.isWrite ? "<-" : "->"
        heads.append(Array("\(site.isPort ? "pio" : "mmio") \(site.place) 0x\(String(site.address, radix: 16)) w\(site.width) \(arrow) ".utf8))
        tails.append(Array(" pc=0x\(String(site.pc, radix: 16))\(site.symbol.map { " \($0)" } ?? "")".utf8))
    }

    private func appendOther(_ item: TraceReader.Event, to buffer: inout ByteBuffer) {
        let event = item.event
        switch event.kind {
        case .dmaRead, .dmaWrite, .dmaImage:
            buffer.append("dma ")
            buffer.append(text: item.master?.device ?? "?")
            buffer.append(event.kind == .dmaRead ? " reads 0x" : " writes 0x")
            buffer.append(hexadecimal: event.address)
            buffer.append(UInt8(ascii: " "))
            if event.kind == .dmaImage {
                buffer.append(decimal: UInt64(event.width))
                buffer.append(" bytes of disk")
                buffer.append(decimal: event.pc)
                buffer.append(" at ")
                buffer.append(decimal: event.value)
            } else {
                buffer.append(decimal: UInt64(event.bytes.count))
                buffer.append(" bytes ")
                appendPayload(event.bytes, to: &buffer)
            }
            if let request = item.master?.request {
                buffer.append(" (")
                buffer.append(text: request)
                buffer.append(UInt8(ascii: ")"))
            }
        case .interruptLine: buffer.append(event.value != 0 ? "irq INTR raised" : "irq INTR lowered")
        case .interruptAcknowledge:
            buffer.append("irq acknowledged, vector 0x")
            buffer.append(hexadecimal: event.value, digits: 2)
            buffer.append(" pc=0x")
            buffer.append(hexadecimal: event.pc)
            if let symbol = trace.symbols.name(event.pc) {
                buffer.append(UInt8(ascii: " "))
                buffer.append(text: symbol)
            }
        case .nmi: buffer.append("irq NMI")
        case .frame:
            // Notes for those who export the log.
            let channel = Channel(rawValue: UInt16(truncatingIfNeeded: event.address))
            if event.address == UInt64(USBSettings.captureSource) {
                buffer.append("usbmon record ")
            } else if event.address == UInt64(USBSettings.referenceSource) {
                buffer.append("usbmon record of data in a disk image, ")
            } else if let channel, Channel.network.contains(channel) {
                buffer.append(event.width == 0 ? "frame in, " : "frame out, ")
                buffer.append(text: channel.name)
                buffer.append(UInt8(ascii: " "))
            } else {
                buffer.append("note of ")
                buffer.append(text: channel?.name ?? "a channel")
                buffer.append(UInt8(ascii: " "))
            }
            buffer.append(decimal: UInt64(event.bytes.count))
            buffer.append(" bytes ")
            appendPayload(event.bytes, to: &buffer)
        default:
            buffer.append(text: event.kind.name)
            if event.kind.hasBytes {
                buffer.append(UInt8(ascii: " "))
                appendPayload(event.bytes, to: &buffer)
            } else if event.kind != .idle {
                buffer.append(" 0x")
                buffer.append(hexadecimal: event.value)
            }
        }
    }

    private func appendPayload(_ bytes: [UInt8], to buffer: inout ByteBuffer) {
        if showsPayload || bytes.count <= 16 { return buffer.append(hexadecimal: bytes) }
        buffer.append(hexadecimal: bytes.prefix(16))
        buffer.append("…")
    }
}
