#if arch(x86_64)
    /// Look-ups in the TLB.
    extension X64Compiler {
        /// Makes `hostAddress` the place of the access, in which RCX and perhaps RAX take part. The jump is taken when the TLB
        /// does not know; there is none when an earlier access of the group has found out. Flags must be saved; uses RDX.
        mutating func lookUp(_ op: MicroOp, bytes: Int32, isWrite: Bool) -> UnsafeMutablePointer<UInt8>? {
            if version == .separate {
                lookUps[current] = asm.cursor
                forgetRAX()
            }
            hostAddress = .mem(.rax, 0, index: .rcx)
            lastLookUp = nil
            let number = Int(groups.groupOf[current])
            if version != .shared || number < 0 {
                addressIntoRAX(op)
                return lookUp(bytes: bytes, isWrite: isWrite)
            }
            let group = groups.groups[number]
            let found = HostOperand.mem(.rbp, layout.accessBases + Int32(group.slot) * 8)
            let distance = Int32(truncatingIfNeeded: groups.distance(current))
            if Int(group.leader) != current {
                if op.imm & (Address.aligned | Address.truncate32) == 0, op.b == Slot.zero, !place(op.a).isMemory {
                    hostAddress = .mem(place(op.a).register, Int32(truncatingIfNeeded: op.imm), index: .rcx)
                } else {
                    addressIntoRAX(op)
                }
                asm.mov(3, .rcx, found)
                return nil
            }
            var lowest = op
            lowest.imm = op.imm & ~0xFFFF_FFFF | UInt64(UInt32(bitPattern: Int32(truncatingIfNeeded: op.imm) &- distance))
            addressIntoRAX(lowest)
            let miss = lookUp(bytes: Int32(group.high - group.low), isWrite: group.isWritten, isGroup: true)
            asm.store(3, found, .rcx)
            if op.imm & Address.aligned != 0, distance != 0 {
                asm.lea(3, .rax, .mem(.rax, distance))
            } else {
                hostAddress = .mem(.rax, distance, index: .rcx)
            }
            return miss
        }

        /// RCX = what is to be added to the address in RAX for the host's address.
        private mutating func lookUp(bytes: Int32, isWrite: Bool, isGroup: Bool = false) -> UnsafeMutablePointer<UInt8> {
            let isUser = block.pointee.mode & BlockCache.userBit != 0
            let tlb = isUser ? layout.userTLB : layout.supervisorTLB
            let site = layout.sites + Int32(siteCount) * 4
            let tags = tlb + (isWrite ? 8 : 0)
            let guess = isUser ? asm.cursor : nil
            if isUser {
                // Programs' accesses mostly find their page where they found one the last time: then the host's address does
                // not have to wait for the guest's. A system's functions are called with ever other objects.
                siteCount += 1
                asm.guess(.mem(.rbp, site))
                asm.mov(3, .rdx, .rax)
                // What is not aligned does not match: it might cross the page.
                let low: UInt64 = isGroup ? 0 : bytes > 8 ? 15 : UInt64(bytes) - 1
                asm.arithmetic(.and, 3, .reg(.rdx), immediate: UInt64(bitPattern: -4096) | low)
            } else {
                entryIntoRCX(bytes: bytes)
            }
            asm.arithmetic(.cmp, 3, .rdx, .mem(.rbp, tags, index: .rcx))
            let miss = asm.jump(if: .nz)
            let hit = asm.cursor
            if isUser, isGroup {
                // All of it must be in the page.
                asm.arithmetic(.sub, 3, .rdx, .reg(.rax))
                asm.arithmetic(.cmp, 3, .reg(.rdx), immediate: UInt64(bitPattern: Int64(bytes) - 4096))
                noteSwitch(asm.jump(if: .l), nil)
            }
            asm.mov(3, .rcx, .mem(.rbp, tlb + 24, index: .rcx))
            lastLookUp = LookUp(miss: miss, hit: hit, site: site, tags: tags, bytes: bytes, guess: guess, isGroup: isGroup)
            return miss
        }

        /// RCX = place of the TLB's entry for the address in RAX, from the TLB's beginning; RDX = the tag that it must have.
        private mutating func entryIntoRCX(bytes: Int32) {
            asm.entryIntoRCX()
            if bytes == 1 {
                asm.mov(3, .rdx, .rax)
            } else {
                // An access that crosses the page does not match.
                asm.lea(3, .rdx, .mem(.rax, bytes - 1))
            }
            asm.arithmetic(.and, 3, .reg(.rdx), immediate: UInt64(bitPattern: -4096))
        }

        /// Out of line: the entry that the address in RAX belongs to. Falls through when it is another page's.
        mutating func emitLookUp(_ lookUp: LookUp) {
            entryIntoRCX(bytes: lookUp.bytes)
            asm.arithmetic(.cmp, 3, .rdx, .mem(.rbp, lookUp.tags, index: .rcx))
            let unknown = asm.jump(if: .nz)
            asm.store(2, .mem(.rbp, lookUp.site), .rcx)
            if let guess = lookUp.guess { countMiss(lookUp.site, guess) }
            if lookUp.isGroup {
                asm.mov(3, .rdx, .rax)
                asm.arithmetic(.and, 3, .reg(.rdx), immediate: UInt64(bitPattern: -4096))
            }
            asm.jump(to: lookUp.hit)
            asm.bind(unknown)
        }

        /// A site that guesses wrong again and again within a few instructions does not guess any more. Uses RDX.
        private mutating func countMiss(_ site: Int32, _ guess: UnsafeMutablePointer<UInt8>) {
            let last = layout.siteMisses + (site - layout.sites) * 2
            asm.mov(2, .rdx, .mem(.rbp, layout.limit))
            asm.arithmetic(.sub, 2, .rdx, .reg(X64Layout.budget))
            asm.arithmetic(.sub, 2, .rdx, .mem(.rbp, last))
            asm.arithmetic(.add, 2, .mem(.rbp, last), .rdx)
            asm.arithmetic(.cmp, 2, .reg(.rdx), immediate: Self.soon)
            let isLate = asm.jump(if: .nbe)
            asm.increment(0, 2, .mem(.rbp, last + 4))
            asm.arithmetic(.cmp, 2, .mem(.rbp, last + 4), immediate: Self.mostMisses)
            let isFine = asm.jump(if: .nz)
            asm.movImmediate(.rdx, UInt64(UInt(bitPattern: guess)))
            asm.call(stubs.stopGuessing)
            asm.bind(isLate)
            asm.bind(isFine)
        }
        /// Guest instructions between two wrong guesses that are few, and how many of such guesses are enough.
        private static let soon: UInt64 = 512
        private static let mostMisses: UInt64 = 64

        /// The jump at `place` leads to the present micro-op's look-up in the second version.
        mutating func noteSwitch(_ place: UnsafeMutablePointer<UInt8>, _ lookUp: LookUp?) {
            switches[switchCount] = Switch(place: place, op: Int32(current), lookUp: lookUp)
            switchCount += 1
        }

        mutating func emitSwitches() {
            for index in 0..<switchCount {
                let point = switches[index]
                asm.bind(point.place)
                if let lookUp = point.lookUp, lookUp.guess != nil { emitLookUp(lookUp) }
                asm.jump(to: lookUps[Int(point.op)])
            }
        }
    }

    extension X64Assembler {
        /// RCX = place of the TLB's entry for the address in RAX, from the TLB's beginning. `guessBytes` long.
        mutating func entryIntoRCX() {
            mov(2, .rcx, .rax)
            shift(.shr, 2, .reg(.rcx), by: 7)
            arithmetic(.and, 2, .reg(.rcx), immediate: UInt64(TLB.count - 1) << 5)
        }
        /// RCX = a word of the state, by one instruction as long as `entryIntoRCX`, which may come into its place: with prefixes
        /// that say nothing (DS, REX), and an index that is none.
        mutating func guess(_ word: HostOperand) {
            byte(0x3E)
            byte(0x3E)
            byte(0x3E)
            byte(0x40)
            byte(0x8B)
            byte(0x8C)
            byte(0x25)
            word32(word.displacement)
        }
        static let guessBytes = 11
    }
#endif
