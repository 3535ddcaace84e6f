/// One register as a debugger knows it.
package struct DebugRegister: Sendable, Equatable {
    /// gdb's name.
    package var name: String
    package var bits: Int
    /// gdb's type: "int64", "data_ptr", "i387_ext", …
    package var type: String
    /// gdb's feature that it belongs to.
    package var feature: String
    package init(_ name: String, _ bits: Int, _ type: String, _ feature: String) {
        self.name = name
        self.bits = bits
        self.type = type
        self.feature = feature
    }
}

/// What of a machine a debugger looks at. Looking changes nothing.
package protocol DebugTarget: AnyObject {
    /// gdb's name of the architecture the processor is in now, such as "i386:x86-64".
    var architectureNow: String { get }
    /// The architectures this processor can be described as.
    var architectures: [String] { get }
    /// The registers of an architecture, in gdb's order of numbers.
    func registers(of architecture: String) -> [DebugRegister]
    /// The values of all registers, each in its width, little endian, one after the other.
    func registerValues(of architecture: String) -> [UInt8]
    /// RAM at a virtual or physical address; nil when any of it is not there.
    func readMemory(_ address: UInt64, count: Int, isPhysical: Bool) -> [UInt8]?
    /// What changes a register to a value, little endian; nil when it cannot be changed.
    func registerEdit(_ register: DebugRegister, _ bytes: [UInt8]) -> Edit?
    /// The physical address of a virtual one, or nil when it is not mapped.
    func physicalAddress(of address: UInt64) -> UInt64?
    /// Every field of the parts of the machine whose name begins so, as text.
    func describeState(_ prefix: String) -> [(name: String, value: String)]
    /// The names of the parts.
    var partNames: [String] { get }
}
