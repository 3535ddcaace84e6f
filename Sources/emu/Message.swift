import Foundation
import Machine

/// What the program says itself, on standard error: the guest's output has standard output for itself.
enum Message {
    static func say(_ text: String) {
        FileHandle.standardError.write(Data("emu: \(text)\r\n".utf8))
    }

    static func describe(_ outcome: PCMachine.Outcome) -> String {
        switch outcome {
        case .positionReached: "stopped"
        case .ended(.poweredOff, nil): "the guest powered off"
        case .ended(.poweredOff, let code?): "the guest exited with code \(code)"
        case .ended(.quit, _): "quit"
        case .ended(.shutdown, _): "the CPU shut down (triple fault)"
        case .ended(.positionReached, _): "stopped at the position asked for"
        case .ended(.halted, _): "the CPU halted with interrupts off"
        case .ended(.reset, _): "the guest reset the machine"
        }
    }

    static func seconds(_ nanoseconds: UInt64) -> String { "\(decimal(Double(nanoseconds) / 1e9)) s" }
    static func decimal(_ value: Double) -> String { String(format: "%.2f", value) }
    static func fileSize(_ path: String) -> UInt64 {
        let attributes = try? FileManager.default.attributesOfItem(atPath: path)
        return (attributes?[.size] as? NSNumber)?.uint64Value ?? 0
    }

    /// What a command makes must not take the place of something else, least of all of what it needs.
    static func refuseExisting(_ paths: String...) throws {
        for path in paths where FileManager.default.fileExists(atPath: path) {
            throw UserError("--output: \(path) is there already; remove it or give another name")
        }
    }

    static func sameFile(_ a: String, _ b: String) -> Bool {
        func identity(_ path: String) -> [Int]? {
            guard let attributes = try? FileManager.default.attributesOfItem(atPath: path),
                let device = attributes[.systemNumber] as? Int, let number = attributes[.systemFileNumber] as? Int
            else { return nil }
            return [device, number]
        }
        guard let first = identity(a) else { return false }
        return first == identity(b)
    }
}

extension Duration {
    var seconds: Double { Double(components.seconds) + Double(components.attoseconds) / 1e18 }
}
