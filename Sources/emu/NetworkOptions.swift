import ArgumentParser
import Boundary
import Devices
import Machine
import Passthrough
import Replay

/// Options of `run` about network cards.
struct NetworkOptions: ParsableArguments {
    @Option(help: ArgumentHelp(
        "A network card, and what its cable leads to: user[,hostfwd=tcp:[ADDRESS]:PORT-[ADDRESS]:PORT…][,tftp=DIRECTORY][,bootfile=NAME][,ipv6=off] (NAT, DHCP, DNS, TFTP; in builds with --traits Slirp), pcap:INTERFACE[,filter=EXPRESSION][,promisc=off] (an interface of the host; in builds with --traits Pcap), tap:NAME (a tap of the host), pcapfile:PATH[,start=SECONDS] (a capture's frames), none (not plugged in). More: ,model=virtio, ,model=e1000 or ,model=rtl8139; ,mac=ADDRESS; ,dump=FILE (a pcapng file of what passes). Up to four times.",
        valueName: "backend"))
    var net: [NetworkOption] = []

    func validate() throws {
        if net.count > [NetworkCardSettings].most {
            throw ValidationError("--net can be given \([NetworkCardSettings].most) times at most")
        }
    }

    var cards: [NetworkCardSettings] {
        net.enumerated().map { number, option in
            NetworkCardSettings(
                model: option.model, address: option.address ?? EthernetAddress(card: UInt8(truncatingIfNeeded: number)))
        }
    }
}

/// `--net BACKEND[,NAME=VALUE…]`.
struct NetworkOption: ExpressibleByArgument, Equatable {
    enum Kind: Equatable {
        case none
        case user(UserNetworkOptions)
        /// A capture, whose first frame comes at this virtual time, ns.
        case capture(String, start: UInt64)
        /// An interface of the host, with a filter.
        case interface(String, filter: String, isPromiscuous: Bool)
        case tap(String)
    }
    var kind: Kind
    var model = NetworkCardSettings.Model.virtio
    var address: EthernetAddress?
    var dump: String?

    init?(argument: String) {
        let parts = argument.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        var user = UserNetworkOptions()
        var start: UInt64 = 0
        var filter = ""
        var isPromiscuous = true
        for part in parts.dropFirst() {
            guard let equals = part.firstIndex(of: "=") else { return nil }
            let value = String(part[part.index(after: equals)...])
            switch String(part[..<equals]) {
            case "model":
                guard let known = NetworkCardSettings.Model(rawValue: value) else { return nil }
                model = known
            case "mac":
                guard let known = EthernetAddress(value) else { return nil }
                address = known
            case "dump" where !value.isEmpty: dump = value
            case "hostfwd" where parts[0] == "user":
                guard let forward = PortForward(value) else { return nil }
                user.forwards.append(forward)
            case "tftp" where parts[0] == "user" && !value.isEmpty: user.directory = value
            case "bootfile" where parts[0] == "user" && !value.isEmpty: user.bootFile = value
            case "ipv6" where parts[0] == "user" && (value == "on" || value == "off"): user.hasIPv6 = value == "on"
            case "filter" where parts[0].hasPrefix("pcap:"): filter = value
            case "promisc" where parts[0].hasPrefix("pcap:") && (value == "on" || value == "off"): isPromiscuous = value == "on"
            case "start" where parts[0].hasPrefix("pcapfile:"):
                guard let seconds = Double(value), seconds >= 0, seconds < 1e9 else { return nil }
                start = UInt64(seconds * 1e9)
            default: return nil
            }
        }
        switch parts[0] {
        case "none": kind = .none
        case "user": kind = .user(user)
        default:
            guard let colon = parts[0].firstIndex(of: ":") else { return nil }
            let place = String(parts[0][parts[0].index(after: colon)...])
            switch String(parts[0][..<colon]) {
            case "pcapfile" where !place.isEmpty: kind = .capture(place, start: start)
            case "pcap" where TapNetwork.isName(place):
                kind = .interface(place, filter: filter, isPromiscuous: isPromiscuous)
            case "tap" where TapNetwork.isName(place): kind = .tap(place)
            default: return nil
            }
        }
    }

    func backend() throws -> any NetworkBackend {
        switch kind {
        case .none: return NoNetwork()
        case .capture(let path, let start): return try CaptureNetwork(path: path, start: start)
        case .tap(let name): return try TapNetwork(name: name) { Message.say($0) }
        case .interface(let name, let filter, let isPromiscuous):
            #if Pcap
            var options = PcapNetwork.Options(interface: name)
            options.filter = filter
            options.isPromiscuous = isPromiscuous
            return try PcapNetwork(options) { Message.say($0) }
            #else
            _ = (name, filter, isPromiscuous)
            throw UserError("--net pcap: this program was built without it: swift build --traits Pcap (needs libpcap-dev)")
            #endif
        case .user(let options):
            #if Slirp
            return try UserNetwork(options)
            #else
            _ = options
            throw UserError("--net user: this program was built without it: swift build --traits Slirp (needs libslirp-dev)")
            #endif
        }
    }
}

/// Joins the cards' channels and what their cables lead to.
final class NetworkConnections {
    private let live: LiveBoundary
    private var backends: [(source: UInt16, backend: any NetworkBackend)] = []

    init(_ options: [NetworkOption], _ live: LiveBoundary) throws {
        self.live = live
        for (option, channel) in zip(options, Channel.network) {
            let backend = try option.backend()
            backends.append((channel.rawValue, backend))
            live.register(source: channel.rawValue, name: channel.name, sink: backend)
            guard let path = option.dump else { continue }
            let file = try PcapngFile(path: path, interfaces: [channel.name])
            live.watch(source: channel.rawValue) { isOut, bytes, time in
                if bytes.count > 1 { file.append(bytes, interface: 0, isOut: isOut, time: time) }
            }
            dumps.append(file)
        }
    }
    private var dumps: [PcapngFile] = []

    /// The log of a recording at the devices boundary gets a note of every frame, for `emu export`.
    func note(in recorder: RecordingBoundary) {
        for (source, _) in backends {
            let target = Recorder(boundary: recorder)
            live.watch(source: source) { isOut, bytes, time in
                if bytes.count > 1 { target.boundary.note(frame: bytes, source: source, isOut: isOut, time: time) }
            }
        }
    }

    /// Taps are called on the machine's thread, as the recorder is.
    private struct Recorder: @unchecked Sendable { let boundary: RecordingBoundary }

    func start() {
        for (source, backend) in backends {
            if !backend.isConnected { live.push(source: source, bytes: [0]) }
            backend.start(live, source: source)
        }
    }

    /// After the run: the dumps are complete.
    func finish() throws {
        for file in dumps where !file.flush() { throw UserError("--net …,dump=: the file cannot be written") }
    }
}
