import Boundary

extension DebugTarget {
    /// What conditions ask about, as it is whenever they ask.
    package var conditionScope: ConditionScope {
        // Where a register's value is, for each name of either description of the processor.
        var places: [String: (architecture: String, offset: Int, bytes: Int)] = [:]
        for architecture in architectures {
            var offset = 0
            for register in registers(of: architecture) {
                let bytes = register.bits / 8
                if bytes <= 8, places[register.name] == nil { places[register.name] = (architecture, offset, bytes) }
                offset += bytes
            }
        }
        return ConditionScope(
            register: { [unowned self] name in
                guard let (architecture, offset, bytes) = places[name] else { return nil }
                let values = registerValues(of: architecture)
                guard offset + bytes <= values.count else { return nil }
                return values[offset..<offset + bytes].reversed().reduce(0) { $0 << 8 | UInt64($1) }
            },
            memory: { [unowned self] address, size in
                readMemory(address, count: size, isPhysical: false)?.reversed().reduce(0) { $0 << 8 | UInt64($1) }
            })
    }
}
