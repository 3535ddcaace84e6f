/// An element of an XML file: as much of XML as register descriptions need. No external entities, no name spaces.
package struct RegisterElement: Sendable {
    package var name: String
    package var attributes: [String: String] = [:]
    package var children: [RegisterElement] = []
    /// Its own text, without what surrounds it.
    package var text = ""

    package func first(_ name: String) -> RegisterElement? { children.first { $0.name == name } }
    package func all(_ name: String) -> [RegisterElement] { children.filter { $0.name == name } }
    /// The text of a child.
    package func text(_ name: String) -> String? { first(name)?.text }
}

/// What is wrong with a register description.
package struct RegisterFileError: Error, CustomStringConvertible {
    package let description: String
    package init(_ description: String) { self.description = description }
}

/// Reads XML. Not by Foundation's parser, which ends the program on files that are not UTF-8.
struct XMLTree {
    private let bytes: [UInt8]
    private var place = 0
    private var count = 0
    /// Descriptions of large chips have a few hundred thousand elements.
    private static let mostElements = 4_000_000
    private static let mostLevels = 64

    /// The outermost element.
    static func root(_ bytes: [UInt8]) throws -> RegisterElement {
        var tree = XMLTree(bytes: bytes)
        try tree.skipMisc()
        guard tree.peek == UInt8(ascii: "<") else { throw tree.wrong("there is no element") }
        let root = try tree.element(level: 0)
        try tree.skipMisc()
        guard tree.place == bytes.count else { throw tree.wrong("text behind the outermost element") }
        return root
    }

    private init(bytes: [UInt8]) {
        self.bytes = bytes
        // A mark of the byte order.
        if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { place = 3 }
    }

    private func wrong(_ what: String) -> RegisterFileError {
        RegisterFileError("line \(bytes[..<min(place, bytes.count)].reduce(1) { $0 + ($1 == 10 ? 1 : 0) }): \(what)")
    }

    private var peek: UInt8 { place < bytes.count ? bytes[place] : 0 }
    private func isAt(_ text: StaticString) -> Bool {
        let length = text.utf8CodeUnitCount
        guard place + length <= bytes.count else { return false }
        return (0..<length).allSatisfy { bytes[place + $0] == text.utf8Start[$0] }
    }
    private static func isSpace(_ byte: UInt8) -> Bool { byte == 32 || (9...13).contains(byte) }
    private mutating func skipSpace() { while place < bytes.count, Self.isSpace(bytes[place]) { place += 1 } }

    /// Goes behind the next `end`.
    private mutating func skip(to end: StaticString) throws {
        while place < bytes.count {
            if isAt(end) {
                place += end.utf8CodeUnitCount
                return
            }
            place += 1
        }
        throw wrong("the file ends too early")
    }

    /// Comments, instructions and the document type.
    private mutating func skipMisc() throws {
        while true {
            skipSpace()
            if isAt("<!--") {
                try skip(to: "-->")
            } else if isAt("<?") {
                try skip(to: "?>")
            } else if isAt("<!DOCTYPE") {
                var depth = 0
                repeat {
                    guard place < bytes.count else { throw wrong("the file ends too early") }
                    if peek == UInt8(ascii: "<") { depth += 1 }
                    if peek == UInt8(ascii: ">") { depth -= 1 }
                    place += 1
                } while depth > 0
            } else {
                return
            }
        }
    }

    private mutating func name() throws -> String {
        let start = place
        while place < bytes.count {
            let byte = bytes[place]
            if Self.isSpace(byte) || [UInt8(ascii: "="), UInt8(ascii: ">"), UInt8(ascii: "/"), UInt8(ascii: "<")].contains(byte) { break }
            place += 1
        }
        guard place > start else { throw wrong("a name is missing") }
        return String(decoding: bytes[start..<place], as: UTF8.self)
    }

    private mutating func element(level: Int) throws -> RegisterElement {
        guard level < Self.mostLevels else { throw wrong("elements within elements, more than \(Self.mostLevels) deep") }
        count += 1
        guard count <= Self.mostElements else { throw wrong("more than \(Self.mostElements) elements") }
        place += 1
        var element = RegisterElement(name: try name())
        while true {
            skipSpace()
            if isAt("/>") {
                place += 2
                return element
            }
            if peek == UInt8(ascii: ">") {
                place += 1
                break
            }
            let key = try name()
            skipSpace()
            guard peek == UInt8(ascii: "=") else { throw wrong("“=” is missing after “\(key)”") }
            place += 1
            skipSpace()
            let quote = peek
            guard quote == UInt8(ascii: "\"") || quote == UInt8(ascii: "'") else { throw wrong("“\(key)” has no quotes") }
            place += 1
            let start = place
            while place < bytes.count, bytes[place] != quote { place += 1 }
            guard place < bytes.count else { throw wrong("the file ends too early") }
            element.attributes[key] = try decoded(bytes[start..<place])
            place += 1
        }
        try contents(of: &element, level: level)
        return element
    }

    private mutating func contents(of element: inout RegisterElement, level: Int) throws {
        var text: [UInt8] = []
        while true {
            guard place < bytes.count else { throw wrong("“\(element.name)” has no end") }
            if isAt("</") {
                place += 2
                let name = try name()
                guard name == element.name else { throw wrong("“\(element.name)” ends as “\(name)”") }
                skipSpace()
                guard peek == UInt8(ascii: ">") else { throw wrong("“>” is missing") }
                place += 1
                let start = text.firstIndex { !Self.isSpace($0) } ?? text.endIndex
                let end = text.lastIndex { !Self.isSpace($0) }.map { $0 + 1 } ?? start
                element.text = String(decoding: text[start..<end], as: UTF8.self)
                return
            }
            if isAt("<!--") {
                try skip(to: "-->")
            } else if isAt("<?") {
                try skip(to: "?>")
            } else if isAt("<![CDATA[") {
                let start = place + 9
                try skip(to: "]]>")
                text += bytes[start..<max(place - 3, start)]
            } else if peek == UInt8(ascii: "<") {
                element.children.append(try self.element(level: level + 1))
            } else {
                let start = place
                while place < bytes.count, bytes[place] != UInt8(ascii: "<") { place += 1 }
                text += Array(try decoded(bytes[start..<place]).utf8)
            }
        }
    }

    /// Text with its entities.
    private func decoded(_ raw: ArraySlice<UInt8>) throws -> String {
        guard raw.contains(UInt8(ascii: "&")) else { return String(decoding: raw, as: UTF8.self) }
        var result = ""
        var rest = raw
        while let start = rest.firstIndex(of: UInt8(ascii: "&")) {
            result += String(decoding: rest[..<start], as: UTF8.self)
            guard let end = rest[start...].prefix(12).firstIndex(of: UInt8(ascii: ";")) else { throw wrong("an entity has no end") }
            let name = String(decoding: rest[start + 1..<end], as: UTF8.self)
            switch name {
            case "lt": result += "<"
            case "gt": result += ">"
            case "amp": result += "&"
            case "quot": result += "\""
            case "apos": result += "'"
            default:
                let number = name.hasPrefix("#x") ? UInt32(name.dropFirst(2), radix: 16) : name.hasPrefix("#") ? UInt32(name.dropFirst()) : nil
                guard let scalar = number.flatMap({ Unicode.Scalar($0) }) else { throw wrong("an unknown entity “\(name)”") }
                result.unicodeScalars.append(scalar)
            }
            rest = rest[(end + 1)...]
        }
        return result + String(decoding: rest, as: UTF8.self)
    }
}
