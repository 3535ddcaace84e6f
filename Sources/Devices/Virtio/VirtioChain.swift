import DeviceBus
import MachineState

/// A buffer that the driver has made available: pieces of RAM the device reads, and pieces it writes. Less than 2^32
/// bytes in all.
package struct VirtioChain {
    /// The number of its first descriptor, for the used ring.
    package var head: UInt16 = 0
    package var readable = ScatterList()
    package var writable = ScatterList()

    package init() {}

    package mutating func visit(_ visitor: inout StateVisitor) {
        visitor.field("head", &head)
        visitor.group("readable") { readable.visit(&$0) }
        visitor.group("writable") { writable.visit(&$0) }
    }
}
