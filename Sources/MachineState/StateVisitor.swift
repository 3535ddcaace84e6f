/// One walk over a machine's state: save, load, digest and description all come from it.
///
/// Every stateful part has a `visit(_:)` that names each of its fields once. One concrete struct with a mode, so that
/// no existential and no per-mode code is needed. A damaged snapshot sets `failure`; it never traps.
package struct StateVisitor {
    package enum Mode: Sendable { case save, load, digest, describe }

    /// A named field and its value as text, from a visit with mode `.describe`.
    package struct Entry: Sendable, Equatable {
        /// The full name: group names and the field's name, joined by dots.
        package var name: String
        package var value: String
    }

    package let mode: Mode
    /// The saved bytes (mode `.save`) or the bytes to load (mode `.load`).
    package private(set) var bytes: [UInt8]
    /// Digest over all fields so far (mode `.digest`).
    package private(set) var digest = StateDigest()
    /// All fields so far (mode `.describe`).
    package private(set) var entries: [Entry] = []
    /// What is wrong with the snapshot being loaded; nil if nothing is. Later fields are left alone.
    package private(set) var failure: String?
    private var offset = 0
    private var path: [String] = []

    package init(_ mode: Mode) {
        self.mode = mode
        bytes = []
    }

    /// A visitor that loads what another has saved.
    package init(loading bytes: [UInt8]) {
        mode = .load
        self.bytes = bytes
    }

    /// True when a load has used every byte and found no fault.
    package var isComplete: Bool { failure == nil && offset == bytes.count }

    /// Marks the snapshot as unusable. The first reason is kept.
    package mutating func fail(_ reason: String) {
        if failure == nil { failure = path.isEmpty ? reason : "\(path.joined(separator: ".")): \(reason)" }
    }

    /// Visits a part: its fields' names get `name` as a prefix.
    package mutating func group(_ name: String, _ body: (inout StateVisitor) -> Void) {
        path.append(name)
        body(&self)
        path.removeLast()
    }

    package mutating func field<T: FixedWidthInteger>(_ name: String, _ value: inout T) {
        switch mode {
        case .save: withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
        case .load:
            if let loaded = take(MemoryLayout<T>.size, name) { value = T(littleEndian: loaded.loadUnaligned(as: T.self)) }
        case .digest: digest.mix(UInt64(truncatingIfNeeded: value))
        case .describe: record(name, "0x" + String(value, radix: 16))
        }
    }

    package mutating func field(_ name: String, _ value: inout Bool) {
        switch mode {
        case .save: bytes.append(value ? 1 : 0)
        case .load: if let loaded = take(1, name) { value = loaded.load(as: UInt8.self) != 0 }
        case .digest: digest.mix(value ? 1 : 0)
        case .describe: record(name, value ? "true" : "false")
        }
    }

    /// An enum by its raw value. An unknown raw value fails the load.
    package mutating func field<T: RawRepresentable>(_ name: String, _ value: inout T)
    where T.RawValue: FixedWidthInteger {
        var raw = value.rawValue
        field(name, &raw)
        if mode == .load, failure == nil {
            if let known = T(rawValue: raw) { value = known } else { fail("\(name) has the unknown value \(raw)") }
        }
    }

    package mutating func field(_ name: String, _ value: inout String) {
        var utf8 = Array(value.utf8)
        field(name, &utf8)
        if mode == .load, failure == nil { value = String(decoding: utf8, as: UTF8.self) }
    }

    /// An array of integers whose length is part of the state.
    package mutating func field<T: FixedWidthInteger>(_ name: String, _ value: inout [T]) {
        var count = UInt32(value.count)
        switch mode {
        case .describe:
            let shown = value.prefix(16).map { String($0, radix: 16) }.joined(separator: " ")
            record(name, "[\(value.count)] \(shown)\(value.count > 16 ? " …" : "")")
            return
        default: field(name, &count)
        }
        switch mode {
        case .load:
            if failure != nil { return }
            guard let loaded = take(Int(count) * MemoryLayout<T>.size, name) else { return }
            value = (0..<Int(count)).map {
                T(littleEndian: loaded.loadUnaligned(fromByteOffset: $0 * MemoryLayout<T>.size, as: T.self))
            }
        default:
            if T.self == UInt8.self {
                value.withUnsafeBytes { raw in
                    if mode == .save { bytes.append(contentsOf: raw) } else { digest.mix(bytes: raw) }
                }
            } else {
                for index in value.indices { field(name, &value[index]) }
            }
        }
    }

    /// Raw memory of a fixed size, such as a video buffer. `memory` is written only by a load.
    package mutating func memory(_ name: String, _ memory: UnsafeMutableRawBufferPointer) {
        switch mode {
        case .save: bytes.append(contentsOf: memory)
        case .load:
            if let loaded = take(memory.count, name) {
                memory.copyMemory(from: UnsafeRawBufferPointer(start: loaded, count: memory.count))
            }
        case .digest: digest.mix(bytes: UnsafeRawBufferPointer(memory))
        case .describe: record(name, "\(memory.count) bytes")
        }
    }

    /// A list of parts: its length is saved, each element is visited by `body`. `make` builds an element to load into.
    package mutating func list<T>(
        _ name: String, _ value: inout [T], make: () -> T, _ body: (inout T, inout StateVisitor) -> Void
    ) {
        var count = UInt32(value.count)
        field(name + ".count", &count)
        if mode == .load {
            if failure != nil { return }
            // Each element takes a byte at least: a damaged count cannot ask for more memory than the file has.
            guard Int(count) <= bytes.count - offset else { return fail("\(name) has \(count) elements, more than fit") }
            value = (0..<Int(count)).map { _ in make() }
        }
        for index in value.indices {
            path.append("\(name)[\(index)]")
            body(&value[index], &self)
            path.removeLast()
        }
    }

    private mutating func record(_ name: String, _ value: String) {
        entries.append(Entry(name: (path + [name]).joined(separator: "."), value: value))
    }

    /// The next `count` bytes of the snapshot, or nil (and `failure`) when it is too short. Valid until the next call.
    private mutating func take(_ count: Int, _ name: String) -> UnsafeRawPointer? {
        if failure != nil { return nil }
        guard count >= 0, offset + count <= bytes.count else {
            fail("\(name): the snapshot ends in the middle")
            return nil
        }
        defer { offset += count }
        return bytes.withUnsafeBytes { $0.baseAddress.map { $0 + offset } } ?? UnsafeRawPointer(bitPattern: 8)
    }
}
