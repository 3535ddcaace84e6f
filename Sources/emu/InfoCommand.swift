import ArgumentParser
import Boundary
import Foundation
import Replay

/// `emu info`: what a recording is.
struct InfoCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "info", abstract: "Show what a recording is and how large its parts are.")

    @Argument(help: "The recording.")
    var file: String
    @Flag(help: "As one JSON object.")
    var json = false
    @Flag(help: "Also what each column of the log takes, and what is left beside the payload (contents of DMA, frames, inputs).")
    var columns = false

    func run() throws {
        let reader = try LogReader(path: file)
        let header = reader.header
        let sizes = columns ? try reader.sizes() : nil
        var counts: [LogEvent.Kind: UInt64] = [:]
        var bytes: [String: UInt64] = [:]
        // Data of disk images that is in the log by its place.
        var referenced: UInt64 = 0
        var position: UInt64 = 0
        var skipped: UInt64 = 0
        try reader.forEachEvent { _, event in
            counts[event.kind, default: 0] += 1
            if event.kind == .input { bytes[EventText.device(event)?.device ?? "?", default: 0] += UInt64(event.bytes.count) }
            if event.kind == .dmaImage { referenced += UInt64(event.width) }
            if event.kind == .portImage { referenced += UInt64(event.blockLength) }
            position = event.position
            if !event.kind.isTransaction { skipped = event.skipped }
            return true
        }
        let nanoseconds = position << UInt64(header.clockShift) &+ skipped
        let seconds = Double(nanoseconds) / 1e9
        let transactions = counts.reduce(0) { $0 + ($1.key.isTransaction ? $1.value : 0) }
        let kinds = LogEvent.Kind.allCases.compactMap { kind in counts[kind].map { (kind.name, $0) } }
        if json {
            var object: [String: Any] = [
                "file": file, "bytes": reader.fileSize, "boundary": header.boundary == .inputs ? "inputs" : "devices",
                "complete": reader.isComplete, "instructions": position, "virtualSeconds": seconds,
                "events": Dictionary(uniqueKeysWithValues: kinds.map { ($0.0, $0.1) }), "inputBytes": bytes,
                "transactions": transactions, "digestInterval": header.digestInterval, "date": header.date,
                "settings": Dictionary(header.settings.map { ($0.name, $0.value) }, uniquingKeysWith: { $1 }),
                "images": header.images.map { ["role": $0.role, "path": $0.path, "size": $0.size, "sha256": $0.digest] },
            ]
            if referenced > 0 { object["imageBytes"] = referenced }
            if seconds > 0 { object["bytesPerVirtualSecond"] = Double(reader.fileSize) / seconds }
            if transactions > 0 { object["bytesPerTransaction"] = Double(reader.fileSize) / Double(transactions) }
            if let sizes {
                object["columns"] = Dictionary(uniqueKeysWithValues: sizes.columns.map { ($0.name, ["raw": $0.raw, "compressed": $0.compressed]) })
                object["bytesBeyondPayload"] = sizes.beyondPayload
                if transactions > 0 {
                    object["bytesPerTransactionBeyondPayload"] = Double(sizes.beyondPayload) / Double(transactions)
                }
            }
            let data = try JSONSerialization.data(withJSONObject: object, options: [.prettyPrinted, .sortedKeys])
            print(String(decoding: data, as: UTF8.self))
            return
        }
        print("\(file): recording of emu, boundary \(header.boundary == .inputs ? "inputs" : "devices")")
        if let reason = reader.endsEarly { print("  ends early: \(reason)") }
        for setting in header.settings { print("  \(setting.name): \(setting.value)") }
        for image in header.images { print("  \(image.role): \(image.path), \(image.size) bytes, SHA-256 \(image.digest)") }
        print("  length: \(position) instructions, \(Message.decimal(seconds)) virtual seconds")
        print("  size: \(reader.fileSize) bytes in \(reader.chunks.count) chunks")
        if seconds > 0 { print("  \(Message.decimal(Double(reader.fileSize) / seconds)) bytes a virtual second") }
        if position > 0 {
            print(String(format: "  %.4f bytes per 1000 instructions", Double(reader.fileSize) * 1000 / Double(position)))
        }
        if transactions > 0 {
            print(String(format: "  %.3f bytes a transaction (%llu transactions)", Double(reader.fileSize) / Double(transactions), transactions))
        }
        if referenced > 0 {
            print("  data of disk images, by reference: \(referenced) bytes, \(Message.decimal(Double(reader.fileSize) * 100 / Double(referenced))) bytes of log for 100 of them")
        }
        for (kind, count) in kinds { print("  \(kind): \(count)") }
        if let sizes {
            for column in sizes.columns { print("  column \(column.name): \(column.raw) bytes, \(column.compressed) compressed alone") }
            print("  beyond payload: \(sizes.beyondPayload) bytes")
            if transactions > 0 {
                print(String(format: "  %.3f bytes a transaction beyond payload", Double(sizes.beyondPayload) / Double(transactions)))
            }
        }
        for (source, count) in bytes.sorted(by: { $0.key < $1.key }) { print("  input from \(source): \(count) bytes") }
    }
}

/// `emu log`: the events.
struct LogCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "log", abstract: "Print a recording's events; at the devices boundary, the complete transaction trace.",
        discussion: "A line is: event number, position, PC, kind, address, device.register, width, value.")

    @Argument(help: "The recording.")
    var file: String
    @Flag(help: "As JSON lines.")
    var json = false

    func run() throws {
        let reader = try LogReader(path: file)
        if let reason = reader.endsEarly { Message.say("\(file): the recording ends early: \(reason)") }
        var buffer = ""
        try reader.forEachEvent { number, event in
            buffer += json ? EventText.json(number, event, reader.header) : EventText.line(number, event, reader.header)
            buffer += "\n"
            if buffer.utf8.count > 1 << 16 {
                FileHandle.standardOutput.write(Data(buffer.utf8))
                buffer = ""
            }
            return true
        }
        FileHandle.standardOutput.write(Data(buffer.utf8))
    }
}
