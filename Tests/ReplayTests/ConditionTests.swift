import Testing

@testable import Boundary
@testable import Replay

/// Conditions of searches: what they mean, and what they say to bad text.
@Suite struct ConditionTests {
    private var scope: ConditionScope {
        var scope = ConditionScope(
            register: { ["rax": 0x10, "rsi": 6, "eflags": 0x246][$0] },
            memory: { address, size in address < 0x1000 ? 0x1122_3344_5566_7788 & (size == 8 ? .max : (1 << (UInt64(size) * 8)) - 1) : nil })
        scope.address = 0x3F8
        scope.value = 0x41
        return scope
    }

    @Test(arguments: [
        ("rax == 0x10 && rsi > 5", true), ("rax == 16 && rsi > 6", false), ("$rax != 16 || rsi <= 6", true),
        ("*(u32*)0x10 == 0x55667788", true), ("*(u8 *)(rsi + 2) == 0x88", true), ("*(u64*)0x2000 == 0", false),
        ("!*(u64*)0x2000", false), ("1 + 2 * 3 == 7", true), ("(1 + 2) * 3 == 9", true), ("10 - 4 - 3 == 3", true),
        ("eflags & 0x40", true), ("eflags & 1", false), ("rax & 0x10 == 0x10", false), ("(rax & 0x10) == 0x10", true),
        ("1 << 63 >> 63 == 1", true), ("1 << 64", false), ("-1 > 5", true), ("~0 == -1", true), ("5 / 0", false),
        ("0 && 5 / 0", false), ("1 || 5 / 0", true), ("value == 0x41 && address == 0x3f8", true), ("7 % 4 == 3", true),
        ("!(rsi < 6)", true), ("1 | 2 ^ 3 & 1", true),
    ])
    func meaning(text: String, holds: Bool) throws {
        #expect(try Condition(text).holds(scope) == holds, "\(text)")
    }

    @Test(arguments: [
        "", "rax ==", "== 5", "(rax", "rax)", "rax 5", "*rax", "*(u12*)5", "0xzz", "5x", "rax = 5", "a.b", "*(u8)5", "&& 1",
        String(repeating: "(", count: 10_000), String(repeating: "!", count: 10_000), "é", "$",
    ])
    func badText(text: String) {
        #expect(throws: LogError.self) { try Condition(text) }
    }

    @Test func queries() throws {
        let query = try StopQuery("exec 0x1000 if rax == 0x10, port 0x3f8 if value == 0x42, write 0x10:4")
        #expect(query.conditions.breakpoints == [0x1000])
        #expect(query.conditions.devices.count == 1)
        #expect(query.accepts(.breakpoint(0x1000), scope))
        #expect(!query.accepts(.breakpoint(0x2000), scope))
        var access = DeviceAccess(
            isPort: true, address: 0x3F8, width: 1, isWrite: true, value: 0x42, by: Place(1), pc: 0)
        #expect(query.accepts(.device(access), scope))
        access.value = 0x43
        #expect(!query.accepts(.device(access), scope))
        #expect(throws: LogError.self) { try StopQuery("exec 5 if") }
        #expect(throws: LogError.self) { try StopQuery("if rax") }
        #expect(throws: LogError.self) { try StopQuery(",") }
        #expect(throws: LogError.self) { try StopQuery("exec 1 if foo").check(scope) }
        #expect(try StopQuery("interrupt").isUnconditional)
    }
}
