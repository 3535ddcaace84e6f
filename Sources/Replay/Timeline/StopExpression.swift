import Boundary

/// What to stop at, as text: alternatives with commas between them.
///
///     exec ADDRESS            an instruction at this linear address is next
///     write ADDRESS[:LENGTH]  memory at these linear addresses is written; also read, access
///     vector NUMBER           an interrupt or exception with this vector is delivered
///     interrupt               vectors 32 to 255
///     exception               vectors 0 to 31
///     port NUMBER[:LENGTH]    a port is read or written
///     mmio ADDRESS[:LENGTH]   a device is read or written at these physical addresses
///
/// Numbers are decimal, or hexadecimal with 0x.
package enum StopExpression {
    package static func parse(_ text: String) throws(LogError) -> StopConditions {
        var conditions = StopConditions()
        for alternative in text.split(separator: ",") {
            let words = alternative.split(separator: " ").map(String.init)
            guard let kind = words.first else { throw LogError("nothing between two commas in “\(text)”") }
            switch (kind, words.count) {
            case ("interrupt", 1): conditions.vectors.formUnion(32...255)
            case ("exception", 1): conditions.vectors.formUnion(0...31)
            case ("vector", 2):
                guard let number = number(words[1]), let vector = UInt8(exactly: number) else {
                    throw LogError("a vector is 0 to 255, not “\(words[1])”")
                }
                conditions.vectors.insert(vector)
            case ("exec", 2):
                guard let address = number(words[1]) else { throw LogError("“\(words[1])” is not an address") }
                conditions.breakpoints.insert(address)
            case ("write", 2), ("read", 2), ("access", 2):
                let (start, length) = try range(words[1], 8)
                let access: WatchRange.Kind = kind == "write" ? .write : kind == "read" ? .read : .access
                conditions.watches.append(WatchRange(start: start, length: length, kind: access))
            case ("port", 2), ("mmio", 2):
                let (start, length) = try range(words[1], 1)
                conditions.devices.append(DeviceRange(isPort: kind == "port", start: start, length: length))
            default:
                throw LogError(
                    "“\(alternative)” is none of: exec A, write A:N, read A:N, access A:N, vector N, interrupt, exception, "
                        + "port N, mmio A:N")
            }
        }
        if conditions.isEmpty { throw LogError("there is nothing to look for in “\(text)”") }
        return conditions
    }

    private static func range(_ text: String, _ usual: UInt64) throws(LogError) -> (UInt64, UInt64) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        guard parts.count <= 2, let start = number(parts[0]), let length = parts.count == 2 ? number(parts[1]) : usual,
            length > 0, length <= 1 << 20
        else { throw LogError("“\(text)” is not ADDRESS or ADDRESS:LENGTH, with a length up to 1048576") }
        return (start, length)
    }

    /// Decimal, or hexadecimal with 0x.
    package static func number(_ text: some StringProtocol) -> UInt64? {
        text.hasPrefix("0x") ? UInt64(text.dropFirst(2), radix: 16) : UInt64(text)
    }
}

extension TimelineStop {
    /// What happened, as a phrase.
    package var text: String {
        func hex(_ value: UInt64) -> String { "0x" + String(value, radix: 16) }
        switch self {
        case .reached: return "reached"
        case .breakpoint(let address): return "exec \(hex(address))"
        case .watch(let range, let address, let by, let pc, let dma):
            return "\(range.kind) \(hex(address)) by \(dma ?? "pc \(hex(pc))") at \(by)"
        case .delivered(let vector): return "vector \(vector)"
        case .device(let access):
            let verb = access.isWrite ? "write" : "read"
            return "\(access.isPort ? "port" : "mmio") \(verb) \(hex(access.address)) w\(access.width) \(hex(access.value))"
                + " by pc \(hex(access.pc)) at \(access.by)"
        case .start: return "the start"
        case .end(let reason): return "the end (\(reason))"
        case .interrupted: return "interrupted"
        }
    }
}
