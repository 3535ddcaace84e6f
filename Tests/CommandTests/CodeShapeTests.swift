import Foundation
import Testing

/// What the compiler has made of the hot paths, in the program as it is built for users: no reference counting, no exclusivity
/// checks, no allocation. One of them in a run loop costs more than what the loop does.
@Suite struct CodeShapeTests {
    /// Calls that must not be there.
    private static let forbidden = [
        "swift_retain", "swift_release", "swift_beginAccess", "swift_allocObject", "swift_slowAlloc", "swift_bridgeObject",
        "swift_isUniquelyReferenced", "swift_unownedRetain", "malloc",
    ]

    /// Parts of mangled names, and what they are of. Every one must be found.
    private static let hot: [(name: String, what: String)] = [
        ("7CPUCore9X64EngineC3run_", "X64Engine.run"),
        ("7CPUCore9X64EngineC5runOp", "X64Engine.runOp"),
        ("7CPUCore11InterpreterV3run_", "Interpreter.run"),
        ("7CPUCore11InterpreterV7execute", "Interpreter.execute"),
        ("7CPUCore11InterpreterV13executeSingle", "Interpreter.executeSingle"),
        ("7CPUCore11InterpreterV17finishInstruction", "Interpreter.finishInstruction"),
        ("7CPUCore10BlockCacheC4find", "BlockCache.find"),
        ("7CPUCore10BlockCacheC13forgetMapping", "BlockCache.forgetMapping"),
        ("7CPUCore3TLBV", "TLB"),
        ("8GuestX860B3CPUC3run5until", "X86CPU.run"),
        ("8GuestX860B3CPUC9translatey", "X86CPU.translate"),
        ("8GuestX860B3CPUC11translate32", "X86CPU.translate32"),
        ("8GuestX860B3CPUC8slowLoad", "X86CPU.slowLoad"),
        ("8GuestX860B3CPUC9slowStore", "X86CPU.slowStore"),
        ("6MemoryO4load", "GuestMemory.load"),
        ("6MemoryO5store", "GuestMemory.store"),
        ("8GuestX8613StringHelpersO7execute", "StringHelpers.execute"),
        ("8GuestX8613StringHelpersO7element", "StringHelpers.element"),
        ("8GuestX8613StringHelpersO5block", "StringHelpers.block"),
        ("8GuestX8610X87HelpersO17installArithmetic", "the x87 helpers for arithmetic"),
        ("8GuestX8610X87HelpersO12installLoads", "the x87 helpers that load"),
        ("8GuestX8611HelperTableO17installArithmetic", "the helpers for division and the like"),
    ]

    @Test func hotPathsAreBare() throws {
        guard let path = Program.path else {
            print("not looked at: there is no emu beside the tests; set EMU_TEST_BINARY")
            return
        }
        #if !arch(x86_64) || DEBUG
            print("not looked at: only optimised code for x86-64 is known")
        #else
            guard FileManager.default.isExecutableFile(atPath: "/usr/bin/objdump") else {
                print("not looked at: objdump is missing (Debian package binutils)")
                return
            }
            let listing = try disassemble(path)
            var found: Set<String> = []
            var function = ""
            var name: String?
            for line in listing.split(separator: "\n") {
                if line.hasSuffix(">:"), let start = line.firstIndex(of: "<") {
                    function = String(line[line.index(after: start)...].dropLast(2))
                    // Initialisers and the closures that fill tables are run once; what they make is not.
                    name = Self.hot.first { function.contains($0.name) && !function.contains("cfC") }?.what
                    if let name { found.insert(name) }
                } else if let name, let call = Self.forbidden.first(where: { line.contains("<\($0)") }) {
                    Issue.record("\(name) calls \(call): \(function)")
                }
            }
            for (_, what) in Self.hot { #expect(found.contains(what), "\(what) is not in the program") }
        #endif
    }

    private func disassemble(_ path: String) throws -> String {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/objdump")
        process.arguments = ["-d", "--no-show-raw-insn", path]
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let data = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return String(decoding: data, as: UTF8.self)
    }
}
