import Boundary

/// What is at the other end of a network card's cable. What it is sent are Ethernet frames, one at a time.
package protocol NetworkBackend: HostSink {
    /// The state of the link at power-on.
    var isConnected: Bool { get }
    /// Begins to deliver to the card at channel `source`: once, before the run.
    func start(_ live: LiveBoundary, source: UInt16)
}

extension NetworkBackend {
    package func ask(_ question: UInt32) -> UInt64 { 0 }
}

/// Nothing: the cable is not in.
package final class NoNetwork: NetworkBackend {
    package init() {}
    package var isConnected: Bool { false }
    package func send(_ bytes: [UInt8]) {}
    package func start(_ live: LiveBoundary, source: UInt16) {}
}

/// Traffic from a capture: its frames come in at the times they were captured at. What the guest sends goes nowhere.
package final class CaptureNetwork: NetworkBackend {
    private let file: PcapFile
    private let start: UInt64

    /// - Parameters:
    ///   - path: a file in the classic pcap or the pcapng format, of Ethernet.
    ///   - start: virtual time of the first frame, ns.
    package init(path: String, start: UInt64) throws {
        file = try PcapFile(path: path)
        self.start = start
    }

    package var isConnected: Bool { true }
    package func send(_ bytes: [UInt8]) {}
    package func start(_ live: LiveBoundary, source: UInt16) {
        let first = file.firstTime
        live.push(source: source) { [file, start] in
            while let frame = file.next() {
                // A short frame would mean something else to the card; captures of it are damaged anyway.
                if frame.bytes.count >= 14 { return (frame.bytes, start &+ (frame.time > first ? frame.time - first : 0)) }
            }
            return nil
        }
    }
}
