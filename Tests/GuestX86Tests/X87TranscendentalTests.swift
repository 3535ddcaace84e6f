import CHostOracle
import Testing

@testable import GuestX86

// Within the differential tests, as the oracle serves one at a time.
extension DifferentialTests {
    /// The transcendental instructions, which processors do not round alike, against the host's: a unit in the last place
    /// or two apart at most. And values that mathematics knows.
    @Suite(.serialized) struct X87TranscendentalTests {
        struct Case: Sendable, CustomStringConvertible {
            let name: String
            /// Second opcode byte, after D9.
            let code: UInt8
            /// Exponents of ST(0), unbiased.
            let exponents: ClosedRange<Int>
            var description: String { name }
            let evaluate: @Sendable (Float80Bits, Float80Bits, inout X87Context) -> Float80Bits
        }

        static let cases: [Case] = [
            Case(name: "F2XM1", code: 0xF0, exponents: -40 ... -1) { x, _, c in X87Transcendental.exponential(x, &c) },
            Case(name: "FYL2X", code: 0xF1, exponents: -60...60) { x, y, c in X87Transcendental.yLog2(absolute(x), y, &c) },
            Case(name: "FYL2XP1", code: 0xF9, exponents: -40 ... -3) { x, y, c in
                X87Transcendental.yLog2Plus1(x, y, &c)
            },
            Case(name: "FPATAN", code: 0xF3, exponents: -30...30) { x, y, c in X87Transcendental.arctangent(x, y, &c) },
            // Far from 0 the host's reduction of the argument decides: not compared.
            Case(name: "FSIN", code: 0xFE, exponents: -30 ... -1) { x, _, c in
                X87Transcendental.trigonometric(x, .sine, &c).sine
            },
            Case(name: "FCOS", code: 0xFF, exponents: -30 ... -1) { x, _, c in
                X87Transcendental.trigonometric(x, .cosine, &c).cosine
            },
        ]

        private static func absolute(_ x: Float80Bits) -> Float80Bits { x.sign ? x.negated : x }

        @Test(arguments: cases) func nearHost(_ test: Case) throws {
            guard oracle_supports(64) == 1, let code = oracle_code() else {
                print("\(test.name): not compared: this host does not run such code")
                return
            }
            code.update(from: [0xD9, test.code, 0x0F, 0x0B], count: 4)
            var random = XorShift(seed: UInt64(test.code))
            var worst: UInt64 = 0
            var compared = 0
            for _ in 0..<20_000 {
                var x = random.extended(test.exponents)
                if test.code == 0xF1 { x = Self.absolute(x) }
                let y = random.extended(-20...20)
                var c = X87Context(control: 0x37F)
                let ours = test.evaluate(x, y, &c)
                guard let theirs = Self.native(x, y) else { continue }
                compared += 1
                let distance = Self.distance(ours, theirs)
                worst = max(worst, distance)
                #expect(distance <= 2, "\(test.name) of \(x), \(y): \(ours), the host has \(theirs)")
                if distance > 2 { break }
            }
            #expect(compared > 10_000)
            print("\(test.name): at most \(worst) units in the last place from the host")
        }

        /// ST(0) after the program, with `x` in ST(0) and `y` in ST(1). Nil: the host was too busy to run it in time.
        private static func native(_ x: Float80Bits, _ y: Float80Bits) -> Float80Bits? {
            var state = OracleState()
            state.rip = UInt64(ORACLE_CODE)
            state.flags = 0x202
            state.gpr.4 = UInt64(ORACLE_DATA) + 0x2000
            return withUnsafeMutablePointer(to: &state) { state in
                withUnsafeMutableBytes(of: &state.pointee.fx) { fx in
                    fx.storeBytes(of: 0x37F | 0xC0 << 32 | UInt64(6 << 11) << 16, as: UInt64.self)
                    fx.storeBytes(of: 0x1F80, toByteOffset: 24, as: UInt32.self)
                    for (index, value) in [x, y].enumerated() {
                        fx.storeBytes(of: value.significand, toByteOffset: 32 + index * 16, as: UInt64.self)
                        fx.storeBytes(of: value.signExponent, toByteOffset: 40 + index * 16, as: UInt16.self)
                    }
                }
                guard oracle_run(state, 64) == 0 else { return nil }
                return withUnsafeBytes(of: &state.pointee.fx) { fx in
                    Float80Bits(
                        significand: fx.load(fromByteOffset: 32, as: UInt64.self),
                        signExponent: fx.load(fromByteOffset: 40, as: UInt16.self))
                }
            }
        }

        /// In units in the last place; 1000 when the signs or the exponents are not even near.
        private static func distance(_ a: Float80Bits, _ b: Float80Bits) -> UInt64 {
            if a == b { return 0 }
            if a.sign != b.sign { return 1000 }
            let x = Int(a.signExponent & 0x7FFF)
            let y = Int(b.signExponent & 0x7FFF)
            if x == y { return min(1000, max(a.significand, b.significand) - min(a.significand, b.significand)) }
            if abs(x - y) > 1 { return 1000 }
            // Across a power of two.
            let (low, high) = x < y ? (a.significand, b.significand) : (b.significand, a.significand)
            return min(1000, (0 &- low) &+ 2 &* (high &- 1 << 63))
        }

        private struct XorShift {
            private var state: UInt64
            init(seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 | 1 }
            mutating func next() -> UInt64 {
                state ^= state << 13
                state ^= state >> 7
                state ^= state << 17
                return state
            }
            mutating func extended(_ exponents: ClosedRange<Int>) -> Float80Bits {
                let exponent = exponents.lowerBound + Int(next() % UInt64(exponents.count))
                let sign: UInt16 = next() & 1 != 0 ? 0x8000 : 0
                return Float80Bits(
                    significand: next() | 1 << 63, signExponent: UInt16(exponent + ExtendedFloat.bias) | sign)
            }
        }

        @Test func knownValues() {
            var c = X87Context(control: 0x37F)
            let one = Float80Bits.one
            // arctan(1) = π/4, correctly rounded: π's significand with another exponent.
            #expect(
                X87Transcendental.arctangent(one, one, &c)
                    == Float80Bits(significand: 0xC90F_DAA2_2168_C235, signExponent: 0x3FFE))
            // log2(8) = 3 exactly.
            let eight = Float80Bits(significand: 1 << 63, signExponent: 0x4002)
            var exact = X87Context(control: 0x37F)
            #expect(
                X87Transcendental.yLog2(eight, one, &exact) == Float80Bits(significand: 3 << 62, signExponent: 0x4000))
            #expect(exact.flags == 0)
            // 2^-1 - 1 = -1/2.
            #expect(
                X87Transcendental.exponential(one.negated, &c) == Float80Bits(significand: 1 << 63, signExponent: 0xBFFE))
            // cos(0) = 1, and 2^63 is out of range.
            #expect(X87Transcendental.trigonometric(.zero(false), .cosine, &c).cosine == one)
            let large = Float80Bits(significand: 1 << 63, signExponent: UInt16(ExtendedFloat.bias + 63))
            #expect(X87Transcendental.trigonometric(large, .sine, &c).isOutOfRange)
            // The double nearest to π, as C's sin() is tested: sin(3.141592653589793116) = 1.2246…e-16. What the 66 bits of π leave
            // of it is off by 2^-66 at most.
            let pi = Float80Bits(significand: 0xC90F_DAA2_2168_C000, signExponent: 0x4000)
            let sine = ExtendedFloat(X87Transcendental.trigonometric(pi, .sine, &c).sine)
            #expect(sine.exponent == -53 && !sine.sign)
        }
    }
}
