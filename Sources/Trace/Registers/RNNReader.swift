import DeviceBus

/// envytools' rnndb, which describes graphics chips: domains, arrays, stripes, groups, registers, bit sets, enumerations.
/// Files that one imports are not read.
struct RNNReader {
    private(set) var parts: [RegisterFile.Part] = []
    private var enumerations: [String: [UInt64: String]] = [:]
    private var bitSets: [String: RegisterElement] = [:]
    private var groups: [String: RegisterElement] = [:]
    private let budget = RegisterFile.Budget()

    init(_ root: RegisterElement) throws {
        collect(root, level: 0)
        for domain in root.all("domain") {
            guard let name = domain.attributes["name"] else { throw RegisterFileError("a domain has no name") }
            // Addresses may count bytes, or words of so many bits.
            let unit = max((RegisterFile.number(domain.attributes["width"]) ?? 8) / 8, 1)
            var part = RegisterFile.Part(name: RegisterFile.name(name), registers: [])
            add(domain, prefix: "", offset: 0, unit: unit, level: 0, to: &part)
            parts.append(part)
        }
    }

    /// What is used by its name, wherever it stands.
    private mutating func collect(_ element: RegisterElement, level: Int) {
        for child in element.children {
            if let name = child.attributes["name"] {
                switch child.name {
                case "enum": enumerations[name] = values(child)
                case "bitset": bitSets[name] = child
                case "group": groups[name] = child
                default: break
                }
            }
            if level < 4 { collect(child, level: level + 1) }
        }
    }

    private func values(_ element: RegisterElement) -> [UInt64: String] {
        var values: [UInt64: String] = [:]
        var next: UInt64 = 0
        for value in element.all("value") {
            guard let name = value.attributes["name"] else { continue }
            next = RegisterFile.number(value.attributes["value"]) ?? next
            values[next] = name
            next &+= 1
        }
        return values
    }

    private func add(
        _ list: RegisterElement, prefix: String, offset: UInt64, unit: UInt64, level: Int, to part: inout RegisterFile.Part
    ) {
        guard level < 16 else { return }
        for element in list.children {
            guard budget.take(1) else { return }
            let place = (RegisterFile.number(element.attributes["offset"]) ?? 0) &* unit &+ offset
            let count = min(max(RegisterFile.number(element.attributes["length"]) ?? 1, 1), UInt64(RegisterFile.mostRegisters))
            let step = (RegisterFile.number(element.attributes["stride"]) ?? 0) &* unit
            let name = element.attributes["name"]
            switch element.name {
            case "reg8", "reg16", "reg32", "reg64":
                guard let name, let bits = UInt64(element.name.dropFirst(3)) else { continue }
                let fields = fields(element, bits)
                for index in 0..<count {
                    guard part.registers.count < RegisterFile.mostRegisters, budget.take(1) else { return }
                    let at = place &+ index &* (step == 0 ? bits / 8 : step)
                    let full = prefix + name + (count > 1 ? "[\(index)]" : "")
                    if let register = RegisterFile.register(full, offset: at, bits: bits, fields: fields) { part.registers.append(register) }
                }
            case "array", "stripe":
                for index in 0..<count {
                    guard part.registers.count < RegisterFile.mostRegisters, budget.take(1) else { return }
                    let inner = name.map { "\(prefix)\($0)\(count > 1 ? "[\(index)]" : "")." } ?? prefix
                    add(element, prefix: inner, offset: place &+ index &* step, unit: unit, level: level + 1, to: &part)
                }
            case "use-group":
                guard let group = name.flatMap({ groups[$0] }) else { continue }
                add(group, prefix: prefix, offset: place, unit: unit, level: level + 1, to: &part)
            default: break
            }
        }
    }

    /// The fields within a register, or those of the bit set that is its type.
    private func fields(_ register: RegisterElement, _ bits: UInt64) -> [RegisterField] {
        var list = register.all("bitfield")
        var fields: [RegisterField] = []
        if let type = register.attributes["type"] {
            if let set = bitSets[type] { list += set.all("bitfield") }
            if let names = enumerations[type], let whole = RegisterFile.field("VALUE", low: 0, high: bits - 1, values: names) { fields.append(whole) }
        }
        for element in list {
            guard let name = element.attributes["name"] else { continue }
            let position = RegisterFile.number(element.attributes["pos"])
            guard let low = position ?? RegisterFile.number(element.attributes["low"]),
                let high = position ?? RegisterFile.number(element.attributes["high"])
            else { continue }
            let names = element.attributes["type"].flatMap { enumerations[$0] } ?? values(element)
            if let field = RegisterFile.field(name, low: low, high: high, values: names) { fields.append(field) }
        }
        return fields
    }
}
