import Boundary
import DeviceBus
import Devices
import Glibc
import MachineState
import Synchronization
import VFIOUser

/// What device threads need of the machine.
package struct DeviceThreading: Sendable {
    /// Physical addresses of RAM.
    package var ranges: [Range<UInt64>]
    /// Asks a channel's backend; from any thread.
    package var ask: @Sendable (_ channel: UInt16, _ question: UInt32) -> UInt64
    /// Gets sentences for the user.
    package var report: @Sendable (String) -> Void

    package init(
        memoryMap: MemoryMap, ask: @escaping @Sendable (UInt16, UInt32) -> UInt64, report: @escaping @Sendable (String) -> Void
    ) {
        ranges = memoryMap.ranges
        self.ask = ask
        self.report = report
    }
}

/// A device model on a thread of its own, which has the host's clock. It and the machine talk as two processes would, by the
/// vfio-user protocol; inputs and outputs of its channels go beside that.
final class DeviceThread: Sendable {
    private struct Shared {
        /// For the device, by the number of the receiver.
        var inputs: [(receiver: Int, bytes: [UInt8])] = []
        var outputs: [(channel: Int, bytes: [UInt8])] = []
        /// Of a USB controller's transfers, for a capture.
        var records: [USBRecord] = []
        /// Somebody wants to see transfers.
        var isTapWanted = false
        var isEnded = false
    }
    /// What only the device's thread has after the start.
    private final class Parts {
        let server = VFIOUserServer()
        var receivers: [any HostReceiver] = []
        var controller: (any USBController)?
    }
    private let shared = Mutex(Shared())
    private nonisolated(unsafe) let parts = Parts()
    /// What only the machine's thread has.
    private final class NearParts {
        var deliver: (USBRecord) -> Void = { _ in }
    }
    private nonisolated(unsafe) let nearParts = NearParts()
    private let threading: DeviceThreading
    private let arrived: SignalDescriptor
    private let sent: SignalDescriptor

    init(_ threading: DeviceThreading) throws {
        self.threading = threading
        arrived = try SignalDescriptor()
        sent = try SignalDescriptor()
    }

    /// The device's surroundings.
    var server: VFIOUserServer { parts.server }

    /// Starts the thread, with a device that has been made in its surroundings. Returns the way to it.
    /// - Parameter outlets: the real channels, in the order of `channel`'s numbers.
    func start(_ function: any PCIFunction, outlets: [any HostChannel]) throws -> VFIOUserClient {
        let (near, far) = try VFIOUserSocket.pair()
        server.install(function)
        server.inputDescriptor = arrived.descriptor
        server.takeInput = { [unowned self] in takeInputs() }
        nonisolated(unsafe) let end = far
        let name = function.name
        BackgroundThread.start { [self] in
            do {
                try parts.server.serve(end)
            } catch {
                threading.report("the thread of \(name) ends: \(error)")
            }
            shared.withLock { $0.isEnded = true }
        }
        let client = try VFIOUserClient(near, ranges: threading.ranges, report: threading.report)
        client.listen(sent.descriptor) { [sent, self] in
            sent.clear()
            let (outputs, records) = shared.withLock { shared in
                defer { (shared.outputs, shared.records) = ([], []) }
                return (shared.outputs, shared.records)
            }
            for output in outputs where outlets.indices.contains(output.channel) { outlets[output.channel].send(output.bytes) }
            for record in records { nearParts.deliver(record) }
        }
        return client
    }

    /// Waits until the thread has gone, which it does when its client is closed.
    func finish() {
        for _ in 0..<10_000 {
            if shared.withLock({ $0.isEnded }) { return }
            usleep(1000)
        }
    }

    /// Lets `deliver` see the transfers of the controller that has this thread, on the machine's thread. Before the run.
    func tap(_ controller: any USBController, _ deliver: @escaping (USBRecord) -> Void) {
        nearParts.deliver = deliver
        parts.controller = controller
        shared.withLock { $0.isTapWanted = true }
        arrived.signal()
    }

    private func takeInputs() {
        arrived.clear()
        let (inputs, isTapWanted) = shared.withLock { shared in
            defer { (shared.inputs, shared.isTapWanted) = ([], false) }
            return (shared.inputs, shared.isTapWanted)
        }
        if isTapWanted {
            parts.controller?.tap = USBTap(bus: 1, scheduler: parts.server.scheduler) { [unowned self] record, _ in
                shared.withLock { $0.records.append(record) }
                sent.signal()
            }
        }
        for input in inputs where parts.receivers.indices.contains(input.receiver) { parts.receivers[input.receiver].receive(input.bytes) }
    }

    /// The device's end of channel number `number`.
    /// - Parameter channel: whom it asks.
    func channel(_ number: Int, _ channel: Channel) -> any HostChannel { ThreadChannel(self, number, channel) }

    /// Lets the machine's thread hand input to something on this thread. Before the start.
    func receiver(_ receiver: any HostReceiver) -> any HostReceiver {
        parts.receivers.append(receiver)
        return ThreadReceiver(self, parts.receivers.count - 1)
    }

    private final class ThreadChannel: HostChannel {
        private let thread: DeviceThread
        private let number: Int
        private let channel: Channel
        init(_ thread: DeviceThread, _ number: Int, _ channel: Channel) {
            self.thread = thread
            self.number = number
            self.channel = channel
        }
        func send(_ bytes: [UInt8]) {
            thread.shared.withLock { $0.outputs.append((number, bytes)) }
            thread.sent.signal()
        }
        func ask(_ question: UInt32) -> UInt64 { thread.threading.ask(channel.rawValue, question) }
    }

    private final class ThreadReceiver: HostReceiver {
        private let thread: DeviceThread
        private let number: Int
        init(_ thread: DeviceThread, _ number: Int) {
            self.thread = thread
            self.number = number
        }
        func receive(_ bytes: [UInt8]) {
            thread.shared.withLock { $0.inputs.append((number, bytes)) }
            thread.arrived.signal()
        }
    }
}
