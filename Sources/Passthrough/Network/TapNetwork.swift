import Boundary
import Glibc

/// An interface of the host that is a tap (Linux, Documentation/networking/tuntap): what the guest sends arrives there,
/// and what the host sends there arrives in the guest. The host's kernel hands over whole frames of the interface's size.
package final class TapNetwork: NetworkBackend {
    private let name: String
    private let descriptor: Int32
    private let report: @Sendable (String) -> Void

    /// An interface's name has 15 bytes at most.
    package static func isName(_ name: String) -> Bool {
        (1...15).contains(name.utf8.count) && !name.contains("/") && !name.contains(" ")
    }

    /// - Parameters:
    ///   - name: of the interface. It is made if it is not there, and then goes with the program.
    ///   - report: is told when the interface goes, from any thread.
    package init(name: String, report: @escaping @Sendable (String) -> Void) throws {
        self.name = name
        self.report = report
        let device = "/dev/net/tun"
        descriptor = open(device, O_RDWR | O_CLOEXEC | O_NONBLOCK)
        if descriptor < 0 {
            let problem = BackendError.system("--net tap:\(name): \(device)").description
            throw BackendError(
                errno == EACCES
                    ? problem + ": this host lets its administrator alone open it; chmod 0666 \(device) is usual, and harmless: "
                        + "interfaces still take CAP_NET_ADMIN to make, or to be made for you"
                    : problem)
        }
        // struct ifreq: the name in 16 bytes, then flags: IFF_TAP (2), IFF_NO_PI (0x1000).
        var request = [UInt8](repeating: 0, count: 40)
        for (index, byte) in name.utf8.prefix(15).enumerated() { request[index] = byte }
        (request[16], request[17]) = (0x02, 0x10)
        // TUNSETIFF
        let code = request.withUnsafeMutableBytes { ioctl(descriptor, UInt(0x4004_54CA), $0.baseAddress!) }
        if code == 0 { return }
        let error = errno
        close(descriptor)
        if error == EPERM {
            throw BackendError(
                """
                --net tap:\(name): it takes the capability CAP_NET_ADMIN to make this interface. Whoever has it can make it \
                for you beforehand: ip tuntap add dev \(name) mode tap user $USER; emu needs no rights then
                """)
        }
        throw BackendError.system("--net tap:\(name)")
    }
    deinit { close(descriptor) }

    package var isConnected: Bool { true }

    /// What does not fit into the host's queue is lost, as on any cable.
    package func send(_ bytes: [UInt8]) { _ = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) } }

    package func start(_ live: LiveBoundary, source: UInt16) {
        // The thread keeps the backend alive.
        BackgroundThread.start { [self] in
            var buffer = [UInt8](repeating: 0, count: 1 << 16)
            while true {
                let count = buffer.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
                if count > 1 {
                    live.push(source: source, bytes: Array(buffer[..<count]))
                } else if count < 0, errno == EAGAIN || errno == EINTR || errno == EIO {
                    // EIO: the interface is not up, and may be later.
                    var wait = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
                    let isDown = errno == EIO
                    if poll(&wait, 1, 1000) > 0, isDown || Int32(wait.revents) & POLLIN == 0 { usleep(100_000) }
                } else {
                    report("--net tap:\(name): the interface is gone; the guest's cable is out")
                    return live.push(source: source, bytes: [0])
                }
            }
        }
    }
}
