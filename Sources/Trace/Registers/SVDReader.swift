import DeviceBus

/// CMSIS System View Description: peripherals, clusters, registers, fields; arrays (`dim`) and `derivedFrom`.
struct SVDReader {
    private(set) var parts: [RegisterFile.Part] = []
    private var peripherals: [String: RegisterElement] = [:]
    private let budget = RegisterFile.Budget()

    init(_ root: RegisterElement) throws {
        let list = root.first("peripherals")?.all("peripheral") ?? []
        for peripheral in list {
            if let name = peripheral.text("name") { peripherals[name] = peripheral }
        }
        let width = RegisterFile.number(root.text("size")) ?? 32
        for peripheral in list {
            guard let name = peripheral.text("name") else { throw RegisterFileError("a peripheral has no name") }
            // What is derived may have registers of its own instead.
            let base = peripheral.attributes["derivedFrom"].flatMap { peripherals[$0] }
            guard let source = peripheral.first("registers") ?? base?.first("registers") else { continue }
            let bits = RegisterFile.number(peripheral.text("size") ?? base?.text("size")) ?? width
            var part = RegisterFile.Part(name: RegisterFile.name(name), registers: [])
            add(source, prefix: "", offset: 0, bits: bits, level: 0, to: &part)
            parts.append(part)
        }
    }

    /// The offsets and names of an element that may be an array.
    private func copies(_ element: RegisterElement, _ name: String) -> [(name: String, offset: UInt64)] {
        guard let count = RegisterFile.number(element.text("dim")), count > 0 else { return [(name, 0)] }
        let step = RegisterFile.number(element.text("dimIncrement")) ?? 0
        let most = min(count, UInt64(RegisterFile.mostRegisters))
        guard budget.take(Int(most)) else { return [] }
        let indices = indices(element.text("dimIndex"), count: most)
        return indices.enumerated().map { number, index in
            (name.split(separator: "%s", omittingEmptySubsequences: false).joined(separator: index), UInt64(number) &* step)
        }
    }

    /// "A,B,C", "0-3", "A-D", or nothing for numbers.
    private func indices(_ text: String?, count: UInt64) -> [String] {
        var names: [String] = []
        if let text {
            let ends = text.split(separator: "-")
            if ends.count == 2, let first = UInt64(ends[0]), let last = UInt64(ends[1]), first <= last {
                names = (0..<min(last - first + 1, count)).map { String(first + $0) }
            } else if ends.count == 2, let first = ends[0].unicodeScalars.first, let last = ends[1].unicodeScalars.first,
                ends[0].count == 1, ends[1].count == 1, first.isASCII, last.isASCII, first <= last
            {
                names = (first.value...last.value).compactMap { Unicode.Scalar($0).map { String($0) } }
            } else {
                names = text.split(separator: ",").map { String($0) }
            }
        }
        while names.count < Int(count) { names.append(String(names.count)) }
        return Array(names.prefix(Int(count)))
    }

    private func add(
        _ list: RegisterElement, prefix: String, offset: UInt64, bits: UInt64, level: Int, to part: inout RegisterFile.Part
    ) {
        guard level < 16 else { return }
        for element in list.children {
            guard budget.take(1) else { return }
            guard element.name == "register" || element.name == "cluster" else { continue }
            let base = element.attributes["derivedFrom"].flatMap { name in list.children.first { $0.text("name") == name } }
            guard let name = element.text("name") ?? base?.text("name") else { continue }
            let place = RegisterFile.number(element.text("addressOffset") ?? base?.text("addressOffset")) ?? 0
            let size = RegisterFile.number(element.text("size") ?? base?.text("size")) ?? bits
            for copy in copies(element, name) {
                guard part.registers.count < RegisterFile.mostRegisters else { return }
                let copyOffset = offset &+ place &+ copy.offset
                if element.name == "cluster" {
                    let source = element.first("register") != nil || element.first("cluster") != nil ? element : base ?? element
                    add(source, prefix: prefix + copy.name + ".", offset: copyOffset, bits: size, level: level + 1, to: &part)
                } else if let fields = element.first("fields") ?? base?.first("fields") {
                    append(prefix + copy.name, copyOffset, size, fields.all("field").flatMap(fieldsOf), to: &part)
                } else {
                    append(prefix + copy.name, copyOffset, size, [], to: &part)
                }
            }
        }
    }

    private func append(
        _ name: String, _ offset: UInt64, _ bits: UInt64, _ fields: [RegisterField], to part: inout RegisterFile.Part
    ) {
        if let register = RegisterFile.register(name, offset: offset, bits: bits, fields: fields) { part.registers.append(register) }
    }

    private func fieldsOf(_ element: RegisterElement) -> [RegisterField] {
        guard let name = element.text("name"), let (low, high) = bits(element) else { return [] }
        var values: [UInt64: String] = [:]
        for value in element.first("enumeratedValues")?.all("enumeratedValue") ?? [] {
            if let number = RegisterFile.number(value.text("value")), let name = value.text("name") { values[number] = name }
        }
        return copies(element, name).prefix(64).compactMap { copy in
            guard copy.offset < 64 else { return nil }
            return RegisterFile.field(copy.name, low: low &+ copy.offset, high: high &+ copy.offset, values: values)
        }
    }

    /// The three ways to say where a field is.
    private func bits(_ element: RegisterElement) -> (UInt64, UInt64)? {
        if let range = element.text("bitRange") {
            let ends = range.split(whereSeparator: { "[:]".contains($0) }).compactMap { UInt64($0) }
            return ends.count == 2 && ends[0] < 64 ? (ends[1], ends[0]) : nil
        }
        if let low = RegisterFile.number(element.text("lsb")), let high = RegisterFile.number(element.text("msb")) { return (low, high) }
        guard let low = RegisterFile.number(element.text("bitOffset")), low < 64 else { return nil }
        let width = RegisterFile.number(element.text("bitWidth")) ?? 1
        return width > 0 && width <= 64 ? (low, low + width - 1) : nil
    }
}
