import CPUCore

/// A small deterministic generator of random numbers (SplitMix64).
struct RandomSource {
    private var state: UInt64
    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
    /// 0..<bound.
    mutating func below(_ bound: Int) -> Int { Int(next() >> 33) % bound }
    /// True `percent` times in a hundred.
    mutating func chance(_ percent: Int) -> Bool { below(100) < percent }
    mutating func pick<T>(_ items: [T]) -> T { items[below(items.count)] }
}

/// What an instruction does with the six arithmetic flags, as far as the manual defines it.
struct FlagEffect {
    var reads: UInt32 = 0
    /// Flags with a defined value afterwards, whatever they were.
    var writes: UInt32 = 0
    /// Flags that the manual leaves undefined.
    var undefined: UInt32 = 0
}

/// One instruction of a random program.
struct Piece {
    var bytes: [UInt8]
    /// For the statistics.
    var name: String
    var effect = FlagEffect()
    /// A place in `bytes` that is filled in when the program is put together.
    enum Patch {
        /// `width` bytes: distance from the instruction's end to the piece.
        case relative(piece: Int, at: Int, width: Int)
        /// `width` bytes: offset of the piece in the code segment.
        case absolute(piece: Int, at: Int, width: Int)
        /// 4 bytes: distance from the instruction's end to an address.
        case address(UInt64, at: Int)
    }
    var patch: Patch?
}

/// A program: pieces, and once linked its bytes. It ends with UD2.
struct DifferentialProgram {
    var bits: Int
    /// Nil: removed while looking for the smallest program that shows a difference.
    var pieces: [Piece?]

    struct Linked {
        var bytes: [UInt8]
        /// Offset of each piece, and of the end.
        var offsets: [Int]
        /// Flags that are undefined before each piece, and at the end.
        var undefined: [UInt32]
        /// Some instruction reads an undefined flag: results may differ for good reason.
        var isTainted: Bool
        /// Where an instruction begins.
        var boundaries: Set<Int> = []
    }

    func link(base: UInt64) -> Linked {
        var linked = Linked(bytes: [], offsets: [], undefined: [], isTainted: false)
        var offset = 0
        for piece in pieces {
            linked.offsets.append(offset)
            offset += piece?.bytes.count ?? 0
        }
        linked.offsets.append(offset)
        var pending = [UInt32](repeating: 0, count: pieces.count + 1)
        var undefined: UInt32 = 0
        for (index, piece) in pieces.enumerated() {
            undefined |= pending[index]
            linked.undefined.append(undefined)
            guard let piece else { continue }
            var bytes = piece.bytes
            let end = UInt64(linked.offsets[index] + bytes.count)
            func put(_ value: UInt64, _ at: Int, _ width: Int) {
                for byte in 0..<width { bytes[at + byte] = UInt8(truncatingIfNeeded: value >> UInt64(byte * 8)) }
            }
            if piece.effect.reads & undefined != 0 { linked.isTainted = true }
            switch piece.patch {
            case .relative(let target, let at, let width):
                put(UInt64(linked.offsets[target]) &- end, at, width)
                pending[target] |= undefined
            case .absolute(let target, let at, let width):
                put(base &+ UInt64(linked.offsets[target]), at, width)
                // Where it is used is not known: no more than this can be.
                for later in target..<pending.count { pending[later] |= undefined }
            case .address(let address, let at): put(address &- (base &+ end), at, 4)
            case nil: break
            }
            undefined = undefined & ~piece.effect.writes | piece.effect.undefined
            linked.bytes += bytes
        }
        linked.undefined.append(undefined | pending[pieces.count])
        // Pieces of two instructions begin with MOV CL, imm8.
        linked.boundaries = Set(linked.offsets)
        for (index, piece) in pieces.enumerated() where piece?.bytes.first == 0xB1 {
            linked.boundaries.insert(linked.offsets[index] + 2)
        }
        linked.bytes += [0x0F, 0x0B]
        return linked
    }
}
