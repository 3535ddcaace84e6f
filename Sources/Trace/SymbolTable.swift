import Foundation
import Replay

/// Names of a guest's functions by address: from an ELF file with symbols (vmlinux, a module), or from text as System.map
/// and /proc/kallsyms have it.
package struct SymbolTable: Sendable {
    private var addresses: [UInt64] = []
    private var names: [String] = []
    /// What lies further behind a symbol does not belong to it.
    private static let reach: UInt64 = 1 << 20

    package init() {}

    /// - Parameter slide: added to every address: the offset of a kernel that has been moved.
    package init(path: String, slide: UInt64 = 0) throws(LogError) {
        let data: Data
        do { data = try Data(contentsOf: URL(fileURLWithPath: path), options: .mappedIfSafe) } catch {
            throw LogError("\(path): cannot be read")
        }
        let symbols = data.starts(with: [0x7F, 0x45, 0x4C, 0x46]) ? try Self.elf(data, path) : Self.map(data)
        if symbols.isEmpty { throw LogError("\(path): has no symbols: vmlinux, a module with symbols, or System.map is needed") }
        add(symbols.map { ($0.address &+ slide, $0.name) })
    }

    package var isEmpty: Bool { addresses.isEmpty }

    package mutating func add(_ symbols: [(address: UInt64, name: String)]) {
        let all = (Array(zip(addresses, names)) + symbols.map { ($0.address, $0.name) }).sorted { $0.0 < $1.0 }
        addresses = all.map(\.0)
        names = all.map(\.1)
    }

    package mutating func merge(_ other: SymbolTable) { add(Array(zip(other.addresses, other.names)).map { ($0.0, $0.1) }) }

    /// "function+0x12", or nil.
    package func name(_ address: UInt64) -> String? {
        var low = 0
        var high = addresses.count
        while low < high {
            let middle = (low + high) / 2
            if addresses[middle] <= address { low = middle + 1 } else { high = middle }
        }
        guard low > 0, address - addresses[low - 1] < Self.reach else { return nil }
        let offset = address - addresses[low - 1]
        return offset == 0 ? names[low - 1] : "\(names[low - 1])+0x\(String(offset, radix: 16))"
    }

    /// Lines of address, kind, name, and sometimes a module in brackets. Lines that are none are passed over.
    private static func map(_ data: Data) -> [(address: UInt64, name: String)] {
        var symbols: [(address: UInt64, name: String)] = []
        for line in data.split(separator: UInt8(ascii: "\n")) where line.count < 1024 {
            let parts = line.split(whereSeparator: { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") })
            guard parts.count >= 3, parts[1].count == 1, let kind = parts[1].first, "tTwW".utf8.contains(kind),
                let address = UInt64(String(decoding: parts[0], as: UTF8.self), radix: 16)
            else { continue }
            let name = String(decoding: parts[2], as: UTF8.self)
            symbols.append((address, parts.count > 3 ? "\(name) \(String(decoding: parts[3], as: UTF8.self))" : name))
        }
        return symbols
    }

    /// The functions of an ELF file's symbol table (ELF specification, "Symbol Table").
    private static func elf(_ data: Data, _ path: String) throws(LogError) -> [(address: UInt64, name: String)] {
        let damaged = LogError("\(path): the ELF file is damaged")
        func number(_ offset: UInt64, _ width: Int) throws(LogError) -> UInt64 {
            guard offset <= UInt64(data.count), UInt64(data.count) - offset >= UInt64(width) else { throw damaged }
            let start = data.startIndex + Int(offset)
            return (0..<width).reduce(0) { $0 | UInt64(data[start + $1]) << UInt64($1 * 8) }
        }
        guard data.count >= 52, data[data.startIndex + 5] == 1 else { throw damaged }
        let is64 = data[data.startIndex + 4] == 2
        let table = try number(is64 ? 0x28 : 0x20, is64 ? 8 : 4)
        let size = try number(is64 ? 0x3A : 0x2E, 2)
        let count = try number(is64 ? 0x3C : 0x30, 2)
        guard size >= (is64 ? 64 : 40) else { throw damaged }
        func section(_ index: UInt64) throws(LogError) -> (kind: UInt64, offset: UInt64, size: UInt64, link: UInt64) {
            guard index < count else { throw damaged }
            let start = table &+ index * size
            return is64
                ? (try number(start &+ 4, 4), try number(start &+ 24, 8), try number(start &+ 32, 8), try number(start &+ 40, 4))
                : (try number(start &+ 4, 4), try number(start &+ 16, 4), try number(start &+ 20, 4), try number(start &+ 24, 4))
        }
        var symbols: [(address: UInt64, name: String)] = []
        for index in 0..<count {
            let part = try section(index)
            guard part.kind == 2 else { continue }
            let names = try section(part.link)
            let step: UInt64 = is64 ? 24 : 16
            guard part.offset <= UInt64(data.count), part.size <= UInt64(data.count) - part.offset,
                names.offset <= UInt64(data.count), names.size <= UInt64(data.count) - names.offset
            else { throw damaged }
            for entry in 0..<part.size / step {
                let at = part.offset + entry * step
                // Functions only.
                guard try number(at + (is64 ? 4 : 12), 1) & 15 == 2 else { continue }
                let address = is64 ? try number(at + 8, 8) : try number(at + 4, 4)
                let place = try number(at, 4)
                guard address != 0, place < names.size else { continue }
                let first = data.startIndex + Int(names.offset + place)
                let text = data[first..<min(first + 512, data.startIndex + Int(names.offset + names.size))].prefix { $0 != 0 }
                symbols.append((address, String(decoding: text, as: UTF8.self)))
            }
        }
        return symbols
    }
}
