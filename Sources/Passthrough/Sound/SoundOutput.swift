/// What hears the guest's sound. Called on the machine's thread.
package protocol SoundOutput: AnyObject, Sendable {
    /// Takes frames of two samples of 16 bits each, at `rate` frames a second. Must not block for long.
    func play(_ frames: ArraySlice<UInt8>, rate: UInt32)
    /// After the run: what is on its way arrives. False: it did not.
    func finish() -> Bool
}

extension WAVWriter: SoundOutput {
    package func play(_ frames: ArraySlice<UInt8>, rate: UInt32) { append(frames, rate: rate) }
}
