#if arch(x86_64)
    /// Accesses of one block that lie side by side in memory: register saves, fields of one structure, a place that is read and
    /// written. The first one's look-up serves them all.
    struct AccessGroup {
        /// Slots in the state that keep what a look-up has found, and bytes between a group's ends at most.
        static let most = 8
        static let longest: Int64 = 512

        /// Where all addresses begin: values of base and index, and what is done with them.
        var base: UInt32
        var index: UInt32
        var attributes: UInt64
        /// The ends, counted from there.
        var low: Int64
        var high: Int64
        /// The micro-op of the first access, and how many there are.
        var leader: Int32
        var count: Int32 = 1
        var isWritten: Bool
        /// Nothing since its first access can have changed how addresses are mapped.
        var isLive = true
        var slot: Int8 = -1
    }

    /// Finds the groups of a block. A value is known as another one plus a constant.
    struct AccessGroups {
        private struct Value {
            /// 0: whatever it was when the block began, and other numbers: the micro-op that made it. `own` names the value itself.
            var root: UInt32
            var own: UInt32
            var offset: Int64 = 0
            /// The sum is truncated to 32 bits.
            var isShort = false
        }
        private static let slots = Int(Slot.zero) / 8
        private static let capacity = 64

        let groups: UnsafeMutablePointer<AccessGroup>
        /// By micro-op: its group, or -1.
        let groupOf: UnsafeMutablePointer<Int8>
        private let offsetOf: UnsafeMutablePointer<Int64>
        private let values: UnsafeMutablePointer<Value>
        private var count = 0
        /// The first micro-op of a group; `opCount` when there is none.
        private(set) var first = 0

        init() {
            groups = .allocate(capacity: Self.capacity)
            groupOf = .allocate(capacity: BlockBuilder.maxOps)
            offsetOf = .allocate(capacity: BlockBuilder.maxOps)
            values = .allocate(capacity: Self.slots)
        }

        func deallocate() {
            groups.deallocate()
            groupOf.deallocate()
            offsetOf.deallocate()
            values.deallocate()
        }

        /// Bytes from the group's low end to the access.
        func distance(_ op: Int) -> Int64 { offsetOf[op] - groups[Int(groupOf[op])].low }

        /// - Parameter vectors: by helper number, the host's instruction for it.
        mutating func find(_ block: UnsafeMutablePointer<Block>, _ vectors: UnsafePointer<HostVectorOp>) {
            let ops = block.pointee.ops
            let opCount = Int(block.pointee.opCount)
            count = 0
            first = opCount
            for slot in 0..<Self.slots { values[slot] = Value(root: UInt32(slot), own: UInt32(slot)) }
            for index in 0..<opCount {
                groupOf[index] = -1
                let op = ops[index]
                switch op.opcode {
                case .ld8 ... .ld64, .ldw8 ... .ldw64: access(op, index, bytes: 1 << op.opcode.width, isWrite: op.opcode >= .ldw8)
                case .st8 ... .st64: access(op, index, bytes: 1 << op.opcode.width, isWrite: true)
                case .ldzx8, .ldsx8x16, .ldsx8x32, .ldsx8x64: access(op, index, bytes: 1, isWrite: false)
                case .ldzx16, .ldsx16x32, .ldsx16x64: access(op, index, bytes: 2, isWrite: false)
                case .ldsx32x64: access(op, index, bytes: 4, isWrite: false)
                case .ld128, .st128: access(op, index, bytes: 16, isWrite: op.opcode == .st128)
                case .call, .callPure:
                    switch vectors[Int(op.b)].kind {
                    case .none, .flagless: forget(after: index)
                    case .x87Register ... .x87Control:
                        first = opCount
                        return
                    case .timestamp, .divide:
                        define(Slot.register(0), index)
                        define(Slot.register(2), index)
                    default: break
                    }
                default: break
                }
                note(op, index)
            }
            var used: Int8 = 0
            for number in 0..<count where groups[number].count > 1 && used < AccessGroup.most {
                groups[number].slot = used
                used += 1
                first = min(first, Int(groups[number].leader))
            }
            for index in first..<opCount where groupOf[index] >= 0 && groups[Int(groupOf[index])].slot < 0 { groupOf[index] = -1 }
        }

        /// A helper has run: it may have changed anything.
        private mutating func forget(after op: Int) {
            for slot in 0..<Self.slots { define(UInt16(slot * 8), op) }
            for number in 0..<count { groups[number].isLive = false }
        }

        private func define(_ slot: UInt16, _ op: Int) {
            guard slot < Slot.zero else {
                // A segment's base, perhaps.
                let name = Self.fixed(slot)
                for number in 0..<count where groups[number].base == name || groups[number].index == name {
                    groups[number].isLive = false
                }
                return
            }
            // Two values of one micro-op are two.
            let name = UInt32(op + 1) << 8 | UInt32(slot >> 3)
            values[Int(slot >> 3)] = Value(root: name, own: name)
        }

        /// The name of a value that is not in a register or temporary.
        private static func fixed(_ slot: UInt16) -> UInt32 { 1 << 31 | UInt32(slot & ~7) }

        /// What the micro-op writes.
        private func note(_ op: MicroOp, _ index: Int) {
            switch op.opcode {
            case .st8 ... .st64, .st128, .cmp8 ... .testI64, .brZero8 ... .brNonzero64, .guardClear8, .guardCanonical,
                .exitIf ... .stop:
                return
            case .mov64: derive(op, 0)
            case .addI64, .addFI64: derive(op, Int64(bitPattern: op.imm))
            case .subI64, .subFI64: derive(op, 0 &- Int64(bitPattern: op.imm))
            case .mov32: derive(op, 0, isShort: true)
            case .addI32, .addFI32: derive(op, Int64(Int32(truncatingIfNeeded: op.imm)), isShort: true)
            case .subI32, .subFI32: derive(op, 0 - Int64(Int32(truncatingIfNeeded: op.imm)), isShort: true)
            case .lea32, .lea64:
                let isShort = op.opcode == .lea32 || op.imm & Address.truncate32 != 0
                guard op.b == Slot.zero else { return define(op.dst, index) }
                derive(op, Int64(Int32(truncatingIfNeeded: op.imm)), isShort: isShort)
            case .mulUF8 ... .mulSF64:
                define(op.dst, index)
                define(UInt16(truncatingIfNeeded: op.imm), index)
            case .cmpxchgF8 ... .cmpxchgF64:
                define(op.a, index)
                define(op.dst, index)
            case .ld128:
                define(op.dst, index)
                define(op.dst &+ 8, index)
            default: define(op.dst, index)
            }

            func derive(_ op: MicroOp, _ offset: Int64, isShort: Bool = false) {
                guard op.dst < Slot.zero, op.a < Slot.zero, op.dst & 7 == 0, op.a & 7 == 0 else { return define(op.dst, index) }
                let name = UInt32(index + 1) << 8 | UInt32(op.dst >> 3)
                let value = values[Int(op.a >> 3)]
                let sum = value.offset &+ offset
                // A truncated value has another one's sum only as a truncated one.
                if value.isShort && !isShort && offset != 0 || abs(sum) >= 1 << 24 || abs(offset) >= 1 << 24 { return define(op.dst, index) }
                let own = offset == 0 && (value.isShort || !isShort) ? value.own : name
                values[Int(op.dst >> 3)] = Value(root: value.root, own: own, offset: sum, isShort: value.isShort || isShort)
            }
        }

        private mutating func access(_ op: MicroOp, _ index: Int, bytes: Int64, isWrite: Bool) {
            let attributes = op.imm & (Address.truncate32 | 3 << 32)
            var offset = Int64(Int32(truncatingIfNeeded: op.imm))
            guard abs(offset) < 1 << 24, op.a & 7 == 0, op.b & 7 == 0 else { return }
            func part(_ slot: UInt16) -> (name: UInt32, offset: Int64)? {
                guard slot < Slot.zero else { return (Self.fixed(slot), 0) }
                let value = values[Int(slot >> 3)]
                if value.isShort && attributes & Address.truncate32 == 0 { return (value.own | 1 << 30, 0) }
                return (value.root, value.offset)
            }
            guard let base = part(op.a), let second = part(op.b) else { return }
            offset += base.offset + second.offset << Int64(attributes >> 32 & 3)
            offsetOf[index] = offset
            var number = count - 1
            while number >= 0 {
                let group = groups[number]
                if group.isLive, group.base == base.name, group.index == second.name, group.attributes == attributes {
                    let low = min(group.low, offset)
                    let high = max(group.high, offset + bytes)
                    if high - low > AccessGroup.longest {
                        groups[number].isLive = false
                        break
                    }
                    groups[number].low = low
                    groups[number].high = high
                    groups[number].count += 1
                    groups[number].isWritten = group.isWritten || isWrite
                    groupOf[index] = Int8(number)
                    return
                }
                number -= 1
            }
            guard count < Self.capacity else { return }
            groups[count] = AccessGroup(
                base: base.name, index: second.name, attributes: attributes, low: offset, high: offset + bytes,
                leader: Int32(index), isWritten: isWrite)
            groupOf[index] = Int8(count)
            count += 1
        }
    }
#endif
