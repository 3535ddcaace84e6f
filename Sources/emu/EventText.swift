import Machine
import Replay

/// Events as text and as JSON.
enum EventText {
    private static let names = PCMachine.registerNames()

    private static func hex(_ value: UInt64, _ digits: Int = 0) -> String {
        let text = String(value, radix: 16)
        return "0x" + String(repeating: "0", count: max(digits - text.count, 0)) + text
    }

    /// Device and register an event is about.
    static func device(_ event: LogEvent) -> (device: String, register: String?)? {
        switch event.kind {
        case .portRead, .portWrite, .portBlock, .portImage: names(.port, event.address)
        case .memoryRead, .memoryWrite: names(.memory, event.address)
        case .input, .answer, .frame: Channel(rawValue: UInt16(truncatingIfNeeded: event.address)).map { ($0.name, nil) }
        default: nil
        }
    }

    /// The place in a divergence report.
    static func place(_ event: LogEvent) -> String {
        let kind = event.kind.name
        switch event.kind {
        case .portRead, .portWrite, .memoryRead, .memoryWrite, .portBlock, .portImage:
            let named = device(event).map { " (\($0.device)\($0.register.map { " " + $0 } ?? ""))" } ?? ""
            return "\(kind) \(hex(event.address))\(named)"
        default: return device(event).map { "\(kind) \($0.device)" } ?? kind
        }
    }

    static func time(_ event: LogEvent, _ header: LogHeader) -> UInt64 {
        event.position << UInt64(header.clockShift) &+ event.skipped
    }

    /// One line: number, position, virtual time, PC, what, where, value.
    static func line(_ number: UInt64, _ event: LogEvent, _ header: LogHeader) -> String {
        let start = "\(number) \(event.position)"
        let name = device(event)
        let place = name.map { " \($0.device)" + ($0.register.map { ".\($0)" } ?? "") } ?? ""
        switch event.kind {
        case .portRead, .portWrite, .memoryRead, .memoryWrite:
            return "\(start) pc=\(hex(event.pc)) \(event.kind.name) \(hex(event.address))\(place) w\(event.width) \(hex(event.value, Int(event.width) * 2))"
        case .portBlock, .portImage:
            let what = "\(event.blockLength) bytes"
            let data =
                event.kind == .portBlock
                ? bytes(Array(event.bytes.prefix(16))) : "of image \(event.value >> 56) at \(event.value & (1 << 56 - 1))"
            return "\(start) pc=\(hex(event.pc)) \(event.kind.name) \(hex(event.address))\(place) w\(event.elementWidth) \(what) \(data)"
        case .diskData:
            let data = bytes(Array(event.bytes.prefix(16)))
            return "\(start) pc=\(hex(event.pc)) \(event.kind.name) of image \(event.address) at \(event.value) \(event.width) bytes \(data)"
        case .interruptAcknowledge: return "\(start) pc=\(hex(event.pc)) \(event.kind.name) vector \(hex(event.value, 2))"
        case .interruptLine: return "\(start) \(event.kind.name) \(event.value)"
        case .input: return "\(start) \(event.kind.name)\(place) \(bytes(event.bytes))"
        case .dmaRead, .dmaWrite:
            return "\(start) \(event.kind.name) \(hex(event.address)) \(event.bytes.count) bytes \(bytes(Array(event.bytes.prefix(16))))"
        case .editMemory:
            return "\(start) \(event.kind.name) \(hex(event.address)) \(bytes(event.bytes))"
        case .busMaster: return "\(start) \(event.kind.name) \(String(decoding: event.bytes, as: UTF8.self))"
        case .frame: return "\(start) \(event.kind.name)\(place) \(event.width == 0 ? "in" : "out") \(bytes(event.bytes))"
        case .editRegister: return "\(start) \(event.kind.name) \(event.address) \(bytes(event.bytes))"
        case .dmaImage:
            return "\(start) \(event.kind.name) \(hex(event.address)) \(event.width) bytes of image \(event.pc) at \(event.value)"
        case .idle: return "\(start) idle until \(time(event, header)) ns"
        case .digest: return "\(start) digest \(bytes(Array(event.bytes.prefix(8))))"
        case .end: return "\(start) end reason \(event.value)"
        case .answer: return "\(start) answer\(place) \(hex(event.value))"
        default: return "\(start) \(event.kind.name) \(event.value)"
        }
    }

    /// The same as one JSON object.
    static func json(_ number: UInt64, _ event: LogEvent, _ header: LogHeader) -> String {
        var fields = ["\"event\":\(number)", "\"position\":\(event.position)", "\"kind\":\"\(event.kind.name)\""]
        if event.kind.isTransaction {
            fields.append("\"pc\":\"\(hex(event.pc))\"")
        } else {
            fields.append("\"time\":\(time(event, header))")
        }
        if let name = device(event) {
            fields.append("\"device\":\"\(name.device)\"")
            if let register = name.register { fields.append("\"register\":\"\(register)\"") }
        }
        switch event.kind {
        case .portRead, .portWrite, .memoryRead, .memoryWrite:
            fields.append("\"address\":\"\(hex(event.address))\"")
            fields.append("\"width\":\(event.width)")
            fields.append("\"value\":\"\(hex(event.value))\"")
        case .portBlock, .portImage:
            fields.append("\"address\":\"\(hex(event.address))\",\"width\":\(event.elementWidth),\"length\":\(event.blockLength)")
            if event.kind == .portImage {
                fields.append("\"image\":\(event.value >> 56),\"offset\":\(event.value & (1 << 56 - 1))")
            }
        case .diskData: fields.append("\"image\":\(event.address),\"offset\":\(event.value),\"length\":\(event.width)")
        case .dmaRead, .dmaWrite, .editMemory, .editRegister: fields.append("\"address\":\"\(hex(event.address))\"")
        case .dmaImage:
            fields.append("\"address\":\"\(hex(event.address))\",\"width\":\(event.width)")
            fields.append("\"image\":\(event.pc),\"offset\":\(event.value)")
        case .input, .digest, .idle: break
        case .busMaster:
            let text = String(decoding: event.bytes, as: UTF8.self)
            fields.append("\"master\":\"\(text.filter { $0 != "\"" && $0 != "\\" && !$0.isNewline })\"")
        case .frame: fields.append("\"out\":\(event.width != 0),\"crossed\":\(event.value)")
        default: fields.append("\"value\":\(event.value)")
        }
        if event.kind.hasBytes, event.kind != .busMaster { fields.append("\"bytes\":\"\(bytes(event.bytes))\"") }
        return "{\(fields.joined(separator: ","))}"
    }

    private static func bytes(_ bytes: [UInt8]) -> String {
        bytes.map { $0 < 16 ? "0" + String($0, radix: 16) : String($0, radix: 16) }.joined()
    }
}
