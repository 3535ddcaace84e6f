import DeviceBus

/// Registers from a description file: CMSIS-SVD (`device`) or envytools' rnndb (`database`).
package struct RegisterFile: Sendable {
    /// A peripheral (SVD) or a domain (rnndb), and its registers in the order of their offsets.
    package struct Part: Sendable {
        package var name: String
        package var registers: [RegisterName]
    }
    package private(set) var parts: [Part]
    /// The most registers of a part; arrays that would make more are cut short.
    static let mostRegisters = 65536

    /// Throws `RegisterFileError` for what is no such file.
    package init(_ bytes: [UInt8]) throws {
        let root = try XMLTree.root(bytes)
        switch root.name {
        case "device": parts = try SVDReader(root).parts
        case "database": parts = try RNNReader(root).parts
        default: throw RegisterFileError("neither a CMSIS-SVD file (device) nor one of rnndb (database), but “\(root.name)”")
        }
        for index in parts.indices { parts[index].registers.sort { $0.offset < $1.offset } }
        parts.removeAll(where: \.registers.isEmpty)
        if parts.isEmpty { throw RegisterFileError("there is no register in it") }
    }

    /// The part of this name; without a name the only one.
    package func part(_ name: String?) throws -> Part {
        guard let name else {
            if parts.count == 1 { return parts[0] }
            throw RegisterFileError("has several parts, name one of \(parts.prefix(40).map(\.name).joined(separator: ", "))")
        }
        guard let part = parts.first(where: { $0.name == name }) else {
            throw RegisterFileError("has no part “\(name)”, but \(parts.prefix(40).map(\.name).joined(separator: ", "))")
        }
        return part
    }

    /// How much a file may make of its arrays within arrays, however few registers come of it.
    final class Budget {
        private var left = 1_000_000
        /// False when it is used up.
        func take(_ count: Int) -> Bool {
            left -= min(count, left)
            return left > 0
        }
    }

    /// A number as both formats write it: decimal, 0x…, 0b… or #….
    static func number(_ text: String?) -> UInt64? {
        guard let text else { return nil }
        let word = text.lowercased()
        if word.hasPrefix("0x") { return UInt64(word.dropFirst(2), radix: 16) }
        if word.hasPrefix("0b") { return UInt64(word.dropFirst(2), radix: 2) }
        if word.hasPrefix("#") { return UInt64(word.dropFirst(), radix: 2) }
        return UInt64(word)
    }

    /// A name that cannot be taken for something else in a line of a trace. A slash would be two names.
    static func name(_ text: String) -> String {
        String(text.prefix(100).map { $0 == "/" || $0.isWhitespace || $0 == "=" ? "-" : $0 })
    }

    /// A register with its fields; nil for widths that no access has.
    static func register(_ name: String, offset: UInt64, bits: UInt64, fields: [RegisterField]) -> RegisterName? {
        guard bits > 0, bits <= 64, offset < 1 << 40 else { return nil }
        var register = RegisterName(offset, Self.name(name), length: (bits + 7) / 8)
        register.fields = fields.prefix(64).sorted { $0.low < $1.low }
        register.writtenFields = register.fields
        return register
    }

    /// A field from bit `low` to bit `high`; nil for what is none.
    static func field(_ name: String, low: UInt64, high: UInt64, values: [UInt64: String]) -> RegisterField? {
        guard low <= high, high < 64 else { return nil }
        let last = min(values.keys.max() ?? 0, 255)
        let names = values.isEmpty ? [] : (0...last).map { values[$0].map(Self.name) ?? "" }
        return RegisterField(low: UInt8(low), width: UInt8(high - low + 1), name: Self.name(name), values: names)
    }
}
