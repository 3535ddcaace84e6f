/// Bits of a register that belong together.
package struct RegisterField: Sendable, Hashable {
    /// Number of the lowest bit.
    package var low: UInt8
    /// Bits, 1 to 64.
    package var width: UInt8
    /// The datasheet's name.
    package var name: String
    /// Names of the values 0, 1, …; may be shorter than there are values, or empty.
    package var values: [String]

    package init(low: UInt8, width: UInt8, name: String, values: [String] = []) {
        self.low = low
        self.width = width
        self.name = name
        self.values = values
    }

    /// Its value in a register's.
    package func value(in register: UInt64) -> UInt64 {
        let mask: UInt64 = width >= 64 ? .max : (1 << UInt64(width)) - 1
        return (register >> UInt64(low)) & mask
    }

    /// Fields from bit 0 up, with spaces between them: `NAME` is one bit, `NAME:3` three, `-` or `-:3` are reserved,
    /// `NAME:2=off/edge/level` has names for its values.
    package static func list(_ text: String) -> [RegisterField] {
        var fields: [RegisterField] = []
        var low = 0
        for word in text.split(separator: " ") {
            let halves = word.split(separator: "=", maxSplits: 1)
            let parts = halves[0].split(separator: ":")
            let width = parts.count > 1 ? Int(parts[1]) ?? 1 : 1
            if parts[0] != "-" {
                let values = halves.count > 1 ? halves[1].split(separator: "/", omittingEmptySubsequences: false) : []
                fields.append(
                    RegisterField(
                        low: UInt8(low), width: UInt8(width), name: String(parts[0]), values: values.map { String($0) }))
            }
            low += width
        }
        return fields
    }
}

/// One register of a device, for traces, the monitor and the documentation.
package struct RegisterName: Sendable, Hashable {
    /// Byte offset in its region.
    package var offset: UInt64
    /// Width in bytes, or the length of an array of alike registers.
    package var length: UInt64
    /// The datasheet's name. Of a register that is one when read and another when written: both, with a slash.
    package var name: String
    /// What a value that is read is made of; empty for a number.
    package var fields: [RegisterField]
    /// The same for a value that is written.
    package var writtenFields: [RegisterField]
    /// What its value depends on, for comparisons of two runs.
    package enum Contents: Sendable, Hashable {
        /// Only on what software and device do.
        case value
        /// On when it is.
        case time
        /// On where in RAM software has put something.
        case address
    }
    package var contents: Contents

    /// - Parameters:
    ///   - fields: as `RegisterField.list` has them.
    ///   - written: the same where a written value means something else.
    package init(
        _ offset: UInt64, _ name: String, length: UInt64 = 1, fields: String = "", written: String? = nil,
        contents: Contents = .value
    ) {
        self.contents = contents
        self.offset = offset
        self.length = length
        self.name = name
        self.fields = RegisterField.list(fields)
        writtenFields = written.map { RegisterField.list($0) } ?? self.fields
    }

    /// The name for an access in one direction.
    package func name(isWrite: Bool) -> Substring {
        guard let slash = name.firstIndex(of: "/") else { return name[...] }
        return isWrite ? name[name.index(after: slash)...] : name[..<slash]
    }

    /// A value in words: the fields that are not 0, such as "DR THRE TEMT" or "WLS=8 PEN"; empty when there are none.
    package func describe(_ value: UInt64, isWrite: Bool) -> String {
        var words: [String] = []
        for field in isWrite ? writtenFields : fields {
            let part = field.value(in: value)
            if part < UInt64(field.values.count), !field.values[Int(part)].isEmpty {
                words.append("\(field.name)=\(field.values[Int(part)])")
            } else if part != 0 {
                words.append(field.width == 1 ? field.name : "\(field.name)=\(part)")
            }
        }
        return words.joined(separator: " ")
    }
}
