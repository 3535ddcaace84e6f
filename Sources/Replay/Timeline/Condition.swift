import Boundary

/// What a condition is asked about.
package struct ConditionScope {
    /// A register's value, or nil when there is no register of that name.
    package var register: (String) -> UInt64?
    /// Memory at a linear address, 1, 2, 4 or 8 bytes; nil when it is not there.
    package var memory: (_ address: UInt64, _ size: Int) -> UInt64?
    /// The address and the value of the access that stopped the run: 0 where there is none, and the value only of a
    /// device's.
    package var address: UInt64 = 0
    package var value: UInt64 = 0
    package init(register: @escaping (String) -> UInt64?, memory: @escaping (UInt64, Int) -> UInt64?) {
        self.register = register
        self.memory = memory
    }
}

/// A condition on registers and memory, written as in C: `rax == 0x10 && *(u32 *)(rsi + 8) > 5`.
///
/// All values are unsigned numbers of 64 bits, and operators are C's with C's precedence, assignments and `?:` left out.
/// Registers have gdb's names, with or without `$`. `*(u8 *)A`, `u16`, `u32` and `u64` read memory at a linear address.
/// `address` and `value` are those of the access to a device. Where memory is not there, a condition does not hold.
package struct Condition: Sendable, Equatable {
    indirect enum Node: Sendable, Equatable {
        case number(UInt64)
        case register(String)
        case address
        case value
        case memory(Int, Node)
        case unary(Character, Node)
        case binary(String, Node, Node)
    }
    let root: Node
    /// The registers that it names, in their order.
    package let registers: [String]

    package init(_ text: String) throws(LogError) {
        var parser = Parser(text: text, tokens: try Self.tokens(text))
        root = try parser.expression(0)
        if let left = parser.peek { throw LogError("“\(text)”: “\(left)” is not expected there") }
        registers = parser.registers
    }

    /// Division by zero, and memory that is not there, make it false.
    package func holds(_ scope: ConditionScope) -> Bool { (Self.value(root, scope) ?? 0) != 0 }

    // MARK: Values

    private static func value(_ node: Node, _ scope: ConditionScope) -> UInt64? {
        switch node {
        case .number(let number): return number
        case .register(let name): return scope.register(name)
        case .address: return scope.address
        case .value: return scope.value
        case .memory(let size, let address): return value(address, scope).flatMap { scope.memory($0, size) }
        case .unary(let sign, let operand):
            guard let x = value(operand, scope) else { return nil }
            switch sign {
            case "-": return 0 &- x
            case "~": return ~x
            default: return x == 0 ? 1 : 0
            }
        case .binary(let sign, let first, let second):
            guard let x = value(first, scope) else { return nil }
            if sign == "&&" { return x == 0 ? 0 : value(second, scope).map { $0 != 0 ? 1 : 0 } }
            if sign == "||" { return x != 0 ? 1 : value(second, scope).map { $0 != 0 ? 1 : 0 } }
            guard let y = value(second, scope) else { return nil }
            return result(sign, x, y)
        }
    }

    private static func result(_ sign: String, _ x: UInt64, _ y: UInt64) -> UInt64? {
        switch sign {
        case "|": x | y
        case "^": x ^ y
        case "&": x & y
        case "==": x == y ? 1 : 0
        case "!=": x != y ? 1 : 0
        case "<": x < y ? 1 : 0
        case "<=": x <= y ? 1 : 0
        case ">": x > y ? 1 : 0
        case ">=": x >= y ? 1 : 0
        case "<<": y < 64 ? x << y : 0
        case ">>": y < 64 ? x >> y : 0
        case "+": x &+ y
        case "-": x &- y
        case "*": x &* y
        case "/": y == 0 ? nil : x / y
        default: y == 0 ? nil : x % y
        }
    }

    // MARK: Text

    private static let signs = ["&&", "||", "==", "!=", "<=", ">=", "<<", ">>"]

    private static func tokens(_ text: String) throws(LogError) -> [String] {
        var tokens: [String] = []
        var rest = Substring(text)
        while let first = rest.first {
            if first.isWhitespace {
                rest.removeFirst()
            } else if first.isASCII, first.isLetter || first.isNumber || first == "$" || first == "_" {
                let word = rest.prefix { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "$" || $0 == "_") }
                tokens.append(String(word))
                rest.removeFirst(word.count)
            } else if signs.contains(String(rest.prefix(2))) {
                tokens.append(String(rest.prefix(2)))
                rest.removeFirst(2)
            } else if "|^&<>+-*/%!~()".contains(first) {
                tokens.append(String(first))
                rest.removeFirst()
            } else {
                throw LogError("“\(text)”: “\(first)” means nothing in a condition")
            }
        }
        return tokens
    }

    private struct Parser {
        let text: String
        let tokens: [String]
        var index = 0
        var depth = 0
        var registers: [String] = []
        static let maxDepth = 100
        static let precedence: [String: Int] = [
            "||": 1, "&&": 2, "|": 3, "^": 4, "&": 5, "==": 6, "!=": 6, "<": 7, "<=": 7, ">": 7, ">=": 7, "<<": 8,
            ">>": 8, "+": 9, "-": 9, "*": 10, "/": 10, "%": 10,
        ]

        init(text: String, tokens: [String]) {
            self.text = text
            self.tokens = tokens
        }

        var peek: String? { index < tokens.count ? tokens[index] : nil }

        mutating func take() throws(LogError) -> String {
            guard let token = peek else { throw LogError("“\(text)” ends too early") }
            index += 1
            return token
        }
        mutating func expect(_ token: String) throws(LogError) {
            let found = try take()
            if found != token { throw LogError("“\(text)”: “\(token)” is expected, not “\(found)”") }
        }

        mutating func expression(_ least: Int) throws(LogError) -> Node {
            depth += 1
            defer { depth -= 1 }
            if depth > Self.maxDepth { throw LogError("“\(text)” is nested too deeply") }
            var left = try operand()
            while let sign = peek, let rank = Self.precedence[sign], rank > least {
                index += 1
                left = .binary(sign, left, try expression(rank))
            }
            return left
        }

        mutating func operand() throws(LogError) -> Node {
            depth += 1
            defer { depth -= 1 }
            if depth > Self.maxDepth { throw LogError("“\(text)” is nested too deeply") }
            let token = try take()
            switch token {
            case "(":
                let inner = try expression(0)
                try expect(")")
                return inner
            case "-", "~", "!": return .unary(Character(token), try operand())
            case "*":
                try expect("(")
                let type = try take()
                guard let size = ["u8": 1, "u16": 2, "u32": 4, "u64": 8][type] else {
                    throw LogError("“\(text)”: memory is *(u8 *)A, or u16, u32 or u64, not “\(type)”")
                }
                try expect("*")
                try expect(")")
                return .memory(size, try operand())
            case "address": return .address
            case "value": return .value
            default:
                if token.first?.isNumber == true {
                    guard let number = StopExpression.number(token) else { throw LogError("“\(text)”: “\(token)” is no number") }
                    return .number(number)
                }
                let name = token.hasPrefix("$") ? String(token.dropFirst()) : token
                guard name.first?.isLetter == true else {
                    throw LogError("“\(text)”: a number, register or memory is expected, not “\(token)”")
                }
                if !registers.contains(name) { registers.append(name) }
                return .register(name)
            }
        }
    }
}
