import CPUCore
extension Translator {
  func translateX87(_ i: Instruction) {
     // enough for fninit etc
     if i.isMemory {
       let ea = effectiveAddress(i, size: 10, write: true)
       switch (i.opcode, i.reg & 7) {
       case (0xD9, 7): ir.emit(.movI64, dst: Slot.temp(0), imm: 0x37F); store(1, Slot.temp(0), ea)
       case (0xDD, 7): ir.emit(.movI64, dst: Slot.temp(0), imm: 0); store(1, Slot.temp(0), ea)
       default: break
       }
     }
  }
}
enum X87Helpers { static func install(into t: UnsafeMutablePointer<MicroHelper>) {
  t[Int(HelperID.fxsave.rawValue)] = { raw, _, a, _ in
    let st = raw.assumingMemoryBound(to: X86State.self); let ad = (raw + Int(a)).load(as: UInt64.self)
    guard GuestMemory.checkWritable(st, ad, length: 512) else { return 1 }
    _ = GuestMemory.store(st, ad, size: 8, 0x37F); _ = GuestMemory.store(st, ad &+ 24, size: 4, UInt64(st.pointee.fpu.mxcsr)); _ = GuestMemory.store(st, ad &+ 28, size: 4, 0xFFFF)
    for k in 0..<16 { _ = GuestMemory.store(st, ad &+ UInt64(160 + k * 16), size: 8, st.pointee.fpu.xmm[k].x); _ = GuestMemory.store(st, ad &+ UInt64(168 + k * 16), size: 8, st.pointee.fpu.xmm[k].y) }
    return 0 }
  t[Int(HelperID.fxrstor.rawValue)] = { raw, _, a, _ in
    let st = raw.assumingMemoryBound(to: X86State.self); let ad = (raw + Int(a)).load(as: UInt64.self)
    for k in 0..<16 { guard let x = GuestMemory.load(st, ad &+ UInt64(160 + k * 16), size: 8), let y = GuestMemory.load(st, ad &+ UInt64(168 + k * 16), size: 8) else { return 1 }; st.pointee.fpu.xmm[k] = SIMD2(x, y) }
    return 0 }
} }
