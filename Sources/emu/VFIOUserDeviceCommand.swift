import ArgumentParser
import DeviceBus
import Devices
import Foundation
import MachineState
import VFIOUser

/// `emu vfio-user-device`: one of the device models as a process of its own, for --device vfio-user:SOCKET or another
/// machine that speaks the protocol.
struct VFIOUserDeviceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "vfio-user-device", abstract: "Be a PCI device for a machine in another process, by the vfio-user protocol.",
        discussion: """
            The device runs on the host's clock, and serves one machine after the other until it is ended. As an example:
              emu vfio-user-device virtio-rng /tmp/rng.sock &
              emu --boundary=devices --record rng.emurec --device vfio-user:/tmp/rng.sock --kernel …
            """)

    enum Kind: String, ExpressibleByArgument, CaseIterable {
        case virtioEntropy = "virtio-rng"
        case virtioBlock = "virtio-blk"
    }

    @Argument(help: "virtio-rng, a source of random numbers, or virtio-blk, a disk.")
    var kind: Kind
    @Argument(help: "The Unix socket to listen at.")
    var socket: String
    @Option(help: ArgumentHelp("The disk's contents, a raw image. What the guest writes goes there.", valueName: "file"))
    var image: String?
    @Flag(help: "End with the first machine.")
    var once = false

    func validate() throws {
        if (kind == .virtioBlock) != (image != nil) { throw ValidationError("--image goes with virtio-blk") }
    }

    func run() throws {
        let server = VFIOUserServer()
        let medium = try image.map { try FileMedium(path: $0) }
        server.install(device(server, medium))
        let listener: Int32
        do { listener = try VFIOUserSocket.listen(socket) } catch { throw UserError("\(socket): \(error)") }
        Message.say("\(kind.rawValue): listening at \(socket)")
        repeat {
            let connection = accept(listener, nil, nil)
            if connection < 0 { continue }
            do { try server.serve(VFIOUserSocket(connection)) } catch { Message.say("\(kind.rawValue): the machine has left") }
        } while !once
        unlink(socket)
    }

    private func device(_ server: VFIOUserServer, _ medium: FileMedium?) -> any PCIFunction {
        let function: any VirtioFunction
        var attach: (VirtioPCI) -> Void = { _ in }
        if let medium {
            let block = VirtioBlock(medium: medium, serial: "vfio-user")
            medium.failed = { [unowned block] in block.receive([]) }
            attach = { block.transport = $0 }
            function = block
        } else {
            let entropy = VirtioEntropy(channel: RandomChannel())
            attach = { entropy.transport = $0 }
            function = entropy
        }
        let device = VirtioPCI(
            name: kind.rawValue, function: function, irq: IRQLine(server, 0), messages: server, memory: server,
            scheduler: server.scheduler)
        attach(device)
        return device
    }
}

/// The host's random numbers, for a device that no machine records.
private final class RandomChannel: HostChannel {
    func send(_ bytes: [UInt8]) {}
    func ask(_ question: UInt32) -> UInt64 { UInt64.random(in: .min ... .max) }
}

/// A raw image, written in place.
private final class FileMedium: BlockMedium {
    let sectorCount: UInt64
    let isReadOnly: Bool
    private let descriptor: Int32
    /// Told of failures of the file.
    var failed: () -> Void = {}

    init(path: String) throws {
        var opened = open(path, O_RDWR | O_CLOEXEC)
        isReadOnly = opened < 0
        if opened < 0 { opened = open(path, O_RDONLY | O_CLOEXEC) }
        guard opened >= 0 else { throw UserError("--image \(path): \(String(cString: strerror(errno)))") }
        descriptor = opened
        let size = lseek(opened, 0, SEEK_END)
        guard size >= 512 else { throw UserError("--image \(path): it has less than one sector") }
        sectorCount = UInt64(size) / 512
    }

    func read(sector: UInt64, into buffer: UnsafeMutableRawBufferPointer) {
        if pread(descriptor, buffer.baseAddress, buffer.count, off_t(sector * 512)) == buffer.count { return }
        buffer.initializeMemory(as: UInt8.self, repeating: 0)
        failed()
    }
    func prepare(sector: UInt64, from buffer: UnsafeRawBufferPointer) {}
    func write(sector: UInt64, from buffer: UnsafeRawBufferPointer) {
        if pwrite(descriptor, buffer.baseAddress, buffer.count, off_t(sector * 512)) != buffer.count { failed() }
    }
    func flush() { if fdatasync(descriptor) != 0 { failed() } }
    func origin(sector: UInt64, count: Int) -> ImageOrigin? { nil }
}
