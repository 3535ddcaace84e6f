/// Why a recording cannot be written, read or replayed. One sentence for the user that names the file and the place.
package struct LogError: Error, Sendable, Equatable, CustomStringConvertible {
    package let description: String
    package init(_ description: String) { self.description = description }
}
