import Replay

/// JSON as Chrome's tracing and Perfetto read it ("Trace Event Format"): a thread for each device, times in microseconds.
package struct ChromeTrace {
    private var threads: [String: UInt64] = [:]
    private var isFirst = true
    /// When INTR was raised.
    private var raised: UInt64?

    package init() {}

    package mutating func begin(_ buffer: inout ByteBuffer) { buffer.append("{\"displayTimeUnit\":\"ns\",\"traceEvents\":[") }
    package func end(_ buffer: inout ByteBuffer) { buffer.append("\n]}\n") }

    package mutating func add(_ item: TraceReader.Event, _ trace: TraceReader, to buffer: inout ByteBuffer) {
        let event = item.event
        if item.site >= 0 {
            let site = trace.sites[item.site]
            open(site.register ?? "0x" + String(site.address, radix: 16), TraceKind(event.kind).rawValue, site.device, item.time, &buffer)
            buffer.append(",\"ph\":\"i\",\"s\":\"t\",\"args\":{\"event\":")
            buffer.append(decimal: item.number)
            buffer.append(",\"position\":")
            buffer.append(decimal: event.position)
            if event.kind == .portBlock || event.kind == .portImage {
                buffer.append(",\"bytes\":")
                buffer.append(decimal: UInt64(event.blockLength))
            } else {
                buffer.append(site.isWrite ? ",\"written\":\"0x" : ",\"read\":\"0x")
                buffer.append(hexadecimal: event.value)
                buffer.append(UInt8(ascii: "\""))
            }
            let words = site.describe(event.value)
            if !words.isEmpty { Self.member("fields", words, &buffer) }
            buffer.append(",\"pc\":\"0x")
            buffer.append(hexadecimal: site.pc)
            buffer.append(UInt8(ascii: "\""))
            if let symbol = site.symbol { Self.member("symbol", symbol, &buffer) }
            return buffer.append("}}")
        }
        switch event.kind {
        case .dmaRead, .dmaWrite, .dmaImage:
            open(event.kind == .dmaRead ? "DMA read" : "DMA write", "dma", item.master?.device ?? "?", item.time, &buffer)
            buffer.append(",\"ph\":\"i\",\"s\":\"t\",\"args\":{\"event\":")
            buffer.append(decimal: item.number)
            buffer.append(",\"address\":\"0x")
            buffer.append(hexadecimal: event.address)
            buffer.append("\",\"bytes\":")
            buffer.append(decimal: event.kind == .dmaImage ? UInt64(event.width) : UInt64(event.bytes.count))
            if let request = item.master?.request { Self.member("request", request, &buffer) }
            buffer.append("}}")
        case .interruptLine: raised = event.value != 0 ? raised ?? item.time : nil
        case .interruptAcknowledge:
            let start = raised ?? item.time
            open("vector 0x" + String(event.value, radix: 16), "irq", "interrupts", start, &buffer)
            buffer.append(",\"ph\":\"X\",\"dur\":")
            Self.microseconds(item.time &- start, &buffer)
            buffer.append(",\"args\":{\"event\":")
            buffer.append(decimal: item.number)
            buffer.append("}}")
        default: break
        }
    }

    private mutating func open(_ name: String, _ category: String, _ device: String, _ time: UInt64, _ buffer: inout ByteBuffer) {
        let thread: UInt64
        if let known = threads[device] {
            thread = known
        } else {
            thread = UInt64(threads.count + 1)
            threads[device] = thread
            separate(&buffer)
            buffer.append("{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":1,\"tid\":")
            buffer.append(decimal: thread)
            buffer.append(",\"args\":{\"name\":")
            Self.string(device, &buffer)
            buffer.append("}}")
        }
        separate(&buffer)
        buffer.append("{\"name\":")
        Self.string(name, &buffer)
        Self.member("cat", category, &buffer)
        buffer.append(",\"pid\":1,\"tid\":")
        buffer.append(decimal: thread)
        buffer.append(",\"ts\":")
        Self.microseconds(time, &buffer)
    }

    private mutating func separate(_ buffer: inout ByteBuffer) {
        if isFirst { buffer.append("\n") } else { buffer.append(",\n") }
        isFirst = false
    }

    private static func microseconds(_ nanoseconds: UInt64, _ buffer: inout ByteBuffer) {
        buffer.append(decimal: nanoseconds / 1000)
        buffer.append(UInt8(ascii: "."))
        buffer.append(padded: nanoseconds % 1000, places: 3)
    }

    private static func member(_ name: StaticString, _ value: String, _ buffer: inout ByteBuffer) {
        buffer.append(",\"")
        buffer.append(name)
        buffer.append("\":")
        string(value, &buffer)
    }

    private static func string(_ text: String, _ buffer: inout ByteBuffer) {
        buffer.append(UInt8(ascii: "\""))
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                buffer.append(UInt8(ascii: "\\"))
                buffer.append(byte)
            case 0..<0x20: buffer.append(UInt8(ascii: "?"))
            default: buffer.append(byte)
            }
        }
        buffer.append(UInt8(ascii: "\""))
    }
}

/// Text as Linux's mmiotrace writes it (Documentation/trace/mmiotrace.rst), of accesses to devices' memory. Addresses are
/// physical: the log does not know the guest's mappings, and maps each region once, where it lies.
package struct MMIOTrace {
    private var maps: [UInt64: UInt64] = [:]

    package init() {}

    package func begin(_ buffer: inout ByteBuffer) { buffer.append("VERSION 20070824\n") }

    package mutating func add(_ item: TraceReader.Event, _ trace: TraceReader, to buffer: inout ByteBuffer) {
        guard item.event.kind == .memoryRead || item.event.kind == .memoryWrite, item.site >= 0 else { return }
        let site = trace.sites[item.site]
        let base = site.size > 0 ? site.base : site.address & ~0xFFF
        let number: UInt64
        if let known = maps[base] {
            number = known
        } else {
            number = UInt64(maps.count + 1)
            maps[base] = number
            Self.time("MARK ", item.time, &buffer)
            buffer.append(text: site.device)
            buffer.append("\n")
            Self.time("MAP ", item.time, &buffer)
            buffer.append(decimal: number)
            for value in [base, base, max(site.size, 0x1000), 0] {
                buffer.append(" 0x")
                buffer.append(hexadecimal: value)
            }
            buffer.append(" 0\n")
        }
        buffer.append(site.isWrite ? "W " : "R ")
        buffer.append(decimal: UInt64(site.width))
        Self.time(" ", item.time, &buffer)
        buffer.append(decimal: number)
        for value in [site.address, item.event.value, site.pc] {
            buffer.append(" 0x")
            buffer.append(hexadecimal: value)
        }
        buffer.append(" 0\n")
    }

    private static func time(_ prefix: StaticString, _ nanoseconds: UInt64, _ buffer: inout ByteBuffer) {
        buffer.append(prefix)
        buffer.append(decimal: nanoseconds / 1_000_000_000)
        buffer.append(UInt8(ascii: "."))
        buffer.append(padded: nanoseconds / 1000 % 1_000_000, places: 6)
        buffer.append(UInt8(ascii: " "))
    }
}

/// A value change dump (IEEE 1364-2005, 18): a wire for each register with its last value, the interrupt line, the last
/// vector, and the address of each bus master's last access. `prepare` must have seen the trace before `add` does, which
/// gets it from another reader.
package struct ValueChangeDump {
    private struct Wire {
        var scope: String
        var name: String
        var width: Int
        var last: UInt64?
    }
    private var wires: [Wire] = []
    private var numbers: [String: Int] = [:]
    private var siteWires: [Int] = []
    private var generation = 0
    private var now: UInt64?

    package init() {}

    package mutating func prepare(_ item: TraceReader.Event, _ trace: TraceReader) { _ = wire(item, trace) }

    package mutating func begin(_ buffer: inout ByteBuffer) {
        buffer.append("$version emu $end\n$timescale 1ns $end\n$scope module machine $end\n")
        let order = wires.indices.sorted { (wires[$0].scope, wires[$0].name) < (wires[$1].scope, wires[$1].name) }
        var scope: String?
        for index in order {
            if wires[index].scope != scope {
                if scope != nil { buffer.append("$upscope $end\n") }
                scope = wires[index].scope
                buffer.append(text: "$scope module \(wires[index].scope) $end\n")
            }
            buffer.append(text: "$var wire \(wires[index].width) \(Self.code(index)) \(wires[index].name) $end\n")
        }
        if scope != nil { buffer.append("$upscope $end\n") }
        buffer.append("$upscope $end\n$enddefinitions $end\n")
        siteWires = []
        generation = 0
    }

    package mutating func add(_ item: TraceReader.Event, _ trace: TraceReader, to buffer: inout ByteBuffer) {
        guard let (index, value) = wire(item, trace), wires[index].last != value else { return }
        wires[index].last = value
        if now != item.time {
            now = item.time
            buffer.append(UInt8(ascii: "#"))
            buffer.append(decimal: item.time)
            buffer.append(UInt8(ascii: "\n"))
        }
        if wires[index].width == 1 {
            buffer.append(value & 1 == 0 ? UInt8(ascii: "0") : UInt8(ascii: "1"))
        } else {
            buffer.append(text: "b\(String(value, radix: 2)) ")
        }
        buffer.append(text: Self.code(index))
        buffer.append(UInt8(ascii: "\n"))
    }

    /// The wire that an event moves, and where to.
    private mutating func wire(_ item: TraceReader.Event, _ trace: TraceReader) -> (Int, UInt64)? {
        let event = item.event
        if item.site >= 0 {
            if generation != trace.siteGeneration {
                generation = trace.siteGeneration
                siteWires = []
            }
            // Sites of devices that are not wanted have no wires.
            while siteWires.count <= item.site { siteWires.append(-1) }
            if siteWires[item.site] < 0 {
                let site = trace.sites[item.site]
                let register = site.register ?? "0x" + String(site.address, radix: 16)
                siteWires[item.site] = number(
                    site.device, register + (site.isWrite ? "_w" : "_r") + String(site.width * 8), site.width * 8)
            }
            if event.kind == .portBlock || event.kind == .portImage { return nil }
            return (siteWires[item.site], event.value)
        }
        switch event.kind {
        case .interruptLine: return (number("cpu", "INTR", 1), event.value)
        case .interruptAcknowledge: return (number("cpu", "VECTOR", 8), event.value & 0xFF)
        case .dmaRead: return (number(item.master?.device ?? "dma", "DMA_READ", 64), event.address)
        case .dmaWrite, .dmaImage: return (number(item.master?.device ?? "dma", "DMA_WRITE", 64), event.address)
        default: return nil
        }
    }

    private mutating func number(_ scope: String, _ name: String, _ width: Int) -> Int {
        func clean(_ text: String) -> String { String(text.map { $0.isASCII && ($0.isLetter || $0.isNumber) ? $0 : "_" }) }
        let key = "\(clean(scope)).\(clean(name)).\(width)"
        if let known = numbers[key] { return known }
        wires.append(Wire(scope: clean(scope), name: clean(name), width: max(width, 1), last: nil))
        numbers[key] = wires.count - 1
        return wires.count - 1
    }

    /// An identifier of printable characters.
    private static func code(_ index: Int) -> String {
        var rest = index
        var text = ""
        repeat {
            text.append(Character(UnicodeScalar(UInt8(33 + rest % 94))))
            rest = rest / 94 - 1
        } while rest >= 0
        return text
    }
}
