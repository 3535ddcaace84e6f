import CPUCore
import MachineState

extension X86State {
    /// All guest-visible state. Temporaries, TLB pointers and the like are not.
    package mutating func visit(_ visitor: inout StateVisitor) {
        let names = [
            "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
            "r15",
        ]
        for index in 0..<16 { visitor.field(names[index], &core.registers[index]) }
        visitor.field("rip", &core.pc)
        visitor.field("position", &core.position)
        var flags = eflags
        visitor.field("eflags", &flags)
        if visitor.mode == .load { eflags = flags }
        visitor.group("fpu") { fpu.visit(&$0) }
        let segmentNames = ["es", "cs", "ss", "ds", "fs", "gs"]
        for index in 0..<6 { visitor.group(segmentNames[index]) { segments[index].visit(&$0) } }
        visitor.group("ldtr") { ldtr.visit(&$0) }
        visitor.group("tr") { tr.visit(&$0) }
        visitor.field("gdtBase", &gdtBase)
        visitor.field("idtBase", &idtBase)
        visitor.field("gdtLimit", &gdtLimit)
        visitor.field("idtLimit", &idtLimit)
        visitor.field("cpl", &cpl)
        visitor.field("isHalted", &isHalted)
        visitor.field("isShutdown", &isShutdown)
        visitor.field("shadowPosition", &shadowPosition)
        visitor.field("cr0", &cr0)
        visitor.field("cr2", &cr2)
        visitor.field("cr3", &cr3)
        visitor.field("cr4", &cr4)
        visitor.field("cr8", &cr8)
        for index in 0..<8 { visitor.field("dr\(index)", &debug[index]) }
        visitor.field("efer", &efer)
        visitor.field("star", &star)
        visitor.field("lstar", &lstar)
        visitor.field("cstar", &cstar)
        visitor.field("sfmask", &sfmask)
        visitor.field("kernelGSBase", &kernelGSBase)
        visitor.field("sysenterCS", &sysenterCS)
        visitor.field("sysenterESP", &sysenterESP)
        visitor.field("sysenterEIP", &sysenterEIP)
        visitor.field("apicBase", &apicBase)
        visitor.field("pat", &pat)
        visitor.field("tscOffset", &tscOffset)
        visitor.field("tscAux", &tscAux)
        visitor.field("miscEnable", &miscEnable)
        visitor.field("mtrrDefault", &mtrrDefault)
        for index in 0..<11 { visitor.field("mtrrFixed\(index)", &mtrrFixed[index]) }
        for index in 0..<16 { visitor.field("mtrrVariable\(index)", &mtrrVariable[index]) }
        visitor.field("interruptLine", &interruptLine)
        visitor.field("nmiPending", &nmiPending)
        visitor.field("nmiBlocked", &nmiBlocked)
        visitor.field("a20Mask", &a20Mask)
        visitor.field("shadowControl", &shadowControl)
        visitor.field("videoBase", &videoBase)
        visitor.field("pendingDebug", &pendingDebug)
    }
}
