import MachineState
import Replay

/// What devices and drivers have said to each other, in numbers.
package struct TraceSummary {
    /// Accesses to one register in one direction.
    package struct Register: Sendable {
        package var count: UInt64 = 0
        package var bytes: UInt64 = 0
        /// Reads that were rounds of polling loops.
        package var polled: UInt64 = 0
        package var loops: UInt64 = 0
        package var longestLoop: UInt64 = 0
        /// The value that the longest loop ended with.
        package var lastPolled: UInt64 = 0
        package var callers: [UInt64: UInt64] = [:]
    }
    /// A device's part.
    package struct Device: Sendable {
        package var registers: [String: Register] = [:]
        package var dmaReads: UInt64 = 0
        package var dmaWrites: UInt64 = 0
        package var dmaReadBytes: UInt64 = 0
        package var dmaWriteBytes: UInt64 = 0
        /// From the last write to one of its registers to the interrupt whose handler looks at it first, ns.
        package var latencies: [UInt64] = []
    }

    package private(set) var devices: [String: Device] = [:]
    package private(set) var interrupts: [UInt64: UInt64] = [:]
    package private(set) var transactions: UInt64 = 0
    private var finder = PollFinder()
    private var uses: [Use] = []
    private var generation = 0
    /// By device number: when it was written to last (`.max`: no interrupt is expected), and what was measured.
    private var deviceNumbers: [String: Int] = [:]
    private var lastWrites: [VirtualTime] = []
    private var latencies: [[UInt64]] = []
    /// An interrupt that has been taken, until its handler accesses a device.
    private var taken: VirtualTime?
    /// Chips that every handler talks to.
    private static let controllers: Set<String> = ["lapic", "ioapic", "pic"]
    private static let mostLatencies = 1 << 20

    package init() {}

    package mutating func add(_ item: TraceReader.Event, _ trace: TraceReader) {
        let event = item.event
        if item.site >= 0 { return addAccess(item, trace) }
        endLoop(finder.next(nil), trace)
        switch event.kind {
        case .interruptAcknowledge:
            transactions += 1
            interrupts[event.value, default: 0] += 1
            taken = item.time
        case .dmaRead, .dmaWrite, .dmaImage:
            let bytes = event.kind == .dmaImage ? UInt64(event.width) : UInt64(event.bytes.count)
            let name = item.master?.device ?? "?"
            if event.kind == .dmaRead {
                devices[name, default: Device()].dmaReads += 1
                devices[name, default: Device()].dmaReadBytes += bytes
            } else {
                devices[name, default: Device()].dmaWrites += 1
                devices[name, default: Device()].dmaWriteBytes += bytes
            }
        default: break
        }
    }

    /// What is counted of each site, until it is added up.
    private struct Use {
        let site: TraceSite
        let device: Int
        var count: UInt64 = 0
        var bytes: UInt64 = 0
    }

    private mutating func addAccess(_ item: TraceReader.Event, _ trace: TraceReader) {
        if generation != trace.siteGeneration {
            addUp()
            generation = trace.siteGeneration
        }
        while uses.count <= item.site {
            let site = trace.sites[uses.count]
            let device = deviceNumbers[site.device] ?? deviceNumbers.count
            if device == deviceNumbers.count {
                deviceNumbers[site.device] = device
                lastWrites.append(.max)
                latencies.append([])
            }
            uses.append(Use(site: site, device: Self.controllers.contains(site.device) ? -1 : device))
        }
        transactions += 1
        let isBlock = item.event.kind == .portBlock || item.event.kind == .portImage
        uses[item.site].count += 1
        uses[item.site].bytes += isBlock ? UInt64(item.event.blockLength) : UInt64(item.event.width)
        let isWrite = uses[item.site].site.isWrite
        let device = uses[item.site].device
        if device >= 0 {
            if let taken {
                if lastWrites[device] != .max, latencies[device].count < Self.mostLatencies {
                    latencies[device].append(taken &- lastWrites[device])
                    lastWrites[device] = .max
                }
                self.taken = nil
            }
            if isWrite { lastWrites[device] = item.time }
        }
        let loop = finder.next(isWrite || isBlock ? nil : (item.site, item.event.value))
        if loop != nil { endLoop(loop, trace) }
    }

    private static func key(_ site: TraceSite) -> String {
        (site.isWrite ? "W " : "R ") + (site.register ?? "0x" + String(site.address, radix: 16))
    }

    private mutating func addUp() {
        for use in uses where use.count > 0 {
            var register = devices[use.site.device]?.registers[Self.key(use.site)] ?? Register()
            register.count += use.count
            register.bytes += use.bytes
            register.callers[use.site.pc, default: 0] += use.count
            devices[use.site.device, default: Device()].registers[Self.key(use.site)] = register
        }
        uses = []
    }

    private mutating func endLoop(_ loop: PollFinder.Loop?, _ trace: TraceReader) {
        guard let loop else { return }
        for number in Set(loop.sites) where uses.indices.contains(number) {
            let site = uses[number].site
            let rounds = UInt64(loop.rounds)
            var register = devices[site.device]?.registers[Self.key(site)] ?? Register()
            register.polled += rounds
            register.loops += 1
            if rounds > register.longestLoop {
                register.longestLoop = rounds
                register.lastPolled = loop.value
            }
            devices[site.device, default: Device()].registers[Self.key(site)] = register
        }
    }

    /// The trace has come to its end.
    package mutating func finish(_ trace: TraceReader) {
        endLoop(finder.finish(), trace)
        addUp()
        for (name, number) in deviceNumbers where !latencies[number].isEmpty {
            devices[name, default: Device()].latencies = latencies[number]
        }
    }

    /// As text; the busiest come first.
    package func text(_ trace: TraceReader) -> String {
        var lines = ["\(transactions) transactions"]
        func total(_ device: Device) -> UInt64 { device.registers.values.reduce(0) { $0 + $1.count } }
        for (name, device) in devices.sorted(by: { (total($0.value), $1.key) > (total($1.value), $0.key) }) {
            lines.append("\(name): \(total(device)) accesses")
            let registers = device.registers.sorted { ($0.value.count, $1.key) > ($1.value.count, $0.key) }
            for (register, use) in registers {
                var line = "  \(register): \(use.count) times, \(use.bytes) bytes"
                if use.loops > 0 {
                    line += "; \(use.polled) of them in \(use.loops) polling loops, the longest ×\(use.longestLoop)"
                    line += " until 0x\(String(use.lastPolled, radix: 16))"
                }
                let top = use.callers.sorted { ($0.value, $1.key) > ($1.value, $0.key) }.prefix(3).map { caller in
                    "\(trace.symbols.name(caller.key) ?? "0x" + String(caller.key, radix: 16)) ×\(caller.value)"
                }
                lines.append(line + "; from " + top.joined(separator: ", "))
            }
            if device.dmaReads + device.dmaWrites > 0 {
                lines.append(
                    "  DMA: \(device.dmaReads) reads of \(device.dmaReadBytes) bytes, \(device.dmaWrites) writes of \(device.dmaWriteBytes) bytes")
            }
            if !device.latencies.isEmpty {
                let sorted = device.latencies.sorted()
                lines.append(
                    "  from its last written register to its interrupt: median \(sorted[sorted.count / 2]) ns, most \(sorted[sorted.count - 1]) ns, \(sorted.count) times")
            }
        }
        for (vector, count) in interrupts.sorted(by: { ($0.value, $1.key) > ($1.value, $0.key) }) {
            lines.append("interrupt 0x\(String(vector, radix: 16)): \(count) times")
        }
        return lines.joined(separator: "\n") + "\n"
    }
}
