import DeviceBus
import MachineState

/// A disk (Virtual I/O Device 1.1, 5.2): one queue, one request after the other.
///
/// As a host receiver it is told of failures of the host's file: the present request fails.
package final class VirtioBlock: VirtioFunction, HostReceiver {
    /// What the present request does.
    package enum Operation: UInt8, Sendable {
        case idle = 0
        case read = 1
        case write = 2
        case flush = 3
    }

    /// Everything the guest can observe.
    package struct State {
        package var operation = Operation.idle
        package var chain = VirtioChain()
        /// The next sector, and the sectors that are left.
        package var sector: UInt64 = 0
        package var remaining: UInt64 = 0
        /// Bytes of the chain's data that are done.
        package var done: UInt64 = 0
        /// The piece that is on its way.
        package var buffer: [UInt8] = []
        /// The host has failed to do what the request asked for.
        package var hasFailed = false
        /// Behind the last sector that was accessed: a transfer from here needs no seek.
        package var head: UInt64 = 0

        package init() {}

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("operation", &operation)
            visitor.group("chain") { chain.visit(&$0) }
            visitor.field("sector", &sector)
            visitor.field("remaining", &remaining)
            visitor.field("done", &done)
            visitor.field("buffer", &buffer)
            visitor.field("hasFailed", &hasFailed)
            visitor.field("head", &head)
        }
    }

    private enum Feature {
        static let segments: UInt64 = 1 << 2
        static let geometry: UInt64 = 1 << 4
        static let readOnly: UInt64 = 1 << 5
        static let blockSize: UInt64 = 1 << 6
        static let flush: UInt64 = 1 << 9
    }
    /// The last byte of a request.
    private enum Result {
        static let ok: UInt8 = 0
        static let error: UInt8 = 1
        static let unsupported: UInt8 = 2
    }
    /// The largest piece that moves in one go, in sectors: 512 KiB.
    private static let piece: UInt64 = 1024
    private static let headerSize = 16

    package let kind = VirtioKind(identifier: 2, legacyDevice: 0x1001, classCode: 0x010000)
    package let queueSizes: [UInt16] = [128]
    package private(set) var state = State()
    private let medium: any BlockMedium
    /// At most 20 characters.
    private let serial: String
    /// Set by whoever makes both.
    package unowned(unsafe) var transport: (any VirtioTransport)!

    package init(medium: any BlockMedium, serial: String) {
        self.medium = medium
        self.serial = serial
    }

    package var features: UInt64 {
        Feature.segments | Feature.geometry | Feature.blockSize | Feature.flush | (medium.isReadOnly ? Feature.readOnly : 0)
    }

    package var configurationBytes: [UInt8] {
        var bytes: [UInt8] = []
        func put(_ value: UInt64, _ width: Int) {
            for lane in 0..<width { bytes.append(UInt8(truncatingIfNeeded: value >> UInt64(lane * 8))) }
        }
        put(medium.sectorCount, 8)
        // The largest segment (not offered), and the segments of a request: header and status take two of the queue.
        put(0, 4)
        put(126, 4)
        put(min(medium.sectorCount / (16 * 63), 65535), 2)
        put(16, 1)
        put(63, 1)
        put(512, 4)
        return bytes
    }

    package func writeConfiguration(_ offset: Int, _ value: UInt8) {}
    package func reset() { state = State() }
    package func visitState(_ visitor: inout StateVisitor) { state.visit(&visitor) }
    package func notified(queue: Int) { startNext() }
    /// Any input is a failure.
    package func receive(_ bytes: [UInt8]) {
        guard state.operation != .idle else { return }
        state.hasFailed = true
        // What could not be read is the same at a replay, where it can.
        for index in state.buffer.indices { state.buffer[index] = 0 }
    }

    // MARK: Requests

    /// Begins requests until one takes time. Not more at once than the queue has room for: a driver whose rings lie on
    /// one another can make chains without end.
    private func startNext() {
        for _ in 0..<queueSizes[0] {
            guard state.operation == .idle, let chain = transport.next(queue: 0) else { return }
            start(chain)
        }
        if state.operation == .idle { transport.schedule(timer: 0, after: 10_000) }
    }

    private func start(_ chain: VirtioChain) {
        let header = transport.read(chain, from: 0, count: Self.headerSize)
        guard header.count == Self.headerSize, chain.writableLength >= 1 else { return transport.fail() }
        func number(_ offset: Int, _ width: Int) -> UInt64 {
            (0..<width).reduce(0) { $0 | UInt64(header[offset + $1]) << UInt64($1 * 8) }
        }
        state.chain = chain
        state.sector = number(8, 8)
        state.done = 0
        state.hasFailed = false
        switch number(0, 4) {
        case 0: startAccess(.read, bytes: chain.writableLength - 1)
        case 1: startAccess(.write, bytes: chain.readableLength - Self.headerSize)
        case 4:
            state.operation = .flush
            medium.flush()
            transport.schedule(timer: 0, after: 100_000)
        case 8:
            var name = Array(serial.utf8.prefix(20))
            name += [UInt8](repeating: 0, count: 20 - name.count)
            let count = min(20, chain.writableLength - 1)
            transport.write(chain, Array(name.prefix(count)), at: 0) { _, _ in nil }
            state.done = UInt64(count)
            finish(Result.ok)
        default: finish(Result.unsupported)
        }
    }

    private func startAccess(_ operation: Operation, bytes: Int) {
        let count = UInt64(bytes / 512)
        guard bytes % 512 == 0, state.sector <= medium.sectorCount, count <= medium.sectorCount - state.sector,
            operation == .read || !medium.isReadOnly
        else { return finish(Result.error) }
        if count == 0 { return finish(Result.ok) }
        state.remaining = count
        state.operation = operation
        startPiece()
    }

    /// A model of a quick disk: 60 µs for a seek, 256 MB/s.
    private func cost(_ sectors: UInt64) -> VirtualTime {
        10_000 + (state.sector == state.head ? 0 : 60_000) + sectors * 2_000
    }

    private func startPiece() {
        let count = min(state.remaining, Self.piece)
        let bytes = Int(count) * 512
        if state.operation == .read {
            state.buffer = [UInt8](repeating: 0, count: bytes)
            state.buffer.withUnsafeMutableBytes { medium.read(sector: state.sector, into: $0) }
        } else {
            state.buffer = transport.read(state.chain, from: Self.headerSize + Int(clamping: state.done), count: bytes)
            state.buffer.withUnsafeBytes { medium.prepare(sector: state.sector, from: $0) }
        }
        transport.schedule(timer: 0, after: cost(count))
    }

    package func timerFired(_ timer: Int) {
        switch state.operation {
        case .idle: break
        case .flush: finish(state.hasFailed ? Result.error : Result.ok)
        case .read, .write: endPiece()
        }
        startNext()
    }

    private func endPiece() {
        // A snapshot may be damaged: the piece must still be on the disk, and in the request.
        let count = UInt64(state.buffer.count / 512)
        guard !state.hasFailed, count > 0, count <= state.remaining, state.sector <= medium.sectorCount,
            count <= medium.sectorCount - state.sector
        else { return finish(Result.error) }
        if state.operation == .read {
            let first = state.sector
            transport.write(state.chain, state.buffer, at: Int(clamping: state.done)) { [medium] offset, count in
                let place = first * 512 + UInt64(offset)
                let sector = place / 512
                let last = (place + UInt64(max(count, 1)) - 1) / 512
                return medium.origin(sector: sector, count: Int(last - sector) + 1)?.advanced(by: Int(place % 512))
            }
        } else {
            state.buffer.withUnsafeBytes { medium.write(sector: state.sector, from: $0) }
        }
        state.sector += count
        state.remaining -= count
        state.done += UInt64(state.buffer.count)
        state.head = state.sector
        if state.remaining > 0 { startPiece() } else { finish(Result.ok) }
    }

    /// Gives the request back with its result in the last byte.
    private func finish(_ result: UInt8) {
        let chain = state.chain
        let written = state.operation == .write ? 0 : Int(clamping: state.done)
        let head = state.head
        state = State()
        state.head = head
        transport.write(chain, [result], at: chain.writableLength - 1) { _, _ in nil }
        transport.push(queue: 0, chain, written: written + 1)
    }
}
