import Boundary
import MachineState

/// What a run has written to its console, and where: filled on the first pass, kept over travels back.
package final class Transcript {
    /// The channel of the console at the inputs cut, and the base port of its UART at the devices cut.
    package let source: UInt16
    package let port: UInt16
    package private(set) var bytes: [UInt8] = []
    /// Per byte, the instructions that were retired before the one that wrote it.
    package private(set) var positions: [Position] = []
    /// Bytes written up to the cursor.
    package private(set) var count = 0
    /// The UART's data register is the divisor now (LCR bit 7).
    private var isDivisor = false

    package init(source: UInt16, port: UInt16) {
        self.source = source
        self.port = port
    }

    func sent(_ source: UInt16, _ sent: [UInt8], at position: Position) {
        if source == self.source { append(sent, position) }
    }

    func written(_ port: UInt16, _ value: UInt64, at position: Position) {
        if port == self.port &+ 3 { isDivisor = value & 0x80 != 0 }
        if port == self.port, !isDivisor { append([UInt8(truncatingIfNeeded: value)], position) }
    }

    private func append(_ new: [UInt8], _ position: Position) {
        count += new.count
        guard count > bytes.count else { return }
        let fresh = Array(new.suffix(count - bytes.count))
        bytes += fresh
        positions += Array(repeating: position, count: fresh.count)
    }

    func visit(_ visitor: inout StateVisitor) {
        visitor.field("count", &count)
        visitor.field("isDivisor", &isDivisor)
    }

    /// From an index. False: it does not fit.
    func load(bytes: [UInt8], positions: [Position]) -> Bool {
        guard bytes.count == positions.count else { return false }
        if bytes.count > self.bytes.count {
            self.bytes = bytes
            self.positions = positions
        }
        return true
    }

    /// The position of the byte that completes the first occurrence of `text` after the first `start` bytes; and how many
    /// bytes there are up to it.
    package func first(_ text: [UInt8], after start: Int) -> (position: Position, count: Int)? {
        if text.isEmpty { return nil }
        var end = start + 1
        while end <= bytes.count {
            if matches(text, end) { return (positions[end - 1], end) }
            end += 1
        }
        return nil
    }

    /// The same for the last occurrence that is complete before byte number `bound`.
    package func last(_ text: [UInt8], before bound: Int) -> (position: Position, count: Int)? {
        if text.isEmpty { return nil }
        var end = min(bound, bytes.count)
        while end > 0 {
            if matches(text, end) { return (positions[end - 1], end) }
            end -= 1
        }
        return nil
    }

    private func matches(_ text: [UInt8], _ end: Int) -> Bool {
        guard end >= text.count else { return false }
        return bytes[(end - text.count)..<end].elementsEqual(text)
    }
}
