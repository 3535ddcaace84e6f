import ArgumentParser
import Foundation
import Replay
import Trace

/// `emu diff`: where two traces differ.
struct DiffCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "diff", abstract: "Compare what drivers and devices say to each other in two recordings of --boundary=devices.",
        discussion: """
            Device by device. Rounds of polling count as one; when something happens, values that are times or addresses of
            buffers, and where bus masters read and write do not count. Exits with 1 if there are differences.
            """)

    @Argument(help: "The first recording.")
    var first: String
    @Argument(help: "The second recording.")
    var second: String
    @OptionGroup var part: TraceOptions
    @OptionGroup var symbols: SymbolOptions
    @OptionGroup var registers: RegisterOptions
    @Option(help: ArgumentHelp("The same for the second recording, if its code is another.", valueName: "file"))
    var symbolsSecond: [String] = []
    @Option(help: "The most differences to show of each device.")
    var show = 10

    func run() throws {
        let table = try symbols.table()
        var other = SymbolTable()
        for path in symbolsSecond { other.merge(try SymbolTable(path: path)) }
        let a = try Side(first, part, registers, table, symbols.symbols)
        let b = try Side(
            second, part, registers, symbolsSecond.isEmpty ? table : other, symbolsSecond.isEmpty ? symbols.symbols : symbolsSecond)
        let names = Set(a.steps.devices.keys).union(b.steps.devices.keys).sorted()
        var differences: [TraceDifference] = []
        for name in names {
            let found = TraceDiff.compare(name, a.steps.devices[name] ?? [], b.steps.devices[name] ?? [])
            differences += found
            let counts = "\(a.steps.devices[name]?.count ?? 0) and \(b.steps.devices[name]?.count ?? 0) steps"
            print("\(name): \(counts), \(found.isEmpty ? "alike" : "\(found.count) differences")")
        }
        // The first is the one that the earlier run comes to first.
        func position(_ difference: TraceDifference) -> UInt64 {
            let here = a.steps.devices[difference.device].flatMap { $0.indices.contains(difference.first.lowerBound) ? $0[difference.first.lowerBound] : nil }
            let there = b.steps.devices[difference.device].flatMap { $0.indices.contains(difference.second.lowerBound) ? $0[difference.second.lowerBound] : nil }
            return min(here?.position ?? .max, there?.position ?? .max)
        }
        guard let earliest = differences.min(by: { position($0) < position($1) }) else { return print("no difference") }
        print("\nthe first difference:")
        try tell(earliest, a, b)
        for name in names {
            let rest = differences.filter { $0.device == name && ($0.first != earliest.first || name != earliest.device) }
            if rest.isEmpty { continue }
            print("\n\(name):")
            for difference in rest.prefix(max(show, 0)) { try tell(difference, a, b) }
            if rest.count > show { print("  … \(rest.count - show) more") }
        }
        throw ExitCode(1)
    }

    /// One of the two.
    private final class Side {
        let file: String
        let trace: TraceReader
        let steps: TraceSteps
        private let sources: [String]
        private var lines: [UInt64: String] = [:]
        private var saidWhatIsMissing = false

        init(
            _ file: String, _ part: TraceOptions, _ registers: RegisterOptions, _ symbols: SymbolTable, _ sources: [String]
        ) throws {
            self.file = file
            self.sources = sources
            trace = try TraceReader(path: file, symbols: symbols)
            try registers.apply(to: trace)
            steps = try TraceSteps(trace, part.filter(trace))
        }

        /// A step in words, with the source line if it is to be had.
        func describe(_ step: TraceStep) -> String {
            var text = "event \(step.number), position \(step.position): "
            if step.site < 0 { return text + "DMA, \(step.value) bytes" }
            guard trace.sites.indices.contains(Int(step.site)) else { return text }
            let site = trace.sites[Int(step.site)]
            let words = site.describe(step.value)
            text += "\(site.place) \(site.isWrite ? "<-" : "->") 0x\(String(step.value, radix: 16))"
            if !words.isEmpty { text += " [\(words)]" }
            if step.count > 1 { text += " ×\(step.count)" }
            text += " pc=0x\(String(site.pc, radix: 16))"
            if let symbol = site.symbol { text += " \(symbol)" }
            return text + source(site.pc)
        }

        /// By addr2line, of binutils.
        private func source(_ pc: UInt64) -> String {
            if let known = lines[pc] { return known }
            var text = ""
            for path in sources where text.isEmpty {
                let process = Process()
                process.executableURL = URL(fileURLWithPath: "/usr/bin/addr2line")
                // The line itself, then where that function was inlined, and so on: an accessor's line alone says little.
                process.arguments = ["-i", "-e", path, "0x" + String(pc, radix: 16)]
                let output = Pipe()
                process.standardOutput = output
                process.standardError = FileHandle.nullDevice
                do { try process.run() } catch {
                    if !saidWhatIsMissing { Message.say("no source lines: addr2line is missing; install binutils") }
                    saidWhatIsMissing = true
                    break
                }
                let answer = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
                process.waitUntilExit()
                let lines = answer.split(separator: "\n").filter { !$0.hasPrefix("??") && !$0.hasSuffix(":?") }
                if !lines.isEmpty { text = " at " + lines.joined(separator: ", called at ") }
            }
            lines[pc] = text
            return text
        }
    }

    private func tell(_ difference: TraceDifference, _ a: Side, _ b: Side) throws {
        let most = 8
        for (sign, side, range) in [("-", a, difference.first), ("+", b, difference.second)] {
            let list = side.steps.devices[difference.device] ?? []
            for index in range.prefix(most) where list.indices.contains(index) { print("  \(sign) \(side.describe(list[index]))") }
            if range.count > most { print("  \(sign) … \(range.count - most) more") }
        }
    }
}
