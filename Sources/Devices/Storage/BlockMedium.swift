import MachineState

/// What a drive reads and writes: sectors of 512 bytes. The inside's part of a disk; a failure of the host's file is
/// told apart from it by the drive's `HostReceiver`, so that a replay sees the same failures.
///
/// Sector ranges are checked by the caller: `sector + count <= sectorCount`.
package protocol BlockMedium: AnyObject {
    /// The size in sectors.
    var sectorCount: UInt64 { get }
    /// Writes are refused.
    var isReadOnly: Bool { get }
    /// Fills `buffer` (a multiple of 512 bytes) from `sector` on. What the host cannot read is zero; the medium then
    /// reports the failure as an input of its drive.
    func read(sector: UInt64, into buffer: UnsafeMutableRawBufferPointer)
    /// Announces a write: the host makes room for it. A failure is reported as an input of the drive before anything
    /// else happens, and then `write` is not called.
    func prepare(sector: UInt64, from buffer: UnsafeRawBufferPointer)
    /// The guest's view changes.
    func write(sector: UInt64, from buffer: UnsafeRawBufferPointer)
    /// All that was written is to be kept. A failure is reported as an input of the drive.
    func flush()
    /// The place of the data in a disk image, if all of the range is as it is there.
    func origin(sector: UInt64, count: Int) -> ImageOrigin?
}
