import Boundary
import MachineState

/// What to look for in a recording: alternatives, each of which may have a condition.
///
///     exec ADDRESS if rax == 0x10 && rsi > 5, write ADDRESS:4
package struct StopQuery: Sendable {
    private struct Alternative: Sendable {
        var conditions: StopConditions
        var condition: Condition?
    }
    private let alternatives: [Alternative]
    /// All alternatives, whatever their conditions.
    package let conditions: StopConditions
    /// No alternative has a condition.
    package var isUnconditional: Bool { alternatives.allSatisfy { $0.condition == nil } }

    package init(_ text: String) throws(LogError) {
        var all = StopConditions()
        var alternatives: [Alternative] = []
        for part in text.split(separator: ",") {
            let words = part.split(separator: " ", omittingEmptySubsequences: true)
            let cut = words.firstIndex(of: "if") ?? words.endIndex
            let conditions = try StopExpression.parse(words[..<cut].joined(separator: " "))
            var condition: Condition?
            if cut < words.endIndex { condition = try Condition(words[(cut + 1)...].joined(separator: " ")) }
            alternatives.append(Alternative(conditions: conditions, condition: condition))
            all.breakpoints.formUnion(conditions.breakpoints)
            all.vectors.formUnion(conditions.vectors)
            for watch in conditions.watches where !all.watches.contains(watch) { all.watches.append(watch) }
            for device in conditions.devices where !all.devices.contains(device) { all.devices.append(device) }
        }
        if all.isEmpty { throw LogError("there is nothing to look for in “\(text)”") }
        self.alternatives = alternatives
        conditions = all
    }

    /// An error when a condition names a register that a machine does not have.
    package func check(_ scope: ConditionScope) throws(LogError) {
        for alternative in alternatives {
            for name in alternative.condition?.registers ?? [] where scope.register(name) == nil {
                throw LogError("there is no register “\(name)”")
            }
        }
    }

    /// Whether a stop is one of those asked for: an alternative names it, and its condition holds.
    package func accepts(_ stop: TravelStop, _ scope: ConditionScope) -> Bool {
        var scope = scope
        switch stop {
        case .watch(_, let address, _, _, _): scope.address = address
        case .device(let access):
            scope.address = access.address
            scope.value = access.value
        default: break
        }
        return alternatives.contains { alternative in
            alternative.conditions.names(stop) && (alternative.condition?.holds(scope) ?? true)
        }
    }
}

extension StopConditions {
    /// The stop is for one of these conditions.
    fileprivate func names(_ stop: TravelStop) -> Bool {
        switch stop {
        case .reached, .ended: false
        case .breakpoint(let address): breakpoints.contains(address)
        case .watch(let range, _, _, _, _): watches.contains(range)
        case .delivered(let vector): vectors.contains(vector)
        case .device(let access):
            devices.contains {
                $0.isPort == access.isPort && access.address < $0.start &+ $0.length
                    && $0.start < access.address &+ UInt64(access.width)
            }
        }
    }
}
