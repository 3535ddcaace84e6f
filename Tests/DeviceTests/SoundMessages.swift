import DeviceBus

/// What a sound card says to its channel (see `AC97`).
final class SoundMessages: HostChannel {
    var sent: [[UInt8]] = []
    func send(_ bytes: [UInt8]) { sent.append(bytes) }
    func ask(_ question: UInt32) -> UInt64 { 0 }
    /// Samples that have gone out.
    var samples: [UInt8] { sent.filter { $0[0] == 1 }.flatMap { $0[5...] } }
}
