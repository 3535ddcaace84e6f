import ArgumentParser
import Devices
import Foundation
import MachineState
import Replay
import Trace

extension TraceKind: ExpressibleByArgument {}

/// Symbols for addresses of code.
struct SymbolOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Names of functions: vmlinux, a module with symbols, System.map or kallsyms; as often as there are.", valueName: "file"))
    var symbols: [String] = []
    @Option(help: ArgumentHelp("How far the kernel was moved from where its symbols say, in hexadecimal.", valueName: "offset"))
    var slide: String = "0"

    func table() throws -> SymbolTable {
        guard let offset = UInt64(slide.hasPrefix("0x") ? String(slide.dropFirst(2)) : slide, radix: 16) else {
            throw UserError("--slide \(slide): is no hexadecimal number")
        }
        var table = SymbolTable()
        for path in symbols { table.merge(try SymbolTable(path: path, slide: offset)) }
        return table
    }
}

/// Register descriptions for devices without a model.
struct RegisterOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Names of registers and fields, from a CMSIS-SVD or rnndb XML file: DEVICE[:BAR]=FILE[#PART], PART being a peripheral or domain; as often as there are.", valueName: "description"))
    var registers: [String] = []

    /// Gives the trace the names.
    func apply(to trace: TraceReader) throws {
        for text in registers {
            guard let equals = text.firstIndex(of: "=") else { throw UserError("--registers \(text): is DEVICE[:BAR]=FILE[#PART]") }
            let place = text[..<equals].split(separator: ":", omittingEmptySubsequences: false)
            let file = text[text.index(after: equals)...].split(separator: "#", maxSplits: 1)
            guard let device = place.first.map(String.init), place.count <= 2, let bar = place.count == 2 ? Int(place[1]) : 0, !file.isEmpty
            else { throw UserError("--registers \(text): is DEVICE[:BAR]=FILE[#PART]") }
            let names = trace.map.deviceNames
            guard names.contains(device) else {
                throw UserError("--registers \(text): there is no device \(device); there are \(names.sorted().joined(separator: ", "))")
            }
            guard let data = FileManager.default.contents(atPath: String(file[0])) else {
                throw UserError("--registers \(text): there is no such file")
            }
            do {
                let part = try RegisterFile([UInt8](data)).part(file.count > 1 ? String(file[1]) : nil)
                // Models number their regions as they like.
                let function = trace.map.device(device) as? any PCIFunction
                let region = (0..<6).contains(bar) ? function?.configuration.baseAddresses[bar]?.region ?? bar : bar
                trace.map.descriptions[device, default: [:]][region] = part.registers
            } catch { throw UserError("--registers \(text): \(error)") }
        }
    }
}

/// Which part of a trace.
struct TraceOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Only this device, by its name in the trace; as often as wanted.", valueName: "name"))
    var device: [String] = []
    @Option(help: ArgumentHelp("Only this kind: pio, mmio, dma, irq or other; as often as wanted. Without it, all but other.", valueName: "kind"))
    var kind: [TraceKind] = []
    @Option(help: ArgumentHelp("From this position on (instructions since power-on).", valueName: "position"))
    var from: UInt64 = 0
    @Option(help: ArgumentHelp("Up to this position.", valueName: "position"))
    var to: UInt64 = .max

    func filter(_ trace: TraceReader) throws -> TraceFilter {
        var filter = TraceFilter()
        let names = trace.map.deviceNames
        for name in device where !names.contains(name) {
            throw UserError("--device \(name): there is no such device; there are \(names.sorted().joined(separator: ", "))")
        }
        filter.devices = Set(device)
        if !kind.isEmpty { filter.kinds = Set(kind) }
        guard from <= to else { throw UserError("--from \(from): is behind --to \(to)") }
        filter.from = from
        filter.to = to
        return filter
    }
}

/// A file, or standard output, that is written in large pieces.
struct TextOutput: ~Copyable {
    private let path: String
    private let handle: FileHandle
    var buffer = ByteBuffer(capacity: 1 << 21)

    /// - Parameter path: nil for standard output.
    init(path: String?) throws {
        self.path = path ?? "standard output"
        guard let path else {
            handle = .standardOutput
            return
        }
        // Not by FileManager, which would put a new file in the place of a device.
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw UserError("\(path): cannot be written: \(String(cString: strerror(errno)))") }
        handle = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
    }
    /// Writes what there is, if it is much or the last.
    mutating func flush(always: Bool = false) throws {
        if buffer.count == 0 || !always && buffer.count < 1 << 20 { return }
        do { try handle.write(contentsOf: Data(buffer.bytes)) } catch { throw UserError("\(path): cannot be written: \(error)") }
        buffer.removeAll()
    }
}

/// `emu trace`: what drivers and devices have said to each other.
struct TraceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "trace", abstract: "Print or export what drivers and devices have said to each other, from a recording of --boundary=devices.",
        discussion: """
            A line is: event, position, virtual time in seconds, kind, device.register, address, width, value, fields, PC, symbol.
            DMA has its device, address, length and request. A recording of --boundary=inputs is made one of devices by emu convert.
            """)

    @Argument(help: "The recording.")
    var file: String
    @OptionGroup var part: TraceOptions
    @OptionGroup var symbols: SymbolOptions
    @OptionGroup var registers: RegisterOptions
    @Option(help: ArgumentHelp("Only lines with this text.", valueName: "text"))
    var grep: String = ""
    @Flag(help: "All bytes of DMA and of blocks, not just the first 16.")
    var payload = false
    @Flag(help: "Counts, polling loops, callers and latencies instead of lines.")
    var summary = false
    @Option(help: ArgumentHelp("Write an SQLite database instead.", valueName: "file"))
    var sqlite: String?
    @Option(help: ArgumentHelp("Write JSON for Chrome's tracing or Perfetto instead.", valueName: "file"))
    var json: String?
    @Option(help: ArgumentHelp("Write a value change dump for GTKWave instead.", valueName: "file"))
    var vcd: String?
    @Option(help: ArgumentHelp("Write accesses to devices' memory as Linux's mmiotrace does instead.", valueName: "file"))
    var mmiotrace: String?
    @Option(help: ArgumentHelp("Write a picture of devices' activity instead: SVG.", valueName: "file"))
    var svg: String?
    @Option(help: ArgumentHelp("Each access with its N innermost callers; the recording is replayed for it, up to the last one.", valueName: "n"))
    var stacks: Int?
    @OptionGroup var images: ImageOptions

    func run() throws {
        let table = try symbols.table()
        func open() throws -> TraceReader {
            let trace = try TraceReader(path: file, symbols: table)
            try registers.apply(to: trace)
            return trace
        }
        let trace = try open()
        let filter = try part.filter(trace)
        if let reason = trace.reader.endsEarly { Message.say("\(file): the recording ends early: \(reason)") }
        let exports = [sqlite, json, vcd, mmiotrace, svg].compactMap { $0 }
        if exports.count + (summary ? 1 : 0) > 1 { throw UserError("one of --summary, --sqlite, --json, --vcd, --mmiotrace and --svg at a time") }
        if let path = exports.first, !grep.isEmpty { throw UserError("\(path): --grep is for lines") }
        if stacks != nil, summary || !exports.isEmpty { throw UserError("--stacks is for lines") }
        if summary { return try summarise(trace, filter) }
        if let sqlite { return try fillDatabase(sqlite, trace, filter) }
        var output = try TextOutput(path: exports.first)
        var count = 0
        if let path = json {
            var writer = ChromeTrace()
            writer.begin(&output.buffer)
            try trace.forEach(filter) { item in
                writer.add(item, trace, to: &output.buffer)
                count += 1
                try output.flush()
                return true
            }
            writer.end(&output.buffer)
            Message.say("\(path): \(count) events")
        } else if let path = vcd {
            var writer = ValueChangeDump()
            try trace.forEach(filter) { item in
                writer.prepare(item, trace)
                return true
            }
            writer.begin(&output.buffer)
            let again = try open()
            try again.forEach(filter) { item in
                writer.add(item, again, to: &output.buffer)
                count += 1
                try output.flush()
                return true
            }
            Message.say("\(path): \(count) events")
        } else if let path = mmiotrace {
            var writer = MMIOTrace()
            writer.begin(&output.buffer)
            try trace.forEach(filter) { item in
                if item.event.kind == .memoryRead || item.event.kind == .memoryWrite { count += 1 }
                writer.add(item, trace, to: &output.buffer)
                try output.flush()
                return true
            }
            Message.say("\(path): \(count) accesses")
        } else if svg != nil {
            var picture = TracePicture()
            try trace.forEach(filter) { item in
                picture.add(item, trace)
                return true
            }
            picture.write(to: &output.buffer)
        } else if let stacks {
            try printStacks(trace, filter, min(max(stacks, 1), 64), table, &output)
        } else {
            let text = TraceText(trace, payload: payload, pattern: grep)
            try trace.forEach(filter) { item in
                text.append(item, to: &output.buffer)
                try output.flush()
                return true
            }
        }
        try output.flush(always: true)
    }

    /// Lines with the callers of whoever made an access.
    private func printStacks(
        _ trace: TraceReader, _ filter: TraceFilter, _ count: Int, _ table: SymbolTable, _ output: inout TextOutput
    ) throws {
        if table.isEmpty { throw UserError("--stacks needs --symbols: without them it is not known what is code") }
        let session = try ReplaySession(file: file, replacements: images.replacements, engine: .best)
        let walk = StackWalk(session.machine)
        let text = TraceText(trace, payload: payload, pattern: grep)
        try trace.forEach(filter) { item in
            guard text.append(item, to: &output.buffer) else { return true }
            if item.site >= 0, session.machine.cpu.position <= item.event.position {
                guard case .positionReached = try session.machine.run(until: item.event.position) else { return false }
                for address in walk.callers(count, isCode: { table.name($0) != nil }) {
                    output.buffer.append(text: "    0x\(String(address, radix: 16)) \(table.name(address) ?? "")\n")
                }
            }
            try output.flush()
            return true
        }
    }

    private func summarise(_ trace: TraceReader, _ filter: TraceFilter) throws {
        var summary = TraceSummary()
        try trace.forEach(filter) { item in
            summary.add(item, trace)
            return true
        }
        summary.finish(trace)
        print(summary.text(trace), terminator: "")
    }

    private func fillDatabase(_ path: String, _ trace: TraceReader, _ filter: TraceFilter) throws {
        let database = try TraceDatabase(path: path, trace)
        var count = 0
        try trace.forEach(filter) { item in
            try database.add(item)
            count += 1
            return true
        }
        try database.finish()
        Message.say("\(path): \(count) events")
    }
}
