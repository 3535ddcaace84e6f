import MachineState

/// What a `visit` names, to be compared with the fields of what is visited.
enum VisitedNames {
    static func of(_ visit: (inout StateVisitor) -> Void) -> [String] {
        var visitor = StateVisitor(.describe)
        visit(&visitor)
        var found: [String] = []
        for entry in visitor.entries {
            let name = String(entry.name.prefix { $0 != "." && $0 != "[" })
            if found.last != name { found.append(name) }
        }
        return found
    }
    static func fields(_ value: Any) -> [String] { Mirror(reflecting: value).children.map { $0.label ?? "?" } }
}
