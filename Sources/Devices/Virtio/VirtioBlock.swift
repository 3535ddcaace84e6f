import DeviceBus
import MachineState

/// A disk (Virtual I/O Device 1.1, 5.2): one queue, one request after the other.
///
/// As a host receiver it is told of failures of the host's file: the present request fails.
package final class VirtioBlock: VirtioFunction, HostReceiver {
    /// What the present request does.
    package enum Operation: UInt8, Sendable {
        case idle = 0
        case transfer = 1
        case flush = 2
    }

    /// Everything the guest can observe.
    package struct State {
        package var operation = Operation.idle
        package var chain = VirtioChain()
        package var transfer = BlockTransfer()

        package init() {}

        package mutating func visit(_ visitor: inout StateVisitor) {
            visitor.field("operation", &operation)
            visitor.group("chain") { chain.visit(&$0) }
            visitor.group("transfer") { transfer.visit(&$0) }
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
    /// The piece that has just come to its end, for `request`: the state must not be looked at while it changes.
    private var moving: (direction: BlockTransfer.Direction, sector: UInt64)?
    package var request: String {
        switch moving?.direction {
        case .read?: "read, sector \(moving?.sector ?? 0)"
        case .write?: "write, sector \(moving?.sector ?? 0)"
        default: "block request"
        }
    }
    package var requestKey: UInt64 { moving.map { $0.sector &<< 2 | UInt64($0.direction.rawValue) } ?? 0 }
    package func reset() { state = State() }
    package func visitState(_ visitor: inout StateVisitor) { state.visit(&visitor) }
    package func notified(queue: Int) { startNext() }
    /// Any input is a failure.
    package func receive(_ bytes: [UInt8]) {
        if state.operation != .idle { state.transfer.fail() }
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
        guard header.count == Self.headerSize, !chain.writable.isEmpty else { return transport.fail() }
        func number(_ offset: Int, _ width: Int) -> UInt64 {
            (0..<width).reduce(0) { $0 | UInt64(header[offset + $1]) << UInt64($1 * 8) }
        }
        state.chain = chain
        let sector = number(8, 8)
        switch number(0, 4) {
        case 0: startTransfer(.read, sector, bytes: chain.writable.length - 1)
        case 1: startTransfer(.write, sector, bytes: chain.readable.length - Self.headerSize)
        case 4:
            state.operation = .flush
            state.transfer.start(.none, sector: 0, count: 0)
            medium.flush()
            transport.schedule(timer: 0, after: 100_000)
        case 8:
            var name = Array(serial.utf8.prefix(20))
            name += [UInt8](repeating: 0, count: 20 - name.count)
            let count = min(20, chain.writable.length - 1)
            transport.write(chain, Array(name.prefix(count)), at: 0) { _, _ in nil }
            finish(Result.ok, written: count)
        default: finish(Result.unsupported)
        }
    }

    private func startTransfer(_ direction: BlockTransfer.Direction, _ sector: UInt64, bytes: Int) {
        let count = UInt64(bytes / 512)
        guard bytes % 512 == 0, sector <= medium.sectorCount, count <= medium.sectorCount - sector,
            direction == .read || !medium.isReadOnly
        else { return finish(Result.error) }
        if count == 0 { return finish(Result.ok) }
        state.operation = .transfer
        state.transfer.start(direction, sector: sector, count: count)
        startPiece()
    }

    private func startPiece() {
        let chain = state.chain
        let time = state.transfer.startPiece(medium) { [transport] offset, count in
            transport!.read(chain, from: Self.headerSize + offset, count: count)
        }
        transport.schedule(timer: 0, after: time)
    }

    package func timerFired(_ timer: Int) {
        moving = (state.transfer.direction, state.transfer.sector)
        switch state.operation {
        case .idle: break
        case .flush: finish(state.transfer.hasFailed ? Result.error : Result.ok)
        case .transfer:
            let chain = state.chain
            let progress = state.transfer.endPiece(medium) { [transport] bytes, offset, origin in
                transport!.write(chain, bytes, at: offset, origin: origin)
            }
            switch progress {
            case .more: return startPiece()
            case .done:
                finish(Result.ok, written: state.transfer.direction == .read ? Int(clamping: state.transfer.done) : 0)
            case .failed: finish(Result.error)
            }
        }
        moving = nil
        startNext()
    }

    /// Gives the request back with its result in the last byte.
    private func finish(_ result: UInt8, written: Int = 0) {
        let chain = state.chain
        state.operation = .idle
        state.chain = VirtioChain()
        state.transfer.stop()
        transport.write(chain, [result], at: chain.writable.length - 1) { _, _ in nil }
        transport.push(queue: 0, chain, written: written + 1)
    }
}
