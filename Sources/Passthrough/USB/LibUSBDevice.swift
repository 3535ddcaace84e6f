#if USB
import Boundary
import CUSB
import Glibc
import Synchronization

/// A USB device of the host, by libusb: transfers are carried out on a thread of the library's own.
///
/// The guest's drivers choose configurations and alternate settings; libusb must be told of these, because the host's kernel
/// keeps track. What the host's own drivers had of the device they get back at the end of the program.
package final class LibUSBDevice: USBHostBackend {
    /// A device on the host's buses.
    package struct Listing: Sendable {
        package var bus: UInt8
        package var address: UInt8
        package var vendor: UInt16
        package var product: UInt16
        /// As in `USBHostEvent.attached`.
        package var speed: UInt8
        /// Of its interfaces or, if it is given there, the device's.
        package var classes: [UInt8]
        /// Manufacturer and product; empty without the right to ask the device.
        package var text: String
        /// Why it cannot be opened; nil if it can.
        package var problem: String?
    }

    private struct Transfer: @unchecked Sendable {
        var number: UInt32
        var transfer: UnsafeMutablePointer<libusb_transfer>
    }
    private struct Shared {
        var transfers: [Transfer] = []
        var isGone = false
        var tell: @Sendable (USBHostEvent) -> Void = { _ in }
        var claimed: [Int32] = []
    }
    /// What the library's pointers are behind.
    private struct Handles: @unchecked Sendable {
        let context: OpaquePointer?
        let handle: OpaquePointer?
    }
    /// What a completion needs.
    private final class Ticket {
        let owner: LibUSBDevice
        let number: UInt32
        let buffer: UnsafeMutablePointer<UInt8>
        init(owner: LibUSBDevice, number: UInt32, buffer: UnsafeMutablePointer<UInt8>) {
            self.owner = owner
            self.number = number
            self.buffer = buffer
        }
    }

    private let handles: Handles
    private let shared = Mutex(Shared())
    private let report: @Sendable (String) -> Void
    private let name: String
    private let speed: UInt8

    /// - Parameter report: is told when the device goes, from any thread.
    package init(_ place: USBHostPlace, report: @escaping @Sendable (String) -> Void) throws {
        let option = "--usb host:\(place.text)"
        let context = try Self.makeContext(option)
        var handle: OpaquePointer?
        var speed: UInt8 = 3
        var isFound = false
        var code: Int32 = 0
        Self.forEach(context) { device, descriptor in
            let fits =
                switch place {
                case .product(let vendor, let product): descriptor.idVendor == vendor && descriptor.idProduct == product
                case .address(let bus, let address):
                    libusb_get_bus_number(device) == bus && libusb_get_device_address(device) == address
                }
            if !fits || isFound { return }
            isFound = true
            speed = Self.speed(device)
            code = libusb_open(device, &handle)
        }
        guard isFound else { throw BackendError("\(option): there is no such device (emu devices lists them)") }
        guard code == 0, let handle else { throw BackendError("\(option): \(Self.explain(code))") }
        _ = libusb_set_auto_detach_kernel_driver(handle, 1)
        handles = Handles(context: context, handle: handle)
        self.report = report
        self.speed = speed
        name = option
        claimInterfaces()
    }

    package static func list() throws -> [Listing] {
        let context = try makeContext("emu devices")
        defer { libusb_exit(context) }
        var found: [Listing] = []
        forEach(context) { device, descriptor in
            var listing = Listing(
                bus: libusb_get_bus_number(device), address: libusb_get_device_address(device), vendor: descriptor.idVendor,
                product: descriptor.idProduct, speed: speed(device), classes: [], text: "", problem: nil)
            var configuration: UnsafeMutablePointer<libusb_config_descriptor>?
            if descriptor.bDeviceClass != 0 { listing.classes = [descriptor.bDeviceClass] }
            if libusb_get_config_descriptor(device, 0, &configuration) == 0, let configuration {
                if listing.classes.isEmpty {
                    for index in 0..<Int(configuration.pointee.bNumInterfaces) {
                        let interface = configuration.pointee.interface[index]
                        if interface.num_altsetting > 0 { listing.classes.append(interface.altsetting[0].bInterfaceClass) }
                    }
                }
                libusb_free_config_descriptor(configuration)
            }
            var handle: OpaquePointer?
            let code = libusb_open(device, &handle)
            if code == 0, let handle {
                listing.text = [descriptor.iManufacturer, descriptor.iProduct].compactMap { string(handle, $0) }.joined(separator: " ")
                libusb_close(handle)
            } else {
                listing.problem = explain(code)
            }
            found.append(listing)
        }
        return found.sorted { ($0.bus, $0.address) < ($1.bus, $1.address) }
    }

    private static func string(_ handle: OpaquePointer, _ index: UInt8) -> String? {
        if index == 0 { return nil }
        var bytes = [UInt8](repeating: 0, count: 256)
        let count = libusb_get_string_descriptor_ascii(handle, index, &bytes, 255)
        return count > 0 ? String(decoding: bytes[..<Int(count)], as: UTF8.self) : nil
    }

    private static func makeContext(_ option: String) throws -> OpaquePointer? {
        var context: OpaquePointer?
        let code = libusb_init(&context)
        if code != 0 { throw BackendError("\(option): libusb: \(String(cString: libusb_strerror(code)))") }
        return context
    }

    private static func forEach(_ context: OpaquePointer?, _ body: (OpaquePointer, libusb_device_descriptor) -> Void) {
        var list: UnsafeMutablePointer<OpaquePointer?>?
        let count = libusb_get_device_list(context, &list)
        guard count >= 0, let list else { return }
        for index in 0..<Int(count) {
            var descriptor = libusb_device_descriptor()
            if let device = list[index], libusb_get_device_descriptor(device, &descriptor) == 0 { body(device, descriptor) }
        }
        libusb_free_device_list(list, 1)
    }

    private static func speed(_ device: OpaquePointer) -> UInt8 {
        switch libusb_get_device_speed(device) {
        case 1: 2
        case 2: 1
        case 4, 5: 4
        default: 3
        }
    }

    private static func explain(_ code: Int32) -> String {
        switch code {
        case -3:
            """
            this program may not open it. Let your user: a rule of udev such as SUBSYSTEM=="usb", ATTR{idVendor}=="….", \
            MODE="0660", GROUP="plugdev", or once: setfacl -m u:$USER:rw /dev/bus/usb/BUS/ADDRESS
            """
        default: String(cString: libusb_strerror(code))
        }
    }

    // MARK: The device

    package func start(_ tell: @escaping @Sendable (USBHostEvent) -> Void) {
        shared.withLock { $0.tell = tell }
        tell(.attached(speed: speed))
        BackgroundThread.start { [self] in
            var looked = time(nil)
            while true {
                var wait = timeval(tv_sec: 1, tv_usec: 0)
                let code = libusb_handle_events_timeout(handles.context, &wait)
                if code != 0, code != -10 { usleep(10_000) }
                // A device that nobody uses goes without a word.
                let now = time(nil)
                var ignored: Int32 = 0
                if now != looked, libusb_get_configuration(handles.handle, &ignored) == -4 { gone() }
                looked = now
                if shared.withLock({ $0.isGone && $0.transfers.isEmpty }) { return }
            }
        }
    }

    private func gone() {
        let isNew = shared.withLock { shared in
            defer { shared.isGone = true }
            return !shared.isGone
        }
        guard isNew else { return }
        shared.withLock { $0.tell }(.detached)
        report("\(name): the device is gone; the guest sees it unplugged")
    }

    private func tell(_ event: USBHostEvent) { shared.withLock { $0.tell }(event) }

    /// Takes all interfaces of the present configuration from the host's drivers.
    private func claimInterfaces() {
        var configuration: UnsafeMutablePointer<libusb_config_descriptor>?
        guard libusb_get_active_config_descriptor(libusb_get_device(handles.handle), &configuration) == 0, let configuration else { return }
        defer { libusb_free_config_descriptor(configuration) }
        for index in 0..<Int(configuration.pointee.bNumInterfaces) {
            let interface = configuration.pointee.interface[index]
            guard interface.num_altsetting > 0 else { continue }
            let number = Int32(interface.altsetting[0].bInterfaceNumber)
            if libusb_claim_interface(handles.handle, number) == 0 { shared.withLock { $0.claimed.append(number) } }
        }
    }
    private func releaseInterfaces() {
        let claimed = shared.withLock { shared in
            defer { shared.claimed = [] }
            return shared.claimed
        }
        for number in claimed { _ = libusb_release_interface(handles.handle, number) }
    }

    package func submit(_ request: USBHostRequest) {
        if shared.withLock({ $0.isGone }) { return tell(.failed(number: request.number)) }
        if request.kind == 0, request.setup.count == 8, configures(request) { return }
        // libusb has the setup packet before a control transfer's data.
        let head = request.kind == 0 ? 8 : 0
        let isIn = request.endpoint & 0x80 != 0
        let count = isIn ? max(request.length, 0) : request.data.count
        let buffer = UnsafeMutablePointer<UInt8>.allocate(capacity: max(head + count, 1))
        buffer.initialize(repeating: 0, count: max(head + count, 1))
        for (index, byte) in ((head > 0 ? request.setup : []) + (isIn ? [] : request.data)).enumerated() { buffer[index] = byte }
        guard let transfer = libusb_alloc_transfer(request.kind == 1 ? 1 : 0) else {
            buffer.deallocate()
            return tell(.failed(number: request.number))
        }
        let ticket = Unmanaged.passRetained(Ticket(owner: self, number: request.number, buffer: buffer))
        transfer.pointee.dev_handle = handles.handle
        transfer.pointee.endpoint = head > 0 ? 0 : request.endpoint
        transfer.pointee.type = request.kind
        transfer.pointee.timeout = 0
        transfer.pointee.buffer = buffer
        transfer.pointee.length = Int32(clamping: head + count)
        transfer.pointee.user_data = ticket.toOpaque()
        transfer.pointee.callback = { LibUSBDevice.completed($0) }
        if request.kind == 1 {
            transfer.pointee.num_iso_packets = 1
            libusb_set_iso_packet_lengths(transfer, UInt32(clamping: count))
        }
        shared.withLock { $0.transfers.append(Transfer(number: request.number, transfer: transfer)) }
        let code = libusb_submit_transfer(transfer)
        if code == 0 { return }
        shared.withLock { $0.transfers.removeAll { $0.transfer == transfer } }
        ticket.release()
        buffer.deallocate()
        libusb_free_transfer(transfer)
        if code == -4 { gone() }
        tell(.failed(number: request.number))
    }

    /// Requests that the host's kernel must know of. True: it was one, and is done.
    private func configures(_ request: USBHostRequest) -> Bool {
        let setup = request.setup
        let code: Int32
        switch (setup[0], setup[1]) {
        case (0x00, 9):
            var present: Int32 = -1
            _ = libusb_get_configuration(handles.handle, &present)
            if present == Int32(setup[2]) {
                // The host has it already. A device starts anew, which here means its alternate settings.
                for number in shared.withLock({ $0.claimed }) { _ = libusb_set_interface_alt_setting(handles.handle, number, 0) }
                code = 0
            } else {
                releaseInterfaces()
                code = libusb_set_configuration(handles.handle, setup[2] == 0 ? -1 : Int32(setup[2]))
                claimInterfaces()
            }
        case (0x01, 11): code = libusb_set_interface_alt_setting(handles.handle, Int32(setup[4]), Int32(setup[2]))
        case (0x02, 1) where setup[2] == 0: code = libusb_clear_halt(handles.handle, setup[4])
        default: return false
        }
        if code == -4 { gone() }
        tell(code == 0 ? .done(number: request.number, data: []) : code == -9 ? .stalled(number: request.number) : .failed(number: request.number))
        return true
    }

    private static func completed(_ transfer: UnsafeMutablePointer<libusb_transfer>?) {
        guard let transfer, let data = transfer.pointee.user_data else { return }
        let ticket = Unmanaged<Ticket>.fromOpaque(data).takeRetainedValue()
        let owner = ticket.owner
        let isWanted = owner.shared.withLock { shared -> Bool in
            guard let index = shared.transfers.firstIndex(where: { $0.transfer == transfer }) else { return false }
            return shared.transfers.remove(at: index).number == ticket.number
        }
        let head = transfer.pointee.type == 0 ? 8 : 0
        let isIn = head > 0 ? ticket.buffer[0] & 0x80 != 0 : transfer.pointee.endpoint & 0x80 != 0
        var count = Int(transfer.pointee.actual_length)
        var status = transfer.pointee.status.rawValue
        if transfer.pointee.type == 1 {
            let packet = libusb_get_iso_packet(transfer)
            count = packet.0
            if status == 0 { status = packet.1 }
        }
        if isWanted {
            switch status {
            case 0:
                let bytes = isIn ? Array(UnsafeBufferPointer(start: ticket.buffer + head, count: max(count, 0))) : []
                owner.tell(.done(number: ticket.number, data: bytes))
            case 4: owner.tell(.stalled(number: ticket.number))
            case 5:
                owner.gone()
                owner.tell(.failed(number: ticket.number))
            default: owner.tell(.failed(number: ticket.number))
            }
        }
        ticket.buffer.deallocate()
        libusb_free_transfer(transfer)
    }

    private static func libusb_get_iso_packet(_ transfer: UnsafeMutablePointer<libusb_transfer>) -> (Int, UInt32) {
        // The packets are behind the structure: one here.
        let place = UnsafeMutableRawPointer(transfer) + MemoryLayout<libusb_transfer>.offset(of: \.num_iso_packets)! + 4
        let aligned = place.alignedUp(for: libusb_iso_packet_descriptor.self)
        let packet = aligned.load(as: libusb_iso_packet_descriptor.self)
        return (Int(packet.actual_length), packet.status.rawValue)
    }

    package func cancel(_ number: UInt32) {
        let transfer = shared.withLock { shared in
            shared.transfers.firstIndex { $0.number == number }.map { index -> UnsafeMutablePointer<libusb_transfer> in
                // Still known, so that the thread stays; under a number that nobody waits for.
                shared.transfers[index].number = 0
                return shared.transfers[index].transfer
            }
        }
        if let transfer { _ = libusb_cancel_transfer(transfer) }
    }

    package func reset() {
        let code = libusb_reset_device(handles.handle)
        if code == -4 || code == -5 { gone() }
    }
}
#endif
