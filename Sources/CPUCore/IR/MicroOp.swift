/// One operation of the intermediate representation: 16 bytes, trivially copyable.
@frozen
package struct MicroOp {
    package var opcode: Opcode
    /// Byte offset into the state: written (for stores: read).
    package var dst: UInt16
    /// Byte offset into the state, read. Address operations: the base.
    package var a: UInt16
    /// Byte offset into the state, read; or a condition, or a helper's number. Address operations: the index.
    package var b: UInt16
    /// Immediate operand, address attributes (`Address`), or a branch's target.
    package var imm: UInt64

    @inlinable
    package init(_ opcode: Opcode, dst: UInt16 = 0, a: UInt16 = 0, b: UInt16 = 0, imm: UInt64 = 0) {
        self.opcode = opcode
        self.dst = dst
        self.a = a
        self.b = b
        self.imm = imm
    }
}

/// The attributes of an address `base + index << scale + displacement`, packed in `MicroOp.imm`.
package struct Address: Sendable {
    package var raw: UInt64

    /// - Parameters:
    ///   - displacement: sign-extended to the address's width.
    ///   - scale: logarithm of the index's factor, 0...3.
    @inlinable
    package init(displacement: Int32 = 0, scale: UInt8 = 0) {
        raw = UInt64(UInt32(bitPattern: displacement)) | UInt64(scale) << 32
    }
    /// The sum is truncated to 32 bits.
    package static let truncate32: UInt64 = 1 << 34
    /// A stack access: a non-canonical address is #SS, not #GP.
    package static let stack: UInt64 = 1 << 35
    /// A 16-byte access that must be aligned, else #GP.
    package static let aligned: UInt64 = 1 << 37

    @inlinable package func with(_ attribute: UInt64) -> Address {
        var copy = self
        copy.raw |= attribute
        return copy
    }
}
