/// Where a disk image's bytes are on the host.
package protocol DiskSource: AnyObject {
    /// Bytes.
    var size: UInt64 { get }
    /// Fills `buffer` from `offset` on, which lies within `size`. A reason when it cannot: what could not be read is zero then.
    func read(_ offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) -> String?
    /// Writes within `size`. A reason when it cannot.
    func write(_ offset: UInt64, from buffer: UnsafeRawBufferPointer) -> String?
    /// All that was written is to be kept. A reason when it cannot.
    func flush() -> String?
}
