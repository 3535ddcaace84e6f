import CPUCore

extension SIMDFloatHelpers {
    /// Between the formats, and packed ones to and from integers.
    static func installConversions(_ table: Table) {
        func set(_ operation: SIMDOperation, _ helper: @escaping MicroHelper) {
            table[Int(operation.helper)] = helper
        }
        set(.cvtss2sd) { r, d, a, _ in
            FloatLanes.convert(r, d, a, UInt32.self) { SoftFloat.convert32to64($0, &$1) }
        }
        set(.cvtsd2ss) { r, d, a, _ in
            FloatLanes.convert(r, d, a, UInt64.self) { SoftFloat.convert64to32($0, &$1) }
        }
        set(.cvtps2pd) { r, d, a, _ in
            FloatLanes.convert(r, d, a, SIMD2<UInt32>.self) {
                let low = SoftFloat.convert32to64($0[0], &$1)
                return SIMD2(low, SoftFloat.convert32to64($0[1], &$1))
            }
        }
        set(.cvtpd2ps) { r, d, a, _ in
            FloatLanes.convert(r, d, a, SIMD2<UInt64>.self) {
                let low = SoftFloat.convert64to32($0[0], &$1)
                return SIMD4(low, SoftFloat.convert64to32($0[1], &$1), 0, 0)
            }
        }
        set(.cvtdq2ps) { r, d, a, _ in
            FloatLanes.ps(r, d, a) { SoftFloat.fromInt32to32(Int32(bitPattern: $1), &$2) }
        }
        set(.cvtps2dq) { r, d, a, _ in
            FloatLanes.ps(r, d, a) { UInt32(bitPattern: SoftFloat.toInt32from32($1, truncate: false, &$2)) }
        }
        set(.cvttps2dq) { r, d, a, _ in
            FloatLanes.ps(r, d, a) { UInt32(bitPattern: SoftFloat.toInt32from32($1, truncate: true, &$2)) }
        }
        set(.cvtdq2pd) { r, d, a, _ in
            FloatLanes.convert(r, d, a, SIMD2<Int32>.self) {
                let low = SoftFloat.fromInt32to64($0[0], &$1)
                return SIMD2(low, SoftFloat.fromInt32to64($0[1], &$1))
            }
        }
        set(.cvtpd2dq) { r, d, a, _ in
            FloatLanes.convert(r, d, a, SIMD2<UInt64>.self) {
                let low = SoftFloat.toInt32from64($0[0], truncate: false, &$1)
                return SIMD4(low, SoftFloat.toInt32from64($0[1], truncate: false, &$1), 0, 0)
            }
        }
        set(.cvttpd2dq) { r, d, a, _ in
            FloatLanes.convert(r, d, a, SIMD2<UInt64>.self) {
                let low = SoftFloat.toInt32from64($0[0], truncate: true, &$1)
                return SIMD4(low, SoftFloat.toInt32from64($0[1], truncate: true, &$1), 0, 0)
            }
        }
    }

    /// Those with MMX registers (8 bytes each) and general registers (of which 64 bits are written).
    static func installIntegerConversions(_ table: Table) {
        func set(_ operation: SIMDOperation, _ helper: @escaping MicroHelper) {
            table[Int(operation.helper)] = helper
        }
        set(.cvtpi2ps) { r, d, a, _ in
            FloatLanes.convert(r, d, a, SIMD2<Int32>.self) {
                let low = SoftFloat.fromInt32to32($0[0], &$1)
                return SIMD2(low, SoftFloat.fromInt32to32($0[1], &$1))
            }
        }
        set(.cvtpi2pd) { r, d, a, _ in
            FloatLanes.convert(r, d, a, SIMD2<Int32>.self) {
                let low = SoftFloat.fromInt32to64($0[0], &$1)
                return SIMD2(low, SoftFloat.fromInt32to64($0[1], &$1))
            }
        }
        set(.cvtps2pi) { r, d, a, _ in
            FloatLanes.convert(r, d, a, SIMD2<UInt32>.self) {
                let low = SoftFloat.toInt32from32($0[0], truncate: false, &$1)
                return SIMD2(low, SoftFloat.toInt32from32($0[1], truncate: false, &$1))
            }
        }
        set(.cvttps2pi) { r, d, a, _ in
            FloatLanes.convert(r, d, a, SIMD2<UInt32>.self) {
                let low = SoftFloat.toInt32from32($0[0], truncate: true, &$1)
                return SIMD2(low, SoftFloat.toInt32from32($0[1], truncate: true, &$1))
            }
        }
        set(.cvtpd2pi) { r, d, a, _ in
            FloatLanes.convert(r, d, a, SIMD2<UInt64>.self) {
                let low = SoftFloat.toInt32from64($0[0], truncate: false, &$1)
                return SIMD2(low, SoftFloat.toInt32from64($0[1], truncate: false, &$1))
            }
        }
        set(.cvttpd2pi) { r, d, a, _ in
            FloatLanes.convert(r, d, a, SIMD2<UInt64>.self) {
                let low = SoftFloat.toInt32from64($0[0], truncate: true, &$1)
                return SIMD2(low, SoftFloat.toInt32from64($0[1], truncate: true, &$1))
            }
        }
        set(.cvtsi2ss) { r, d, a, _ in
            FloatLanes.convert(r, d, a, Int32.self) { SoftFloat.fromInt32to32($0, &$1) }
        }
        set(.cvtsi2ssQ) { r, d, a, _ in
            FloatLanes.convert(r, d, a, Int64.self) { SoftFloat.fromInt64to32($0, &$1) }
        }
        set(.cvtsi2sd) { r, d, a, _ in
            FloatLanes.convert(r, d, a, Int32.self) { SoftFloat.fromInt32to64($0, &$1) }
        }
        set(.cvtsi2sdQ) { r, d, a, _ in
            FloatLanes.convert(r, d, a, Int64.self) { SoftFloat.fromInt64to64($0, &$1) }
        }
        set(.cvtss2si) { r, d, a, _ in toRegister32(r, d, a, truncate: false) }
        set(.cvttss2si) { r, d, a, _ in toRegister32(r, d, a, truncate: true) }
        set(.cvtss2siQ) { r, d, a, _ in
            FloatLanes.convert(r, d, a, UInt32.self) { SoftFloat.toInt64from32($0, truncate: false, &$1) }
        }
        set(.cvttss2siQ) { r, d, a, _ in
            FloatLanes.convert(r, d, a, UInt32.self) { SoftFloat.toInt64from32($0, truncate: true, &$1) }
        }
        set(.cvtsd2si) { r, d, a, _ in toRegister64(r, d, a, truncate: false) }
        set(.cvttsd2si) { r, d, a, _ in toRegister64(r, d, a, truncate: true) }
        set(.cvtsd2siQ) { r, d, a, _ in
            FloatLanes.convert(r, d, a, UInt64.self) { SoftFloat.toInt64from64($0, truncate: false, &$1) }
        }
        set(.cvttsd2siQ) { r, d, a, _ in
            FloatLanes.convert(r, d, a, UInt64.self) { SoftFloat.toInt64from64($0, truncate: true, &$1) }
        }
    }
}

/// CVTSS2SI to 32 bits; the register's upper half becomes zero.
@inline(__always)
private func toRegister32(_ raw: UnsafeMutableRawPointer, _ d: UInt, _ a: UInt, truncate: Bool) -> UInt64 {
    FloatLanes.convert(raw, d, a, UInt32.self) {
        UInt64(UInt32(bitPattern: SoftFloat.toInt32from32($0, truncate: truncate, &$1)))
    }
}

/// CVTSD2SI to 32 bits; the register's upper half becomes zero.
@inline(__always)
private func toRegister64(_ raw: UnsafeMutableRawPointer, _ d: UInt, _ a: UInt, truncate: Bool) -> UInt64 {
    FloatLanes.convert(raw, d, a, UInt64.self) {
        UInt64(UInt32(bitPattern: SoftFloat.toInt32from64($0, truncate: truncate, &$1)))
    }
}
