import Boundary
import DeviceBus
import MachineState

/// The devices' ends of all channels, leading to one door.
final class ChannelTable {
    unowned var door: any HostBoundary
    /// The present moment, asked for with every message.
    var now: () -> Moment = { Moment(position: 0, time: 0) }
    /// Gets what the door throws: a device's call cannot throw.
    var park: (Divergence) -> Void = { _ in }
    private var ends: [ChannelEnd] = []

    init(_ door: any HostBoundary) { self.door = door }

    func channel(_ channel: Channel) -> any HostChannel {
        let end = ChannelEnd(self, channel)
        ends.append(end)
        return end
    }

    /// Contents of a disk image that are not inside.
    func askDisk(_ number: UInt8, _ offset: UInt64, _ buffer: UnsafeMutableRawBufferPointer) {
        do { try door.askDisk(number, offset: offset, into: buffer, at: now()) } catch {
            park(error)
            buffer.initializeMemory(as: UInt8.self, repeating: 0)
        }
    }

    fileprivate func send(_ channel: Channel, _ bytes: [UInt8]) {
        do { try door.send(.host(source: channel.rawValue, bytes: bytes), at: now()) } catch { park(error) }
    }
    fileprivate func ask(_ channel: Channel, _ question: UInt32) -> UInt64 {
        do { return try door.ask(.host(source: channel.rawValue, question: question), at: now()) } catch {
            park(error)
            return 0
        }
    }
}

private final class ChannelEnd: HostChannel {
    private let table: ChannelTable
    private let channel: Channel
    init(_ table: ChannelTable, _ channel: Channel) {
        self.table = table
        self.channel = channel
    }
    func send(_ bytes: [UInt8]) { table.send(channel, bytes) }
    func ask(_ question: UInt32) -> UInt64 { table.ask(channel, question) }
}
