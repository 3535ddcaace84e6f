import Replay

/// When devices were how busy, as an SVG picture: a row for each device, accesses above, DMA below, and one for interrupts.
///
/// Counts are kept in a fixed number of columns, which become wider as time goes on: its size does not depend on the trace's.
package struct TracePicture {
    private struct Row {
        var accesses = [UInt64](repeating: 0, count: TracePicture.columns)
        var dma = [UInt64](repeating: 0, count: TracePicture.columns)
        var accessCount: UInt64 = 0
        var dmaBytes: UInt64 = 0
    }
    static let columns = 960
    private var rows: [String: Row] = [:]
    private var interrupts = Row()
    /// Virtual time of the first event, ns; and of a column.
    private var start: UInt64?
    private var width: UInt64 = 1
    private var last: UInt64 = 0
    private static let mostRows = 200
    private static let left = 150
    private static let rowHeight = 36
    private static let top = 40

    package init() {}

    package mutating func add(_ item: TraceReader.Event, _ trace: TraceReader) {
        let event = item.event
        let begin = start ?? item.time
        start = begin
        let time = item.time >= begin ? item.time - begin : 0
        while time / width >= UInt64(Self.columns) { halve() }
        last = max(last, time)
        let column = Int(time / width)
        if item.site >= 0 {
            let device = trace.sites[item.site].device
            guard rows[device] != nil || rows.count < Self.mostRows else { return }
            rows[device, default: Row()].accesses[column] += 1
            rows[device]?.accessCount += 1
        } else if event.kind.isDMA {
            let device = item.master?.device ?? "?"
            let bytes = event.kind == .dmaImage ? UInt64(event.width) : UInt64(event.bytes.count)
            guard rows[device] != nil || rows.count < Self.mostRows else { return }
            rows[device, default: Row()].dma[column] += bytes
            rows[device]?.dmaBytes += bytes
        } else if event.kind == .interruptAcknowledge {
            interrupts.accesses[column] += 1
            interrupts.accessCount += 1
        }
    }

    /// Columns become twice as wide.
    private mutating func halve() {
        width *= 2
        func halved(_ row: Row) -> Row {
            var result = row
            for column in 0..<Self.columns {
                let from = column * 2
                result.accesses[column] = from < Self.columns ? row.accesses[from] + row.accesses[from + 1] : 0
                result.dma[column] = from < Self.columns ? row.dma[from] + row.dma[from + 1] : 0
            }
            return result
        }
        interrupts = halved(interrupts)
        for name in rows.keys.sorted() { rows[name] = rows[name].map(halved) }
    }

    /// The picture.
    package func write(to buffer: inout ByteBuffer) {
        var list = rows.map { ($0.key, $0.value) }.sorted { $0.0 < $1.0 }
        if interrupts.accessCount > 0 { list.append(("interrupts", interrupts)) }
        let right = Self.left + Self.columns
        let height = Self.top + list.count * Self.rowHeight + 30
        buffer.append(text: "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"\(right + 20)\" height=\"\(height)\" font-family=\"sans-serif\" font-size=\"11\">\n")
        buffer.append(text: "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n")
        let used = max(last / width + 1, 1)
        for tick in 0...8 {
            let x = Self.left + Self.columns * tick / 8
            let time = (start ?? 0) + used * width * UInt64(tick) / 8
            buffer.append(text: "<line x1=\"\(x)\" y1=\"\(Self.top - 6)\" x2=\"\(x)\" y2=\"\(height - 24)\" stroke=\"#ddd\"/>")
            buffer.append(text: "<text x=\"\(x)\" y=\"\(Self.top - 12)\" text-anchor=\"middle\">\(Self.seconds(time)) s</text>\n")
        }
        for (number, (name, row)) in list.enumerated() {
            let y = Self.top + number * Self.rowHeight
            buffer.append(text: "<text x=\"8\" y=\"\(y + 14)\">\(Self.escaped(name))</text>")
            let dma = row.dmaBytes > 0 ? ", \(row.dmaBytes) bytes" : ""
            buffer.append(text: "<text x=\"8\" y=\"\(y + 27)\" fill=\"#777\" font-size=\"9\">\(row.accessCount)\(dma)</text>\n")
            bars(row.accesses, used, y + 18, 16, name == "interrupts" ? "#c0392b" : "#2471a3", isDown: false, to: &buffer)
            bars(row.dma, used, y + 19, 10, "#d68910", isDown: true, to: &buffer)
        }
        buffer.append(text: "<text x=\"8\" y=\"\(height - 8)\" fill=\"#777\">above: accesses; below: bytes of DMA; both on a logarithmic scale</text>\n</svg>\n")
    }

    private func bars(
        _ values: [UInt64], _ used: UInt64, _ base: Int, _ height: Int, _ colour: String, isDown: Bool, to buffer: inout ByteBuffer
    ) {
        let most = values.max() ?? 0
        if most == 0 { return }
        // One step of height for each power of two.
        let scale = UInt64.bitWidth - most.leadingZeroBitCount
        var path = ""
        for (column, value) in values.enumerated() where value > 0 {
            let step = UInt64.bitWidth - value.leadingZeroBitCount
            let length = max(height * step / scale, 1)
            let from = Self.left + Int(UInt64(column) * UInt64(Self.columns) / used)
            let to = Self.left + Int(UInt64(column + 1) * UInt64(Self.columns) / used)
            path += "M\(from) \(base)h\(max(to - from, 1))v\(isDown ? length : -length)h-\(max(to - from, 1))z"
        }
        buffer.append(text: "<path fill=\"\(colour)\" d=\"\(path)\"/>\n")
    }

    private static func seconds(_ time: UInt64) -> String {
        let microseconds = String(time / 1000 % 1_000_000)
        return "\(time / 1_000_000_000).\(String(repeating: "0", count: 6 - microseconds.count))\(microseconds)"
    }
    private static func escaped(_ text: String) -> String {
        text.map { ["&": "&amp;", "<": "&lt;", ">": "&gt;", "\"": "&quot;"][$0] ?? String($0) }.joined()
    }
}
