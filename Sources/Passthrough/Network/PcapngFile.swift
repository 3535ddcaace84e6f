import Glibc
import Synchronization

/// A capture in the pcapng format (draft-ietf-opsawg-pcapng), being written: Ethernet, with virtual time in nanoseconds
/// since power-on, and which way each frame went (in is to the guest).
package final class PcapngFile: Sendable {
    private let descriptor: Int32
    private let path: String
    /// Blocks that have not been written yet.
    private let waiting = Mutex<[UInt8]>([])
    private static let bufferSize = 1 << 16

    /// - Parameter interfaces: their names, such as "net0".
    package init(path: String, interfaces: [String]) throws {
        self.path = path
        descriptor = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0o644)
        if descriptor < 0 { throw BackendError.system("\(path): cannot be created") }
        waiting.withLock { $0 = Self.start + interfaces.flatMap(Self.interface) }
    }
    deinit {
        _ = writeAll(descriptor, waiting.withLock { $0 })
        close(descriptor)
    }

    /// Appends a frame.
    /// - Parameters:
    ///   - interface: its number.
    ///   - time: virtual time, ns.
    package func append(_ frame: [UInt8], interface: Int, isOut: Bool, time: UInt64) {
        waiting.withLock { waiting in
            waiting += Self.packet(frame, interface: interface, isOut: isOut, time: time)
            if waiting.count >= Self.bufferSize { Self.flush(descriptor, &waiting) }
        }
    }

    /// Writes what waits. False: the host cannot.
    @discardableResult
    package func flush() -> Bool { waiting.withLock { Self.flush(descriptor, &$0) } }

    @discardableResult
    private static func flush(_ descriptor: Int32, _ waiting: inout [UInt8]) -> Bool {
        defer { waiting = [] }
        return writeAll(descriptor, waiting)
    }

    // MARK: Blocks

    private static func put(_ value: UInt64, _ width: Int) -> [UInt8] {
        (0..<width).map { UInt8(truncatingIfNeeded: value >> UInt64($0 * 8)) }
    }
    private static func padded(_ bytes: [UInt8]) -> [UInt8] { bytes + [UInt8](repeating: 0, count: -bytes.count & 3) }
    private static func option(_ code: UInt64, _ bytes: [UInt8]) -> [UInt8] {
        put(code, 2) + put(UInt64(bytes.count), 2) + padded(bytes)
    }
    /// Type and length before, the length again after.
    private static func block(_ type: UInt64, _ body: [UInt8]) -> [UInt8] {
        let length = put(UInt64(body.count + 12), 4)
        return put(type, 4) + length + body + length
    }

    /// The section's header: byte order, version 1.0, a length that is not known, and who has written it.
    private static let start = block(
        0x0A0D_0D0A, put(0x1A2B_3C4D, 4) + put(1, 2) + put(0, 2) + put(.max, 8) + option(4, Array("emu".utf8)) + option(0, []))

    /// Link type 1, any length; the name, and that times are in units of 10^-9 s.
    private static func interface(_ name: String) -> [UInt8] {
        block(1, put(1, 2) + put(0, 2) + put(0, 4) + option(2, Array(name.utf8)) + option(9, [9]) + option(0, []))
    }

    /// An enhanced packet; its flags say 1 for in, 2 for out.
    package static func packet(_ frame: [UInt8], interface: Int, isOut: Bool, time: UInt64) -> [UInt8] {
        let length = put(UInt64(frame.count), 4)
        return block(
            6, put(UInt64(interface), 4) + put(time >> 32, 4) + put(time & 0xFFFF_FFFF, 4) + length + length + padded(frame)
                + option(2, put(isOut ? 2 : 1, 4)) + option(0, []))
    }
}
