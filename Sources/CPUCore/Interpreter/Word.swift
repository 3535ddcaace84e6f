/// An operand width: 8, 16, 32 or 64 bits, with x86-64's rule for partial writes.
protocol Word: FixedWidthInteger, UnsignedInteger {
    associatedtype SignedWord: FixedWidthInteger, SignedInteger
    /// Writes to a register: 32 bits clear the upper half, 8 and 16 leave the rest.
    static func put(_ value: Self, _ target: UnsafeMutableRawPointer)
    var signed: SignedWord { get }
}

extension UInt8: Word {
    @inline(__always) static func put(_ value: UInt8, _ target: UnsafeMutableRawPointer) {
        target.storeBytes(of: value, as: UInt8.self)
    }
    @inline(__always) var signed: Int8 { Int8(bitPattern: self) }
}
extension UInt16: Word {
    @inline(__always) static func put(_ value: UInt16, _ target: UnsafeMutableRawPointer) {
        target.storeBytes(of: value, as: UInt16.self)
    }
    @inline(__always) var signed: Int16 { Int16(bitPattern: self) }
}
extension UInt32: Word {
    @inline(__always) static func put(_ value: UInt32, _ target: UnsafeMutableRawPointer) {
        target.storeBytes(of: UInt64(value), as: UInt64.self)
    }
    @inline(__always) var signed: Int32 { Int32(bitPattern: self) }
}
extension UInt64: Word {
    @inline(__always) static func put(_ value: UInt64, _ target: UnsafeMutableRawPointer) {
        target.storeBytes(of: value, as: UInt64.self)
    }
    @inline(__always) var signed: Int64 { Int64(bitPattern: self) }
}

extension Word {
    /// Sign-extended to 64 bits.
    @inline(__always) var extended: UInt64 { UInt64(bitPattern: Int64(signed)) }
    @inline(__always) static var width: UInt64 { UInt64(bitWidth) }

    /// `Flags.carry` for a carry-out vector: bit i of `carries` is the carry out of bit i.
    @inline(__always) static func carryWord(_ carries: Self) -> UInt64 {
        let wide = UInt64(truncatingIfNeeded: carries)
        return ((wide << (64 - width)) & 0xC000_0000_0000_0000) | (wide & 8)
    }
}
