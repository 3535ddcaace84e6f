import Boundary
import Replay

/// Writes of memory and registers.
extension GDBSession {
    private func change(_ edit: Edit) throws -> Reply? {
        let reason =
            switch ground {
            case .recording(let timeline): try changeRecording(timeline, edit)
            case .live(let run): run.edit(edit)
            }
        return reason.map { .text("E." + $0) }
    }

    private func changeRecording(_ timeline: Timeline, _ edit: Edit) throws -> String? {
        if timeline.door.reader.header.boundary != .inputs {
            return "a recording cannot be changed, and one of --boundary=devices cannot go live"
        }
        return try timeline.edit(edit)
    }

    /// P: number=value
    func writeRegister(_ text: Substring) throws -> Reply {
        let parts = text.split(separator: "=", omittingEmptySubsequences: false)
        guard parts.count == 2, let number = Hex.number(parts[0]), number < UInt64(registers.count),
            let bytes = Hex.bytes(parts[1])
        else { return .text("E01") }
        let register = registers[Int(number)]
        guard bytes.count == register.bits / 8, let edit = target.registerEdit(register, bytes) else {
            return .text("E.\(register.name) cannot be written")
        }
        return try change(edit) ?? .text("OK")
    }

    /// G: all registers. Those that differ are changed; one that cannot be is an error.
    func writeRegisters(_ text: Substring) throws -> Reply {
        let present = target.registerValues(of: architecture)
        guard let values = Hex.bytes(text), values.count <= present.count else { return .text("E01") }
        var offset = 0
        for register in registers {
            let next = offset + register.bits / 8
            if next > values.count { break }
            let bytes = Array(values[offset..<next])
            if bytes != Array(present[offset..<next]) {
                guard let edit = target.registerEdit(register, bytes) else {
                    return .text("E.\(register.name) cannot be written")
                }
                if let refusal = try change(edit) { return refusal }
            }
            offset = next
        }
        return .text("OK")
    }

    /// M or X: address,length:bytes
    func writeMemory(_ packet: [UInt8], isBinary: Bool) throws -> Reply {
        guard let colon = packet.firstIndex(of: UInt8(ascii: ":")) else { return .text("E01") }
        let parts = String(decoding: packet[1..<colon], as: UTF8.self).split(separator: ",", omittingEmptySubsequences: false)
        let body = packet[(colon + 1)...]
        guard parts.count == 2, let address = Hex.number(parts[0]), let length = Hex.number(parts[1]),
            let bytes = isBinary ? Array(body) : Hex.bytes(String(decoding: body, as: UTF8.self)),
            UInt64(bytes.count) == length
        else { return .text("E01") }
        if bytes.isEmpty { return .text("OK") }
        // In pieces that lie in one page each; all of them must be there before any is written.
        var edits: [Edit] = []
        var done = 0
        while done < bytes.count {
            let start = address &+ UInt64(done)
            let count = min(bytes.count - done, 4096 - Int(start & 4095))
            guard let physical = isPhysical ? start : target.physicalAddress(of: start),
                target.readMemory(physical, count: count, isPhysical: true) != nil
            else { return .text("E14") }
            edits.append(.memory(address: physical, bytes: Array(bytes[done..<done + count])))
            done += count
        }
        for edit in edits { if let refusal = try change(edit) { return refusal } }
        guard target.readMemory(address, count: bytes.count, isPhysical: isPhysical) == bytes else {
            return .text("E.what is there cannot be written")
        }
        return .text("OK")
    }
}
