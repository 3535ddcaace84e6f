import Glibc

/// Why a disk's file cannot be used.
package struct DiskError: Error, Sendable, Equatable, CustomStringConvertible {
    /// One sentence for the user, without a full stop.
    package let description: String
    package init(_ description: String) { self.description = description }

    /// The host's words for an error number.
    static func reason(_ number: Int32 = errno) -> String { String(cString: strerror(number)) }
}
