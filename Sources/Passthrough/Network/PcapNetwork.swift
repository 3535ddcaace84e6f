#if Pcap
import Boundary
import CPcap
import Glibc
import Synchronization

/// An interface of the host, by libpcap: the guest's frames are sent there, and what arrives there is the guest's to see.
///
/// Frames that the host itself sends there are not seen: they go to the wire, as the guest's do, so host and guest do not
/// reach each other by it. When the interface goes, or is taken down, the guest's cable is out until it is back.
package final class PcapNetwork: NetworkBackend {
    package struct Options: Sendable, Equatable {
        package var interface: String
        /// What of the traffic comes in (pcap-filter(7)); empty: all of it.
        package var filter = ""
        /// Frames for others come in too. A guest has an address of its own, so without this it hears broadcasts only,
        /// unless the interface has that address.
        package var isPromiscuous = true
        package init(interface: String) { self.interface = interface }
    }
    private struct Capture: @unchecked Sendable {
        /// Used by the thread to read, and by the machine's thread to send: two directions of one socket.
        var handle: OpaquePointer?
    }
    private let options: Options
    private let report: @Sendable (String) -> Void
    private let capture: Mutex<Capture>

    /// - Parameter report: is told when the interface goes and comes, from any thread.
    package init(_ options: Options, report: @escaping @Sendable (String) -> Void) throws {
        self.options = options
        self.report = report
        capture = Mutex(Capture(handle: try Self.open(options)))
    }

    package var isConnected: Bool { true }

    /// What the host cannot send at once is lost, as on any cable.
    package func send(_ bytes: [UInt8]) {
        capture.withLock { capture in
            if let handle = capture.handle { _ = pcap_inject(handle, bytes, bytes.count) }
        }
    }

    package func start(_ live: LiveBoundary, source: UInt16) {
        // The thread keeps the backend alive.
        BackgroundThread.start { [self] in
            while true {
                let reason = receive { live.push(source: source, bytes: $0) }
                live.push(source: source, bytes: [0])
                report("--net pcap:\(options.interface): \(reason); the guest's cable is out")
                let next = reopen()
                capture.withLock { $0 = next }
                live.push(source: source, bytes: [1])
                report("--net pcap:\(options.interface): the interface is back")
            }
        }
    }

    /// Reads until the interface goes; returns why, in words.
    private func receive(_ deliver: ([UInt8]) -> Void) -> String {
        let present = capture.withLock { $0 }
        guard let handle = present.handle else { return "it is not open" }
        let descriptor = pcap_get_selectable_fd(handle)
        var splitter = OffloadedFrame(mtu: Self.mtu(options.interface))
        while true {
            var header: UnsafeMutablePointer<pcap_pkthdr>?
            var data: UnsafePointer<UInt8>?
            let code = pcap_next_ex(handle, &header, &data)
            if code == 1, let header, let data {
                // Captured in part: the frame is longer than any that the card takes.
                guard header.pointee.caplen == header.pointee.len else { continue }
                splitter.take(Array(UnsafeBufferPointer(start: data, count: Int(header.pointee.caplen))), deliver)
            } else if code == 0 {
                var wait = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
                _ = poll(&wait, 1, 1000)
            } else {
                let reason = String(cString: pcap_geterr(handle))
                capture.withLock { capture in
                    pcap_close(capture.handle)
                    capture.handle = nil
                }
                return reason
            }
        }
    }

    /// Waits until the interface is back.
    private func reopen() -> Capture {
        while true {
            usleep(500_000)
            if let handle = try? Self.open(options) { return Capture(handle: handle) }
        }
    }

    private static func open(_ options: Options) throws -> OpaquePointer {
        let name = "--net pcap:\(options.interface)"
        var text = [CChar](repeating: 0, count: Int(PCAP_ERRBUF_SIZE))
        guard let handle = pcap_create(options.interface, &text) else { throw BackendError("\(name): \(string(text))") }
        var isOpen = false
        defer { if !isOpen { pcap_close(handle) } }
        pcap_set_snaplen(handle, 1 << 17)
        pcap_set_promisc(handle, options.isPromiscuous ? 1 : 0)
        // Frames come when they come, not by the bufferful.
        pcap_set_immediate_mode(handle, 1)
        pcap_set_buffer_size(handle, 8 << 20)
        let code = pcap_activate(handle)
        if code < 0 { throw BackendError("\(name): \(explain(code, handle))") }
        guard pcap_datalink(handle) == DLT_EN10MB else {
            throw BackendError("\(name): this is no Ethernet (its link type is \(pcap_datalink(handle)))")
        }
        guard pcap_setdirection(handle, PCAP_D_IN) == 0, pcap_setnonblock(handle, 1, &text) == 0 else {
            throw BackendError("\(name): \(String(cString: pcap_geterr(handle)))")
        }
        if !options.filter.isEmpty {
            var program = bpf_program()
            guard pcap_compile(handle, &program, options.filter, 1, bpf_u_int32.max) == 0 else {
                throw BackendError("\(name): filter=\(options.filter): \(String(cString: pcap_geterr(handle)))")
            }
            defer { pcap_freecode(&program) }
            guard pcap_setfilter(handle, &program) == 0 else {
                throw BackendError("\(name): filter=\(options.filter): \(String(cString: pcap_geterr(handle)))")
            }
        }
        isOpen = true
        return handle
    }

    private static func string(_ text: [CChar]) -> String {
        String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private static func explain(_ code: Int32, _ handle: OpaquePointer) -> String {
        switch code {
        case PCAP_ERROR_PERM_DENIED, PCAP_ERROR_PROMISC_PERM_DENIED:
            return """
                it takes the capability CAP_NET_RAW to use an interface of the host, which this program does not have. \
                Give it to the program alone: setcap cap_net_raw+ep /path/to/emu; or use --net user, which needs no rights
                """
        case PCAP_ERROR_NO_SUCH_DEVICE: return "there is no such interface (ip link lists them)"
        case PCAP_ERROR_IFACE_NOT_UP: return "the interface is not up"
        default:
            let more = String(cString: pcap_geterr(handle))
            return more.isEmpty ? String(cString: pcap_statustostr(code)) : more
        }
    }

    /// The interface's largest packet, without Ethernet's header; 1500 when it cannot be found out.
    private static func mtu(_ interface: String) -> Int {
        let descriptor = Glibc.open("/sys/class/net/\(interface)/mtu", O_RDONLY | O_CLOEXEC)
        if descriptor < 0 { return 1500 }
        defer { close(descriptor) }
        return readSome(descriptor).flatMap { Int(String(decoding: $0, as: UTF8.self).split(separator: "\n").first ?? "") } ?? 1500
    }
}
#endif
