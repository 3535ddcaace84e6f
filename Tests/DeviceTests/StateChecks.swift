import DeviceBus
import MachineState
import Testing

/// What holds for the visited state of every device.
enum StateChecks {
    /// The visit of `part` names its fields, each once and in their order; `further` comes after them.
    static func namesEachField(
        of part: Any, further: [String] = [], at location: SourceLocation = #_sourceLocation, _ visit: (inout StateVisitor) -> Void
    ) {
        var visitor = StateVisitor(.describe)
        visit(&visitor)
        var names: [String] = []
        for entry in visitor.entries {
            let name = String(entry.name.prefix { $0 != "." && $0 != "[" })
            if names.last != name { names.append(name) }
        }
        #expect(names == Mirror(reflecting: part).children.map { $0.label ?? "?" } + further, sourceLocation: location)
    }

    /// What a device saves makes another one like it; a part of that is refused.
    /// - Parameter other: makes a new device of the same kind.
    static func loads(_ device: some Device, at location: SourceLocation = #_sourceLocation, other: () -> some Device) {
        var saver = StateVisitor(.save)
        device.visitState(&saver)
        #expect(saver.failure == nil, sourceLocation: location)
        let new = other()
        var loader = StateVisitor(loading: saver.bytes)
        new.visitState(&loader)
        #expect(loader.isComplete, sourceLocation: location)
        var (first, second) = (StateVisitor(.describe), StateVisitor(.describe))
        device.visitState(&first)
        new.visitState(&second)
        #expect(first.entries == second.entries, sourceLocation: location)
        for cut in stride(from: 0, to: saver.bytes.count, by: 97) {
            var loader = StateVisitor(loading: Array(saver.bytes[..<cut]))
            other().visitState(&loader)
            #expect(!loader.isComplete, "\(cut) of \(saver.bytes.count) bytes", sourceLocation: location)
        }
    }

    /// The device goes on, whatever damage its saved state has.
    /// - Parameter goOn: lets it work for a while.
    static func survivesDamage(
        _ device: some Device, _ random: inout TestRandom, at location: SourceLocation = #_sourceLocation, goOn: (inout TestRandom) -> Void
    ) {
        var saver = StateVisitor(.save)
        device.visitState(&saver)
        #expect(saver.failure == nil, sourceLocation: location)
        for _ in 0..<20 {
            var bytes = saver.bytes
            for _ in 0..<8 { bytes[random.below(bytes.count)] = UInt8(truncatingIfNeeded: random.next()) }
            var loader = StateVisitor(loading: bytes)
            device.visitState(&loader)
            goOn(&random)
        }
    }
}
