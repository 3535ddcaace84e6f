/// Where data that a device hands to the guest comes from, when it is an unchanged part of one of the machine's disk
/// images: a recording can then name the place instead of holding the bytes.
package struct ImageOrigin: Sendable, Equatable {
    /// The image's number: its place among the disk images of the recording's header.
    package var image: UInt8
    /// Offset of the first byte in the image.
    package var offset: UInt64

    package init(image: UInt8, offset: UInt64) {
        self.image = image
        self.offset = offset
    }

    /// In words, for people.
    package var text: String { "disk\(image) sector \(offset / 512)" + (offset % 512 == 0 ? "" : "+\(offset % 512)") }

    /// The place `count` bytes further on.
    package func advanced(by count: Int) -> ImageOrigin { ImageOrigin(image: image, offset: offset &+ UInt64(count)) }
}
